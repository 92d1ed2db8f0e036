package stack_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestSynFlood: half-open connections are bounded, visibly, and others work.
func TestSynFlood(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{SynQueue: 256}, TCP: stack.TCPConfig{SynCookies: stack.SynCookiesOff}},
		stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 5)
	other := h.listen(81, 5)
	p := h.connect(l, false, 40000)
	for k := range 5000 {
		h.d.inject(syn(k%2 == 1, uint16(1024+k), 80, uint32(k)*7919, 1460))
		h.d.take()
		if k%500 == 0 {
			p.input(tcp.FlagACK|tcp.FlagPSH, "still here")
			buf := make([]byte, 20)
			if n, err := p.conn.Read(buf); err != nil || string(buf[:n]) != "still here" {
				t.Fatalf("after %d SYNs: %q, %v", k, buf[:n], err)
			}
		}
	}
	wantTable(t, h.s, 257, 0)
	if n := h.count("tcp.drop.syn-queue-full"); n != 5000-256 {
		t.Errorf("%d SYNs counted as dropped", n)
	}
	h.connect(other, true, 40001) // another listener has a queue of its own
	h.d.keep = 1
	h.run(5 * time.Minute)
	wantTable(t, h.s, 2, 0)
	h.d.keep = 0
	h.d.take()
	h.connect(l, false, 40002)
}

// fill sends n SYNs to port 80 that nobody will ever acknowledge.
func (h *testHost) fill(n int) {
	for k := range n {
		h.d.inject(syn(k%2 == 1, uint16(1024+k), 80, uint32(k)*7919, 1460))
	}
	h.d.take()
}

// fullSYN is a SYN with all options.
func fullSYN(v6 bool, sport uint16, n uint32) []byte {
	s := tcp.Segment{SrcPort: sport, DstPort: 80, Seq: seq.Num(n), Flags: tcp.FlagSYN, Window: 65535}
	s.Options = tcp.Options{MSS: 1400, SACKPermitted: true, HasWScale: true, WScale: 7, HasTS: true, TSVal: 5}
	return segmentOf(v6, s, nil)
}

// TestSynCookies: a full queue is answered with cookies, and those that come
// back are connections with all that the SYN offered.
func TestSynCookies(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{Limits: stack.Limits{SynQueue: 16}}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, 5)
		h.fill(16)
		wantTable(t, h.s, 16, 0)

		s, ok := tcpOf(h.send(fullSYN(c.v6, 40000, 1000)))
		if !ok || s.Flags != tcp.FlagSYN|tcp.FlagACK || s.Ack != 1001 || !s.Options.HasTS || !s.Options.SACKPermitted || !s.Options.HasWScale {
			t.Fatalf("answered by %v", s.String())
		}
		wantTable(t, h.s, 16, 0) // and nothing is kept of it
		h.run(20 * time.Second)
		ack := tcp.Segment{SrcPort: 40000, DstPort: 80, Seq: 1001, Ack: s.Seq + 1, Flags: tcp.FlagACK | tcp.FlagPSH, Window: 1000}
		ack.Options = tcp.Options{HasTS: true, TSVal: 9, TSEcr: s.Options.TSVal}
		bad := ack
		bad.Ack += 12345
		if r, ok := tcpOf(h.send(segmentOf(c.v6, bad, nil))); !ok || r.Flags != tcp.FlagRST || r.Seq != bad.Ack {
			t.Errorf("a wrong cookie was answered by %v", r.String())
		}
		h.send(segmentOf(c.v6, ack, []byte("hello")))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		if n, err := conn.Read(buf); string(buf[:n]) != "hello" || err != nil {
			t.Errorf("read %q, %v", buf[:n], err)
		}
		i := conn.Info()
		if i.SndWnd != 128000 || !i.SACK || !i.Timestamps || i.PeerMSS > 1400 || i.PeerMSS < 1300 || conn.State() != tcp.Established {
			t.Errorf("%+v", i)
		}
		for name, want := range map[string]uint64{"tcp.syn-cookies-sent": 1, "tcp.syn-cookies-received": 1, "tcp.syn-cookies-failed": 1,
			"tcp.drop.syn-queue-full": 0, "tcp.passive-open": 17} {
			if got := h.count(name); got != want {
				t.Errorf("%s is %d, want %d", name, got, want)
			}
		}
	})
}

// TestSynCookieOnlyAfterOverflow: an ACK that guesses right is refused when no
// cookie is on its way.
func TestSynCookieOnlyAfterOverflow(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{SynQueue: 1}, TCP: stack.TCPConfig{InitialRTO: time.Millisecond}},
		stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 5)
	other := h.listen(81, 5)
	h.fill(1)
	s, _ := tcpOf(h.send(syn(false, 40000, 80, 1000, 1460)))
	ack := func(port uint16) []byte {
		return segment(false, 40000, port, 1001, uint32(s.Seq)+1, tcp.FlagACK, nil)
	}
	if r, ok := tcpOf(h.send(ack(81))); !ok || r.Flags != tcp.FlagRST {
		t.Errorf("another listener's cookie was answered by %v", r.String())
	}
	h.run(tcp.SynCookieLife + time.Second)
	if r, ok := tcpOf(append(h.send(ack(80)), h.run(5*time.Millisecond)...)); !ok || r.Flags != tcp.FlagRST {
		t.Errorf("an old cookie was answered by %v", r.String())
	}
	if n := h.count("tcp.syn-cookies-failed"); n != 0 {
		t.Errorf("%d cookies were looked at", n)
	}
	for _, l := range []*stack.TCPListener{l, other} {
		if _, err := l.Accept(); err == nil {
			t.Error("there is a connection")
		}
	}
}

// TestSynCookiesAlways, and that the accept queue's rules hold for them too.
func TestSynCookiesAlways(t *testing.T) {
	for _, abort := range []bool{false, true} {
		h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{SynCookies: stack.SynCookiesAlways, AbortOnOverflow: abort}},
			stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, 0)
		open := func(port uint16) (tcp.Segment, bool) {
			s, ok := tcpOf(h.send(syn(false, port, 80, 1000, 1460)))
			if !ok {
				t.Fatal("no SYN-ACK")
			}
			return tcp.Segment{SrcPort: port, DstPort: 80, Seq: 1001, Ack: s.Seq + 1, Flags: tcp.FlagACK, Window: 1000}, true
		}
		first, _ := open(4000)
		second, _ := open(4001)
		wantTable(t, h.s, 0, 0)
		h.send(segmentOf(false, first, nil))
		r, ok := tcpOf(h.send(segmentOf(false, second, nil)))
		if ok != abort || ok && r.Flags != tcp.FlagRST || h.count("tcp.drop.listen-overflow") != 1 {
			t.Errorf("abort %v: an ACK that finds the queue full was answered by %v", abort, r.String())
		}
		// Text beyond the first is not the cookie's, and no reason to reset
		// who may be real; without text it is.
		later := second
		later.Seq += 100
		if r, ok := tcpOf(h.send(segmentOf(false, later, []byte("later")))); ok != abort {
			t.Errorf("abort %v: later text was answered by %v", abort, r.String())
		}
		if r, ok := tcpOf(h.send(segmentOf(false, later, nil))); !ok || r.Flags != tcp.FlagRST {
			t.Errorf("abort %v: a wrong cookie was answered by %v", abort, r.String())
		}
		if _, err := l.Accept(); err != nil {
			t.Error(err)
		}
		h.send(segmentOf(false, second, []byte("x")))
		if _, err := l.Accept(); err != nil {
			t.Errorf("abort %v: after there was room: %v", abort, err)
		}
	}
}

// TestAbortOnOverflow: Linux's tcp_abort_on_overflow, for a record.
func TestAbortOnOverflow(t *testing.T) {
	h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{AbortOnOverflow: true}}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 0)
	var iss [2]uint32
	for k := range iss {
		s, _ := tcpOf(h.send(syn(false, uint16(4000+k), 80, 1000, 1460)))
		iss[k] = uint32(s.Seq)
	}
	h.send(segment(false, 4000, 80, 1001, iss[0]+1, tcp.FlagACK, nil))
	r, ok := tcpOf(h.send(segment(false, 4001, 80, 1001, iss[1]+1, tcp.FlagACK, nil)))
	if !ok || r.Flags != tcp.FlagRST || r.Seq != seq.Num(iss[1]+1) {
		t.Errorf("answered by %v", r.String())
	}
	wantTable(t, h.s, 1, 0)
	if _, err := l.Accept(); err != nil {
		t.Error(err)
	}
}

// TestBacklogNumbers: what listen(2) makes of its argument.
func TestBacklogNumbers(t *testing.T) {
	for _, c := range []struct{ backlog, want int }{{0, 1}, {1, 2}, {-1, 9}, {7, 8}, {8, 9}, {100, 9}} {
		h := newTestHost(t, stack.Config{Limits: stack.Limits{Backlog: 8}}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, c.backlog)
		var acks [][]byte
		for port := uint16(4000); port < 4020; port++ {
			if s, ok := tcpOf(h.send(syn(false, port, 80, 1000, 1460))); ok {
				acks = append(acks, segment(false, port, 80, 1001, uint32(s.Seq)+1, tcp.FlagACK, nil))
			}
		}
		for _, f := range acks {
			h.send(f)
		}
		n := 0
		for ; ; n++ {
			if _, err := l.Accept(); err != nil {
				break
			}
		}
		if n != c.want {
			t.Errorf("backlog %d: %d connections wait, want %d", c.backlog, n, c.want)
		}
	}
}

// TestSynPruned: once half of the queue is taken, those who did not answer are
// given up early, and the young are not.
func TestSynPruned(t *testing.T) {
	count := func(n int, then int) (at []int, pruned uint64) {
		h := newTestHost(t, stack.Config{Limits: stack.Limits{SynQueue: 100}}, stack.InterfaceConfig{}).meet()
		h.answers()
		h.d.mute = true
		h.listen(80, 5)
		h.fill(n)
		for range 8 { // SYN-ACKs leave at 0, 1, 3, 7, 15, 31 s, and the end is at 63 s
			h.run(8 * time.Second)
			for k := range then {
				h.d.inject(syn(false, uint16(30000+k), 80, 1, 1460))
			}
			then = 0
			e, _ := h.s.Table()
			at = append(at, e)
		}
		return at, h.count("tcp.drop.syn-pruned")
	}
	if at, pruned := count(50, 0); fmt.Sprint(at) != "[50 50 50 50 50 50 50 0]" || pruned != 0 {
		t.Errorf("half full: %v, %d pruned", at, pruned)
	}
	// Above the half only as many are given up as it takes.
	if at, pruned := count(60, 0); fmt.Sprint(at) != "[50 50 50 50 50 50 50 0]" || pruned != 10 {
		t.Errorf("more than half full: %v, %d pruned", at, pruned)
	}
	// Those that came later take the places of those that did not answer.
	if at, pruned := count(60, 45); fmt.Sprint(at) != "[95 50 50 50 50 50 50 45]" || pruned != 55 {
		t.Errorf("with young ones: %v, %d pruned", at, pruned)
	}
}

// TestSynPrunedCount: how many retransmissions are too many follows from the
// listener's TCP_SYNCNT.
func TestSynPrunedCount(t *testing.T) {
	for _, c := range []struct {
		count  int
		at     time.Duration // half a second before one of the time-outs
		pruned uint64
	}{
		{0, 14500 * time.Millisecond, 0}, // the third of five: four are allowed for
		{4, 14500 * time.Millisecond, 10},
		{0, 30500 * time.Millisecond, 10}, // the fourth
		{8, 30500 * time.Millisecond, 0},
	} {
		h := newTestHost(t, stack.Config{Limits: stack.Limits{SynQueue: 100}}, stack.InterfaceConfig{}).meet()
		h.answers()
		h.d.mute = true
		l := h.listen(80, 5)
		if c.count != 0 {
			k := l.Knobs()
			if err := k.Set(tcp.KnobSynCount, c.count); err != nil {
				t.Fatal(err)
			}
			l.SetKnobs(k)
		}
		h.fill(40)
		h.run(c.at)
		for k := range 20 {
			h.d.inject(syn(false, uint16(30000+k), 80, 1, 1460))
		}
		h.run(time.Second)
		if n := h.count("tcp.drop.syn-pruned"); n != c.pruned {
			t.Errorf("count %d, at %v: %d pruned", c.count, c.at, n)
		}
	}
}

// TestSynUnreachable: whose SYN-ACK cannot arrive makes room, if the message
// about it is no guess.
func TestSynUnreachable(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.answers()
	h.listen(80, 5)
	out := h.send(syn(false, 4000, 80, 1000, 1460))
	wrong := append([]byte(nil), out[0]...)
	wrong[14+20+7]++ // the last byte of the sequence number
	for _, c := range []struct {
		code   uint8
		quoted []byte
		left   int
	}{{icmp.CodeHost4, wrong, 1}, {icmp.CodePort4, out[0], 1}, {icmp.CodeHost4, out[0], 0}} {
		h.send(icmpError(icmp.TypeUnreachable4, c.code, 0, c.quoted))
		wantTable(t, h.s, c.left, 0)
	}
	if n := h.count("tcp.drop.syn-pruned"); n != 1 {
		t.Errorf("%d counted", n)
	}
	if r, ok := tcpOf(h.send(segment(false, 4000, 80, 1001, 5, tcp.FlagACK, nil))); !ok || r.Flags != tcp.FlagRST {
		t.Errorf("the third segment was answered by %v", r.String())
	}
}

// TestFloodOf100000: SYNs from everywhere, ten thousand in a second, while
// clients come and go.
func TestFloodOf100000(t *testing.T) {
	p := newPairOf(t, 1, stack.Config{}, wire.Options{})
	p.listenEcho(p.b, 7)
	mac := ether.Addr{2, 0, 0, 0, 9, 9}
	attacker := p.seg.Attach("attacker", mac)
	defer attacker.Close()
	attacker.Attach(func(b *pkt.Buf) { b.Put() }, func() {})
	for _, a := range []string{"10.77.0.1:7", "[fd77::1]:7"} { // the hosts learn each other before
		if c, err := p.b.DialTCP(netip.AddrPort{}, addrPort(a)); err == nil {
			p.net.RunFor(10 * time.Millisecond)
			c.Close()
		}
	}
	hostB := ether.Addr{2, 0, 0, 0, 0, 2}
	frame := func(k int) []byte {
		s := tcp.Segment{SrcPort: uint16(1024 + k%60000), DstPort: 7, Seq: seq.Num(k * 7919), Flags: tcp.FlagSYN, Window: 65535}
		s.Options = tcp.Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: uint32(k), HasWScale: true, WScale: 7}
		b := make([]byte, s.HeaderLen())
		s.PutHeader(b)
		return spoofed(b, k%2 == 1, k/2%4, mac, hostB)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const total, perMilli = 100_000, 10
	sent, most := 0, 0
	var flood func()
	flood = func() {
		for range perMilli {
			b := pkt.From(frame(sent))
			if n, err := attacker.Send(0, []*pkt.Buf{b}); n != 1 || err != nil {
				t.Fatalf("sent %d, %v", n, err)
			}
			sent++
		}
		e, _ := p.b.Table()
		most = max(most, e)
		if sent < total {
			p.net.After(time.Millisecond, flood)
		}
	}
	flood()
	p.net.RunFor(time.Second)
	done := 0
	for sent < total {
		data := pattern(100_000)
		addr := []string{"10.77.0.2:7", "[fd77::2]:7"}[done%2]
		if got := p.echoTransfer(addr, data, 5*time.Second); len(got) != len(data) {
			t.Fatalf("connection %d: %d bytes of %d came back", done, len(got), len(data))
		}
		done++
		p.net.RunFor(50 * time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	c := p.b.Counters()
	if c["tcp.syn-cookies-sent"] < total/2 || c["tcp.syn-cookies-received"] == 0 || done < 20 {
		t.Errorf("%d transfers; %d cookies sent, %d came back", done, c["tcp.syn-cookies-sent"], c["tcp.syn-cookies-received"])
	}
	if most > 1024+200 {
		t.Errorf("%d entries in the table", most)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d KB", grown>>10)
	}
}

// spoofed wraps a segment to the second host of a pair in a frame from one of
// a few addresses that nobody has.
func spoofed(seg []byte, v6 bool, who int, from, to ether.Addr) []byte {
	src, dst := netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + who)}), netip.MustParseAddr("10.77.0.2")
	typ := ether.TypeIPv4
	var b []byte
	if v6 {
		src, dst = netip.MustParseAddr(fmt.Sprintf("fd77::%d", 100+who)), netip.MustParseAddr("fd77::2")
		typ = ether.TypeIPv6
		f := ipv6.Fields{NextHeader: ipv4.ProtoTCP, HopLimit: 64, Src: src, Dst: dst, PayloadLen: len(seg)}
		b = make([]byte, ipv6.HeaderLen)
		f.Put(b)
	} else {
		f := ipv4.Fields{TTL: 64, Protocol: ipv4.ProtoTCP, Src: src, Dst: dst, PayloadLen: len(seg)}
		b = make([]byte, f.HeaderLen())
		f.Put(b)
	}
	transport(ipv4.ProtoTCP, seg, src, dst)
	frame := make([]byte, ether.HeaderLen)
	ether.Put(frame, to, from, typ)
	return append(append(frame, b...), seg...)
}
