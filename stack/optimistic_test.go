package stack_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// nds returns the neighbour discovery messages of a type that the host has sent
// since the last call.
func (l *link) nds(typ byte) (list []ipv6.Header) {
	for _, f := range l.heard {
		h := ipv6.Header(f[ether.HeaderLen:])
		if ether.Header(f).Type() == ether.TypeIPv6 && ether.Header(f).Src() == hostMAC && h.NextHeader() == ipv6.ProtoICMPv6 && h[ipv6.HeaderLen] == typ {
			list = append(list, h)
		}
	}
	l.heard = nil
	return list
}

// advertiseAtOnce is advertise without the time that detection takes.
func (r *router) advertiseAtOnce(ra ipv6.RouterAdvert, known bool) {
	ra.SourceMAC, ra.HasMAC = r.mac, known
	r.send(ipv6.AllNodes, ether.Multicast(ipv6.AllNodes), ra.Append(nil))
	r.n.RunFor(10 * time.Millisecond)
}

const optimisticPrefix = "2001:db8:7::/64"

// TestOptimistic: RFC 4429: an address may be used at once, and changes nothing
// of what others know while it is probed.
func TestOptimistic(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{OptimisticDAD: true})
	r := l.router(1)
	if got := l.addrs("fe80::/10"); len(got) != 1 || !got[0].Optimistic || got[0].Tentative {
		t.Fatalf("link-local address %v", got)
	}
	if err := l.i.Ready(atOnce); err != nil {
		t.Errorf("not ready: %v", err)
	}
	l.n.RunFor(3 * time.Second)
	if got := l.addrs("fe80::/10"); len(got) != 1 || got[0].Optimistic {
		t.Fatalf("link-local address %v", got)
	}
	l.heard = nil
	r.advertiseAtOnce(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(optimisticPrefix, time.Hour, time.Hour)}, true)
	own := l.addrs(optimisticPrefix)
	if len(own) != 1 || !own[0].Optimistic {
		t.Fatalf("%v", own)
	}
	a := own[0].Prefix.Addr()
	if got := l.nds(icmp.TypeNS); len(got) != 1 || !got[0].Src().IsUnspecified() {
		t.Errorf("%d solicitations at once, want the probe without delay (RFC 4429 §3.3)", len(got))
	}
	// It is used, but in no question.
	u := newUDP(t, l.s)
	if err := u.SendTo([]byte("x"), addrPort("[2001:db8:9::1]:9")); err != nil {
		t.Fatal(err)
	}
	if err := u.SendTo([]byte("x"), addrPort("[2001:db8:7::99]:9")); err != nil {
		t.Fatal(err)
	}
	l.n.RunFor(10 * time.Millisecond)
	if r.got != 1 {
		t.Errorf("%d packets to the router", r.got)
	}
	for _, h := range l.nds(icmp.TypeNS) {
		if h.Src() == a {
			t.Error("a neighbour was asked from the optimistic address (RFC 4429 §3.2)")
		}
	}
	// An answer does not override; afterwards it does.
	for _, override := range []bool{false, true} {
		r.send(ipv6.SolicitedNode(a), ether.Multicast(ipv6.SolicitedNode(a)), (&ipv6.NeighborSolicit{Target: a, SourceMAC: r.mac, HasMAC: true}).Append(nil))
		l.n.RunFor(10 * time.Millisecond)
		list := l.nds(icmp.TypeNA)
		if len(list) != 1 {
			t.Fatalf("%d answers", len(list))
		}
		if m, _ := ipv6.ParseNeighborAdvert(list[0], list[0][ipv6.HeaderLen:]); m.Override != override || !m.HasMAC {
			t.Errorf("%+v, want override %v", m, override)
		}
		l.n.RunFor(2 * time.Second)
	}
	if own := l.addrs(optimisticPrefix); len(own) != 1 || own[0].Optimistic {
		t.Errorf("%v", own)
	}
	// It is preferred less than one that is certain (§3.1).
	r.advertiseAtOnce(ipv6.RouterAdvert{Prefixes: autoPrefix("2001:db8:9::/64", time.Hour, time.Hour)}, true)
	if got := sourceTo(t, l.s, "2001:db8:9::1"); got != a.String() {
		t.Errorf("source %s, want %v", got, a)
	}
	// Unknown routers, and addresses by hand: as without.
	r.advertiseAtOnce(ipv6.RouterAdvert{Prefixes: autoPrefix("2001:db8:a::/64", time.Hour, time.Hour)}, false)
	if err := l.i.AddAddr(netip.MustParsePrefix("2001:db8:b::1/64")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"2001:db8:a::/64", "2001:db8:b::/64"} {
		if got := l.addrs(p); len(got) != 1 || !got[0].Tentative || got[0].Optimistic {
			t.Errorf("%v", got)
		}
	}
	l.n.RunFor(10 * time.Second)
}

// TestOptimisticSolicits: routers are solicited while the link-local address is
// still looked for elsewhere, without a word of it or of our link-layer address
// (RFC 4429 §3.2), and what they say is taken at once; without the setting only
// afterwards.
func TestOptimisticSolicits(t *testing.T) {
	for _, on := range []bool{true, false} {
		l := newLink(t, stack.InterfaceConfig{OptimisticDAD: on})
		r := l.router(1)
		pending := func() bool {
			x := l.addrs("fe80::/10")
			return len(x) == 1 && (x[0].Optimistic || x[0].Tentative)
		}
		var early, late []ipv6.Header
		for pending() {
			early = append(early, l.nds(icmp.TypeRS)...)
			l.n.RunFor(time.Millisecond)
			if len(early) == 1 {
				r.advertiseAtOnce(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(optimisticPrefix, time.Hour, time.Hour)}, true)
				break
			}
		}
		if len(early) == 1 != on {
			t.Fatalf("optimistic %v: %d solicitations while the address is probed", on, len(early))
		}
		if on {
			if m, d := ipv6.ParseRouterSolicit(early[0], early[0][ipv6.HeaderLen:]); d != ipv6.DropNone || m.HasMAC || !early[0].Src().IsUnspecified() || early[0].Dst() != ipv6.AllRouters {
				t.Errorf("%v > %v: %+v %v", early[0].Src(), early[0].Dst(), m, d)
			}
			if got := l.addrs(optimisticPrefix); !pending() || len(got) != 1 || !got[0].Optimistic {
				t.Errorf("link-local address %v, global one %v", l.addrs("fe80::/10"), got)
			}
		}
		l.n.RunFor(10 * time.Second)
		late = l.nds(icmp.TypeRS)
		if on && len(late) != 0 { // a router has answered
			t.Errorf("%d solicitations afterwards", len(late))
		}
		for _, h := range late {
			if m, _ := ipv6.ParseRouterSolicit(h, h[ipv6.HeaderLen:]); !m.HasMAC || h.Src() != l.addrs("fe80::/10")[0].Prefix.Addr() {
				t.Errorf("afterwards from %v: %+v", h.Src(), m)
			}
		}
		if !on && len(late) == 0 {
			t.Error("no solicitation")
		}
	}
}

// TestOptimisticDuplicate: another host probes the address, or has it: it goes,
// and what used it ends.
func TestOptimisticDuplicate(t *testing.T) {
	for _, probes := range []bool{true, false} {
		l := newLink(t, stack.InterfaceConfig{OptimisticDAD: true, IID: ipv6.IIDEUI64})
		r := l.router(1)
		l.n.RunFor(3 * time.Second)
		r.advertiseAtOnce(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(optimisticPrefix, time.Hour, time.Hour)}, true)
		a := l.addrs(optimisticPrefix)[0].Prefix.Addr()
		c, err := l.s.DialTCP(netip.AddrPort{}, addrPort("[2001:db8:9::1]:80"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Abort()
		body, src, dst := (&ipv6.NeighborAdvert{Target: a, Override: true, TargetMAC: r.mac, HasMAC: true}).Append(nil), r.ll, ipv6.AllNodes
		if probes {
			body, src, dst = (&ipv6.NeighborSolicit{Target: a}).Append(nil), netip.IPv6Unspecified(), ipv6.SolicitedNode(a)
		}
		saved := r.ll
		r.ll = src
		r.send(dst, ether.Multicast(dst), body)
		r.ll = saved
		l.n.RunFor(10 * time.Millisecond)
		if got := l.addrs(optimisticPrefix); len(got) != 0 {
			t.Errorf("probes %v: still there: %v", probes, got)
		}
		if c.Err() == nil {
			t.Errorf("probes %v: the connection goes on", probes)
		}
	}
}

// TestAnnounceIPv6: RFC 9131: routers are told of a new address, and of none
// without the setting.
func TestAnnounceIPv6(t *testing.T) {
	for _, on := range []bool{true, false} {
		l := newLink(t, stack.InterfaceConfig{AnnounceIPv6: on})
		r := l.router(1)
		l.n.RunFor(2 * time.Second)
		l.heard = nil
		r.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(optimisticPrefix, time.Hour, time.Hour)})
		list := l.nds(icmp.TypeNA)
		if len(list) == 1 != on {
			t.Fatalf("%d advertisements, setting %v", len(list), on)
		}
		for _, h := range list {
			m, drop := ipv6.ParseNeighborAdvert(h, h[ipv6.HeaderLen:])
			if drop != ipv6.DropNone || h.Dst() != ipv6.AllRouters || h.Src() != m.Target || m.Override || m.Solicited || m.TargetMAC != hostMAC {
				t.Errorf("%v > %v %+v", h.Src(), h.Dst(), m)
			}
		}
	}
}

// TestRetransTimerOfDAD: RFC 4862 §5.1: detection lasts as long as routers say.
func TestRetransTimerOfDAD(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{})
	r := l.router(1)
	l.n.RunFor(2 * time.Second)
	r.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Retrans: 5 * time.Second})
	if err := l.i.AddAddr(netip.MustParsePrefix("2001:db8:b::1/64")); err != nil {
		t.Fatal(err)
	}
	for _, tentative := range []bool{true, false} {
		l.n.RunFor(4 * time.Second)
		if got := l.addrs("2001:db8:b::/64"); got[0].Tentative != tentative {
			t.Errorf("%v", got)
		}
	}
}

// TestPatientRouter: with patience packets go on to a silent neighbour, but by
// another router where there is one.
func TestPatientRouter(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{Patience: 10})
	a, b := l.router(1), l.router(2)
	l.n.RunFor(2 * time.Second)
	a.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix(optimisticPrefix, time.Hour, time.Hour)})
	u := newUDP(t, l.s)
	send := func() {
		u.TakeError()
		u.SendTo([]byte("x"), addrPort("[2001:db8:9::1]:9"))
		l.n.RunFor(time.Second)
	}
	state := func() stack.NeighbourState {
		for _, n := range l.s.Neighbours().List() {
			if n.Addr == a.ll {
				return n.State
			}
		}
		return 0
	}
	send()
	a.dead = true
	for range 60 {
		send()
	}
	if got := state(); got != stack.NeighbourUnreachable {
		t.Fatalf("the router is %v", got)
	}
	l.heard = nil
	send()
	if n := len(l.heard); n == 0 {
		t.Error("nothing is sent any more")
	}
	b.advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Preference: ipv6.PreferLow})
	send()
	if b.got == 0 {
		t.Error("the other router is not used")
	}
	a.dead = false
	l.n.RunFor(2 * time.Minute)
	a.got = 0
	send()
	l.n.RunFor(10 * time.Second)
	send()
	if a.got == 0 {
		t.Errorf("the router that is back, %v, is not used", state())
	}
}

// TestFragmentedND: RFC 6980: what comes in a fragment, even an atomic one, is
// ignored, whether it is an advertisement, a question or a redirect.
func TestFragmentedND(t *testing.T) {
	h := newSLAAC(t)
	fragmented := func(b []byte) []byte {
		ip := b[ether.HeaderLen:]
		f := append([]byte{}, b[:ether.HeaderLen+ipv6.HeaderLen]...)
		f = append(f, ip[6], 0, 0, 0, 1, 2, 3, 4) // an atomic fragment
		f = append(f, ip[ipv6.HeaderLen:]...)
		f[ether.HeaderLen+6] = ipv6.ProtoFragment
		binary.BigEndian.PutUint16(f[ether.HeaderLen+4:], uint16(len(ip)-ipv6.HeaderLen+8))
		return f
	}
	own := h.i.Addrs()[0].Addr()
	question := icmp6(255, routerLL, ipv6.SolicitedNode(own), (&ipv6.NeighborSolicit{Target: own, SourceMAC: peerMAC, HasMAC: true}).Append(nil))
	answer := icmp6(255, routerLL, own, (&ipv6.NeighborAdvert{Target: routerLL, TargetMAC: peerMAC, HasMAC: true, Solicited: true, Router: true}).Append(nil))
	for _, whole := range []bool{false, true} {
		for _, b := range [][]byte{routerAdvert(t, 1800, 0, 0), question, answer} {
			h.d.take()
			if !whole {
				b = fragmented(b)
			}
			h.send(b)
		}
		if got := hasRoute(h.s, "::/0", routerLL); got != whole {
			t.Errorf("whole %v: router %v", whole, got)
		}
		if n := h.s.Counters()["nd.drop.fragment-out-of-range"]; n != 3 {
			t.Errorf("whole %v: %d dropped: %v", whole, n, drops(h.s))
		}
	}
}
