package cc

import "time"

// This file owns the end of the first slow start: HyStart++ of RFC 9406. Slow
// start that goes on until something is lost overshoots, by up to the size of
// the whole window. A queue that builds shows in the round trip before it
// overflows. When the least round trip of one round is clearly above that of
// the round before, slow start goes on at a quarter of its pace (Conservative
// Slow Start, CSS); if the round trip falls back it was jitter, and if it does
// not fall back for five rounds, slow start is over.
//
//	cwnd    *
//	       *         * CSS   * congestion avoidance
//	      *      *           ssthresh = cwnd
//	    *    *
//	 *   rtt up

// The constants of RFC 9406 §4.3; times in microseconds.
const (
	minRTTThresh     = 4000
	maxRTTThresh     = 16000
	minRTTDivisor    = 8
	nRTTSample       = 8
	cssGrowthDivisor = 4
	cssRounds        = 5
)

// hystart is the variables of RFC 9406 §4.2, with microseconds for times, and 0
// for the RFC's infinity.
type hystart struct {
	last uint32 // lastRoundMinRTT
	cur  uint32 // currentRoundMinRTT
	base uint32 // cssBaselineMinRtt
	// left is how many bytes are still to be acknowledged in this round, the
	// distance to the RFC's windowEnd.
	left    int32
	samples uint8 // rttSampleCount, up to nRTTSample
	rounds  uint8 // of CSS that are complete
	css     bool
	begun   bool // a round, with its first ACK
}

// onAck takes an ACK in the first slow start, and reports whether slow start is
// over. A round lasts until all is acknowledged that was in flight when it
// began: when its first ACK came, so that what the last ACK of the round before
// let out is among it.
func (h *hystart) onAck(a *Ack) bool {
	if !h.begun {
		h.begun = true
		h.left = int32(min(a.Unacked+a.Acked, MaxWindow))
	}
	if a.RTT > 0 {
		h.sample(uint32(min(max(a.RTT/time.Microsecond, 1), 1<<31)))
	}
	if h.left -= int32(min(a.Acked, MaxWindow)); h.left > 0 {
		return false
	}
	if h.css {
		// The round in which CSS began counts, however little of it was left.
		if h.rounds++; h.rounds >= cssRounds {
			return true
		}
	}
	h.last, h.cur, h.samples, h.begun = h.cur, 0, 0, false
	return false
}

// sample takes one measured round trip, and changes between slow start and CSS
// when it is the eighth or a later one of its round.
func (h *hystart) sample(rtt uint32) {
	if h.cur == 0 || rtt < h.cur {
		h.cur = rtt
	}
	if h.samples < nRTTSample {
		if h.samples++; h.samples < nRTTSample {
			return
		}
	}
	switch {
	case h.css && h.cur < h.base:
		h.css, h.base, h.rounds = false, 0, 0 // it was jitter
	case !h.css && h.last != 0 && h.cur >= h.last+min(max(h.last/minRTTDivisor, minRTTThresh), maxRTTThresh):
		h.css, h.base, h.rounds = true, h.cur, 0
	}
}

// growth is by how much an ACK of n bytes opens the window.
func (h *hystart) growth(n int) int {
	if h.css {
		return n / cssGrowthDivisor
	}
	return n
}
