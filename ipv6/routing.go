package ipv6

import (
	"net/netip"
)

// This file owns the routing headers that a host sends (RFC 8200 §4.4): which of
// them are well formed, and where a packet with one ends up. Those that arrive
// are judged by Walk, which follows none.

// Routing types that may be sent.
const (
	RoutingHome     = 2 // RFC 6275 §6.4: the home address of a mobile node
	RoutingSegments = 4 // RFC 8754 §2: segment routing
)

// CheckSegments reports whether h, an extension header that is as long as it says,
// is a segment routing header with all of its segments (RFC 8754 §2), and with
// TLVs behind them that end where it ends:
//
//	| next | length | 4 | left | last entry | flags | tag | addresses | TLVs |
//
// As Linux it takes all TLVs to have a length.
func CheckSegments(h []byte) bool {
	if len(h) < 24 || h[2] != RoutingSegments {
		return false
	}
	left, last := int(h[3]), int(h[4])
	at := 8 + 16*(last+1)
	if left > last || at > len(h) {
		return false
	}
	for at < len(h) {
		if at+2 > len(h) {
			return false
		}
		at += 2 + int(h[at+1])
	}
	return at == len(h)
}

// FinalDestination returns where b, a packet that was sent and may be cut short
// anywhere behind its fixed header, is to end up: the last address of a routing
// header that may be sent, as long as not all segments are passed, else the
// destination.
func FinalDestination(b []byte) netip.Addr {
	h := Header(b)
	next, at := h.NextHeader(), HeaderLen
	for range MaxHeaders {
		switch next {
		case ProtoHopByHop, ProtoDestOpts, ProtoRouting:
		default:
			return h.Dst()
		}
		size := extSize(b[at:], next)
		if size == 0 {
			return h.Dst()
		}
		if ext := b[at : at+size]; next == ProtoRouting && (ext[2] == RoutingHome || ext[2] == RoutingSegments) && ext[3] > 0 && size >= 24 {
			return netip.AddrFrom16([16]byte(ext[8:24]))
		}
		next, at = b[at], at+size
	}
	return h.Dst()
}
