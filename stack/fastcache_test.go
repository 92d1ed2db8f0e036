package stack_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// fastPair is a pair whose first host opens connections to the second.
type fastPair struct {
	*pair
	l    *stack.TCPListener
	addr string
}

func newFastPair(t *testing.T, c stack.Config, o wire.Options, v6 bool) *fastPair {
	p := &fastPair{pair: newPairOf(t, 1, c, o), addr: "10.77.0.2:7"}
	if v6 {
		p.addr = "[fd77::2]:7"
	}
	p.l = p.listenEcho(p.b, 7)
	p.l.SetFastOpen(16)
	return p
}

// ask sends text by Fast Open and returns how long the echo took, in round
// trips of 100 ms, and what the SYN carried.
func (p *fastPair) ask(text string) (trips float64, inSyn int) {
	p.t.Helper()
	start := p.net.Now()
	c, err := p.a.DialTCPFast(netip.AddrPort{}, addrPort(p.addr))
	if err != nil {
		p.t.Fatal(err)
	}
	got := ""
	rest := text
	held := c.Held()
	onReady(c.Waiters(), stack.ReadyIn|stack.ReadyOut, func() {
		if len(rest) > 0 {
			n, err := c.Write([]byte(rest))
			if err != nil && err != syscall.EAGAIN {
				p.t.Errorf("write: %v", err)
			}
			if rest = rest[n:]; held && inSyn == 0 {
				inSyn = n
			}
		}
		buf := make([]byte, 4000)
		n, _ := c.Read(buf)
		got += string(buf[:n])
	})
	if !p.net.Until(20*time.Second, func() bool { return got == text }) {
		p.t.Fatalf("received %d bytes of %d, state %v", len(got), len(text), c.State())
	}
	trips = float64(p.net.Now().Sub(start)) / float64(100*time.Millisecond)
	c.Close()
	p.net.RunFor(time.Second)
	return trips, inSyn
}

// TestFastOpenSavesATrip: two round trips the first time, one from then on.
func TestFastOpenSavesATrip(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		p := newFastPair(t, stack.Config{}, wire.Options{Delay: 50 * time.Millisecond}, c.v6)
		p.exchange(p.addr) // the hosts get to know each other
		if trips, n := p.ask("hello"); trips != 2 || n != 0 {
			t.Errorf("the first time: %.1f round trips, %d bytes in the SYN", trips, n)
		}
		for range 3 {
			if trips, n := p.ask("hello"); trips != 1 || n != 5 {
				t.Errorf("later: %.1f round trips, %d bytes in the SYN", trips, n)
			}
		}
		// More than a SYN carries.
		room := map[bool]int{false: 1460 - 40, true: 1440 - 40}[c.v6]
		if _, n := p.ask(string(pattern(10_000))); n != room {
			t.Errorf("%d bytes in the SYN, want %d", n, room)
		}
		a, b := p.a.Counters(), p.b.Counters()
		if a["tcp.fast-open-active"] != 4 || b["tcp.fast-open-passive"] != 4 || b["tcp.fast-open-cookie-requested"] != 1 ||
			a["tcp.fast-open-active-fail"] != 0 || b["tcp.fast-open-passive-fail"] != 0 {
			t.Errorf("client %v\nserver %v", a, b)
		}
		// After a day without news a new cookie is asked for, though the
		// server would still take the old one.
		p.net.RunFor(25 * time.Hour)
		p.exchange(p.addr)
		if trips, n := p.ask("hello"); trips != 2 || n != 0 {
			t.Errorf("a day later: %.1f round trips, %d bytes in the SYN", trips, n)
		}
		p.wantDrops()
	})
}

// TestFastOpenFallsBack: a server that has lost its key, or takes none at the
// moment.
func TestFastOpenFallsBack(t *testing.T) {
	p := newFastPair(t, stack.Config{}, wire.Options{Delay: 50 * time.Millisecond}, false)
	p.exchange(p.addr)
	p.ask("hello")
	p.l.SetFastOpenKeys([16]byte{1})
	if trips, n := p.ask("hello"); trips != 2 || n != 5 {
		t.Errorf("another key: %.1f round trips, %d bytes in the SYN", trips, n)
	}
	if trips, n := p.ask("hello"); trips != 1 || n != 5 {
		t.Errorf("with the new cookie: %.1f round trips, %d bytes in the SYN", trips, n)
	}
	p.l.SetFastOpen(0)
	if trips, n := p.ask("hello"); trips != 2 || n != 5 {
		t.Errorf("no more: %.1f round trips, %d bytes in the SYN", trips, n)
	}
	if c := p.a.Counters(); c["tcp.fast-open-active"] != 1 || c["tcp.fast-open-active-fail"] != 2 {
		t.Errorf("%v", c)
	}
}

// TestFastOpenForms: a server that does not answer to one form of the option is
// asked in the other once.
func TestFastOpenForms(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	var forms []string
	for k := range 5 {
		c, err := h.s.DialTCPFast(netip.AddrPort{}, netip.AddrPortFrom(peerIP4, 80))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := tcpOf(append(h.d.take(), h.run(5*time.Millisecond)...))
		forms = append(forms, map[bool]string{false: "RFC", true: "old"}[s.Options.FastOpen.Exp])
		if c.Held() != (k == 4) || s.Options.FastOpen.Present != (k < 4) {
			t.Fatalf("attempt %d: the SYN waits: %v, %v", k, c.Held(), s.String())
		}
		r := tcp.Segment{SrcPort: 80, DstPort: s.SrcPort, Seq: 1, Ack: s.Seq + 1, Flags: tcp.FlagSYN | tcp.FlagACK, Window: 1000}
		if k == 3 {
			r.Options.FastOpen = tcp.FastOpenOption{Present: true, Len: 4}
		}
		h.send(segmentOf(false, r, nil))
		c.Abort()
		h.d.take()
	}
	if fmt.Sprint(forms[:4]) != "[RFC old RFC RFC]" {
		t.Errorf("asked in %v", forms)
	}
}

// TestFastOpenBlackHole: something on the path swallows SYNs with text. The
// connection is made all the same, and soon without trying.
func TestFastOpenBlackHole(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	h.d.mute = true
	to := netip.AddrPortFrom(peerIP4, 80)
	attempt := func(to netip.AddrPort) (inSyn int, option bool) {
		t.Helper()
		inSyn = -1
		h.d.sees = func(f []byte) {
			s, ok := tcpOf([][]byte{f})
			if !ok || s.Flags != tcp.FlagSYN {
				return
			}
			if inSyn < 0 {
				inSyn, option = s.PayloadLen(), s.Options.FastOpen.Present
			}
			if s.PayloadLen() > 0 {
				return // swallowed
			}
			r := tcp.Segment{SrcPort: to.Port(), DstPort: s.SrcPort, Seq: 1, Ack: s.Seq + 1, Flags: tcp.FlagSYN | tcp.FlagACK, Window: 1000}
			r.Options.MSS = 1000
			if s.Options.FastOpen.Present {
				r.Options.FastOpen = tcp.FastOpenOption{Present: true, Len: 8}
			}
			h.n.After(time.Millisecond, func() { h.d.inject(segmentOf(false, r, nil)) })
		}
		c, err := h.s.DialTCPFast(netip.AddrPort{}, to)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("hello"))
		h.n.RunFor(1100 * time.Millisecond)
		if c.State() != tcp.Established {
			t.Errorf("state %v", c.State())
		}
		c.Abort()
		return inSyn, option
	}
	if n, option := attempt(to); n != 0 || !option {
		t.Fatalf("the first SYN: %d bytes, option %v", n, option)
	}
	start := h.n.Now()
	var tried []int
	for range 300 {
		if n, option := attempt(to); n > 0 {
			tried = append(tried, int(h.n.Now().Sub(start)/time.Minute))
		} else if option {
			t.Fatal("a cookie was asked for though one is known")
		}
		h.n.RunFor(59 * time.Second)
	}
	// Pauses of 4, 8, 16, 32 and then always 64 minutes.
	if fmt.Sprint(tried) != "[0 1 6 15 31 63 127 191 255]" {
		t.Errorf("text was tried in minutes %v", tried)
	}
	// Another port of the same server is another matter.
	if n, _ := attempt(netip.AddrPortFrom(peerIP4, 81)); n != 5 {
		t.Errorf("another port: %d bytes in the SYN", n)
	}
}

// TestFastOpenSilence: no answer at all counts as well.
func TestFastOpenSilence(t *testing.T) {
	h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{FastOpen: stack.FastOpenClient | stack.FastOpenClientNoCookie}},
		stack.InterfaceConfig{}).meet()
	h.answers()
	for k := range 3 {
		c, err := h.s.DialTCPFast(netip.AddrPort{}, netip.AddrPortFrom(peerIP4, 80))
		if err != nil {
			t.Fatal(err)
		}
		if held := c.Held(); held != (k < 2) {
			t.Errorf("attempt %d: the SYN waits: %v", k, held)
		}
		c.Write([]byte("hello"))
		h.run(130 * time.Second)
		if c.Err() != syscall.ETIMEDOUT {
			t.Errorf("attempt %d: %v", k, c.Err())
		}
	}
	if n := h.count("tcp.fast-open-active-fail"); n != 2 {
		t.Errorf("%d failures", n)
	}
}

// TestFastOpenCacheIsBounded: what was not heard of for longest goes.
func TestFastOpenCacheIsBounded(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{FastOpen: 8}}, stack.InterfaceConfig{}).meet()
	for k := range 20 {
		h.s.LearnFastOpen(netip.AddrPortFrom(hostIP4, 1), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + k)}), 80))
		h.run(time.Second)
	}
	for k := range 20 {
		c, err := h.s.DialTCPFast(netip.AddrPort{}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + k)}), 80))
		if err != nil || c.Held() != (k >= 12) {
			t.Errorf("server %d: %v, the SYN waits: %v", k, err, c.Held())
		}
		c.Abort()
	}
}

// TestFastOpenHeld: a connection whose SYN waits costs nothing on the wire, and
// can be closed, connected or made to go by an empty write.
func TestFastOpenHeld(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	local, to := netip.AddrPortFrom(hostIP4, 1), netip.AddrPortFrom(peerIP4, 80)
	h.s.LearnFastOpen(local, to)
	dial := func() *stack.TCPConn {
		t.Helper()
		c, err := h.s.DialTCPFast(netip.AddrPort{}, to)
		if err != nil || !c.Held() || c.Ready() != stack.ReadyOut || c.State() != tcp.SynSent {
			t.Fatalf("%v, %v", err, c)
		}
		if s, ok := tcpOf(h.run(10 * time.Minute)); ok {
			t.Fatalf("sent %v", s.String())
		}
		return c
	}
	c := dial()
	c.Close()
	if out := h.run(time.Minute); len(out) != 0 || c.State() != tcp.Closed {
		t.Errorf("after close: %d frames, state %v", len(out), c.State())
	}
	wantTable(t, h.s, 0, 0)
	c = dial()
	if n, err := c.Write(nil); n != 0 || err != syscall.EINPROGRESS {
		t.Errorf("an empty write: %d, %v", n, err)
	}
	s, ok := tcpOf(append(h.d.take(), h.run(5*time.Millisecond)...))
	if !ok || s.Flags != tcp.FlagSYN || s.PayloadLen() != 0 || s.Options.FastOpen.Len != 8 || c.Ready() != 0 {
		t.Errorf("it sent %v", s.String())
	}
	c.Abort()
	c = dial()
	c.Connect()
	if s, ok := tcpOf(append(h.d.take(), h.run(5*time.Millisecond)...)); !ok || s.Flags != tcp.FlagSYN || c.Held() {
		t.Errorf("connect sent %v", s.String())
	}
	c.Abort()
	off := newTestHost(t, stack.Config{TCP: stack.TCPConfig{FastOpen: stack.FastOpenServer}}, stack.InterfaceConfig{})
	if _, err := off.s.DialTCPFast(netip.AddrPort{}, to); err != syscall.EOPNOTSUPP {
		t.Errorf("without permission: %v", err)
	}
}
