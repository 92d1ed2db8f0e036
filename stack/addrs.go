package stack

// This file owns the addresses as a user controls them, and which of the IPv4
// addresses of an interface are primary. An address whose prefix another one on
// the interface already has is secondary, as on Linux: it receives, and may be
// bound to, but is not chosen as a source, and takes the other's place when
// that goes (Linux's promote_secondaries, which most systems turn on). How
// addresses are claimed is in addr.go.

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/internal/mono"
)

// Addr is what is known of an address of an interface.
type Addr struct {
	Interface *Interface
	// Prefix is the address with the length of the prefix that is on its link.
	Prefix netip.Prefix
	// Tentative: it is being probed, and may not be used yet.
	Tentative bool
	// Optimistic says that it is being probed, and is used all the same (RFC 4429).
	Optimistic bool
	// Deprecated says that it is not for new connections (RFC 4862 §5.5.4).
	Deprecated bool
	// Secondary: of IPv4, another address of the interface has the same prefix.
	Secondary bool
	// Temporary: of IPv6, one of those that take turns (RFC 8981).
	Temporary bool
	// Preferred and Valid are when the lifetimes end that its maker gave it, on
	// the stack's clock; 0: never. It is the maker who ends it.
	Preferred, Valid mono.Time
	// Origin says who has made it.
	Origin Origin
}

// String formats an address as `ip address` does.
func (a Addr) String() string {
	s := a.Prefix.String()
	if a.Interface != nil {
		s += " dev " + a.Interface.name
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{a.Secondary, "secondary"}, {a.Tentative, "tentative"}, {a.Optimistic, "optimistic"}, {a.Deprecated, "deprecated"}, {a.Temporary, "temporary"}} {
		if f.on {
			s += " " + f.name
		}
	}
	if a.Origin != OriginStatic {
		s += " proto " + a.Origin.String()
	}
	return s
}

func (a *address) public() Addr {
	preferred, valid := a.life.ends()
	return Addr{Interface: a.iface, Prefix: a.prefix, Tentative: a.state == addrTentative, Optimistic: a.optimistic, Deprecated: a.deprecated,
		Secondary: a.secondary, Origin: a.origin, Temporary: a.temporary, Preferred: preferred, Valid: valid}
}

// Addrs is the control of the addresses of all interfaces.
type Addrs struct{ s *Stack }

// Addrs returns the control of the addresses.
func (s *Stack) Addrs() Addrs { return Addrs{s} }

// Add gives a.Interface the address a.Prefix from a.Origin; the other fields
// are not read. See Interface.AddAddr.
func (t Addrs) Add(a Addr) error { return a.Interface.addAddress(a) }

// Remove takes an address away from an interface. See Interface.DelAddr.
func (t Addrs) Remove(i *Interface, a netip.Addr) error { return i.DelAddr(a) }

// List returns the addresses of all interfaces, tentative ones among them, in
// the order in which sources are looked for.
func (t Addrs) List() []Addr {
	var list []Addr
	for _, a := range t.s.cfg.Load().addrs {
		list = append(list, a.public())
	}
	return list
}

// sharesPrefix reports whether two addresses are, but for their order, a
// primary and a secondary one.
func (a *address) sharesPrefix(b *address) bool {
	return a.iface == b.iface && a.addr().Is4() && a.prefix.Masked() == b.prefix.Masked()
}

// primary returns the address in whose place a secondary one is, or a itself.
func (c *config) primary(a *address) *address {
	if a.secondary {
		if n := slices.IndexFunc(c.addrs, func(x *address) bool { return !x.secondary && a.sharesPrefix(x) }); n >= 0 {
			return c.addrs[n]
		}
	}
	return a
}

// addAddr adds an address to a configuration under construction.
func (c *config) addAddr(a *address) {
	a.secondary = slices.ContainsFunc(c.addrs, a.sharesPrefix)
	c.addrs = append(c.addrs, a)
}

// delAddr takes one away. The eldest secondary address of a primary one becomes
// primary, and the last of those, as on Linux.
func (c *config) delAddr(a *address) {
	c.addrs = slices.DeleteFunc(c.addrs, func(x *address) bool { return x == a })
	if a.secondary {
		return
	}
	if n := slices.IndexFunc(c.addrs, a.sharesPrefix); n >= 0 {
		next := *c.addrs[n]
		next.secondary = false
		c.addrs = append(slices.Delete(c.addrs, n, n+1), &next)
	}
}
