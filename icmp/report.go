package icmp

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/ipv6"
)

// This file owns the rules of sending errors: about which packets none may be
// sent, lest errors answer errors or one packet draws a storm of them, and how
// much of the packet an error quotes. Limiter adds the rate.

// Sizes of the largest error messages in bytes, IP header included.
const (
	maxError4 = 576         // RFC 1812 §4.3.2.3
	maxError6 = ipv6.MinMTU // RFC 4443 §2.4(c)
	minIPv4   = 20          // header without options
	// MaxQuote4 is how much of a packet is quoted at most, less the IP options of the message.
	MaxQuote4 = maxError4 - minIPv4 - HeaderLen
	quote6    = maxError6 - ipv6.HeaderLen - HeaderLen
	maxType4  = 18 // highest ICMPv4 type that Linux knows: address mask reply
)

// MayReport4 reports whether an ICMPv4 error may be sent about packet, an IPv4
// packet whose header was validated. group says that it came by link-layer
// multicast or broadcast. A directed broadcast address (10.0.0.255) is only
// known to the caller.
func MayReport4(packet []byte, group bool) bool {
	if group || len(packet) < minIPv4 {
		return false
	}
	ihl := int(packet[0]&0x0f) * 4
	if ihl < minIPv4 || ihl > len(packet) {
		return false
	}
	// RFC 1122 §3.2.2: not about a fragment other than the first,
	if binary.BigEndian.Uint16(packet[6:])&0x1fff != 0 {
		return false
	}
	// nor a packet sent to a broadcast or multicast address (class E holds the
	// limited broadcast, and nothing that could be reached),
	if packet[16] >= 224 {
		return false
	}
	// nor one whose source is no single host: zero, multicast, broadcast,
	// class E (of the RFC's list loopback is missing: IP lets such a source
	// in from the host itself only, whose sockets want to know),
	if src := packet[12]; src == 0 || src >= 224 {
		return false
	}
	// nor about an ICMP error. A type that is unknown or cannot be read may be
	// one; Linux keeps silent about those too.
	if packet[9] == Proto4 {
		return len(packet) > ihl && !isError4(packet[ihl])
	}
	return true
}

func isError4(typ uint8) bool {
	switch typ {
	case TypeUnreachable4, TypeSourceQuench4, TypeRedirect4, TypeTimeExceeded4, TypeParamProblem4:
		return true
	}
	return typ > maxType4
}

// MayReport6 reports whether an ICMPv6 error may be sent about packet, an IPv6
// packet whose fixed header was validated (RFC 4443 §2.4(e)). group says that
// it came by link-layer multicast or broadcast; tooBigOrOption that the error
// is packet too big, or a parameter problem with code 2 about an option that
// asks for it, which are sent even about multicast.
func MayReport6(packet []byte, group, tooBigOrOption bool) bool {
	if len(packet) < ipv6.HeaderLen {
		return false
	}
	h := ipv6.Header(packet)
	// (e.3) to (e.5)
	if (group || h.Dst().IsMulticast()) && !tooBigOrOption {
		return false
	}
	// (e.6): the source is no single node.
	if src := h.Src(); src.IsUnspecified() || src.IsMulticast() {
		return false
	}
	// (e.1), (e.2): an error or a redirect. A message whose type has been cut
	// off may be one of them.
	proto, at, fragOffset, ok := ipv6.Skip(packet)
	if !ok || proto != Proto6 {
		return true
	}
	if fragOffset != 0 || at >= len(packet) {
		// Nobody cuts an error, which fits the smallest MTU; and what is wrong
		// with a fragment has to be said of those without a type too (RFC 8200
		// §4.5). Linux decides so.
		c, _, _ := ipv6.Walk(packet)
		return c.HasFrag
	}
	return packet[at] >= 128 && packet[at] != TypeRedirect6
}

// QuoteLen4 returns how many bytes of packet an ICMPv4 error quotes: as many as
// fit a message of 576 bytes (RFC 1812 §4.3.2.3).
func QuoteLen4(packet []byte) int { return min(len(packet), MaxQuote4) }

// QuoteLen6 returns how many bytes of packet an ICMPv6 error quotes: as many as
// fit the smallest MTU (RFC 4443 §2.4(c)).
func QuoteLen6(packet []byte) int { return min(len(packet), quote6) }
