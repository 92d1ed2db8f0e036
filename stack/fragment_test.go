package stack_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestFragmentsBothWays echoes datagrams of all sizes over links of several
// MTUs, in order and out of order.
func TestFragmentsBothWays(t *testing.T) {
	for _, mtu := range []int{1280, 1500, 9000} {
		for _, reorder := range []float64{0, 0.3} {
			t.Run(fmt.Sprint(mtu, " ", reorder), func(t *testing.T) {
				p := newPair(t, wire.Options{MTU: mtu, Delay: time.Millisecond, Reorder: reorder, ReorderBy: 3 * time.Millisecond})
				defer echoUDP(t, p.b, 7).Close()
				u := newUDP(t, p.a)
				for _, dst := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
					most, hl := 65507, 28
					if dst[0] == '[' {
						most, hl = 65527, 48
					}
					for _, n := range []int{0, 1, mtu - hl - 1, mtu - hl, mtu - hl + 1, 2 * mtu, 60000, most} {
						data := pattern(n)
						if err := u.SendTo(data, addrPort(dst)); err != nil {
							t.Fatalf("%d bytes: %v", n, err)
						}
						buf := make([]byte, 65536)
						var got []byte
						if !p.net.Until(time.Second, func() bool {
							n, _, _, err := u.RecvFrom(buf)
							got = buf[:n]
							return err == nil
						}) || !bytes.Equal(got, data) {
							t.Errorf("%s: %d bytes came back as %d", dst, n, len(got))
						}
					}
				}
				p.wantDrops()
			})
		}
	}
}

// TestFragmentIdentifiers do not repeat to one destination (RFC 6864 §4.2,
// RFC 8200 §4.5), and packets in one piece of IPv4 have none.
func TestFragmentIdentifiers(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	u := newUDP(t, h.s)
	seen := map[string]int{}
	for k := range 1000 {
		for _, dst := range []netip.Addr{peerIP4, peerIP6} {
			if err := u.SendTo(pattern(1600), netip.AddrPortFrom(dst, 9)); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range h.run(time.Millisecond) {
			if h4, _, ok := ip4Of(f); ok && h4.IsFragment() {
				seen[fmt.Sprint("4 ", h4.ID(), h4.Offset())]++
			} else if c, _, d := ipv6.Walk(f[14:]); !ok && d == ipv6.DropNone && c.HasFrag {
				seen[fmt.Sprint("6 ", c.FragID, c.FragOffset)]++
			}
		}
		if len(seen) != 4*(k+1) {
			t.Fatalf("%d fragments told apart after %d datagrams", len(seen), k+1)
		}
	}
	// There are 65536 of them for IPv4, and then they begin again.
	h.d.mute = true
	for range 1 << 16 {
		if err := u.SendTo(pattern(1600), netip.AddrPortFrom(peerIP4, 9)); err != nil {
			t.Fatal(err)
		}
	}
	h.d.mute = false
	u.SendTo(pattern(1600), netip.AddrPortFrom(peerIP4, 9))
	if n := len(h.d.take()); n != 2 {
		t.Errorf("%d fragments after all identifiers were used", n)
	}
	u.SendTo([]byte("x"), netip.AddrPortFrom(peerIP4, 9))
	if ip, _ := layerOf[*layers.IPv4](t, h.d.take()); ip == nil || ip.Id != 0 || ip.Flags != layers.IPv4DontFragment {
		t.Errorf("whole packet: %+v", ip)
	}
}

// TestReassemblyLimits: a flood of first fragments is bounded, visibly, and
// leaves room for an honest datagram.
func TestReassemblyLimits(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{FragmentBytes: 64 << 10, FragmentBytesPerSource: 16 << 10}}, stack.InterfaceConfig{}).meet()
	echoUDP(t, h.s, 7)
	for k := range 500 {
		src := netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + k%20)})
		h.d.inject(ip4(ipv4.ProtoUDP, pattern(1000), func(f *ipv4.Fields) { f.Src, f.ID, f.MF = src, uint16(k), true }))
		h.d.inject(frag6(uint32(k), ipv6.ProtoUDP, 0, true, pattern(1000)))
	}
	h.d.take()
	for _, name := range []string{"ipv4", "ipv6"} {
		if n := h.count(name+".reassembly-evicted") + h.count(name+".drop.memory"); n < 400 {
			t.Errorf("%s: %d given up: %v", name, n, h.s.Counters())
		}
	}
	if out := h.send(cut4(999, ipv4.ProtoUDP, payloadOf(datagram(false, 1, 7, pattern(3000))), 1480)...); len(out) != 3 {
		t.Errorf("honest datagram: %d frames came back", len(out))
	}
	if out := h.send(cut6(999, ipv6.ProtoUDP, payloadOf(datagram(true, 1, 7, pattern(3000))), 1448)...); len(out) != 3 {
		t.Errorf("honest IPv6 datagram: %d frames came back", len(out))
	}
}
