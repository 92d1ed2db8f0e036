package neigh

import (
	"testing"
	"time"
)

// TestPatience: RFC 7048: a neighbour that does not answer by unicast is asked
// by multicast, ever more rarely, while frames go on to the address that it had;
// the host is told when that begins, so that another router is tried.
func TestPatience(t *testing.T) {
	for _, answers := range []bool{false, true} {
		w := newWorld(t, Config{Patience: 6})
		w.output(peer, "a")
		w.Advertised(w.at, peer, macA, true, true, true, true)
		w.host.log = nil
		w.Doubt(w.at, peer)
		w.run(3 * time.Second)
		if e := w.entry(peer); e.State != Unreachable || e.MAC != macA || !e.IsRouter {
			t.Fatalf("%+v", e)
		}
		if r := w.output(peer, "b"); r != Send {
			t.Errorf("frames are held back: %v", r)
		}
		w.want("0s ask 10.0.0.9 at a", "1s ask 10.0.0.9 at a", "2s ask 10.0.0.9 at a", "3s ask 10.0.0.9", "3s unreachable 10.0.0.9")
		if answers {
			w.run(10 * time.Second)
			w.host.log = nil
			w.Advertised(w.at, peer, macB, true, true, true, true)
			if e := w.entry(peer); e.State != Reachable || e.MAC != macB {
				t.Errorf("%+v", e)
			}
			w.want()
			continue
		}
		// 1, 3, 9 and 27 s apart, then 60.
		w.run(160*time.Second - 1)
		w.want("4s ask 10.0.0.9", "7s ask 10.0.0.9", "16s ask 10.0.0.9", "43s ask 10.0.0.9", "103s ask 10.0.0.9")
		if e := w.entry(peer); e.State != Unreachable {
			t.Errorf("%+v", e)
		}
		w.run(1)
		if e := w.entry(peer); e.State != Failed || e.MAC != [6]byte{} || w.Stats().Unreachable != 1 {
			t.Errorf("%+v", e)
		}
		if r := w.output(peer, "c"); r != Queued {
			t.Error(r)
		}
		w.want("163s ask 10.0.0.9")
		w.Flush(w.at)
	}
}
