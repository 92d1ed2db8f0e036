package tcp

import "fmt"

// invariants checks what must be true of a connection after every call.
func (c *Conn) invariants() error {
	bad := func(f string, a ...any) error { return fmt.Errorf(c.state.String()+": "+f, a...) }
	if err := sharedWritten(); err != nil {
		return bad("%v", err)
	}
	if c.state == Closed {
		if c.Deadline() != 0 {
			return bad("deadline %v", c.Deadline())
		}
		if c.snd.Cap() != 0 {
			return bad("send buffer kept")
		}
		return nil
	}
	if c.state == TimeWait {
		if c.tw == nil || c.Deadline() == 0 {
			return bad("no timer")
		}
		return nil
	}
	flight := c.sndNxt.Sub(c.sndUna)
	if flight < 0 {
		return bad("sndUna %d > sndNxt %d", c.sndUna, c.sndNxt)
	}
	if c.flight == &asleep {
		return c.slept()
	}
	if c.rexmit.Less(c.sndUna) || c.rexmitEnd.Less(c.rexmit) || c.sndNxt.Less(c.rexmitEnd) {
		return bad("una %d rexmit %d end %d nxt %d", c.sndUna, c.rexmit, c.rexmitEnd, c.sndNxt)
	}
	if c.dupBytes < 0 || c.dupBytes > flight {
		return bad("dupBytes %d of %d", c.dupBytes, flight)
	}
	if !c.state.Synchronized() {
		return nil
	}
	fin := 0
	if c.finSent && c.state != FinWait2 {
		fin = 1
	}
	if n := flight - fin; n < 0 || n > c.snd.Len() {
		return bad("%d in flight of %d held", flight, c.snd.Len())
	}
	if int(c.rcvBuf) > c.cfg.RcvBuf || int(c.sndBuf) > c.cfg.SndBuf || c.snd.Limit() != int(c.sndBuf) {
		return bad("buffers of %d and %d bytes, the limits are %d and %d", c.rcvBuf, c.sndBuf, c.cfg.RcvBuf, c.cfg.SndBuf)
	}
	if n := flightSize + cap(c.ooo.ranges)*oooRangeSize + cap(c.board.buf)*sentRangeSize + c.recs.memory(); int(c.lists) != n {
		return bad("flight and lists of %d bytes, %d charged", n, c.lists)
	}
	if c.snd.Len() > c.cfg.SndBuf {
		return bad("send buffer %d over its limit", c.snd.Len())
	}
	if c.rcvAdv.Less(c.rcvNxt) {
		return bad("rcvAdv %d < rcvNxt %d", c.rcvAdv, c.rcvNxt)
	}
	if n := c.rcv.Len() + c.rcvAdv.Sub(c.rcvNxt); n > c.rcv.Limit() && !c.orphan && !c.rcvFin {
		return bad("window promises %d, ring holds %d", n, c.rcv.Limit())
	}
	if c.lastAckSent.Sub(c.rcvNxt) > 0 {
		return bad("acknowledged %d, received %d", c.lastAckSent, c.rcvNxt)
	}
	if c.ooo.bytes() > c.rcv.Limit()+1 || len(c.ooo.ranges) > maxRanges {
		return bad("%d bytes out of order in %d ranges", c.ooo.bytes(), len(c.ooo.ranges))
	}
	if c.urg.state != urgentNone && c.urg.rcvUp.Less(c.readSeq()) {
		return bad("mark %d, read up to %d", c.urg.rcvUp, c.readSeq())
	}
	if c.dataEnd().Less(c.urg.sndUp) || c.dataEnd().Less(c.pushed) && !c.finSent {
		return bad("urgent up to %d, pushed %d, written %d", c.urg.sndUp, c.pushed, c.dataEnd())
	}
	if err := c.board.check(c); err != nil {
		return bad("%v", err)
	}
	if c.mss < minMSS-tsOptionLen {
		return bad("mss %d", c.mss)
	}
	return nil
}

// settled checks what must be true when Output has returned false: whatever
// is unfinished has a timer.
func (c *Conn) settled() error {
	bad := func(f string, a ...any) error { return fmt.Errorf(c.state.String()+": "+f, a...) }
	if c.state == Closed || c.state == TimeWait {
		return nil
	}
	if c.outputDue() {
		return bad("output due after Output returned false")
	}
	if c.Held() {
		return nil // nothing has left yet
	}
	synAck := c.state == SynReceived && c.fastServer() // in flight, but not numbered
	if synAck && c.timers[timerRexmit] == 0 {
		return bad("SYN-ACK without a timer")
	}
	if c.sndUna != c.sndNxt && c.timers[timerRexmit] == 0 {
		return bad("in flight without a timer")
	}
	if c.sndUna == c.sndNxt && c.timers[timerRexmit] != 0 && !synAck {
		return bad("timer without anything in flight")
	}
	if c.state.Synchronized() {
		if c.sndUna == c.sndNxt && (c.unsent() > 0 || c.wrClosed && !c.finSent) && c.timers[timerPersist] == 0 && c.timers[timerPace] == 0 {
			return bad("something to send, nothing in flight, no timer")
		}
		if c.lastAckSent.Less(c.rcvNxt) && c.timers[timerDelAck] == 0 {
			return bad("an ACK is owed without a timer")
		}
	}
	if c.orphan && c.state == FinWait2 && c.timers[timerOrphan] == 0 {
		return bad("orphan without a timer")
	}
	return nil
}

// check compares the sums with the ranges, which cover what is in flight.
func (b *scoreboard) check(c *Conn) error {
	if !c.sackOK && (b.sacked != 0 || b.lost != 0) {
		return fmt.Errorf("SACK without SACK")
	}
	at, sacked, lost, again, once, holes := c.sndUna, 0, 0, 0, 0, 0
	for i := b.head; i < len(b.buf); i++ {
		r := &b.buf[i]
		if r.start != at || !r.start.Less(r.end) {
			return fmt.Errorf("range %d is %d:%d, want start %d", i, r.start, r.end, at)
		}
		at = r.end
		switch {
		case r.has(sentSacked):
			sacked += r.len()
			holes++
		case r.has(sentLost):
			lost += r.len()
			if r.start.Less(b.lostFrom) {
				return fmt.Errorf("lost at %d before %d", r.start, b.lostFrom)
			}
		case r.has(sentAgain):
			again += r.len()
		default:
			once += r.len()
		}
		if i > b.head && r.flags&b.buf[i-1].flags&sentSacked != 0 {
			return fmt.Errorf("SACKed ranges %d:%d and before are not merged", r.start, r.end)
		}
	}
	if at != c.sndNxt {
		return fmt.Errorf("ranges end at %d of %d", at, c.sndNxt)
	}
	if sacked != b.sacked || lost != b.lost || again != b.again || once != b.once || holes != b.holes {
		return fmt.Errorf("sums %d %d %d %d, %d holes, want %d %d %d %d, %d", b.sacked, b.lost, b.again, b.once, b.holes, sacked, lost, again, once, holes)
	}
	if n := b.count(); n > maxSplitRanges || cap(b.buf) > 8*maxSplitRanges {
		return fmt.Errorf("%d ranges, room for %d", n, cap(b.buf))
	}
	return nil
}

// slept checks what must be true of a connection that sleeps: it has nothing to
// do and is at one with its peer.
func (c *Conn) slept() error {
	bad := func(f string, a ...any) error { return fmt.Errorf("asleep in "+c.state.String()+": "+f, a...) }
	switch {
	case c.rack.rackFlight != &asleep.rackFlight:
		return bad("awake in part")
	case c.sndUna != c.sndNxt:
		return bad("%d in flight", c.sndNxt.Sub(c.sndUna))
	case !c.state.Synchronized() || c.state == TimeWait:
		return bad("in the middle of something")
	case c.Deadline() != c.keepAt || c.outputDue():
		return bad("deadline %v, keep-alive %v", c.Deadline(), c.keepAt)
	case c.orphan && c.state == FinWait2:
		return bad("nobody waits for the FIN")
	case c.lastAckSent != c.rcvNxt:
		return bad("acknowledged %d of %d", c.lastAckSent, c.rcvNxt)
	case c.rcvAdv.Less(c.rcvNxt):
		return bad("rcvAdv %d < rcvNxt %d", c.rcvAdv, c.rcvNxt)
	}
	return nil
}
