package stack_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// fastSYN is a SYN with text and the Fast Open option; cookie nil leaves the
// option out.
func fastSYN(v6 bool, sport uint16, number uint32, text string, cookie []byte, exp bool) []byte {
	s := tcp.Segment{SrcPort: sport, DstPort: 80, Seq: seq.Num(number), Flags: tcp.FlagSYN, Window: 5000}
	s.Options = tcp.Options{MSS: 1400, SACKPermitted: true}
	if cookie != nil {
		s.Options.FastOpen = tcp.FastOpenOption{Present: true, Exp: exp, Len: uint8(len(cookie))}
		copy(s.Options.FastOpen.Cookie[:], cookie)
	}
	return segmentOf(v6, s, []byte(text))
}

// cookieFor asks the host for a cookie.
func (h *testHost) cookieFor(v6 bool, sport uint16, exp bool) []byte {
	h.Helper()
	s, ok := tcpOf(h.send(fastSYN(v6, sport, 1000, "", []byte{}, exp)))
	f := s.Options.FastOpen
	if !ok || s.Flags != tcp.FlagSYN|tcp.FlagACK || !f.Present || f.Len != 8 || f.Exp != exp {
		h.Fatalf("a request for a cookie was answered by %v", s.String())
	}
	h.send(segment(v6, sport, 80, 1001, 0, tcp.FlagRST, nil))
	return f.Cookie[:f.Len]
}

func (h *testHost) fastListen(n int) *stack.TCPListener {
	l := h.listen(80, 10)
	l.SetFastOpen(n)
	return l
}

// TestFastOpenServer: from the request for a cookie to a connection that is
// used before its handshake is done.
func TestFastOpenServer(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		for _, exp := range []bool{false, true} {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
			h.answers()
			l := h.fastListen(5)
			cookie := h.cookieFor(c.v6, 4000, exp)
			wantTable(t, h.s, 0, 0)
			s, ok := tcpOf(h.send(fastSYN(c.v6, 4001, 1000, "hello", cookie, exp)))
			if !ok || s.Flags != tcp.FlagSYN|tcp.FlagACK || s.Ack != 1006 || s.Options.FastOpen.Present {
				t.Fatalf("a good cookie was answered by %v", s.String())
			}
			conn, err := l.Accept()
			if err != nil || conn.State() != tcp.SynReceived || conn.Ready() != stack.ReadyIn|stack.ReadyOut {
				t.Fatalf("%v, %v", err, conn)
			}
			buf := make([]byte, 10)
			if n, err := conn.Read(buf); string(buf[:n]) != "hello" || err != nil {
				t.Errorf("read %q, %v", buf[:n], err)
			}
			if n, err := conn.Write([]byte("world")); n != 5 || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			r, ok := tcpOf(h.d.take())
			if !ok || r.Seq != s.Seq+1 || r.Ack != 1006 || string(r.Payload[0]) != "world" {
				t.Errorf("sent %v", r.String())
			}
			h.send(segment(c.v6, 4001, 80, 1006, uint32(s.Seq)+6, tcp.FlagACK|tcp.FlagPSH, []byte("more")))
			if n, _ := conn.Read(buf); string(buf[:n]) != "more" || conn.State() != tcp.Established || !conn.Info().SynData {
				t.Errorf("read %q in %v", buf[:n], conn.State())
			}
			if _, err := l.Accept(); err == nil {
				t.Error("accepted twice")
			}
			// Another address, another cookie; nothing of its text is taken,
			// and the right cookie comes along.
			bad := append([]byte(nil), cookie...)
			bad[3]++
			s, ok = tcpOf(h.send(fastSYN(c.v6, 4002, 1000, "hello", bad, exp)))
			f := s.Options.FastOpen
			if !ok || s.Ack != 1001 || !f.Present || string(f.Cookie[:8]) != string(cookie) {
				t.Errorf("a bad cookie was answered by %v", s.String())
			}
			h.run(time.Second)
			h.send(segment(c.v6, 4002, 80, 1001, uint32(s.Seq)+1, tcp.FlagACK, nil))
			if conn, err := l.Accept(); err != nil || conn.Info().SynData {
				t.Errorf("an ordinary handshake after that: %v", err)
			}
			for name, want := range map[string]uint64{"passive": 1, "passive-fail": 1, "cookie-requested": 1, "listen-overflow": 0} {
				if got := h.count("tcp.fast-open-" + name); got != want {
					t.Errorf("%s: %d, want %d", name, got, want)
				}
			}
		}
	})
}

// TestFastOpenNotWanted: who did not ask for it, or is forbidden to, does not
// notice.
func TestFastOpenNotWanted(t *testing.T) {
	for _, c := range []struct {
		name      string
		mode      stack.FastOpen
		n         int
		cookie    []byte
		want, ask bool // the text is taken; a cookie comes
	}{
		{"a listener without", 0, 0, []byte{}, false, false},
		{"no permission", stack.FastOpenClient, 5, []byte{}, false, false},
		{"off", stack.FastOpenOff, 5, []byte{}, false, false},
		{"text without the option", 0, 5, nil, false, false},
		{"text without the option, which is enough", stack.FastOpenServer | stack.FastOpenServerNoCookie, 5, nil, true, false},
		{"the same without the listener", stack.FastOpenServer | stack.FastOpenServerNoCookie, 0, nil, false, false},
		{"all listeners", stack.FastOpenServer | stack.FastOpenAllListeners, 0, []byte{}, false, true},
	} {
		h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{FastOpen: c.mode}}, stack.InterfaceConfig{}).meet()
		h.answers()
		h.fastListen(c.n)
		s, ok := tcpOf(h.send(fastSYN(false, 4000, 1000, "hello", c.cookie, false)))
		if !ok || (s.Ack == 1006) != c.want || s.Options.FastOpen.Present != c.ask {
			t.Errorf("%s: answered by %v", c.name, s.String())
		}
	}
}

// TestFastOpenLimits: so many wait for the end of their handshake, and those
// that the peer resets count for a while.
func TestFastOpenLimits(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.fastListen(3)
	cookie := h.cookieFor(false, 4000, false)
	iss := map[uint16]uint32{}
	open := func(port uint16) bool {
		t.Helper()
		s, ok := tcpOf(append(h.send(fastSYN(false, port, 1000, "hello", cookie, false)), h.run(5*time.Millisecond)...))
		if !ok {
			t.Fatalf("port %d: no answer", port)
		}
		iss[port] = uint32(s.Seq)
		return s.Ack == 1006
	}
	for port := range uint16(3) {
		if !open(5000 + port) {
			t.Fatalf("connection %d was not opened", port)
		}
	}
	if open(5003) || h.count("tcp.fast-open-listen-overflow") != 1 {
		t.Error("a fourth was opened")
	}
	// The end of a handshake makes room,
	h.send(segment(false, 5000, 80, 1006, iss[5000]+1, tcp.FlagACK, nil))
	if !open(5004) {
		t.Error("no room after a handshake")
	}
	// a reset does not at once.
	h.send(segment(false, 5001, 80, 1006, 0, tcp.FlagRST, nil))
	if open(5005) {
		t.Error("room after a reset")
	}
	// What was reset is still in the queue, with its text.
	var conns []*stack.TCPConn
	for range 4 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	buf := make([]byte, 10)
	if n, err := conns[1].Read(buf); n != 5 || conns[1].State() != tcp.Closed {
		t.Errorf("of a connection that was reset: %d, %v", n, err)
	}
	if _, err := conns[1].Read(buf); err != syscall.ECONNRESET {
		t.Errorf("then %v", err)
	}
	// The program ending one makes room, time makes room for the reset one,
	// and for those that never answer.
	conns[2].Abort()
	if !open(5006) {
		t.Error("no room after an abort")
	}
	h.run(59 * time.Second)
	if open(5007) {
		t.Error("room before the minute is over")
	}
	h.run(2 * time.Second)
	if !open(5008) {
		t.Error("no room after a minute")
	}
	h.run(5 * time.Minute)
	if conns[3].Err() != syscall.ETIMEDOUT {
		t.Errorf("whom nobody answered: %v", conns[3].Err())
	}
	conns[3].Close() // its text waits for that
	for port := range uint16(3) {
		if !open(5010 + port) {
			t.Errorf("no room for %d after all is over", port)
		}
	}
	// Nothing is left when the listener goes.
	h.d.take()
	l.Close()
	resets := 0
	for _, f := range h.d.take() {
		if s, ok := tcpOf([][]byte{f}); ok && s.Flags&tcp.FlagRST != 0 {
			resets++
		}
	}
	if resets < 3 {
		t.Errorf("%d resets", resets)
	}
}

// TestFastOpenUnreachable: an ICMP error about the SYN-ACK ends the connection
// while nobody has accepted it, and no later one does (as Linux).
func TestFastOpenUnreachable(t *testing.T) {
	for _, accepted := range []bool{false, true} {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.fastListen(3)
		cookie := h.cookieFor(false, 4000, false)
		out := h.send(fastSYN(false, 5000, 1000, "hello", cookie, false))
		var conn *stack.TCPConn
		var err error
		if accepted {
			if conn, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		h.send(icmpError(icmp.TypeUnreachable4, icmp.CodeHost4, 0, out[0]))
		if !accepted {
			if conn, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		if ended := conn.State() == tcp.Closed; ended == accepted {
			t.Errorf("accepted %v: %v", accepted, conn.State())
		}
		buf := make([]byte, 10)
		if n, err := conn.Read(buf); n != 5 || err != nil {
			t.Errorf("accepted %v: read %d, %v", accepted, n, err)
		}
		if _, err := conn.Read(buf); !accepted && err != syscall.EHOSTUNREACH || accepted && err != syscall.EAGAIN {
			t.Errorf("accepted %v: then %v", accepted, err)
		}
	}
}

// TestFastOpenAcceptQueue bounds it as well.
func TestFastOpenAcceptQueue(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 1)
	l.SetFastOpen(100)
	cookie := h.cookieFor(false, 4000, false)
	n := 0
	for port := range uint16(5) {
		if s, ok := tcpOf(h.send(fastSYN(false, 5000+port, 1000, "x", cookie, false))); ok && s.Ack == 1002 {
			n++
		}
	}
	if n != 2 || h.count("tcp.drop.listen-overflow") != 3 {
		t.Errorf("%d opened", n)
	}
}

// TestFastOpenKeys: cookies are good for one to two days, with given keys as
// long as those are there.
func TestFastOpenKeys(t *testing.T) {
	k1, k2, k3 := [16]byte{1}, [16]byte{2}, [16]byte{3}
	given := stack.Config{TCP: stack.TCPConfig{FastOpenKeys: [][16]byte{k1, k2}}}
	for _, c := range []struct {
		name        string
		conf        stack.Config
		wait        time.Duration
		keys        [][16]byte
		good, renew bool
	}{
		{"at once", stack.Config{}, 0, nil, true, false},
		{"a day later", stack.Config{}, 24 * time.Hour, nil, true, true},
		{"two days later", stack.Config{}, 48 * time.Hour, nil, false, true},
		{"given keys last", given, 1000 * time.Hour, nil, true, false},
		{"the key has become the second", given, 0, [][16]byte{k3, k1}, true, true},
		{"the key is gone", given, 0, [][16]byte{k3}, false, true},
	} {
		h := newTestHost(t, c.conf, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.fastListen(5)
		cookie := h.cookieFor(false, 4000, false)
		h.run(c.wait)
		l.SetFastOpenKeys(c.keys...)
		s, ok := tcpOf(append(h.send(fastSYN(false, 4001, 1000, "hello", cookie, false)), h.run(5*time.Millisecond)...))
		if !ok || (s.Ack == 1006) != c.good || s.Options.FastOpen.Present != c.renew {
			t.Errorf("%s: %v", c.name, s.String())
		}
	}
	// A caller may use the memory again.
	lent := [][16]byte{k1}
	hl := newTestHost(t, stack.Config{TCP: stack.TCPConfig{FastOpenKeys: lent}}, stack.InterfaceConfig{}).meet()
	own := [][16]byte{k2}
	hl.answers()
	bound := hl.fastListen(1)
	lent[0] = k3
	for _, k := range []([16]byte){k1, k2} {
		want := tcp.FastOpenCookie(k, peerIP4, hostIP4)
		if got := hl.cookieFor(false, 4000, false); string(got) != string(want.Cookie[:8]) {
			t.Errorf("%x, want %x", got, want.Cookie)
		}
		bound.SetFastOpenKeys(own...)
		own[0] = k3
	}
	// As Linux does it, so that others may share the key.
	h := newTestHost(t, given, stack.InterfaceConfig{}).meet()
	h.fastListen(1)
	want := tcp.FastOpenCookie(k1, peerIP4, hostIP4)
	if got := h.cookieFor(false, 4000, false); string(got) != string(want.Cookie[:8]) {
		t.Errorf("%x, want %x", got, want.Cookie)
	}
}
