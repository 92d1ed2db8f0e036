package tcp

import (
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the user timeout (RFC 9293 §3.8.3, R2; RFC 5482): how long
// text may go unacknowledged, or unsent for want of a window, before the
// connection is given up. The user sets it, or the two ends tell each other by
// the option of RFC 5482; without either, the number of retransmissions
// decides (Config.Retries).
//
// What the time counts from is Linux's choice, since programs rely on it:
//
//	SYN              when the first one left
//	text             when it was first sent again, which is one RTO after it left
//	closed window    the first window probe; answers do not stop the clock
//	keep-alive       when the peer was last heard; at least one probe was sent
//
// and a timer that would expire after the timeout expires at it.

// Bounds of a timeout that the peer's option proposes (RFC 5482 §3.1): RFC 1122
// §4.2.3.5 wants at least 100 s, and a peer must not make us keep its
// connection for long.
const (
	minPeerTimeout = 100 * time.Second
	maxPeerTimeout = time.Hour
)

// userTimeout is the timeout in force, 0 for none.
func (c *Conn) userTimeout() time.Duration {
	if ms := c.cfg.Knobs.userTimeout; ms != 0 {
		return time.Duration(ms) * time.Millisecond
	}
	if !c.cfg.Knobs.uto || c.uto.peer == 0 {
		return 0
	}
	// RFC 5482 §3.1: USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO,
	// L_LIMIT)). A timeout that the user has set is not changed by the peer's
	// (CHANGEABLE is false then).
	return min(maxPeerTimeout, max(decodeTimeout(c.adv()), decodeTimeout(c.uto.peer), minPeerTimeout))
}

// retriedEnough reports, when the retransmission timer has expired, whether to
// give up.
func (c *Conn) retriedEnough(now mono.Time) bool {
	user := c.userTimeout()
	switch {
	case !c.state.Synchronized():
		return c.retries >= c.retryLimit() || user != 0 && c.retries > 0 && now.Sub(c.stuckAt) >= user
	case user == 0:
		return c.retries >= c.retryLimit()
	}
	// With the peer's window closed the retransmissions are window probes, and
	// its answers set retries to 0. They do not stop this clock.
	return (c.retries > 0 || c.sndWnd == 0) && c.stuckAt != 0 && now.Sub(c.stuckAt) >= user
}

// untilStuck shortens d, the time of a timer to be started, to what is left of
// the user timeout since from.
func (c *Conn) untilStuck(now, from mono.Time, d time.Duration) time.Duration {
	user := c.userTimeout()
	if user == 0 || from == 0 {
		return d
	}
	return min(d, max(user-now.Sub(from), time.Millisecond))
}

// timeoutError is why a connection with a silent peer failed: what an ICMP
// message said, if one came (RFC 1122 §4.2.3.9).
func (c *Conn) timeoutError() syscall.Errno {
	if c.softErr != 0 {
		return syscall.Errno(c.softErr)
	}
	return syscall.ETIMEDOUT
}

// timeoutOption is the state of the option of RFC 5482 on a connection.
type timeoutOption struct {
	peer uint16  // REMOTE_UTO as on the wire; 0: not heard
	due  bool    // text that leaves is to carry ours,
	end  seq.Num // until this is acknowledged: it may be lost
	set  bool    // end is known
}

// decodeTimeout is the meaning of the option's 16 bits: seconds, or minutes
// when the granularity bit is set (RFC 5482 §3).
func decodeTimeout(v uint16) time.Duration {
	if v&0x8000 != 0 {
		return time.Duration(v&0x7fff) * time.Minute
	}
	return time.Duration(v) * time.Second
}

// encodeTimeout is the way back. A timeout of zero is not allowed, one that is
// longer than 15 bits of minutes is the longest.
func encodeTimeout(d time.Duration) uint16 {
	s := max((d+time.Second-1)/time.Second, 1)
	if s <= 0x7fff {
		return uint16(s)
	}
	return uint16(min((s+59)/60, 0x7fff)) | 0x8000
}

// adv is ADV_UTO as on the wire: the user's timeout, or what Config.Retries
// retransmissions from the least RTO take, which is Linux's measure of R2.
func (k *Knobs) adv(minRTO, maxRTO time.Duration, retries int) uint16 {
	if ms := k.userTimeout; ms != 0 {
		return encodeTimeout(time.Duration(ms) * time.Millisecond)
	}
	d, sum := minRTO, time.Duration(0)
	for range min(retries, 100) + 1 {
		sum += d
		d = min(2*d, maxRTO)
	}
	return encodeTimeout(sum)
}

func (c *Conn) adv() uint16 { return c.cfg.Knobs.adv(c.cfg.MinRTO, c.cfg.MaxRTO, c.cfg.Retries) }

// advertiseTimeout tells the peer of a new timeout with the next text (RFC
// 5482 §3.1).
func (c *Conn) advertiseTimeout() {
	if on := c.cfg.Knobs.uto; on || c.uto.due {
		u := &c.extra().uto
		u.due, u.set = on, false
	}
}

// putTimeout adds the option to a segment with text, [at, end).
func (c *Conn) putTimeout(o *Options, end seq.Num) {
	if !c.uto.due {
		return
	}
	if !c.uto.set {
		c.uto.end, c.uto.set = end, true
	}
	o.UserTimeout = c.adv()
}

// inputTimeout takes the option of an acceptable segment. It is ignored unless
// the user wants it (RFC 5482 §3.1, ENABLED).
func (c *Conn) inputTimeout(o *Options) {
	if o.UserTimeout != 0 && c.cfg.Knobs.uto {
		c.extra().uto.peer = o.UserTimeout
	}
}
