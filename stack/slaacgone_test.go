package stack_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestAdvertisedAgain: an address or a route of an advertisement that its user
// takes away comes back with the next one, as on Linux; what the user has given
// himself, and takes away, too.
func TestAdvertisedAgain(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	r := l.router(1)
	l.n.RunFor(2 * time.Second)
	const pfx = "2001:db8:1::/64"
	m := ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(pfx, time.Hour, time.Hour),
		Routes: []ipv6.RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:5::/48"), Lifetime: time.Hour}}}
	r.advertise(m)
	whole := func() bool {
		return len(l.addrs(pfx)) == 1 && hasRoute(l.s, "::/0", r.ll) && hasRoute(l.s, pfx, netip.Addr{}) && hasRoute(l.s, "2001:db8:5::/48", r.ll)
	}
	if !whole() {
		t.Fatalf("%v %v", l.addrs(pfx), l.s.Routes().List())
	}
	own := l.addrs(pfx)[0]
	for _, do := range []func() error{
		func() error { return l.i.DelAddr(own.Prefix.Addr()) },
		func() error { return l.s.DelRoute(stack.Route{Dst: netip.MustParsePrefix("::/0")}) },
		func() error { return l.s.DelRoute(stack.Route{Dst: netip.MustParsePrefix(pfx)}) },
		func() error { return l.s.DelRoute(stack.Route{Dst: netip.MustParsePrefix("2001:db8:5::/48")}) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if whole() {
			t.Error("it is still there")
		}
		r.advertise(m)
		if !whole() {
			t.Errorf("it has not come back: %v %v", l.addrs(pfx), l.s.Routes().List())
		}
	}

	// The user gives the same address, and then takes it away.
	if err := errors.Join(l.i.DelAddr(own.Prefix.Addr()), l.i.AddAddr(own.Prefix)); err != nil {
		t.Fatal(err)
	}
	r.advertise(m)
	if x := l.addrs(pfx); len(x) != 1 || x[0].Origin != stack.OriginStatic {
		t.Errorf("the user's: %v", x)
	}
	if err := l.i.DelAddr(own.Prefix.Addr()); err != nil {
		t.Fatal(err)
	}
	r.advertise(m)
	if x := l.addrs(pfx); len(x) != 1 || x[0].Origin != stack.OriginRouter {
		t.Errorf("the router's: %v", x)
	}

	// A route of the user's by the same router goes; the router's own stays, and
	// still ends with its lifetime.
	mine := stack.Route{Dst: netip.MustParsePrefix("::/0"), Gateway: r.ll, Interface: l.i, Metric: 5}
	if err := errors.Join(l.s.AddRoute(mine), l.s.DelRoute(mine)); err != nil {
		t.Fatal(err)
	}
	l.n.RunFor(time.Hour)
	if hasRoute(l.s, "::/0", r.ll) || len(l.addrs(pfx)) != 0 {
		t.Errorf("after the lifetimes: %v %v", l.addrs(pfx), l.s.Routes().List())
	}
	for name, n := range l.s.Counters() {
		if n != 0 && (name == "nd.drop.address-limit" || name == "nd.drop.route-limit" || name == "nd.drop.not-added") {
			t.Errorf("%s %d", name, n)
		}
	}
}

// TestAdvertisedWithoutRoom: what cannot be added is counted, and tried again with
// the next advertisement.
func TestAdvertisedWithoutRoom(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	r := l.router(1)
	l.n.RunFor(2 * time.Second)
	// Fill what there is room for.
	var held []netip.Addr
	a := netip.MustParseAddr("2001:db8:f::1")
	for {
		if err := l.i.AddAddr(netip.PrefixFrom(a, 64)); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		held, a = append(held, a), a.Next()
	}
	var routes []stack.Route
	p := netip.MustParseAddr("2001:db8:e::")
	for {
		x := stack.Route{Dst: netip.PrefixFrom(p, 128), Interface: l.i}
		if err := l.s.AddRoute(x); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		routes, p = append(routes, x), p.Next()
	}
	const pfx = "2001:db8:1::/64"
	m := ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(pfx, time.Hour, time.Hour)}
	for n := range uint64(3) {
		r.advertise(m)
		c := l.s.Counters()
		// The router and the prefix on the link.
		if c["nd.drop.address-limit"] != n+1 || c["nd.drop.route-limit"] != 2*(n+1) || c["nd.drop.not-added"] != 0 {
			t.Errorf("%d %d %d", c["nd.drop.address-limit"], c["nd.drop.route-limit"], c["nd.drop.not-added"])
		}
	}
	if err := errors.Join(l.i.DelAddr(held[0]), l.s.DelRoute(routes[0]), l.s.DelRoute(routes[1])); err != nil {
		t.Fatal(err)
	}
	r.advertise(m)
	if len(l.addrs(pfx)) != 1 || !hasRoute(l.s, "::/0", r.ll) || !hasRoute(l.s, pfx, netip.Addr{}) {
		t.Errorf("there is room now: %v", l.addrs(pfx))
	}
}

// TestNewLifetimes: an advertisement that changes lifetimes only is no new
// configuration, so that no connection looks for its route again however many
// there are; who watches addresses is told.
func TestNewLifetimes(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64, TempAddrs: stack.TempAddrsPrefer})
	r := l.router(1)
	l.n.RunFor(2 * time.Second)
	const pfx = "2001:db8:1::/64"
	m := ipv6.RouterAdvert{Lifetime: time.Hour, HopLimit: 64, MTU: 1400, Prefixes: autoPrefix(pfx, 24*time.Hour, 2*time.Hour),
		Routes: []ipv6.RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:5::/48"), Lifetime: time.Hour}}}
	r.advertise(m)
	l.n.RunFor(time.Minute)
	stable := func() stack.Addr {
		for _, a := range l.addrs(pfx) {
			if !a.Temporary {
				return a
			}
		}
		t.Fatalf("addresses %v", l.addrs(pfx))
		return stack.Addr{}
	}
	was, before := l.s.Generation(), stable()
	w := l.s.Watch(stack.AddrChange|stack.RouteChange, 0)
	defer w.Close()
	for range 100 {
		r.advertise(m)
	}
	if got := l.s.Generation(); got != was {
		t.Errorf("%d new configurations", got-was)
	}
	after := stable()
	if took := 100 * 3 * time.Second; after.Preferred.Sub(before.Preferred) < took || after.Valid.Sub(before.Valid) < took {
		t.Errorf("lifetimes end at %v and %v, before at %v and %v", after.Preferred, after.Valid, before.Preferred, before.Valid)
	}
	c, err := w.TryNext()
	if err != nil || c.Kind != stack.AddrChange || c.Op != stack.Changed || c.Addr.Valid <= before.Valid {
		t.Errorf("told %v, %v", c, err)
	}
	// What does change is one.
	m.Prefixes[0].Preferred = 0
	r.advertise(m)
	if l.s.Generation() == was || !stable().Deprecated {
		t.Error("not deprecated")
	}
}
