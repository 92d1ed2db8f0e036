package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the small numbers in which the records of half-open and
// finished connections keep time: a host may have a hundred thousand of them.

// milliseconds is d in 31 bits, so that it can be doubled; at least 1.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 1), 1<<31-1))
}

// briefly is an instant in ms, modulo 2^32: 50 days, in which a record is gone.
// 0 is none.
type briefly uint32

// mayAgain reports whether challengeInterval has passed since the last time it
// said so.
func (b *briefly) mayAgain(now mono.Time) bool {
	ms := briefly(int64(now) / int64(time.Millisecond))
	if *b != 0 && ms-*b < briefly(challengeInterval/time.Millisecond) {
		return false
	}
	*b = max(ms, 1)
	return true
}

// coarsely is an instant in seconds, which lasts for 136 years.
type coarsely uint32

func coarse(t mono.Time) coarsely { return coarsely(int64(t) / int64(time.Second)) }

// since returns the time from t to now, to the second.
func (t coarsely) since(now mono.Time) time.Duration {
	return time.Duration(coarse(now)-t) * time.Second
}
