package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the decision what to send next: a ladder that Output climbs
// from the top for each segment, so that there is one place that knows, and
// nothing that input, timers or the user do writes a segment itself.

// Output builds the next segment to send in s, or returns false when there is
// none; call it until then after every other call. limit is the most payload
// the caller takes in one segment; less than one segment counts as one. A
// payload larger than s.SegSize is to be cut into segments of that size on
// its way. The payload aliases the send buffer and is valid until the next
// call.
func (c *Conn) Output(now mono.Time, s *Segment, limit int) bool {
	c.wake()
	*s = Segment{}
	if c.InRepair() {
		return false
	}
	c.cfg.Knobs.Address(s)
	c.traceAt(now)
	if c.tune.due {
		c.tuneReceive(now)
	}
	ok := false
	switch {
	case c.rst != resetNone:
		ok = c.outputReset(now, s)
	case c.state == Closed:
	case c.state == TimeWait:
		ok = c.tw.Output(now, s)
	case c.synDue:
		ok = c.outputSyn(now, s)
	case c.handshakeAckDue():
		ok = c.outputHandshakeAck(now, s)
	case c.mayText() && c.outputText(now, s, limit):
		ok = true
	case c.probeDue:
		ok = c.outputProbe(now, s)
	case c.keepDue:
		c.outputKeepAlive(now, s)
		ok = true
	case c.owedAcks > 0:
		ok = c.outputAck(now, s)
	}
	if ok {
		c.stat.sent(s)
		c.traceSegment(TraceSent, s, DropNone)
	} else {
		c.watchLimits(now)
		c.traceMetrics()
	}
	c.chargeLists()
	if c.state == Closed {
		c.rest(now)
	}
	return ok
}

// outputDue reports, perhaps too often but never too seldom, whether Output
// has something to send.
func (c *Conn) outputDue() bool {
	if c.rst != resetNone {
		return true
	}
	switch {
	case c.state == Closed || c.InRepair():
		return false
	case c.state == TimeWait:
		return c.tw.replyDue
	case c.synDue || c.probeDue || c.keepDue || c.owedAcks > 0:
		return true
	}
	return c.mayText() &&
		(c.probe.due || c.rexmitNow && c.againDue() && !c.hold ||
			c.kick && (c.againDue() || c.unsent() > 0 || c.wrClosed && !c.finSent))
}

// outputReset sends the pending RST.
func (c *Conn) outputReset(now mono.Time, s *Segment) bool {
	if c.rst == resetBare {
		// RFC 9293 §3.10.7.3, first: <SEQ=SEG.ACK><CTL=RST>.
		s.SrcPort, s.DstPort = c.cfg.LocalPort, c.cfg.RemotePort
		s.Seq, s.Flags = c.rstSeq, FlagRST
	} else {
		// RFC 9293 §3.10.5: <SEQ=SND.NXT><CTL=RST>, with an ACK as Linux.
		c.header(now, s, c.acceptableSeq(), FlagRST|FlagACK)
	}
	c.rst = resetNone
	return true
}

// outputSyn sends our SYN, or SYN-ACK once the peer's SYN is known.
func (c *Conn) outputSyn(now mono.Time, s *Segment) bool {
	c.synDue = false
	s.SrcPort, s.DstPort = c.cfg.LocalPort, c.cfg.RemotePort
	s.Seq, s.Flags = c.iss, FlagSYN
	s.Window = uint16(synWindow(c.cfg.firstWindow()))
	o := &s.Options
	o.MSS = uint16(min(int(c.cfg.MSS), 65535))
	ws, sack, ts := !c.cfg.NoWScale, !c.cfg.NoSACK, !c.cfg.NoTimestamps
	if c.state == SynReceived {
		// RFC 7323 §2.2 and §3.2, RFC 2018 §2: an answer offers only what
		// the peer offered.
		ws, sack, ts = c.wsOK, c.sackOK, c.tsOK
		s.Flags |= FlagACK
		s.Ack = c.rcvNxt
		c.lastAckSent = c.rcvNxt
		c.owedAcks = 0
		if c.fastServer() {
			s.Window = uint16(c.synWindowLeft())
		}
	}
	if ws {
		o.HasWScale, o.WScale = true, int8(windowScale(c.cfg.largestWindow()))
	}
	o.SACKPermitted = sack
	if ts {
		o.HasTS, o.TSVal = true, tsNow(now, c.cfg.TSOffset)
		if c.state == SynReceived {
			o.TSEcr = c.tsRecent
		}
	}
	first := c.retries == 0 && c.timers[timerRexmit] == 0
	if c.fo != nil {
		c.putFastOpen(s, first)
	}
	c.putSynECN(s)
	if c.cfg.Knobs.uto {
		o.UserTimeout = c.adv()
	}
	if c.stuckAt == 0 {
		c.stuckAt = now
	}
	// RFC 6298 §2 and §3: time the first transmission only.
	if first {
		c.rttTiming, c.rttAt = true, now
	} else {
		c.rttTiming = false
		c.count(CountRetransSegs, 1)
		c.count(CountSynRetrans, 1)
		c.traceRange(TraceRetransmit, whySYN, c.iss, c.iss+1)
	}
	if c.timers[timerRexmit] == 0 {
		c.timers[timerRexmit] = now.Add(c.rto())
	}
	return true
}

// outputText sends text: again what is lost, the probe of the tail, what is new.
func (c *Conn) outputText(now mono.Time, s *Segment, limit int) bool {
	mss := c.segmentSize()
	limit = max(limit, mss)
	if limit <= c.mss || c.sendingUrgent() || c.wholeFrames() {
		limit = mss // a plain device: no room for what is to be cut
	}
	if c.againDue() && !c.hold && c.outputAgain(now, s, mss, limit) {
		return true
	}
	if c.probe.due {
		c.outputTailProbe(now, s, mss)
		return true
	}
	if c.outputNew(now, s, mss, limit) {
		return true
	}
	return c.frtoStuck() && c.againDue() && c.outputAgain(now, s, mss, limit)
}

// outputAgain sends the beginning of what is lost, as much as the two windows
// and limit allow.
func (c *Conn) outputAgain(now mono.Time, s *Segment, mss, limit int) bool {
	at, end := c.nextAgain(limit)
	end = c.inRecord(at, end)
	room := mss
	if !c.rexmitNow {
		if limit = c.paceRoom(now, mss, limit); limit == 0 {
			return false
		}
		limit = c.frameLimit(mss, min(limit, c.halfWindow(mss)))
		pipe := c.pipe()
		room = c.cwnd() - pipe
		if pipe == 0 {
			room = max(room, mss) // never stuck with nothing in flight
		}
		room = min(room, c.sndUna.Add(c.sndWnd).Sub(at), limit)
		if room < min(end.Sub(at), mss) || room <= 0 {
			return false
		}
	}
	c.sendAgain(now, s, at, seq.Min(end, at.Add(max(room/mss, 1)*mss)), mss, c.why)
	c.rexmitNow = false
	return true
}

// sendAgain sends [at, end) again, the FIN included.
func (c *Conn) sendAgain(now mono.Time, s *Segment, at, end seq.Num, mss int, w why) {
	end = c.inRecord(at, end)
	left := c.dataEnd().Sub(at)
	n := min(end.Sub(at), left) // without the FIN
	flags := FlagACK
	if n == left {
		if c.finSent && c.dataEnd().Less(end) {
			flags |= FlagFIN
		}
	}
	if c.ecn != nil {
		c.sentAgainWithOption(at)
	}
	c.mtu.inconclusive()
	flags |= c.pushFlag(at, at.Add(n), mss)
	c.payload(now, s, at, n, mss, flags)
	if c.stuckAt == 0 {
		c.stuckAt = now
	}
	c.sentAgainAt(now, at, s.Len())
	segs := segments(n, mss)
	c.countAgain(n, segs)
	if c.phase != phaseOpen { // a probe in between belongs to no repair
		c.extra().undo.sent(segs, at.Add(s.Len()), tsNow(now, c.cfg.TSOffset))
	}
	c.traceRange(TraceRetransmit, w, at, at.Add(s.Len()))
	c.sentAt = now
	// RFC 6298 §5.1. As Linux does, the first segment gets the whole time once
	// more: its loss was noticed late, by what followed. (Without SACK partial
	// ACKs follow the impatient variant of RFC 6582 instead.)
	if c.timers[timerRexmit] == 0 || c.sackOK && at == c.sndUna && w != whyProbe {
		c.timers[timerRexmit] = now.Add(c.untilStuck(now, c.stuckAt, c.rto()))
	}
	c.armProbe(now)
}

// outputNew sends text that was never sent, as much as the peer's window, the
// congestion window, limit and the rules against small segments allow.
func (c *Conn) outputNew(now mono.Time, s *Segment, mss, limit int) bool {
	unsent := c.unsent()
	fin := c.wrClosed && !c.finSent && c.state != SynReceived
	cut := false // more follows that must not be in the same segment
	if end := c.dataEnd(); c.recs != nil && unsent > 0 {
		unsent = c.inRecord(c.sndNxt, end).Sub(c.sndNxt)
		cut = c.sndNxt.Add(unsent) != end
		fin = fin && !cut
	}
	pipe := c.pipe()
	if unsent > 0 && c.sndUna == c.sndNxt && c.sentAt != 0 {
		c.noteIdle(now)
	}
	room := c.cwnd() - pipe
	if unsent == 0 && !fin {
		if room >= mss {
			c.noteStarved()
		}
		return false
	}
	if unsent > 0 {
		if room < mss {
			c.noteUsage(now, true)
		}
		if !c.probe.due {
			if limit = c.paceRoom(now, mss, limit); limit == 0 {
				return false
			}
		}
		limit = c.frameLimit(mss, min(limit, c.halfWindow(mss)))
	}
	window := c.sndUna.Add(c.sndWnd).Sub(c.sndNxt)
	if pipe == 0 || c.probe.due {
		room = max(room, mss) // never stuck with nothing in flight
	}
	room = max(room, c.frtoRoom(mss))
	if c.mtu != nil && c.recs == nil {
		switch n := c.probeSize(now, mss, room, window, pipe); {
		case n > 0:
			c.outputMTUProbe(now, s, n)
			return true
		case n < 0:
			return false
		}
	}
	n := min(unsent, window, room, limit)

	switch {
	case unsent == 0: // the FIN alone: takes one number of the window, no cwnd
		if window < 1 {
			c.persist(now)
			return false
		}
		n = 0
	case n < unsent && n >= mss:
		n -= n % mss // whole segments; the rest follows
	case n < unsent:
		// Less than a segment, though more is waiting: sender's silly window
		// avoidance (RFC 9293 §3.8.6.2.1).
		if room < min(unsent, mss) {
			return false
		}
		if n <= 0 || n < int(c.maxSndWnd)/2 {
			c.persist(now)
			return false
		}
	default:
		// All of it. The last segment may be small.
		if tail := n % mss; tail != 0 && !fin && !cut && !c.mayTail() {
			if n -= tail; n == 0 {
				c.noteStarved()
				c.persist(now)
				return false
			}
		}
	}

	flags := FlagACK
	if n == unsent && fin && n < window {
		flags |= FlagFIN
		c.finSent = true
	}
	flags |= c.pushFlag(c.sndNxt, c.sndNxt.Add(n), mss)
	c.payload(now, s, c.sndNxt, n, mss, flags)
	c.markNew(s)
	c.advance(now, s.Len())
	if n%mss != 0 {
		c.sndSml = c.sndNxt
	}
	return true
}

// advance moves sndNxt over n numbers just sent for the first time.
func (c *Conn) advance(now mono.Time, n int) {
	if c.rexmit == c.rexmitEnd {
		c.rexmit, c.rexmitEnd = c.sndNxt.Add(n), c.sndNxt.Add(n)
	}
	c.board.add(now, c.sndNxt, c.sndNxt.Add(n), c.stamp(now, n))
	c.prr.sent(n)
	c.sndNxt = c.sndNxt.Add(n)
	c.noteUsage(now, c.cwnd()-c.pipe() < c.mss)
	c.sentAt, c.usage.told = now, false
	c.persisted()
	// RFC 6298 §5.1.
	if c.timers[timerRexmit] == 0 {
		c.timers[timerRexmit] = now.Add(c.rto())
	}
	c.armProbe(now)
	c.answered(now)
}

// outputAck sends an ACK without text.
func (c *Conn) outputAck(now mono.Time, s *Segment) bool {
	owed := c.owedAcks
	c.header(now, s, c.acceptableSeq(), FlagACK)
	if c.starved && c.sndUna == c.sndNxt {
		s.Window = 0 // see starve
	}
	c.owedAcks = owed - 1
	return true
}

// acceptableSeq is the number of an empty segment: SND.NXT, unless the peer has
// shrunk its window below it and would refuse that (Linux's
// tcp_acceptable_seq).
func (c *Conn) acceptableSeq() seq.Num {
	if edge := c.sndUna.Add(c.sndWnd); c.state >= Established && edge.Less(c.sndNxt) {
		return edge
	}
	return c.sndNxt
}

// payload builds a segment with n bytes of the ring from number at.
func (c *Conn) payload(now mono.Time, s *Segment, at seq.Num, n, mss int, flags Flags) {
	c.header(now, s, at, flags)
	if n > 0 {
		s.Payload[0], s.Payload[1] = c.snd.Peek(at.Sub(c.sndUna), n)
		s.SegSize = mss
		c.paceSent(now, n)
		c.putTimeout(&s.Options, at.Add(n))
	}
}

// header fills in everything but the payload. Every segment with an ACK
// settles what was owed to the peer.
func (c *Conn) header(now mono.Time, s *Segment, at seq.Num, flags Flags) {
	s.SrcPort, s.DstPort = c.cfg.LocalPort, c.cfg.RemotePort
	s.Seq, s.Ack, s.Flags = at, c.rcvNxt, flags
	if c.state != Closed {
		s.Window = c.selectWindow()
	}
	if c.ecn != nil {
		s.Flags |= c.feedbackFlags()
	}
	o := &s.Options
	if c.tsOK {
		o.HasTS, o.TSVal, o.TSEcr = true, tsNow(now, c.cfg.TSOffset), c.tsRecent
	}
	c.putFeedback(o)
	c.putUrgent(s, at)
	c.ackSent()
}

// segments is how many segments of at most mss bytes n bytes make.
func segments(n, mss int) int { return max((n+mss-1)/mss, 1) }
