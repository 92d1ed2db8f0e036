package stack_test

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

var rogueMAC = ether.Addr{2, 6, 6, 6, 6, 6}

// claimed claims an address and collects what becomes of it.
func (h *testHost) claimed(prefix string, probe bool) *[]string {
	h.Helper()
	list := new([]string)
	start := h.n.Now()
	if err := h.i.ClaimAddr(netip.MustParsePrefix(prefix), stack.ClaimOptions{Probe: probe, Notify: func(a netip.Addr, e stack.AddrEvent) {
		*list = append(*list, fmt.Sprintf("%v %d", h.n.Now().Sub(start).Round(time.Second), e))
	}}); err != nil {
		h.Fatal(err)
	}
	return list
}

// TestClaimAddr: who claims an address hears once that it may be used, and once
// that it has gone; and Ready knows nothing of it.
func TestClaimAddr(t *testing.T) {
	for _, c := range []struct {
		name  string
		probe bool
		then  func(h *testHost, a netip.Addr)
		want  []string
	}{
		{"free", true, func(*testHost, netip.Addr) {}, []string{"5s 0"}},
		{"not probed", false, func(*testHost, netip.Addr) {}, []string{"0s 0"}},
		{"taken", true, func(h *testHost, a netip.Addr) { h.send(arpReplyFrom(rogueMAC, a)) }, []string{"0s 1"}},
		{"probed by another", true, func(h *testHost, a netip.Addr) { h.send(arpProbeFrom(rogueMAC, a)) }, []string{"0s 1"}},
		{"taken away", false, func(h *testHost, a netip.Addr) { h.i.DelAddr(a) }, []string{"0s 0", "0s 2"}},
		{"lost", true, func(h *testHost, a netip.Addr) {
			h.run(20 * time.Second)
			h.send(arpReplyFrom(rogueMAC, a))
			h.run(9 * time.Second)
			h.send(arpReplyFrom(rogueMAC, a))
		}, []string{"5s 0", "29s 1"}},
		{"kept", true, func(h *testHost, a netip.Addr) {
			h.run(20 * time.Second)
			for range 3 { // RFC 5227 §2.4 (b): one in ten seconds
				h.send(arpReplyFrom(rogueMAC, a))
				h.run(11 * time.Second)
			}
		}, []string{"5s 0"}},
		{"not probed, never given up", false, func(h *testHost, a netip.Addr) {
			for range 3 {
				h.send(arpReplyFrom(rogueMAC, a))
			}
		}, []string{"0s 0"}},
		{"link flap", true, func(h *testHost, a netip.Addr) {
			h.run(20 * time.Second)
			h.i.Reclaim()
			if len(h.i.Addrs()) != 0 {
				h.Error("used while it is probed anew")
			}
		}, []string{"5s 0", "25s 0"}},
		{"link flap to another network", true, func(h *testHost, a netip.Addr) {
			h.run(20 * time.Second)
			h.i.Reclaim()
			h.send(arpReplyFrom(rogueMAC, a))
		}, []string{"5s 0", "20s 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
			list := h.claimed("10.77.0.7/24", c.probe)
			c.then(h, netip.MustParseAddr("10.77.0.7"))
			h.run(time.Minute)
			if !similar(*list, c.want) {
				t.Errorf("%q, want %q", *list, c.want)
			}
			gone := len(c.want) > 0 && c.want[len(c.want)-1][len(c.want[len(c.want)-1])-1] != '0'
			if (len(h.i.Addrs()) == 0) != gone {
				t.Errorf("addresses %v", h.i.Addrs())
			}
			if err := h.i.Ready(atOnce); err != nil {
				t.Error(err)
			}
			if err := h.i.ClaimAddr(netip.MustParsePrefix("10.77.0.255/24"), stack.ClaimOptions{}); err == nil {
				t.Error("a broadcast address was claimed")
			}
		})
	}
}

// similar compares events whose times are random within RFC 5227's bounds: 4 to
// 7 s after the claim's start.
func similar(got, want []string) bool {
	return slices.EqualFunc(got, want, func(g, w string) bool {
		var a, b string
		var x, y int
		fmt.Sscanf(g, "%s %d", &a, &x)
		fmt.Sscanf(w, "%s %d", &b, &y)
		da, _ := time.ParseDuration(a)
		db, _ := time.ParseDuration(b)
		return x == y && (da-db).Abs() <= 2*time.Second
	})
}

// TestGiveUp: a host that gives up its address resets its connections first, so
// that the peer does not go on with whoever has it then (RFC 5227 §2.4).
func TestGiveUp(t *testing.T) {
	p := newPairAt(t, 1, stack.Config{}, wire.Options{}, nil, []string{"10.77.0.2/24"})
	if err := p.ia.ClaimAddr(netip.MustParsePrefix("10.77.0.1/24"), stack.ClaimOptions{Probe: true}); err != nil {
		t.Fatal(err)
	}
	p.net.RunFor(10 * time.Second)
	l, err := p.b.BindTCP(addrPort("0.0.0.0:7"), false, false)
	if err == nil {
		err = l.Listen(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := p.a.NewUDP(false)
	if err := u.Bind(addrPort("10.77.0.1:9")); err != nil {
		t.Fatal(err)
	}
	p.net.RunFor(time.Second)
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	// A host that insists: it has the address by hand.
	n, i := p.net.Host(p.seg, stack.Config{}, nil, "10.77.0.1/24")
	p.net.RunFor(5 * time.Second)
	if err := other.Err(); err != syscall.ECONNRESET {
		t.Errorf("the peer: %v", err)
	}
	if err := c.Err(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("the connection: %v", err)
	}
	if err := u.TakeError(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("the UDP socket: %v", err)
	}
	if p.ia.Addrs()[0].Addr().Is4() || !slices.Contains(i.Addrs(), netip.MustParsePrefix("10.77.0.1/24")) {
		t.Errorf("addresses %v, %v", p.ia.Addrs(), i.Addrs())
	}
	if len(p.ib.Addrs()) == 0 {
		t.Error("the bystander lost its address")
	}
	u.Close()
	c.Abort()
	other.Abort()
	p.net.RunFor(time.Second)
	n.Close()
}

// TestLinkLocalARP: what is said of link-local addresses is broadcast (RFC 3927
// §2.5), answers too; of others it is not.
func TestLinkLocalARP(t *testing.T) {
	for _, a := range []string{"169.254.7.7", "10.77.0.7"} {
		h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
		h.add(a + "/16")
		h.run(5 * time.Second)
		h.d.take()
		out := h.send(arpRequest(netip.MustParseAddr(a)))
		if len(out) != 1 {
			t.Fatalf("%s: %d answers", a, len(out))
		}
		want := peerMAC
		if a[0] == '1' && a[1] == '6' {
			want = ether.Broadcast
		}
		if got := ether.Addr(out[0][:6]); got != want {
			t.Errorf("%s: answered to %v, want %v", a, got, want)
		}
	}
}

// TestMTU4: DHCP's MTU bounds IPv4 packets, and only those.
func TestMTU4(t *testing.T) {
	p := newPair(t, wire.Options{})
	if err := p.ia.SetMTU4(1000); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []int{67, 1501, -1} {
		if err := p.ia.SetMTU4(bad); err == nil {
			t.Errorf("MTU %d was accepted", bad)
		}
	}
	l, err := p.b.BindTCP(addrPort("[::]:7"), false, false)
	if err == nil {
		err = l.Listen(9)
	}
	if err != nil {
		t.Fatal(err)
	}
	for to, mss := range map[string]int{"10.77.0.2:7": 1000 - 40, "[fd77::2]:7": 1500 - 60} {
		c, err := p.a.DialTCP(netip.AddrPort{}, addrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		p.net.RunFor(time.Second)
		if got := c.Info().AdvMSS; got != mss {
			t.Errorf("%s: MSS %d, want %d", to, got, mss)
		}
		c.Abort()
	}
	if p.ia.MTU4() != 1000 || p.ia.MTU() != 1500 {
		t.Errorf("MTU %d, %d", p.ia.MTU4(), p.ia.MTU())
	}
	if err := p.ia.SetMTU4(0); err != nil || p.ia.MTU4() != 1500 {
		t.Errorf("MTU %d: %v", p.ia.MTU4(), err)
	}
	p.net.RunFor(time.Second)
}
