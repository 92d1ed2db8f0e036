package icmp

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/ipv6"
)

// This file owns the reading of the packet that an error message quotes. It
// was sent by us, or so the message claims, and its end is usually cut off.

// Quoted is the packet inside an error message. Slices alias the message.
type Quoted struct {
	V6       bool
	Src, Dst netip.Addr
	// Final is where it was to end up: Dst, or the last segment of a routing
	// header (RFC 8754 §2), which is what its sender knows it by.
	Final    netip.Addr
	Protocol uint8 // upper-layer protocol
	// Header is the IP header as it was sent, with options or extension
	// headers.
	Header []byte
	// Transport is what was quoted of the upper layer: usually 8 bytes or
	// more, but possibly fewer or none. It is nil of a later fragment.
	Transport []byte
	// FragOffset is not zero of a later fragment: only the addresses tell
	// what it belonged to. In bytes.
	FragOffset int
}

// Len returns how long the packet was in bytes, as its header says.
func (q *Quoted) Len() int {
	if q.V6 {
		return ipv6.HeaderLen + ipv6.Header(q.Header).PayloadLen()
	}
	return int(binary.BigEndian.Uint16(q.Header[2:]))
}

// ParseQuoted reads the packet in body, the Body of an error message. It fails
// when the headers are cut short or are not headers.
func ParseQuoted(body []byte, v6 bool) (Quoted, bool) {
	if v6 {
		return parseQuoted6(body)
	}
	return parseQuoted4(body)
}

func parseQuoted4(b []byte) (Quoted, bool) {
	if len(b) < minIPv4 || b[0]>>4 != 4 {
		return Quoted{}, false
	}
	ihl := int(b[0]&0x0f) * 4
	if ihl < minIPv4 || ihl > len(b) {
		return Quoted{}, false
	}
	// What follows the packet is padding or an extension (RFC 4884 §5).
	if total := int(binary.BigEndian.Uint16(b[2:])); total >= ihl && total < len(b) {
		b = b[:total]
	}
	q := Quoted{
		Src:        netip.AddrFrom4([4]byte(b[12:16])),
		Dst:        netip.AddrFrom4([4]byte(b[16:20])),
		Protocol:   b[9],
		Header:     b[:ihl:ihl],
		FragOffset: int(binary.BigEndian.Uint16(b[6:])&0x1fff) * 8,
	}
	q.Final = q.Dst
	if q.FragOffset == 0 {
		q.Transport = b[ihl:]
	}
	return q, true
}

func parseQuoted6(b []byte) (Quoted, bool) {
	if len(b) < ipv6.HeaderLen || b[0]>>4 != 6 {
		return Quoted{}, false
	}
	h := ipv6.Header(b)
	if total := ipv6.HeaderLen + h.PayloadLen(); total < len(b) {
		b = b[:total]
	}
	proto, at, fragOffset, ok := ipv6.Skip(b)
	if !ok {
		return Quoted{}, false
	}
	q := Quoted{
		V6: true, Src: h.Src(), Dst: h.Dst(), Final: ipv6.FinalDestination(b), Protocol: proto,
		Header: b[:at:at], FragOffset: fragOffset,
	}
	if fragOffset == 0 {
		q.Transport = b[at:]
	}
	return q, true
}
