package stack_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestObserve: an observer is called after each change of what it may act on,
// with no lock held, and not after it has stopped, be that from within.
func TestObserve(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{NoDAD: true})
	l.n.RunFor(2 * time.Second)
	r := l.router(1)
	calls, other := 0, 0
	stop := l.i.Observe(func() {
		calls++
		// Each takes a lock that an event may have come up under.
		l.s.Neighbours().List()
		l.s.SetPolicies(nil)
		l.i.Advertised()
	})
	var once func()
	once = l.i.Observe(func() { other++; once() })
	a := netip.MustParsePrefix("2001:db8:7::7/64")
	ra := ipv6.RouterAdvert{Lifetime: time.Hour}
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"an address", func() {
			if err := l.i.AddAddr(a); err != nil {
				t.Fatal(err)
			}
		}},
		{"a router", func() { r.advertise(ra) }},
		{"its flags", func() { ra.Managed = true; r.advertise(ra) }},
		{"name servers", func() { ra.RDNSS = []ipv6.DNSServer{{Addr: r.ll, Lifetime: time.Hour}}; r.advertise(ra) }},
		{"an address of a prefix", func() { ra.Prefixes = autoPrefix("2001:db8:8::/64", time.Hour, time.Hour); r.advertise(ra) }},
		{"the end of an address", func() {
			if err := l.i.DelAddr(a.Addr()); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		before := calls
		c.f()
		l.n.RunFor(0)
		if calls == before {
			t.Errorf("nobody heard of %s", c.name)
		}
	}
	if other != 1 {
		t.Errorf("called %d times, and had stopped in the first", other)
	}
	stop()
	was := calls
	if err := l.i.AddAddr(a); err != nil || calls != was {
		t.Errorf("called %d times after it stopped; %v", calls-was, err)
	}
	l.n.RunFor(time.Second) // what it has sent arrives
}

// TestNDCounters: what came and what was sent are told apart.
func TestNDCounters(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	sent := h.count("nd.advert")
	h.send(solicit(peerIP6, hostIP6, hostMAC, true))
	if h.count("nd.solicit-in") != 1 || h.count("nd.advert") != sent+1 || h.count("nd.advert-in") != 0 {
		t.Errorf("%v", h.s.Counters())
	}
	h.send(advert(peerIP6, hostIP6, true, true))
	if h.count("nd.advert") != sent+1 || h.count("nd.advert-in") != 1 {
		t.Errorf("%v", h.s.Counters())
	}
}
