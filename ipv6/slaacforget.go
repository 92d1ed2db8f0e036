package ipv6

import (
	"net/netip"
	"slices"
)

// This file owns what the host does not have although the core has told it to:
// it could not be added, or its user has taken it away. The core forgets it, so
// that the next advertisement brings it anew, as on Linux, and not only the one
// after the end of its lifetime.

// AddressGone says that the host does not have an address.
func (s *SLAAC) AddressGone(a netip.Addr) {
	s.addresses = slices.DeleteFunc(s.addresses, func(x slaacAddress) bool { return x.prefix.IsValid() && x.prefix.Addr() == a })
	s.updateDeadline()
}

// RouteGone says that the host does not have a route; without a router it is an
// on-link prefix.
func (s *SLAAC) RouteGone(dst netip.Prefix, router netip.Addr) {
	if !router.IsValid() {
		s.onLink = slices.DeleteFunc(s.onLink, func(o slaacOnLink) bool { return o.prefix == dst })
	} else {
		s.routes = slices.DeleteFunc(s.routes, func(r slaacRoute) bool { return r.dst == dst && r.router == router })
	}
	s.updateDeadline()
}
