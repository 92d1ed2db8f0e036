package cc

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// The curve and its root agree with what exact arithmetic makes of RFC 9438
// §4.2: K to the microsecond, W_cubic to within a segment.
func TestCubicMath(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		mss := int32(36 + rng.IntN(1<<rng.IntN(17)))
		wMax := int32(1 + rng.IntN(1<<(1+rng.IntN(30))))
		cwnd := int32(rng.IntN(int(wMax) + 1))
		k := cubicK(wMax-cwnd, mss)

		// k^3 <= 5/2*(wMax-cwnd)/mss*10^18 < (k+1)^3
		n := new(big.Int).Mul(big.NewInt(5*int64(wMax-cwnd)), big.NewInt(1e18))
		cube := func(x int64) *big.Int {
			c := new(big.Int).Exp(big.NewInt(x), big.NewInt(3), nil)
			return c.Mul(c, big.NewInt(2*int64(mss)))
		}
		if cube(int64(k)).Cmp(n) > 0 || cube(int64(k)+1).Cmp(n) <= 0 {
			t.Fatalf("K of %d bytes at %d: %d", wMax-cwnd, mss, k)
		}

		at := time.Duration(rng.Int64N(1 << (20 + rng.IntN(22))))
		exactK := math.Cbrt(2.5 * float64(wMax-cwnd) / float64(mss))
		want := 0.4*math.Pow(at.Seconds()-exactK, 3)*float64(mss) + float64(wMax)
		want = min(max(want, 0), MaxWindow)
		if got := cubicWindow(at, k, wMax, mss); math.Abs(float64(got)-want) > float64(mss) {
			t.Fatalf("W_cubic(%v) with K %d, W_max %d and segments of %d: %d, want %.0f", at, k, wMax, mss, got, want)
		}
	}
	// 100 segments lost at beta 0.7 take the cube root of 75 seconds.
	if k := cubicK(30*1000, 1000); k != 4217163 {
		t.Errorf("K is %d", k)
	}
	for _, c := range []struct {
		hi, lo uint64
		want   uint32
	}{{0, 0, 0}, {0, 1, 1}, {0, 7, 1}, {0, 8, 2}, {0, 1e18, 1e6}, {0, 1e18 - 1, 1e6 - 1}, {1, 0, 2642245}, {math.MaxUint64, 0, math.MaxUint32}} {
		if got := cubeRoot(c.hi, c.lo); got != c.want {
			t.Errorf("cube root of %d*2^64+%d: %d, want %d", c.hi, c.lo, got, c.want)
		}
	}
}

func TestCubic(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"beta is 0.7, of the window; at least two segments", []step{
			{"ack", 40000, 50000, MaxWindow},
			{"loss", 1000, 35000, 35000},
			{"ack", 10000, 35000, 35000},
			{"loss", 1000, 35000, 35000},
			{"exit", 0, 35000, 35000},
			{"loss", 1000, 24500, 24500},
			{"exit", 0, 24500, 24500},
			{"mss", 12000, 24500, 24500},
			{"loss", 1000, 24000, 24000},
		}},
		{"beta of ECN is 0.85 (RFC 8511); down to one segment", []step{
			{"ack", 40000, 50000, MaxWindow},
			{"ecn", 50000, 35000, 35000}, // slow start: as a loss
			{"ecn", 50000, 29750, 29750},
			{"ce", 50000, 29750, 29750},
			{"mss", 28000, 29750, 29750},
			{"ecn", 50000, 28000, 56000},
		}},
		{"timeout", []step{
			{"ack", 40000, 50000, MaxWindow},
			{"timeout", 1000, 1000, 35000},
			{"ack", 1000, 2000, 35000},
			{"ack", 5000, 3000, 35000},
			{"exit", 0, 3000, 35000},
			{"ack", 5000, 8000, 35000},
			{"timeout", 1000, 1000, 5600},
			{"timeout", 1000, 1000, 5600},
			{"undo", 0, 8000, 35000},
		}},
		{"undo of a loss and a timeout after it", []step{
			{"ack", 40000, 50000, MaxWindow},
			{"loss", 1000, 35000, 35000},
			{"timeout", 1000, 1000, 24500},
			{"undo", 0, 50000, MaxWindow},
			{"undo", 0, 50000, MaxWindow},
			{"ack", 1000, 51000, MaxWindow},
		}},
		{"idle and unused, as Reno", []step{
			{"ack", 40000, 50000, MaxWindow},
			{"loss", 0, 35000, 35000},
			{"exit", 0, 35000, 35000},
			{"idle", 300, 17500, 35000},
			{"unused", 12000, 14750, 35000},
			{"idle", 3000, 10000, 35000},
		}},
	} {
		run(t, c.name, NewCubic(mss), c.steps)
	}
}

// sender acknowledges windows of a Controller at a fixed round trip.
type sender struct {
	c   Controller
	now mono.Time
	rtt time.Duration
}

// ack acknowledges n bytes after as much of a round trip as they are of the
// window.
func (s *sender) ack(n int, limited bool) {
	cwnd, _ := s.c.Window()
	s.now = s.now.Add(time.Duration(float64(s.rtt) * float64(n) / float64(cwnd)))
	s.c.OnAck(Ack{Now: s.now, Acked: n, Delivered: n, Unacked: cwnd, SRTT: s.rtt, CwndLimited: limited})
}

// pass lets d go by, with a window acknowledged each round trip.
func (s *sender) pass(d time.Duration, limited bool) {
	for end := s.now.Add(d); s.now < end; {
		cwnd, _ := s.c.Window()
		s.ack(max(cwnd/64, mss), limited)
	}
}

func (s *sender) cwnd() float64 {
	cwnd, _ := s.c.Window()
	return float64(cwnd) / mss
}

// lossy is a sender in congestion avoidance that has lost something at a window
// of 100 segments.
func lossy(rtt time.Duration) *sender {
	s := &sender{c: NewCubic(mss), now: 1, rtt: rtt}
	s.c.Start(Start{Now: 1, Cwnd: 100 * mss})
	s.c.OnLoss(s.now, 100*mss)
	s.c.OnRecoveryExit(s.now)
	return s
}

func (s *sender) want(t *testing.T, what string, want, slack float64) {
	t.Helper()
	if got := s.cwnd(); math.Abs(got-want) > slack {
		t.Errorf("%s: %.1f segments, want %.1f", what, got, want)
	}
}

// RFC 9438 §4.2, §4.4 and §4.5: a window that is used follows the curve.
func TestCubicFollowsTheCurve(t *testing.T) {
	s := lossy(200 * time.Millisecond)
	start, k := s.now, math.Cbrt(75)
	for _, at := range []time.Duration{0, time.Second, 2 * time.Second, 4217 * time.Millisecond, 6 * time.Second, 9 * time.Second} {
		s.pass(at-s.now.Sub(start), true)
		s.want(t, at.String(), 100+0.4*math.Pow(at.Seconds()-k, 3), 2)
	}
	// The curve is steep now; slow start would be steeper (§4.2: 1.5 cwnd).
	for range 200 {
		before := s.cwnd()
		s.pass(s.rtt, true)
		if after := s.cwnd(); after > 1.6*before || after < before {
			t.Fatalf("from %.0f to %.0f segments in a round trip", before, after)
		}
	}
}

// RFC 9438 §4.3: where Reno would be faster the window is Reno's, which grows by
// 9/17 of a segment in a round trip until it is back at cwnd_prior, then by one.
func TestCubicFriendlyRegion(t *testing.T) {
	s := lossy(10 * time.Millisecond)
	s.pass(400*time.Millisecond, true)
	s.want(t, "40 round trips", 70+40*9./17, 1)
	s.pass(160*time.Millisecond+100*time.Millisecond, true)
	s.want(t, "10 beyond cwnd_prior", 109, 3)
}

// RFC 9438 §4.7: a flow that lost before it was back gives more room.
func TestCubicFastConvergence(t *testing.T) {
	s := lossy(200 * time.Millisecond)
	s.pass(2*time.Second, true)
	before := s.cwnd()
	s.c.OnLoss(s.now, 0)
	if got := float64(s.c.(*Cubic).wMax) / mss; math.Abs(got-0.85*before) > 0.1 {
		t.Errorf("W_max is %.1f after a loss at %.1f", got, before)
	}
	s.c.OnRecoveryExit(s.now)
	s.pass(20*time.Second, true)
	before = s.cwnd()
	s.c.OnLoss(s.now, 0)
	if got := float64(s.c.(*Cubic).wMax) / mss; got != before {
		t.Errorf("W_max is %.1f after a loss beyond it, at %.1f", got, before)
	}
}

// RFC 9438 §5.8 and §4.2: time in which the window is not used does not count.
func TestCubicTimeStandsStill(t *testing.T) {
	for name, pause := range map[string]func(s *sender){
		"application": func(s *sender) { s.pass(30*time.Second, false) },
		"idle": func(s *sender) {
			s.now = s.now.Add(100 * time.Millisecond)
			s.c.OnIdle(s.now, 100*time.Millisecond, 200*time.Millisecond) // too short for the window to fall
			for range 300 {
				s.ack(mss, false)
				s.now = s.now.Add(100 * time.Millisecond)
				s.c.OnIdle(s.now, 100*time.Millisecond, 200*time.Millisecond)
			}
		},
	} {
		s := lossy(200 * time.Millisecond)
		s.pass(2*time.Second, true)
		before := s.cwnd()
		pause(s)
		s.want(t, name+": during the pause", before, 0)
		s.pass(time.Second, true)
		s.want(t, name+": a second after it", 100+0.4*math.Pow(3-math.Cbrt(75), 3), 2.5)
	}
}

// RFC 9438 §4.8: the stage after a timeout begins at the flat part of the curve.
func TestCubicAfterTimeout(t *testing.T) {
	s := lossy(200 * time.Millisecond)
	s.c.OnTimeout(s.now, 0)
	s.ack(mss, true)
	s.c.OnRecoveryExit(s.now)
	for s.cwnd() < 49 {
		s.ack(mss, true)
	}
	start := s.now
	s.pass(4*time.Second, true)
	at := s.now.Sub(start).Seconds()
	s.want(t, "4 s", 49+0.4*at*at*at, 4)
	if c := s.c.(*Cubic); c.k != 0 || c.wMax != 49000 {
		t.Errorf("K is %d, W_max %d", c.k, c.wMax)
	}
}

// RFC 9438 §4.9: after Undo all is as it would have been.
func TestCubicUndo(t *testing.T) {
	s, u := lossy(200*time.Millisecond), lossy(200*time.Millisecond)
	for _, x := range []*sender{s, u} {
		x.pass(2*time.Second, true)
	}
	u.c.OnLoss(u.now, 0)
	u.pass(u.rtt, true)
	u.c.Undo(u.now)
	s.pass(3*time.Second, true)
	u.pass(s.now.Sub(u.now), true)
	u.want(t, "after Undo", s.cwnd(), 1)
	a, b := s.c.(*Cubic), u.c.(*Cubic)
	if a.k != b.k || a.wMax != b.wMax || a.epoch != b.epoch || a.cwndPrior != b.cwndPrior || b.ssthresh != a.ssthresh {
		t.Errorf("%+v after Undo, want %+v", b.stage, a.stage)
	}
}

// The tables of RFC 9438 §5.1: the average window, in segments, when one of 1/p
// segments is lost.
func TestCubicResponseFunction(t *testing.T) {
	for _, c := range []struct {
		rtt  time.Duration
		want [7]float64 // for p = 10^-2, 10^-3, ...
	}{
		{100 * time.Millisecond, [7]float64{12, 38, 187, 1054, 5926, 33325, 187400}},
		{10 * time.Millisecond, [7]float64{12, 38, 120, 379, 1200, 5926, 33325}},
	} {
		for i, want := range c.want {
			period := math.Pow(10, float64(i+2)) * mss // bytes
			s := &sender{c: NewCubic(mss), now: 1, rtt: c.rtt}
			s.c.Start(Start{Now: 1, Cwnd: int(want * mss), Ssthresh: mss})
			sent, start := 0.0, s.now
			for cycle := range 30 {
				if cycle == 10 {
					sent, start = 0, s.now // it has settled
				}
				for n := 0.0; n < period; {
					cwnd, _ := s.c.Window()
					k := max(cwnd/20, mss)
					s.ack(k, true)
					n += float64(k)
					sent += float64(k)
				}
				s.c.OnLoss(s.now, 0)
				s.c.OnRecoveryExit(s.now)
			}
			got := sent / mss / (s.now.Sub(start).Seconds() / c.rtt.Seconds())
			t.Run(fmt.Sprintf("%v 1e-%d", c.rtt, i+2), func(t *testing.T) {
				if got < 0.95*want || got > 1.06*want {
					t.Errorf("average window %.0f, RFC 9438 has %.0f", got, want)
				}
				t.Logf("%.1f of %.0f", got, want)
			})
		}
	}
}
