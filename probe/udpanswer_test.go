package probe_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestTraceAnsweringPort: an answer of a UDP service does not say which datagram it
// is to. It is not taken for one to a datagram that a silent router before the
// destination got.
func TestTraceAnsweringPort(t *testing.T) {
	for _, dst := range []string{far4, far6} {
		w := newWorld(t, 5, probe.Options{})
		w.listen(53)
		w.routers[1].Silent = true
		var r *probe.TraceResult
		guessed := 0
		q := probe.TraceRequest{Request: probe.Request{Dst: addr(dst), Proto: probe.UDP, DstPort: 53}, Cycles: 4, Interval: 500 * time.Millisecond}
		w.p.StartTrace(q, func(_ int, x probe.Result) {
			if x.Guessed {
				guessed++
			}
		}, func(x probe.TraceResult) { r = &x })
		if !w.Until(time.Minute, func() bool { return r != nil }) {
			t.Fatal("no end")
		}
		if !r.Reached() || len(r.Hops) != 6 {
			t.Fatalf("%s: %d hops, %v: %+v", dst, len(r.Hops), r.End, r.Hops)
		}
		for i, h := range r.Hops {
			lost := 0.0
			if i == 1 {
				lost = 100
			}
			if h.Loss() != lost {
				t.Errorf("%s: hop %d: %.0f%% loss", dst, h.TTL, h.Loss())
			}
		}
		// Out and back over four lines; the routers' own segments take no time.
		if h := r.Hops[5]; h.Stats.Wrst != 8*line || guessed == 0 {
			t.Errorf("%s: round trips up to %v, %d guessed", dst, h.Stats.Wrst, guessed)
		}
	}
}

// TestClassicPort: datagrams of a classic trace go to the port that was asked for and
// those behind it.
func TestClassicPort(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	var ports []uint16
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if !back && b[0] == 0x45 && b[9] == 17 {
			ports = append(ports, binary.BigEndian.Uint16(b[22:]))
		}
		return b
	}
	done := false
	q := probe.TraceRequest{Request: probe.Request{Dst: addr(far4), Proto: probe.UDP, DstPort: 65534}, Cycles: 2, Classic: true}
	w.p.StartTrace(q, nil, func(probe.TraceResult) { done = true })
	w.Until(time.Minute, func() bool { return done })
	seen := make(map[uint16]bool)
	for _, p := range ports {
		if seen[p] || p != 65535 && (p == 0 || p > 100) {
			t.Errorf("port %d", p)
		}
		seen[p] = true
	}
	if len(ports) < 4 {
		t.Errorf("ports %v", ports)
	}
}
