package probe_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestMTUPath: each hop's size is told, by whom it was refused, and before which
// hop packets vanish.
func TestMTUPath(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		for _, proto := range []probe.Proto{probe.ICMP, probe.UDP, probe.TCP} {
			w := newWorld(t, 4, probe.Options{})
			likely := 0
			path := func() (r probe.MTUPathResult) {
				done := false
				w.p.StartMTUPath(probe.MTUPathRequest{Request: probe.Request{Dst: dst, Proto: proto, DstPort: 81}, Likely: likely}, func(x probe.MTUPathResult) { r, done = x, true })
				if !w.Until(time.Hour, func() bool { return done }) {
					t.Fatal("no end")
				}
				return r
			}
			check := func(what string, r probe.MTUPathResult, holes int, mtus ...int) {
				t.Helper()
				if len(r.Steps) != len(mtus) || !r.Reached || r.MTU != mtus[len(mtus)-1] {
					t.Errorf("%v, %s: %+v", proto, what, r)
					return
				}
				for i, s := range r.Steps {
					who := dst
					if i < 4 {
						who = router(i + 1)
					}
					if s.TTL != i+1 || s.MTU != mtus[i] || s.Addr != who || s.BlackHole != (i+1 == holes) {
						t.Errorf("%v, %s: %d: %+v", proto, what, i, s)
					}
				}
			}
			r := path()
			check("a good path", r, 0, 1500, 1500, 1500, 1500, 1500)
			if r.Probes != 5 {
				t.Errorf("%d probes", r.Probes)
			}
			w.routers[0].SetMTU(w.routers[1], 1420)
			w.routers[2].SetMTU(w.routers[3], 1313)
			r = path()
			check("narrow", r, 0, 1500, 1420, 1420, 1313, 1313)
			if h := r.Steps[3].Refused; len(h) != 1 || h[0] != (probe.MTUHop{Addr: router(3), Size: 1420, MTU: 1313}) || len(r.Steps[1].Refused) != 1 || len(r.Steps[2].Refused) != 0 {
				t.Errorf("%+v", r)
			}
			w.routers[2].BlackHole = true
			r = path()
			check("a black hole", r, 4, 1500, 1420, 1420, 1313, 1313)
			likely = 1313
			x := path()
			check("a black hole that is known", x, 4, 1500, 1420, 1420, 1313, 1313)
			if x.Probes >= r.Probes || x.Probes > 12 {
				t.Errorf("%d probes with what is likely, %d without", x.Probes, r.Probes)
			}

			// A router that says nothing: what gets to the next is known.
			w.routers[3].Silent = true
			if r = path(); len(r.Steps) != 5 || r.Steps[3].Addr.IsValid() || r.Steps[3].MTU != 0 || r.Steps[4].MTU != 1313 || !r.Steps[4].BlackHole || !r.Reached {
				t.Errorf("%v: a silent router: %+v", proto, r)
			}
			// Nobody behind the third.
			w.routers[3].Mangle = func([]byte, bool) []byte { return nil }
			if r = path(); len(r.Steps) != 3 || r.Reached || r.MTU != 1420 {
				t.Errorf("%v: nobody: %+v", proto, r)
			}
		}
	})
}
