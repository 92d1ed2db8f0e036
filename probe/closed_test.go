package probe_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestCloseBetweenProbes: who has nothing under way and waits for the time of the
// next is told of the end, too.
func TestCloseBetweenProbes(t *testing.T) {
	for _, stack := range []bool{false, true} {
		w := newWorld(t, 2, probe.Options{})
		told := make(map[string]error)
		there := probe.Request{Dst: addr(far4)}
		w.p.StartPing(probe.PingRequest{Request: there, Interval: time.Minute}, nil, func(r probe.PingResult) { told["ping"] = r.Err })
		several := []probe.PingRequest{{Request: there, Count: 1}, {Request: there, Count: 1}, {Request: there, Count: 1}}
		w.p.StartPings(several, time.Minute, nil, func(r []probe.PingResult) {
			if r[0].Received != 1 || r[0].Err != nil {
				t.Errorf("the first had its answer: %+v", r[0])
			}
			told["pings"] = r[2].Err
		})
		x := w.p.StartTrace(probe.TraceRequest{Request: there, Cycles: 100}, nil, func(r probe.TraceResult) { told["trace"] = r.Err })
		w.RunFor(5500 * time.Millisecond)
		x.Pause()
		w.RunFor(20 * time.Second)
		if len(told) > 0 {
			t.Fatalf("told before: %v", told)
		}
		if stack {
			w.near.Close()
		} else {
			w.p.Close()
		}
		w.RunFor(time.Second)
		for _, who := range []string{"ping", "pings", "trace"} {
			if told[who] != probe.ErrClosed {
				t.Errorf("%s, stack %v: %v", who, stack, told[who])
			}
		}
	}
}
