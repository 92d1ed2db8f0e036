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

// repairAck is the state machine of loss for an ACK whose acknowledgment
// number, blocks and round trip have been taken in. acked is by how much sndUna
// moved, dup says that it is a duplicate. It reports whether the retransmission
// timer is to start anew.
//
//	           loss: OnLoss                 all acknowledged: OnRecoveryExit
//	phaseOpen --------------> phaseFast --------------------------> phaseOpen
//	    |                        |
//	    | time-out: OnTimeout    | time-out       all acknowledged
//	    +------------------------+-> phaseLoss --------------------> phaseOpen
//
//	from each of them: it was for nothing, undo.go ------cc.Undo---> phaseOpen
func (c *Conn) repairAck(now mono.Time, acked int, dup bool) (restart bool) {
	if c.hold {
		c.hold, c.kick = false, true
	}
	advanced := acked > 0
	if advanced {
		c.dupAcks = 0
		if c.recoverSet && c.recover.Less(c.sndUna) {
			c.recoverSet = false
		}
	} else if dup && !c.sackOK {
		c.dupAck(now)
	}
	// RFC 6582 §3.2, step 3, full acknowledgment; RFC 6675 §5, step A.
	full := advanced && c.recover.LessEq(c.sndUna)
	restart = true
	was := c.phase
	switch was {
	case phaseOpen:
		if !c.undoOnDSACK(now) && advanced {
			c.dupBytes = 0
		}
	case phaseFast:
		switch {
		case full:
			if !c.undoOnFull(now) {
				c.repaired(now)
			}
		case advanced && c.undoOnPartial(now), c.undoOnDSACK(now):
		case advanced && !c.sackOK:
			restart = c.partialAck(now, acked)
		}
	case phaseLoss:
		switch {
		case advanced && c.undoOnLoss(now, false), c.frtoAck(advanced, dup) && c.undoOnLoss(now, true):
		case full:
			c.repaired(now)
		case advanced:
			// What F-RTO let out lies beyond recover, and is still there.
			c.dupBytes = min(c.dupBytes, max(c.sndNxt.Sub(c.recover), 0))
		case dup && !c.sackOK && c.recover.Less(c.sndNxt):
			// New text that F-RTO let out has arrived.
			c.dupBytes = min(c.dupBytes+c.mss, c.sndNxt.Sub(c.recover))
		}
	}
	if c.sackOK && (c.rack.bytes > 0 || c.phase == phaseOpen && c.board.lost > 0) {
		c.kick = true
		c.probe.due = false
		lost := 0
		if c.phase != phaseFast || !c.hold {
			lost = c.detectLoss(now)
		}
		if was != phaseOpen && c.phase == phaseOpen {
			lost = c.board.lost // beyond what was repaired
		}
		c.repair(now, lost, advanced)
	}
	if c.rack.late {
		c.count(CountReorder, 1)
	}
	return restart
}

// repaired is the end of a repair: all that was in flight when it began has
// arrived.
func (c *Conn) repaired(now mono.Time) {
	c.setPhase(phaseOpen, whyRepaired)
	c.dupBytes, c.frto = 0, false
	c.rack.recovered()
	c.cc.OnRecoveryExit(now)
}

// repair goes on with what an ACK or the reordering timer taught: lost bytes
// are newly taken for lost. advanced says that sndUna moved.
func (c *Conn) repair(now mono.Time, lost int, advanced bool) {
	if c.phase == phaseOpen && lost > 0 && !c.mtuProbeLost() {
		// RFC 6675 §5, step 4. Departs from RFC 5681 §4.3 as Linux does:
		// the loss of a retransmission does not reduce the window again.
		c.count(CountSACKRecovery, 1)
		c.undoBegin(true)
		c.setRecover()
		c.setPhase(phaseFast, c.why)
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
	c.count(CountRenoRecovery, 1)
	c.undoBegin(true)
	c.setRecover()
	c.setPhase(phaseFast, whyDupAcks)
	c.partial = false
	c.resendFirst(now, whyDupAcks)
	c.reduceForLoss(now, flight)
}

// partialAck is RFC 6582 §3.2, step 3, partial acknowledgment: the next hole
// begins here. The window deflates by what was acknowledged less the one
// segment that now takes its place. It reports whether the retransmission timer
// is to start anew.
func (c *Conn) partialAck(now mono.Time, acked int) bool {
	c.dupBytes = max(c.dupBytes-max(acked-c.mss, 0), 0)
	c.dupBytes = min(c.dupBytes, max(c.sndNxt.Sub(c.sndUna)-c.mss, 0))
	c.resendFirst(now, whyPartial)
	// Only the first partial ACK restarts the timer, so that many losses
	// in one window end in a time-out (the impatient variant).
	restart := !c.partial
	c.partial = true
	return restart
}

// timedOut is the expiry of the retransmission timer with data in flight (RFC
// 6298 §5.4 to 5.6, RFC 5681 §3.1).
func (c *Conn) timedOut(now mono.Time) {
	if c.phase == phaseOpen || c.recover.LessEq(c.sndUna) || c.phase == phaseLoss && c.retries == 1 {
		c.undoBegin(false) // another flight, or after progress: another reduction
	}
	c.frtoBegin(c.retries > 1)
	c.cc.OnTimeout(now, c.sndNxt.Sub(c.sndUna))
	c.windowReduced()
	if c.sackOK {
		c.startOver(whyRTO)
		// What the peer has is not sent again (RFC 6675 §5.1), unless it has
		// it no longer.
		if c.board.reneged() {
			c.count(CountSACKReneging, 1)
			if x := c.rack.rates; x != nil {
				x.delivered -= uint64(c.board.sacked)
			}
			c.board.forget()
		}
		c.loseOnTimeout(now)
	} else {
		c.startOver(whyRTO)
		c.rexmit, c.rexmitEnd = c.sndUna, c.sndNxt
		c.lostBecause(whyRTO, c.rexmit, c.rexmitEnd)
	}
	c.rexmitNow = true
}

// setRecover remembers how far we had sent.
func (c *Conn) setRecover() { c.recover, c.recoverSet = c.sndNxt, true }

// resendFirst marks the oldest segment in flight.
func (c *Conn) resendFirst(now mono.Time, w why) {
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
	c.lostBecause(w, c.rexmit, c.rexmitEnd)
}

// resendAll marks everything in flight, because it was too large for the path
// for certain.
func (c *Conn) resendAll() {
	c.startOver(whyMTU)
	c.frto = false
	c.undoNever()
	c.lostBecause(whyMTU, c.sndUna, c.sndNxt)
	if c.sackOK {
		c.board.loseAll()
	} else {
		c.rexmit, c.rexmitEnd = c.sndUna, c.sndNxt
	}
}

// startOver enters phaseLoss.
func (c *Conn) startOver(w why) {
	c.dupAcks, c.dupBytes, c.hold = 0, 0, false
	c.setPhase(phaseLoss, w)
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

// nextAgain returns what is to be sent again first, not much more than enough of
// it. There is something.
func (c *Conn) nextAgain(enough int) (start, end seq.Num) {
	if c.board.lost > 0 {
		return c.board.firstLost(enough)
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
