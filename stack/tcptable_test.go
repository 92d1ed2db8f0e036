package stack_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

func wantTable(t testing.TB, s *stack.Stack, entries, timeWait int) {
	t.Helper()
	if e, w := s.Table(); e != entries || w != timeWait {
		t.Errorf("%d entries in the table, %d of them TIME-WAIT; want %d and %d", e, w, entries, timeWait)
	}
}

// exchange connects, has a line echoed, and closes first.
func (p *pair) exchange(to string) {
	p.t.Helper()
	if got := p.echoTransfer(to, []byte("hello\n"), time.Minute); string(got) != "hello\n" {
		p.t.Fatalf("%q came back", got)
	}
}

func (p *pair) listenEcho(s *stack.Stack, port uint16) *stack.TCPListener {
	p.t.Helper()
	l, err := s.BindTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), port), false, false)
	if err == nil {
		err = l.Listen(100)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	serveEcho(p.t, l)
	return l
}

// TestThousandConnections leave records that vanish after 2 MSL, and nothing
// else.
func TestThousandConnections(t *testing.T) {
	p := newPair(t, wire.Options{})
	p.listenEcho(p.b, 7)
	for k := range 1000 {
		p.exchange([]string{"10.77.0.2:7", "[fd77::2]:7"}[k%2])
	}
	p.net.RunFor(time.Second)
	wantTable(t, p.a, 1000, 1000)
	wantTable(t, p.b, 0, 0)
	p.net.RunFor(60 * time.Second)
	wantTable(t, p.a, 0, 0)
	p.net.RunFor(10 * time.Minute)
	if a, b := p.a.Timers(), p.b.Timers(); a != 0 || b != 0 {
		t.Errorf("%d and %d timers left", a, b)
	}
	p.wantDrops()
	if c := p.b.Counters(); c["tcp.passive-open"] != 1000 || c["tcp.accepted"] != 1000 || p.a.Counters()["tcp.active-open"] != 1000 {
		t.Errorf("%v", c)
	}
}

func TestTimeWaitLimit(t *testing.T) {
	p := newPairOf(t, 1, stack.Config{Limits: stack.Limits{TimeWait: 8}}, wire.Options{})
	p.listenEcho(p.b, 7)
	for range 20 {
		p.exchange("10.77.0.2:7")
	}
	wantTable(t, p.a, 8, 8)
	p.net.RunFor(61 * time.Second)
	wantTable(t, p.a, 0, 0)
}

// closeFirst closes the host's end of p first and takes it to TIME-WAIT.
func (p *peerConn) closeFirst() {
	p.h.Helper()
	p.h.d.take()
	p.conn.Close()
	if list := p.take(); len(list) != 1 || list[0].Flags&tcp.FlagFIN == 0 {
		p.h.Fatalf("no FIN: %v", list)
	}
	p.input(tcp.FlagACK|tcp.FlagFIN, "")
	if list := p.take(); len(list) != 1 || list[0].Flags != tcp.FlagACK {
		p.h.Fatalf("FIN not acknowledged: %v", list)
	}
}

// TestTimeWaitReopens: RFC 9293 §3.10.7.4, RFC 6191.
func TestTimeWaitReopens(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, 5)
		p := h.connect(l, c.v6, 4000)
		p.closeFirst()
		wantTable(t, h.s, 1, 1)
		// The FIN again is acknowledged again, and 2 MSL start anew.
		h.run(50 * time.Second)
		p.snd--
		p.input(tcp.FlagACK|tcp.FlagFIN, "")
		if list := p.take(); len(list) != 1 || list[0].Flags != tcp.FlagACK {
			t.Errorf("FIN in TIME-WAIT answered by %v", list)
		}
		h.run(50 * time.Second)
		wantTable(t, h.s, 1, 1)
		// An old duplicate of the SYN is not a new connection.
		old := syn(c.v6, 4000, 80, p.snd-1000, 1460)
		for _, f := range append(h.send(old), h.run(5*time.Millisecond)...) {
			if s, ok := tcpOf([][]byte{f}); ok && s.Flags != tcp.FlagACK {
				t.Errorf("an old SYN was answered by %v", s.Flags)
			}
		}
		wantTable(t, h.s, 1, 1)
		// A later one is, and its sequence numbers are above the old ones.
		var s tcp.Segment
		for _, f := range append(h.send(syn(c.v6, 4000, 80, p.snd+100000, 1460)), h.run(5*time.Millisecond)...) {
			if x, ok := tcpOf([][]byte{f}); ok {
				s = x
			}
		}
		if s.Flags != tcp.FlagSYN|tcp.FlagACK || s.Ack != seq.Num(p.snd+100001) || int32(uint32(s.Seq)-p.rcv) <= 0 {
			t.Errorf("a new SYN was answered by %v, old numbers up to %d", s.String(), p.rcv)
		}
		wantTable(t, h.s, 1, 0)
		l.Close()
		wantTable(t, h.s, 0, 0)
	})
}

// TestTimeWaitDeclines: a SYN that could open a new connection, had somebody
// listened, ends the old one by way of the peer, and the next is refused
// (RFC 9293 §3.10.7.4, Linux).
func TestTimeWaitDeclines(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, 5)
		p := h.connect(l, c.v6, 4000)
		p.closeFirst()
		l.Close()
		again := p.snd + 100000
		s, ok := tcpOf(h.send(syn(c.v6, 4000, 80, again, 1460)))
		if !ok || s.Flags != tcp.FlagACK || uint32(s.Ack) != p.snd || uint32(s.Seq) != p.rcv {
			t.Fatalf("a SYN that nobody takes was answered by %v", s.String())
		}
		wantTable(t, h.s, 1, 1)
		// RFC 9293 §3.10.7.3, first: the peer resets what it did not send.
		if out := h.send(segment(c.v6, 4000, 80, uint32(s.Ack), 0, tcp.FlagRST, nil)); len(out) != 0 {
			t.Errorf("a RST was answered by %x", out)
		}
		wantTable(t, h.s, 0, 0)
		s, ok = tcpOf(h.send(syn(c.v6, 4000, 80, again, 1460)))
		if !ok || s.Flags != tcp.FlagRST|tcp.FlagACK || uint32(s.Ack) != again+1 {
			t.Errorf("the SYN again was answered by %v", s.String())
		}
	})
}

// TestBacklog: as Linux, n+1 connections wait; the handshakes of others stay
// open until there is room.
func TestBacklog(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 2)
	iss := map[uint16]uint32{}
	for port := uint16(4000); port < 4005; port++ {
		if s, ok := tcpOf(h.send(syn(false, port, 80, 1000, 1460))); ok {
			iss[port] = uint32(s.Seq)
		}
	}
	if len(iss) != 5 {
		t.Fatalf("%d SYN-ACKs", len(iss))
	}
	ack := func(port uint16) { h.send(segment(false, port, 80, 1001, iss[port]+1, tcp.FlagACK, nil)) }
	for port := uint16(4000); port < 4005; port++ {
		ack(port)
	}
	if n := h.count("tcp.drop.listen-overflow"); n != 2 {
		t.Errorf("%d overflows, want 2", n)
	}
	if out := h.send(syn(false, 4005, 80, 1000, 1460)); len(out) != 0 {
		t.Errorf("a SYN to a full queue was answered: %s", describe(out[0]))
	}
	n := 0
	for {
		if _, err := l.Accept(); err != nil {
			break
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d accepted, want 3", n)
	}
	ack(4003) // the peer's next segment gets in
	if _, err := l.Accept(); err != nil {
		t.Errorf("after there was room: %v", err)
	}
	wantTable(t, h.s, 5, 0)
}

// TestListenerClose resets what nobody accepted.
func TestListenerClose(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	l := h.listen(80, 5)
	accepted := h.connect(l, false, 4000)
	s, _ := tcpOf(h.send(syn(false, 4001, 80, 1000, 1460)))
	h.send(segment(false, 4001, 80, 1001, uint32(s.Seq)+1, tcp.FlagACK, nil))
	half, _ := tcpOf(h.send(syn(false, 4002, 80, 1000, 1460)))
	wantTable(t, h.s, 3, 0)
	h.d.take()
	l.Close()
	out := h.d.take()
	if r, ok := tcpOf(out); !ok || len(out) != 1 || r.DstPort != 4001 || r.Flags&tcp.FlagRST == 0 || r.Seq != s.Seq+1 {
		t.Errorf("%d frames: %v", len(out), r.String())
	}
	if r, ok := tcpOf(h.send(segment(false, 4002, 80, 1001, uint32(half.Seq)+1, tcp.FlagACK, nil))); !ok || r.Flags != tcp.FlagRST {
		t.Errorf("half-open connection answered by %v", r.String())
	}
	if _, err := l.Accept(); err != syscall.EBADF {
		t.Errorf("accept: %v", err)
	}
	if l.Ready()&stack.ReadyHup == 0 {
		t.Error("no hang-up")
	}
	wantTable(t, h.s, 1, 0)
	accepted.input(tcp.FlagACK|tcp.FlagPSH, "x")
	if n, err := accepted.conn.Read(make([]byte, 5)); n != 1 {
		t.Errorf("accepted connection: %d, %v", n, err)
	}
	// As on Linux: the connection has the port still, unless both share it.
	if _, err := h.s.BindTCP(l.Addr(), false, true); err != syscall.EADDRINUSE {
		t.Errorf("port of a connection: %v", err)
	}
	accepted.conn.SetSharing(stack.ShareAddr)
	if _, err := h.s.BindTCP(l.Addr(), false, true); err != nil {
		t.Errorf("port not given back: %v", err)
	}
}

// TestCloseResets: Close resets connections; Drain, below, ends them in order.
func TestCloseResets(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		l := h.listen(80, 5)
		p, q := h.connect(l, c.v6, 4000), h.connect(l, c.v6, 4001)
		h.d.take()
		h.s.Close()
		out := h.d.take()
		var ports []uint16
		for _, f := range out {
			if r, ok := tcpOf([][]byte{f}); ok && r.Flags&tcp.FlagRST != 0 {
				ports = append(ports, r.DstPort)
			}
		}
		if fmt.Sprint(ports) != "[4000 4001]" {
			t.Errorf("resets to ports %v", ports)
		}
		for _, x := range []*peerConn{p, q} {
			if x.conn.State() != tcp.Closed {
				t.Errorf("left in %v", x.conn.State())
			}
			if _, err := x.conn.Write([]byte("x")); err == nil {
				t.Error("write to a closed stack")
			}
		}
		if _, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(peerIP4, 80)); err == nil {
			t.Error("dial on a closed stack")
		}
		if _, err := h.s.BindTCP(addrPort("0.0.0.0:0"), false, false); err == nil {
			t.Error("bind on a closed stack")
		}
		if _, err := h.s.NewUDP(false); err == nil {
			t.Error("socket on a closed stack")
		}
	})
}

func TestDrain(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 5)
	p := h.connect(l, false, 4000)
	half := h.send(syn(false, 4001, 80, 1000, 1460))
	if len(half) != 1 {
		t.Fatal("no SYN-ACK")
	}
	p.conn.Write([]byte("last words"))
	h.s.Drain(atOnce)
	list := p.take()
	if string(p.got) != "last words" || list[len(list)-1].Flags&tcp.FlagFIN == 0 {
		t.Errorf("got %q, then %v", p.got, list)
	}
	if s, ok := tcpOf(h.send(syn(false, 4002, 80, 1000, 1460))); !ok || s.Flags&tcp.FlagRST == 0 {
		t.Errorf("a listener is left: %v", s.String())
	}
	p.input(tcp.FlagACK, "")
	h.s.Drain(atOnce)
	wantTable(t, h.s, 1, 0)
	p.input(tcp.FlagACK|tcp.FlagFIN, "")
	wantTable(t, h.s, 1, 1)
	h.s.Drain(context.Background()) // does not wait for TIME-WAIT
	if err := h.s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestListenersSpecificAndWildcard(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	bind := func(a string, only6, share bool) *stack.TCPListener {
		t.Helper()
		l, err := h.s.BindTCP(addrPort(a), only6, share)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		if err := l.Listen(5); err != nil {
			t.Fatal(err)
		}
		return l
	}
	any, four, own4, own6 := bind("[::]:80", false, true), bind("0.0.0.0:80", false, true), bind("10.77.0.7:80", false, true), bind("[fd77::7]:80", false, true)
	if err := h.i.AddAddr(netip.MustParsePrefix("10.77.0.8/24")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dst  string
		want *stack.TCPListener
	}{{"10.77.0.7", own4}, {"10.77.0.8", four}, {"fd77::7", own6}, {"fe80::ff:fe00:7", any}} {
		dst := netip.MustParseAddr(c.dst)
		f := syn(dst.Is6(), 4000, 80, 1, 1460)
		if dst.Is6() {
			copy(f[14+24:], dst.AsSlice())
		} else {
			copy(f[14+16:], dst.AsSlice())
		}
		repair(f)
		s, ok := tcpOf(h.send(f))
		if !ok {
			t.Fatalf("%s: no SYN-ACK", c.dst)
		}
		f = segment(dst.Is6(), 4000, 80, 2, uint32(s.Seq)+1, tcp.FlagACK, nil)
		if dst.Is6() {
			copy(f[14+24:], dst.AsSlice())
		} else {
			copy(f[14+16:], dst.AsSlice())
		}
		repair(f)
		h.send(f)
		for _, l := range []*stack.TCPListener{any, four, own4, own6} {
			if conn, err := l.Accept(); (err == nil) != (l == c.want) {
				t.Errorf("%s: listener on %v: %v", c.dst, l.Addr(), err)
			} else if err == nil && conn.LocalAddr().Addr().WithZone("") != dst {
				t.Errorf("%s: local address %v", c.dst, conn.LocalAddr())
			}
		}
	}
	for _, x := range []struct {
		a     string
		only6 bool
		err   error
	}{{"[::]:81", false, nil}, {"0.0.0.0:81", false, syscall.EADDRINUSE}, {"10.77.0.7:81", false, syscall.EADDRINUSE}, {"[::]:82", true, nil},
		{"0.0.0.0:82", false, nil}, {"[fd77::7]:82", false, syscall.EADDRINUSE}, {"10.77.0.99:83", false, syscall.EADDRNOTAVAIL}} {
		if _, err := h.s.BindTCP(addrPort(x.a), x.only6, false); err != x.err {
			t.Errorf("bind %s: %v, want %v", x.a, err, x.err)
		}
	}
}

// TestSimultaneousOpen: two SYNs cross (RFC 9293 §3.5, figure 7).
func TestSimultaneousOpen(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := newPair(t, wire.Options{Delay: 10 * time.Millisecond})
		x, y := "10.77.0.1", "10.77.0.2"
		if v6 {
			x, y = "[fd77::1]", "[fd77::2]"
		}
		a, err := p.a.DialTCP(addrPort(x+":5000"), addrPort(y+":6000"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.b.DialTCP(addrPort(y+":6000"), addrPort(x+":5000"))
		if err != nil {
			t.Fatal(err)
		}
		if !p.net.Until(10*time.Second, func() bool { return a.State() == tcp.Established && b.State() == tcp.Established }) {
			t.Fatalf("states %v and %v", a.State(), b.State())
		}
		a.Write([]byte("from a"))
		b.Write([]byte("from b"))
		p.net.RunFor(time.Second)
		buf := make([]byte, 20)
		n, _ := a.Read(buf)
		m, _ := b.Read(buf[n:])
		if string(buf[:n]) != "from b" || m != 6 {
			t.Errorf("received %q and %d bytes", buf[:n], m)
		}
		// And closed at once (figure 13): both in TIME-WAIT.
		a.Close()
		b.Close()
		p.net.RunFor(time.Second)
		wantTable(t, p.a, 1, 1)
		wantTable(t, p.b, 1, 1)
		if _, err := a.Read(buf); err != io.EOF && err == nil {
			t.Errorf("read after close: %v", err)
		}
	}
}
