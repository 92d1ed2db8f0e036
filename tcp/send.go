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
			c.sampleRTT(now, 0)
			c.repairAck(now, 0, false)
			c.armProbe(now)
			c.endAck(now, nil, &before, 0) // its feedback is old
		}
		return DropNone
	}

	// RFC 5681 §2: a duplicate ACK has (a) outstanding data, (b) no text, (c)
	// no SYN or FIN, (d) the highest ACK so far, (e) the same window.
	wnd := int(s.Window) << c.sndWScale
	dup := acked == 0 && n == 0 && c.sndUna != c.sndNxt && wnd == c.sndWnd

	if c.updatesWindow(s, acked, wnd) {
		if wnd != c.sndWnd {
			c.kick = true
		}
		c.sndWnd = wnd
		c.maxSndWnd = max(c.maxSndWnd, int32(wnd))
		c.sndWl1 = s.Seq
		c.persistOn(now)
	}
	if c.sndWnd == 0 && !c.orphan {
		c.retries = 0 // RFC 9293 §3.8.6.1: not as long as it sends ACKs
	}
	if acked > 0 {
		c.inputNewAck(ack, acked)
	}
	if c.sackOK {
		c.inputSack(now, s, acked)
	}
	c.sampleRTT(now, acked)
	if acked > 0 || c.rack.bytes > 0 {
		c.events |= EvProgress
	}
	if dup {
		c.count(CountDupAcksIn, 1)
		c.kick = true
	}
	restart := c.repairAck(now, acked, dup)
	if acked > 0 {
		c.acked(now, restart)
	}
	if c.sackOK {
		c.armProbe(now)
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

// updatesWindow reports whether s, whose ACK moves sndUna by acked, says what
// the peer's window wnd is: "the send window should be updated", unless the
// segment is older than the one that last did. An ACK that advances cannot be,
// and of two with the same numbers the one with more window is the later: a peer
// that has not received anything takes nothing back, but all of it (Linux).
func (c *Conn) updatesWindow(s *Segment, acked, wnd int) bool {
	return acked > 0 || c.sndWl1.Less(s.Seq) || c.sndWl1 == s.Seq && (wnd > c.sndWnd || wnd == 0)
}

// inputNewAck takes in an ACK that advances sndUna by acked.
func (c *Conn) inputNewAck(ack seq.Num, acked int) {
	n := min(acked, c.snd.Len())
	c.snd.Discard(n)
	if c.snd.Len() == 0 && c.cfg.Memory.Pressure() {
		c.snd.Shrink()
	}
	c.sndUna = ack
	c.stat.bytesAcked += uint64(n)
	c.sndSml = seq.Max(c.sndSml, c.sndUna)
	c.urg.sndUp = seq.Max(c.urg.sndUp, c.sndUna)
	c.rexmit = seq.Max(c.rexmit, c.sndUna)
	c.rexmitEnd = seq.Max(c.rexmitEnd, c.sndUna)
	c.rack.cum = true
	c.board.acked(c.sndUna, &c.rack)
	c.rack.cum = false
	c.rexmitNow = c.rexmitNow && c.againDue()
	c.retries, c.stuckAt = 0, 0
	if c.uto.set && c.uto.end.LessEq(c.sndUna) {
		c.uto.due, c.uto.set = false, false // it has arrived
	}
	if c.mtu != nil {
		c.mtuProbeAcked()
	}
	c.kick = true
	c.countProgress(c.rack.now)
}

// acked is the rest of what an ACK does that advanced sndUna, once it is known
// what is lost. restart is the repair's word on the timer.
func (c *Conn) acked(now mono.Time, restart bool) {
	// RFC 6298 §5.2 and §5.3: the timer runs while something is in flight, and
	// starts anew with each ACK of new data; recovery may object.
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
			if c.awaitFin(now); c.rst != resetNone {
				c.rst, c.rstSeq = resetBare, c.sndNxt // it answers this segment (Linux)
			}
		}
	case TimeWait:
		c.enterTimeWait(now)
	}
}

// sampleRTT measures the round trip that an ACK which moved sndUna by acked
// ended, if it ended one, for the retransmission timer.
//
// The scoreboard knows when each range left, and Karn's rule (RFC 6298 §3)
// concerns only what was sent twice: of the rest the longest round trip counts,
// so that the timeout allows for it. When everything acknowledged was sent
// twice, the echoed timestamp tells which of the two was answered (RFC 7323
// §4.1); it is coarse, and boxes on the way have been seen to spoil it, so that
// it comes last (Linux).
func (c *Conn) sampleRTT(now mono.Time, acked int) {
	k := &c.rack
	d := time.Duration(0)
	switch {
	case k.ackRTT > 0 && !k.ackTwo:
		d = k.ackRTT
	case k.sackRTT > 0:
		d = k.sackRTT
	default:
		if d = c.echoRTT(now, acked); d == 0 {
			return
		}
		k.sample = d
	}
	c.rtt.sample(d, c.sndUna, c.sndNxt)
	c.traceRTT(d)
}

// echoRTT is the round trip by the timestamp that the ACK being processed
// echoes, in milliseconds; 0: it does not tell.
func (c *Conn) echoRTT(now mono.Time, acked int) time.Duration {
	if acked <= 0 || !c.tsOK || !c.rack.hasEcho {
		return 0
	}
	ms := int32(tsNow(now, c.cfg.TSOffset) - c.rack.echo)
	if d := time.Duration(ms) * time.Millisecond; ms >= 0 && d <= c.cfg.MaxRTO {
		return max(d, time.Millisecond)
	}
	return 0
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
