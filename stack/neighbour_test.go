package stack_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// The neighbour tests run for both families: ARP and neighbour discovery drive
// one cache and differ in their bytes only.
type familyCase struct {
	name     string
	v6       bool
	stranger netip.Addr // on the link, unknown
	source   netip.Addr // ours
}

var families = []familyCase{
	{"ipv4", false, netip.MustParseAddr("10.77.0.50"), hostIP4},
	{"ipv6", true, netip.MustParseAddr("fd77::50"), hostIP6},
}

func eachFamily(t *testing.T, f func(t *testing.T, c familyCase)) {
	for _, c := range families {
		t.Run(c.name, func(t *testing.T) { f(t, c) })
	}
}

// answer is the stranger's answer to a question about its address.
func (c familyCase) answer(mac ether.Addr) []byte {
	if !c.v6 {
		b := make([]byte, arp.PacketLen)
		arp.Put(b, arp.OpReply, mac, c.stranger, hostMAC, hostIP4)
		return eth(hostMAC, ether.TypeARP, b)
	}
	m := ipv6.NeighborAdvert{Target: c.stranger, Solicited: true, Override: true, TargetMAC: mac, HasMAC: true}
	return icmp6(255, c.stranger, hostIP6, m.Append(nil))
}

// unasked is a statement of the stranger's address that nobody asked for, to
// everybody.
func (c familyCase) unasked(mac ether.Addr) []byte {
	if !c.v6 {
		b := make([]byte, arp.PacketLen)
		arp.Put(b, arp.OpReply, mac, c.stranger, ether.Broadcast, c.stranger)
		return eth(ether.Broadcast, ether.TypeARP, b)
	}
	m := ipv6.NeighborAdvert{Target: c.stranger, TargetMAC: mac, HasMAC: true}
	return icmp6(255, c.stranger, ipv6.AllNodes, m.Append(nil))
}

// questions lists whom the frames ask for, as "target" or, by unicast,
// "target@mac".
func questions(t testing.TB, frames [][]byte) (list []string) {
	t.Helper()
	for _, f := range frames {
		p, to := parse(t, f), ether.Addr(f[:6])
		target := ""
		if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && a.Operation == layers.ARPRequest {
			x, _ := netip.AddrFromSlice(a.DstProtAddress)
			target = x.String()
		} else if a, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
			target = a.TargetAddress.String()
			if p.NetworkLayer().(*layers.IPv6).HopLimit != 255 || len(a.Options) != 1 || !bytes.Equal(a.Options[0].Data, hostMAC[:]) {
				t.Errorf("solicitation for %s: %+v", target, a)
			}
		}
		if target != "" {
			if !to.IsGroup() {
				target += "@" + to.String()
			}
			list = append(list, target)
		}
	}
	return list
}

func wantQuestions(t testing.TB, frames [][]byte, want ...string) {
	t.Helper()
	if got := questions(t, frames); !slices.Equal(got, want) {
		t.Errorf("asked for %v, want %v", got, want)
	}
}

// payloads lists the UDP payloads among frames, with their link destination.
func payloads(t testing.TB, frames [][]byte) (list []string) {
	t.Helper()
	for _, f := range frames {
		if u, ok := layerOf[*layers.UDP](t, [][]byte{f}); ok {
			list = append(list, fmt.Sprintf("%s>%v", u.Payload, ether.Addr(f[:6])))
		}
	}
	return list
}

func newUDP(t testing.TB, s *stack.Stack) *stack.Datagram {
	t.Helper()
	u, err := s.NewUDP(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func TestFirstPacketWaits(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{Limits: stack.Limits{NeighbourQueue: 4}}, stack.InterfaceConfig{})
		u := newUDP(t, h.s)
		to := netip.AddrPortFrom(c.stranger, 9)
		for k := range 10 {
			if err := u.SendTo([]byte{'a' + byte(k)}, to); err != nil {
				t.Fatal(err)
			}
		}
		wantQuestions(t, h.d.take(), c.stranger.String()) // ten packets, one question
		mac := ether.Addr{2, 0, 0, 0, 0, 0x50}
		out := payloads(t, h.send(c.answer(mac)))
		// RFC 1122 §2.3.2.2: the latest are kept, in order.
		var want []string
		for _, p := range []string{"g", "h", "i", "j"} {
			want = append(want, p+">"+mac.String())
		}
		if !slices.Equal(out, want) {
			t.Errorf("sent %v, want %v", out, want)
		}
		if n := h.count("neigh." + c.name + ".queue-drops"); n != 6 {
			t.Errorf("%d counted as dropped, want 6", n)
		}
	})
}

func TestUnreachableNeighbour(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		start := h.n.Now()
		u, lone := newUDP(t, h.s), newUDP(t, h.s)
		if err := u.Connect(netip.AddrPortFrom(c.stranger, 9)); err != nil {
			t.Fatal(err)
		}
		if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if err := lone.SendTo([]byte("y"), netip.AddrPortFrom(c.stranger, 9)); err != nil {
			t.Fatal(err)
		}
		conn, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(c.stranger, 80))
		if err != nil {
			t.Fatal(err)
		}
		var woken []stack.Ready
		conn.Waiters().Add(&stack.Waiter{Want: stack.ReadyOut, F: func(r stack.Ready) { woken = append(woken, r) }})
		// Three questions, a second apart (RFC 4861 §10; Linux for ARP too).
		name := c.stranger.String()
		wantQuestions(t, h.d.take(), name)
		for _, at := range []time.Duration{time.Second, 2 * time.Second} {
			h.n.RunFor(start.Add(at).Sub(h.n.Now()) - time.Millisecond)
			wantQuestions(t, h.d.take())
			h.n.RunFor(time.Millisecond)
			wantQuestions(t, h.d.take(), name)
		}
		if err := conn.Err(); err != nil {
			t.Errorf("connection failed early: %v", err)
		}
		h.n.RunFor(time.Second)
		wantQuestions(t, h.d.take())
		if err := u.TakeError(); err != syscall.EHOSTUNREACH {
			t.Errorf("connected socket: %v", err)
		}
		if err := lone.TakeError(); err != nil {
			t.Errorf("unconnected socket was told %v", err) // RFC 1122 §4.1.3.3, as Linux
		}
		if err := conn.Err(); err != syscall.EHOSTUNREACH || conn.State() != tcp.Closed {
			t.Errorf("connection: %v in %v", err, conn.State())
		}
		if len(woken) == 0 || woken[0]&stack.ReadyErr == 0 {
			t.Errorf("waiters were told %v", woken)
		}
		conn.Close()
		// For a moment the failure is remembered.
		if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != syscall.EHOSTUNREACH {
			t.Errorf("right after: %v", err)
		}
		if conn, err = h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(c.stranger, 80)); err != nil || conn.Err() != syscall.EHOSTUNREACH {
			t.Errorf("dial right after: %v, %v", err, conn.Err())
		}
		wantQuestions(t, h.d.take())
		h.n.RunFor(2 * time.Second)
		if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
			t.Errorf("later: %v", err)
		}
		wantQuestions(t, h.d.take(), name)
		if n := h.count(c.name + ".drop.no-neighbour"); n < 4 {
			t.Errorf("%d drops counted", n)
		}
	})
}

// TestPacing: however much is sent, a neighbour is asked once a second, and
// the silence of one delays no other.
func TestPacing(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		u := newUDP(t, h.s)
		asked := 0
		for range 100 {
			u.SendTo([]byte("x"), netip.AddrPortFrom(c.stranger, 9))
			asked += len(questions(t, h.run(10*time.Millisecond)))
		}
		if asked != 2 { // at 0 s and at 1 s
			t.Errorf("%d questions within a second, want 2", asked)
		}
		other := c.stranger.Next()
		u.SendTo([]byte("x"), netip.AddrPortFrom(other, 9))
		wantQuestions(t, h.d.take(), other.String())
	})
}

// TestUnsolicitedIsNotLearnt: what nobody asked for makes no entry, and does
// not replace a fresh one.
func TestUnsolicitedIsNotLearnt(t *testing.T) {
	evil, good := ether.Addr{2, 6, 6, 6, 6, 6}, ether.Addr{2, 0, 0, 0, 0, 0x50}
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		u := newUDP(t, h.s)
		to := netip.AddrPortFrom(c.stranger, 9)
		if out := h.send(c.unasked(evil)); len(out) != 0 {
			t.Errorf("%d frames in answer to nothing", len(out))
		}
		u.SendTo([]byte("x"), to)
		wantQuestions(t, h.d.take(), c.stranger.String())
		h.send(c.answer(good))
		h.send(c.unasked(evil))
		u.SendTo([]byte("y"), to)
		if out := payloads(t, h.d.take()); !slices.Equal(out, []string{"y>" + good.String()}) {
			t.Errorf("sent %v, want to %v", out, good)
		}
	})
}

// TestNUD: STALE, DELAY, PROBE by unicast, and FAILED or REACHABLE.
func TestNUD(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		for _, answers := range []bool{true, false} {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
			peer := peerIP4
			if c.v6 {
				peer = peerIP6
			}
			u := newUDP(t, h.s)
			say := func() []byte {
				if c.v6 {
					return advert(peerIP6, hostIP6, true, true)
				}
				return arpReply(peerMAC, peerIP4)
			}
			h.send(arpReply(peerMAC, peerIP4), advert(peerIP6, hostIP6, true, true))
			probe := peer.String() + "@" + peerMAC.String()
			h.n.RunFor(50 * time.Second) // nobody uses it: nobody asks
			wantQuestions(t, h.d.take())
			u.SendTo([]byte("x"), netip.AddrPortFrom(peer, 9))
			h.n.RunFor(5*time.Second - 1)
			if out := h.d.take(); len(payloads(t, out)) != 1 || len(questions(t, out)) != 0 {
				t.Errorf("%d frames in DELAY", len(out))
			}
			h.n.RunFor(1)
			wantQuestions(t, h.d.take(), probe)
			if answers {
				h.send(say())
				h.n.RunFor(10 * time.Second)
				wantQuestions(t, h.d.take())
				u.SendTo([]byte("x"), netip.AddrPortFrom(peer, 9))
				wantQuestions(t, h.run(4*time.Second)) // REACHABLE
				continue
			}
			h.n.RunFor(2 * time.Second)
			wantQuestions(t, h.d.take(), probe, probe)
			h.n.RunFor(1 * time.Second)
			u.SendTo([]byte("x"), netip.AddrPortFrom(peer, 9))
			h.n.RunFor(3 * time.Second)
			out := h.d.take()
			if q := questions(t, out); len(q) == 0 || slices.Contains(q, probe) || len(payloads(t, out)) != 0 {
				t.Errorf("after the probes: asked %v and sent %v", q, payloads(t, out))
			}
			if h.count("neigh."+c.name+".unreachable") != 1 {
				t.Error("not counted as unreachable")
			}
		}
	})
}

// TestProgressConfirms: a connection that gets acknowledgments vouches for its
// next hop, so that nothing is probed (RFC 4861 §7.3.1).
func TestProgressConfirms(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		p := h.connect(h.listen(80, 10), c.v6, 5000)
		asked := 0
		for range 60 {
			p.conn.Write([]byte("x"))
			h.n.RunFor(50 * time.Millisecond)
			for _, q := range questions(t, h.d.sent) {
				if (q[:2] == "fd") == c.v6 {
					asked++
				}
			}
			p.take()
			p.input(tcp.FlagACK, "")
			h.n.RunFor(950 * time.Millisecond)
		}
		if asked != 0 {
			t.Errorf("%d questions in a minute of steady progress", asked)
		}
	})
}

// Segments that bring nothing new do not: the peer may send for ever and hear
// nothing of us.
func TestRepetitionConfirmsNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		p := h.connect(h.listen(80, 10), c.v6, 5000)
		p.conn.Write([]byte("x"))
		asked := 0
		for range 60 {
			h.n.RunFor(time.Second)
			for _, q := range questions(t, h.d.sent) {
				if (q[:2] == "fd") == c.v6 {
					asked++
				}
			}
			h.d.take()
			p.input(tcp.FlagACK, "") // of everything but the x
		}
		if asked == 0 {
			t.Error("no question in a minute without progress")
		}
	})
}
