// Package ipv6 is the Internet layer of IPv6 as pure functions and state
// machines: header and extension headers (RFC 8200), fragments, addresses,
// neighbour discovery messages (RFC 4861), stateless address configuration
// (RFC 4862) and multicast listener discovery (RFC 3810). It does no I/O, takes
// no locks and reads no clock; the stack gives it bytes and the time.
//
// This file owns the fixed 40-byte header.
package ipv6

import (
	"encoding/binary"
	"net/netip"
)

// HeaderLen is the length of the fixed header in bytes (RFC 8200 §3).
const HeaderLen = 40

// MinMTU is the smallest link MTU in bytes that IPv6 runs over (RFC 8200 §5).
const MinMTU = 1280

// MaxPayload is the largest payload length in bytes; jumbograms (RFC 2675) are
// refused.
const MaxPayload = 65535

// Next header values: extension headers and upper-layer protocols.
const (
	ProtoHopByHop = 0
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoESP      = 50
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNone     = 59
	ProtoDestOpts = 60
)

// Header is a view of the fixed header, HeaderLen bytes long:
//
//	 0       4              12                              31
//	+-------+---------------+-------------------------------+
//	|version| traffic class |          flow label           |
//	+-------+---------------+---------------+---------------+
//	|        payload length         |  next header  | hop limit |
//	+-------------------------------+---------------+---------------+
//	|            source address (16), destination address (16)      |
type Header []byte

// Parse checks the fixed header of a packet and returns its view. b may be
// longer than the packet (link-layer padding): the packet is the first
// HeaderLen + PayloadLen() bytes, and the caller trims the rest.
func Parse(b []byte) (Header, Drop) {
	h, _, d := parse(b, false)
	return h, d
}

// ParseSuper is Parse for a TCP super-frame, which the sender's kernel hands
// over before it is cut into packets. One that is longer than the length field
// can say has zero there, as Linux writes it ("BIG TCP"), and ends where b
// does; StripJumbo comes first. It returns the payload's length beside the
// header.
func ParseSuper(b []byte) (h Header, payload int, d Drop) { return parse(b, true) }

func parse(b []byte, super bool) (Header, int, Drop) {
	if len(b) < HeaderLen {
		return nil, 0, DropShort
	}
	h := Header(b[:HeaderLen:HeaderLen])
	if h[0]>>4 != 6 {
		return nil, 0, DropVersion
	}
	n := h.PayloadLen()
	if super && n == 0 && h.NextHeader() == ProtoTCP {
		n = len(b) - HeaderLen
	}
	if n > len(b)-HeaderLen {
		return nil, 0, DropLength
	}
	// RFC 2675 §2: length zero with a hop-by-hop header announces a jumbogram,
	// which no link of ours can carry.
	if n == 0 && h.NextHeader() == ProtoHopByHop {
		return nil, 0, DropJumbo
	}
	// RFC 4291 §2.7: a multicast address is never a source.
	if h[8] == 0xff {
		return nil, 0, DropSource
	}
	// RFC 4291 §2.5.2: the unspecified address is never a destination; §2.7:
	// neither is a multicast address of the reserved scope 0.
	if h[24] == 0xff && h[25]&0x0f == 0 || h.Dst().IsUnspecified() {
		return nil, 0, DropDestination
	}
	return h, n, DropNone
}

// JumboLen is the length of the header that StripJumbo takes out.
const JumboLen = 8

// StripJumbo takes out of a TCP super-frame the hop-by-hop header with which
// Linux before 7.0 says that it is longer than 65535 bytes (RFC 2675 §2), and
// which goes no further than the host. It moves the fixed header by JumboLen
// bytes, so that the packet begins there, and reports whether it did. Anything
// but that one option stays, to be refused.
func StripJumbo(b []byte) bool {
	const typeJumbo, lenJumbo = 0xc2, 4
	if len(b) <= MaxPayload || b[0]>>4 != 6 || Header(b).PayloadLen() != 0 || Header(b).NextHeader() != ProtoHopByHop {
		return false
	}
	o := b[HeaderLen : HeaderLen+JumboLen]
	if o[0] != ProtoTCP || o[1] != 0 || o[2] != typeJumbo || o[3] != lenJumbo || int64(binary.BigEndian.Uint32(o[4:])) != int64(len(b)-HeaderLen) {
		return false
	}
	copy(b[JumboLen:], b[:HeaderLen])
	b[JumboLen+6] = ProtoTCP
	return true
}

// TrafficClass returns the DSCP (upper six bits) and ECN field (lower two).
func (h Header) TrafficClass() uint8 { return h[0]<<4 | h[1]>>4 }

// FlowLabel returns the 20-bit flow label.
func (h Header) FlowLabel() uint32 { return binary.BigEndian.Uint32(h) & 0xfffff }

// PayloadLen returns the number of bytes that follow the fixed header.
func (h Header) PayloadLen() int { return int(binary.BigEndian.Uint16(h[4:])) }

// NextHeader names the header that follows the fixed one.
func (h Header) NextHeader() uint8 { return h[6] }

// HopLimit returns the hop limit.
func (h Header) HopLimit() uint8 { return h[7] }

// Src returns the source address.
func (h Header) Src() netip.Addr { return netip.AddrFrom16([16]byte(h[8:24])) }

// Dst returns the destination address.
func (h Header) Dst() netip.Addr { return netip.AddrFrom16([16]byte(h[24:40])) }

// Fields are the values of a fixed header that is to be written.
type Fields struct {
	TrafficClass uint8
	FlowLabel    uint32 // 20 bits
	NextHeader   uint8
	HopLimit     uint8
	Src, Dst     netip.Addr
	PayloadLen   int // bytes after the fixed header, at most MaxPayload
}

// Put writes the header into b, which has at least HeaderLen bytes.
func (f *Fields) Put(b []byte) {
	binary.BigEndian.PutUint32(b, 6<<28|uint32(f.TrafficClass)<<20|f.FlowLabel&0xfffff)
	binary.BigEndian.PutUint16(b[4:], uint16(f.PayloadLen))
	b[6], b[7] = f.NextHeader, f.HopLimit
	src, dst := f.Src.As16(), f.Dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}
