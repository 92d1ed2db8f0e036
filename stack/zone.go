package stack

import (
	"net/netip"
	"slices"
	"strconv"
	"syscall"
)

// This file owns the zones of addresses (RFC 4007): a link-local address means
// something on one link only, and the zone says on which, by the interface's name
// or number. What zones do to sockets is as on Linux: they pin a socket to the
// interface. Departs from it where there is no zone and the host has one link
// only: then it is meant, where Linux refuses bind and connect (EINVAL). And groups
// of any scope may have a zone, as in RFC 4007 §5; Linux looks at link scope only.

// needsZone reports whether an address is one of a single link or interface. On
// unicast addresses of wider scope a zone says nothing, and is ignored, as by Linux.
func needsZone(a netip.Addr) bool {
	return a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast())
}

// zone returns the interface that an address names, nil where it names none.
// ENODEV when it is not there.
func (c *config) zone(a netip.Addr) (*Interface, error) {
	z := a.Zone()
	if z == "" || !needsZone(a) && !a.IsMulticast() {
		return nil, nil
	}
	if i := c.zoneNamed(z); i != nil {
		return i, nil
	}
	return nil, syscall.ENODEV
}

// zoneNamed finds an interface by name, or by number where none is called so (RFC
// 4007 §11.2).
func (c *config) zoneNamed(z string) *Interface {
	if i := c.named(z); i != nil {
		return i
	}
	n, err := strconv.ParseUint(z, 10, 31)
	if k := slices.IndexFunc(c.ifaces, func(i *Interface) bool { return i.index == int32(n) }); err == nil && k >= 0 {
		return c.ifaces[k]
	}
	return nil
}

// Zone returns the interface that the zone of an address names; nil without one,
// for an address that has the same meaning on all links, and for one that is not
// there.
func (s *Stack) Zone(a netip.Addr) *Interface {
	i, _ := s.cfg.Load().zone(a)
	return i
}

// isZoneNumber reports whether a zone is written as a number.
func isZoneNumber(z string) bool {
	_, err := strconv.ParseUint(z, 10, 31)
	return err == nil
}

// links counts the interfaces that lead somewhere and speak IPv6.
func (c *config) links() (n int) {
	for _, i := range c.ifaces {
		if !i.loopback && !i.noIPv6() {
			n++
		}
	}
	return n
}

// bindZone returns the interface that a bind to a pins a socket to that is pinned
// to dev, if it is. ENODEV for a zone that is not there, EINVAL where one is
// needed, EADDRNOTAVAIL where the interface has not the address.
func (s *Stack) bindZone(a netip.Addr, dev *Interface) (*Interface, error) {
	if !needsZone(a) {
		return dev, nil
	}
	c := s.cfg.Load()
	i, err := c.zone(a)
	if err != nil {
		return nil, err
	}
	if i == nil {
		i = dev
	}
	if a = a.WithZone(""); a.IsMulticast() {
		return i, nil
	}
	for _, x := range c.addrs {
		if i == nil && x.addr() == a && x.state != addrTentative {
			i = x.iface
			if slices.ContainsFunc(c.addrs, func(y *address) bool { return y.addr() == a && y.iface != i }) {
				return nil, syscall.EINVAL // whose?
			}
		}
	}
	if x := c.addrOf(a, i); x == nil || x.state == addrTentative {
		return nil, syscall.EADDRNOTAVAIL
	}
	return i, nil
}

// connectZone returns the interface that a connection to a leaves by whose socket
// is pinned to dev, if it is; nil: the routes say. EINVAL for another one than it is
// pinned to, or where several links may be meant.
func (s *Stack) connectZone(a netip.Addr, dev *Interface) (*Interface, error) {
	c := s.cfg.Load()
	i, err := c.zone(a)
	switch {
	case err != nil && isZoneNumber(a.Zone()):
		return nil, syscall.ENETUNREACH // as Linux, to which names are numbers
	case err != nil:
		return nil, err
	case i != nil && dev != nil && i != dev:
		return nil, syscall.EINVAL
	case i != nil:
		return i, nil
	case dev == nil && needsZone(a) && !a.IsMulticast() && c.links() > 1:
		return nil, syscall.EINVAL
	}
	return dev, nil
}

// inZone gives an address of one link its zone: interface i, or where that is nil
// or the loopback the one that has the address.
func (s *Stack) inZone(a netip.AddrPort, i *Interface) netip.AddrPort {
	ip := a.Addr()
	if !needsZone(ip) || ip.Zone() != "" {
		return a
	}
	if i == nil || i.loopback {
		if i = s.InterfaceOf(ip); i == nil {
			return a
		}
	}
	return netip.AddrPortFrom(ip.WithZone(i.name), a.Port())
}
