// The retransmission timeout of RFC 6298, with the choices of Linux where the
// RFC leaves them: the smoothed round trip, its variation, and the back-off
// while nothing is acknowledged. When to sample (Karn's rule) is the
// connection's decision.

package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/seq"
)

// Bounds of the retransmission timeout.
const (
	defaultMinRTO = 200 * time.Millisecond // Linux; RFC 6298 §2.4 says 1 s
	maxRTO        = 120 * time.Second      // Linux; RFC 6298 §2.5: at least 60 s
	initialRTO    = time.Second            // RFC 6298 §2.1
	fallbackRTO   = 3 * time.Second        // RFC 6298 §5.7
	rtoClock      = time.Millisecond       // G of RFC 6298: what timers resolve
)

// rtt estimates the round trip of one connection. Its zero value is a
// connection without a measurement.
//
// RFC 6298 measures once in a round trip; here each ACK does, which notices a
// longer path at once. But many samples in a round trip would forget quickly
// what the path can do: the mean deviation of a window full of ACKs that come
// back to back is small, whatever comes with the next window. RFC 7323 appendix
// G divides the gains by the number of samples. Departs from it as Linux does:
// the timeout is made of the largest deviation in a round trip, which rises with
// any sample and falls once in a round trip.
type rtt struct {
	srtt   time.Duration // SRTT: smoothed round trip; 0: no sample yet
	rttvar time.Duration // RTTVAR: its mean deviation, of every sample
	spread time.Duration // the deviation the timeout is made of
	most   time.Duration // the largest rttvar of this round trip,
	until  seq.Num       // which ends with the ACK of this number
	// backoffs counts the doublings since the last progress.
	backoffs uint16
	synLost  bool // our SYN was sent again, and there was no sample then
}

// sample takes one measured round trip and ends the back-off. una and nxt are
// what is acknowledged and what was sent: they tell round trips apart.
func (r *rtt) sample(d time.Duration, una, nxt seq.Num) {
	// A measurement of zero is a round trip shorter than the clock's tick.
	d = max(d, 1)
	// A round trip longer than the longest timeout tells no more than that.
	d = min(d, maxRTO)
	r.backoffs = 0
	if r.srtt == 0 {
		// RFC 6298 §2.2.
		r.srtt = d
		r.rttvar = d / 2
		r.spread, r.most, r.until = r.rttvar, r.rttvar, nxt
		return
	}
	// RFC 6298 §2.3, beta = 1/4 and alpha = 1/8; RTTVAR before SRTT.
	err := d - r.srtt
	change := max(err, -err) - r.rttvar
	if err < 0 && change > 0 {
		// As Linux: a sudden fall of the round trip is not a reason to wait
		// longer, so it raises the variation eight times slower.
		change /= 8
	}
	r.rttvar += change / 4
	r.srtt = max(1, r.srtt+err/8)
	r.most = max(r.most, r.rttvar)
	r.spread = max(r.spread, r.most)
	if r.until.Less(una) {
		r.spread -= (r.spread - r.most) / 4
		r.most, r.until = 0, nxt
	}
}

// base returns the timeout without back-off. least is what it adds to srtt at
// least, first what it is before the first sample.
func (r *rtt) base(least, first time.Duration) time.Duration {
	switch {
	case r.srtt == 0 && r.synLost:
		return fallbackRTO
	case r.srtt == 0:
		return first
	}
	// RFC 6298 §2.3: SRTT + max(G, 4*RTTVAR).
	// Departs from RFC 6298 §2.4 as Linux does: the floor is 200 ms and
	// applies to the variation rather than the sum, so that a long steady
	// path keeps a margin for the peer's delayed acknowledgment.
	return min(maxRTO, r.srtt+max(rtoClock, least, 4*r.spread))
}

// rto returns the retransmission timeout, doubled for each backoff and at most
// maxRTO (RFC 6298 §5.5).
func (r *rtt) rto(least, first time.Duration) time.Duration {
	d := r.base(least, first)
	for range r.backoffs {
		if d >= maxRTO {
			break
		}
		d *= 2
	}
	return min(d, maxRTO)
}

// backoff doubles the timeout, after it expired.
func (r *rtt) backoff() { r.backoffs = min(r.backoffs, 1<<16-2) + 1 }

// synRetransmitted starts the data phase after a SYN was retransmitted: without
// a sample, which Karn's rule may have forbidden, the timeout is 3 seconds
// (RFC 6298 §5.7).
func (r *rtt) synRetransmitted() {
	r.backoffs = 0
	r.synLost = r.srtt == 0
}
