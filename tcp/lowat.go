package tcp

// This file owns the low-water marks: how little unsent text lets the writer go
// on (TCP_NOTSENT_LOWAT), and how much received text is worth waking the reader
// for (SO_RCVLOWAT).
//
// A writer with a low mark decides late what it sends, because little waits in
// the send buffer ahead of it; what is in flight does not count.

// writeRoom returns how many bytes the next write may take. With a low mark the
// writer is stopped when as many are unsent; but a superFrame that was begun is
// filled, as Linux admits text by those.
func (c *Conn) writeRoom() int {
	free := c.sndFree()
	if len(c.openRecords()) >= maxRecords {
		return 0
	}
	low := int(c.cfg.Knobs.notSentLowat)
	if low == 0 {
		return free
	}
	unit := c.superFrame()
	unsent := c.unsent()
	end := unsent + (unit-unsent%unit)%unit
	if end < low {
		end += (low - end + unit - 1) / unit * unit
	}
	return min(free, end-unsent)
}

// aboveLowat reports whether so much is unsent that poll(2) does not call the
// connection writable: half the mark, so that waking the writer is worth it.
func (c *Conn) aboveLowat() bool {
	low := int(c.cfg.Knobs.notSentLowat)
	return low != 0 && 2*c.unsent() >= low
}

// WriterFreed reports, once, that a writer who was stopped may go on because
// text has left. Output makes no events; ask after it.
func (c *Conn) WriterFreed() bool {
	if !c.wantWrite || c.cfg.Knobs.notSentLowat == 0 || !c.roomy() {
		return false
	}
	c.wantWrite = false
	return true
}

// roomy reports whether a stopped writer is to go on: a third of the buffer is
// free, as in Linux, and the low mark allows it.
func (c *Conn) roomy() bool {
	return 2*c.sndFree() >= c.snd.Len() && len(c.openRecords()) <= maxRecords/3*2 && !c.aboveLowat()
}

// ReadableAt reports whether n bytes can be read, or as many as will come: poll
// calls a connection readable with KnobRcvLowat of them. A window that has
// closed for less than a segment counts, or the rest could never come (Linux).
func (c *Conn) ReadableAt(n int) bool {
	have := c.Readable()
	return have >= n || have > 0 && c.rcvAdv.Sub(c.rcvNxt) <= int(c.rcvMSS)
}

// Final reports whether a read could get no more than n bytes however long it
// waited: the end, the mark of urgent data, or no room for more.
func (c *Conn) Final(n int) bool {
	_, most := c.toMark()
	return c.EOF() || c.err != 0 || most < c.Readable() && most <= n || c.rcvAdv.Sub(c.rcvNxt) <= int(c.rcvMSS)
}

// Queued is what waits in a connection, in bytes, as the ioctls of tcp(7) count
// it.
type Queued struct {
	In     int // SIOCINQ: to be read, up to the mark of urgent data
	Out    int // SIOCOUTQ: written and not acknowledged
	Unsent int // SIOCOUTQNSD: written and not sent
}

// Queued counts. A FIN that is on its way counts as a byte, as in Linux.
func (c *Conn) Queued() (q Queued) {
	switch c.state {
	case Listen, SynSent, SynReceived:
		return q
	}
	q.In = c.rcv.Len()
	if mark := c.urg.rcvUp.Sub(c.readSeq()); c.urg.state != urgentNone && !c.cfg.Knobs.oobInline && 0 <= mark && mark < q.In {
		q.In = mark
	}
	if c.state == Closed || c.state == TimeWait {
		return q
	}
	q.Unsent = c.unsent()
	q.Out = c.sndNxt.Sub(c.sndUna) + q.Unsent
	if c.wrClosed && !c.finSent {
		q.Out++
		q.Unsent++
	}
	return q
}
