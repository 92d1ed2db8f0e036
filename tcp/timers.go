package tcp

import (
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns time: the earliest of a connection's timers, and what each
// means when it expires (RFC 9293 §3.10.8).

// Deadline returns when Expire is to be called next, 0 for never. It may
// change with every call.
func (c *Conn) Deadline() mono.Time {
	d := mono.Time(0)
	for _, t := range c.timers {
		d = mono.Earliest(d, t)
	}
	if c.state == TimeWait {
		d = mono.Earliest(d, c.tw.Deadline())
	}
	return d
}

// Expire tells the connection that its deadline may have passed. Early and
// repeated calls do no harm.
func (c *Conn) Expire(now mono.Time) Events {
	for i := range c.timers {
		if !c.timers[i].Due(now) {
			continue
		}
		c.timers[i] = 0
		switch i {
		case timerReorder:
			c.expireReorder(now)
		case timerProbe:
			c.expireProbe(now)
		case timerRexmit:
			c.expireRexmit(now)
		case timerPace:
			c.kick = true
		case timerPersist:
			c.expirePersist(now)
		case timerDelAck:
			c.expireDelAck()
		case timerOrphan:
			// Departs from RFC 9293 §3.6, which lets FIN-WAIT-2 last: an
			// orphan could not use what comes (Linux's tcp_fin_timeout).
			c.moveTo(evTimeout)
		}
	}
	if c.state == TimeWait && c.tw.Expire(now) == VerdictRemove {
		c.moveTo(evTimeout)
	}
	return c.takeEvents()
}

// expireRexmit is the RETRANSMISSION TIMEOUT of RFC 9293 §3.10.8.
func (c *Conn) expireRexmit(now mono.Time) {
	limit := c.cfg.Retries
	switch {
	case c.state == SynSent:
		limit = c.cfg.SynRetries
	case c.state == SynReceived:
		limit = c.cfg.SynAckRetries
	case c.orphan:
		limit = min(limit, orphanRetries)
	}
	if c.retries >= limit {
		c.giveUp()
		return
	}
	c.retries++
	c.rtt.backoff() // RFC 6298 §5.5
	if c.state.Synchronized() {
		c.timedOut(now)
	} else {
		c.synDue = true
	}
	c.timers[timerRexmit] = now.Add(c.rto()) // RFC 6298 §5.6
}

// expirePersist asks for a window probe. The connection lives as long as the
// peer answers (RFC 9293 §3.8.6.1), except that an orphan, which nobody can
// close any more, does not wait for a window for ever (Linux).
func (c *Conn) expirePersist(now mono.Time) {
	limit := c.cfg.Retries
	if c.orphan {
		limit = min(limit, orphanRetries)
	}
	if c.unanswered >= limit {
		c.giveUp()
		return
	}
	if c.orphan && c.probes >= orphanRetries && c.probeInterval() >= c.cfg.MaxRTO {
		c.abort(syscall.ETIMEDOUT)
		return
	}
	c.probeDue = true
}

// rto is the retransmission time-out with its back-off (RFC 6298 §5).
func (c *Conn) rto() time.Duration { return min(c.rtt.rto(), c.cfg.MaxRTO) }

// probeInterval is the time to the next window probe: the retransmission
// time-out, doubled with each probe (RFC 9293 §3.8.6.1).
func (c *Conn) probeInterval() time.Duration {
	d := c.rto()
	for i := 0; i < c.probes && d < c.cfg.MaxRTO; i++ {
		d *= 2
	}
	return min(d, c.cfg.MaxRTO)
}

// expireDelAck sends the ACK that waited for a companion.
func (c *Conn) expireDelAck() {
	c.pingpong = false // nothing came to carry it: not a conversation
	c.ackOnce()
}

// giveUp ends a connection whose peer is silent (R2 of RFC 9293 §3.8.3), with
// the reason an ICMP message gave, if one did.
func (c *Conn) giveUp() {
	err := syscall.ETIMEDOUT
	if c.softErr != 0 {
		err = c.softErr
	}
	c.fail(err)
}
