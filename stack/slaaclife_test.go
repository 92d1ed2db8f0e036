package stack_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestEndOfLifetimeTellsSockets: an address whose valid lifetime is over takes
// connections with it, and its datagram sockets hear of it, as of the end of a
// lease (RFC 4862 §5.5.4).
func TestEndOfLifetimeTellsSockets(t *testing.T) {
	h := newSLAAC(t)
	h.send(routerAdvert(t, 1800, 0, 0, prefixOption{"2001:db8:1::/64", onLinkAuto, 3600, 1800}))
	var own netip.Addr
	for _, p := range h.i.Addrs() {
		if !p.Addr().IsLinkLocalUnicast() {
			own = p.Addr()
		}
	}
	bound, connected, wild := newUDP(t, h.s), newUDP(t, h.s), newUDP(t, h.s)
	if err := bound.Bind(netip.AddrPortFrom(own, 9)); err != nil {
		t.Fatal(err)
	}
	if err := connected.Connect(addrPort("[2001:db8:1::9]:9")); err != nil {
		t.Fatal(err)
	}
	if err := wild.Bind(addrPort("[::]:10")); err != nil {
		t.Fatal(err)
	}
	h.run(3599 * time.Second)
	if err := bound.TakeError(); err != nil || !hasAddr(h.i, netip.PrefixFrom(own, 64).String()) {
		t.Fatalf("before the end: %v, %v", err, h.i.Addrs())
	}
	h.run(2 * time.Second)
	if err := bound.TakeError(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("the bound socket: %v", err)
	}
	if err := connected.TakeError(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("the connected socket: %v", err)
	}
	if err := wild.TakeError(); err != nil {
		t.Errorf("a socket of no address: %v", err)
	}
}

// TestRepeatedAdvertisement: an advertisement that says what the last one said
// of the link is no news to anybody.
func TestRepeatedAdvertisement(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{})
	r := l.router(1)
	l.n.RunFor(2 * time.Second)
	ra := ipv6.RouterAdvert{Lifetime: time.Hour, HopLimit: 60, MTU: 1400, Retrans: time.Second, RDNSS: []ipv6.DNSServer{{Addr: r.ll, Lifetime: time.Hour}}}
	r.advertise(ra)
	told := 0
	defer l.i.Observe(func() { told++ })()
	was := l.s.Generation()
	for range 10 {
		r.advertise(ra)
	}
	if got := l.s.Generation(); got != was || told != 0 {
		t.Errorf("%d new configurations, observers called %d times", got-was, told)
	}
	ra.MTU = 1300
	r.advertise(ra)
	if mtu, _ := l.i.Link6(); l.s.Generation() == was || mtu != 1300 {
		t.Errorf("MTU %d", mtu)
	}
}

// TestOrderOfDecisions: what a timer decides is carried out after what was decided
// before, although somebody else is still at that: else a prefix that ends while
// the advertisement is being applied would stay for ever.
func TestOrderOfDecisions(t *testing.T) {
	h := newSLAAC(t)
	applied, ended := make(chan bool), make(chan bool)
	defer h.i.Observe(func() {
		if h.i.Advertised().Portal != "" && applied != nil {
			close(applied)
			applied = nil
			<-ended
		}
	})()
	const pfx = "2001:db8:1::/64"
	waits, done := applied, make(chan bool)
	go func() {
		defer close(done)
		m := ipv6.RouterAdvert{Portal: "https://portal.example", Prefixes: []ipv6.PrefixInfo{{Prefix: netip.MustParsePrefix(pfx), OnLink: true, Valid: 10 * time.Second, Preferred: 10 * time.Second}}}
		h.d.inject(icmp6(255, routerLL, ipv6.AllNodes, m.Append(nil)))
	}()
	<-waits
	h.n.RunFor(11 * time.Second) // the prefix ends
	close(ended)
	<-done
	if hasRoute(h.s, pfx, netip.Addr{}) {
		t.Errorf("routes %v", h.s.Routes().List())
	}
	h.n.RunFor(time.Second)
	h.d.take()
}
