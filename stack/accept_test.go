package stack_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestNoSLAAC: without the setting a host asks no router and takes nothing of what
// one advertises, as with Linux's accept_ra=0.
func TestNoSLAAC(t *testing.T) {
	for _, on := range []bool{false, true} {
		h := newBare(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true, SLAAC: on})
		asked := only(h.watch(h.n.Now(), 20*time.Second), func(s string) bool { return strings.Contains(s, " RS ") })
		if (len(asked) > 0) != on {
			t.Errorf("on %v: %d solicitations", on, len(asked))
		}
		routes := len(h.s.Routes().List())
		ra := ipv6.RouterAdvert{HopLimit: 33, Managed: true, Other: true, Lifetime: time.Hour, MTU: 1400, Portal: "https://portal.example/", Flags: ipv6.RASNAC,
			Prefixes: autoPrefix("2001:db8:1::/64", time.Hour, time.Hour), Routes: []ipv6.RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:9::/48"), Lifetime: time.Hour}},
			RDNSS: []ipv6.DNSServer{{Addr: netip.MustParseAddr("2001:db8::53"), Lifetime: time.Hour}}, DNSSL: []ipv6.DNSDomain{{Name: "example.org", Lifetime: time.Hour}}}
		h.send(icmp6(255, routerLL, ipv6.AllNodes, ra.Append(nil)))
		h.run(2 * time.Second)
		got := h.i.Advertised()
		mtu, hops := h.i.Link6()
		servers, search := h.i.NameServers()
		taken := []bool{len(h.i.Addrs()) > 1, len(h.s.Routes().List()) > routes, mtu == 1400, hops == 33, got.Managed || got.Other, got.Portal != "", len(got.Routers) > 0, len(servers)+len(search) > 0}
		if slices.Contains(taken, !on) {
			t.Errorf("on %v: taken: addresses, routes, MTU, hop limit, M or O, portal, flags, names: %v", on, taken)
		}
	}
}

// TestStaticWithoutRouter: an address that somebody enters is ready when its
// detection is over, within its second, though no router answers (RFC 4862 §5.4).
func TestStaticWithoutRouter(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{SLAAC: true})
	a := h.add("fd77::7/64")
	began := h.n.Now()
	for h.i.Ready(atOnce) != nil && h.n.Now().Sub(began) < 10*time.Second {
		h.run(10 * time.Millisecond)
	}
	if took := h.n.Now().Sub(began); took > time.Second {
		t.Errorf("ready after %v", took)
	}
	if err := h.i.WaitUsable(atOnce, a); err != nil || len(h.i.Addrs()) != 2 {
		t.Errorf("%v: %v", h.i.Addrs(), err)
	}
}

// TestDuplicateLater: who claims an address when it is assigned already does not
// take it away, as on Linux: two forged packets must not take a host down. It is
// counted, and the other one's probe is answered.
func TestDuplicateLater(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{})
	a := h.add("fd77::7/64")
	h.run(3 * time.Second)
	if !hasAddr(h.i, "fd77::7/64") {
		t.Fatal("not assigned")
	}
	for range 3 {
		h.send(icmp6(255, routerLL, ipv6.AllNodes, (&ipv6.NeighborAdvert{Target: a, Override: true, TargetMAC: peerMAC, HasMAC: true}).Append(nil)))
	}
	h.run(time.Minute)
	if n := h.count("nd.conflict"); n != 3 {
		t.Errorf("%d conflicts counted", n)
	}
	if err := h.i.Ready(atOnce); err != nil || !hasAddr(h.i, "fd77::7/64") {
		t.Errorf("%v: %v", h.i.Addrs(), err)
	}
	// Another host's probe is answered with what it needs to give up (RFC 4862 §5.4.3).
	out := h.send(solicit(netip.IPv6Unspecified(), a, ether.Multicast(ipv6.SolicitedNode(a)), false))
	if len(out) != 1 || !strings.Contains(describe(out[0]), "NeighborAdvertisement") {
		t.Errorf("%d answers to a probe", len(out))
	}
}
