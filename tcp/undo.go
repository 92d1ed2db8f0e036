package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns second thoughts: what was taken for lost may have been only
// late, and then neither the repair nor the smaller window was called for.
// Three witnesses can say so: a timestamp (eifel.go), D-SACKs (dsack.go), and
// after a time-out F-RTO (frto.go). The response is here (RFC 4015): the window
// returns to what it was, what was thought lost counts as in flight again, and
// the reordering window becomes wider.
//
//	loss or time-out          evidence                     outcome
//	     |                       |
//	     v                       v
//	 undoBegin: marker ---- sent again: resent, stamp ---- undoNow: cc.Undo, phaseOpen
//	                                                  \--- none: OnRecoveryExit; D-SACKs may still come
//
// Departs from RFC 4015 §3 as Linux does: its window becomes what is in flight
// and a little more, here it returns in full, since nothing was lost; and its
// retransmission timer, which takes the next round trip for a first one, is not
// needed: the segment that was late is measured as every other (rtt.go), and
// one such sample d leaves a time-out that is longer than d.

// undo is what has to be known of the last reduction of the window, in case it
// was for nothing. Its names in Linux: undo_marker, undo_retrans, retrans_stamp.
type undo struct {
	on      bool    // the reduction may still turn out to be wrong
	late    bool    // it was for what arrived out of order, not for a time-out
	marked  bool    // a mark has come since, so that the smaller window was called for
	stamped bool    // something was sent again, the first of it
	stamp   uint32  // when our timestamp clock said this
	marker  seq.Num // sndUna when it was made
	end     seq.Num // what was sent again since ends here
	told    seq.Num // the last D-SACK counted ended here
	resent  int32   // segments sent again that no D-SACK has told of; -1: there were none
}

// undoBegin is called when the window is about to be reduced, before anything
// is sent again for it (RFC 4015 §3: pipe_prev). late says that it is because
// something arrived out of order.
func (c *Conn) undoBegin(late bool) {
	u := &c.extra().undo
	stamped := u.stamped && c.phase == phaseLoss // an older one is the safer
	*u = undo{on: true, late: late, marker: c.sndUna, end: c.sndUna, told: c.sndUna, resent: -1, stamped: stamped, stamp: u.stamp}
	if n := c.board.again; n > 0 {
		// A probe or an earlier repair is still on its way, and may be
		// answered by a D-SACK that is not about what follows.
		u.resent, u.end = int32(segments(n, c.mss)), c.sndNxt
	}
}

// undoNever says that the reduction stays: because another one has followed it,
// for a probe that repaired a loss or a mark (RFC 3168), or because what is sent
// again is too large for the path and did not arrive for certain.
func (c *Conn) undoNever() {
	if c.undo.on {
		c.undo.on = false
	}
}

// sent notes that segs segments that end at end leave again at ts.
func (u *undo) sent(segs int, end seq.Num, ts uint32) {
	if !u.stamped {
		u.stamped, u.stamp = true, ts
	}
	u.resent = max(u.resent, 0) + int32(segs)
	u.end = seq.Max(u.end, end)
}

// mayUndo reports that an ACK which moved sndUna proves the last reduction
// wrong.
func (c *Conn) mayUndo() bool { return c.undo.on && (c.undo.resent == 0 || c.delayed()) }

// undoOnFull undoes a fast recovery when all is acknowledged that was in flight
// at its start.
func (c *Conn) undoOnFull(now mono.Time) bool {
	if !c.mayUndo() {
		return false
	}
	c.undoNow(now, CountFullUndo)
	return true
}

// undoOnPartial undoes a fast recovery on the way: the hole was filled by what
// was sent first, not by what was sent again. As long as something sent again
// is on its way no more is repaired, only new text sent. It reports whether it
// has dealt with the ACK.
func (c *Conn) undoOnPartial(now mono.Time) bool {
	if !c.undo.on || !c.delayed() {
		return false
	}
	if k := &c.rack; c.sackOK && k.prior.Less(k.fack) {
		k.overtaken(k.prior)
	}
	if c.board.again > 0 {
		c.hold = true
		return true
	}
	c.loseNone()
	c.undoNow(now, CountPartialUndo)
	return true
}

// undoOnDSACK undoes a reduction whose repair was reported as having arrived
// twice, all of it (RFC 3708 §3).
func (c *Conn) undoOnDSACK(now mono.Time) bool {
	if !c.undo.on || c.undo.resent != 0 {
		return false
	}
	c.undoNow(now, CountDSACKUndo)
	return true
}

// undoOnLoss undoes a time-out. frto says that F-RTO is the witness.
func (c *Conn) undoOnLoss(now mono.Time, frto bool) bool {
	if !frto && !c.mayUndo() {
		return false
	}
	if frto {
		c.count(CountSpuriousRTOs, 1)
	}
	if k := &c.rack; k.ackTwo && k.ackRTT > 0 {
		// Karn's rule forbade to measure this ACK; now it is known that what
		// it answers was sent once.
		c.rtt.sample(k.ackRTT, c.sndUna, c.sndNxt)
		c.traceRTT(k.ackRTT)
	}
	c.loseNone()
	c.undoNow(now, CountLossUndo)
	return true
}

// undoNow is the response (RFC 4015 §3); kind says by what
// evidence.
func (c *Conn) undoNow(now mono.Time, kind Counter) {
	c.count(CountUndos, 1)
	c.count(kind, 1)
	if c.undo.late {
		// What was overtaken may be so again, and farther. D-SACKs
		// have widened the window already; those to come will not do it again.
		c.rack.reorder = true
		if c.undo.resent != 0 {
			c.rack.duplicate(c.sndUna, c.sndNxt)
		}
	}
	if c.undo.marked {
		c.cc.OnRecoveryExit(now) // nothing was lost, but a queue was full (Linux)
	} else {
		c.cc.Undo(now)
		c.windowRestored()
	}
	c.undoNever()
	c.rack.undone = true
	c.setPhase(phaseOpen, whyUndo)
	c.frto, c.retries, c.dupBytes = false, 0, 0
	c.kick = true
}

// loseNone takes what was thought lost for in flight.
func (c *Conn) loseNone() {
	c.board.loseNone()
	c.rexmit, c.rexmitEnd = c.sndNxt, c.sndNxt
	c.rexmitNow = false
}
