package stack

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// config is what the data path needs to know of addresses and routes. It is
// immutable: a change makes a new one and swaps the pointer.
type config struct {
	gen    uint64 // grows with every change, so that cached routes notice
	ifaces []*Interface
	addrs  []*address // in order of assignment
	routes []Route    // longest prefix first, then lowest metric
	byAddr map[netip.Addr]*address

	policies *ipv6.Policies // RFC 6724 §2.1
	dead     []deadGateway  // those that failed last are last
	// sharing spreads destinations over routers that are equally good (RFC 4311).
	sharing *[16]byte // the secret it is done with, nil: not done
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
	// optimistic: in use although it is still being probed (RFC 4429).
	optimistic bool
	// deprecated: valid, but not for new connections (RFC 4862 §5.5.4).
	deprecated bool
	// secondary: of IPv4, there is another address with this prefix on the
	// interface, which is the source in its place.
	secondary bool
	// origin says who has made it, and takes it away. The prefix of one that
	// SLAAC made says nothing about what is on the link (RFC 5942 §3):
	// advertised prefixes become routes.
	origin Origin
	// temporary: made by RFC 8981, not for who wants to be found.
	temporary bool
	life      *lifetimes   // its own, however often the record is replaced
	routers   []netip.Addr // that advertise its prefix (RFC 8028)
}

// by reports whether packets from the address are to leave by a gateway: it
// has advertised the prefix of the address, or is in it.
func (a *address) by(gateway netip.Addr) bool {
	return slices.Contains(a.routers, gateway) || a.onLink(gateway)
}

// onLink reports whether dst is a neighbour because of this address.
func (a *address) onLink(dst netip.Addr) bool {
	return a.origin != OriginRouter && !a.iface.loopback && a.prefix.Contains(dst)
}

func (a *address) addr() netip.Addr { return a.prefix.Addr() }

// update replaces the configuration by what change makes of a copy.
func (s *Stack) update(change func(c *config) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.cfg.Load()
	c := &config{gen: old.gen + 1, ifaces: slices.Clone(old.ifaces), addrs: slices.Clone(old.addrs), routes: slices.Clone(old.routes), policies: old.policies, dead: old.dead, sharing: old.sharing}
	if err := change(c); err != nil {
		return err
	}
	if len(c.dead) > 0 {
		c.dead = slices.DeleteFunc(slices.Clone(c.dead), func(d deadGateway) bool { return !c.isGateway(d) })
	}
	slices.SortStableFunc(c.routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cmp.Compare(a.Metric, b.Metric), cmp.Compare(b.Preference, a.Preference))
	})
	c.byAddr = make(map[netip.Addr]*address, len(c.addrs))
	for _, a := range c.addrs {
		if c.byAddr[a.addr()] == nil {
			c.byAddr[a.addr()] = a
		}
	}
	s.cfg.Store(c)
	s.watches.compareLocked(old, c)
	return nil
}

// byAddrAny reports whether an address is one of ours.
func (c *config) byAddrAny(a netip.Addr) bool {
	return slices.ContainsFunc(c.addrs, func(x *address) bool { return x.addr() == a })
}

// ours reports whether an address is one of ours to who looks from interface i,
// nil for the whole host: on another link a neighbour may have a link-local one
// of ours (RFC 4007 §6).
func (c *config) ours(a netip.Addr, i *Interface) bool {
	if i != nil && !i.loopback && a.Is6() && a.IsLinkLocalUnicast() {
		return c.byAddrIn(a, i)
	}
	return c.byAddrAny(a)
}

// onLink returns the interface on whose link addr lies, or nil.
func (c *config) onLink(addr netip.Addr) *Interface {
	if z := addr.Zone(); z != "" {
		return c.zoneNamed(z)
	}
	for _, i := range c.ifaces {
		if c.isNeighbour(addr, i) {
			return i
		}
	}
	return nil
}

// isNeighbour reports whether a lies on the link of interface i, by one of its
// addresses or by a route.
func (c *config) isNeighbour(a netip.Addr, i *Interface) bool {
	return slices.ContainsFunc(c.addrs, func(x *address) bool { return x.iface == i && x.onLink(a) }) ||
		slices.ContainsFunc(c.routes, func(r Route) bool {
			return r.Interface == i && r.Type == RouteUnicast && !r.Gateway.IsValid() && !i.loopback && r.Dst.Contains(a)
		})
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
		return c.addrOf(dst, in) // links of equal MAC addresses have equal ones
	}
	return a
}

// addrOf returns the record of an address of interface i, or nil.
func (c *config) addrOf(a netip.Addr, i *Interface) *address {
	if n := slices.IndexFunc(c.addrs, func(x *address) bool { return x.addr() == a && x.iface == i }); n >= 0 {
		return c.addrs[n]
	}
	return nil
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
