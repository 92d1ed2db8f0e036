// Package udp reads and builds UDP datagrams (RFC 768) for both IP versions.
// Which socket a datagram belongs to is the stack's business.
package udp

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/internal/csum"
)

// HeaderLen is the length of the header in bytes.
const HeaderLen = 8

// ChecksumOffset is where the checksum is in it.
const ChecksumOffset = 6

// MaxPayload is the most data a length field can describe, in bytes; over IPv4
// the total length leaves 20 fewer.
const MaxPayload = 65535 - HeaderLen

const protocol = 17

// Drop says why a datagram was refused.
type Drop uint8

// The reasons. DropChecksum is for the caller of ChecksumOK, who alone knows
// the addresses and whether the device has verified already.
const (
	DropNone     Drop = iota
	DropShort         // fewer bytes than a header
	DropLength        // length field below the header or beyond the datagram
	DropPort          // destination port zero
	DropChecksum      // checksum wrong, or absent over IPv6
	NumDrops          // how many reasons there are
)

var dropNames = [NumDrops]string{"none", "short", "bad-length", "bad-port", "bad-checksum"}

// String returns the name under which the reason is counted, as "bad-checksum".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

func (d Drop) Error() string { return "udp: " + d.String() }

// Header is a view of a datagram, header first.
type Header []byte

// Parse checks the datagram in b, the whole payload of an IP packet. Bytes
// behind the length that UDP states are ignored, as Linux does: h ends where
// the payload ends. The checksum is not verified; see ChecksumOK.
func Parse(b []byte) (h Header, payload []byte, d Drop) {
	if len(b) < HeaderLen {
		return nil, nil, DropShort
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	// Zero would mean a jumbogram (RFC 2675 §4), which needs a payload that
	// no frame here can hold.
	if n < HeaderLen || n > len(b) {
		return nil, nil, DropLength
	}
	h = Header(b[:n:n])
	// RFC 768: the source port is optional, zero means none. A destination
	// of zero reaches nobody.
	if h.DstPort() == 0 {
		return nil, nil, DropPort
	}
	return h, h[HeaderLen:], DropNone
}

// SrcPort returns the source port; 0 means that no answer is wanted.
func (h Header) SrcPort() uint16 { return binary.BigEndian.Uint16(h[0:]) }

// DstPort returns the destination port.
func (h Header) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// Len returns the length field: header and payload in bytes.
func (h Header) Len() int { return int(binary.BigEndian.Uint16(h[4:])) }

// Checksum returns the checksum; 0 means that the sender computed none.
func (h Header) Checksum() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// Put writes a header without checksum into b, which has at least HeaderLen
// bytes, for a payload of payloadLen bytes (at most MaxPayload).
func Put(b []byte, src, dst uint16, payloadLen int) {
	binary.BigEndian.PutUint16(b[0:], src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(HeaderLen+payloadLen))
	binary.BigEndian.PutUint16(b[6:], 0)
}

// SetChecksum computes the checksum of the datagram b, header and payload and
// nothing else.
func SetChecksum(b []byte, src, dst netip.Addr) {
	b[6], b[7] = 0, 0
	sum := csum.Checksum(b, csum.Pseudo(src, dst, protocol, len(b)))
	// RFC 768: a checksum that comes out zero is sent as all ones, for zero
	// means none.
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
}

// SetPartial writes the sum of the pseudo-header where the checksum belongs,
// for a device that completes it.
func SetPartial(b []byte, pseudo uint16) { binary.BigEndian.PutUint16(b[ChecksumOffset:], pseudo) }

// ChecksumOK verifies the checksum of the datagram at the front of b. No
// checksum at all is right over IPv4 (RFC 768) and wrong over IPv6 (RFC 8200
// §8.1), whose header has none of its own.
func ChecksumOK(b []byte, src, dst netip.Addr) bool {
	if len(b) < HeaderLen {
		return false
	}
	h := Header(b)
	n := h.Len()
	if n < HeaderLen || n > len(b) {
		return false
	}
	if h.Checksum() == 0 {
		return src.Is4()
	}
	return csum.Sum(b[:n], csum.Pseudo(src, dst, protocol, n)) == 0xffff
}
