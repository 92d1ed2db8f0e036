package stack_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// TestRouteLocalnet: loopback addresses are outside when the stack has none and
// the interface lets them out; one of the two is not enough, and nobody outside
// reaches ours.
func TestRouteLocalnet(t *testing.T) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	for _, c := range []struct {
		localnet, removed bool
		err               error // of a route to 127.0.0.1
		taken             bool  // an answer from there
	}{
		{false, false, nil, false},
		{false, true, syscall.ENETUNREACH, false},
		{true, false, nil, false},
		{true, true, nil, true},
	} {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{RouteLocalnet: c.localnet}).meet()
		for dst, gw := range map[string]netip.Addr{"0.0.0.0/0": peerIP4, "::/0": peerIP6} {
			if err := h.s.AddRoute(stack.Route{Dst: p(dst), Gateway: gw}); err != nil {
				t.Fatal(err)
			}
		}
		if lo := h.s.Interfaces()[0]; c.removed {
			for _, x := range []string{"127.0.0.1", "::1"} {
				if err := lo.DelAddr(a(x)); err != nil {
					t.Fatal(err)
				}
			}
		}
		pr, err := h.s.NewProber(new(heard))
		if err != nil {
			t.Fatal(err)
		}
		for dst, src := range map[string]netip.Addr{"127.0.0.1": hostIP4, "127.3.2.1": hostIP4, "::1": hostIP6} {
			r, err := pr.Route(a(dst), netip.Addr{}, nil)
			if err != c.err {
				t.Errorf("%+v: a route to %s: %v", c, dst, err)
			}
			if outside := c.localnet && c.removed; err == nil && (r.Src() == src) != outside {
				t.Errorf("%+v: a packet to %s is from %s", c, dst, r.Src())
			}
		}
		// Echo requests show best what is taken: they are answered.
		echo := func(src, dst netip.Addr) int {
			if src.Is4() {
				return len(h.send(echo4(1, 1, nil, func(f *ipv4.Fields) { f.Src, f.Dst = src, dst })))
			}
			b := make([]byte, icmp.HeaderLen)
			icmp.Put(b, icmp.TypeEcho6, 0, [4]byte{})
			return len(h.send(withMAC(hostMAC, icmp6(64, src, dst, b))))
		}
		if n4, n6 := echo(a("127.0.0.1"), hostIP4), echo(a("::1"), hostIP6); (n4 == 1) != c.taken || (n6 == 1) != c.taken {
			t.Errorf("%+v: %d and %d answers to loopback addresses", c, n4, n6)
		}
		if n4, n6 := echo(peerIP4, a("127.0.0.1")), echo(peerIP6, a("::1")); n4+n6 > 0 {
			t.Errorf("%+v: %d and %d answers from loopback addresses", c, n4, n6)
		}
		pr.Close()
	}
}

// TestNeighbourQueue: as many frames wait for a neighbour as the limit says, and
// are sent when it has answered.
func TestNeighbourQueue(t *testing.T) {
	for _, limit := range []int{0, 1500} {
		for _, dst := range []string{"10.0.0.2", "fd00::2"} {
			n := simnet.New(1)
			seg := n.Segment(wire.Options{MTU: 1500, Delay: delay})
			s, _ := n.Host(seg, stack.Config{Limits: stack.Limits{NeighbourQueue: limit}}, nil, "10.0.0.1/24", "fd00::1/64")
			peer, _ := n.Host(seg, stack.Config{}, nil, "10.0.0.2/24", "fd00::2/64")
			h := new(heard)
			pr, err := s.NewProber(h)
			if err != nil {
				t.Fatal(err)
			}
			r := route(t, pr, dst)
			proto := uint8(ipv4.ProtoICMP)
			if r.Dst().Is6() {
				proto = ipv6.ProtoICMPv6
			}
			id := port(t, pr, proto)
			want := limit
			if limit == 0 {
				want = 64
			}
			for range want + 10 {
				send(t, pr, &r, stack.ProbeHeader{Protocol: proto}, echo(&r, id, "x"))
			}
			n.RunFor(time.Second)
			if len(h.inputs) != want {
				t.Errorf("%s, limit %d: %d answers", dst, limit, len(h.inputs))
			}
			pr.Close()
			n.RunFor(time.Minute)
			s.Close()
			peer.Close()
			n.RunFor(time.Second)
		}
	}
}
