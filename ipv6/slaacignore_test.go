package ipv6

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestIgnore: each setting leaves its part of an advertisement aside, and no
// other.
func TestIgnore(t *testing.T) {
	ra := RouterAdvert{HopLimit: 5, Lifetime: time.Hour, MTU: 1400,
		Prefixes: []PrefixInfo{{netip.MustParsePrefix("2001:db8::/64"), true, true, 2 * time.Hour, time.Hour}},
		Routes:   []RouteInfo{{netip.MustParsePrefix("2001:db8:5::/48"), PreferMedium, time.Hour}},
		RDNSS:    []DNSServer{{netip.MustParseAddr("2001:db8::53"), time.Hour}}}
	const hops, router, mtu, link, addr, route, names = "hop limit 5", "router fe80", "mtu 1400", "on-link", "add 2001", "route 2001:db8:5", "2001:db8::53"
	all := []string{hops, router, mtu, link, addr, route, names}
	for _, c := range []struct {
		g       RAIgnore
		without []string
	}{
		{RAIgnore{}, nil},
		{RAIgnore{Routers: true}, []string{router}},
		{RAIgnore{Routes: true}, []string{route}},
		{RAIgnore{Prefixes: true}, []string{link, addr}},
		{RAIgnore{Addresses: true}, []string{addr}},
		{RAIgnore{MTU: true}, []string{mtu}},
		{RAIgnore{Names: true}, []string{names}},
		{RAIgnore{MinHopLimit: 5}, nil},
		{RAIgnore{MinHopLimit: 6}, []string{hops}},
		{RAIgnore{MinLifetime: time.Hour}, nil},
		{RAIgnore{MinLifetime: time.Hour + 1}, []string{router, route}},
		{RAIgnore{MinLifetime: 3 * time.Hour}, []string{router, route, link, addr}},
	} {
		n := newSLAAC()
		n.cfg.Ignore = c.g
		n.Start(n.now)
		n.Input(n.now, netip.MustParseAddr("fe80::1"), &ra)
		log := strings.Join(n.log, "\n")
		for _, x := range all {
			want := true
			for _, w := range c.without {
				want = want && w != x
			}
			if strings.Contains(log, x) != want {
				t.Errorf("%+v: %q is there: %v\n%s", c.g, x, !want, log)
			}
		}
		// A lifetime of 0 ends a router whatever is too short.
		if c.g.MinLifetime != 0 {
			n.log = nil
			n.setRoute(n.now, defaultRoute, netip.MustParseAddr("fe80::1"), PreferMedium, time.Hour)
			n.Input(n.now, netip.MustParseAddr("fe80::1"), &RouterAdvert{})
			if slices.ContainsFunc(n.routes, func(r slaacRoute) bool { return r.dst == defaultRoute }) {
				t.Errorf("%+v: %v", c.g, n.routes)
			}
		}
	}
	if len(ra.Prefixes) != 1 || !ra.Prefixes[0].Autonomous {
		t.Error("the advertisement was changed")
	}
}
