package stack_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// TestPathMTUOfWhatPasses: a router that could have let a datagram pass has
// nothing to say about the path.
func TestPathMTUOfWhatPasses(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		u := newUDP(t, h.s)
		peer, hl := peerIP4, 28
		if c.v6 {
			peer, hl = peerIP6, 48
		}
		mtu := func() int {
			w, err := h.s.Routes().Get(peer, netip.Addr{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return w.MTU
		}
		for _, x := range []struct {
			quoted, mtu, want int
		}{{1400, 1400, 1500}, {1400, 9000, 1500}, {1400, 1399, 1399}, {1300, 1300, 1399}, {1300, 1299, 1299}} {
			if err := u.SendTo(pattern(x.quoted-hl), netip.AddrPortFrom(peer, 9)); err != nil {
				t.Fatal(err)
			}
			h.send(tooBig(c.v6, uint32(x.mtu), h.d.take()[0]))
			if got := mtu(); got != x.want {
				t.Errorf("a packet of %d bytes, said to be too long for %d: %d bytes are believed, want %d", x.quoted, x.mtu, got, x.want)
			}
		}
	})
}

// TestPathMTUCostsLittle: what a stranger's message makes the stack do does not
// grow with the number of its routes.
func TestPathMTUCostsLittle(t *testing.T) {
	const n = 100
	cost := func(routes int) uint64 {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		for k := range routes {
			if err := h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", 100+k/256, k%256)), Gateway: peerIP4}); err != nil {
				t.Fatal(err)
			}
		}
		u := newUDP(t, h.s)
		u.SendTo(pattern(1472), netip.AddrPortFrom(peerIP4, 9))
		quoted := h.d.take()[0]
		var errors [n][]byte
		for k := range errors {
			errors[k] = tooBig(false, uint32(1400-k), quoted)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, e := range errors {
			h.d.inject(e)
		}
		runtime.ReadMemStats(&after)
		if w, _ := h.s.Routes().Get(peerIP4, netip.Addr{}, nil); w.MTU != 1400-n+1 {
			t.Fatalf("MTU %d", w.MTU)
		}
		return (after.TotalAlloc - before.TotalAlloc) / n
	}
	few, many := cost(1), cost(500)
	if t.Logf("%d bytes, %d with many routes", few, many); many > few+20<<10 {
		t.Errorf("a message costs %d bytes, and %d with many routes", few, many)
	}
}

// TestPathMTUTableIsBounded: in a full table what would be forgotten first makes
// place.
func TestPathMTUTableIsBounded(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{PathMTU: 3}}, stack.InterfaceConfig{}).meet()
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: peerIP4})
	h.s.Neighbours().Set(h.i, peerIP4, peerMAC)
	u := newUDP(t, h.s)
	dst := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
	var quoted [6][]byte
	say := func(n byte) {
		if quoted[n] == nil {
			u.SendTo(pattern(1472), netip.AddrPortFrom(dst(n), 9))
			quoted[n] = h.d.take()[0]
		}
		h.send(tooBig(false, 1300, quoted[n]))
		h.run(time.Minute)
	}
	for _, c := range []struct {
		about byte
		known string
	}{{1, "1"}, {2, "12"}, {3, "123"}, {4, "234"}, {5, "345"}, {2, "245"}} {
		say(c.about)
		known := ""
		for n := byte(1); n <= 5; n++ {
			if w, err := h.s.Routes().Get(dst(n), netip.Addr{}, nil); err == nil && w.MTU < 1500 {
				known += string(rune('0' + n))
			}
		}
		if known != c.known {
			t.Errorf("after %d: known are %s, want %s", c.about, known, c.known)
		}
	}
}

// TestPathMTUForEchoReplies: an error about a reply is believed if that was sent,
// to that host, and not long ago.
func TestPathMTUForEchoReplies(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(reply []byte) // what the error quotes
		wait   time.Duration
		want   int
	}{
		{"sent", func([]byte) {}, 9 * time.Second, 1300},
		{"sent long ago", func([]byte) {}, 11 * time.Second, 1500},
		{"of another number", func(b []byte) { b[14+20+7]++ }, 0, 1500},
		{"to another host", func(b []byte) { b[14+19] = 50 }, 0, 1500},
	} {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		out := h.send(echo4(7, 1, pattern(1472), nil))
		if len(out) != 1 {
			t.Fatalf("%d answers", len(out))
		}
		quoted := bytes.Clone(out[0])
		c.change(quoted)
		h.run(c.wait)
		h.send(tooBig(false, 1300, quoted))
		for _, dst := range []netip.Addr{peerIP4, netip.AddrFrom4([4]byte{10, 77, 0, 50})} {
			want := c.want
			if dst != peerIP4 {
				want = 1500
			}
			if w, err := h.s.Routes().Get(dst, netip.Addr{}, nil); err != nil || w.MTU != want {
				t.Errorf("%s: %d bytes to %v, want %d: %v", c.name, w.MTU, dst, want, err)
			}
		}
	}
}
