package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/seq"
)

const ms = time.Millisecond

// rttConfig is what a connection would configure, 0 for the defaults.
type rttConfig struct{ least, first time.Duration }

type configuredRTT struct {
	rtt
	rttConfig
}

func (c rttConfig) rtt() *configuredRTT {
	if c.least == 0 {
		c.least = defaultMinRTO
	}
	if c.first == 0 {
		c.first = initialRTO
	}
	return &configuredRTT{rttConfig: c}
}

func (r *configuredRTT) rto() time.Duration { return r.rtt.rto(r.least, r.first) }

// The rules of RFC 6298 §2 worked by hand. d is a sample that ends a round
// trip, same one that does not, or it is one of the other events.
func TestRTT(t *testing.T) {
	const (
		backoff = -1
		syn     = -3
	)
	type step struct {
		d                 time.Duration
		srtt, rttvar, rto time.Duration
		same              bool
	}
	const us = time.Microsecond
	for _, c := range []struct {
		name  string
		r     rttConfig
		steps []step
	}{
		{"no sample: 1 s, doubling", rttConfig{}, []step{
			{d: backoff, rto: 2 * time.Second},
			{d: backoff, rto: 4 * time.Second},
		}},
		{"initial timeout configured", rttConfig{first: 3 * time.Second}, []step{
			{d: backoff, rto: 6 * time.Second},
			{d: 100 * ms, srtt: 100 * ms, rttvar: 50 * ms, rto: 300 * ms},
		}},
		{"first sample: R, R/2; then 7/8 and 3/4", rttConfig{}, []step{
			{d: 400 * ms, srtt: 400 * ms, rttvar: 200 * ms, rto: 1200 * ms},
			// RTTVAR = 3/4*200 + 1/4*|400-800|; SRTT = 7/8*400 + 1/8*800
			{d: 800 * ms, srtt: 450 * ms, rttvar: 250 * ms, rto: 1450 * ms},
			// RTTVAR = 3/4*250 + 1/4*|450-450|, of which the timeout follows a quarter:
			// 450 + 4*(3/4*250 + 1/4*187.5)
			{d: 450 * ms, srtt: 450 * ms, rttvar: 187500 * us, rto: 450*ms + 4*234375*us},
			// A fall within the variation counts in full:
			// RTTVAR = 3/4*187.5 + 1/4*150; SRTT = 7/8*450 + 1/8*300
			{d: 300 * ms, srtt: 431250 * us, rttvar: 178125 * us, rto: 431250*us + 4*220312500},
		}},
		{"within a round trip the timeout only rises", rttConfig{}, []step{
			{d: 400 * ms, srtt: 400 * ms, rttvar: 200 * ms, rto: 1200 * ms},
			{d: 400 * ms, same: true, srtt: 400 * ms, rttvar: 150 * ms, rto: 1200 * ms},
			{d: 400 * ms, same: true, srtt: 400 * ms, rttvar: 112500 * us, rto: 1200 * ms},
			// at its end by a quarter of the way to the largest in it, the first
			{d: 400 * ms, srtt: 400 * ms, rttvar: 84375 * us, rto: 1200 * ms},
			{d: 400 * ms, same: true, srtt: 400 * ms, rttvar: 63281250, rto: 1200 * ms},
			{d: 400 * ms, srtt: 400 * ms, rttvar: 47460938, rto: 400*ms + 4*(200*ms-(200*ms-63281250)/4)},
			// and one late segment is allowed for at once: 1050 > 1000
			{d: 1000 * ms, same: true, srtt: 475 * ms, rttvar: 185595703, rto: 475*ms + 4*185595703},
		}},
		{"a sudden fall does not raise the timeout", rttConfig{}, []step{
			{d: 800 * ms, srtt: 800 * ms, rttvar: 400 * ms, rto: 2400 * ms},
			{d: 800 * ms, srtt: 800 * ms, rttvar: 300 * ms, rto: 2400 * ms},
			{d: 800 * ms, srtt: 800 * ms, rttvar: 225 * ms, rto: 800*ms + 4*356250*us},
			// The error of 640 exceeds the variation by 415, of which 1/8 of
			// 1/4 counts.
			{d: 160 * ms, srtt: 720 * ms, rttvar: 225*ms + 415*ms/32, rto: 720*ms + 4*(356250*us-(356250*us-225*ms-415*ms/32)/4)},
		}},
		{"floor of the variation", rttConfig{}, []step{
			{d: 8 * ms, srtt: 8 * ms, rttvar: 4 * ms, rto: 208 * ms},
			{d: 8 * ms, srtt: 8 * ms, rttvar: 3 * ms, rto: 208 * ms},
		}},
		{"floor configured", rttConfig{least: 1}, []step{
			{d: 8 * ms, srtt: 8 * ms, rttvar: 4 * ms, rto: 24 * ms},
			{d: 8 * ms, srtt: 8 * ms, rttvar: 3 * ms, rto: 24 * ms},
			{d: 8 * ms, srtt: 8 * ms, rttvar: 2250 * us, rto: 8*ms + 4*3562500},
		}},
		{"the clock's granularity", rttConfig{least: 1}, []step{
			{d: 200 * us, srtt: 200 * us, rttvar: 100 * us, rto: 1200 * us},
		}},
		{"a sample ends the back-off", rttConfig{}, []step{
			{d: 400 * ms, srtt: 400 * ms, rttvar: 200 * ms, rto: 1200 * ms},
			{d: backoff, srtt: 400 * ms, rttvar: 200 * ms, rto: 2400 * ms},
			{d: backoff, srtt: 400 * ms, rttvar: 200 * ms, rto: 4800 * ms},
			{d: 400 * ms, same: true, srtt: 400 * ms, rttvar: 150 * ms, rto: 1200 * ms},
		}},
		{"SYN retransmitted, no sample: 3 s", rttConfig{}, []step{
			{d: backoff, rto: 2 * time.Second},
			{d: syn, rto: 3 * time.Second},
			{d: backoff, rto: 6 * time.Second},
			{d: 100 * ms, srtt: 100 * ms, rttvar: 50 * ms, rto: 300 * ms},
		}},
		{"SYN retransmitted, with a sample", rttConfig{}, []step{
			{d: 100 * ms, srtt: 100 * ms, rttvar: 50 * ms, rto: 300 * ms},
			{d: syn, srtt: 100 * ms, rttvar: 50 * ms, rto: 300 * ms},
		}},
		{"nonsense samples", rttConfig{}, []step{
			{d: 0, srtt: 1, rto: 200*ms + 1},
			{d: time.Hour, srtt: 1 + (120*time.Second-1)/8, rttvar: (120*time.Second - 1) / 4, rto: 120 * time.Second},
			// SRTT = 7/8*15 + 1/8*1; RTTVAR = 3/4*30 + 1/4*14
			{d: time.Second, srtt: 13250 * ms, rttvar: 26 * time.Second, rto: 120 * time.Second},
		}},
	} {
		r := c.r.rtt()
		una, nxt := seq.Num(0xfffffff0), seq.Num(0xfffffff8)
		for i, s := range c.steps {
			switch s.d {
			case backoff:
				r.backoff()
			case syn:
				r.synRetransmitted()
			default:
				if una++; !s.same {
					una, nxt = nxt+1, nxt+11
				}
				r.sample(s.d, una, nxt)
			}
			if r.srtt != s.srtt || r.rttvar != s.rttvar || r.rto() != s.rto {
				t.Errorf("%s, step %d: srtt %v rttvar %v rto %v, want %v %v %v", c.name, i, r.srtt, r.rttvar, r.rto(), s.srtt, s.rttvar, s.rto)
			}
		}
	}
}

func TestRTTBackoffIsBounded(t *testing.T) {
	r := rttConfig{}.rtt()
	r.sample(300*ms, 0, 1)
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
		r := rttConfig{}.rtt()
		at := seq.Num(0)
		r.sample(time.Second, at, at.Add(n))
		for range 60 * n {
			at++
			r.sample(50*ms, at, at.Add(n))
		}
		if r.srtt < 50*ms || r.srtt > 52*ms || r.rto() > 300*ms {
			t.Errorf("%d samples per round trip: srtt %v rto %v", n, r.srtt, r.rto())
		}
	}
}

// What comes back in a bunch after a pause must not let the timeout forget the
// pause before the next one.
func TestRTTBunches(t *testing.T) {
	for _, n := range []int{1, 10, 100} {
		r := rttConfig{}.rtt()
		at := seq.Num(0)
		for round := range 30 {
			for i := range n {
				d := 20 * ms
				if i == 0 {
					d = 400 * ms
				}
				if round > 10 && r.rto() < 400*ms {
					t.Fatalf("%d samples per round trip: timeout %v", n, r.rto())
				}
				at++
				r.sample(d, at, at.Add(n))
			}
		}
	}
}
