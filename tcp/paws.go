package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the protection against wrapped sequence numbers (RFC 7323 §5):
// an older timestamp than the last one is that of an old duplicate. It would be
// right if nothing were ever overtaken; what Linux lets pass nevertheless is
// here as well.

// pawsIdle is how long a remembered timestamp is good for (RFC 7323 §5.5).
const pawsIdle = 24 * 24 * time.Hour

// pawsSlack is how much older a timestamp may be, in milliseconds. Departs from
// RFC 7323 §5.3 as Linux does (TCP_PAWS_WINDOW): two processors of the peer may
// not agree on the time.
const pawsSlack = 1

// tsBefore reports a < b on the timestamp clock.
func tsBefore(a, b uint32) bool { return int32(a-b) < 0 }

// pawsRejects is RFC 7323 §5.3, R1, with the clause of §5.5: after 24 days the
// peer's clock has wrapped and its remembered value means nothing. RSTs are
// exempt (§5.2).
func (c *Conn) pawsRejects(now mono.Time, s *Segment) bool {
	if !c.tsOK || !s.Options.HasTS || s.Flags&FlagRST != 0 {
		return false
	}
	age := int32(c.tsRecent - s.Options.TSVal)
	return age > pawsSlack && now.Sub(c.tsRecentAt) < pawsIdle && !c.overtakenAck(s, age)
}

// overtakenAck reports a duplicate ACK that was overtaken by a later segment.
// Departs from RFC 7323 §5.3 as Linux does (tcp_disordered_ack): it changes
// neither a number nor the window, but may carry blocks, and its timestamp lies
// within a retransmission timeout, so that it cannot be from before the numbers
// wrapped.
func (c *Conn) overtakenAck(s *Segment, age int32) bool {
	return pureAck(s) && s.Seq == c.rcvNxt && s.Ack == c.sndUna &&
		int(s.Window)<<c.sndWScale == c.sndWnd &&
		time.Duration(age)*time.Millisecond <= c.rto()
}

// oldAck reports an ACK from before what arrived last. Paths that reorder bring
// many; answering them would only add to the disorder (Linux).
func (c *Conn) oldAck(s *Segment) bool { return pureAck(s) && s.Seq.Less(c.rcvNxt) }

// pureAck reports a segment that only acknowledges.
func pureAck(s *Segment) bool { return s.Flags&FlagACK != 0 && s.Len() == 0 }

// updateTSRecent is RFC 7323 §4.3 (2): the timestamp to echo is that of the
// segment that the next ACK will be for.
func (c *Conn) updateTSRecent(now mono.Time, s *Segment) {
	if c.tsOK && s.Options.HasTS && s.Seq.LessEq(c.lastAckSent) &&
		(!tsBefore(s.Options.TSVal, c.tsRecent) || now.Sub(c.tsRecentAt) >= pawsIdle) {
		c.tsRecent, c.tsRecentAt = s.Options.TSVal, now
	}
}
