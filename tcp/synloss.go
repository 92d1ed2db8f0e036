package tcp

import "github.com/tapstack/tapstack/internal/mono"

// This file owns what a lost SYN or SYN-ACK means for the stream that follows:
// the first window and the first timeout. A SYN that was sent again because its
// answer was only late is no loss, and a timestamp tells (RFC 7323 §4.1, RFC
// 3522).

// measureSyn takes the first round trip, that of the SYN which s acknowledges,
// and tells the congestion control if SYNs were lost. resent is how many were
// sent again.
func (c *Conn) measureSyn(now mono.Time, s *Segment, resent uint64) {
	c.countProgress(now)
	c.rack.begin(now, s, c.sndUna, c.cfg.TSOffset)
	switch {
	case c.rttTiming:
		c.rttTiming = false
		c.rtt.sample(now.Sub(c.rttAt), c.sndUna, c.sndNxt)
	case c.state == SynSent:
		// Karn's rule does not forbid what a timestamp measures (Linux; for a
		// SYN-ACK it does not ask).
		if d := c.echoRTT(now, 1); d > 0 {
			c.rtt.sample(d, c.sndUna, c.sndNxt)
		}
		fallthrough
	default:
		c.rtt.synRetransmitted()
	}
	if resent == 0 || c.fastServer() { // which may have sent text already
		return
	}
	if c.tsOK && c.rack.hasEcho && c.rack.echo == tsNow(c.rttAt, c.cfg.TSOffset) {
		c.count(CountSynUndo, 1) // the first one was answered: nothing was lost
		return
	}
	// RFC 5681 §3.1: one segment, if the SYN was lost. Departs from it as
	// Linux and RFC 6928 §2 do: only if more than one was, since the first
	// timeout of 1 second is short for some paths.
	if resent > 1 {
		c.cc.OnSynLoss(now)
	}
}
