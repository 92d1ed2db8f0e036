package ipv6

import (
	"net/netip"

	"github.com/tapstack/tapstack/ether"
)

// This file owns the neighbour discovery messages between neighbours,
// solicitation, advertisement and redirect (RFC 4861 §4.3-4.5), and the options
// that all five messages share (§4.6). Parsing validates everything the RFC
// asks of a receiver (§7.1, §8.1) except the checksum, which package icmp
// verified before. A body is the whole ICMPv6 message from its type byte.
//
// RFC 6980 §5: a message that came with a fragment header (Chain.Atomic, or
// after reassembly) must be ignored; the caller sees to that.

// The ICMPv6 types of neighbour discovery.
const (
	typeRouterSolicit   = 133
	typeRouterAdvert    = 134
	typeNeighborSolicit = 135
	typeNeighborAdvert  = 136
	typeRedirect        = 137
)

// NDHopLimit is the hop limit of all neighbour discovery messages: one that
// crossed a router has less (RFC 4861 §3.1).
const NDHopLimit = 255

// Lengths of the fixed parts in bytes.
const (
	routerSolicitLen = 8
	routerAdvertLen  = 16
	neighborLen      = 24
	redirectLen      = 40
)

// Option types (RFC 4861 §4.6, RFC 3971 §5.3.2, RFC 4191 §2.3, RFC 8106 §5, RFC
// 5175 §4, RFC 8910 §2.3).
const (
	optSourceLink = 1
	optTargetLink = 2
	optPrefixInfo = 3
	optRedirected = 4
	optMTU        = 5
	optNonce      = 14
	optRouteInfo  = 24
	optRDNSS      = 25
	optFlags      = 26
	optDNSSL      = 31
	optPortal     = 37
)

// NeighborSolicit is a neighbour solicitation (RFC 4861 §4.3).
type NeighborSolicit struct {
	Target    netip.Addr
	SourceMAC ether.Addr // valid with HasMAC
	HasMAC    bool
	// Nonce tells a looped-back DAD solicitation of our own from a
	// neighbour's (RFC 7527 §4.1). A received nonce of another length cannot
	// be ours and leaves HasNonce false.
	Nonce    [6]byte
	HasNonce bool
}

// NeighborAdvert is a neighbour advertisement (RFC 4861 §4.4).
type NeighborAdvert struct {
	Target                      netip.Addr
	Router, Solicited, Override bool
	TargetMAC                   ether.Addr // valid with HasMAC
	HasMAC                      bool
}

// Redirect is a redirect (RFC 4861 §4.5): packets to Destination go to Target,
// which is a router's link-local address or Destination itself.
type Redirect struct {
	Target, Destination netip.Addr
	TargetMAC           ether.Addr // valid with HasMAC
	HasMAC              bool
	// Quoted is as much as there is of the packet that led to the redirect, nil
	// for none (§4.6.3). It lies in the message.
	Quoted []byte
}

// checkND applies what RFC 4861 asks of each message: hop limit 255, code 0,
// and a length that holds the fixed part.
func checkND(h Header, body []byte, size int) Drop {
	switch {
	case h.HopLimit() != NDHopLimit:
		return DropHopLimit
	case len(body) < size:
		return DropShort
	case body[1] != 0:
		return DropCode
	}
	return DropNone
}

// ndOptions calls f for each option, whole and with a length of 8 bytes or
// more. It fails when one has length zero or exceeds the message, which makes
// the whole message invalid; f may fail as well.
func ndOptions(b []byte, f func(typ uint8, opt []byte) Drop) Drop {
	for len(b) > 0 {
		if len(b) < 2 {
			return DropOption
		}
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return DropOption
		}
		if d := f(b[0], b[:n]); d != DropNone {
			return d
		}
		b = b[n:]
	}
	return DropNone
}

// linkAddress reads a source or target link-layer address option. On Ethernet
// it is 8 bytes long (RFC 2464 §6); like Linux, a message with another length
// is refused. So is a group address, which no station has: accepting it would
// let one message turn unicast into broadcast.
func linkAddress(opt []byte, mac *ether.Addr, has *bool) Drop {
	if len(opt) != 8 {
		return DropLinkAddress
	}
	a := ether.Addr(opt[2:8])
	if a.IsGroup() || a.IsZero() {
		return DropLinkAddress
	}
	*mac, *has = a, true
	return DropNone
}

// ParseNeighborSolicit validates a neighbour solicitation (RFC 4861 §7.1.1).
func ParseNeighborSolicit(h Header, body []byte) (NeighborSolicit, Drop) {
	var m NeighborSolicit
	if d := checkND(h, body, neighborLen); d != DropNone {
		return m, d
	}
	if m.Target = netip.AddrFrom16([16]byte(body[8:24])); m.Target.IsMulticast() {
		return m, DropTarget
	}
	d := ndOptions(body[neighborLen:], func(typ uint8, opt []byte) Drop {
		switch typ {
		case optSourceLink:
			return linkAddress(opt, &m.SourceMAC, &m.HasMAC)
		case optNonce:
			if len(opt) == 8 {
				m.Nonce, m.HasNonce = [6]byte(opt[2:8]), true
			}
		}
		return DropNone
	})
	// Duplicate address detection: to the solicited-node group, and without
	// the option, for the asker has no address yet.
	if d == DropNone && h.Src().IsUnspecified() {
		if !IsSolicitedNode(h.Dst()) {
			return m, DropDestination
		}
		if m.HasMAC {
			return m, DropLinkAddress
		}
	}
	return m, d
}

// ParseNeighborAdvert validates a neighbour advertisement (RFC 4861 §7.1.2).
func ParseNeighborAdvert(h Header, body []byte) (NeighborAdvert, Drop) {
	var m NeighborAdvert
	if d := checkND(h, body, neighborLen); d != DropNone {
		return m, d
	}
	m.Router, m.Solicited, m.Override = body[4]&0x80 != 0, body[4]&0x40 != 0, body[4]&0x20 != 0
	if m.Target = netip.AddrFrom16([16]byte(body[8:24])); m.Target.IsMulticast() {
		return m, DropTarget
	}
	// An answer to all nodes was solicited by none of them.
	if m.Solicited && h.Dst().IsMulticast() {
		return m, DropFlags
	}
	d := ndOptions(body[neighborLen:], func(typ uint8, opt []byte) Drop {
		if typ == optTargetLink {
			return linkAddress(opt, &m.TargetMAC, &m.HasMAC)
		}
		return DropNone
	})
	return m, d
}

// ParseRedirect validates a redirect (RFC 4861 §8.1), except that it came from
// the router in use for Destination, which only the caller knows.
func ParseRedirect(h Header, body []byte) (Redirect, Drop) {
	var m Redirect
	if d := checkND(h, body, redirectLen); d != DropNone {
		return m, d
	}
	if !h.Src().IsLinkLocalUnicast() {
		return m, DropSource
	}
	m.Target = netip.AddrFrom16([16]byte(body[8:24]))
	m.Destination = netip.AddrFrom16([16]byte(body[24:40]))
	if m.Destination.IsMulticast() || (!m.Target.IsLinkLocalUnicast() && m.Target != m.Destination) {
		return m, DropTarget
	}
	d := ndOptions(body[redirectLen:], func(typ uint8, opt []byte) Drop {
		switch typ {
		case optTargetLink:
			return linkAddress(opt, &m.TargetMAC, &m.HasMAC)
		case optRedirected:
			m.Quoted = opt[8:]
		}
		return DropNone
	})
	return m, d
}

// Append appends the ICMPv6 message with a zero checksum.
func (m *NeighborSolicit) Append(b []byte) []byte {
	b = append(b, typeNeighborSolicit, 0, 0, 0, 0, 0, 0, 0)
	b = appendAddr(b, m.Target)
	if m.HasMAC {
		b = appendLinkAddress(b, optSourceLink, m.SourceMAC)
	}
	if m.HasNonce {
		b = append(append(b, optNonce, 1), m.Nonce[:]...)
	}
	return b
}

// Append appends the ICMPv6 message with a zero checksum.
func (m *NeighborAdvert) Append(b []byte) []byte {
	b = append(b, typeNeighborAdvert, 0, 0, 0,
		bit(m.Router, 0x80)|bit(m.Solicited, 0x40)|bit(m.Override, 0x20), 0, 0, 0)
	b = appendAddr(b, m.Target)
	if m.HasMAC {
		b = appendLinkAddress(b, optTargetLink, m.TargetMAC)
	}
	return b
}

// Append appends the ICMPv6 message with a zero checksum and without the
// redirected packet.
func (m *Redirect) Append(b []byte) []byte {
	b = append(b, typeRedirect, 0, 0, 0, 0, 0, 0, 0)
	b = appendAddr(appendAddr(b, m.Target), m.Destination)
	if m.HasMAC {
		b = appendLinkAddress(b, optTargetLink, m.TargetMAC)
	}
	if len(m.Quoted) > 0 {
		at := len(b)
		b = padOption(append(append(b, optRedirected, 0, 0, 0, 0, 0, 0, 0), m.Quoted...), at)
	}
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte {
	x := a.As16()
	return append(b, x[:]...)
}

func appendLinkAddress(b []byte, typ uint8, mac ether.Addr) []byte {
	return append(append(b, typ, 1), mac[:]...)
}

func bit(on bool, mask uint8) uint8 {
	if on {
		return mask
	}
	return 0
}
