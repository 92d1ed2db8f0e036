package tcp

import (
	"math"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// fixed is a controller with a window that does not change.
type fixed struct {
	cc.Controller
	window, ssthresh int
	rate             int64
}

func (f *fixed) Window() (int, int64) { return f.window, f.rate }
func (f *fixed) Ssthresh() int        { return f.ssthresh }

// TestFrameLimit: a frame is about a millisecond's text, and more on a short
// path.
func TestFrameLimit(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name             string
		srtt, least      time.Duration
		window, ssthresh int
		rate             int64 // bytes per second, of a paced connection
		limit, want      int
	}{
		{"no round trip measured", 0, 0, 10_000, math.MaxInt, 0, 64_000, 64_000},
		{"slow: two segments", 100 * ms, 100 * ms, 10_000, math.MaxInt, 0, 64_000, 2000},
		{"in slow start twice the window", 100 * ms, 100 * ms, 1 << 20, 1 << 30, 0, 64_000, 20_000},
		{"later 1.2 times", 100 * ms, 100 * ms, 1 << 20, 1 << 20, 0, 64_000, 12_000},
		{"fast", 100 * ms, 100 * ms, 100 << 20, 1 << 30, 0, 64_000, 64_000},
		{"paced", 100 * ms, 100 * ms, 10_000, math.MaxInt, 10 << 20, 64_000, 10_000},
		{"a short path: all", ms / 10, ms / 10, 10_000, math.MaxInt, 0, 65_000, 65_000},
		{"a millisecond: half", ms, ms, 1000, math.MaxInt, 0, 65_000, 34_000},
		{"a short path that is filled", 100 * ms, ms / 10, 10_000, math.MaxInt, 0, 65_000, 65_000},
		{"what the device takes", ms / 10, ms / 10, 10_000, math.MaxInt, 0, 5000, 5000},
		{"a plain device", 100 * ms, 100 * ms, 10_000, math.MaxInt, 0, 1000, 1000},
	} {
		conn := NewActive(&Config{MSS: 1460}, mono.Time(time.Second))
		conn.mss, conn.maxSndWnd = 1000, 1<<20
		conn.cc = &fixed{window: c.window, ssthresh: c.ssthresh, rate: c.rate}
		conn.rtt.srtt, conn.rack.minRTT = c.srtt, c.least
		if got := conn.frameLimit(1000, c.limit); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
