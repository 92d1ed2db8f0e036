// The retransmission timeout of RFC 6298, with the choices of Linux where the
// RFC leaves them: the smoothed round trip, its variation, and the back-off
// while nothing is acknowledged. When to sample (Karn's rule) is the
// connection's decision.

package tcp

import "time"

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
type rtt struct {
	srtt   time.Duration // smoothed round trip; 0: no sample yet
	rttvar time.Duration // its mean deviation
	// minRTO is the least that rto adds to srtt; 0 means defaultMinRTO.
	minRTO time.Duration
	// first is the timeout before the first sample; 0 means initialRTO.
	first time.Duration
	// backoffs counts the doublings since the last progress.
	backoffs int
}

// sample takes one measured round trip, as if it were the only one of its round
// trip, and ends the back-off.
func (r *rtt) sample(d time.Duration) { r.sampleOf(d, 1) }

// sampleOf takes one of about n measurements that will arrive within a round
// trip (with timestamps every ACK brings one). The gains of RFC 6298 §2.3 are
// meant for one sample per round trip; they are divided by n, as RFC 7323
// appendix G advises, so that the memory stays as long however many arrive:
// n = ceil(FlightSize / (2*SMSS)).
func (r *rtt) sampleOf(d time.Duration, n int) {
	// A measurement of zero is a round trip shorter than the clock's tick.
	d = max(d, 1)
	// A round trip longer than the longest timeout tells no more than that.
	d = min(d, maxRTO)
	n = max(n, 1)
	r.backoffs = 0
	r.first = 0
	if r.srtt == 0 {
		// RFC 6298 §2.2.
		r.srtt = d
		r.rttvar = d / 2
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
	r.rttvar += change / time.Duration(4*n)
	r.srtt = max(1, r.srtt+err/time.Duration(8*n))
}

// base returns the timeout without back-off.
func (r *rtt) base() time.Duration {
	if r.srtt == 0 {
		if r.first != 0 {
			return r.first
		}
		return initialRTO
	}
	// RFC 6298 §2.3: SRTT + max(G, 4*RTTVAR).
	// Departs from RFC 6298 §2.4 as Linux does: the floor is 200 ms and
	// applies to the variation rather than the sum, so that a long steady
	// path keeps a margin for the peer's delayed acknowledgment.
	floor := r.minRTO
	if floor == 0 {
		floor = defaultMinRTO
	}
	return min(maxRTO, r.srtt+max(rtoClock, floor, 4*r.rttvar))
}

// rto returns the retransmission timeout, doubled for each backoff and at most
// maxRTO (RFC 6298 §5.5).
func (r *rtt) rto() time.Duration {
	d := r.base()
	for range r.backoffs {
		if d >= maxRTO {
			break
		}
		d *= 2
	}
	return min(d, maxRTO)
}

// backoff doubles the timeout, after it expired.
func (r *rtt) backoff() { r.backoffs++ }

// resetBackoff ends the doubling, when new data was acknowledged.
func (r *rtt) resetBackoff() { r.backoffs = 0 }

// synRetransmitted starts the data phase after a SYN was retransmitted: without
// a sample, which Karn's rule may have forbidden, the timeout is 3 seconds
// (RFC 6298 §5.7).
func (r *rtt) synRetransmitted() {
	r.backoffs = 0
	if r.srtt == 0 {
		r.first = fallbackRTO
	}
}
