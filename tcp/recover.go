package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the repair of losses: the phases, and what is to be sent
// again before new data. How fast to send is the congestion control's
// business, package cc.
//
// With SACK, rack.go says what is lost and the scoreboard remembers it. The
// repair begins with the first loss and ends when all is acknowledged that was
// in flight then (RFC 6675 §5).
//
// Without SACK, duplicate ACKs and cumulative ACKs alone decide (RFC 5681 §3.2,
// RFC 6582 NewReno, RFC 3042 limited transmit). What to send again is then one
// range, [rexmit, rexmitEnd):
//
//	fast retransmit   sndUna [one segment)                  sndNxt
//	time-out          sndUna [everything                   )sndNxt

// dupThresh is the number of duplicate ACKs, or of segments that arrived beyond
// a hole, taken for a loss (RFC 5681 §3.2, RFC 6675 §2).
const dupThresh = 3

// phase is what the sender believes about the network.
type phase uint8

const (
	phaseOpen phase = iota // nothing is missing
	phaseFast              // RFC 6582, RFC 6675: something is missing, ACKs still flow
	phaseLoss              // RFC 5681 §3.1: the timer expired, start over slowly
)

// recovery is the part of Conn's variables that belongs to loss.
type recovery struct {
	phase     phase
	recover   seq.Num // RFC 6582 §3.2, RFC 6675 RecoveryPoint: sndNxt when the loss was noticed
	rexmitNow bool    // one segment again without asking the congestion window

	// With SACK.
	board scoreboard
	rack  rack
	probe tailProbe
	prr   prr

	// Without.
	recoverSet bool // recover is still ahead of, or at, sndUna
	partial    bool // a partial ACK has arrived in this recovery
	dupAcks    int  // in a row
	dupBytes   int  // in flight according to sndUna, but arrived according to duplicate ACKs

	rexmit, rexmitEnd seq.Num // to be sent again
}

// repair goes on with what an ACK or the reordering timer taught: lost bytes
// are newly taken for lost. advanced says that sndUna moved.
func (c *Conn) repair(now mono.Time, lost int, advanced bool) {
	if lost > 0 && c.phase == phaseOpen && !c.mtuProbeLost() {
		// RFC 6675 §5, step 4. Departs from RFC 5681 §4.3 as Linux does:
		// the loss of a retransmission does not reduce the window again.
		c.stat.fastRetransmits++
		c.setRecover()
		c.phase = phaseFast
		c.probe = tailProbe{} // whatever it would have told is known
		c.reduceForLoss(now, c.sndNxt.Sub(c.sndUna))
		c.rexmitNow = true
	}
	if c.phase == phaseFast {
		c.prrAck(c.rack.bytes, advanced && lost == 0)
	}
}

// reduceForLoss reduces the window, unless that is going on already because of
// a mark in the same window of data (RFC 3168 §6.1.2).
func (c *Conn) reduceForLoss(now mono.Time, flight int) {
	taken := c.reducing()
	if c.ecn != nil {
		c.ecn.flags &^= ecnReducing
	}
	if taken {
		return
	}
	due := c.prr.due
	if c.sackOK {
		c.prrBegin()
	}
	c.cc.OnLoss(now, flight+int(due))
	c.windowReduced()
}

// expireReorder is the end of the reordering window: what has not arrived by
// now is lost (RFC 8985 §6.2, step 5).
func (c *Conn) expireReorder(now mono.Time) {
	c.rack.bytes, c.prr.due = 0, 0
	if lost := c.detectLoss(now); lost > 0 {
		c.repair(now, lost, false)
		c.rexmitNow = true
	}
}

// dupAck takes one duplicate ACK of a peer without SACK. Each means that a
// segment has left the network, so that a new one may enter: the first two by
// RFC 3042, those of a recovery by RFC 6582 §3.2 step 4.
func (c *Conn) dupAck(now mono.Time) {
	c.dupAcks++
	flight := c.sndNxt.Sub(c.sndUna)
	// RFC 6582 §3.2, step 2: duplicates of what an earlier recovery sent twice
	// look the same as a loss, so the ACK has to cover more than recover.
	enter := c.dupAcks == dupThresh && c.phase == phaseOpen && !c.recoverSet
	if enter || c.phase == phaseFast || c.phase == phaseOpen && c.dupAcks < dupThresh {
		c.dupBytes = min(c.dupBytes+c.mss, max(flight-c.rexmitEnd.Sub(c.rexmit)-c.mss, 0))
	}
	if !enter || c.mtuProbeLost() {
		return
	}
	c.stat.fastRetransmits++
	c.setRecover()
	c.phase, c.partial = phaseFast, false
	c.resendFirst(now)
	c.reduceForLoss(now, flight)
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
		// RFC 6582 §3.2, step 3, full acknowledgment; RFC 6675 §5, step A.
		c.phase, c.dupBytes = phaseOpen, 0
		c.rack.recovered()
		c.cc.OnRecoveryExit(now)
	case c.phase == phaseLoss:
		c.dupBytes = 0
	case !c.sackOK:
		// RFC 6582 §3.2, step 3, partial acknowledgment: the next hole begins
		// here. The window deflates by what was acknowledged less the one
		// segment that now takes its place.
		c.dupBytes = max(c.dupBytes-max(acked-c.mss, 0), 0)
		c.dupBytes = min(c.dupBytes, max(c.sndNxt.Sub(c.sndUna)-c.mss, 0))
		c.resendFirst(now)
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
	c.windowReduced()
	if c.sackOK {
		c.startOver()
		// What the peer has is not sent again (RFC 6675 §5.1), unless it has
		// it no longer.
		if c.board.reneged() {
			c.stat.reneged++
			if x := c.rack.rates; x != nil {
				x.delivered -= uint64(c.board.sacked)
			}
			c.board.forget()
		}
		c.loseOnTimeout(now)
	} else {
		c.resendAll()
	}
	c.rexmitNow = true
}

// setRecover remembers how far we had sent.
func (c *Conn) setRecover() { c.recover, c.recoverSet = c.sndNxt, true }

// resendFirst marks the oldest segment in flight.
func (c *Conn) resendFirst(now mono.Time) {
	c.rexmit = c.sndUna
	c.rexmitEnd = c.sndUna.Add(c.mss)
	if c.dataEnd().LessEq(c.rexmitEnd) {
		c.rexmitEnd = c.sndNxt // with the FIN
	}
	c.rexmitEnd = seq.Min(c.rexmitEnd, c.sndNxt)
	c.rexmitNow = true
	if c.board.count() > 0 {
		c.noteLost(now, &c.board.buf[c.board.head], c.rexmitEnd.Sub(c.rexmit), false)
	}
}

// resendAll marks everything in flight.
func (c *Conn) resendAll() {
	c.startOver()
	if c.sackOK {
		c.board.loseAll()
	} else {
		c.rexmit, c.rexmitEnd = c.sndUna, c.sndNxt
	}
}

// startOver enters phaseLoss.
func (c *Conn) startOver() {
	c.dupAcks, c.dupBytes = 0, 0
	c.phase = phaseLoss
	if c.ecn != nil {
		c.ecn.flags &^= ecnReducing
	}
	c.setRecover()
	c.probe = tailProbe{}
	c.mtu.inconclusive()
	c.timers[timerProbe], c.timers[timerReorder] = 0, 0
}

// againDue reports whether something is to be sent again.
func (c *Conn) againDue() bool { return c.rexmit != c.rexmitEnd || c.board.lost > 0 }

// nextAgain returns what is to be sent again first. There is something.
func (c *Conn) nextAgain() (start, end seq.Num) {
	if c.board.lost > 0 {
		return c.board.firstLost()
	}
	return c.rexmit, c.rexmitEnd
}

// sentAgainAt notes that n numbers from at on were sent again at now.
func (c *Conn) sentAgainAt(now mono.Time, at seq.Num, n int) {
	c.prr.sent(n)
	c.board.sentOnceMore(now, at, at.Add(n), c.stamp(now, n))
	if !c.sackOK {
		c.rexmit = at.Add(n)
	}
}

// pipe estimates the bytes in the network: what is unacknowledged, less what is
// taken for lost and not sent again, less what arrived: by the peer's SACK
// blocks (RFC 6675 §4, SetPipe) or by duplicate ACKs.
func (c *Conn) pipe() int {
	flight := c.sndNxt.Sub(c.sndUna)
	if c.sackOK {
		return max(flight-c.board.sacked-c.board.lost, 0)
	}
	return max(flight-c.rexmitEnd.Sub(c.rexmit)-c.dupBytes, 0)
}
