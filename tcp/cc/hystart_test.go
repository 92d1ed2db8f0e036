package cc

import (
	"testing"
	"time"
)

// first is a sender in its first slow start.
func first(name string) *sender {
	f, _ := ByName(name)
	s := &sender{c: f(mss), now: 1, rtt: 40 * time.Millisecond}
	s.c.Start(Start{Now: 1})
	return s
}

// round acknowledges what is in flight, segment by segment, with a round trip
// of rtt (times a thousandth more for each segment, as a queue would). It sends
// as it goes.
func (s *sender) round(rtt time.Duration) {
	flight, _ := s.c.Window()
	for n := range (flight + mss - 1) / mss {
		cwnd, _ := s.c.Window()
		// What was in flight is still so but for n, and the window is full.
		s.c.OnAck(Ack{Now: s.now, Acked: mss, Delivered: mss, Unacked: cwnd - mss, RTT: rtt + rtt/1000*time.Duration(n),
			SRTT: rtt, CwndLimited: true})
	}
	s.now = s.now.Add(rtt)
}

const ms = time.Millisecond

// RFC 9406 §4.2: a clear rise of the least round trip leads to CSS, five rounds
// of it to congestion avoidance.
func TestHyStart(t *testing.T) {
	for _, name := range []string{"reno", "cubic"} {
		s := first(name)
		for k := range 4 {
			s.want(t, name+": doubled", float64(int(10)<<k), 0)
			s.round(40 * ms)
		}
		// The eighth sample of this round tells: until then it doubles.
		s.round(45 * ms)
		s.want(t, name+": CSS", 160+7+153./4, 0.3)
		for k := range 3 {
			before := s.cwnd()
			s.round(50 * ms)
			s.want(t, name+": a round of CSS", before*1.25, 0.3)
			if s.c.Ssthresh() != MaxWindow {
				t.Errorf("%s: slow start over after %d rounds", name, k+2)
			}
		}
		s.round(50 * ms)
		cwnd := s.cwnd()
		if got := s.c.Ssthresh(); got > int(cwnd*mss) || got < int(cwnd*mss)-2*mss {
			t.Errorf("%s: ssthresh %d after five rounds of CSS at %.0f segments", name, got, cwnd)
		}
		s.round(50 * ms)
		s.want(t, name+": congestion avoidance", cwnd, 2)
		if c, ok := s.c.(*Cubic); ok && (c.k != 0 || int(c.wMax) < c.Ssthresh() || c.cwndPrior == 0) {
			t.Errorf("after slow start without a loss: %+v", c.stage) // RFC 9438 §4.10
		}
	}
}

// RFC 9406 §4.2: a round trip that falls back below where CSS began was jitter.
func TestHyStartResumes(t *testing.T) {
	s := first("cubic")
	s.round(40 * ms)
	s.round(40 * ms)
	s.round(60 * ms)
	s.want(t, "CSS", 40+7+33./4, 0.3)
	before := s.cwnd()
	s.round(59 * ms) // seven samples pass before it is seen
	s.want(t, "slow start again", 2*before-7*.75, 2)
	before = s.cwnd()
	s.round(59 * ms)
	s.want(t, "and on", 2*before, 0.1)
}

// RFC 9406 §4.3: the threshold is an eighth of the round trip, between 4 and 16 ms.
func TestHyStartThreshold(t *testing.T) {
	for _, c := range []struct {
		rtt, rise time.Duration
		css       bool
	}{
		{1 * ms, 3900 * time.Microsecond, false}, {1 * ms, 4 * ms, true},
		{80 * ms, 9900 * time.Microsecond, false}, {80 * ms, 10 * ms, true},
		{400 * ms, 15900 * time.Microsecond, false}, {400 * ms, 16 * ms, true},
	} {
		s := first("reno")
		s.round(c.rtt)
		s.round(c.rtt + c.rise)
		if got := s.c.(*Reno).hystart.css; got != c.css {
			t.Errorf("%v and %v more: CSS %v", c.rtt, c.rise, got)
		}
	}
	// Seven samples are no evidence.
	s := first("reno")
	s.round(40 * ms)
	for range 7 {
		s.c.OnAck(Ack{Now: s.now, Acked: mss, Delivered: mss, Unacked: 20000, RTT: 90 * ms, CwndLimited: true})
	}
	if s.c.(*Reno).hystart.css {
		t.Error("CSS after seven samples")
	}
}

// RFC 9406 §4.3: it is for the first slow start; later ones know a threshold.
func TestHyStartOnlyOnce(t *testing.T) {
	s := first("cubic")
	s.round(40 * ms)
	s.round(40 * ms)
	s.c.OnTimeout(s.now, 0)
	s.ack(mss, true)
	s.c.OnRecoveryExit(s.now)
	s.round(40 * ms)
	s.round(90 * ms)
	before := s.cwnd()
	s.round(90 * ms)
	if s.c.(*Cubic).hystart.css || s.cwnd() < 1.9*before {
		t.Errorf("slow start from %.0f to %.0f", before, s.cwnd())
	}
}

// L of RFC 9406 §4.3, as far as it is kept: one super-frame, or eight segments.
func TestSlowStartLimit(t *testing.T) {
	for _, c := range []struct{ mss, ack, want int }{{1000, 1 << 20, 64 << 10}, {1000, 3000, 3000}, {9000, 1 << 20, 72000}} {
		x := NewCubic(c.mss)
		before, _ := x.Window()
		x.OnAck(Ack{Now: 1, Acked: c.ack, Delivered: c.ack, CwndLimited: true})
		if after, _ := x.Window(); after-before != c.want {
			t.Errorf("an ACK of %d bytes opens the window by %d, want %d", c.ack, after-before, c.want)
		}
	}
}
