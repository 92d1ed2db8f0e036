package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what Reno and CUBIC have in common: a window with a slow start
// threshold, slow start, what happens to a window that is not used, and the
// memory that Undo needs.

// maxSlowStart is how far one ACK may open the window in slow start, in bytes,
// or eight segments if that is more: L of RFC 9406 §4.3 for a sender that is
// not paced.
//
// Departs from RFC 9406, which has the eight segments only. With segmentation
// offload both ends move up to 64 KB at a time and acknowledge them at once, so
// that 8 segments would make slow start almost linear. Linux has no limit; one
// super-frame is the burst that is sent anyway.
const maxSlowStart = 64 << 10

// window is the part of a loss based controller that is not about its curve.
// Sizes fit 32 bits, and each connection has one.
type window struct {
	mss, cwnd, ssthresh int32
	// The window before the last reduction, for Undo; 0: there was none, or it
	// is undone.
	priorCwnd, priorSsthresh int32
	hystart                  hystart
	phase                    Phase
	// progress says that in phase AfterTimer data was acknowledged since the
	// last timeout, so that the next one is about other data.
	progress bool
}

func newWindow(mss int) window {
	w := window{ssthresh: MaxWindow}
	w.SetMSS(mss)
	w.cwnd = int32(InitialWindow(int(w.mss)))
	return w
}

// Start implements Controller: it takes over the window of a predecessor
// (Linux keeps it in the socket).
func (w *window) Start(s Start) {
	w.phase = s.Phase
	if s.Cwnd > 0 {
		w.cwnd = int32(min(max(s.Cwnd, int(w.mss)), MaxWindow))
	}
	if s.Ssthresh > 0 {
		w.ssthresh = int32(min(s.Ssthresh, MaxWindow))
	}
	w.remember()
}

// limited reports whether the ACK is for a window of data that was used. In
// slow start half of it is enough: it doubles only with the next round trip
// (Linux's tcp_is_cwnd_limited).
func (w *window) limited(a *Ack) bool {
	return a.CwndLimited || w.cwnd < w.ssthresh && int(w.cwnd) < 2*a.Used
}

// slowStart takes an ACK, opens the window by it in slow start, and returns how
// much of the ACK is left for congestion avoidance; often 0.
func (w *window) slowStart(a *Ack) int {
	phase := a.Phase
	if phase == Open {
		phase = w.phase
	}
	if a.Acked <= 0 && !a.Reorders || phase == Recovery {
		return 0
	}
	// What was told before, by SACK or duplicate ACKs, has let its text out
	// already (Linux: acked_sacked).
	n := min(a.Delivered, MaxWindow)
	if a.Acked > 0 {
		w.progress = true
	}
	if !a.Reorders {
		n = min(n, a.Acked)
	}
	if n <= 0 {
		return 0
	}
	if w.cwnd >= w.ssthresh {
		if a.CE > 0 || !w.limited(a) {
			return 0
		}
		return n
	}
	// RFC 9406 §4.3: only the first slow start, which knows no threshold.
	if w.ssthresh == MaxWindow && w.hystart.onAck(a) {
		w.ssthresh = w.cwnd
		return 0
	}
	if a.CE > 0 || !w.limited(a) {
		return 0 // RFC 3168 §6.1.2: no increase by an ACK that tells of congestion
	}
	// RFC 5681 §3.1, slow start. RFC 3465 §2.3: after a timeout an ACK may cover
	// what had arrived before, hence only one segment.
	limit := max(maxSlowStart, 8*int(w.mss))
	if phase == AfterTimer {
		limit = int(w.mss)
	}
	n = min(n, limit)
	grow := min(w.hystart.growth(n), int(w.ssthresh-w.cwnd))
	w.cwnd += int32(grow)
	if w.cwnd < w.ssthresh {
		return 0
	}
	return n - grow
}

// onLoss begins a recovery with a window of ssthresh, unless one is under way.
func (w *window) onLoss(ssthresh int) bool {
	if w.phase != Open {
		return false
	}
	w.remember()
	w.ssthresh = int32(max(ssthresh, 2*int(w.mss)))
	w.cwnd = w.ssthresh
	w.phase = Recovery
	return true
}

// onECN lowers the window to ssthresh. It may fall to one segment, while the
// threshold does not fall below two (RFC 9438 §4.6).
func (w *window) onECN(ssthresh int) bool {
	if w.phase != Open {
		return false
	}
	w.cwnd = int32(max(ssthresh, int(w.mss)))
	w.ssthresh = int32(max(ssthresh, 2*int(w.mss)))
	w.priorCwnd = 0 // a mark is no mistake
	return true
}

// OnRecoveryExit implements Controller (RFC 6582 §3.2, step 3: the window
// deflates to ssthresh, where it has been; after a timeout it stays).
func (w *window) OnRecoveryExit(now mono.Time) { w.phase, w.progress = Open, false }

// onTimeout begins the repair after a timeout with the loss window (RFC 5681
// §3.1). It reports whether that is a new congestion event.
func (w *window) onTimeout(ssthresh int) (event bool) {
	ssthresh = max(ssthresh, 2*int(w.mss))
	switch {
	case w.phase == Open:
		w.remember()
		w.ssthresh = int32(ssthresh)
		event = true
	case w.phase == Recovery:
		// The same window of data: the first window to be lost is the one
		// to return to in Undo, and ssthresh only falls.
		w.ssthresh = min(w.ssthresh, int32(ssthresh))
	case w.progress:
		// Another timeout, after one that was called for.
		w.remember()
		w.ssthresh = min(w.ssthresh, int32(ssthresh))
		event = true
	default:
		// The same segment again: ssthresh is held constant.
	}
	w.cwnd = w.mss
	w.phase = AfterTimer
	w.progress = false
	return event
}

func (w *window) remember() { w.priorCwnd, w.priorSsthresh = w.cwnd, w.ssthresh }

// undo restores the window, as Linux: what was taken is given back, what was
// gained since is kept. Once, and after the end of the recovery as well.
func (w *window) undo() bool {
	undone := w.priorCwnd != 0
	if undone {
		w.cwnd = max(w.cwnd, w.priorCwnd)
		w.ssthresh = max(w.ssthresh, w.priorSsthresh)
		w.priorCwnd = 0
	}
	w.phase, w.progress = Open, false
	return undone
}

// restart lowers the window after a pause, in which the network may have
// changed: by half for each retransmission time-out, down to the initial one.
// ssthresh remembers where it was, so that slow start returns there fast (RFC
// 2861 §3.2).
//
// Departs from RFC 5681 §4.1, which falls to the initial window at once, as
// Linux does (tcp_cwnd_restart). It reports whether the window changed.
func (w *window) restart(idle, rto time.Duration) bool {
	low := int32(InitialWindow(int(w.mss)))
	if w.phase != Open || rto <= 0 || idle <= rto || w.cwnd <= low {
		return false
	}
	w.ssthresh = max(w.ssthresh, w.cwnd/4*3)
	for idle -= rto; idle > 0 && w.cwnd > low; idle -= rto {
		w.cwnd /= 2
	}
	w.cwnd = max(w.cwnd, low)
	return true
}

// shrink lowers a window that was not used half way to what was used, so that
// it does not vouch for a path that nobody has tested of late (RFC 2861 §3.2,
// Linux's tcp_cwnd_application_limited). It reports whether the window changed.
func (w *window) shrink(used int) bool {
	used = min(max(used, InitialWindow(int(w.mss))), MaxWindow)
	if w.phase != Open || used >= int(w.cwnd) {
		return false
	}
	w.ssthresh = max(w.ssthresh, w.cwnd/4*3)
	w.cwnd = int32((int(w.cwnd) + used) / 2)
	return true
}

// OnSynLoss implements Controller.
func (w *window) OnSynLoss(now mono.Time) { w.cwnd = w.mss }

// SetMSS implements Controller. The window in bytes stays, but is never less
// than a segment.
func (w *window) SetMSS(mss int) {
	w.mss = int32(min(max(mss, 1), 1<<16))
	w.cwnd = max(w.cwnd, w.mss)
}

// Window implements Controller; nothing here is paced.
func (w *window) Window() (cwnd int, pacing int64) { return int(w.cwnd), 0 }

// Ssthresh implements Controller. It begins at MaxWindow.
func (w *window) Ssthresh() int { return int(w.ssthresh) }
