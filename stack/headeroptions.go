package stack

// This file owns the options that programs give to the IP headers of what their
// sockets send, for datagrams and streams alike: the options of IPv4
// (IP_OPTIONS), and the extension headers of IPv6 (RFC 3542 §6 to §9). What
// they are checked for, and how they come in front of a packet. A routing header
// is also about where a packet goes: its first segment is the destination that
// the network sees, while the checksum is made with the last one (RFC 8200 §8.1).

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// HeaderOptions are those of a socket. The zero value has none. It may be copied:
// what a method changes it makes anew.
type HeaderOptions struct {
	opts    []byte            // of IPv4, in whole words
	headers *ExtensionHeaders // of IPv6, nil for none
}

// ExtensionHeaders are those of a packet that is sent, each whole or nil. Their
// first byte, the next header, is filled in; their options are not looked at.
type ExtensionHeaders struct {
	HopByHop      []byte // IPV6_HOPOPTS
	BeforeRouting []byte // IPV6_RTHDRDSTOPTS: for each segment's node; only goes with Routing
	Routing       []byte // IPV6_RTHDR, without the address that the packet is sent to
	Destination   []byte // IPV6_DSTOPTS: for the destination alone
}

// HeaderKind says which extension header a call is about.
type HeaderKind uint8

// The kinds.
const (
	HeaderHopByHop HeaderKind = iota
	HeaderBeforeRouting
	HeaderRouting
	HeaderDestination
)

// Of returns the place of one of them.
func (h *ExtensionHeaders) Of(k HeaderKind) *[]byte {
	switch k {
	case HeaderHopByHop:
		return &h.HopByHop
	case HeaderBeforeRouting:
		return &h.BeforeRouting
	case HeaderRouting:
		return &h.Routing
	}
	return &h.Destination
}

// length is that of all that is sent of them, in bytes.
func (h *ExtensionHeaders) length() int {
	n := len(h.HopByHop) + len(h.Routing) + len(h.Destination)
	if len(h.Routing) > 0 {
		n += len(h.BeforeRouting) // RFC 3542 §9.2: ignored without a routing header
	}
	return n
}

// none reports that nothing was set.
func (h *ExtensionHeaders) none() bool { return h.length()+len(h.BeforeRouting) == 0 }

// ParseOptionsHeader returns the header of options at the start of b, without
// what follows. EINVAL: b is shorter than it says.
func ParseOptionsHeader(b []byte) ([]byte, error) {
	if len(b) < 2 || len(b) < 8+8*int(b[1]) {
		return nil, syscall.EINVAL
	}
	return b[: 8+8*int(b[1]) : 8+8*int(b[1])], nil
}

// SetIPOptions is IP_OPTIONS: every IPv4 packet has these options; none: without.
// A record route and a timestamp begin with this host. EINVAL for what is
// malformed or longer than 40 bytes. Departs from Linux, which lets programs send
// source routes: nobody forwards such packets (RFC 7126 §4.3).
func (o *HeaderOptions) SetIPOptions(opts []byte) error {
	if !ipv4.CheckOptions(opts) {
		return syscall.EINVAL
	}
	if o.opts = nil; len(opts) > 0 {
		o.opts = padded(opts)
	}
	return nil
}

// IPOptions returns what SetIPOptions set, padded to whole words.
func (o *HeaderOptions) IPOptions() []byte { return append([]byte(nil), o.opts...) }

// SetHeader sets an extension header; an empty one takes it away. EINVAL for one
// that is not of as many bytes as it says, at most 2040, and for a routing header
// that checkRouting refuses.
func (o *HeaderOptions) SetHeader(k HeaderKind, b []byte) error {
	var h []byte
	if len(b) > 0 {
		var err error
		if h, err = ParseOptionsHeader(b); err != nil || len(b)%8 != 0 || len(b) > 8*255 {
			return syscall.EINVAL
		}
		if k == HeaderRouting && (!checkRouting(h) || h[2] == ipv6.RoutingSegments && len(h) != len(b)) {
			return syscall.EINVAL
		}
		h = append([]byte(nil), h...)
	}
	var all ExtensionHeaders
	if o.headers != nil {
		all = *o.headers
	}
	*all.Of(k) = h
	o.headers = nil
	if !all.none() {
		o.headers = &all
	}
	return nil
}

// Header returns what SetHeader has set.
func (o *HeaderOptions) Header(k HeaderKind) []byte {
	if o.headers == nil {
		return nil
	}
	return append([]byte(nil), *o.headers.Of(k)...)
}

// MayRoute reports whether h, a whole header, is a routing header that may go with
// one datagram: type 2 alone, as on Linux.
func MayRoute(h []byte) bool { return h[2] == ipv6.RoutingHome && checkRouting(h) }

// checkRouting reports whether a program may send a routing header, which
// ParseOptionsHeader has found whole. As on Linux these are type 2, which has one
// address (RFC 6275 §6.4), and type 4, segment routing (RFC 8754 §2). Type 0 is
// abolished (RFC 5095 §3).
func checkRouting(h []byte) bool {
	switch h[2] {
	case ipv6.RoutingHome:
		return len(h) == 24 && h[3] == 1
	case ipv6.RoutingSegments:
		return ipv6.CheckSegments(h)
	}
	return false
}

// check reports whether h, which a program gives to one datagram, can be sent: EINVAL
// for a header that is not as long as it says, and for a routing header that is
// none.
func (h *ExtensionHeaders) check() error {
	for k := HeaderHopByHop; k <= HeaderDestination; k++ {
		if b := *h.Of(k); len(b) > 0 {
			if x, err := ParseOptionsHeader(b); err != nil || len(x) != len(b) || k == HeaderRouting && !checkRouting(b) {
				return syscall.EINVAL
			}
		}
	}
	return nil
}

// via is where a packet to dst is sent by them: dst, or the first segment of the
// routing header.
func (h *ExtensionHeaders) via(dst netip.Addr) netip.Addr {
	if h == nil || len(h.Routing) == 0 || !dst.Is6() {
		return dst
	}
	at := 8
	if h.Routing[2] == ipv6.RoutingSegments {
		at += 16 * int(h.Routing[3]) // RFC 8754 §4.1: the segment that Segments Left names
	}
	a := netip.AddrFrom16([16]byte(h.Routing[at : at+16]))
	if a.IsLinkLocalUnicast() && dst.Zone() != "" {
		a = a.WithZone(dst.Zone())
	}
	return a
}

// put appends the headers of a packet of proto to final, in the order of RFC 8200
// §4.1, and returns which of them is first.
func (h *ExtensionHeaders) put(b []byte, final netip.Addr, proto uint8) (out []byte, next uint8) {
	next = proto
	at := -1 // of the byte that names what follows
	add := func(p uint8, x []byte) {
		if len(x) == 0 {
			return
		}
		if at < 0 {
			next = p
		} else {
			b[at] = p
		}
		at = len(b)
		b = append(b, x...)
		b[at] = proto
	}
	add(ipv6.ProtoHopByHop, h.HopByHop)
	if len(h.Routing) > 0 {
		add(ipv6.ProtoDestOpts, h.BeforeRouting)
		add(ipv6.ProtoRouting, h.Routing)
		// The last segment is where the packet is to end: the first address of
		// type 4 (RFC 8754 §2), the only one of type 2.
		a := final.As16()
		copy(b[at+8:], a[:])
	}
	add(ipv6.ProtoDestOpts, h.Destination)
	return b, next
}

// padded returns a copy of options in whole words.
func padded(opts []byte) []byte {
	b := make([]byte, (len(opts)+3)&^3)
	copy(b, opts)
	return b
}

// end is the address that the packets of a route are for in the end, which
// checksums are made with.
func (r *route) end() netip.Addr {
	if r.final.IsValid() {
		return r.final
	}
	return r.dst
}

// setOptions gives a route the IPv4 options of one packet.
func (r *route) setOptions(s *Stack, now mono.Time, opts []byte) {
	if r.opts = nil; len(opts) > 0 {
		r.opts = padded(opts)
		ipv4.RecordSent(r.opts, s.optionHost(now, r.src))
	}
}

// answerOptions gives the route of an answer to p the IPv4 options that belong
// there (RFC 1122 §3.2.2.6): of all that p has, as on Linux, those that record.
// It reports false, and counts, when that is not possible.
func (s *Stack) answerOptions(now mono.Time, r *route, opts []byte) bool {
	if len(opts) == 0 {
		return true
	}
	var ok bool
	if r.opts, ok = ipv4.Echo(nil, opts, s.optionHost(now, r.src)); !ok {
		s.stats.IPv4.Drop[DropOptions].inc()
	}
	return ok
}

// options4 are the options of an IPv4 packet, none of another.
func (p *packet) options4() []byte {
	if p.dst.Is4() {
		return ipv4.Header(p.header4()).Options()
	}
	return nil
}
