package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns loss: how it is noticed and what is sent again. It decides by
// duplicate ACKs and cumulative ACKs alone (RFC 5681 §3.2, RFC 6582 NewReno,
// RFC 3042 limited transmit); the peer's SACK blocks do not take part. How
// fast to send is the congestion control's business, package cc.
//
// Everything it wants to send again is one range, [rexmit, rexmitEnd), which
// Output works off before new data:
//
//	fast retransmit   sndUna [one segment)                  sndNxt
//	time-out          sndUna [everything                   )sndNxt

// dupThresh is the number of duplicate ACKs taken for a loss (RFC 5681 §3.2).
const dupThresh = 3

// phase is what the sender believes about the network.
type phase uint8

const (
	phaseOpen phase = iota // nothing is missing
	phaseFast              // RFC 6582: a segment is missing, ACKs still flow
	phaseLoss              // RFC 5681 §3.1: the timer expired, start over slowly
)

// recovery is the part of Conn's variables that belongs to loss.
type recovery struct {
	phase      phase
	recover    seq.Num // RFC 6582 §3.2: sndNxt when the loss was noticed
	recoverSet bool    // recover is still ahead of, or at, sndUna
	partial    bool    // a partial ACK has arrived in this recovery
	dupAcks    int     // in a row
	dupBytes   int     // in flight according to sndUna, but arrived according to duplicate ACKs

	rexmit, rexmitEnd seq.Num // to be sent again
	rexmitNow         bool    // its first segment without asking the congestion window
}

// dupAck takes one duplicate ACK. Each means that a segment has left the
// network, so that a new one may enter: the first two by RFC 3042, those of a
// recovery by RFC 6582 §3.2 step 4.
func (c *Conn) dupAck(now mono.Time) {
	c.dupAcks++
	flight := c.sndNxt.Sub(c.sndUna)
	// RFC 6582 §3.2, step 2: duplicates of what an earlier recovery sent twice
	// look the same as a loss, so the ACK has to cover more than recover.
	enter := c.dupAcks == dupThresh && c.phase == phaseOpen && !c.recoverSet
	if enter || c.phase == phaseFast || c.phase == phaseOpen && c.dupAcks < dupThresh {
		c.dupBytes = min(c.dupBytes+c.mss, max(flight-c.rexmitEnd.Sub(c.rexmit)-c.mss, 0))
	}
	if !enter {
		return
	}
	c.stat.fastRetransmits++
	c.setRecover()
	c.phase, c.partial = phaseFast, false
	c.cc.OnLoss(now, flight)
	c.resendFirst()
}

// newAck takes an ACK of acked new bytes, and reports whether the
// retransmission timer is to start anew.
func (c *Conn) newAck(now mono.Time, acked int) bool {
	c.dupAcks = 0
	if c.recoverSet && c.recover.Less(c.sndUna) {
		c.recoverSet = false
	}
	switch {
	case c.phase == phaseOpen:
		c.dupBytes = 0
	case c.recover.LessEq(c.sndUna):
		// RFC 6582 §3.2, step 3, full acknowledgment.
		c.phase, c.dupBytes = phaseOpen, 0
		c.cc.OnRecoveryExit(now)
	case c.phase == phaseLoss:
		c.dupBytes = 0
	default:
		// RFC 6582 §3.2, step 3, partial acknowledgment: the next hole begins
		// here. The window deflates by what was acknowledged less the one
		// segment that now takes its place.
		c.dupBytes = max(c.dupBytes-max(acked-c.mss, 0), 0)
		c.dupBytes = min(c.dupBytes, max(c.sndNxt.Sub(c.sndUna)-c.mss, 0))
		c.resendFirst()
		// Only the first partial ACK restarts the timer, so that many losses
		// in one window end in a time-out (the impatient variant).
		restart := !c.partial
		c.partial = true
		return restart
	}
	return true
}

// timedOut is the expiry of the retransmission timer with data in flight (RFC
// 6298 §5.4 to 5.6, RFC 5681 §3.1).
func (c *Conn) timedOut(now mono.Time) {
	c.stat.timeouts++
	c.cc.OnTimeout(now, c.sndNxt.Sub(c.sndUna))
	c.resendAll()
	c.rexmitNow = true
}

// setRecover remembers how far we had sent.
func (c *Conn) setRecover() { c.recover, c.recoverSet = c.sndNxt, true }

// resendFirst marks the oldest segment in flight.
func (c *Conn) resendFirst() {
	c.rexmit = c.sndUna
	c.rexmitEnd = c.sndUna.Add(c.mss)
	if c.dataEnd().LessEq(c.rexmitEnd) {
		c.rexmitEnd = c.sndNxt // with the FIN
	}
	c.rexmitEnd = seq.Min(c.rexmitEnd, c.sndNxt)
	c.rexmitNow = true
}

// resendAll marks everything in flight.
func (c *Conn) resendAll() {
	c.rexmit, c.rexmitEnd = c.sndUna, c.sndNxt
	c.dupAcks, c.dupBytes = 0, 0
	c.phase = phaseLoss
	c.setRecover()
}
