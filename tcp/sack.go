package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the SACK option in both directions (RFC 2018): what the peer's
// blocks may say and to whom they are told, and which blocks our own ACKs
// carry.

// inputSack takes the SACK blocks of an ACK, after sndUna has moved by acked.
func (c *Conn) inputSack(now mono.Time, s *Segment, acked int) {
	blocks, dsack := c.sackBlocks(s)
	for _, b := range blocks.all() {
		c.board.sack(b.Left, b.Right, &c.rack)
	}
	if dsack != (SACKBlock{}) {
		c.inputDSACK(dsack, s)
	}
	c.probeAcked(now, s.Ack, acked == 0 && s.Len() == 0, dsack)
}

// blockSet is up to four blocks in order of their numbers.
type blockSet struct {
	b [4]SACKBlock
	n int
}

func (t *blockSet) all() []SACKBlock { return t.b[:t.n] }

func (t *blockSet) insert(b SACKBlock) {
	i := t.n
	for ; i > 0 && b.Left.Less(t.b[i-1].Left); i-- {
		t.b[i] = t.b[i-1]
	}
	t.b[i] = b
	t.n++
}

// sackBlocks sorts out the blocks of s: those that tell of something in
// flight, and the D-SACK, if there is one. The rest is counted: no peer should
// say that.
func (c *Conn) sackBlocks(s *Segment) (good blockSet, dsack SACKBlock) {
	o := &s.Options
	for i, b := range o.SACK[:o.NumSACK] {
		switch {
		case !b.Left.Less(b.Right) || c.sndNxt.Less(b.Right) || b.Left.Less(s.Ack.Add(-int(c.maxSndWnd))):
			c.count(CountSACKDiscard, 1) // inverted, above what was sent, or long ago
		case i == 0 && c.isDSACK(b, s):
			dsack = b
		case b.Left.LessEq(s.Ack):
			c.count(CountSACKDiscard, 1) // acknowledged, or should have been
		case c.sndUna.Less(b.Right):
			good.insert(SACKBlock{seq.Max(b.Left, c.sndUna), b.Right})
		}
	}
	return good, dsack
}

// putSack writes the blocks of the next ACK: a D-SACK before all others (RFC
// 2883 §4), then what is out of order, the newest first (RFC 2018 §4).
func (c *Conn) putSack(o *Options, room int) {
	if room == 0 {
		return
	}
	if c.dsack == (SACKBlock{}) {
		o.NumSACK = c.ooo.blocks(o.SACK[:room])
		return
	}
	o.NumSACK = 1 + c.ooo.blocks(o.SACK[1:room])
	c.putDSACK(o, o.NumSACK)
}

// sackRoom is how many blocks the next ACK carries: as many as there are, up
// to three beside timestamps, else four (RFC 2018 §3).
func (c *Conn) sackRoom() int {
	if !c.sackOK {
		return 0
	}
	n := len(c.ooo.ranges)
	if c.dsack != (SACKBlock{}) {
		n++
	}
	if c.tsOK {
		return min(n, 3)
	}
	return min(n, 4)
}

// putFeedback writes the options that tell the peer what arrived.
func (c *Conn) putFeedback(o *Options) {
	blocks, fields := c.optionSpace()
	c.putSack(o, blocks)
	if c.ecn == nil || c.ecn.acc == nil {
		return
	}
	if fields >= 0 {
		c.ecn.acc.option(&o.AccECN, fields)
	}
	c.accurateSent(o)
}
