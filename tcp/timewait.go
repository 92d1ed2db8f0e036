package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns TIME-WAIT: a record of some hundred bytes that keeps the
// address pair occupied for 2 MSL, answers the peer's last FIN again, and lets
// a newer connection in. A Conn that stays in TIME-WAIT holds such a record
// and asks it, so that the rules exist once.

// TimeWaitRecord is a connection in TIME-WAIT (RFC 9293 §3.6.1), in 48 bytes.
type TimeWaitRecord struct {
	deadline mono.Time
	wait     uint32   // ms
	oowAckAt briefly  // challengeInterval runs from here
	tsAt     coarsely // when tsRecent was learnt

	sndNxt, rcvNxt     seq.Num
	tsOffset, tsRecent uint32

	localPort, remotePort uint16
	window                uint16 // the field to send, scaled
	ecn                   Flags  // what ACKs say about ECN
	rcvWScale             uint8
	replyDue              bool
	opts                  uint8
	Tag                   uint8 // for whoever keeps the record
}

// Bits of TimeWaitRecord.opts.
const (
	twTimestamps = 1 << iota // agreed on
	twRFC1337                // no RST ends it
)

// enterTimeWait starts the 2 MSL wait (RFC 9293 §3.10.7.4, eighth: "start the
// time-wait timer, turn off the other timers").
func (c *Conn) enterTimeWait(now mono.Time) {
	c.tw = &TimeWaitRecord{
		deadline: now.Add(c.cfg.TimeWait), wait: milliseconds(c.cfg.TimeWait),
		sndNxt: c.sndNxt, rcvNxt: c.rcvNxt,
		tsOffset: c.cfg.TSOffset, tsRecent: c.tsRecent, tsAt: coarse(c.tsRecentAt),
		localPort: c.cfg.LocalPort, remotePort: c.cfg.RemotePort,
		window: c.selectWindow(), rcvWScale: c.rcvWScale,
		opts:     uint8(flag(c.tsOK))*twTimestamps | uint8(flag(c.cfg.RFC1337))*twRFC1337,
		replyDue: c.owedAcks > 0,
	}
	if c.ecn != nil && c.ecn.acc != nil {
		c.tw.ecn = c.feedbackFlags() // the counters stand still now
	}
	c.stopTimers()
	c.owedAcks, c.probeDue, c.rst = 0, false, resetNone
	c.rexmit, c.rexmitEnd = c.sndNxt, c.sndNxt
	c.board = scoreboard{}
	c.snd.Release()
	c.events |= EvTimeWait | EvReadable | EvWritable
}

// TimeWait hands over the record of a connection in TIME-WAIT, nil in any
// other state. The record takes the connection's place in the table; the
// connection is CLOSED without an error, and what it received can still be
// read.
func (c *Conn) TimeWait(now mono.Time) *TimeWaitRecord {
	w := c.tw
	if w == nil {
		return nil
	}
	c.wake()
	c.traceAt(now)
	c.release()
	c.events = 0
	return w
}

// inputTimeWait asks the record.
func (c *Conn) inputTimeWait(now mono.Time, s *Segment) Drop {
	v, d := c.tw.Input(now, s)
	if v == VerdictRemove || v == VerdictReuse {
		// For a Conn, a SYN that may reopen ends it; the SYN is sent again and
		// then finds the listener.
		c.moveTo(evReset)
	}
	return d
}

// Input checks a segment against RFC 9293 §3.10.7.4, TIME-WAIT, in the RFC's
// order. VerdictReply: call Output; VerdictRemove: the peer's RST ended the
// wait; VerdictReuse: the segment is a SYN that may open a new connection now,
// with an ISS beyond NextISS, or Decline answers it.
func (w *TimeWaitRecord) Input(now mono.Time, s *Segment) (Verdict, Drop) {
	rst, syn := s.Flags&FlagRST != 0, s.Flags&FlagSYN != 0
	hasTS := w.opts&twTimestamps != 0 && s.Options.HasTS
	old := hasTS && tsBefore(s.Options.TSVal, w.tsRecent) && w.tsAt.since(now) < pawsIdle

	// RFC 9293 §3.6.1 (MAY-2) and RFC 6191: a SYN that is certainly newer than
	// the old connection, by timestamp or else by sequence number, reopens.
	if syn && !rst && s.Flags&(FlagACK|FlagFIN) == 0 && !old {
		if w.rcvNxt.Less(s.Seq) || hasTS && tsBefore(w.tsRecent, s.Options.TSVal) {
			return VerdictReuse, DropNone
		}
	}
	// RFC 7323 §5.3, R1.
	if old && !rst {
		return w.answer(now), DropPAWS
	}
	// RFC 9293 §3.10.7.4, first.
	n := s.Len()
	edge := w.rcvNxt.Add(int(w.window) << w.rcvWScale)
	if n == 0 && !(w.rcvNxt.LessEq(s.Seq) && s.Seq.LessEq(edge)) ||
		n > 0 && !(s.Seq.Less(edge) && w.rcvNxt.Less(s.Seq.Add(n))) {
		if rst {
			return VerdictDrop, DropOutOfWindow
		}
		if s.Flags&FlagFIN != 0 && s.Seq.Add(n) == w.rcvNxt {
			// Eighth: the peer's FIN again, because our ACK was lost.
			// "Acknowledge it, and restart the 2 MSL timeout."
			w.deadline = now.Add(w.length())
			w.replyDue = true
			return VerdictReply, DropNone
		}
		return w.answer(now), DropOutOfWindow
	}
	// RFC 9293 §3.10.7.4, second, with RFC 5961 §3.2. RFC 1337 §3 would rather
	// ignore every RST here (F1), since an old duplicate ACK can draw one that
	// is valid; Linux by default does not, nor do we.
	if rst && w.opts&twRFC1337 != 0 {
		return VerdictDrop, DropRstTimeWait
	}
	if rst {
		if s.Seq != w.rcvNxt {
			return w.answer(now), DropRstOutOfWindow
		}
		return VerdictRemove, DropNone
	}
	// RFC 9293 §3.10.7.4, fourth, with RFC 5961 §4.2.
	if syn {
		return w.answer(now), DropSynInWindow
	}
	// RFC 9293 §3.10.7.4, fifth.
	if s.Flags&FlagACK == 0 {
		return VerdictDrop, DropBadFlags
	}
	if w.sndNxt.Less(s.Ack) {
		return w.answer(now), DropBadAck
	}
	if hasTS && !tsBefore(s.Options.TSVal, w.tsRecent) {
		w.tsRecent, w.tsAt = s.Options.TSVal, coarse(now)
	}
	// Seventh: nothing can follow the FIN. Linux answers whatever does not
	// have the number that is next.
	if n > 0 || s.Seq != w.rcvNxt {
		return w.answer(now), DropOutOfWindow
	}
	return VerdictDrop, DropNone
}

// answer asks for an ACK, at a limited rate.
func (w *TimeWaitRecord) answer(now mono.Time) Verdict {
	if !w.oowAckAt.mayAgain(now) {
		return VerdictDrop
	}
	w.replyDue = true
	return VerdictReply
}

// Decline builds the ACK that answers a SYN for which Input said VerdictReuse,
// when nobody wants the new connection.
func (w *TimeWaitRecord) Decline(now mono.Time, s *Segment) {
	w.replyDue = true
	w.Output(now, s)
}

// Output builds the ACK that is due, or returns false.
func (w *TimeWaitRecord) Output(now mono.Time, s *Segment) bool {
	if !w.replyDue {
		return false
	}
	w.replyDue = false
	*s = Segment{SrcPort: w.localPort, DstPort: w.remotePort}
	s.Seq, s.Ack, s.Flags, s.Window = w.sndNxt, w.rcvNxt, FlagACK|w.ecn, w.window
	if w.opts&twTimestamps != 0 {
		s.Options.HasTS, s.Options.TSVal, s.Options.TSEcr = true, tsNow(now, w.tsOffset), w.tsRecent
	}
	return true
}

// Reusable reports that a connection may be opened from this side with the
// same addresses and ports, with an ISS of at least NextISS: the peer tells old
// segments by their timestamps, which have grown since the connection ended,
// more than after ago (RFC 6191 §2).
func (w *TimeWaitRecord) Reusable(now mono.Time, after time.Duration) bool {
	return w.opts&twTimestamps != 0 && now.Sub(w.deadline.Add(-w.length())) >= after
}

// NextISS is the least initial sequence number with which a connection that
// reuses the address pair cannot be confused with the old one (Linux).
func (w *TimeWaitRecord) NextISS() seq.Num { return w.sndNxt.Add(65535 + 2) }

// Expire reports VerdictRemove when the wait is over.
func (w *TimeWaitRecord) Expire(now mono.Time) Verdict {
	if w.deadline.Due(now) {
		return VerdictRemove
	}
	return VerdictDrop
}

// length is how long the wait is.
func (w *TimeWaitRecord) length() time.Duration { return time.Duration(w.wait) * time.Millisecond }

// Deadline returns when the wait is over.
func (w *TimeWaitRecord) Deadline() mono.Time { return w.deadline }
