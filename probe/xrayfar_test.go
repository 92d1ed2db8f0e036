package probe_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// TestXRayFar: of a peer that is farther away than the pause between connections is
// long those of one port are seen, too.
func TestXRayFar(t *testing.T) {
	w := newWorld(t, 60, probe.Options{})
	w.listen(80)
	for _, dst := range []string{far4, far6} {
		r := w.xray(probe.XRayRequest{Request: probe.Request{Dst: addr(dst)}, Pause: 10 * time.Millisecond})
		if r.Verdict != probe.XRayOpen || r.RTT != 118*line || r.PortISN == nil || len(r.PortISN.Values) != 4 {
			t.Errorf("%s: %v after %v, %+v", dst, r.Verdict, r.RTT, r.PortISN)
		}
		if r.ISN == nil || len(r.ISN.Values) != 9 {
			t.Errorf("%s: %+v", dst, r.ISN)
		}
	}
}
