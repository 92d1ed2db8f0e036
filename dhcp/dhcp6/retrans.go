package dhcp6

// This file owns RFC 8415 §15: when a message is sent again, and when its sender
// gives up. Every exchange of the client goes by it; only the numbers differ.

import (
	"math/rand/v2"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// The constants of RFC 8415 §7.6.
const (
	solMaxDelay = time.Second
	solTimeout  = time.Second
	solMaxRT    = 3600 * time.Second
	reqTimeout  = time.Second
	reqMaxRT    = 30 * time.Second
	reqMaxRC    = 10
	cnfMaxDelay = time.Second
	cnfTimeout  = time.Second
	cnfMaxRT    = 4 * time.Second
	cnfMaxRD    = 10 * time.Second
	renTimeout  = 10 * time.Second
	renMaxRT    = 600 * time.Second
	rebTimeout  = 10 * time.Second
	rebMaxRT    = 600 * time.Second
	infMaxDelay = time.Second
	infTimeout  = time.Second
	infMaxRT    = 3600 * time.Second
	relTimeout  = time.Second
	relMaxRC    = 4
	decTimeout  = time.Second
	decMaxRC    = 4
	irtDefault  = 86400 * time.Second
	irtMinimum  = 600 * time.Second
	// The range in which SOL_MAX_RT and INF_MAX_RT of a server are taken (§21.24,
	// §21.25).
	leastMaxRT = 60 * time.Second
	mostMaxRT  = 86400 * time.Second
)

// exchange is a message under way. Its zero value is none.
type exchange struct {
	irt, mrt time.Duration
	mrc      int
	mrd      time.Duration
	positive bool // RAND of the first transmission is above 0 (§18.2.1)

	rt    time.Duration
	sent  int       // transmissions
	first mono.Time // the first one
	next  mono.Time // the next one, or the end
}

// spread is RAND times d: up to a tenth of it, more or less.
func spread(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration((r.Float64()*0.2 - 0.1) * float64(d))
}

// transmit notes a transmission at now and sets the time of the next.
func (x *exchange) transmit(now mono.Time, r *rand.Rand) {
	switch {
	case x.sent == 0 && x.positive:
		// 1-Float64 is above 0.
		x.rt = x.irt + max(1, time.Duration((1-r.Float64())*0.1*float64(x.irt)))
	case x.sent == 0:
		x.rt = x.irt + spread(r, x.irt)
	default:
		x.rt = 2*x.rt + spread(r, x.rt)
	}
	if x.mrt != 0 && x.rt > x.mrt {
		x.rt = x.mrt + spread(r, x.mrt)
	}
	if x.sent == 0 {
		x.first = now
	}
	x.sent++
	x.next = now.Add(x.rt)
	if end := x.end(); end != 0 && x.next > end {
		x.next = end
	}
}

// end is when MRD is over; 0: never, or not begun.
func (x *exchange) end() mono.Time {
	if x.mrd == 0 || x.sent == 0 {
		return 0
	}
	return x.first.Add(x.mrd)
}

// failed reports, when next is due, that the exchange is over without an answer.
func (x *exchange) failed(now mono.Time) bool {
	return x.mrc != 0 && x.sent >= x.mrc || x.end().Due(now)
}

// elapsed is the value of the Elapsed Time option: hundredths of a second since
// the first transmission, 0 in that one (RFC 8415 §21.9).
func (x *exchange) elapsed(now mono.Time) uint16 {
	if x.sent == 0 {
		return 0
	}
	return uint16(min(now.Sub(x.first)/(10*time.Millisecond), 0xffff))
}

// The bucket of RFC 8415 §14.1: a client that is answered at once and never with
// what it can use sends no more than this.
const (
	bucketSize   = 20
	bucketPeriod = time.Second // for each
)

// bucket bounds the rate of transmission.
type bucket struct {
	used int
	at   mono.Time // up to which used was given back
}

// take takes a token, or returns when there is one.
func (b *bucket) take(now mono.Time) mono.Time {
	if n := int(now.Sub(b.at) / bucketPeriod); b.at == 0 || n >= b.used {
		b.used, b.at = 0, now
	} else if n > 0 {
		b.used -= n
		b.at = b.at.Add(time.Duration(n) * bucketPeriod)
	}
	if b.used >= bucketSize {
		return b.at.Add(bucketPeriod)
	}
	b.used++
	return 0
}
