package tcp

import (
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the closed window: something is to be sent, nothing is in
// flight, and what the peer allows is nothing or too little (RFC 9293
// §3.8.6.1). As the segment that opens the window may be lost, we ask, at
// intervals that double. The same timer lets small segments go that wait to
// become larger (RFC 9293 §3.8.6.2.1, the override timeout; the cork's limit).

// persist starts the timer, when nothing in flight would bring the news.
func (c *Conn) persist(now mono.Time) {
	if c.sndUna == c.sndNxt && c.timers[timerPersist] == 0 && !c.probeDue && c.state >= Established {
		c.timers[timerPersist] = now.Add(c.untilStuck(now, c.probingAt, c.probeInterval()))
	}
}

// persistOn puts the next probe off, because the peer has just told its window,
// if it is still of no use (Linux's tcp_ack_probe).
func (c *Conn) persistOn(now mono.Time) {
	if c.timers[timerPersist] != 0 {
		c.timers[timerPersist] = now.Add(c.untilStuck(now, c.probingAt, c.probeInterval()))
	}
}

// persisted ends the probing: text leaves.
func (c *Conn) persisted() {
	c.timers[timerPersist], c.probingAt = 0, 0
	c.probes, c.probeDue = 0, false
}

// expirePersist asks for a window probe. The connection lives as long as the
// peer answers (RFC 9293 §3.8.6.1, MUST-37), with two exceptions: the user
// timeout holds for text that is not sent as well, and an orphan, which nobody
// can close any more, does not wait for a window for ever (Linux).
func (c *Conn) expirePersist(now mono.Time) {
	user := c.userTimeout()
	switch {
	case c.probingAt == 0:
		c.probingAt = now
	case user != 0 && now.Sub(c.probingAt) >= user:
		c.giveUp()
		return
	}
	if c.unanswered >= c.retryLimit() {
		c.giveUp()
		return
	}
	if c.orphan && c.probes >= orphanRetries && c.probeInterval() >= c.cfg.MaxRTO {
		c.count(CountAbortOnTimeout, 1)
		c.abort(syscall.ETIMEDOUT)
		return
	}
	c.probeDue = true
}

// probeInterval is the time to the next window probe: the retransmission
// time-out, doubled with each probe (RFC 9293 §3.8.6.1, SHLD-30).
func (c *Conn) probeInterval() time.Duration {
	d := c.rto()
	for i := 0; i < c.probes && d < c.cfg.MaxRTO; i++ {
		d *= 2
	}
	return min(d, c.cfg.MaxRTO)
}

// outputProbe asks after the peer's window: with what fits, if it is merely
// too small for a good segment, else with an empty segment whose number was
// already acknowledged, so that the peer has to answer.
//
// Departs from RFC 9293 §3.8.6.1, which wants an octet of new data there, as
// Linux does: nothing then lies beyond the window.
func (c *Conn) outputProbe(now mono.Time, s *Segment) bool {
	mss := c.segmentSize()
	end := c.inRecord(c.sndNxt, c.dataEnd())
	if n := min(end.Sub(c.sndNxt), c.sndWnd, mss); n > 0 && c.sndUna == c.sndNxt {
		c.payload(now, s, c.sndNxt, n, mss, FlagACK|FlagPSH)
		c.psh = s.End()
		c.advance(now, n) // and with it persisted
		if n%mss != 0 {
			c.sndSml = c.sndNxt
		}
		return true
	}
	if c.urgentProbe() {
		c.header(now, s, c.sndUna, FlagACK)
		return true
	}
	c.probeDue = false
	c.probes++
	c.unanswered++
	c.count(CountWinProbes, 1)
	c.timers[timerPersist] = now.Add(c.untilStuck(now, c.probingAt, c.probeInterval()))
	c.header(now, s, c.sndUna-1, FlagACK)
	return true
}
