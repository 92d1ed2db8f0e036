package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns CUBIC, RFC 9438: after a loss the window grows by a cubic
// function of the time since, fast towards the window at which the loss
// happened, slowly around it, and then ever faster in search of the next
// limit. On short paths, where Reno would be faster than that, it grows as Reno.
//
//	cwnd                                       *
//	W_max ------- loss --------- *  *  *  * ------------
//	                |        *                *  convex
//	                |     *  concave
//	0.7 cwnd        |   *
//	                    |<------- K ----->|
//	                  epoch
//
// The window is in bytes, time in microseconds; cubicmath.go has the curve.

// Cubic is a CUBIC window.
type Cubic struct {
	window
	frac   int32  // of a byte of cwnd, in units of 2^-fracBits
	stage         // of congestion avoidance
	undone *stage // before the last congestion event (RFC 9438 §4.9.2); nil: there was none
	// paused is when the window ceased to be the limit: its curve stands
	// still from then on; 0: it does not.
	paused mono.Time
}

// stage is the variables of RFC 9438 §4.1.2.
type stage struct {
	epoch     mono.Time // t_epoch; 0: the stage begins with the next ACK
	wEst      int64     // W_est, in units of 2^-fracBits bytes
	wMax      int32     // W_max; 0: undefined
	cwndPrior int32     // cwnd_prior; 0: undefined
	k         uint32    // K
}

// fracBits are the binary digits after the point of windows that grow by less
// than a byte per ACK.
const fracBits = 20

// The decrease factors beta_cubic of RFC 9438 §4.6 and, for ECN in congestion
// avoidance, of RFC 8511 §3.1.
const (
	cubicBeta    = 70 // per cent
	cubicBetaECN = 85
)

// NewCubic returns the controller of a new connection with segments of mss
// bytes and a window of InitialWindow.
func NewCubic(mss int) Controller { return &Cubic{window: newWindow(mss)} }

// Name implements Controller.
func (c *Cubic) Name() string { return "cubic" }

// OnAck implements Controller.
func (c *Cubic) OnAck(a Ack) {
	if n := c.slowStart(&a); n > 0 {
		c.avoid(&a, n)
	} else if c.epoch != 0 && c.paused == 0 && a.Acked > 0 && !c.limited(&a) {
		c.paused = a.Now
	}
}

// avoid is congestion avoidance: n bytes were acknowledged.
func (c *Cubic) avoid(a *Ack, n int) {
	switch {
	case c.epoch == 0:
		c.begin(a.Now)
	case c.paused != 0:
		// RFC 9438 §4.2: t does not include periods in which cwnd was not
		// updated because the application sent too little (§5.8).
		c.epoch = min(c.epoch.Add(a.Now.Sub(c.paused)), a.Now)
		c.paused = 0
	}
	mss, cwnd := int64(c.mss), int64(c.cwnd)
	acked := uint64(min(int64(n), cwnd))

	// RFC 9438 §4.3, equation 4. alpha_cubic is 3*(1-0.7)/(1+0.7) = 9/17
	// until W_est is back at cwnd_prior, then 1 as Reno's.
	alpha := uint64(mss << fracBits)
	if c.wEst>>fracBits < int64(c.cwndPrior) {
		alpha = alpha * 9 / 17
	}
	c.wEst = min(c.wEst+int64(mulDiv(alpha, acked, uint64(cwnd))), MaxWindow<<fracBits)

	t := a.Now.Sub(c.epoch)
	if cubicWindow(t, c.k, c.wMax, c.mss) < c.wEst>>fracBits {
		// Reno-friendly region.
		c.cwnd = max(c.cwnd, int32(c.wEst>>fracBits))
		return
	}
	// RFC 9438 §4.4 and §4.5, concave and convex region. The bounds of target
	// are those of §4.2.
	target := cubicWindow(t+max(a.SRTT, 0), c.k, c.wMax, c.mss)
	target = min(max(target, cwnd), cwnd+cwnd/2)
	grow := mulDiv(uint64(target-cwnd)<<fracBits, acked, uint64(cwnd)) + uint64(c.frac)
	c.frac = int32(grow & (1<<fracBits - 1))
	c.cwnd = int32(min(cwnd+int64(grow>>fracBits), MaxWindow))
}

// begin begins a stage of congestion avoidance. After a timeout (RFC 9438 §4.8)
// and after a slow start without a loss (§4.10) W_max is undefined: then, and
// when the window is already beyond it, the curve begins at its flat part.
func (c *Cubic) begin(now mono.Time) {
	c.epoch, c.paused, c.frac = now, 0, 0
	c.wEst = int64(c.cwnd) << fracBits
	c.k = cubicK(c.wMax-c.cwnd, c.mss)
	c.wMax = max(c.wMax, c.cwnd)
	if c.cwndPrior == 0 {
		c.cwndPrior = c.cwnd
	}
}

// decrease is a congestion event: RFC 9438 §4.6 and, for W_max, §4.7 (fast
// convergence: a flow that could not return to where it was has company, and
// leaves it some more room). It returns the new threshold.
//
// As Linux does, and RFC 9438 §4.6 permits, it goes by cwnd instead of
// flight_size; a window that is not used does not grow, and shrinks.
func (c *Cubic) decrease(percent int) (ssthresh int) {
	cwnd := int(c.cwnd)
	if c.undone == nil {
		c.undone = new(stage)
	}
	*c.undone = c.stage
	c.cwndPrior = c.cwnd
	if c.cwnd < c.wMax {
		c.wMax = int32(cwnd * (100 + cubicBeta) / 200)
	} else {
		c.wMax = c.cwnd
	}
	c.epoch, c.paused = 0, 0
	return cwnd * percent / 100
}

func (c *Cubic) undoneStage() stage {
	if c.undone == nil {
		return stage{}
	}
	return *c.undone
}

// OnLoss implements Controller.
func (c *Cubic) OnLoss(now mono.Time, inFlight int) {
	if c.phase == Open {
		c.onLoss(c.decrease(cubicBeta))
	}
}

// OnECN implements Controller.
func (c *Cubic) OnECN(now mono.Time, inFlight int) {
	percent := cubicBetaECN
	if c.cwnd < c.ssthresh {
		percent = cubicBeta
	}
	if c.phase == Open {
		c.onECN(c.decrease(percent))
	}
}

// OnTimeout implements Controller (RFC 9438 §4.8).
func (c *Cubic) OnTimeout(now mono.Time, inFlight int) {
	stage, undone := c.stage, c.undoneStage()
	if !c.onTimeout(c.decrease(cubicBeta)) {
		c.stage, *c.undone = stage, undone // of the first timeout in a row
		c.epoch = 0
	}
	c.wMax = 0
}

// Undo implements Controller (RFC 9438 §4.9).
func (c *Cubic) Undo(now mono.Time) {
	if c.priorCwnd != 0 && c.cwnd < c.cwndPrior {
		c.stage = c.undoneStage()
	}
	c.undo()
}

// OnIdle implements Controller. The curve stands still since data was last sent
// (Linux: since then as well).
func (c *Cubic) OnIdle(now mono.Time, idle, rto time.Duration) {
	if c.epoch != 0 && c.paused == 0 {
		c.paused = max(now.Add(-idle), c.epoch)
	}
	if c.restart(idle, rto) {
		c.epoch = 0
	}
}

// OnUnused implements Controller.
func (c *Cubic) OnUnused(now mono.Time, used int) {
	if c.shrink(used) {
		c.epoch = 0
	}
}
