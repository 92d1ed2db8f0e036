package stack

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/ipv4"
)

// config is what the data path needs to know of addresses and routes. It is
// immutable: a change makes a new one and swaps the pointer.
type config struct {
	gen    uint64 // grows with every change, so that cached routes notice
	ifaces []*Interface
	addrs  []*address // in order of assignment
	routes []Route    // longest prefix first, then lowest metric
	byAddr map[netip.Addr]*address
}

// addrState is where an address is in its life (RFC 4862 §2, RFC 5227 §2).
type addrState uint8

const (
	addrTentative addrState = iota // being probed; receives nothing but probes
	addrAssigned                   // in use
)

// address is one address of an interface, immutable like the config it is in.
type address struct {
	iface  *Interface
	prefix netip.Prefix // the address with the length of its on-link prefix
	state  addrState
	// deprecated: valid, but not for new connections (RFC 4862 §5.5.4).
	deprecated bool
	// auto marks an address made by SLAAC, whose prefix says nothing about
	// what is on the link (RFC 5942 §3): advertised prefixes become routes.
	auto bool
}

// onLink reports whether dst is a neighbour because of this address.
func (a *address) onLink(dst netip.Addr) bool {
	return !a.auto && !a.iface.loopback && a.prefix.Contains(dst)
}

func (a *address) addr() netip.Addr { return a.prefix.Addr() }

// Route says how to reach a prefix.
type Route struct {
	Dst netip.Prefix
	// Gateway is the next hop; the zero Addr means that Dst is on the link.
	Gateway netip.Addr
	// Interface may be nil when the gateway lies in a prefix of one.
	Interface *Interface
	// Metric decides between routes to equal prefixes, the lowest first.
	Metric int
	// auto marks routes learnt from router advertisements.
	auto bool
}

// update replaces the configuration by what change makes of a copy.
func (s *Stack) update(change func(c *config) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.cfg.Load()
	c := &config{gen: old.gen + 1, ifaces: slices.Clone(old.ifaces), addrs: slices.Clone(old.addrs), routes: slices.Clone(old.routes)}
	if err := change(c); err != nil {
		return err
	}
	slices.SortStableFunc(c.routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cmp.Compare(a.Metric, b.Metric))
	})
	c.byAddr = make(map[netip.Addr]*address, len(c.addrs))
	for _, a := range c.addrs {
		c.byAddr[a.addr()] = a
	}
	s.cfg.Store(c)
	return nil
}

// AddRoute adds a route. Errors: EINVAL for an impossible prefix or gateway,
// ENETUNREACH when the gateway is on no link, EEXIST for a route that is there
// already, ENOSPC at Limits.Routes.
func (s *Stack) AddRoute(r Route) error {
	return s.update(func(c *config) error {
		gw := r.Gateway
		if !r.Dst.IsValid() || gw.IsValid() && (gw.Is4() != r.Dst.Addr().Is4() || gw.IsUnspecified() || gw.IsMulticast() ||
			c.byAddrAny(gw.WithZone(""))) {
			return fmt.Errorf("route to %v via %v: %w", r.Dst, r.Gateway, syscall.EINVAL)
		}
		r.Dst = r.Dst.Masked()
		if r.Interface == nil && r.Gateway.IsValid() {
			if r.Interface = c.onLink(r.Gateway); r.Interface == nil {
				return fmt.Errorf("gateway %v is not on any link: %w", r.Gateway, syscall.ENETUNREACH)
			}
		}
		r.Gateway = r.Gateway.WithZone("")
		if r.Interface == nil {
			return fmt.Errorf("route to %v has neither gateway nor interface: %w", r.Dst, syscall.EINVAL)
		}
		if slices.ContainsFunc(c.routes, func(o Route) bool {
			return o.Dst == r.Dst && o.Gateway == r.Gateway && o.Interface == r.Interface
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

// DelRoute removes the routes that match Dst and, where they are set, Gateway
// and Interface. ESRCH when there is none.
func (s *Stack) DelRoute(r Route) error {
	r.Dst, r.Gateway = r.Dst.Masked(), r.Gateway.WithZone("")
	return s.delRoute(r, func(o Route) bool {
		return o.Dst == r.Dst && (!r.Gateway.IsValid() || o.Gateway == r.Gateway) &&
			(r.Interface == nil || o.Interface == r.Interface)
	})
}

// forgetRoute removes a route that a router advertisement brought, and no
// other like it.
func (s *Stack) forgetRoute(r Route) {
	s.delRoute(r, func(o Route) bool {
		return o.auto && o.Dst == r.Dst && o.Gateway == r.Gateway && o.Interface == r.Interface
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

// Routes returns the routing table in the order in which it is searched.
func (s *Stack) Routes() []Route { return slices.Clone(s.cfg.Load().routes) }

// byAddrAny reports whether an address is one of ours.
func (c *config) byAddrAny(a netip.Addr) bool {
	return slices.ContainsFunc(c.addrs, func(x *address) bool { return x.addr() == a })
}

// onLink returns the interface on whose link addr lies, or nil.
func (c *config) onLink(addr netip.Addr) *Interface {
	if z := addr.Zone(); z != "" {
		return c.named(z)
	}
	for _, a := range c.addrs {
		if a.onLink(addr) {
			return a.iface
		}
	}
	for _, r := range c.routes {
		if !r.Gateway.IsValid() && !r.Interface.loopback && r.Dst.Contains(addr) && r.Dst.Bits() > 0 {
			return r.Interface
		}
	}
	return nil
}

func (c *config) named(name string) *Interface {
	for _, i := range c.ifaces {
		if i.name == name {
			return i
		}
	}
	return nil
}

// local returns the record of one of our addresses, whatever interface it is
// on: a host answers for all of them on any interface, the weak host model of
// RFC 1122 §3.3.4.2 that Linux follows. Link-local addresses belong to their
// link and are only matched there.
func (c *config) local(dst netip.Addr, in *Interface) *address {
	a := c.byAddr[dst]
	if a == nil {
		// All of 127/8 is this host (RFC 1122 §3.2.1.3 g).
		if dst.Is4() && dst.IsLoopback() && in != nil && in.loopback {
			return c.byAddr[loopback4]
		}
		return nil
	}
	if in != nil && !in.loopback && dst.IsLinkLocalUnicast() && dst.Is6() && a.iface != in {
		return nil
	}
	return a
}

// broadcast reports whether a is a broadcast address on any interface.
func (c *config) broadcast(a netip.Addr) bool { return c.isBroadcast(a, nil) }

// isBroadcast reports whether dst is the limited broadcast address or that of
// a prefix of interface i, nil for any (RFC 1122 §3.2.1.3, RFC 919).
func (c *config) isBroadcast(dst netip.Addr, i *Interface) bool {
	if !dst.Is4() {
		return false
	}
	if dst == limitedBroadcast {
		return true
	}
	for _, a := range c.addrs {
		if (i == nil || a.iface == i) && a.prefix.Addr().Is4() && ipv4.Broadcast(a.prefix) == dst {
			return true
		}
	}
	return false
}
