package stack_test

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// heap returns the bytes on the heap, without garbage and without what pools
// keep for reuse.
func heap() int64 {
	var m runtime.MemStats
	for range 3 { // a pool survives one collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestCosts weighs what a connection is in each part of its life, 10,000 of
// them with their places in table, queues and timers, and compares with what
// the memory budget is charged.
func TestCosts(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's shadow is weighed too")
	}
	const n, port0 = 10_000, 4000
	h := newTestHost(t, stack.Config{Limits: stack.Limits{SynQueue: 2 * n, Backlog: 2 * n}}, stack.InterfaceConfig{}).meet()
	l := h.listen(80, 2*n)
	syns, acks, fins := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	conns := make([]*stack.TCPConn, n)
	h.d.keep = 1
	for k := range n {
		syns[k] = syn(false, port0+uint16(k), 80, 1000, 1460)
		acks[k] = segment(false, port0+uint16(k), 80, 1001, 1, tcp.FlagACK, nil)
		fins[k] = segment(false, port0+uint16(k), 80, 1001, 1, tcp.FlagACK|tcp.FlagFIN, nil)
	}
	acknowledge := func(f []byte, ack uint32) {
		binary.BigEndian.PutUint32(f[14+20+8:], ack)
		repair(f)
	}
	send := func(f []byte) tcp.Segment {
		h.d.sent = h.d.sent[:0]
		h.d.inject(f)
		s, _ := tcpOf(h.d.sent)
		return s
	}
	charged := func() int64 {
		used, _ := h.s.Memory()
		return used
	}
	last, lastCharged := heap(), charged()
	weigh := func(what string, most int64) {
		t.Helper()
		h.d.sent = nil
		now, c := heap(), charged()
		each, cost := (now-last)/n, (c-lastCharged)/n
		t.Logf("%s: %d bytes, %d charged", what, each, cost)
		if each > most {
			t.Errorf("%s: %d bytes each, want at most %d", what, each, most)
		}
		if cost < each*9/10 || cost > each*3/2 {
			t.Errorf("%s: %d bytes each are charged as %d", what, each, cost)
		}
	}

	for k := range n {
		s := send(syns[k])
		acknowledge(acks[k], uint32(s.Seq)+1)
		acknowledge(fins[k], uint32(s.Seq)+2)
	}
	weigh("half-open", 220)

	for k := range n {
		send(acks[k])
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns[k] = c
	}
	h.n.RunFor(10 * time.Second) // nothing is in the timers' heap but what has to be
	weigh("established", 1000)

	for k := range n {
		conns[k].Close()
		send(fins[k])
		conns[k] = nil
	}
	wantTable(t, h.s, n, n)
	weigh("TIME-WAIT", 160)
	h.n.RunFor(2 * time.Minute)
	wantTable(t, h.s, 0, 0)
	if c := charged(); c != lastCharged {
		t.Errorf("%d bytes charged at the end, %d at the beginning", c, lastCharged)
	}
	if left := heap() - last; left > 20*n {
		t.Errorf("%d bytes are left of each", left/n)
	}
	for _, x := range [][][]byte{syns, acks, fins} {
		runtime.KeepAlive(x) // weighed before and after
	}
	runtime.KeepAlive(conns)
}
