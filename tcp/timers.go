package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns time: the earliest of a connection's timers, and what each
// means when it expires (RFC 9293 §3.10.8).

// Deadline returns when Expire is to be called next, 0 for never. It may
// change with every call.
func (c *Conn) Deadline() mono.Time {
	if c.InRepair() {
		return 0
	}
	d := c.keepAt
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
	if c.InRepair() {
		return 0
	}
	c.wake()
	c.traceAt(now)
	for i := range c.timers {
		if !c.timers[i].Due(now) {
			continue
		}
		c.timers[i] = 0
		c.traceTimer(i)
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
			c.moveTo(evTimeout)
		}
	}
	if c.keepAt.Due(now) {
		c.keepAt = 0
		c.traceTimer(timerKeep)
		c.expireKeepAlive(now)
	}
	if c.state == TimeWait && c.tw.Expire(now) == VerdictRemove {
		c.moveTo(evTimeout)
	}
	c.traceMetrics()
	return c.takeEvents()
}

// stopTimers stops all of them.
func (c *Conn) stopTimers() {
	c.timers, c.keepAt = [numFlightTimers]mono.Time{}, 0
}

// expireRexmit is the RETRANSMISSION TIMEOUT of RFC 9293 §3.10.8.
func (c *Conn) expireRexmit(now mono.Time) {
	if c.retriedEnough(now) {
		c.giveUp()
		return
	}
	c.countTimeout(now)
	if c.retries++; c.retries == 2 {
		c.events |= EvSilence
	}
	if c.stuckAt == 0 {
		c.stuckAt = now
	}
	if c.thin() {
		c.rtt.backoffs = 0
	} else {
		c.rtt.backoff() // RFC 6298 §5.5
	}
	if c.state.Synchronized() {
		c.blackHole(now)
		c.timedOut(now)
	} else {
		c.synDue = true
	}
	c.timers[timerRexmit] = now.Add(c.untilStuck(now, c.stuckAt, c.rto())) // RFC 6298 §5.6
}

// rto is the retransmission time-out with its back-off (RFC 6298 §5).
func (c *Conn) rto() time.Duration {
	return min(c.rtt.rto(c.cfg.MinRTO, c.cfg.InitialRTO), c.cfg.MaxRTO)
}

// giveUp ends a connection whose peer is silent (R2 of RFC 9293 §3.8.3), with
// the reason an ICMP message gave, if one did.
func (c *Conn) giveUp() {
	c.count(CountAbortOnTimeout, 1)
	c.fail(c.timeoutError())
}
