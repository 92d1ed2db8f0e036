package stack_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestRouterDNS: servers and domains of advertisements, for as long as they say
// (RFC 8106), and no more than there is room for.
func TestRouterDNS(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{SLAAC: true, NoDAD: true})
	h.run(time.Second)
	router := netip.MustParseAddr("fe80::1")
	advertise := func(m ipv6.RouterAdvert) {
		b := m.Append(nil)
		dst := netip.MustParseAddr("ff02::1")
		icmp.SetChecksum6(b, router, dst)
		h.send(ip6(ipv6.ProtoICMPv6, b, func(f *ipv6.Fields) { f.Src, f.Dst, f.HopLimit = router, dst, 255 }))
	}
	want := func(servers, search string) {
		t.Helper()
		a, b := h.i.NameServers()
		if fmt.Sprint(a) != servers || fmt.Sprint(b) != search {
			t.Errorf("%v %v, want %s %s", a, b, servers, search)
		}
	}
	want("[]", "[]")
	a, b := netip.MustParseAddr("fd77::53"), netip.MustParseAddr("fe80::53")
	advertise(ipv6.RouterAdvert{RDNSS: []ipv6.DNSServer{{Addr: a, Lifetime: time.Minute}, {Addr: b, Lifetime: ipv6.Infinite}},
		DNSSL: []ipv6.DNSDomain{{Name: "Lab.example", Lifetime: time.Minute}}})
	want("[fd77::53 fe80::53%eth0]", "[lab.example]")
	h.run(61 * time.Second)
	want("[fe80::53%eth0]", "[]")
	advertise(ipv6.RouterAdvert{RDNSS: []ipv6.DNSServer{{Addr: a, Lifetime: time.Minute}, {Addr: b}}})
	want("[fd77::53]", "[]")
	for n := range 20 {
		x := a.As16()
		x[15] = byte(n + 100)
		advertise(ipv6.RouterAdvert{RDNSS: []ipv6.DNSServer{{Addr: netip.AddrFrom16(x), Lifetime: time.Duration(n) * time.Hour}}})
	}
	servers, _ := h.i.NameServers()
	if len(servers) != ipv6.MaxDNSServers || servers[0].As16()[15] < 110 {
		t.Errorf("%v", servers)
	}
}
