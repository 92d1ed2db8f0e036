package stack_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestConnectionLimit: whatever way in is tried, the table holds no more than
// Limits.Connections, and there is room again when some have ended.
func TestConnectionLimit(t *testing.T) {
	const most = 20
	for _, mode := range []stack.SynCookies{stack.SynCookiesAuto, stack.SynCookiesAlways} {
		h := newTestHost(t, stack.Config{Limits: stack.Limits{Connections: most}, TCP: stack.TCPConfig{SynCookies: mode}}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.fastListen(100)
		var cookie []byte
		if mode == stack.SynCookiesAuto {
			cookie = h.cookieFor(false, 3999, false)
		}
		var conns []*peerConn
		for k := range most {
			conns = append(conns, h.connect(l, k%2 == 1, uint16(4000+k)))
		}
		wantTable(t, h.s, most, 0)
		drops := h.count("tcp.drop.memory")
		if drops != 0 {
			t.Errorf("%d drops below the limit", drops)
		}
		// By a handshake,
		if s, ok := tcpOf(h.send(syn(false, 5000, 80, 1000, 1460))); ok {
			h.send(segment(false, 5000, 80, 1001, uint32(s.Seq)+1, tcp.FlagACK, nil))
		}
		// by text in the SYN,
		h.send(fastSYN(false, 5001, 1000, "hello", cookie, false))
		// and from here.
		if _, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(peerIP4, 80)); err != syscall.ENOBUFS {
			t.Errorf("dial: %v", err)
		}
		if _, err := l.Accept(); err == nil {
			t.Error("accepted beyond the limit")
		}
		wantTable(t, h.s, most, 0)
		if n := h.count("tcp.drop.memory"); n < 2 {
			t.Errorf("%d drops", n)
		}
		conns[0].conn.Abort()
		h.d.take()
		h.connect(l, false, 6000)
	}
}

// TestClosedWindows: peers ask for something and never open their window, and
// answer every probe, so that they count as alive. While a program holds such a
// connection it stays, as RFC 9293 §3.8.6.1 wants it and Linux does; when it is
// closed, it ends in spite of the answers.
func TestClosedWindows(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 100)
	answer := h.d.sees
	var got int
	h.d.sees = func(f []byte) {
		answer(f)
		s, ok := tcpOf([][]byte{f})
		if !ok || s.Flags&(tcp.FlagSYN|tcp.FlagRST) != 0 {
			return
		}
		got++
		r := tcp.Segment{SrcPort: s.DstPort, DstPort: s.SrcPort, Seq: s.Ack, Ack: s.Seq, Flags: tcp.FlagACK}
		if s.PayloadLen() == 0 {
			r.Ack = s.Seq + 1 // a probe's number is the one before
		}
		b := segmentOf(len(f) > 14 && f[12] == 0x86, r, nil)
		h.n.After(time.Millisecond, func() { h.d.inject(b) })
	}
	var conns []*peerConn
	for k := range 50 {
		p := h.connect(l, k%2 == 1, uint16(4000+k))
		h.d.take()
		r := tcp.Segment{SrcPort: p.sport, DstPort: 80, Seq: 1001, Ack: 0, Flags: tcp.FlagACK}
		r.Ack = r.Ack.Add(int(p.rcv))
		h.send(segmentOf(p.v6, r, nil)) // the window is closed
		conns = append(conns, p)
		if n, err := p.conn.Write(pattern(10_000)); n != 10_000 || err != nil {
			t.Fatal(n, err)
		}
	}
	h.d.mute = true
	h.d.take()
	h.run(time.Hour)
	wantTable(t, h.s, 50, 0)
	if got < 50*20 {
		t.Errorf("%d probes", got)
	}
	for _, p := range conns {
		if p.conn.State() != tcp.Established {
			t.Fatalf("given up: %v", p.conn.Err())
		}
		p.conn.Close()
	}
	h.run(time.Hour)
	wantTable(t, h.s, 0, 0)
}
