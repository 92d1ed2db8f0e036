package probe_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestTraceLonger: a way that becomes longer is followed to the destination, and one
// that becomes shorter too.
func TestTraceLonger(t *testing.T) {
	for _, dst := range []string{far4, far6} {
		w := newWorld(t, 3, probe.Options{})
		x := w.p.StartTrace(probe.TraceRequest{Request: probe.Request{Dst: addr(dst), Proto: probe.TCP}, Cycles: 100}, nil, func(probe.TraceResult) {})
		w.RunFor(4500 * time.Millisecond)
		if r := x.Snapshot(); !r.Reached() || len(r.Hops) != 4 {
			t.Fatalf("%s: %v, %d hops", dst, r.End, len(r.Hops))
		}
		detour := w.Router("10.1.0.9", "fd01::9")
		w.routers[0].Connect(detour, line, 1500)
		detour.Connect(w.routers[1], line, 1500)
		for _, p := range []string{"8.8.8.0/24", "2001:db8:8::/64"} {
			w.routers[0].Route(p, detour)
			detour.Route(p, w.routers[1])
		}
		w.RunFor(5 * time.Second)
		r := x.Snapshot()
		if !r.Reached() || len(r.Hops) != 5 {
			t.Fatalf("%s, longer: %v, %d hops", dst, r.End, len(r.Hops))
		}
		if h := r.Hops[4]; len(h.Hosts) != 1 || h.Hosts[0].Addr != addr(dst) || h.Hosts[0].Count < 3 {
			t.Errorf("%s, longer: %+v", dst, h)
		}
		for _, p := range []string{far4 + "/32", far6 + "/128"} {
			w.routers[0].Route(p, w.routers[1])
		}
		w.RunFor(5 * time.Second)
		if r = x.Snapshot(); !r.Reached() || len(r.Hops) != 4 {
			t.Errorf("%s, shorter: %v, %d hops", dst, r.End, len(r.Hops))
		}
		x.Stop()
	}
}
