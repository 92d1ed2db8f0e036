package tcp

import "github.com/tapstack/tapstack/internal/ring"

// This file owns what a connection does when memory is short (package budget):
// text that cannot be stored, and what can be given back. A connection never
// fails for want of memory; it becomes slow.
//
// The window keeps the budget in mind (see Conn.window), so that as a rule
// nothing arrives that cannot be stored. But all connections together may have
// promised more than there is, as in Linux.

// starve answers text for which there was no memory. It will come again; until
// there is room for a segment the peer is told a window of zero, so that it
// asks, for as long as it takes, where it would otherwise repeat the text a few
// times and give the connection up.
//
// Departs from RFC 9293 §3.8.6, by which a window should not shrink, as Linux
// does (since 6.6). Only the peer is told: rcvAdv stays, and what was promised
// is taken if it comes and can be stored. And it is told only while nothing of
// ours is in flight. If both ends shrank the windows that the other has filled,
// each would number its ACKs by the new edge (acceptableSeq), below what has
// arrived, and neither would take the other's.
func (c *Conn) starve() {
	c.starved = true
	c.ackOnce()
}

// mayStoreAhead reports whether text that ends at offset end of the receive
// ring may be stored beyond a hole. When memory is short it must do with what
// the ring has: out-of-order text is the first that is not kept.
func (c *Conn) mayStoreAhead(end int) bool {
	if end > c.rcv.Cap() && c.rcv.Cap() > 0 && c.cfg.Memory.Pressure() {
		return false
	}
	return c.rcv.Reserve(end) >= end
}

// Relieve gives back all memory that the connection can do without: room in
// the rings, windows that grew, and out-of-order text, if a ring is smaller
// without it. The peer has perhaps been told of that text, and must be prepared
// for this (RFC 2018 §8).
func (c *Conn) Relieve() {
	if c.flight == &asleep {
		c.narrow()
		return
	}
	if c.state == Closed && c.rcv.Cap() == 0 {
		return
	}
	if c.rcv.Ahead() > 0 && c.rcv.Roomy(c.rcv.Len()) {
		c.ooo.reset()
		c.rcv.Forget()
	}
	c.rcv.Fit()
	c.snd.Fit()
	c.narrow()
	c.chargeLists()
}

// The memory of one range, in bytes.
const (
	oooRangeSize  = 16
	sentRangeSize = 40
)

// chargeLists charges the flight, the lists of ranges, whose length the peer's
// segments decide, and that of records to the budget. It is called when they may
// have changed.
func (c *Conn) chargeLists() {
	n := 0
	if c.state != Closed && c.state != TimeWait { // where the owner is about to drop it
		n = flightSize + cap(c.ooo.ranges)*oooRangeSize + cap(c.board.buf)*sentRangeSize + c.recs.memory()
	}
	if n != int(c.lists) {
		c.cfg.Memory.Charge(n - int(c.lists))
		c.lists = int32(n)
	}
}

// sndFree is how many bytes the send buffer takes, a sleeper's as well.
func (c *Conn) sndFree() int {
	if c.flight != &asleep {
		return c.snd.Free()
	}
	var r ring.Ring
	r.Init(int(c.sndBuf), c.cfg.Memory)
	return r.Free()
}

// Memory returns how much memory the connection's buffers hold, in bytes.
func (c *Conn) Memory() int { return c.rcv.Cap() + c.snd.Cap() }
