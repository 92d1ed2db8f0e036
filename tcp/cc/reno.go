package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// Reno is NewReno: slow start, congestion avoidance and the reaction to loss of
// RFC 5681, counting bytes (RFC 3465), with recovery by RFC 6582 done by the
// connection, and the milder reaction to ECN of RFC 8511.
type Reno struct {
	window
	// acked counts towards the next increase in congestion avoidance:
	// bytes_acked of RFC 3465 §2.1.
	acked int32
}

// NewReno returns the controller of a new connection with segments of mss
// bytes and a window of InitialWindow.
func NewReno(mss int) Controller { return &Reno{window: newWindow(mss)} }

// Name implements Controller.
func (r *Reno) Name() string { return "reno" }

// OnAck implements Controller.
func (r *Reno) OnAck(a Ack) {
	if r.cwnd < r.ssthresh {
		r.acked = 0
	}
	n := r.slowStart(&a)
	// RFC 3465 §2.1, congestion avoidance: a segment per window acknowledged.
	// An ACK of more than a window, which can end a recovery, is one window.
	r.acked += min(int32(n), r.cwnd)
	if r.acked >= r.cwnd {
		r.acked -= r.cwnd
		r.cwnd = min(r.cwnd+r.mss, MaxWindow)
	}
}

// OnLoss implements Controller (RFC 5681 §3.2, steps 2 and 3 without the
// inflation).
func (r *Reno) OnLoss(now mono.Time, inFlight int) {
	if r.onLoss(r.flight(inFlight) / 2) {
		r.acked = 0
	}
}

// OnECN implements Controller: beta_ecn of RFC 8511 §3.1 is 0.8. That is for
// congestion avoidance; slow start may have gone twice as far as it should, and
// a mark is a loss there (RFC 3168 §6.1.2).
func (r *Reno) OnECN(now mono.Time, inFlight int) {
	percent := 80
	if r.cwnd < r.ssthresh {
		percent = 50
	}
	if r.onECN(r.flight(inFlight) * percent / 100) {
		r.acked = 0
	}
}

// OnTimeout implements Controller (RFC 5681 §3.1).
func (r *Reno) OnTimeout(now mono.Time, inFlight int) {
	r.onTimeout(r.flight(inFlight) / 2)
	r.acked = 0
}

// flight is the FlightSize of equation 4 of RFC 5681 §3.1. What limited transmit
// sent beyond cwnd does not count (RFC 5681 §3.2, step 2).
func (r *Reno) flight(inFlight int) int { return min(max(inFlight, 0), int(r.cwnd)) }

// Undo implements Controller.
func (r *Reno) Undo(now mono.Time) { r.undo() }

// OnIdle implements Controller.
func (r *Reno) OnIdle(now mono.Time, idle, rto time.Duration) {
	if r.restart(idle, rto) {
		r.acked = 0
	}
}

// OnUnused implements Controller.
func (r *Reno) OnUnused(now mono.Time, used int) {
	if r.shrink(used) {
		r.acked = 0
	}
}
