package tcp

import (
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file is SEGMENT ARRIVES of RFC 9293 §3.10.7, check by check in the
// RFC's order, with the additions of RFC 7323 (timestamps) and RFC 5961 (blind
// attacks) where those documents put them. What an acceptable ACK does is in
// send.go, what acceptable text does in receive.go.

// Input processes a segment that arrived for this connection (RFC 9293
// §3.10.7.3 and .4). It borrows s and its payload for the call. The Drop says
// why the segment, or what was left of it, was not used; an answer it may
// deserve comes out of Output either way.
func (c *Conn) Input(now mono.Time, s *Segment) (Events, Drop) {
	if c.InRepair() {
		return 0, DropRepair
	}
	c.wake()
	c.stat.received(s)
	c.traceAt(now)
	d := DropNone
	switch c.state {
	case Closed, Listen:
		d = DropNoConnection
	case SynSent:
		d = c.inputSynSent(now, s)
	case TimeWait:
		d = c.inputTimeWait(now, s)
	default:
		d = c.inputSynchronized(now, s)
	}
	c.traceSegment(TraceReceived, s, d)
	c.traceMetrics()
	return c.takeEvents(), d
}

// inputSynSent is RFC 9293 §3.10.7.3.
func (c *Conn) inputSynSent(now mono.Time, s *Segment) Drop {
	// RFC 9293 §3.10.7.3, first: check the ACK bit. Only our SYN is in flight,
	// so exactly one number is acceptable, unless it carried text.
	hasAck := s.Flags&FlagACK != 0
	if hasAck && !c.acksSyn(s.Ack) {
		if s.Flags&FlagRST == 0 {
			c.rst, c.rstSeq = resetBare, s.Ack
		}
		return DropBadAck
	}
	// RFC 9293 §3.10.7.3, second: check the RST bit. Without an acceptable ACK
	// it could come from anyone.
	if s.Flags&FlagRST != 0 {
		if !hasAck {
			return DropRstOutOfWindow
		}
		c.fail(syscall.ECONNREFUSED)
		return DropNone
	}
	// RFC 9293 §3.10.7.3, third (security) is obsolete.
	// RFC 9293 §3.10.7.3, fifth: neither SYN nor RST.
	if s.Flags&FlagSYN == 0 {
		return DropBadFlags
	}
	// RFC 9293 §3.10.7.3, fourth: check the SYN bit.
	c.start(s.Seq)
	c.negotiate(now, &s.Options)
	c.synSentECN(now, s)
	c.sndWnd = int(s.Window) // RFC 7323 §2.2: never scaled in a SYN
	c.maxSndWnd = int32(c.sndWnd)
	c.sndWl1 = s.Seq
	c.timers[timerRexmit] = 0
	if !hasAck {
		c.retries = 0
		// Simultaneous open. Text in the SYN is not kept: it is not
		// acknowledged, so it comes again (Linux does the same).
		c.moveTo(evSyn)
		c.synDue = true
		return DropNone
	}
	c.synAcked(now, s)
	c.moveTo(evSynAck)
	c.established(now)
	c.ackHandshake(now)
	// "If there are other controls or text in the segment, then continue
	// processing at the sixth step."
	return c.inputText(now, s.Seq+1, s.Payload[0], s.Flags&FlagFIN != 0, s)
}

// inputSynchronized is RFC 9293 §3.10.7.4 for the states from SYN-RECEIVED to
// LAST-ACK.
func (c *Conn) inputSynchronized(now mono.Time, s *Segment) Drop {
	at, text, fin := s.Seq, s.Payload[0], s.Flags&FlagFIN != 0
	syn := s.Flags&FlagSYN != 0

	if syn && c.state == SynReceived && at == c.irs && s.Flags&FlagRST == 0 {
		// The peer's SYN again, alone because our SYN-ACK was lost or with
		// an ACK as in figure 7. The RFC's first check would refuse it, as its
		// number is used up; like Linux, pass over the SYN and see the rest.
		if s.Flags&FlagACK == 0 {
			if !c.synAgainECN(s) {
				c.abort(syscall.ECONNRESET)
				return DropBadFlags
			}
			c.synDue = true
			return DropNone
		}
		syn = false
		at++
	}

	// RFC 7323 §5.3, R1: an older timestamp than the last one is an old
	// duplicate (PAWS).
	if c.pawsRejects(now, s) {
		if c.oldAck(s) {
			c.count(CountPAWSOldAck, 1)
		} else {
			c.answerUnwanted(now, s)
		}
		return DropPAWS
	}

	// RFC 9293 §3.10.7.4, first: check the sequence number.
	segLen := len(text)
	if syn {
		segLen++
		if c.ecn != nil && c.ecn.acc != nil && c.accurateSynAckAgain(now, s) {
			return DropOutOfWindow
		}
	}
	if fin {
		segLen++
	}
	closed := false
	if !c.acceptable(at, segLen) || s.Flags&FlagRST != 0 && at == c.rcvAdv && c.rcvNxt != c.rcvAdv {
		// "If the RCV.WND is zero, no segments will be acceptable, but
		// special allowance should be made to accept valid ACKs, URGs, and
		// RSTs": a window probe's octet goes, the rest is seen.
		closed = at == c.rcvNxt && c.rcvAdv == c.rcvNxt
		if !closed {
			if s.Flags&FlagRST != 0 {
				if c.resetByDeparted(at) {
					c.inputReset()
					return DropNone
				}
				return DropOutOfWindow
			}
			c.answerUnwanted(now, s)
			return DropOutOfWindow
		}
	}

	// RFC 9293 §3.10.7.4, second: check the RST bit, as RFC 5961 §3.2 has it:
	// only the exact number resets, anything else in the window is asked back.
	if s.Flags&FlagRST != 0 {
		if s.Seq != c.rcvNxt {
			c.challenge(now)
			return DropRstOutOfWindow
		}
		c.inputReset()
		return DropNone
	}
	// RFC 9293 §3.10.7.4, third (security) is obsolete.

	// RFC 9293 §3.10.7.4, fourth: check the SYN bit, as RFC 5961 §4.2 has it:
	// a restarted peer will answer the challenge with the right RST.
	if syn {
		c.challenge(now)
		return DropSynInWindow
	}

	// RFC 9293 §3.10.7.4, fifth: check the ACK field.
	if s.Flags&FlagACK == 0 {
		return DropBadFlags
	}
	if c.state == SynReceived {
		if !c.acksSyn(s.Ack) {
			c.rst, c.rstSeq = resetBare, s.Ack
			return DropBadAck
		}
		c.inputAckOfSyn(now, s)
		if c.fastServer() && (s.Ack != c.sndUna || s.Options.NumSACK > 0) {
			c.inputAck(now, s, segLen) // of text that was sent before
		}
	} else if d := c.inputAck(now, s, segLen); d != DropNone {
		return d
	}
	if c.state == Closed { // LAST-ACK, and our FIN was acknowledged
		return DropNone
	}
	c.updateTSRecent(now, s)
	c.inputTimeout(&s.Options)

	// RFC 9293 §3.10.7.4, sixth: check the URG bit.
	if s.Flags&FlagURG != 0 || c.urg.state == urgentComing {
		c.inputUrgent(s)
	}

	if closed {
		if len(text) > 0 {
			c.ackOnce()
			return DropOutOfWindow
		}
		// Linux: a lone FIN needs no room, so it is taken even here.
	}
	if c.rdClosed && c.wrClosed && !c.rcvFin && (len(text) > 0 || fin) && c.rcvNxt.Less(at.Add(len(text))) {
		// RFC 9293 §3.10.4 after RFC 1122 §4.2.2.13: nobody is left to read
		// this, or what a FIN beyond a hole says was sent before it, and the
		// peer must know. The RST is one of a connection that does not exist,
		// as Linux sends it.
		c.count(CountAbortOnData, 1)
		c.rst, c.rstSeq = resetBare, s.Ack
		c.fail(syscall.ECONNRESET)
		return DropClosed
	}
	if len(text) > 0 {
		c.measureReceive(now, s)
	}
	// RFC 9293 §3.10.7.4, seventh and eighth: text and FIN.
	d := c.inputText(now, at, text, fin, s)
	if c.ecn != nil {
		c.inputMark(now, s)
	}
	return d
}

// acceptable is the first check of RFC 9293 §3.10.7.4, table 6, with n the
// segment's length in sequence space:
//
//	      rcvNxt            rcvAdv
//	--------|-----------------|---------
//	  [  segment  ]                         some of it is new
//	                    [  segment  ]       some of it is in the window
//
// Departs from the RFC in one point, as Linux does: an empty segment exactly
// at the right edge is accepted. It is what a peer sends that has filled our
// window, and if data before it was lost its ACKs must still count. A RST there
// has no such excuse, and is not answered with a challenge.
func (c *Conn) acceptable(at seq.Num, n int) bool {
	if n == 0 {
		return c.rcvNxt.LessEq(at) && at.LessEq(c.rcvAdv)
	}
	return at.Less(c.rcvAdv) && c.rcvNxt.Less(at.Add(n))
}

// resetByDeparted reports a RST that a peer without a connection made of an
// ACK of ours that was on its way before its FIN arrived: its number is the
// FIN's, one before the window. Departs from RFC 5961 §3.2, as Linux does
// (tcp_reset_check): what we go on sending would only draw more of them.
func (c *Conn) resetByDeparted(at seq.Num) bool {
	return at == c.rcvNxt-1 && (c.state == CloseWait || c.state == LastAck || c.state == Closing)
}

// inputReset is the peer's valid RST (RFC 9293 §3.10.7.4, second), with
// Linux's choice of errors.
func (c *Conn) inputReset() {
	switch c.state {
	case SynReceived:
		if c.fastServer() {
			c.fail(syscall.ECONNRESET) // the application may have it already
			return
		}
		c.fail(syscall.ECONNREFUSED)
	case CloseWait:
		c.fail(syscall.EPIPE)
	default:
		c.fail(syscall.ECONNRESET)
	}
}

// inputAckOfSyn is the fifth check in SYN-RECEIVED: the handshake is done.
func (c *Conn) inputAckOfSyn(now mono.Time, s *Segment) {
	shift := c.sndWScale
	if s.Flags&FlagSYN != 0 {
		shift = 0 // RFC 7323 §2.2
	}
	c.sndWnd = int(s.Window) << shift
	c.maxSndWnd = int32(c.sndWnd)
	c.sndWl1 = s.Seq
	c.synAcked(now, s)
	if c.ecn != nil && c.ecn.acc != nil && s.Flags&FlagSYN == 0 {
		c.accurateAckOfSyn(now, s)
	}
	c.moveTo(evAckSyn)
	c.established(now)
}

// synAcked notes that the peer has our SYN.
func (c *Conn) synAcked(now mono.Time, s *Segment) {
	resent := c.counted(CountRetransSegs) // nothing but SYNs was sent yet
	c.timers[timerRexmit] = 0
	if !c.fastServer() {
		c.sendFrom(c.iss + 1)
		c.synTextAcked(s.Ack)
	}
	c.synDue = false
	c.stat.delivered++ // the SYN is a segment, too (Linux)
	c.measureSyn(now, s, resent)
	c.startController(now)
	c.events |= EvProgress
	c.retries, c.stuckAt = 0, 0
	if c.sndUna != c.sndNxt {
		c.timers[timerRexmit] = now.Add(c.rto()) // text went before the handshake was done
	}
}

// established tells the user, and does what CLOSE had to put off (RFC 9293
// §3.10.4, SYN-RECEIVED).
func (c *Conn) established(now mono.Time) {
	c.events |= EvConnected | EvWritable
	c.lastDataAt = now
	c.heard(now)
	c.startKeepAlive(now)
	c.beginTuning(now)
	c.kick = true
	if c.wrClosed {
		c.moveTo(evClose)
	}
}

// answerUnwanted sends the ACK with which RFC 9293 §3.10.7.4, first, answers a
// segment it cannot accept. One with text or FIN is a retransmission whose ACK
// was lost and is always answered; empty ones (keep-alives, old duplicates,
// what a confused peer sends) at a limited rate, as in Linux.
func (c *Conn) answerUnwanted(now mono.Time, s *Segment) {
	if s.Len() > 0 && s.Flags&FlagSYN == 0 {
		c.quickMode() // the peer is in trouble
		if c.ecn != nil {
			c.accurateRepeat()
		}
		c.ackNow()
		c.arrivedTwice(s.Seq, seq.Min(s.End(), c.rcvNxt)) // a FIN has a number, too (Linux)
		return
	}
	if s.Flags&FlagSYN != 0 {
		c.challenge(now)
	} else if c.mayAnswer(now) {
		c.count(CountUnwantedAcks, 1)
		c.ackNow()
	}
}

// ackOnce asks Output for an ACK, if none is owed yet.
func (c *Conn) ackOnce() { c.owedAcks = max(c.owedAcks, 1) }

// ackNow asks Output for one more ACK. They are counted, not merged, because
// a peer without SACK counts duplicates (RFC 5681 §3.2).
func (c *Conn) ackNow() {
	if c.owedAcks < maxOwedAcks {
		c.owedAcks++
	}
}
