package stack

import (
	"net/netip"
	"slices"
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
	dst   netip.Addr // without zone; with a routing header its first segment
	final netip.Addr // with a routing header: where packets are to end up, see end
	bcast bool       // dst is a broadcast address of iface
	// Of one datagram: routers may fragment it; a copy of it is for sockets of
	// this host; and only that.
	mayFrag, loop, stay bool
	// answer: for what answers a packet that nobody here had asked for.
	answer bool
	// opts are the IPv4 options, in whole words, or the extension headers of
	// IPv6, of which next is the first.
	opts  []byte
	next  uint8
	label label // of IPv6
	// metrics are those of the route that was found, nil where it has none.
	metrics *RouteMetrics
}

// path is a route without the addresses of its ends, which a connection has in
// its key.
type path struct {
	gen     uint64 // the config it was made from
	iface   *Interface
	nextHop netip.Addr
	mtu     int       // largest packet: the interface's or the path's
	until   mono.Time // when what was learnt of the path is to be forgotten, 0: never
	// tiny: the path is believed to carry less than mtu says, and so routers
	// may fragment (see exceptions).
	tiny bool
	lock bool  // what routers say of the MTU does not count (RouteMetrics.LockMTU)
	hops uint8 // RouteMetrics.HopLimit
}

// stale reports that it is to be looked up again.
func (p *path) stale(s *Stack, now mono.Time) bool {
	return p.gen != s.cfg.Load().gen || p.until.Due(now)
}

// headerLen is the length of the IP header of packets on the route.
func (r *route) headerLen() int {
	if r.dst.Is4() {
		return ipv4.HeaderLen + len(r.opts)
	}
	return ipv6.HeaderLen + len(r.opts)
}

// findRoute looks up the way to dst. src may be invalid or unspecified, then
// one is selected. oif, or dst's zone, pins the interface. Errors are the
// kernel's: ENETUNREACH without a route or that of the route's type,
// EADDRNOTAVAIL for a source that is not ours or when there is none, EINVAL for
// a loopback source that would leave the host, ENODEV for a zone that is not there
// or an interface that was removed.
func (s *Stack) findRoute(dst, src netip.Addr, oif *Interface) (route, error) {
	c := s.cfg.Load()
	zone, err := c.zone(dst)
	switch {
	case err != nil && isZoneNumber(dst.Zone()):
		return route{}, syscall.ENETUNREACH // as Linux, to which names are numbers
	case err != nil:
		return route{}, err
	case zone != nil:
		oif = zone
	}
	if dst = dst.WithZone(""); zone == nil && oif != nil && !slices.Contains(c.ifaces, oif) {
		return route{}, syscall.ENODEV
	}
	r := route{path: path{gen: c.gen}, dst: dst}
	var hit match
	if oif != nil && oif.isDead() && (dst.IsMulticast() || c.local(dst, s.lo) == nil) {
		return route{}, syscall.ENETUNREACH // as Linux, whatever the routes say
	}
	switch {
	case dst.IsUnspecified():
		return route{}, syscall.ENETUNREACH
	case c.local(dst, s.lo) != nil && (dst.Is4() || c.ours(dst, oif)) && !dst.IsMulticast():
		// Everything to ourselves stays inside (RFC 1122 §3.3.1.1), by whatever
		// interface it is to leave, where Linux sends it to the others there.
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
		var err error
		if hit, err = c.lookup(dst, src, oif); err != nil {
			if oif == nil || !dst.Is4() || oif.loopback {
				return route{}, err
			}
			// As Linux: who says which link to use is believed that the
			// destination is there, whatever the routes say.
			hit = match{iface: oif, nextHop: dst}
		}
		r.iface, r.nextHop = hit.iface, hit.nextHop
		if dst.IsLoopback() && !r.iface.localnet {
			return route{}, syscall.ENETUNREACH // RFC 1122 §3.2.1.3 (g): never on a wire
		}
		r.bcast = c.isBroadcast(dst, r.iface)
	}
	r.mtu = r.iface.mtuFor(dst)
	if hit.route != nil && hit.route.MTU != 0 {
		r.mtu = min(r.mtu, hit.route.MTU)
	}
	if hit.route != nil && hit.route.Metrics != (RouteMetrics{}) {
		r.metrics = &hit.route.Metrics
		r.lock, r.hops = r.metrics.LockMTU, uint8(r.metrics.HopLimit)
		r.tiny = r.lock // as Linux, which then lets routers fragment
	}
	s.exceptions.apply(s.clock.Now(), &r)
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
	if r.src = c.sourceFor(dst, r.iface, hit); !r.src.IsValid() {
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

// match is what a search of the routes has found: either a route, or the prefix
// of an address of ours.
type match struct {
	iface   *Interface
	nextHop netip.Addr
	route   *Route
	own     *address
}

// lookup searches for the longest matching prefix; of equal ones for the lowest
// metric, and of equal ones of those for the eldest. Prefixes of addresses are
// routes as well: the on-link ones, which go before others as if their metric
// were 0. Of IPv6 routes to the same prefix, one whose gateway is a neighbour
// of the source address goes first, so that each prefix of a host leaves by
// the router that has advertised it (RFC 8028 §3.2). Routes by routers that do
// not answer come last, and links without carrier after all else that matches.
// Where the stack shares load between routers, those that are still equal are
// chosen from as shared says. ENETUNREACH when nothing matches.
func (c *config) lookup(dst, src netip.Addr, oif *Interface) (m match, err error) {
	if m, err = c.search(dst, src, oif, linkDead|linkNoCarrier); err == syscall.ENETUNREACH && slices.ContainsFunc(c.ifaces, (*Interface).noCarrier) {
		m, err = c.search(dst, src, oif, linkDead)
	}
	return m, err
}

// search is lookup without the interfaces that have something of unusable.
func (c *config) search(dst, src netip.Addr, oif *Interface, unusable uint32) (m match, err error) {
	best := -1
	for _, a := range c.addrs {
		if a.iface.link.Load()&unusable&^linkFailed != 0 {
			continue // where the device has failed, sending says so
		}
		if a.prefix.Bits() > best && !a.secondary && a.onLink(dst) && (oif == nil || a.iface == oif) {
			best, m = a.prefix.Bits(), match{iface: a.iface, nextHop: dst, own: a}
		}
	}
	var own *address
	if dst.Is6() {
		own = c.byAddr[src]
	}
	var via *Route
	dead, at := 0, 0 // of via, and where it is
	for i := range c.routes {
		t := &c.routes[i]
		if t.Dst.Bits() <= best || via != nil && t.Dst.Bits() < via.Dst.Bits() {
			break
		}
		// What refuses does so on all interfaces, as on Linux.
		if !t.Dst.Contains(dst) || (oif != nil && t.Interface != oif && t.Type == RouteUnicast) || t.Interface != nil && t.Interface.link.Load()&unusable != 0 {
			continue
		}
		if t.Type != RouteUnicast {
			if via == nil {
				via = t
			}
			break
		}
		d := 0
		if len(c.dead) > 0 {
			d = c.deadSince(t)
		}
		if via != nil && dst.Is4() && t.Metric != via.Metric {
			break // the metric goes before all else, as on Linux
		}
		if via == nil || d < dead || d == dead && own != nil && own.by(t.Gateway) && !own.by(via.Gateway) {
			via, dead, at = t, d, i
		}
		if dead == 0 && (own == nil || own.by(via.Gateway)) {
			break
		}
	}
	switch {
	case via == nil && best >= 0:
		return m, nil
	case via == nil:
		return match{}, syscall.ENETUNREACH
	case via.Type != RouteUnicast:
		return match{}, routeTypes[via.Type].errno
	}
	if c.sharing != nil && dead == 0 && via.Gateway.Is6() {
		via = c.shared(at, dst, own)
	}
	m = match{iface: via.Interface, nextHop: dst, route: via}
	if via.Gateway.IsValid() {
		m.nextHop = via.Gateway
	}
	return m, nil
}

// multicastInterface chooses where multicast and broadcast leave when nobody
// said: the interface of the source address, else that of the route, else the
// first real one. The last departs from Linux, which wants a route.
func (c *config) multicastInterface(dst, src netip.Addr) *Interface {
	if a := c.byAddr[src]; a != nil && !a.iface.loopback {
		return a.iface
	}
	if dst.Is4() {
		if m, err := c.lookup(dst, src, nil); err == nil {
			return m.iface
		}
	}
	for _, i := range c.ifaces {
		if !i.loopback && !i.isDead() && (dst.Is4() || !i.noIPv6()) {
			return i
		}
	}
	return nil
}

// sourceFor chooses the source address for dst by the way that was found: the
// one that the route names, or for IPv4 the one whose prefix it is.
func (c *config) sourceFor(dst netip.Addr, iface *Interface, m match) netip.Addr {
	if m.route != nil && m.route.Source.IsValid() {
		if a := c.byAddr[m.route.Source]; a != nil && a.state != addrTentative {
			return a.addr()
		}
	}
	if dst.Is4() {
		if a := c.local(dst, iface); a != nil && iface.loopback {
			return c.primary(a).addr() // to ourselves: from where it goes
		}
		if m.own != nil && m.own.state != addrTentative && !m.own.deprecated {
			return m.own.addr()
		}
		if m.own != nil {
			return c.selectSource4(iface, dst)
		}
		gateway := netip.Addr{}
		if m.route != nil {
			gateway = m.route.Gateway
		}
		return c.selectSource4(iface, gateway)
	}
	return c.selectSource(dst, iface, m.nextHop)
}

// selectSource4 chooses an IPv4 address to send from by iface as Linux does:
// of the primary addresses there the one in whose prefix the neighbour is, else
// the first; else the first of another interface (the weak host model, RFC 1122
// §3.3.4.2). A link-local address is not used beyond its link while there is
// another (RFC 3927 §2.6.2), and a deprecated one (RFC 3927 §1.9, and who has it
// by a lease may say so) not while the interface has one that is preferred, which
// Linux does not look at.
func (c *config) selectSource4(iface *Interface, neighbour netip.Addr) netip.Addr {
	var best *address
	rank := -1
	for _, a := range c.addrs {
		if !a.addr().Is4() || a.state == addrTentative || a.iface.loopback || a.secondary && !c.primary(a).deprecated {
			continue
		}
		n := 1
		switch {
		case a.iface == iface && neighbour.IsValid() && a.prefix.Contains(neighbour):
			n = 7
		case a.iface == iface && !a.addr().IsLinkLocalUnicast():
			n = 5
		case a.iface == iface:
			n = 3
		case a.addr().IsLinkLocalUnicast():
			continue
		}
		if n == 1 && neighbour.IsValid() && neighbour.IsLinkLocalUnicast() {
			continue
		}
		if a.deprecated {
			n = min(n, 5) - 1
		}
		if n > rank {
			best, rank = a, n
		}
	}
	if best == nil {
		return netip.Addr{}
	}
	return best.addr()
}

// behindRouter stands for an address of which nothing is known but that it is
// far away.
var behindRouter = netip.MustParseAddr("2000::")

// selectSource chooses the source address for dst leaving by iface: for IPv6 as
// RFC 6724 §5, for IPv4 selectSource4. The zero Addr means there is none.
func (c *config) selectSource(dst netip.Addr, iface *Interface, nextHop netip.Addr) netip.Addr {
	if dst.Is4() {
		return c.selectSource4(iface, nextHop)
	}
	return c.selectSource6(dst, iface, nextHop, iface.temp != TempAddrsPrefer)
}

// selectSource6 is selectSource for IPv6; public prefers public addresses to
// temporary ones (RFC 5014 §7).
func (c *config) selectSource6(dst netip.Addr, iface *Interface, nextHop netip.Addr, public bool) netip.Addr {
	if dst.IsLoopback() && !iface.loopback {
		dst = behindRouter // with RouteLocalnet, whatever it is there
	}
	var best *address
	var chosen ipv6.Source
	for _, a := range c.addrs {
		if !a.addr().Is6() || a.state == addrTentative || (a.iface.loopback && !iface.loopback) {
			continue
		}
		// RFC 6724 §4: what goes to a link or a group comes from an address of
		// that link; and an address of another link is no use anywhere else.
		if a.iface != iface && !iface.loopback &&
			(dst.IsLinkLocalUnicast() || dst.IsMulticast() || a.addr().IsLinkLocalUnicast()) {
			continue
		}
		x := c.candidate(a, iface, nextHop)
		if best == nil || c.policies.CompareSources(dst, &x, &chosen, ipv6.Preferences{Public: public}) < 0 {
			best, chosen = a, x
		}
	}
	if best == nil {
		return netip.Addr{}
	}
	return best.addr()
}

// candidate is an address as RFC 6724 looks at it.
func (c *config) candidate(a *address, out *Interface, nextHop netip.Addr) ipv6.Source {
	// RFC 4429 §3.1: optimistic addresses are like deprecated ones.
	return ipv6.Source{Addr: a.addr(), Deprecated: a.deprecated || a.optimistic, Outgoing: a.iface == out, Advertised: slices.Contains(a.routers, nextHop),
		Temporary: a.temporary, PrefixLen: a.prefix.Bits()}
}

// SourceFor returns the address that packets to dst would come from, as
// RFC 6724 §6 asks for it, and false when there is no way to dst.
func (s *Stack) SourceFor(dst netip.Addr) (ipv6.Source, bool) {
	r, err := s.findRoute(dst, netip.Addr{}, nil)
	if err != nil {
		return ipv6.Source{}, false
	}
	c := s.cfg.Load()
	if a := c.byAddr[r.src]; a != nil {
		return c.candidate(a, r.iface, r.nextHop), true
	}
	return ipv6.Source{Addr: r.src}, true
}

// Policies returns the table of RFC 6724 §2.1 that addresses are chosen by.
func (s *Stack) Policies() *ipv6.Policies { return s.cfg.Load().policies }

// SetPolicies replaces it; nil stands for ipv6.DefaultPolicies.
func (s *Stack) SetPolicies(p *ipv6.Policies) {
	if p == nil {
		p = ipv6.DefaultPolicies
	}
	s.update(func(c *config) error {
		c.policies = p
		return nil
	})
}
