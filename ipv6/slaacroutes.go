package ipv6

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the default router list and the routes that routers advertise
// (RFC 4861 §6.3.4, RFC 4191), and the prefix list.

// defaultRoute is the destination of default routers.
var defaultRoute = netip.PrefixFrom(netip.IPv6Unspecified(), 0)

// slaacRoute is a way to dst. Those to ::/0 are the default routers.
type slaacRoute struct {
	dst    netip.Prefix
	router netip.Addr
	prefer Preference
	valid  mono.Time // 0: for ever
}

type slaacOnLink struct {
	prefix netip.Prefix
	valid  mono.Time // 0: for ever
}

// inputRouter keeps what an advertisement says of its sender as a router.
func (s *SLAAC) inputRouter(now mono.Time, src netip.Addr, ra *RouterAdvert) {
	lifetime, prefer := ra.Lifetime, ra.Preference
	for _, r := range ra.Routes {
		if r.Prefix.Bits() == 0 {
			// RFC 4191 §3.1: it stands for what the header says.
			lifetime, prefer = r.Lifetime, r.Preference
		}
	}
	if g := &s.cfg.Ignore; !g.Routers && !g.short(lifetime) {
		s.setRoute(now, defaultRoute, src, prefer, lifetime)
	}
	if lifetime > 0 {
		s.answered()
	}
	for _, r := range ra.Routes {
		if r.Prefix.Bits() > 0 {
			s.setRoute(now, r.Prefix, src, r.Preference, r.Lifetime)
		}
	}
}

// RouterGone takes a off the default router list: its neighbour advertisement
// says that it is no router any more (RFC 4861 §7.2.5). Routes through it go
// as well.
func (s *SLAAC) RouterGone(now mono.Time, a netip.Addr) {
	for i := 0; i < len(s.routes); {
		if r := s.routes[i]; r.router == a {
			s.setRoute(now, r.dst, a, r.prefer, 0)
			continue
		}
		i++
	}
	s.forgetAdvertiser(a)
	s.updateDeadline()
}

// setRoute keeps one route.
func (s *SLAAC) setRoute(now mono.Time, dst netip.Prefix, router netip.Addr, prefer Preference, lifetime time.Duration) {
	i := slices.IndexFunc(s.routes, func(r slaacRoute) bool { return r.router == router && r.dst == dst })
	switch {
	case lifetime == 0:
		if i >= 0 {
			s.routes = slices.Delete(s.routes, i, i+1)
			s.host.RemoveRoute(dst, router)
		}
	case i >= 0:
		r := &s.routes[i]
		r.valid = after(now, lifetime)
		if r.prefer != prefer {
			r.prefer = prefer
			s.host.SetRoute(dst, router, prefer)
		}
	case s.roomForRoute(dst):
		s.routes = append(s.routes, slaacRoute{dst, router, prefer, after(now, lifetime)})
		s.host.SetRoute(dst, router, prefer)
	default:
		s.host.Refused(DropRouteLimit)
	}
}

// roomForRoute reports whether there is place for one more: default routers
// have their own, which a router with many routes does not take.
func (s *SLAAC) roomForRoute(dst netip.Prefix) bool {
	routers := 0
	for _, r := range s.routes {
		if r.dst == defaultRoute {
			routers++
		}
	}
	if dst == defaultRoute {
		return routers < MaxRouters
	}
	return len(s.routes)-routers < MaxRoutes
}

// inputOnLink keeps the prefix list (RFC 4861 §6.3.4).
func (s *SLAAC) inputOnLink(now mono.Time, p *PrefixInfo) {
	i := slices.IndexFunc(s.onLink, func(o slaacOnLink) bool { return o.prefix == p.Prefix })
	switch {
	case p.Valid == 0:
		if i >= 0 {
			s.onLink = slices.Delete(s.onLink, i, i+1)
			s.host.RemoveOnLink(p.Prefix)
		}
	case i >= 0:
		s.onLink[i].valid = after(now, p.Valid)
	case len(s.onLink) < MaxOnLink:
		s.onLink = append(s.onLink, slaacOnLink{p.Prefix, after(now, p.Valid)})
		s.host.AddOnLink(p.Prefix)
	default:
		s.host.Refused(DropRouteLimit)
	}
}

// expireRoutes ends what has not been advertised again (RFC 4861 §6.3.5).
func (s *SLAAC) expireRoutes(now mono.Time) {
	s.routes = slices.DeleteFunc(s.routes, func(r slaacRoute) bool {
		due := r.valid.Due(now)
		if due {
			s.host.RemoveRoute(r.dst, r.router)
		}
		return due
	})
	s.onLink = slices.DeleteFunc(s.onLink, func(o slaacOnLink) bool {
		due := o.valid.Due(now)
		if due {
			s.host.RemoveOnLink(o.prefix)
		}
		return due
	})
}
