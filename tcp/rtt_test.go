package tcp

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// The rules of RFC 6298 §2 worked by hand. d is a sample (n > 1: one of n in a
// round trip), or one of the other events.
func TestRTT(t *testing.T) {
	const (
		backoff = -1
		reset   = -2
		syn     = -3
	)
	type step struct {
		d                 time.Duration
		n                 int
		srtt, rttvar, rto time.Duration
	}
	for _, c := range []struct {
		name  string
		r     rtt
		steps []step
	}{
		{"no sample: 1 s, doubling", rtt{}, []step{
			{backoff, 0, 0, 0, 2 * time.Second},
			{backoff, 0, 0, 0, 4 * time.Second},
			{reset, 0, 0, 0, time.Second},
		}},
		{"initial timeout configured", rtt{first: 3 * time.Second}, []step{
			{reset, 0, 0, 0, 3 * time.Second},
			{100 * ms, 1, 100 * ms, 50 * ms, 300 * ms},
		}},
		{"first sample: R, R/2; then 7/8 and 3/4", rtt{}, []step{
			{400 * ms, 1, 400 * ms, 200 * ms, 1200 * ms},
			// RTTVAR = 3/4*200 + 1/4*|400-800|; SRTT = 7/8*400 + 1/8*800
			{800 * ms, 1, 450 * ms, 250 * ms, 1450 * ms},
			// RTTVAR = 3/4*250 + 1/4*|450-450|
			{450 * ms, 1, 450 * ms, 187500 * time.Microsecond, 1200 * ms},
			// A fall within the variation counts in full:
			// RTTVAR = 3/4*187.5 + 1/4*150; SRTT = 7/8*450 + 1/8*300
			{300 * ms, 1, 431250 * time.Microsecond, 178125 * time.Microsecond, 1143750 * time.Microsecond},
		}},
		{"a sudden fall does not raise the timeout", rtt{}, []step{
			{800 * ms, 1, 800 * ms, 400 * ms, 2400 * ms},
			{800 * ms, 1, 800 * ms, 300 * ms, 2000 * ms},
			{800 * ms, 1, 800 * ms, 225 * ms, 1700 * ms},
			// The error of 640 exceeds the variation by 415, of which 1/8 of
			// 1/4 counts.
			{160 * ms, 1, 720 * ms, 225*ms + 415*ms/32, 720*ms + 900*ms + 415*ms/8},
		}},
		{"floor of the variation", rtt{}, []step{
			{8 * ms, 1, 8 * ms, 4 * ms, 208 * ms},
			{8 * ms, 1, 8 * ms, 3 * ms, 208 * ms},
		}},
		{"floor configured, below the clock", rtt{minRTO: 1}, []step{
			{8 * ms, 1, 8 * ms, 4 * ms, 24 * ms},
			{8 * ms, 4, 8 * ms, 3750 * time.Microsecond, 23 * ms},
			{8 * ms, 1, 8 * ms, 2812500, 19250 * time.Microsecond},
		}},
		{"the clock's granularity", rtt{minRTO: 1}, []step{
			{200 * time.Microsecond, 1, 200 * time.Microsecond, 100 * time.Microsecond, 1200 * time.Microsecond},
		}},
		{"four samples in a round trip weigh a quarter each", rtt{}, []step{
			{400 * ms, 4, 400 * ms, 200 * ms, 1200 * ms},
			{800 * ms, 4, 412500 * time.Microsecond, 212500 * time.Microsecond, 1262500 * time.Microsecond},
		}},
		{"a sample ends the back-off", rtt{}, []step{
			{400 * ms, 1, 400 * ms, 200 * ms, 1200 * ms},
			{backoff, 0, 400 * ms, 200 * ms, 2400 * ms},
			{backoff, 0, 400 * ms, 200 * ms, 4800 * ms},
			{400 * ms, 1, 400 * ms, 150 * ms, 1000 * ms},
		}},
		{"SYN retransmitted, no sample: 3 s", rtt{}, []step{
			{backoff, 0, 0, 0, 2 * time.Second},
			{syn, 0, 0, 0, 3 * time.Second},
			{backoff, 0, 0, 0, 6 * time.Second},
			{100 * ms, 1, 100 * ms, 50 * ms, 300 * ms},
		}},
		{"SYN retransmitted, with a sample", rtt{}, []step{
			{100 * ms, 1, 100 * ms, 50 * ms, 300 * ms},
			{syn, 0, 100 * ms, 50 * ms, 300 * ms},
		}},
		{"nonsense samples", rtt{}, []step{
			{0, 1, 1, 0, 200*ms + 1},
			{time.Hour, 1, 1 + (120*time.Second-1)/8, (120*time.Second - 1) / 4, 120 * time.Second},
			// SRTT = 7/8*15 + 1/8*1; RTTVAR = 3/4*30 + 1/4*14
			{time.Second, 0, 13250 * ms, 26 * time.Second, 117250 * ms},
		}},
	} {
		r := c.r
		for i, s := range c.steps {
			switch s.d {
			case backoff:
				r.backoff()
			case reset:
				r.resetBackoff()
			case syn:
				r.synRetransmitted()
			default:
				if s.n == 1 {
					r.sample(s.d)
				} else {
					r.sampleOf(s.d, s.n)
				}
			}
			if r.srtt != s.srtt || r.rttvar != s.rttvar || r.rto() != s.rto {
				t.Errorf("%s, step %d: srtt %v rttvar %v rto %v, want %v %v %v", c.name, i, r.srtt, r.rttvar, r.rto(), s.srtt, s.rttvar, s.rto)
			}
		}
	}
}

func TestRTTBackoffIsBounded(t *testing.T) {
	var r rtt
	r.sample(300 * ms)
	last := r.rto()
	for range 200 {
		r.backoff()
		d := r.rto()
		if d < last || d > maxRTO {
			t.Fatalf("after %v came %v", last, d)
		}
		last = d
	}
	if last != maxRTO {
		t.Errorf("ends at %v", last)
	}
}

// On a steady path the estimate settles on the round trip, however many samples
// come in each.
func TestRTTSettles(t *testing.T) {
	for _, n := range []int{1, 10, 100} {
		var r rtt
		r.sample(time.Second)
		for range 60 * n {
			r.sampleOf(50*ms, n)
		}
		if r.srtt < 50*ms || r.srtt > 52*ms || r.rto() > 300*ms {
			t.Errorf("%d samples per round trip: srtt %v rto %v", n, r.srtt, r.rto())
		}
	}
}
