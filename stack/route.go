package stack

import (
	"math/bits"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"

	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

var (
	limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	loopback4        = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	any4             = netip.IPv4Unspecified()
	any6             = netip.IPv6Unspecified()
)

// route is the answer to "how does a packet from src get to dst": what an
// endpoint keeps until the configuration changes.
type route struct {
	path
	src   netip.Addr
	dst   netip.Addr // without zone
	bcast bool       // dst is a broadcast address of iface
	// Of one datagram: routers may fragment it; a copy of it is for sockets of
	// this host; and only that.
	mayFrag, loop, stay bool
}

// path is a route without the addresses of its ends, which a connection has in
// its key.
type path struct {
	gen     uint64 // the config it was made from
	iface   *Interface
	nextHop netip.Addr
	mtu     int       // largest packet: the interface's or the path's
	until   mono.Time // when a learnt path MTU is to be forgotten, 0: never
}

// stale reports that it is to be looked up again.
func (p *path) stale(s *Stack, now mono.Time) bool {
	return p.gen != s.cfg.Load().gen || p.until.Due(now)
}

// headerLen is the length of the IP header of packets on the route.
func (r *route) headerLen() int {
	if r.dst.Is4() {
		return ipv4.HeaderLen
	}
	return ipv6.HeaderLen
}

// findRoute looks up the way to dst. src may be invalid or unspecified, then
// one is selected. oif, or dst's zone, pins the interface. Errors are the
// kernel's: ENETUNREACH without a route, EADDRNOTAVAIL for a source that is
// not ours or when there is none, EINVAL for an unknown zone or a loopback
// source that would leave the host.
func (s *Stack) findRoute(dst, src netip.Addr, oif *Interface) (route, error) {
	c := s.cfg.Load()
	if z := dst.Zone(); z != "" {
		if oif = c.named(z); oif == nil {
			return route{}, syscall.EINVAL
		}
		dst = dst.WithZone("")
	}
	r := route{path: path{gen: c.gen}, dst: dst}
	switch {
	case dst.IsUnspecified():
		return route{}, syscall.ENETUNREACH
	case c.local(dst, s.lo) != nil && !dst.IsMulticast():
		// Everything to ourselves stays inside (RFC 1122 §3.3.1.1).
		if c.local(dst, s.lo).state == addrTentative {
			return route{}, syscall.EADDRNOTAVAIL
		}
		r.iface, r.nextHop, r.bcast = s.lo, dst, c.isBroadcast(dst, s.lo)
	case dst == limitedBroadcast || dst.IsMulticast():
		if oif == nil {
			oif = c.multicastInterface(dst, src)
		}
		if oif == nil {
			return route{}, syscall.ENETUNREACH
		}
		r.iface, r.nextHop, r.bcast = oif, dst, dst == limitedBroadcast
	default:
		if !c.lookup(&r, dst, src, oif) {
			return route{}, syscall.ENETUNREACH
		}
		if dst.IsLoopback() && !r.iface.localnet {
			return route{}, syscall.ENETUNREACH // RFC 1122 §3.2.1.3 (g): never on a wire
		}
		r.bcast = c.isBroadcast(dst, r.iface)
	}
	r.mtu = r.iface.mtuFor(dst)
	if m, until := s.pmtu.get(s.clock.Now(), dst); m != 0 && m < r.mtu {
		r.mtu, r.until = m, until
	}
	if src.IsValid() && !src.IsUnspecified() {
		if a := c.local(src.WithZone(""), s.lo); a == nil || a.state == addrTentative {
			return route{}, syscall.EADDRNOTAVAIL
		}
		if src.IsLoopback() && !r.iface.loopback {
			return route{}, syscall.EINVAL // RFC 1122 §3.2.1.3 (g): never on a wire
		}
		r.src = src.WithZone("")
		return r, nil
	}
	if r.src = c.selectSource(dst, r.iface, r.nextHop); !r.src.IsValid() {
		// A host without an address may still broadcast: that is how it gets
		// one (RFC 2131 §4.1). RFC 1122 §3.2.1.3 (a) allows source 0.0.0.0.
		if dst == limitedBroadcast {
			r.src = any4
			return r, nil
		}
		return route{}, syscall.EADDRNOTAVAIL
	}
	return r, nil
}

// lookup fills in interface and next hop by the longest matching prefix.
// Prefixes of addresses are routes as well: the on-link ones. Of routes to the
// same prefix, one whose gateway is a neighbour of the source address goes
// first, so that each address of a host leaves by its own gateway; then the
// lowest metric.
func (c *config) lookup(r *route, dst, src netip.Addr, oif *Interface) bool {
	best := -1
	for _, a := range c.addrs {
		if a.prefix.Bits() > best && a.onLink(dst) && (oif == nil || a.iface == oif) {
			best, r.iface, r.nextHop = a.prefix.Bits(), a.iface, dst
		}
	}
	own := c.byAddr[src]
	var via *Route
	for i := range c.routes {
		t := &c.routes[i]
		if t.Dst.Bits() <= best || via != nil && t.Dst.Bits() < via.Dst.Bits() {
			break
		}
		if !t.Dst.Contains(dst) || (oif != nil && t.Interface != oif) {
			continue
		}
		if via == nil {
			via = t
		}
		if own == nil {
			break
		}
		if t.Gateway.IsValid() && own.onLink(t.Gateway) {
			via = t
			break
		}
	}
	if via == nil {
		return best >= 0
	}
	r.iface, r.nextHop = via.Interface, dst
	if via.Gateway.IsValid() {
		r.nextHop = via.Gateway
	}
	return true
}

// multicastInterface chooses where multicast and broadcast leave when nobody
// said: the interface of the source address, else the first real one.
func (c *config) multicastInterface(dst, src netip.Addr) *Interface {
	if a := c.byAddr[src]; a != nil && !a.iface.loopback {
		return a.iface
	}
	for _, i := range c.ifaces {
		if !i.loopback && (dst.Is4() || !i.noIPv6) {
			return i
		}
	}
	return nil
}

// selectSource chooses the source address for dst leaving by iface: RFC 6724
// §5, of whose rules 1 (same address), 2 (scope), 3 (deprecated), 5 (outgoing
// interface) and 8 (longest matching prefix) apply here. IPv4 follows the
// same order, where rule 8 becomes "the one in the next hop's prefix" as Linux
// chooses. The zero Addr means there is none.
func (c *config) selectSource(dst netip.Addr, iface *Interface, nextHop netip.Addr) netip.Addr {
	var best *address
	for _, a := range c.addrs {
		if a.addr().Is4() != dst.Is4() || a.state == addrTentative || (a.iface.loopback && !iface.loopback) {
			continue
		}
		// RFC 6724 §4: what goes to a link or a group comes from an address of
		// that link; and an address of another link is no use anywhere else.
		if dst.Is6() && a.iface != iface && !iface.loopback &&
			(dst.IsLinkLocalUnicast() || dst.IsMulticast() || a.addr().IsLinkLocalUnicast()) {
			continue
		}
		if best == nil || c.betterSource(a, best, dst, iface, nextHop) {
			best = a
		}
	}
	if best == nil {
		return netip.Addr{}
	}
	return best.addr()
}

// betterSource reports whether a is strictly to be preferred to b.
func (c *config) betterSource(a, b *address, dst netip.Addr, iface *Interface, nextHop netip.Addr) bool {
	// Rule 1: prefer the destination itself.
	if (a.addr() == dst) != (b.addr() == dst) {
		return a.addr() == dst
	}
	// Rule 2: prefer the appropriate scope: the smallest that is not smaller
	// than the destination's.
	sd := scope(dst)
	if dst.IsLoopback() && !iface.loopback {
		sd = scopeGlobal // with RouteLocalnet: behind a router, whatever it is there
	}
	if sa, sb := scope(a.addr()), scope(b.addr()); sa != sb {
		if sa < sb {
			return sa >= sd
		}
		return sb < sd
	}
	// Rule 3: avoid deprecated addresses.
	if a.deprecated != b.deprecated {
		return b.deprecated
	}
	// Rule 5: prefer the outgoing interface.
	if (a.iface == iface) != (b.iface == iface) {
		return a.iface == iface
	}
	if dst.Is4() {
		return a.prefix.Contains(nextHop) && !b.prefix.Contains(nextHop)
	}
	// Rule 8: longest matching prefix.
	return commonPrefix(a.addr(), dst) > commonPrefix(b.addr(), dst)
}

const scopeGlobal = 14

// scope orders addresses by how far they reach (RFC 4007, RFC 6724 §3.1).
func scope(a netip.Addr) int {
	switch {
	case a.IsMulticast() && a.Is6():
		return int(a.As16()[1] & 0xf)
	case a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast():
		return 2
	}
	return scopeGlobal
}

func commonPrefix(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 128
}
