package ipv6

import "time"

// This file owns what of router advertisements a host leaves aside because its
// owner says so: Linux's settings accept_ra_defrtr, accept_ra_pinfo, autoconf,
// accept_ra_mtu, accept_ra_min_hop_limit and accept_ra_min_lft. RFC 4861 §6.3.4
// would have all of it taken.

// RAIgnore is what is left aside. The zero value takes all.
type RAIgnore struct {
	// Routers learns no default routers; Routes no routes to other prefixes
	// (RFC 4191). Departs from Linux in the zero value: its
	// accept_ra_rt_info_max_plen leaves routes aside unless it is set.
	Routers, Routes bool
	// Prefixes takes no prefixes, neither as on-link nor for addresses;
	// Addresses makes no addresses for them.
	Prefixes, Addresses bool
	MTU, Names          bool
	// MinHopLimit is the least hop limit that is taken: a smaller one, of whoever
	// wants packets to die on their way, is none (CVE-2015-2922). Range 0 to 255;
	// Linux's default of 1 is that of 0 as well.
	MinHopLimit uint8
	// MinLifetime leaves routers, routes and prefixes aside whose lifetime is
	// shorter, but those that end at once.
	MinLifetime time.Duration
}

// short reports whether a lifetime is too short to be taken.
func (g *RAIgnore) short(d time.Duration) bool { return d != 0 && d < g.MinLifetime }

// strip returns an advertisement without what is left aside. It leaves ra as it
// is.
func (g *RAIgnore) strip(ra *RouterAdvert) *RouterAdvert {
	if *g == (RAIgnore{}) {
		return ra
	}
	x := *ra
	x.Prefixes, x.Routes = nil, nil
	if x.HopLimit < g.MinHopLimit {
		x.HopLimit = 0
	}
	if g.MTU {
		x.MTU = 0
	}
	if g.Names {
		x.RDNSS, x.DNSSL = nil, nil
	}
	for _, p := range ra.Prefixes {
		if g.Addresses {
			p.Autonomous = false
		}
		if !g.Prefixes && !g.short(p.Valid) {
			x.Prefixes = append(x.Prefixes, p)
		}
	}
	for _, r := range ra.Routes {
		// A route to ::/0 is the default router by another name (RFC 4191 §3.1).
		if ignored := r.Prefix.Bits() > 0 && g.Routes || r.Prefix.Bits() == 0 && g.Routers; !ignored && !g.short(r.Lifetime) {
			x.Routes = append(x.Routes, r)
		}
	}
	return &x
}
