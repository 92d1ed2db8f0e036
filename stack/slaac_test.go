package stack_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

var routerLL = ipv6.LinkLocal(peerMAC)

type prefixOption struct {
	prefix           string
	flags            uint8
	valid, preferred uint32
}

const onLinkAuto, onLinkOnly, autoOnly = 0xc0, 0x80, 0x40

// routerAdvert is an advertisement of the peer, built by gopacket.
func routerAdvert(t testing.TB, lifetime uint16, hops uint8, mtu uint32, prefixes ...prefixOption) []byte {
	ra := &layers.ICMPv6RouterAdvertisement{HopLimit: hops, RouterLifetime: lifetime,
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: peerMAC[:]}}}
	if mtu != 0 {
		ra.Options = append(ra.Options, layers.ICMPv6Option{Type: layers.ICMPv6OptMTU, Data: binary.BigEndian.AppendUint32([]byte{0, 0}, mtu)})
	}
	for _, p := range prefixes {
		x := netip.MustParsePrefix(p.prefix)
		b := []byte{byte(x.Bits()), p.flags}
		b = binary.BigEndian.AppendUint32(b, p.valid)
		b = binary.BigEndian.AppendUint32(b, p.preferred)
		b = append(b, 0, 0, 0, 0)
		ra.Options = append(ra.Options, layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: append(b, x.Addr().AsSlice()...)})
	}
	ip := gpIP6(layers.IPProtocolICMPv6, 255, routerLL, ipv6.AllNodes)
	m := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(134, 0)}
	m.SetNetworkLayerForChecksum(ip)
	return build(t, gpEther(peerMAC, ether.Multicast(ipv6.AllNodes), layers.EthernetTypeIPv6), ip, m, ra)
}

// newSLAAC is a host that has solicited routers and got no answer yet.
func newSLAAC(t *testing.T) *testHost {
	t.Helper()
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{SLAAC: true, NoDAD: true})
	from := h.n.Now()
	list := only(h.watch(from, 20*time.Second), func(s string) bool { return strings.Contains(s, " RS ") })
	if len(list) != 3 || list[0].at > time.Second || list[1].at-list[0].at < 3590*time.Millisecond || list[1].at-list[0].at > 4410*time.Millisecond {
		t.Fatalf("solicitations %v, want three, 4 s and 8 s apart, more or less (RFC 7559 §2)", list)
	}
	if want := ipv6.LinkLocal(hostMAC).String() + ">ff02::2 hops 255 RS options 1"; list[0].what != want {
		t.Fatalf("sent %s, want %s", list[0].what, want)
	}
	return h
}

// sourceTo returns the address that a datagram to dst would come from.
func sourceTo(t testing.TB, s *stack.Stack, dst string) string {
	t.Helper()
	u := newUDP(t, s)
	if err := u.Connect(netip.AddrPortFrom(netip.MustParseAddr(dst), 9)); err != nil {
		return err.(syscall.Errno).Error()
	}
	return u.LocalAddr().Addr().String()
}

func hasRoute(s *stack.Stack, dst string, gw netip.Addr) bool {
	return slices.ContainsFunc(s.Routes().List(), func(r stack.Route) bool {
		return r.Dst == netip.MustParsePrefix(dst) && r.Gateway == gw
	})
}

func hasAddr(i *stack.Interface, p string) bool {
	return slices.Contains(i.Addrs(), netip.MustParsePrefix(p))
}

func TestSLAAC(t *testing.T) {
	h := newSLAAC(t)
	const addr, pfx = "2001:db8:1::7", "2001:db8:1::/64"
	own := netip.PrefixFrom(ipv6.WithIID(netip.MustParsePrefix(pfx), ether.EUI64(hostMAC)), 64).String()
	h.send(routerAdvert(t, 1800, 33, 1400, prefixOption{pfx, onLinkAuto, 7200, 3600}))
	if !hasAddr(h.i, own) {
		t.Fatalf("addresses %v, want %s", h.i.Addrs(), own)
	}
	if !hasRoute(h.s, "::/0", routerLL) || !hasRoute(h.s, pfx, netip.Addr{}) {
		t.Fatalf("routes %v", h.s.Routes().List())
	}

	// Off the link goes to the router, with the advertised hop limit; within
	// the prefix straight to the neighbour; both in pieces of the link's MTU.
	u := newUDP(t, h.s)
	h.d.take()
	u.SendTo(pattern(1400-48), addrPort("[2001:db8:99::1]:9"))
	out := h.d.take()
	ip, ok := layerOf[*layers.IPv6](t, out)
	if !ok || len(out) != 1 || ip.HopLimit != 33 || ether.Addr(out[0][:6]) != peerMAC || ip.SrcIP.String() != own[:len(own)-3] {
		t.Fatalf("off link: %d frames, %v", len(out), ip)
	}
	u.SendTo(pattern(1400-47), addrPort("[2001:db8:99::1]:9"))
	if out := h.d.take(); len(out) != 2 || len(out[0]) > 14+1400 {
		t.Errorf("one byte above the MTU: %d frames", len(out))
	}
	u.SendTo([]byte("x"), addrPort("["+addr+"]:9"))
	wantQuestions(t, h.d.take(), addr)

	// An MTU that no link may have, and one above the device's, are ignored.
	for _, mtu := range []uint32{1279, 1501, 0xffffffff} {
		h.send(routerAdvert(t, 1800, 0, mtu))
		u.SendTo(pattern(1400-48), addrPort("[2001:db8:99::1]:9"))
		u.SendTo(pattern(1400-47), addrPort("[2001:db8:99::1]:9"))
		if out := h.d.take(); len(out) != 3 {
			t.Errorf("after MTU %d: %d frames", mtu, len(out))
		}
	}

	// A router lifetime of 0 takes the router away, nothing else.
	h.send(routerAdvert(t, 0, 0, 0))
	if hasRoute(h.s, "::/0", routerLL) || !hasAddr(h.i, own) {
		t.Errorf("after lifetime 0: %v %v", h.s.Routes().List(), h.i.Addrs())
	}
	if err := u.SendTo([]byte("x"), addrPort("[2001:db8:99::1]:9")); err != syscall.ENETUNREACH {
		t.Errorf("without a router: %v", err)
	}
	h.send(routerAdvert(t, 1800, 0, 0))
	// The router lifetime runs out by itself.
	h.run(1799 * time.Second)
	if !hasRoute(h.s, "::/0", routerLL) {
		t.Error("router forgotten early")
	}
	h.run(2 * time.Second)
	if hasRoute(h.s, "::/0", routerLL) {
		t.Error("router still there")
	}
	// So do the preferred and the valid lifetime.
	h.run(1799 * time.Second)
	h.send(routerAdvert(t, 1800, 0, 0))
	if got := sourceTo(t, h.s, "2001:db8:99::1"); got != own[:len(own)-3] {
		t.Errorf("deprecated address is the only one: source %s", got)
	}
	h.add("2001:db8:2::7/64")
	if got := sourceTo(t, h.s, "2001:db8:1::99"); got != "2001:db8:2::7" {
		t.Errorf("source %s, want the one that is not deprecated", got)
	}
	h.run(3601 * time.Second)
	if hasAddr(h.i, own) || hasRoute(h.s, pfx, netip.Addr{}) {
		t.Errorf("after the valid lifetime: %v %v", h.i.Addrs(), h.s.Routes().List())
	}
}

// TestSLAACFlags: A makes an address, L makes neighbours, each alone.
func TestSLAACFlags(t *testing.T) {
	h := newSLAAC(t)
	h.send(routerAdvert(t, 1800, 0, 0, prefixOption{"2001:db8:a::/64", autoOnly, 7200, 3600}, prefixOption{"2001:db8:b::/64", onLinkOnly, 7200, 3600},
		prefixOption{"2001:db8:c::/56", onLinkAuto, 7200, 3600}, prefixOption{"fe80::/64", onLinkAuto, 7200, 3600},
		prefixOption{"2001:db8:d::/64", onLinkAuto, 3600, 7200}))
	var made []string
	for _, a := range h.i.Addrs() {
		if !a.Addr().IsLinkLocalUnicast() {
			made = append(made, a.Masked().String())
		}
	}
	if !slices.Equal(made, []string{"2001:db8:a::/64"}) {
		t.Errorf("addresses in %v", made)
	}
	u := newUDP(t, h.s)
	h.d.take()
	for dst, direct := range map[string]bool{"2001:db8:a::99": false, "2001:db8:b::99": true, "2001:db8:c::99": true, "2001:db8:99::1": false} {
		u.SendTo([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr(dst), 9))
		out := h.d.take()
		if got := len(questions(t, out)) == 1; got != direct {
			t.Errorf("%s: asked for as a neighbour: %v, want %v", dst, got, direct)
		}
	}
	// A prefix whose life is over makes nothing; one that was on the link no
	// longer is.
	h.send(routerAdvert(t, 1800, 0, 0, prefixOption{"2001:db8:e::/64", onLinkAuto, 0, 0}, prefixOption{"2001:db8:b::/64", onLinkOnly, 0, 0}))
	if hasRoute(h.s, "2001:db8:b::/64", netip.Addr{}) || hasRoute(h.s, "2001:db8:e::/64", netip.Addr{}) {
		t.Errorf("routes %v", h.s.Routes().List())
	}
}

// TestSLAACLeavesOthersAlone: what the user configured is not taken away with
// what a router advertised.
func TestSLAACLeavesOthersAlone(t *testing.T) {
	h := newSLAAC(t)
	const pfx = "2001:db8:1::/64"
	own := netip.PrefixFrom(ipv6.WithIID(netip.MustParsePrefix(pfx), ether.EUI64(hostMAC)), 64)
	h.add(own.String())
	for _, r := range []stack.Route{{Dst: netip.MustParsePrefix("::/0"), Gateway: routerLL, Interface: h.i},
		{Dst: netip.MustParsePrefix(pfx), Gateway: routerLL, Interface: h.i}} {
		if err := h.s.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	h.send(routerAdvert(t, 10, 0, 0, prefixOption{pfx, onLinkAuto, 20, 20}))
	h.run(10 * time.Second)
	h.send(routerAdvert(t, 0, 0, 0, prefixOption{pfx, onLinkAuto, 3600, 0}))
	for _, a := range h.s.Addrs().List() {
		if a.Prefix == own && (a.Deprecated || a.Preferred != 0 || a.Valid != 0 || a.Origin != stack.OriginStatic) {
			t.Errorf("the user's address is now %v, %+v", a, a)
		}
	}
	h.send(routerAdvert(t, 0, 0, 0, prefixOption{pfx, onLinkOnly, 0, 0}))
	h.run(3 * time.Hour)
	if !hasAddr(h.i, own.String()) || !hasRoute(h.s, "::/0", routerLL) || !hasRoute(h.s, pfx, routerLL) || hasRoute(h.s, pfx, netip.Addr{}) {
		t.Errorf("left: %v %v", h.i.Addrs(), h.s.Routes().List())
	}
}

// TestBadAdvertisements have no effect.
func TestBadAdvertisements(t *testing.T) {
	good := func() []byte {
		return routerAdvert(t, 1800, 0, 0, prefixOption{"2001:db8:1::/64", onLinkAuto, 7200, 3600})
	}
	for _, c := range []struct {
		name   string
		change func(b []byte)
	}{
		{"hop limit 254", func(b []byte) { b[14+7] = 254 }},
		{"global source", func(b []byte) { copy(b[14+8:], peerIP6.AsSlice()) }},
		{"code 1", func(b []byte) { b[14+41] = 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newSLAAC(t)
			b := good()
			c.change(b)
			repair(b)
			h.send(b)
			if len(h.s.Routes().List()) != 0 || len(h.i.Addrs()) != 1 {
				t.Errorf("%v %v", h.s.Routes().List(), h.i.Addrs())
			}
			if len(drops(h.s)) != 1 {
				t.Errorf("drops %v", drops(h.s))
			}
		})
	}
	h := newSLAAC(t)
	b := good()
	b[60]++ // damaged under way
	h.send(b)
	wantDrops(t, h.s, "icmp.drop.bad-checksum=1")
	if len(h.s.Routes().List()) != 0 {
		t.Errorf("%v", h.s.Routes().List())
	}
}

// TestRouterTurnsHost: a neighbour advertisement without the router flag takes
// a default router away (RFC 4861 §7.2.5).
func TestRouterTurnsHost(t *testing.T) {
	h := newSLAAC(t)
	h.send(routerAdvert(t, 1800, 0, 0))
	m := ipv6.NeighborAdvert{Target: routerLL, Override: true, TargetMAC: peerMAC, HasMAC: true}
	h.send(icmp6(255, routerLL, ipv6.AllNodes, m.Append(nil)))
	if hasRoute(h.s, "::/0", routerLL) {
		t.Errorf("routes %v", h.s.Routes().List())
	}
}
