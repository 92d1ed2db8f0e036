package stack_test

import (
	"bytes"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// forwarder is a router of a test that forwards between the link and another
// segment, where a server is.
type forwarder struct {
	*router
	far *wire.Port
	off bool // the way back is by another router
}

// behind is the MAC address that all routers have on the server's segment.
var behind = ether.Addr{2, 0, 0, 0, 9, 99}

// forward makes a router pass packets on to a server, and back.
func (l *link) forward(n byte, seg *wire.Segment, server ether.Addr) *forwarder {
	f := &forwarder{router: l.router(n)}
	pass := func(to *wire.Port, b []byte, src, dst ether.Addr) {
		copy(b, dst[:])
		copy(b[6:], src[:])
		b[ether.HeaderLen+7]-- // hop limit
		if _, err := to.Send(0, []*pkt.Buf{pkt.From(b)}); err != nil {
			l.Fatal(err)
		}
	}
	in := l.seg.Attach("", ether.Addr{})
	in.Attach(func(p *pkt.Buf) {
		b := bytes.Clone(p.Bytes())
		p.Put()
		if h := ipv6.Header(b[ether.HeaderLen:]); !f.dead && ether.Header(b).Dst() == f.mac && h.Dst() != f.ll {
			pass(f.far, b, f.mac, server)
		}
	}, func() {})
	f.far = seg.Attach("", ether.Addr{})
	f.far.Attach(func(p *pkt.Buf) {
		b := bytes.Clone(p.Bytes())
		p.Put()
		if !f.dead && !f.off && ether.Header(b).Type() == ether.TypeIPv6 && ether.Header(b).Dst() == behind {
			pass(in, b, f.mac, hostMAC)
		}
	}, func() {})
	return f
}

// TestDay: 24 hours of a host whose routers come and go, whose temporary
// addresses take turns and whose network is renumbered. Connections last as
// long as their addresses, and nothing is left over.
func TestDay(t *testing.T) {
	goroutines, live := runtime.NumGoroutine(), pkt.Live()
	l := newLink(t, stack.InterfaceConfig{TempAddrs: stack.TempAddrsPrefer})
	seg := l.n.Segment(wire.Options{Hub: true})
	server := stack.New(stack.Config{Clock: l.n.Clock(), Seed: 9})
	t.Cleanup(func() { server.Close() })
	smac := ether.Addr{2, 0, 0, 0, 7, 1}
	si, err := server.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: seg.Attach("server", smac), MAC: smac, NoDAD: true, IID: ipv6.IIDEUI64})
	if err != nil {
		t.Fatal(err)
	}
	if err := si.AddAddr(netip.MustParsePrefix("2001:db8:9::1/64")); err != nil {
		t.Fatal(err)
	}
	a, b := l.forward(1, seg, smac), l.forward(2, seg, smac)
	// The server's way to the hosts: a neighbour that is not asked for.
	gw := netip.MustParseAddr("2001:db8:9::ff")
	if err := server.AddRoute(stack.Route{Dst: netip.MustParsePrefix("2001:db8::/32"), Gateway: gw, Interface: si}); err != nil {
		t.Fatal(err)
	}
	if err := server.Neighbours().Set(si, gw, behind); err != nil {
		t.Fatal(err)
	}
	ln, err := server.BindTCP(addrPort("[2001:db8:9::1]:80"), false, false)
	if err == nil {
		err = ln.Listen(8)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ln.Close)

	const renumberAt = 10 * time.Hour
	began := l.n.Now()
	clock := func() time.Duration { return l.n.Now().Sub(began) }
	old, fresh := "2001:db8:a::/64", "2001:db8:b::/64"
	announce := func(r *forwarder, p ipv6.Preference) {
		if r.dead {
			return
		}
		ra := ipv6.RouterAdvert{Lifetime: 30 * time.Minute, Preference: p, Prefixes: autoPrefix(old, 6*time.Hour, 3*time.Hour)}
		if clock() >= renumberAt {
			// RFC 4192: the new prefix, and the old one no longer preferred.
			ra.Prefixes = append(autoPrefix(fresh, 60*time.Hour, 30*time.Hour), autoPrefix(old, 0, 0)...)
		}
		r.advertiseAtOnce(ra, true)
	}
	type flow struct {
		c    *stack.TCPConn
		peer *stack.TCPConn
		from netip.Addr
		sent int
	}
	dial := func() *flow {
		c, err := l.s.DialTCP(netip.AddrPort{}, addrPort("[2001:db8:9::1]:80"))
		if err != nil {
			t.Fatalf("%v: %v", clock(), err)
		}
		f := &flow{c: c, from: c.LocalAddr().Addr()}
		if !l.n.Until(30*time.Second, func() bool {
			if f.peer == nil {
				f.peer, _ = ln.Accept()
			}
			return f.peer != nil && c.State() == tcp.Established
		}) {
			t.Fatalf("%v: no connection from %v: %v", clock(), f.from, c.Err())
		}
		return f
	}
	// exchange sends a line each way and reports whether it arrived.
	exchange := func(f *flow) bool {
		if _, err := f.c.Write([]byte("question")); err != nil {
			return false
		}
		var buf [64]byte
		got := 0
		ok := l.n.Until(2*time.Minute, func() bool {
			n, _ := f.peer.Read(buf[:])
			if got += n; n > 0 {
				f.peer.Write(buf[:n])
			}
			n, _ = f.c.Read(buf[:])
			f.sent += n
			return f.sent > 0 && f.sent%8 == 0 && n > 0 || f.c.Err() != nil
		})
		return ok && f.c.Err() == nil
	}

	announce(a, ipv6.PreferHigh)
	announce(b, ipv6.PreferMedium)
	l.n.RunFor(4 * time.Second)
	first := dial()
	if !netip.MustParsePrefix(old).Contains(first.from) {
		t.Fatalf("the first connection is from %v", first.from)
	}
	temps := map[netip.Addr]bool{}
	var during *flow
	deadAt, most := time.Duration(0), 0
	for clock() < 24*time.Hour {
		// Each of the routers is away for some hours, never both.
		h := int(clock() / time.Hour)
		a.dead, b.dead = h%6 == 2 || h%6 == 3, h%6 == 5
		a.off, b.off = false, !a.dead
		announce(a, ipv6.PreferHigh)
		announce(b, ipv6.PreferMedium)
		for _, x := range l.s.Addrs().List() {
			if x.Temporary {
				temps[x.Prefix.Addr()] = true
			}
		}
		most = max(most, len(l.addrs("2001:db8::/32")))
		switch {
		case first.c.Err() == nil:
			there := len(l.addrs(first.from.String()+"/128")) == 1
			if !there {
				t.Fatalf("%v: %v has gone, and its connection goes on", clock(), first.from)
			}
			if !exchange(first) {
				if first.c.Err() == nil {
					t.Fatalf("%v: the connection stands still, routers dead: %v %v", clock(), a.dead, b.dead)
				}
			}
		case deadAt == 0:
			deadAt = clock()
			if first.c.Err() != syscall.EADDRNOTAVAIL {
				t.Errorf("the first connection ended with %v", first.c.Err())
			}
		}
		if clock() > renumberAt+10*time.Minute && during == nil {
			during = dial()
			if !netip.MustParsePrefix(fresh).Contains(during.from) {
				t.Errorf("%v: a new connection is from %v", clock(), during.from)
			}
			if first.c.Err() != nil {
				t.Errorf("the first connection has not outlived the renumbering: %v", first.c.Err())
			}
		}
		if during != nil && !exchange(during) {
			t.Fatalf("%v: the second connection: %v", clock(), during.c.Err())
		}
		l.n.RunFor(10 * time.Minute)
	}
	// RFC 4862 §5.5.3 (e): what is cut to 0 lasts two hours.
	if deadAt < renumberAt+2*time.Hour || deadAt > renumberAt+2*time.Hour+30*time.Minute {
		t.Errorf("the first connection ended after %v", deadAt)
	}
	if got := l.addrs(old); len(got) != 0 {
		t.Errorf("after the renumbering there is %v", got)
	}
	if len(temps) < 2 || most > 5 {
		t.Errorf("%d temporary addresses, at most %d addresses at a time", len(temps), most)
	}
	t.Logf("the first connection ended after %v, %d temporary addresses, at most %d addresses", deadAt, len(temps), most)
	during.c.Abort()
	during.peer.Abort()
	first.peer.Abort()
	if n := len(l.s.Addrs().List()); n > 8 {
		t.Errorf("%d addresses at the end", n)
	}
	if n := l.s.Timers(); n > 6 {
		t.Errorf("%d timers at the end", n)
	}
	l.s.Close()
	server.Close()
	l.n.RunFor(time.Second) // what is on the wire
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines, before %d", n, goroutines)
	}
	if n := pkt.Live(); n != live {
		t.Errorf("%d buffers are left", n-live)
	}
}
