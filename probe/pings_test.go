package probe_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestPings: each host has its own result, beginnings are spread out, and one
// that is silent does not hold up the others.
func TestPings(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	list := []probe.PingRequest{
		{Request: probe.Request{Dst: addr(far4)}, Count: 3},
		{Request: probe.Request{Dst: addr("10.0.0.77"), Timeout: 2 * time.Second}, Count: 3}, // nobody
		{Request: probe.Request{Dst: addr(far6)}, Count: 2},
		{Request: probe.Request{Dst: addr("192.0.2.1"), Src: addr("192.0.2.2")}, Count: 2}, // not ours
	}
	var r []probe.PingResult
	begin := w.Now()
	first := make(map[int]time.Duration)
	done := false
	w.p.StartPings(list, 100*time.Millisecond, func(i int, x probe.PingPacket) {
		if _, ok := first[i]; !ok {
			first[i] = w.Now().Sub(begin).Round(10 * time.Millisecond)
		}
	}, func(x []probe.PingResult) { r, done = x, true })
	w.Until(time.Minute, func() bool { return done })
	if len(r) != 4 || r[0].Received != 3 || r[1].Sent != 3 || r[1].Received != 0 || r[2].Received != 2 || r[3].Err == nil {
		t.Fatalf("%+v", r)
	}
	if first[0] != 0 || first[2] != 200*time.Millisecond || first[3] != 300*time.Millisecond {
		t.Errorf("begun at %v", first)
	}
	if d := w.Now().Sub(begin); d > 10*time.Second {
		t.Errorf("took %v", d)
	}

	done = false
	w.p.StartPings(nil, 0, nil, func(x []probe.PingResult) { done = x == nil })
	if !done {
		t.Error("none: not done at once")
	}
	// Stopped: those that have not begun never do.
	done = false
	s := w.p.StartPings(slices.Repeat([]probe.PingRequest{{Request: probe.Request{Dst: addr(far4)}}}, 50), 100*time.Millisecond, nil, func(x []probe.PingResult) { r, done = x, true })
	w.RunFor(1050 * time.Millisecond)
	s.Stop()
	w.RunFor(time.Second)
	if !done || len(r) != 50 || r[0].Sent != 2 || r[10].Sent != 1 || r[11].Sent != 0 {
		t.Errorf("done %v: %+v", done, r[:12])
	}
	s.Stop()
	if n := w.p.InFlight(); n > 0 {
		w.RunFor(20 * time.Second)
		if n = w.p.InFlight(); n > 0 {
			t.Errorf("%d in flight", n)
		}
	}
}

// TestPingsBlocking: the call that waits, from goroutines, and its end by a
// context.
func TestPingsBlocking(t *testing.T) {
	two(t, func(t *testing.T, p *probe.Prober) {
		var list []probe.PingRequest
		for range 20 {
			list = append(list, probe.PingRequest{Request: probe.Request{Dst: netip.MustParseAddr("10.0.0.2")}, Count: 2})
		}
		n := 0
		r := p.Pings(t.Context(), list, 0, func(int, probe.PingPacket) { n++ })
		for _, x := range r {
			if x.Received != 2 {
				t.Errorf("%+v", x)
			}
		}
		if len(r) != 20 || n != 40 {
			t.Errorf("%d results, %d packets", len(r), n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		list[0].Count = 0
		begin := time.Now()
		if r := p.Pings(ctx, list, time.Hour, nil); len(r) != 20 || r[0].Sent != 2 || r[1].Sent != 0 || time.Since(begin) != 1500*time.Millisecond {
			t.Errorf("%v: %+v", time.Since(begin), r[:2])
		}
	})
}

func TestHistogram(t *testing.T) {
	var s probe.Stats
	if s.Histogram() != nil {
		t.Error("of none")
	}
	for _, d := range []time.Duration{0, 999, 1000, 1999, 2000, 9_999_999, 10_000_000, 49_999_999, 50_000_000} {
		s.Add(d)
	}
	got := make(map[[2]time.Duration]int)
	list := s.Histogram()
	sum := 0
	for i, b := range list {
		got[[2]time.Duration{b.Low, b.High}] = b.Count
		sum += b.Count
		if i > 0 && b.Low != list[i-1].High {
			t.Errorf("%v follows %v", b, list[i-1])
		}
	}
	const us, ms = time.Microsecond, time.Millisecond
	for k, n := range map[[2]time.Duration]int{{0, us}: 2, {us, 2 * us}: 2, {2 * us, 5 * us}: 1, {5 * ms, 10 * ms}: 1, {10 * ms, 20 * ms}: 1, {20 * ms, 50 * ms}: 1, {50 * ms, 100 * ms}: 1, {100 * us, 200 * us}: 0} {
		if c, ok := got[k]; !ok || c != n {
			t.Errorf("%v: %d (%v), want %d", k, c, ok, n)
		}
	}
	if sum != 9 || list[0].Low != 0 || list[len(list)-1].High != 100*ms {
		t.Errorf("%v", list)
	}
}
