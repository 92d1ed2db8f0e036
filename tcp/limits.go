package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the question what keeps the sender from sending more: the
// clocks behind tcpi_busy_time, tcpi_rwnd_limited and tcpi_sndbuf_limited, as
// Linux runs them. One of them runs at a time, from one look to the next; the
// congestion window has none, it is what is left of the time busy.

// limit is what holds the sender back.
type limit uint8

const (
	limitIdle   limit = iota // there is nothing to send
	limitBusy                // the congestion window, the timers, the path
	limitRwnd                // the peer's window
	limitSndbuf              // the size of our send buffer: a writer waits, all is sent
	numLimits
)

// limitClock adds up the time under each, in milliseconds: it runs for 49 days.
type limitClock struct {
	since mono.Time
	spent [numLimits - 1]uint32 // not of limitIdle
	now   limit
}

// set starts the clock of l and stops the one that ran. What is less than a
// millisecond is not lost but counts for the next.
func (k *limitClock) set(now mono.Time, l limit) {
	if l == k.now {
		return
	}
	if k.now == limitIdle {
		k.since = now
	} else {
		ms := now.Sub(k.since) / time.Millisecond
		k.spent[k.now-1] += uint32(ms)
		k.since = k.since.Add(ms * time.Millisecond)
	}
	k.now = l
}

// total is the time under l, which is not limitIdle, until now.
func (k *limitClock) total(now mono.Time, l limit) time.Duration {
	d := time.Duration(k.spent[l-1]) * time.Millisecond
	if k.now == l {
		d += now.Sub(k.since)
	}
	return d
}

// watchLimits looks what holds the sender back, when Output has nothing more to
// send.
func (c *Conn) watchLimits(now mono.Time) {
	c.limits.set(now, c.limitedBy())
}

func (c *Conn) limitedBy() limit {
	if !c.state.Synchronized() || c.state == TimeWait || c.snd.Len() == 0 && c.sndUna == c.sndNxt {
		return limitIdle
	}
	unsent := c.unsent()
	if unsent == 0 {
		if c.wantWrite {
			return limitSndbuf
		}
		return limitBusy
	}
	least := min(unsent, c.mss)
	if c.sndUna.Add(c.sndWnd).Sub(c.sndNxt) < least && c.cwnd()-c.pipe() >= least {
		return limitRwnd
	}
	return limitBusy
}
