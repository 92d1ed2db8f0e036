package stack

// This file owns the routing table as a user sees it: what a route says, how
// routes are added, removed and listed, and what the table answers when it is
// asked. The search itself, which every new path needs, is in route.go.

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/tapstack/tapstack/ipv6"
)

// RouteType says what becomes of packets that a route matches.
type RouteType uint8

// The types, with the error that a sender gets from each, as on Linux. A host
// does not forward, so that nobody else is told (RFC 1122 §3.3.1).
const (
	RouteUnicast     RouteType = iota // they leave
	RouteBlackhole                    // EINVAL
	RouteUnreachable                  // EHOSTUNREACH
	RouteProhibit                     // EACCES
)

var routeTypes = [...]struct {
	name  string
	errno syscall.Errno
}{{"unicast", 0}, {"blackhole", syscall.EINVAL}, {"unreachable", syscall.EHOSTUNREACH}, {"prohibit", syscall.EACCES}}

// String returns the type's name, as "blackhole".
func (t RouteType) String() string { return routeTypes[t].name }

// Origin says who has made an address or a route, as Linux's "proto". Whoever
// takes back what it has made does not touch what others have.
type Origin uint8

// The origins. The zero value is a user.
const (
	OriginStatic Origin = iota
	OriginKernel        // the stack itself: loopback and link-local addresses
	OriginRouter        // router advertisements
	OriginDHCP          // a lease
)

// String returns the origin's name, as "dhcp".
func (o Origin) String() string { return [...]string{"static", "kernel", "ra", "dhcp"}[o] }

// Route says how to reach a prefix.
type Route struct {
	Dst netip.Prefix
	// Type other than RouteUnicast refuses what matches; such a route has
	// neither Gateway nor Interface.
	Type RouteType
	// Gateway is the next hop; the zero Addr means that Dst is on the link.
	Gateway netip.Addr
	// Interface may be nil when the gateway lies in a prefix of one.
	Interface *Interface
	// OnLink believes that the gateway is a neighbour on Interface although no
	// prefix says so, as Linux's "onlink". A /32 from a provider needs it.
	OnLink bool
	// Metric decides between routes to equal prefixes, the lowest first.
	Metric int
	// Preference decides between routes of equal metric that routers have
	// advertised (RFC 4191).
	Preference ipv6.Preference
	// Source is the address to send from when nobody has chosen one, an address
	// of ours; the zero Addr leaves it to the rules. The route goes with it.
	Source netip.Addr
	// MTU is the largest packet, if it is less than the interface's; 0: that.
	MTU int
	// Metrics are what else holds for packets on the route.
	Metrics RouteMetrics
	// Origin says who has made the route.
	Origin Origin
}

// String formats a route as `ip route` does.
func (r Route) String() string {
	s := ""
	if r.Type != RouteUnicast {
		s = r.Type.String() + " "
	}
	if r.Dst.Bits() == 0 {
		s += "default"
	} else {
		s += r.Dst.String()
	}
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	if r.Interface != nil {
		s += " dev " + r.Interface.name
	}
	if r.Origin != OriginStatic {
		s += " proto " + r.Origin.String()
	}
	if r.Source.IsValid() {
		s += " src " + r.Source.String()
	}
	if r.Metric != 0 {
		s += " metric " + strconv.Itoa(r.Metric)
	}
	if r.MTU != 0 {
		s += " mtu "
		if r.Metrics.LockMTU {
			s += "lock "
		}
		s += strconv.Itoa(r.MTU)
	}
	s += r.Metrics.String()
	switch r.Preference {
	case ipv6.PreferHigh:
		s += " pref high"
	case ipv6.PreferLow:
		s += " pref low"
	}
	return s
}

// Routes is the control of the routing table.
type Routes struct{ s *Stack }

// Routes returns the control of the routing table.
func (s *Stack) Routes() Routes { return Routes{s} }

// AddRoute is Routes().Add.
func (s *Stack) AddRoute(r Route) error { return s.Routes().Add(r) }

// DelRoute is Routes().Remove.
func (s *Stack) DelRoute(r Route) error { return s.Routes().Remove(r) }

// Add adds a route, after those with equal prefix and metric. Errors: EINVAL
// for an impossible prefix, gateway, source, MTU or metric, ENETUNREACH when the gateway
// is on no link, ENODEV for an interface that is not there, EEXIST for a route
// that is there already, ENOSPC at Limits.Routes.
func (t Routes) Add(r Route) error {
	s := t.s
	return s.update(func(c *config) error {
		if err := c.checkRoute(&r); err != nil {
			return err
		}
		if slices.ContainsFunc(c.routes, func(o Route) bool {
			return o.Dst == r.Dst && o.Gateway == r.Gateway && o.Interface == r.Interface && o.Metric == r.Metric && o.Type == r.Type
		}) {
			return fmt.Errorf("route to %v via %v: %w", r.Dst, r.Gateway, syscall.EEXIST)
		}
		if len(c.routes) >= s.limits.Routes {
			return fmt.Errorf("more than %d routes: %w", s.limits.Routes, syscall.ENOSPC)
		}
		c.routes = append(c.routes, r)
		return nil
	})
}

// checkRoute completes a route, or says what is wrong with it.
func (c *config) checkRoute(r *Route) error {
	gw, in := r.Gateway, r.Interface
	if in == nil {
		in = c.onLink(gw)
	}
	bad := func(err error) error { return fmt.Errorf("route to %v via %v: %w", r.Dst, gw, err) }
	least := minMTU4
	if r.Dst.Addr().Is6() {
		least = ipv6.MinMTU // RFC 8200 §5
	}
	if !r.Metrics.possible(r) || !r.Dst.IsValid() || int(r.Type) >= len(routeTypes) || r.MTU < 0 || r.MTU > 0 && r.MTU < least || r.Metric < 0 ||
		gw.IsValid() && (gw.Is4() != r.Dst.Addr().Is4() || gw.IsUnspecified() || gw.IsMulticast() || c.ours(gw.WithZone(""), in)) {
		return bad(syscall.EINVAL)
	}
	r.Dst = r.Dst.Masked()
	if src := r.Source; src.IsValid() && (src.Is4() != r.Dst.Addr().Is4() || !c.byAddrAny(src)) {
		return fmt.Errorf("route to %v from %v: %w", r.Dst, src, syscall.EINVAL)
	}
	if r.Type != RouteUnicast {
		if gw.IsValid() || r.Interface != nil {
			return bad(syscall.EINVAL)
		}
		return nil
	}
	if r.Interface == nil && gw.IsValid() {
		if r.Interface = in; in == nil {
			return fmt.Errorf("gateway %v is not on any link: %w", gw, syscall.ENETUNREACH)
		}
	}
	r.Gateway = gw.WithZone("")
	if gw.Is4() && (gw.IsLoopback() || c.isBroadcast(gw, r.Interface)) {
		return bad(syscall.EINVAL) // one host it has to be, as on Linux
	}
	if gw.Is4() && !r.OnLink && !c.isNeighbour(gw, r.Interface) {
		return fmt.Errorf("gateway %v is not on the link of %s: %w", gw, r.Interface.name, syscall.ENETUNREACH)
	}
	switch {
	case r.Interface == nil:
		return fmt.Errorf("route to %v has neither gateway nor interface: %w", r.Dst, syscall.EINVAL)
	case !slices.Contains(c.ifaces, r.Interface):
		return bad(syscall.ENODEV)
	}
	return nil
}

// Remove removes the routes that match Dst and Type and, where they are set,
// Gateway, Interface, Metric and Origin. ESRCH when there is none. Those that
// routers advertise come back with the next advertisement, as on Linux.
func (t Routes) Remove(r Route) error {
	r.Dst, r.Gateway = r.Dst.Masked(), r.Gateway.WithZone("")
	var gone []Route
	err := t.s.delRoute(r, func(o Route) bool {
		is := o.Dst == r.Dst && o.Type == r.Type && (!r.Gateway.IsValid() || o.Gateway == r.Gateway) &&
			(r.Interface == nil || o.Interface == r.Interface) && (r.Metric == 0 || o.Metric == r.Metric) &&
			(r.Origin == OriginStatic || o.Origin == r.Origin)
		if is && o.Type == RouteUnicast && o.Dst.Addr().Is6() {
			gone = append(gone, o)
		}
		return is
	})
	for _, o := range gone {
		o.Interface.routeTakenAway(o)
	}
	return err
}

// List returns the table in the order in which it is searched. The prefixes of
// addresses are not in it, although they are routes as well: see Addrs.
func (t Routes) List() []Route { return slices.Clone(t.s.cfg.Load().routes) }

// Way is what the routing table answers.
type Way struct {
	Interface *Interface
	// NextHop is the neighbour that the packet is given to: a gateway, or the
	// destination itself.
	NextHop netip.Addr
	Source  netip.Addr
	// MTU is the largest packet that is known to get there whole.
	MTU int
	// Broadcast says that the destination is all hosts of the link.
	Broadcast bool
}

// Get asks for the way to dst, as `ip route get` does: from src, if it is
// valid, and by oif, if it is not nil. Errors are those that a sender gets:
// ENETUNREACH without a route and those of the RouteTypes, EADDRNOTAVAIL for a
// source that is not ours, ENODEV, EINVAL.
func (t Routes) Get(dst, src netip.Addr, oif *Interface) (Way, error) {
	r, err := t.s.findRoute(dst, src, oif)
	if err != nil {
		return Way{}, fmt.Errorf("route to %v: %w", dst, err)
	}
	return Way{Interface: r.iface, NextHop: r.nextHop, Source: r.src, MTU: r.mtu, Broadcast: r.bcast}, nil
}

// changeRoute gives a route that a router advertisement brought another
// preference; ESRCH when it is not there.
func (s *Stack) changeRoute(r Route) error {
	return s.update(func(c *config) error {
		n := slices.IndexFunc(c.routes, func(o Route) bool {
			return o.Origin == OriginRouter && o.Dst == r.Dst && o.Gateway == r.Gateway && o.Interface == r.Interface
		})
		if n < 0 {
			return syscall.ESRCH
		}
		c.routes[n].Preference = r.Preference
		return nil
	})
}

// forgetRoute removes a route that a router advertisement brought, and no
// other like it.
func (s *Stack) forgetRoute(r Route) {
	s.delRoute(r, func(o Route) bool {
		return o.Origin == OriginRouter && o.Dst == r.Dst && o.Gateway == r.Gateway && o.Interface == r.Interface
	})
}

func (s *Stack) delRoute(r Route, is func(Route) bool) error {
	return s.update(func(c *config) error {
		n := len(c.routes)
		c.routes = slices.DeleteFunc(c.routes, is)
		if len(c.routes) == n {
			return fmt.Errorf("route to %v: %w", r.Dst, syscall.ESRCH)
		}
		return nil
	})
}

// routesWithout drops the routes that cannot be without an address that has
// gone from interface i: those that send from it, and with the last IPv4 address
// of an interface all of IPv4 there, as on Linux.
func (c *config) routesWithout(a netip.Addr, i *Interface) {
	last := a.Is4() && !slices.ContainsFunc(c.addrs, func(x *address) bool { return x.iface == i && x.addr().Is4() })
	ours := c.byAddrAny(a)
	c.routes = slices.DeleteFunc(c.routes, func(r Route) bool {
		return !ours && r.Source == a || last && r.Interface == i && r.Dst.Addr().Is4()
	})
}
