package stack_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/stack"
)

// redirect is a router's message about a packet that we sent.
func redirect(code uint8, gateway netip.Addr, quoted []byte) []byte {
	b := gateway.As4()
	return icmpError(icmp.TypeRedirect4, code, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]), quoted)
}

// TestRedirect: who is believed, for how long, and until when.
func TestRedirect(t *testing.T) {
	a := netip.MustParseAddr
	far := addrPort("192.0.2.1:9")
	second := a("10.77.0.200")
	var h *testHost
	start := func(c stack.InterfaceConfig) (*stack.Datagram, []byte) {
		h = newTestHost(t, stack.Config{}, c).meet()
		h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: peerIP4})
		u := newUDP(t, h.s)
		if err := u.SendTo(pattern(1400), far); err != nil {
			t.Fatal(err)
		}
		return u, h.d.take()[0]
	}
	hop := func(dst netip.Addr) netip.Addr {
		w, err := h.s.Routes().Get(dst, netip.Addr{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.NextHop
	}
	for _, c := range []struct {
		name    string
		code    uint8
		gateway string
		change  func(redirect, packet []byte)
		ic      stack.InterfaceConfig
		want    bool
	}{
		{name: "network", code: 0, gateway: "10.77.0.200", want: true},
		{name: "host", code: 1, gateway: "10.77.0.200", want: true},
		{name: "host and service", code: 3, gateway: "10.77.0.200", want: true},
		{name: "no such code", code: 4, gateway: "10.77.0.200"},
		{name: "not on the link", code: 1, gateway: "10.78.0.1"},
		{name: "the same router", code: 1, gateway: "10.77.0.1"},
		{name: "ourselves", code: 1, gateway: "10.77.0.7"},
		{name: "broadcast", code: 1, gateway: "10.77.0.255"},
		{name: "group", code: 1, gateway: "224.0.0.1"},
		{name: "nobody", code: 1, gateway: "0.0.0.0"},
		{name: "not wanted", code: 1, gateway: "10.77.0.200", ic: stack.InterfaceConfig{NoRedirects: true}},
		{name: "from a stranger", code: 1, gateway: "10.77.0.200", change: func(r, _ []byte) { r[29] = 99 }},
		{name: "of a packet that was not ours", code: 1, gateway: "10.77.0.200", change: func(_, p []byte) { p[29] = 99 }},
		{name: "of a port that nobody has", code: 1, gateway: "10.77.0.200", change: func(_, p []byte) { p[34] ^= 0x40 }},
		{name: "of another protocol", code: 1, gateway: "10.77.0.200", change: func(_, p []byte) { p[23] = 200 }},
	} {
		_, packet := start(c.ic)
		var none []byte
		if c.change != nil {
			c.change(make([]byte, 64), packet)
		}
		r := redirect(c.code, a(c.gateway), packet)
		if c.change != nil {
			c.change(r, make([]byte, 64))
			repair(r)
		}
		h.send(r)
		if got := hop(far.Addr()) == second; got != c.want {
			t.Errorf("%s: believed %v, %v", c.name, got, drops(h.s))
		}
		if n := h.count("icmp.drop.redirect-refused"); (n == 0) != c.want {
			t.Errorf("%s: %d refused", c.name, n)
		}
		if other := hop(a("192.0.2.2")); other != peerIP4 {
			t.Errorf("%s: another destination goes to %v", c.name, other)
		}
		_ = none
	}

	// What was learnt is used by sockets, and grows old.
	u, packet := start(stack.InterfaceConfig{})
	h.send(redirect(1, second, packet))
	u.SendTo([]byte("x"), far)
	if q := questions(t, h.d.take()); len(q) != 1 || q[0] != second.String() {
		t.Errorf("asked for %v", q)
	}
	h.run(10 * time.Second) // the new router does not answer
	if got := hop(far.Addr()); got != peerIP4 {
		t.Errorf("a router that is not there is still used: %v", got)
	}
	u.TakeError()

	h.s.Neighbours().Set(h.i, second, hostMAC)
	h.s.Neighbours().Set(h.i, peerIP4, peerMAC)
	h.send(redirect(1, second, packet))
	h.run(4 * time.Minute)
	if got := hop(far.Addr()); got != second {
		t.Errorf("forgotten too early: %v", got)
	}
	// The next router sends us on; it is the first hop now.
	h.s.Neighbours().Set(h.i, a("10.77.0.201"), hostMAC)
	third := redirect(1, a("10.77.0.201"), packet)
	copy(third[26:], []byte{10, 77, 0, 200})
	repair(third)
	h.send(third)
	if got := hop(far.Addr()); got != a("10.77.0.201") {
		t.Errorf("redirected again, to %v", got)
	}
	h.run(5 * time.Minute)
	if got := hop(far.Addr()); got != peerIP4 {
		t.Errorf("after five minutes: %v", got)
	}
	// A path MTU of the same destination is another statement.
	h.send(redirect(1, second, packet), tooBig(false, 1300, packet))
	w, _ := h.s.Routes().Get(far.Addr(), netip.Addr{}, nil)
	if w.NextHop != second || w.MTU != 1300 {
		t.Errorf("both: %+v", w)
	}
	h.run(6 * time.Minute)
	if w, _ = h.s.Routes().Get(far.Addr(), netip.Addr{}, nil); w.NextHop != peerIP4 || w.MTU != 1300 {
		t.Errorf("the redirect is over: %+v", w)
	}
	// With the route it was against it is no more.
	h.send(redirect(1, second, packet))
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: a("10.77.0.50")})
	if got := hop(far.Addr()); got != a("10.77.0.50") {
		t.Errorf("a new route: %v", got)
	}
}

// TestErrorsPerDestination: one who draws errors gets six at once and one a
// second, and leaves the others theirs.
func TestErrorsPerDestination(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	sent := 0
	for range 20 {
		sent += len(h.send(datagram(false, 1, 99, []byte("x"))))
	}
	if sent != 6 || h.count("icmp.drop.rate-limited") != 14 {
		t.Errorf("%d errors at once: %v", sent, drops(h.s))
	}
	if out := h.send(datagram(true, 1, 99, []byte("x"))); len(out) != 1 {
		t.Error("another destination got none")
	}
	h.run(2500 * time.Millisecond)
	sent = 0
	for range 20 {
		sent += len(h.send(datagram(false, 1, 99, []byte("x"))))
	}
	if sent != 2 {
		t.Errorf("%d errors after 2.5 s", sent)
	}
}

// TestTinyPath: a path that is said to carry less than 552 bytes gets packets of
// 552 without DF, for routers to cut (Linux's locked MTU).
func TestTinyPath(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	u := newUDP(t, h.s)
	if err := u.Connect(netip.AddrPortFrom(peerIP4, 9)); err != nil {
		t.Fatal(err)
	}
	u.SendTo(make([]byte, 1000), netip.AddrPort{})
	h.send(tooBig(false, 300, h.d.take()[0]))
	u.TakeError()
	if err := u.SendTo(make([]byte, 500), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	if x := header4(h.d.take()[0]); x.DF() || x.IsFragment() {
		t.Errorf("DF %v", x.DF())
	}
	if n, _ := u.PathMTU(); n != 552 {
		t.Errorf("path MTU %d", n)
	}
}
