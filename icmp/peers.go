package icmp

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the rate limit of error messages to a single destination,
// which keeps one that draws errors from using up what the others may have.

// PeerBurst is how many messages a destination may be sent at once, Linux's
// XRLIM_BURST_FACTOR.
const PeerBurst = 6

// Peers is a token bucket for each destination. The zero Peers is not usable;
// it is not safe for concurrent use.
type Peers struct {
	m    map[netip.Addr]peer
	most int
	// swept is when full buckets were last looked for.
	swept mono.Time
}

type peer struct {
	saved int64 // nanoseconds, as of last
	last  mono.Time
	full  int64
}

// NewPeers returns limits for at most most destinations at a time.
func NewPeers(most int) *Peers { return &Peers{m: make(map[netip.Addr]peer), most: most} }

// Allow reports whether a message may be sent to dst at now, of which there is
// one in interval on average, and counts it. When there is no place for another
// destination the answer is no.
func (t *Peers) Allow(now mono.Time, dst netip.Addr, interval time.Duration) bool {
	if interval <= 0 {
		return true
	}
	p, ok := t.m[dst]
	if !ok {
		if len(t.m) >= t.most && !t.sweep(now) {
			return false
		}
		p.saved = int64(PeerBurst * interval)
	} else if now > p.last {
		p.saved = min(int64(PeerBurst*interval), p.saved+int64(now.Sub(p.last)))
	}
	p.last, p.full = max(p.last, now), int64(PeerBurst*interval)
	allowed := p.saved >= int64(interval)
	if allowed {
		p.saved -= int64(interval)
	}
	t.m[dst] = p
	return allowed
}

// sweep forgets the destinations whose buckets are full again, at most once a
// second, and reports whether there is place.
func (t *Peers) sweep(now mono.Time) bool {
	if t.swept != 0 && now.Sub(t.swept) < time.Second {
		return false
	}
	t.swept = now
	for a, p := range t.m {
		if p.saved+int64(now.Sub(p.last)) >= p.full {
			delete(t.m, a)
		}
	}
	return len(t.m) < t.most
}
