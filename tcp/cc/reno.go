package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// maxWindow bounds cwnd: TCP's largest window (RFC 7323 §2.3).
const maxWindow = 1 << 30

// maxSlowStart is L of RFC 3465 §2.2: how far one ACK may open the window in
// slow start, in bytes.
//
// Departs from RFC 3465, which says 2 segments. With segmentation offload both
// ends move up to 64 KB at a time and acknowledge them at once, so that 2
// segments would make slow start almost linear. RFC 9406 §4.2 lifts the limit,
// and Linux has none; one super-frame is the burst that is sent anyway.
const maxSlowStart = 64 << 10

// phase is what a Reno window is doing.
type phase uint8

const (
	open     phase = iota // slow start or congestion avoidance
	recovery              // fast recovery: fixed at ssthresh
	loss                  // slow start after a timeout
)

// Reno is NewReno: slow start, congestion avoidance and the reaction to loss of
// RFC 5681, counting bytes (RFC 3465), with recovery by RFC 6582 done by the
// connection.
type Reno struct {
	mss      int
	cwnd     int
	ssthresh int
	phase    phase
	// acked counts towards the next increase in congestion avoidance:
	// bytes_acked of RFC 3465 §2.1.
	acked int
	// progress says that in phase loss data was acknowledged since the
	// last timeout, so that the next one is about other data.
	progress bool
	// The window before the loss that is being repaired, for Undo.
	priorCwnd, priorSsthresh int
}

// NewReno returns the controller of a new connection with segments of mss
// bytes and a window of InitialWindow.
func NewReno(mss int) Controller {
	r := &Reno{ssthresh: maxWindow}
	r.SetMSS(mss)
	r.cwnd = InitialWindow(r.mss)
	return r
}

// OnAck implements Controller.
func (r *Reno) OnAck(a Ack) {
	if a.Acked <= 0 {
		return
	}
	switch r.phase {
	case recovery:
		return
	case loss:
		r.progress = true
	}
	if !a.CwndLimited {
		return
	}
	n := a.Acked
	if r.cwnd < r.ssthresh {
		// RFC 5681 §3.1, slow start. RFC 3465 §2.3: after a timeout an ACK
		// may cover what had arrived before, hence only one segment.
		limit := maxSlowStart
		if r.phase == loss {
			limit = r.mss
		}
		grow := min(n, limit, r.ssthresh-r.cwnd)
		r.cwnd += grow
		r.acked = 0
		if r.cwnd < r.ssthresh {
			return
		}
		// What is left of the ACK counts for congestion avoidance.
		n = min(n, limit) - grow
	}
	// RFC 3465 §2.1, congestion avoidance: a segment per window acknowledged.
	// An ACK of more than a window, which can end a recovery, is one window.
	r.acked += min(n, r.cwnd)
	if r.acked >= r.cwnd {
		r.acked -= r.cwnd
		r.cwnd = min(r.cwnd+r.mss, maxWindow)
	}
}

// OnLoss implements Controller (RFC 5681 §3.2, steps 2 and 3 without the
// inflation).
func (r *Reno) OnLoss(now mono.Time, inFlight int) {
	if r.phase != open {
		return
	}
	r.remember()
	r.ssthresh = r.half(inFlight)
	r.cwnd = r.ssthresh
	r.acked = 0
	r.phase = recovery
}

// OnRecoveryExit implements Controller (RFC 6582 §3.2, step 3: the window
// deflates to ssthresh, where it has been; after a timeout it stays).
func (r *Reno) OnRecoveryExit(now mono.Time) { r.phase = open }

// OnTimeout implements Controller (RFC 5681 §3.1).
func (r *Reno) OnTimeout(now mono.Time, inFlight int) {
	switch {
	case r.phase == open:
		r.remember()
		r.ssthresh = r.half(inFlight)
	case r.phase == recovery || r.progress:
		// The same window of data: the first window to be lost is the one
		// to return to in Undo, and ssthresh only falls.
		r.ssthresh = min(r.ssthresh, r.half(inFlight))
	default:
		// The same segment again: ssthresh is held constant.
	}
	r.cwnd = r.mss // the loss window
	r.acked = 0
	r.phase = loss
	r.progress = false
}

// half is equation 4 of RFC 5681 §3.1. What limited transmit sent beyond cwnd
// does not count (RFC 5681 §3.2, step 2).
func (r *Reno) half(inFlight int) int {
	return max(min(inFlight, r.cwnd)/2, 2*r.mss)
}

func (r *Reno) remember() { r.priorCwnd, r.priorSsthresh = r.cwnd, r.ssthresh }

// Undo implements Controller, as Linux: what was taken is given back, what
// was gained since is kept.
func (r *Reno) Undo(now mono.Time) {
	if r.phase == open {
		return
	}
	r.cwnd = max(r.cwnd, r.priorCwnd)
	r.ssthresh = max(r.ssthresh, r.priorSsthresh)
	r.phase = open
}

// OnIdle implements Controller: after a pause the network is unknown again, and
// the window is at most the initial one (RFC 5681 §4.1). ssthresh remembers
// where it was (Linux, after RFC 2861), so that slow start returns there fast.
func (r *Reno) OnIdle(now mono.Time, idle time.Duration) {
	if r.phase != open {
		return
	}
	if iw := InitialWindow(r.mss); r.cwnd > iw {
		r.ssthresh = max(r.ssthresh, r.cwnd/4*3)
		r.cwnd = iw
		r.acked = 0
	}
}

// OnSynLoss implements Controller.
func (r *Reno) OnSynLoss(now mono.Time) { r.cwnd = r.mss }

// SetMSS implements Controller. The window in bytes stays, but is never less
// than a segment.
func (r *Reno) SetMSS(mss int) {
	r.mss = max(mss, 1)
	r.cwnd = max(r.cwnd, r.mss)
}

// Window implements Controller; Reno is not paced.
func (r *Reno) Window() (cwnd int, pacing int64) { return r.cwnd, 0 }

// Ssthresh implements Controller. It begins at the largest window.
func (r *Reno) Ssthresh() int { return r.ssthresh }
