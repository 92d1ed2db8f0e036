package icmp

import "github.com/tapstack/tapstack/internal/mono"

// This file owns the rate limit of error messages (RFC 1812 §4.3.2.8, RFC 4443
// §2.4(f)).

// Linux's limits for one host (icmp_msgs_per_sec, icmp_msgs_burst).
const (
	DefaultRate  = 1000
	DefaultBurst = 50
)

// Limiter is a token bucket. It is not safe for concurrent use.
type Limiter struct {
	// One message costs cost nanoseconds of time, and up to burst messages'
	// worth is saved up.
	cost, full int64
	saved      int64
	last       mono.Time
}

// NewLimiter returns a full bucket that lets perSecond messages through, and
// burst at once. perSecond <= 0 limits nothing; burst below 1 counts as 1.
func NewLimiter(perSecond, burst int) *Limiter {
	if perSecond <= 0 {
		return &Limiter{}
	}
	cost := max(int64(1e9)/int64(perSecond), 1)
	full := cost * int64(max(burst, 1))
	return &Limiter{cost: cost, full: full, saved: full}
}

// Allow reports whether a message may be sent at now, and counts it.
func (l *Limiter) Allow(now mono.Time) bool {
	if l.last != 0 && now > l.last {
		l.saved = min(l.full, l.saved+min(l.full, int64(now.Sub(l.last))))
	}
	l.last = max(l.last, now)
	if l.saved < l.cost {
		return false
	}
	l.saved -= l.cost
	return true
}
