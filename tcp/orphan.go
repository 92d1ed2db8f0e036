package tcp

import (
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the connection that its application has left (Close): it is
// still to deliver what was written, but nobody waits for it any more, so that
// neither a silent peer nor one that keeps its window shut may hold it for long.
//
//	text, FIN in flight    orphanRetries instead of Config.Retries
//	closed window          likewise, and until the probes are MaxRTO apart
//	FIN-WAIT-2             KnobLinger2 or Config.FinWait2
//
// How many orphans there may be is up to the owner (stack.Limits.Orphans).

// orphanRetries replaces Config.Retries when the application is gone (Linux's
// tcp_orphan_retries).
const orphanRetries = 8

// retryLimit is how many times the retransmission timer may expire in a row.
func (c *Conn) retryLimit() int {
	limit := c.cfg.Retries
	switch {
	case c.state == SynSent:
		limit = orDefault(int(c.cfg.Knobs.synCount), c.cfg.SynRetries)
	case c.state == SynReceived:
		limit = orDefault(int(c.cfg.Knobs.synCount), c.cfg.SynAckRetries)
	case c.orphan:
		limit = min(limit, orphanRetries)
	}
	return limit
}

// awaitFin starts the wait of an orphan in FIN-WAIT-2 for the peer's FIN, or
// ends the connection at once if the user wants no such wait.
//
// Departs from RFC 9293 §3.6, which lets FIN-WAIT-2 last: an orphan could not
// use what comes (Linux's tcp_fin_timeout).
func (c *Conn) awaitFin(now mono.Time) {
	wait := c.cfg.FinWait2
	switch s := c.cfg.Knobs.linger2; {
	case s < 0:
		c.abort(syscall.ECONNABORTED)
		return
	case s > 0:
		wait = time.Duration(s) * time.Second
	}
	// The peer's FIN may have to be sent twice (Linux).
	c.timers[timerOrphan] = now.Add(max(wait, 7*c.rto()/2))
}
