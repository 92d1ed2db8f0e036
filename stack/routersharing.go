package stack

import (
	"net/netip"

	"github.com/tapstack/tapstack/internal/siphash"
)

// This file owns how load is shared between routers (RFC 4311): of IPv6 routes
// that nothing tells apart each has its part of the destinations. Whose part one
// is in is decided by a hash of destination and gateway with the stack's secret,
// the highest wins: so a destination keeps its router as long as that is there,
// whichever others come and go, and nobody can choose destinations that all
// burden the same one (§3). It is not done unless somebody asks: a router that
// comes takes over destinations that are in use, and where the routers keep state
// their connections end. RFC 4311 §2 leaves the default open, and Linux sends all
// by one.

// SetRouterSharing has destinations spread over routers that are equally good
// (RFC 4311): routes to the same prefix by the same interface, of equal metric and
// preference, whose gateways answer, or are not known not to. An address whose
// prefix some of them advertise has its packets leave by those (RFC 8028). Off
// at first.
func (s *Stack) SetRouterSharing(on bool) {
	s.update(func(c *config) error {
		c.sharing = nil
		if on {
			c.sharing = &s.secret
		}
		return nil
	})
}

// RouterSharing reports what SetRouterSharing has set.
func (s *Stack) RouterSharing() bool { return s.cfg.Load().sharing != nil }

// shared returns the route for dst of those that are as good as the one at n, the
// first of them; own is the address that packets come from, if it is known.
func (c *config) shared(n int, dst netip.Addr, own *address) *Route {
	first := &c.routes[n]
	best, most := first, uint64(0)
	for i := n + 1; i < len(c.routes); i++ {
		t := &c.routes[i]
		if t.Dst.Bits() != first.Dst.Bits() || t.Metric != first.Metric || t.Preference != first.Preference {
			break // they are sorted by these
		}
		if t.Dst != first.Dst || t.Type != RouteUnicast || t.Interface != first.Interface || !t.Gateway.IsValid() || c.deadSince(t) != 0 ||
			own != nil && own.by(t.Gateway) != own.by(first.Gateway) {
			continue
		}
		if best == first && most == 0 {
			most = c.weight(dst, first.Gateway)
		}
		if w := c.weight(dst, t.Gateway); w > most {
			best, most = t, w
		}
	}
	return best
}

// weight is what a gateway has to say for a destination.
func (c *config) weight(dst, gateway netip.Addr) uint64 {
	var b [33]byte // no other use of the secret has this length
	b[0] = 'R'
	d, g := dst.As16(), gateway.As16()
	copy(b[1:], d[:])
	copy(b[17:], g[:])
	return siphash.Sum64(*c.sharing, b[:])
}
