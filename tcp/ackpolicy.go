package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the question when received text is acknowledged: at once, or
// after a delay in which a second segment or an answer of the user's may come
// to share the ACK (RFC 9293 §3.8.6.3, RFC 5681 §4.2). The rules are those of
// Linux:
//
//	quick mode     at once: the start of a conversation, after a pause, and
//	               after something went wrong, for as many ACKs as half the
//	               window has segments, so that the peer's slow start is fast
//	pingpong       the user answers what it reads: wait for the answer
//	else           wait for the second full segment, or for the delay
//
// The delay follows the rhythm in which text arrives, between 40 and 200 ms.

const (
	// maxQuickAcks bounds the ACKs of quick mode (Linux's TCP_MAX_QUICKACKS).
	maxQuickAcks = 16
	// maxDelayedAck is the longest delay (Linux's TCP_DELACK_MAX; RFC 9293
	// §3.8.6.3, MUST-40, allows half a second). The shortest is
	// Config.DelayedAck.
	maxDelayedAck = 200 * time.Millisecond
)

// observe learns the peer's segment size and rhythm from n bytes of text that
// came in s.
func (c *Conn) observe(now mono.Time, n int, s *Segment) {
	if s.Segs > 1 {
		n = (n + s.Segs - 1) / s.Segs
	}
	c.measureMSS(n)
	if s.Flags&FlagPSH != 0 && n >= int(c.rcvMSS) {
		// What was written ends with a full segment, and whoever wrote it may
		// be held up by its window until that is acknowledged: as soon as it is
		// read, then, as if it had been smaller (Linux).
		c.smallSegs = max(c.smallSegs, 1)
	}
	least := c.cfg.DelayedAck
	if c.ato == 0 {
		c.ato = least
		c.quickAcks()
	} else {
		switch gap := now.Sub(c.lastDataAt); {
		case gap <= least/2:
			c.ato = c.ato/2 + least/2
		case gap < c.ato:
			c.ato = min(c.ato/2+gap, c.rto())
		case gap > c.rto():
			c.quickAcks() // after a pause the peer slow-starts again
		}
	}
	c.lastDataAt = now
}

// measureMSS estimates what a full segment of the peer is, for nobody says: the
// largest seen, unless a good size comes twice in a row.
func (c *Conn) measureMSS(n int) {
	if n >= int(c.rcvMSS) {
		c.rcvMSS = min(int32(n), c.cfg.MSS)
		return
	}
	if n >= defaultPeerMSS {
		if n == int(c.lastSeg) {
			c.rcvMSS = int32(n)
			return
		}
		c.lastSeg = uint16(n)
	}
	// The end of something the peer wrote: see readerDrained.
	c.smallSegs = min(c.smallSegs+1, 2)
}

// quickAcks has the next ACKs go at once: half as many as the window has
// segments, so that they do not outlast the peer's slow start.
func (c *Conn) quickAcks() {
	n := c.rcvAdv.Sub(c.lastAckSent) / (2 * int(c.rcvMSS))
	if n <= 0 {
		n = 2
	}
	c.quick = max(c.quick, uint8(min(n, maxQuickAcks)))
}

// quickMode is quickAcks for a peer in trouble, or a user who wants it.
func (c *Conn) quickMode() {
	c.quickAcks()
	c.pingpong = false
	c.ato = c.cfg.DelayedAck
}

// setQuickAck is TCP_QUICKACK: it moves the present state, and what arrives
// moves it on. Any v but 1 and 0 asks for one quick ACK only, of what is here.
func (c *Conn) setQuickAck(v int) {
	c.pingpong = v == 0
	if v != 0 && c.ackOwed() && (c.state == Established || c.state == CloseWait) {
		c.smallSegs = max(c.smallSegs, 1)
		c.readerDrained()
		c.pingpong = v&1 == 0
	}
}

// ackOwed reports that something arrived since the last ACK.
func (c *Conn) ackOwed() bool { return c.owedAcks > 0 || c.lastAckSent != c.rcvNxt }

// ackHandshake acknowledges the peer's SYN-ACK. A client that will speak first
// lets its first text do so: a writer waits, or the user says so by
// TCP_DEFER_ACCEPT or by turning quick ACKs off (Linux).
func (c *Conn) ackHandshake(now mono.Time) {
	if c.cfg.Knobs.deferAccept == 0 && !c.pingpong && !c.willWrite {
		c.ackOnce()
		return
	}
	c.quickMode()
	c.timers[timerDelAck] = now.Add(maxDelayedAck)
}

// ackText decides when text in order is acknowledged; filled says that it
// filled a hole. RFC 5681 §4.2: at least every second full-sized segment, at
// once when a hole is filled. Linux: as soon as there is more than one full
// segment.
func (c *Conn) ackText(now mono.Time, filled bool) {
	if filled || c.rcvNxt.Sub(c.lastAckSent) > int(c.rcvMSS) || c.quick > 0 && !c.pingpong {
		c.ackOnce()
		return
	}
	c.delayAck(now)
}

// delayAck starts the delay, or shortens one that is running.
func (c *Conn) delayAck(now mono.Time) {
	d, least := c.ato, c.cfg.DelayedAck
	if d > least {
		most := 500 * time.Millisecond // RFC 9293 §3.8.6.3 (MUST-40)
		if c.pingpong || c.smallSegs > 0 {
			most = maxDelayedAck
		}
		if c.rtt.srtt != 0 {
			most = min(most, max(c.rtt.srtt, least))
		}
		d = min(d, most)
	}
	d = min(d, max(maxDelayedAck, least))
	at := now.Add(d)
	if running := c.timers[timerDelAck]; running != 0 {
		if running <= now.Add(d/4) {
			c.ackOnce() // it is about to expire
			return
		}
		at = min(at, running)
	}
	c.timers[timerDelAck] = at
}

// expireDelAck sends the ACK that waited for a companion. As none came, the
// next waits longer, or the conversation is taken for over.
func (c *Conn) expireDelAck() {
	c.count(CountDelayedAcks, 1)
	if c.pingpong {
		c.pingpong = false
		c.ato = c.cfg.DelayedAck
	} else {
		c.ato = min(2*c.ato, c.rto())
	}
	c.ackOnce()
}

// answered notes that text leaves: if it follows closely on what arrived, the
// two ends converse (Linux's pingpong).
func (c *Conn) answered(now mono.Time) {
	if now.Sub(c.lastDataAt) < c.ato {
		c.pingpong = true
	}
}

// ackSent counts a segment with an ACK. Only those that tell of something use
// up quick mode.
func (c *Conn) ackSent() {
	if c.quick > 0 && c.ackOwed() {
		if c.quick--; c.quick == 0 {
			c.ato = c.cfg.DelayedAck
		}
	}
	c.lastAckSent = c.rcvNxt
	c.owedAcks = 0
	c.smallSegs = 0
	c.timers[timerDelAck] = 0
}

// readerDrained is called when the user has taken bytes out of the ring: an ACK
// that waits goes now if a full segment is unacknowledged, or if all is read
// and the last of it was a small segment, after which the peer may be waiting,
// unless it is the user's turn to speak (Linux's tcp_cleanup_rbuf).
func (c *Conn) readerDrained() {
	if c.owedAcks > 0 || c.lastAckSent == c.rcvNxt || c.timers[timerDelAck] == 0 {
		return
	}
	drained := c.rcv.Len() == 0 && (c.smallSegs > 1 || c.smallSegs == 1 && !c.pingpong)
	if drained || c.rcvNxt.Sub(c.lastAckSent) > int(c.rcvMSS) {
		c.ackOnce()
	}
}
