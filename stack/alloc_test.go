package stack_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// handClock is moved by hand and calls nobody, so that what it does is not
// counted.
type handClock struct{ t mono.Time }

func (c *handClock) Now() mono.Time         { return c.t }
func (c *handClock) Wake(mono.Time, func()) {}

// newSteady is a host whose device keeps nothing and which knows its peer.
func newSteady(t *testing.T) (*testHost, *handClock) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := &handClock{t: mono.Time(time.Hour)}
	h := &testHost{T: t, d: &injector{mtu: 1500}}
	h.s = stack.New(stack.Config{Clock: c, Seed: 7})
	t.Cleanup(func() { h.s.Close() })
	var err error
	if h.i, err = h.s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: h.d, MAC: hostMAC, NoDAD: true}); err != nil {
		t.Fatal(err)
	}
	h.add("10.77.0.7/24")
	h.add("fd77::7/64")
	h.d.inject(arpRequest(hostIP4))
	h.d.inject(solicit(peerIP6, hostIP6, hostMAC, true))
	h.d.take()
	return h, c
}

func wantNoAllocs(t *testing.T, what string, runs int, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(runs, f); n != 0 {
		t.Errorf("%s: %v allocations", what, n)
	}
}

const allocRuns = 200

func TestAllocsTCP(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h, clock := newSteady(t)
		l := h.listen(80, 1)
		h.d.inject(syn(c.v6, 4000, 80, 1000, 1460))
		s, ok := tcpOf(h.d.take())
		if !ok {
			t.Fatal("no SYN-ACK")
		}
		rcv := uint32(s.Seq) + 1
		h.d.inject(segment(c.v6, 4000, 80, 1001, rcv, tcp.FlagACK, nil))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h.d.mute = true
		// In: a full segment, and the ACK that every second one brings.
		data := pattern(1000)
		var frames, acks [][]byte
		snd := uint32(1001)
		for range allocRuns + 100 {
			frames = append(frames, segment(c.v6, 4000, 80, snd, rcv, tcp.FlagACK, data))
			snd += uint32(len(data))
		}
		buf := make([]byte, 4096)
		k := 0
		in := func() {
			h.d.inject(frames[k])
			if n, err := conn.Read(buf); n != len(data) || err != nil {
				t.Fatalf("read %d, %v", n, err)
			}
			k++
			clock.t = clock.t.Add(time.Millisecond)
		}
		for range 50 {
			in()
		}
		wantNoAllocs(t, "TCP in", allocRuns, in)
		if k != allocRuns+51 {
			t.Fatalf("%d segments", k)
		}
		// Out: a write, its segment, and the peer's ACK of it.
		snd = 1001 + uint32(k*len(data))
		for i := range allocRuns + 100 {
			acks = append(acks, segment(c.v6, 4000, 80, snd, rcv+uint32((i+1)*len(data)), tcp.FlagACK, nil))
		}
		k = 0
		out := func() {
			if n, err := conn.Write(data); n != len(data) || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			h.d.inject(acks[k])
			k++
			clock.t = clock.t.Add(time.Millisecond)
		}
		for range 50 {
			out()
		}
		wantNoAllocs(t, "TCP out", allocRuns, out)
		if i := conn.Info(); i.Unacked != 0 || i.BytesAcked < uint64((allocRuns+50)*len(data)) {
			t.Errorf("%d bytes acknowledged, %d not", i.BytesAcked, i.Unacked)
		}
	})
}

func TestAllocsUDP(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h, _ := newSteady(t)
		u := newUDP(t, h.s)
		if err := u.Bind(addrPort("[::]:7")); err != nil {
			t.Fatal(err)
		}
		h.d.mute = true
		peer := netip.AddrPortFrom(peerIP4, 1234)
		if c.v6 {
			peer = netip.AddrPortFrom(peerIP6, 1234)
		}
		data, buf := pattern(1000), make([]byte, 2000)
		frame := datagram(c.v6, 1234, 7, data)
		echo := echo4(1, 1, data, nil)
		if c.v6 {
			echo = echo6(1, 1, data)
		}
		both := func() {
			h.d.inject(frame)
			n, _, from, err := u.RecvFrom(buf)
			if n != len(data) || from != peer || err != nil {
				t.Fatalf("received %d from %v, %v", n, from, err)
			}
			if err := u.SendTo(buf[:n], from); err != nil {
				t.Fatal(err)
			}
		}
		both()
		wantNoAllocs(t, "UDP in and out", allocRuns, both)
		wantNoAllocs(t, "ping", allocRuns, func() { h.d.inject(echo) })
		if err := u.Connect(peer); err != nil {
			t.Fatal(err)
		}
		both()
		wantNoAllocs(t, "connected UDP in and out", allocRuns, both)
		if n := h.count("udp.output"); n < 2*allocRuns {
			t.Errorf("%d datagrams sent", n)
		}
	})
}
