package probe_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestTraceControl: a pause sends nothing, and a reset forgets what was before,
// with what is still under way.
func TestTraceControl(t *testing.T) {
	w := newWorld(t, 3, probe.Options{})
	ended := 0
	x := w.p.StartTrace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4)}, Cycles: 1000}, nil, func(probe.TraceResult) { ended++ })
	w.RunFor(5500 * time.Millisecond)
	x.Pause()
	r := x.Snapshot()
	if len(r.Hops) != 4 || r.Hops[0].Sent < 4 || !r.Reached() {
		t.Fatalf("%+v", r)
	}
	sent := r.Hops[0].Sent
	w.RunFor(time.Minute)
	r = x.Snapshot()
	if r.Hops[0].Sent != sent || r.Hops[3].Pending != 0 {
		t.Errorf("%d sent in the pause, %d before", r.Hops[0].Sent, sent)
	}
	x.Reset()
	if r = x.Snapshot(); len(r.Hops) != 0 {
		t.Errorf("after the reset: %+v", r)
	}
	x.Resume()
	x.Resume()
	w.RunFor(3500 * time.Millisecond)
	if r = x.Snapshot(); len(r.Hops) != 4 || r.Hops[0].Sent < 2 || r.Hops[0].Sent > 4 || !r.Reached() {
		t.Errorf("resumed: %+v", r)
	}
	// What was sent before a reset and comes after it does not count.
	w.RunFor(time.Second)
	for range 5 {
		x.Reset()
	}
	w.RunFor(time.Second)
	for _, h := range x.Snapshot().Hops {
		if h.Received > h.Sent || h.Pending < 0 {
			t.Errorf("%+v", h)
		}
	}
	x.Reset()
	w.RunFor(line)
	if r = x.Snapshot(); r.End != probe.EndUnfinished || r.End.String() != "unfinished" {
		t.Errorf("a trace that has just begun: %v", r.End)
	}
	x.Stop()
	x.Pause()
	x.Resume()
	x.Reset()
	w.RunFor(time.Minute)
	if ended != 1 || w.p.InFlight() != 0 {
		t.Errorf("%d ends, %d under way", ended, w.p.InFlight())
	}
}
