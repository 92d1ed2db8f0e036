package stack_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// link is a host that configures itself, on a segment with routers of the
// test's own.
type link struct {
	*testing.T
	n     *simnet.Net
	seg   *wire.Segment
	s     *stack.Stack
	i     *stack.Interface
	heard [][]byte // by a station without address
	tap   *wire.Port
}

func newLink(t *testing.T, c stack.InterfaceConfig) *link {
	t.Helper()
	l := &link{T: t, n: simnet.New(7)}
	l.seg = l.n.Segment(wire.Options{Hub: true})
	l.tap = l.seg.Attach("tap", ether.Addr{})
	l.tap.Attach(func(p *pkt.Buf) { l.heard = append(l.heard, bytes.Clone(p.Bytes())); p.Put() }, func() {})
	l.s = stack.New(stack.Config{Clock: l.n.Clock(), Seed: 7})
	t.Cleanup(func() { l.s.Close() })
	c.Name, c.Device, c.MAC, c.SLAAC = "eth0", l.seg.Attach("host", hostMAC), hostMAC, true
	var err error
	if l.i, err = l.s.AddInterface(c); err != nil {
		t.Fatal(err)
	}
	return l
}

// router is a neighbour that advertises, and answers solicitations while it
// lives.
type router struct {
	*link
	mac  ether.Addr
	ll   netip.Addr
	port *wire.Port
	dead bool
	got  int // packets to be forwarded
}

func (l *link) router(n byte) *router {
	r := &router{link: l, mac: ether.Addr{2, 0, 0, 0, 9, n}}
	r.ll = ipv6.LinkLocal(r.mac)
	r.port = l.seg.Attach("", ether.Addr{})
	r.port.Attach(func(p *pkt.Buf) {
		f := bytes.Clone(p.Bytes())
		p.Put()
		h := ipv6.Header(f[ether.HeaderLen:])
		if ether.Header(f).Type() != ether.TypeIPv6 || r.dead {
			return
		}
		if h.NextHeader() == ipv6.ProtoICMPv6 && h[ipv6.HeaderLen] == icmp.TypeNS {
			if m, drop := ipv6.ParseNeighborSolicit(h, h[ipv6.HeaderLen:]); drop == ipv6.DropNone && m.Target == r.ll {
				na := ipv6.NeighborAdvert{Target: r.ll, Router: true, Solicited: true, Override: true, TargetMAC: r.mac, HasMAC: true}
				r.send(h.Src(), hostMAC, na.Append(nil))
			}
			return
		}
		if ether.Header(f).Dst() == r.mac && h.Dst() != r.ll {
			r.got++
		}
	}, func() {})
	return r
}

func (r *router) send(dst netip.Addr, mac ether.Addr, body []byte) {
	f := icmp6(255, r.ll, dst, body)
	copy(f, mac[:])
	copy(f[6:], r.mac[:])
	if _, err := r.port.Send(0, []*pkt.Buf{pkt.From(f)}); err != nil {
		r.Fatal(err)
	}
}

func (r *router) advertise(ra ipv6.RouterAdvert) {
	r.Helper()
	ra.SourceMAC, ra.HasMAC = r.mac, true
	r.send(ipv6.AllNodes, ether.Multicast(ipv6.AllNodes), ra.Append(nil))
	r.n.RunFor(3 * time.Second) // duplicate address detection
}

func autoPrefix(s string, valid, preferred time.Duration) []ipv6.PrefixInfo {
	return []ipv6.PrefixInfo{{Prefix: netip.MustParsePrefix(s), OnLink: true, Autonomous: true, Valid: valid, Preferred: preferred}}
}

func (l *link) addrs(in string) (list []stack.Addr) {
	p := netip.MustParsePrefix(in)
	for _, a := range l.s.Addrs().List() {
		if p.Contains(a.Prefix.Addr()) {
			list = append(list, a)
		}
	}
	return list
}

// TestOpaqueAddresses: RFC 7217: with the same secret the same addresses, which
// tell nothing of the MAC address, one for each prefix.
func TestOpaqueAddresses(t *testing.T) {
	var last []string
	for range 2 {
		l := newLink(t, stack.InterfaceConfig{IIDSecret: [16]byte{1}})
		r := l.router(1)
		l.n.RunFor(2 * time.Second)
		r.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: append(autoPrefix("2001:db8:1::/64", time.Hour, time.Hour), autoPrefix("2001:db8:2::/64", time.Hour, time.Hour)...)})
		var list []string
		var iids [][8]byte
		for _, a := range l.addrs("::/0") {
			if a.Interface != l.i {
				continue
			}
			b := a.Prefix.Addr().As16()
			iid := [8]byte(b[8:])
			if a.Tentative || iid == ether.EUI64(hostMAC) || slices.Contains(iids, iid) {
				t.Errorf("%v", a)
			}
			iids, list = append(iids, iid), append(list, a.Prefix.String())
		}
		if len(list) != 3 || last != nil && !slices.Equal(list, last) {
			t.Errorf("%v, before %v", list, last)
		}
		last = list
	}
}

// claimant answers the probes for an address, n times.
func (l *link) claimant(n int, which string) {
	p := netip.MustParsePrefix(which)
	port := l.seg.Attach("", ether.Addr{})
	port.Attach(func(b *pkt.Buf) {
		f := bytes.Clone(b.Bytes())
		b.Put()
		h := ipv6.Header(f[ether.HeaderLen:])
		if ether.Header(f).Type() != ether.TypeIPv6 || h.NextHeader() != ipv6.ProtoICMPv6 || h[ipv6.HeaderLen] != icmp.TypeNS || !h.Src().IsUnspecified() {
			return
		}
		m, drop := ipv6.ParseNeighborSolicit(h, h[ipv6.HeaderLen:])
		if drop != ipv6.DropNone || !p.Contains(m.Target) || n == 0 {
			return
		}
		n--
		na := ipv6.NeighborAdvert{Target: m.Target, Override: true, TargetMAC: ether.Addr{2, 0, 0, 0, 8, 1}, HasMAC: true}
		g := icmp6(255, m.Target, ipv6.AllNodes, na.Append(nil))
		mac := ether.Multicast(ipv6.AllNodes)
		copy(g, mac[:])
		copy(g[6:], []byte{2, 0, 0, 0, 8, 1})
		port.Send(0, []*pkt.Buf{pkt.From(g)})
	}, func() {})
}

// TestDuplicatesAreReplaced: another host has the first addresses: others are
// found, and nobody who waits is told of a failure.
func TestDuplicatesAreReplaced(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{TempAddrs: stack.TempAddrsPrefer})
	first := l.addrs("fe80::/10")[0].Prefix
	l.claimant(2, "fe80::/10")
	l.n.RunFor(8 * time.Second)
	if got := l.addrs("fe80::/10"); len(got) != 1 || got[0].Tentative || got[0].Prefix == first {
		t.Fatalf("%v, at first %v", got, first)
	}
	if err := l.i.Ready(atOnce); err != nil {
		t.Error(err)
	}
	l.claimant(3, "2001:db8::/64")
	r := l.router(1)
	r.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix("2001:db8::/64", 100*time.Hour, 100*time.Hour)})
	l.n.RunFor(20 * time.Second)
	var stable, temporary int
	for _, a := range l.addrs("2001:db8::/64") {
		if a.Temporary {
			temporary++
		} else {
			stable++
		}
		if a.Tentative {
			t.Errorf("%v", a)
		}
	}
	if stable != 1 || temporary != 1 {
		t.Errorf("%v", l.addrs("2001:db8::/64"))
	}
	// All that are tried are taken: then it stays without.
	m := newLink(t, stack.InterfaceConfig{})
	m.claimant(-1, "fe80::/10")
	m.n.RunFor(time.Minute)
	if got := m.addrs("fe80::/10"); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if err := m.i.Ready(atOnce); err == nil || !strings.Contains(err.Error(), "in use by another host") {
		t.Errorf("%v", err)
	}
}

// TestLoopedProbes: a link that brings back what is sent does not take the
// addresses away (RFC 7527), without the nonce it does.
func TestLoopedProbes(t *testing.T) {
	for _, nonce := range []bool{true, false} {
		l := newLink(t, stack.InterfaceConfig{NoDADNonce: !nonce, IID: ipv6.IIDEUI64})
		loop := l.seg.Attach("loop", ether.Addr{})
		loop.Attach(func(p *pkt.Buf) { loop.Send(0, []*pkt.Buf{p}) }, func() {})
		l.n.RunFor(5 * time.Second)
		if got := len(l.addrs("fe80::/10")) == 1; got != nonce {
			t.Errorf("nonce %v: address there %v", nonce, got)
		}
		if looped := l.s.Counters()["nd.looped"]; looped > 0 != nonce {
			t.Errorf("nonce %v: %d looped", nonce, looped)
		}
	}
}

// TestTemporaryAddresses are made, used as sources if so wanted, and replaced.
func TestTemporaryAddresses(t *testing.T) {
	for _, c := range []struct {
		mode       stack.TempAddrs
		made, used bool
	}{{stack.TempAddrsOff, false, false}, {stack.TempAddrsUsable, true, false}, {stack.TempAddrsPrefer, true, true}} {
		l := newLink(t, stack.InterfaceConfig{TempAddrs: c.mode})
		r := l.router(1)
		seen := map[netip.Addr]bool{}
		for range 100 {
			r.advertise(ipv6.RouterAdvert{Lifetime: 2 * time.Hour, Prefixes: autoPrefix("2001:db8::/64", 100*time.Hour, 50*time.Hour)})
			src := netip.MustParseAddr(sourceTo(t, l.s, "2001:db8:99::1"))
			for _, a := range l.addrs("2001:db8::/64") {
				if a.Temporary {
					seen[a.Prefix.Addr()] = true
				}
				if a.Prefix.Addr() == src && (a.Temporary != c.used || a.Deprecated) {
					t.Fatalf("mode %d: sends from %v", c.mode, a)
				}
			}
			l.n.RunFor(time.Hour)
		}
		if len(seen) > 0 != c.made || c.made && (len(seen) < 5 || len(seen) > 8) {
			t.Errorf("mode %d: %d temporary addresses in 100 hours", c.mode, len(seen))
		}
	}
}

// TestRouterChoice: preferences (RFC 4191), the router that advertised the
// source's prefix (RFC 8028), and routers that die.
func TestRouterChoice(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	a, b := l.router(1), l.router(2)
	l.n.RunFor(2 * time.Second)
	a.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix("2001:db8:a::/64", 10*time.Hour, 10*time.Hour)})
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Preference: ipv6.PreferHigh, Prefixes: autoPrefix("2001:db8:b::/64", 10*time.Hour, 10*time.Hour),
		Routes: []ipv6.RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:5::/48"), Preference: ipv6.PreferMedium, Lifetime: time.Hour}}})
	by := func(src, dst string) netip.Addr {
		t.Helper()
		from := netip.Addr{}
		if src != "" {
			from = ipv6.WithIID(netip.MustParsePrefix(src+"/64"), ether.EUI64(hostMAC))
		}
		w, err := l.s.Routes().Get(netip.MustParseAddr(dst), from, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.NextHop
	}
	for _, c := range []struct {
		src, dst string
		want     *router
	}{{"", "2001:db8:9::1", b}, {"2001:db8:a::", "2001:db8:9::1", a}, {"2001:db8:b::", "2001:db8:9::1", b}, {"2001:db8:a::", "2001:db8:5::1", b}} {
		if got := by(c.src, c.dst); got != c.want.ll {
			t.Errorf("from %q to %s by %v, want %v", c.src, c.dst, got, c.want.ll)
		}
	}
	if w, _ := l.s.Routes().Get(netip.MustParseAddr("2001:db8:9::1"), netip.Addr{}, nil); w.Source != ipv6.WithIID(netip.MustParsePrefix("2001:db8:b::/64"), ether.EUI64(hostMAC)) {
		t.Errorf("rule 5.5: from %v", w.Source)
	}

	// The preferred router dies: packets go to the other within seconds of its
	// being doubted, and back when it is heard of.
	u := newUDP(t, l.s)
	send := func() {
		u.TakeError()
		u.SendTo([]byte("x"), addrPort("[2001:db8:9::1]:9"))
		l.n.RunFor(100 * time.Millisecond)
	}
	send()
	if b.got != 1 || a.got != 0 {
		t.Fatalf("%d by the preferred router, %d by the other", b.got, a.got)
	}
	b.dead = true
	began := l.n.Now()
	for a.got == 0 && l.n.Now().Sub(began) < time.Minute {
		send()
	}
	// REACHABLE lasts 15 to 45 s, then come 5 s of DELAY and three probes.
	if took := l.n.Now().Sub(began); a.got == 0 || took > 54*time.Second {
		t.Errorf("after %v: %d by the other router", took, a.got)
	}
	// Both are dead: they are tried in turn.
	a.dead = true
	l.n.RunFor(time.Minute)
	for range 600 {
		send()
	}
	hops := map[netip.Addr]bool{}
	for range 20 {
		hops[by("", "2001:db8:9::1")] = true
		for range 40 {
			send()
		}
	}
	if len(hops) != 2 {
		t.Errorf("dead routers tried: %v", hops)
	}
	b.dead = false
	b.got = 0
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Preference: ipv6.PreferHigh})
	send()
	if b.got == 0 {
		t.Error("the router that came back is not used")
	}
	// A better preference moves at once.
	a.dead = false
	a.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Preference: ipv6.PreferHigh})
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Preference: ipv6.PreferLow})
	if got := by("", "2001:db8:9::1"); got != a.ll {
		t.Errorf("by %v after the preferences changed", got)
	}
}

// TestAdvertised: what else a host learns.
func TestAdvertised(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{})
	r := l.router(1)
	dns := netip.MustParseAddr("2001:db8::53")
	r.advertise(ipv6.RouterAdvert{Managed: true, Other: true, Portal: "https://portal.example/", RDNSS: []ipv6.DNSServer{{Addr: dns, Lifetime: time.Minute}},
		DNSSL: []ipv6.DNSDomain{{Name: "example.org", Lifetime: time.Hour}}})
	if got := l.i.Advertised(); !slices.Equal(got.DNS, []netip.Addr{dns}) || !slices.Equal(got.Search, []string{"example.org"}) || !got.Managed || !got.Other || got.Portal != "https://portal.example/" {
		t.Errorf("%+v", got)
	}
	l.n.RunFor(time.Minute)
	if got := l.i.Advertised(); len(got.DNS) != 0 || len(got.Search) != 1 {
		t.Errorf("%+v", got)
	}
	if got := l.i.Advertised().Routers; len(got) != 1 || got[0].Router != r.ll || got[0].Flags != ipv6.RAManaged|ipv6.RAOther {
		t.Errorf("%+v", got)
	}
	// RFC 5175: those that routers have beyond the header.
	r.advertise(ipv6.RouterAdvert{Flags: ipv6.RASNAC | ipv6.RAFlag(30)})
	if got := l.i.Advertised().Routers; len(got) != 1 || got[0].Flags.String() != "S 30" {
		t.Errorf("%+v", got)
	}
}

// TestDeadRouterOfConnection: a connection that hears nothing makes its router
// be asked at once, and goes on by the other one within seconds.
func TestDeadRouterOfConnection(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	a, b := l.router(1), l.router(2)
	l.n.RunFor(2 * time.Second)
	a.advertise(ipv6.RouterAdvert{Lifetime: 3 * time.Hour, Prefixes: autoPrefix("2001:db8:a::/64", 10*time.Hour, 10*time.Hour)})
	b.advertise(ipv6.RouterAdvert{Lifetime: 3 * time.Hour, Preference: ipv6.PreferLow, Prefixes: autoPrefix("2001:db8:a::/64", 10*time.Hour, 10*time.Hour)})
	c, err := l.s.DialTCP(netip.AddrPort{}, addrPort("[2001:db8:9::1]:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	l.n.RunFor(100 * time.Millisecond)
	if a.got != 1 || b.got != 0 {
		t.Fatalf("the SYN went %d times by the first router, %d by the second", a.got, b.got)
	}
	a.dead = true
	began := l.n.Now()
	l.n.Until(time.Minute, func() bool { return b.got > 0 })
	// SYNs after 1 s and 3 s, then three probes a second apart, and the next
	// SYN after 7 s.
	if took := l.n.Now().Sub(began); took > 8*time.Second {
		t.Errorf("the other router was used after %v", took)
	}
}
