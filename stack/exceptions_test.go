package stack_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

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
	if t.Logf("%d bytes, %d with many routes", few, many); many > 10*few {
		t.Errorf("a message costs %d bytes, and %d with many routes", few, many)
	}
}
