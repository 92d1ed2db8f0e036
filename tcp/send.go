package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns what acknowledgements do: they free the ring, measure the
// round trip, move the peer's window, and feed the loss recovery (recover.go)
// and the congestion control.

// inputAck is the fifth check of RFC 9293 §3.10.7.4 for the states from
// ESTABLISHED on; n is the segment's length in sequence space.
func (c *Conn) inputAck(now mono.Time, s *Segment, n int) Drop {
	ack := s.Ack
	// RFC 5961 §5.2: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT, anything
	// else may be a blind attacker's guess, text and all.
	if c.sndNxt.Less(ack) {
		c.challenge(now)
		return DropBadAck
	}
	if ack.Less(c.sndUna.Add(-c.oldestAck())) {
		c.challenge(now)
		return DropOldAck
	}
	c.heard(now)
	if c.more {
		c.more, c.kick = false, true // see mayTail
	}
	acked := ack.Sub(c.sndUna)
	before := c.beginAck(now, s)
	if acked < 0 {
		// "If the ACK is a duplicate, it can be ignored", but not its blocks:
		// it was only overtaken.
		if c.sackOK {
			c.inputSack(now, s, 0)
			c.endAck(now, nil, &before, 0) // its feedback is old
		}
		return DropNone
	}

	// RFC 5681 §2: a duplicate ACK has (a) outstanding data, (b) no text, (c)
	// no SYN or FIN, (d) the highest ACK so far, (e) the same window.
	wnd := int(s.Window) << c.sndWScale
	dup := acked == 0 && n == 0 && c.sndUna != c.sndNxt && wnd == c.sndWnd

	// "the send window should be updated", unless the segment is older than
	// the one that last did. An ACK that advances cannot be (Linux).
	if acked > 0 || c.sndWl1.Less(s.Seq) || (c.sndWl1 == s.Seq && c.sndWl2.LessEq(ack)) {
		if wnd != c.sndWnd {
			c.kick = true
		}
		c.sndWnd = wnd
		c.maxSndWnd = max(c.maxSndWnd, wnd)
		c.sndWl1, c.sndWl2 = s.Seq, ack
		c.persistOn(now)
	}
	if c.sndWnd == 0 && !c.orphan {
		c.retries = 0 // RFC 9293 §3.8.6.1: not as long as it sends ACKs
	}
	switch {
	case acked > 0:
		c.inputNewAck(now, s, acked)
	case dup:
		c.stat.dupAcksIn++
		c.kick = true
		if !c.sackOK {
			c.dupAck(now)
		}
	}
	if c.sackOK {
		c.inputSack(now, s, acked)
	}
	c.endAck(now, s, &before, acked)
	c.wakeWriter()
	return DropNone
}

// wakeWriter tells a writer who was stopped to go on, once there is enough room
// to make that worth it.
func (c *Conn) wakeWriter() {
	if !c.wantWrite {
		return
	}
	if c.tuneSend(); c.roomy() {
		c.wantWrite = false
		c.events |= EvWritable
	}
}

// inputNewAck processes an ACK that advances sndUna by acked.
func (c *Conn) inputNewAck(now mono.Time, s *Segment, acked int) {
	n := min(acked, c.snd.Len())
	c.snd.Discard(n)
	if c.snd.Len() == 0 && c.snd.Budget().Pressure() {
		c.snd.Shrink()
	}
	c.sndUna = s.Ack
	c.stat.bytesAcked += uint64(n)
	c.sndSml = seq.Max(c.sndSml, c.sndUna)
	c.urg.sndUp = seq.Max(c.urg.sndUp, c.sndUna)
	c.rexmit = seq.Max(c.rexmit, c.sndUna)
	c.rexmitEnd = seq.Max(c.rexmitEnd, c.sndUna)
	c.board.acked(c.sndUna, &c.rack)
	c.rexmitNow = c.rexmitNow && c.againDue()
	c.retries, c.stuckAt = 0, 0
	if c.uto.set && c.uto.end.LessEq(c.sndUna) {
		c.uto.due, c.uto.set = false, false // it has arrived
	}
	if c.mtu != nil {
		c.mtuProbeAcked()
	}
	c.kick = true
	c.sampleRTT(now, s)

	// RFC 6298 §5.2 and §5.3: the timer runs while something is in flight, and
	// starts anew with each ACK of new data; recovery may object.
	restart := c.newAck(now, acked)
	if c.sndUna == c.sndNxt {
		c.timers[timerRexmit] = 0
	} else if restart {
		c.timers[timerRexmit] = now.Add(c.rto())
	}
	if c.finSent && c.sndUna == c.sndNxt {
		c.finAcked(now)
	}
}

// finAcked is the peer's acknowledgement of our FIN (RFC 9293 §3.10.7.4,
// fifth, FIN-WAIT-1, CLOSING and LAST-ACK).
func (c *Conn) finAcked(now mono.Time) {
	c.moveTo(evAckFin)
	switch c.state {
	case FinWait2:
		c.events |= EvWritable // a lingering Close waits for this
		if c.orphan {
			c.awaitFin(now)
		}
	case TimeWait:
		c.enterTimeWait(now)
	}
}

// sampleRTT measures the round trip that s ended, if it ended one, for the
// retransmission timer.
//
// One segment at a time is timed with the full resolution of the clock. Of
// what was sent twice, Karn's rule says that the answer is ambiguous (RFC 6298
// §3); while there is such a segment, the scoreboard knows what was sent only
// once, and the echoed timestamp tells which of the two was answered.
func (c *Conn) sampleRTT(now mono.Time, s *Segment) {
	d := time.Duration(0)
	switch {
	case c.rttTiming:
		if !c.rttSeq.LessEq(c.sndUna) {
			return
		}
		c.rttTiming = false
		d = max(now.Sub(c.rttAt), 1)
	case c.karn && c.sackOK && c.rack.sample > 0:
		d = c.rack.sample
	case c.karn && c.tsOK && s.Options.HasTS && s.Options.TSEcr != 0:
		ms := int32(tsNow(now, c.cfg.TSOffset) - s.Options.TSEcr)
		if ms < 0 || time.Duration(ms)*time.Millisecond > c.cfg.MaxRTO {
			return
		}
		d = max(time.Duration(ms)*time.Millisecond, time.Millisecond)
	}
	if c.karn && c.karnSeq.LessEq(c.sndUna) {
		c.karn = false
	}
	if d > 0 {
		c.rtt.sample(d)
	}
}

// dataEnd is the number after the last byte of the ring, the FIN's.
func (c *Conn) dataEnd() seq.Num { return c.sndUna.Add(c.snd.Len()) }

// unsent is how many bytes of the ring were never sent.
func (c *Conn) unsent() int {
	if c.finSent {
		return 0
	}
	return c.snd.Len() - c.sndNxt.Sub(c.sndUna)
}

// InWindow reports whether n is the number of something in flight: what an
// ICMP error quotes must be, or it is forged (RFC 5927 §4.1).
func (c *Conn) InWindow(n seq.Num) bool {
	if c.state == SynReceived && n == c.iss {
		return true // Fast Open counts from the number after it
	}
	return c.sndUna.LessEq(n) && n.Less(c.sndNxt)
}
