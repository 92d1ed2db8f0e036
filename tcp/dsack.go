package tcp

import "github.com/tapstack/tapstack/internal/seq"

// This file owns D-SACK (RFC 2883): telling the peer that something arrived
// twice, and drawing conclusions when it tells us (RFC 3708). If all that was
// sent again arrived twice, nothing was lost.

// isDSACK reports whether b, the first block of s, says that something arrived
// twice: it lies below the ACK or in the second block (RFC 2883 §4).
func (c *Conn) isDSACK(b SACKBlock, s *Segment) bool {
	if b.Right.LessEq(s.Ack) {
		return true
	}
	second := s.Options.SACK[1]
	return s.Options.NumSACK > 1 && second.Left.LessEq(b.Left) && b.Right.LessEq(second.Right)
}

// inputDSACK takes the report that b arrived twice. Reports of more than the
// peer's window, or of more in all than was ever sent again, are the work of
// the network, which may duplicate too, or of a confused peer, and prove
// nothing (RFC 3708 §3; Linux).
func (c *Conn) inputDSACK(b SACKBlock, s *Segment) {
	if b.Right.LessEq(s.Ack) {
		c.count(CountDSACKRecv, 1)
	} else {
		c.count(CountDSACKOfoRecv, 1)
	}
	segs := segments(b.Right.Sub(b.Left), c.mss)
	c.extra().dsackDups += uint32(segs)
	if b.Right.Sub(b.Left) > int(c.maxSndWnd) || uint64(c.dsackDups) > c.counted(CountRetransSegs) {
		c.count(CountDSACKIgnoredDubious, 1)
		return
	}
	c.count(CountDSACKRecvSegs, segs)
	if c.probe.out && c.probe.resent && segs == 1 && b.Right == c.probe.end {
		return // a probe outside of a repair: time, not the order of arrival, made us send it
	}
	c.rack.duplicate(c.sndUna, c.sndNxt)
	c.undo.arrivedTwice(b, c.mss)
}

// arrivedTwice counts b off from what was sent again. Reports of anything else
// than this repair do not count: an older one, or a probe behind it. Nor does
// the same report again, which may be an ACK that the network has duplicated.
func (u *undo) arrivedTwice(b SACKBlock, mss int) {
	if !u.on || u.resent <= 0 || b.Right.LessEq(u.marker) || u.end.Less(b.Right) || b.Right == u.told {
		return
	}
	u.told = b.Right
	n := segments(b.Right.Sub(seq.Max(b.Left, u.marker)), mss)
	u.resent = max(u.resent-int32(n), 0)
}

// arrivedTwice remembers [left, right) for the next ACK to report, which goes
// at once (RFC 2883 §4). What adjoins the report that waits is added to it, since
// several segments may arrive before an ACK leaves; of pieces that do not touch
// the first is reported (§4.2.3).
func (c *Conn) arrivedTwice(left, right seq.Num) {
	if !c.sackOK || !left.Less(right) {
		return
	}
	c.ackOnce()
	switch d := &c.dsack; {
	case *d == SACKBlock{}:
		*d = SACKBlock{left, right}
	case left.LessEq(d.Right) && d.Left.LessEq(right):
		d.Left, d.Right = seq.Min(d.Left, left), seq.Max(d.Right, right)
	}
}

// putDSACK writes the report that waits as the first of an ACK's blocks; the
// others follow from the second on. One of text beyond a hole means something
// only before the block that holds it (RFC 2883 §4.2).
func (c *Conn) putDSACK(o *Options, n int) {
	d := c.dsack
	c.dsack = SACKBlock{}
	o.SACK[0] = d
	if d.Right.LessEq(c.rcvNxt) {
		c.count(CountDSACKOldSent, 1)
		return
	}
	c.count(CountDSACKOfoSent, 1)
	for i := 2; i < n; i++ {
		if b := o.SACK[i]; b.Left.LessEq(d.Left) && d.Right.LessEq(b.Right) {
			o.SACK[1], o.SACK[i] = b, o.SACK[1]
		}
	}
}
