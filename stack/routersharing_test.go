package stack_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// far returns the n-th of some destinations behind routers.
func far(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:9::%x", n+1)) }

// routersOf returns by which router each of 300 destinations is reached.
func routersOf(t *testing.T, s *stack.Stack, src netip.Addr) (list []netip.Addr) {
	t.Helper()
	for n := range 300 {
		w, err := s.Routes().Get(far(n), src, nil)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, w.NextHop)
	}
	return list
}

func shares(list []netip.Addr) map[netip.Addr]int {
	m := map[netip.Addr]int{}
	for _, a := range list {
		m[a]++
	}
	return m
}

// TestRouterSharing: RFC 4311: equal routers share the destinations, each of which
// keeps its router whichever others come and go; none of them has any when it is
// dead, or when another one is preferred.
func TestRouterSharing(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	a, b, c := l.router(1), l.router(2), l.router(3)
	l.n.RunFor(2 * time.Second)
	// A prefix that none of them advertises: the sources are equal to all.
	if err := l.i.AddAddr(netip.MustParsePrefix("2001:db8:77::7/64")); err != nil {
		t.Fatal(err)
	}
	ra := ipv6.RouterAdvert{Lifetime: time.Hour}
	a.advertise(ra)
	b.advertise(ra)
	if m := shares(routersOf(t, l.s, netip.Addr{})); m[a.ll] != 300 || l.s.RouterSharing() {
		t.Errorf("nobody has asked for it: %v", m)
	}
	l.s.SetRouterSharing(true)
	two := routersOf(t, l.s, netip.Addr{})
	if m := shares(two); m[a.ll] < 110 || m[b.ll] < 110 {
		t.Errorf("two routers: %v", m)
	}
	c.advertise(ra)
	three := routersOf(t, l.s, netip.Addr{})
	if m := shares(three); m[a.ll] < 60 || m[b.ll] < 60 || m[c.ll] < 60 {
		t.Errorf("three routers: %v", m)
	}
	for n := range three {
		if three[n] != two[n] && three[n] != c.ll {
			t.Fatalf("%v has gone from %v to %v", far(n), two[n], three[n])
		}
	}
	c.advertise(ipv6.RouterAdvert{})
	for n, r := range routersOf(t, l.s, netip.Addr{}) {
		if r != two[n] {
			t.Fatalf("%v has gone from %v to %v", far(n), two[n], r)
		}
	}

	// What is sent goes where the table says: a connection to each.
	for n := range 20 {
		u := newUDP(t, l.s)
		if err := u.SendTo([]byte("x"), netip.AddrPortFrom(far(n), 9)); err != nil {
			t.Fatal(err)
		}
	}
	l.n.RunFor(100 * time.Millisecond)
	if m := shares(two[:20]); a.got != m[a.ll] || b.got != m[b.ll] || a.got == 0 || b.got == 0 {
		t.Errorf("%d and %d packets, want %v", a.got, b.got, m)
	}

	// One dies: the other has all, until it is heard of again.
	b.dead = true
	u := newUDP(t, l.s)
	for began := l.n.Now(); l.n.Now().Sub(began) < time.Minute; l.n.RunFor(time.Second) {
		u.TakeError()
		for n := range 20 {
			u.SendTo([]byte("x"), netip.AddrPortFrom(far(n), 9))
		}
	}
	if m := shares(routersOf(t, l.s, netip.Addr{})); m[a.ll] != 300 {
		t.Errorf("one is dead: %v", m)
	}
	b.dead = false
	b.advertise(ra)
	l.n.RunFor(time.Second)
	u.SendTo([]byte("x"), netip.AddrPortFrom(b.ll.WithZone("eth0"), 9))
	l.n.RunFor(time.Minute)
	for n, r := range routersOf(t, l.s, netip.Addr{}) {
		if r != two[n] {
			t.Fatalf("%v goes by %v, not by %v", far(n), r, two[n])
		}
	}

	// RFC 4191: who is preferred has all.
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Preference: ipv6.PreferHigh})
	if m := shares(routersOf(t, l.s, netip.Addr{})); m[b.ll] != 300 {
		t.Errorf("one is preferred: %v", m)
	}
	b.advertise(ra)
	l.s.SetRouterSharing(false)
	if m := shares(routersOf(t, l.s, netip.Addr{})); len(m) != 1 {
		t.Errorf("switched off: %v", m)
	}
}

// TestRouterSharingOfPrefixes: RFC 8028: what comes from an address leaves by the
// routers that advertise its prefix, and is shared between those; the address of a
// new connection is one of the router that its destination has.
func TestRouterSharingOfPrefixes(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	a, b, c := l.router(1), l.router(2), l.router(3)
	l.n.RunFor(2 * time.Second)
	l.s.SetRouterSharing(true)
	one := ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix("2001:db8:a::/64", 10*time.Hour, 10*time.Hour)}
	a.advertise(one)
	b.advertise(one)
	c.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix("2001:db8:b::/64", 10*time.Hour, 10*time.Hour)})
	of := func(p string) netip.Addr { return ipv6.WithIID(netip.MustParsePrefix(p), ether.EUI64(hostMAC)) }
	if m := shares(routersOf(t, l.s, of("2001:db8:a::/64"))); m[a.ll] < 110 || m[b.ll] < 110 || m[c.ll] != 0 {
		t.Errorf("the prefix of two: %v", m)
	}
	if m := shares(routersOf(t, l.s, of("2001:db8:b::/64"))); m[c.ll] != 300 {
		t.Errorf("the prefix of one: %v", m)
	}
	all := routersOf(t, l.s, netip.Addr{})
	if m := shares(all); len(m) != 3 {
		t.Errorf("whoever: %v", m)
	}
	for n, r := range all {
		w, _ := l.s.Routes().Get(far(n), netip.Addr{}, nil)
		again, err := l.s.Routes().Get(far(n), w.Source, nil)
		if want := of("2001:db8:a::/64"); r == c.ll && w.Source != of("2001:db8:b::/64") || r != c.ll && w.Source != want || err != nil || again.NextHop != r {
			t.Fatalf("%v by %v from %v, then by %v (%v)", far(n), r, w.Source, again.NextHop, err)
		}
	}
}

// TestRouterSharingRedirect: a redirect is believed of the router that a
// destination has, and of no other; it holds for that destination.
func TestRouterSharingRedirect(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	a, b, c := l.router(1), l.router(2), l.router(3)
	l.n.RunFor(2 * time.Second)
	if err := l.i.AddAddr(netip.MustParsePrefix("2001:db8:77::7/64")); err != nil {
		t.Fatal(err)
	}
	a.advertise(ipv6.RouterAdvert{Lifetime: time.Hour})
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour})
	l.s.SetRouterSharing(true)
	list := routersOf(t, l.s, netip.Addr{})
	for n := range 20 {
		m := ipv6.Redirect{Target: c.ll, Destination: far(n), TargetMAC: c.mac, HasMAC: true}
		its, other := a, b
		if list[n] == b.ll {
			its, other = b, a
		}
		src, err := l.s.Routes().Get(far(n), netip.Addr{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		other.send(src.Source, hostMAC, m.Append(nil))
		l.n.RunFor(time.Millisecond)
		if w, _ := l.s.Routes().Get(far(n), netip.Addr{}, nil); w.NextHop != list[n] {
			t.Fatalf("%v goes by %v", far(n), w.NextHop)
		}
		its.send(src.Source, hostMAC, m.Append(nil))
		l.n.RunFor(time.Millisecond)
		if w, _ := l.s.Routes().Get(far(n), netip.Addr{}, nil); w.NextHop != c.ll {
			t.Fatalf("%v goes by %v after the redirect", far(n), w.NextHop)
		}
	}
	for n, r := range routersOf(t, l.s, netip.Addr{})[20:] {
		if r != list[20+n] {
			t.Fatalf("%v has gone with the others", far(20+n))
		}
	}
}

// TestRouterSharingAllocs: a look-up costs no memory.
func TestRouterSharingAllocs(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{})
	a, b := l.router(1), l.router(2)
	l.n.RunFor(2 * time.Second)
	a.advertise(ipv6.RouterAdvert{Lifetime: time.Hour})
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour})
	if err := l.i.AddAddr(netip.MustParsePrefix("2001:db8:77::7/64")); err != nil {
		t.Fatal(err)
	}
	l.n.RunFor(2 * time.Second)
	l.s.SetRouterSharing(true)
	src := netip.MustParseAddr("2001:db8:77::7")
	var dsts []netip.Addr
	for n := range 100 {
		dsts = append(dsts, far(n))
	}
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		n++
		if _, err := l.s.Routes().Get(dsts[n%100], src, nil); err != nil {
			t.Fatal(err)
		}
	}); got > 0 && !raceEnabled {
		t.Errorf("%v allocations", got)
	}
}
