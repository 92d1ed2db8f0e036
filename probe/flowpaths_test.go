package probe_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestPathLoss: one of 16 ways loses a part of its packets, another one all of
// them after a while; the others lose nothing.
func TestPathLoss(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		for _, proto := range []probe.Proto{probe.ICMP, probe.UDP, probe.TCP} {
			w := newWorld(t, 2, probe.Options{})
			w.diamond(16)
			var r probe.PathsResult
			done := false
			start := w.Now()
			w.p.StartPaths(probe.PathsRequest{Request: probe.Request{Dst: dst, Proto: proto, DstPort: 81}, Cycles: 30}, func(x probe.PathsResult) { r, done = x, true })
			w.RunFor(5 * time.Second)
			bad, dead := w.routers[4], w.routers[9]
			n := 0
			bad.Mangle = func(b []byte, back bool) []byte {
				if n++; !back && n%2 == 0 {
					return nil
				}
				return b
			}
			dead.Mangle = func(b []byte, back bool) []byte {
				if !back {
					return nil
				}
				return b
			}
			if !w.Until(time.Hour, func() bool { return done }) {
				t.Fatal("no end")
			}
			if d := w.Now().Sub(start); d < 30*time.Second || d > 50*time.Second {
				t.Errorf("%v: took %v", proto, d)
			}
			if len(r.Paths) != 16 || r.Width != 16 || !r.Complete || r.Err != nil {
				t.Fatalf("%v: %d ways of %d, %v", proto, len(r.Paths), r.Width, r.Err)
			}
			var middle []netip.Addr
			for _, p := range r.Paths {
				if len(p.Routers) != 4 || p.Routers[3] != dst {
					t.Fatalf("%v: %v", proto, p.Routers)
				}
				middle = append(middle, p.Routers[1])
				lost := p.Loss()
				switch p.Routers[1] {
				case bad.Addr4, bad.Addr6:
					if lost < 20 || lost > 60 {
						t.Errorf("%v: the bad one loses %v", proto, lost)
					}
				case dead.Addr4, dead.Addr6:
					if lost < 70 || lost > 99 {
						t.Errorf("%v: the dead one loses %v", proto, lost)
					}
				default:
					if lost != 0 {
						t.Errorf("%v: %v loses %v", proto, p.Routers[1], lost)
					}
				}
				for i := range p.Trace.Hops {
					if n := len(p.Trace.Hops[i].Hosts); n != 1 {
						t.Errorf("%v: a flow meets %d routers at hop %d", proto, n, i+1)
					}
				}
			}
			slices.SortFunc(middle, netip.Addr.Compare)
			if len(slices.Compact(middle)) != 16 {
				t.Errorf("%v: %v", proto, middle)
			}
			if w.p.InFlight() != 0 {
				t.Errorf("%v: %d under way", proto, w.p.InFlight())
			}
		}
	})
}

// TestPathLossStops: what is known by then is told.
func TestPathLossStops(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	w.diamond(4)
	var r probe.PathsResult
	done := false
	stop := w.p.StartPaths(probe.PathsRequest{Request: probe.Request{Dst: addr(far4), Proto: probe.UDP, DstPort: 81}, Cycles: 1000}, func(x probe.PathsResult) { r, done = x, true })
	w.RunFor(20 * time.Second)
	stop()
	if !done || len(r.Paths) != 4 || r.Paths[0].Trace.Cycles < 5 || r.Paths[0].Loss() != 0 {
		t.Errorf("%v: %+v", done, r.Paths)
	}
	w.RunFor(time.Minute)
	if w.p.InFlight() != 0 {
		t.Errorf("%d under way", w.p.InFlight())
	}
}
