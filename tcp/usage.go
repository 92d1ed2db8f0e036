package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns whether the congestion window is used (RFC 9438 §5.8, RFC 2861,
// RFC 7661). A window that is never full has not been tested: it does not grow
// by ACKs, and shrinks in time towards what is used.
//
// Of the rules for this, Linux's are followed (tcp_cwnd_validate), which are RFC
// 2861's with the measure of use taken over one window of data, rather than RFC
// 7661's. That one lets the window grow by all ACKs while half of it is used,
// needs to cut it after a loss by what was in flight, and keeps an unused one
// for five minutes; it is experimental, and no peer expects it.

// usage is how much of the window is used.
type usage struct {
	at   mono.Time // when the window was last the limit
	end  seq.Num   // most and full are about what was sent before
	most int32     // in flight at most
	used int32     // in flight at most since at
	full bool      // the window, and nothing else, stopped us
	told bool      // noteIdle was called, and nothing was sent since
}

// noteUsage takes the end of an attempt to send new text; full says that the
// congestion window ended it.
func (c *Conn) noteUsage(now mono.Time, full bool) {
	u := &c.usage
	out := int32(c.sndNxt.Sub(c.sndUna))
	if full || u.end.LessEq(c.sndUna) || !u.full && out > u.most {
		u.full, u.most, u.end = full, out, c.sndNxt
	}
	if u.at == 0 || c.windowUsed() {
		u.at, u.used = now, 0
		return
	}
	u.used = max(u.used, out)
	if now.Sub(u.at) >= c.rto() {
		// Not when the application waits for room in the send buffer: then that
		// is the limit.
		if c.phase == phaseOpen && !c.wantWrite && !c.cfg.KeepIdleWindow {
			c.cc.OnUnused(now, int(u.used))
		}
		u.at, u.used = now, 0
	}
}

// noteIdle tells the controller that text is about to be sent with nothing in
// flight: when it comes, whether it may go at once or not. What follows is not
// a pause of the application but of the peer's window (Linux: only sendmsg asks).
func (c *Conn) noteIdle(now mono.Time) {
	if c.usage.told {
		return
	}
	c.usage.told = true
	idle, rto := now.Sub(c.sentAt), c.rto()
	if c.cfg.KeepIdleWindow {
		rto = 0
	}
	c.cc.OnIdle(now, idle, rto)
	if idle > rto {
		c.usage.at, c.usage.used = now, 0 // it is not told twice
	}
}

// windowUsed is Linux's tcp_is_cwnd_limited: in slow start, which doubles the
// window in a round trip, half of it is enough.
func (c *Conn) windowUsed() bool {
	if c.usage.full {
		return true
	}
	cwnd, _ := c.cc.Window()
	return cwnd < c.cc.Ssthresh() && cwnd < 2*int(c.usage.most)
}
