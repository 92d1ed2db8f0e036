// Package ipv4 reads, builds and fragments IPv4 packets (RFC 791). It looks at
// one packet at a time: reassembly, routes and addresses belong to the caller.
package ipv4

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/internal/csum"
)

// Lengths in bytes.
const (
	HeaderLen    = 20    // the header without options
	MaxHeaderLen = 60    // IHL counts at most 15 words
	MaxLen       = 65535 // what the total length field can say
	// MinMTU is what every link must carry whole (RFC 791 §3.2): the longest
	// header and eight bytes of data.
	MinMTU = 68
)

// Protocol numbers of the IANA registry.
const (
	ProtoICMP = 1
	ProtoIGMP = 2
	ProtoTCP  = 6
	ProtoUDP  = 17
)

// The flags share 16 bits with the fragment offset (RFC 791 §3.1). The highest
// bit is reserved: ignored on input as Linux does, zero on output.
const (
	flagDF     = 0x4000
	flagMF     = 0x2000
	maskOffset = 0x1fff // in units of 8 bytes
)

// Header is a view of the header including its options. One returned by Parse
// never panics.
type Header []byte

// Parse checks the packet at the front of b and returns a view of its header.
// b may be longer than the packet (an Ethernet frame is padded to 60 bytes):
// the caller trims it to TotalLen.
//
// Whether the addresses make sense on the interface is the caller's question,
// a source of 0.0.0.0 included: it is right in a DHCP client's packets only.
// The header is nil when the packet is refused, except with DropOptions, where
// the caller may want to answer Parameter Problem (see BadOption).
func Parse(b []byte) (Header, Drop) {
	h, _, d := parse(b, false)
	return h, d
}

// ParseSuper is Parse for a TCP super-frame, which the sender's kernel hands
// over before it is cut into packets. One that is longer than the total length
// can say has zero there, as Linux writes it ("BIG TCP"), and is as long as b.
// It returns the packet's length beside the header.
func ParseSuper(b []byte) (h Header, length int, d Drop) { return parse(b, true) }

func parse(b []byte, super bool) (Header, int, Drop) {
	if len(b) < HeaderLen {
		return nil, 0, DropShort
	}
	// RFC 1122 §3.2.1.1: another version is discarded silently.
	if b[0]>>4 != 4 {
		return nil, 0, DropVersion
	}
	n := int(b[0]&0x0f) * 4
	if n < HeaderLen || n > len(b) {
		return nil, 0, DropHeaderLen
	}
	h := Header(b[:n:n])
	total := h.TotalLen()
	if super && total == 0 && h.Protocol() == ProtoTCP {
		total = len(b)
	}
	switch {
	case total < n:
		return nil, 0, DropTotalLen
	case total > len(b):
		return nil, 0, DropTruncated
	}
	// RFC 1122 §3.2.1.2: verified on every packet. A good header sums to
	// minus zero, its checksum field included.
	if csum.Sum(h, 0) != 0xffff {
		return nil, 0, DropChecksum
	}
	// RFC 1122 §3.2.1.3: a source must not be a broadcast or multicast
	// address. Class E (240.0.0.0/4, the limited broadcast among it) is
	// reserved there; Linux has taken it for unicast since 2.6.25, but nobody
	// hands such addresses out, so here it stays refused.
	if h[12] >= 224 {
		return nil, 0, DropSource
	}
	if n > HeaderLen && BadOption(h.Options()) >= 0 {
		return h, total, DropOptions
	}
	return h, total, DropNone
}

// Len returns the length of the header in bytes, options included: 20 to 60.
func (h Header) Len() int { return len(h) }

// TotalLen returns the length of the packet in bytes, header included.
func (h Header) TotalLen() int { return int(binary.BigEndian.Uint16(h[2:])) }

// TOS returns the type of service: the DSCP (RFC 2474) above the two ECN bits
// (RFC 3168).
func (h Header) TOS() uint8 { return h[1] }

// ID returns the identification shared by the fragments of a datagram.
func (h Header) ID() uint16 { return binary.BigEndian.Uint16(h[4:]) }

func (h Header) frag() uint16 { return binary.BigEndian.Uint16(h[6:]) }

// DF reports the don't-fragment flag. Parse lets it stand beside MF or an
// offset, as Linux does: such packets exist, and harm nothing.
func (h Header) DF() bool { return h.frag()&flagDF != 0 }

// MF reports the more-fragments flag.
func (h Header) MF() bool { return h.frag()&flagMF != 0 }

// Offset returns the place of a fragment in its datagram, in bytes: a multiple
// of 8 up to 65528.
func (h Header) Offset() int { return int(h.frag()&maskOffset) * 8 }

// IsFragment reports whether the packet is a piece of a datagram.
func (h Header) IsFragment() bool { return h.frag()&(flagMF|maskOffset) != 0 }

// TTL returns the time to live in hops.
func (h Header) TTL() uint8 { return h[8] }

// Protocol returns the number of the protocol in the payload.
func (h Header) Protocol() uint8 { return h[9] }

// Checksum returns the header checksum as it stands in the packet.
func (h Header) Checksum() uint16 { return binary.BigEndian.Uint16(h[10:]) }

// Src returns the source address.
func (h Header) Src() netip.Addr { return netip.AddrFrom4([4]byte(h[12:16])) }

// Dst returns the destination address.
func (h Header) Dst() netip.Addr { return netip.AddrFrom4([4]byte(h[16:20])) }

// Options returns the option bytes, padding included: 0 to 40.
func (h Header) Options() []byte { return h[HeaderLen:] }
