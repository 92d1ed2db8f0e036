package tcp

// This file owns F-RTO (RFC 5682): whether a retransmission time-out was
// spurious, found without timestamps or D-SACK. After the time-out only the
// first segment goes again. When it is acknowledged new text follows instead of
// more repetitions; if the next ACK is for something that was sent only once,
// that was not lost, and neither was the rest.
//
//	time-out    first ACK moves     next ACK is for
//	1 again     new text, held      sent once, before the time-out  -> spurious
//	            repair              the new text, or a duplicate    -> real, repair
//
// As in Linux one procedure serves RFC 5682 §3.1, with SACK, and §2.1, without:
// blocks and the acknowledgment number both say what arrived. It also finds a
// time-out spurious when the first ACK already covers text sent only once.

// frtoBegin is step 1, at a time-out: not while an earlier repair is under way,
// except when the timer expired before for the same segment (RFC 5682 §3.2).
// again says the latter.
func (c *Conn) frtoBegin(again bool) { c.frto = c.phase == phaseOpen || again }

// frtoAck is steps 2 and 3 for an ACK after a time-out, and reports whether it
// was spurious. advanced says that sndUna moved, dup that it is a duplicate
// ACK.
func (c *Conn) frtoAck(advanced, dup bool) bool {
	if !c.frto {
		return false
	}
	switch {
	case c.origArrived():
		return true // step 3b
	case c.recover.Less(c.sndNxt):
		// Step 3a: what was sent last arrived before the rest.
		if dup || c.rack.sacked {
			c.frto = false
		}
	case advanced && c.sndUna.Less(c.recover):
		c.hold = true // step 2b
	}
	return false
}

// origArrived reports that something of the flight before the time-out arrived
// that was sent only once.
func (c *Conn) origArrived() bool {
	k := &c.rack
	// Without blocks only an ACK that covers nothing sent again can tell.
	return k.once && k.onceEnd.LessEq(c.recover) && (c.sackOK || !k.ackTwo)
}

// frtoRoom is how much new text step 2b lets out beyond what the congestion
// window has room for: two segments in all.
func (c *Conn) frtoRoom(mss int) int {
	if !c.frto || !c.hold {
		return 0
	}
	return max(2*mss-c.sndNxt.Sub(c.recover), 0)
}

// frtoStuck ends the hold when there was no new text to send, or no room in the
// peer's window: the repair goes on as it would without F-RTO.
func (c *Conn) frtoStuck() bool {
	if !c.frto || !c.hold || c.recover.Less(c.sndNxt) {
		return false
	}
	c.frto, c.hold = false, false
	return true
}
