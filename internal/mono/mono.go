// Package mono is the stack's idea of time: a monotonic instant in
// nanoseconds, and the clock that hands it out. Protocol cores never read a
// clock; they are given a Time with every call and answer with the Time of
// their next deadline.
package mono

import (
	"sync"
	"time"
)

// Time is an instant of a monotonic clock in nanoseconds. The zero Time means
// "no time": a deadline that is not set. A Clock never returns it.
type Time int64

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Before reports whether t is earlier than u; both must be set.
func (t Time) Before(u Time) bool { return t < u }

// Due reports whether the deadline t is set and has been reached at now.
func (t Time) Due(now Time) bool { return t != 0 && t <= now }

// Earliest returns the earlier of two deadlines, either of which may be unset.
func Earliest(a, b Time) Time {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// Clock tells the time and wakes its one owner.
type Clock interface {
	// Now returns the current instant, never zero.
	Now() Time
	// Wake calls f once at t, on a goroutine of the clock's choosing and
	// never from inside Wake itself. A new call replaces the pending one;
	// t == 0 only cancels it.
	Wake(t Time, f func())
}

// epoch makes every system clock of the process agree, so that instants may be
// compared across stacks. It lies 60 years in the past so that Now is neither
// zero nor negative, even inside a testing/synctest bubble, where it is the
// year 2000. Much further back, a machine whose clock begins in 1970 would
// leave the range in which package time keeps the monotonic reading.
var epoch = time.Now().Add(-60 * 365 * 24 * time.Hour)

// System is the machine's monotonic clock. Inside a testing/synctest bubble it
// is virtual like everything else there.
type System struct {
	mu sync.Mutex // guards t, f and gen
	t  *time.Timer
	f  func()
	// gen tells a timer function that was already on its way when Wake
	// replaced it that it is stale.
	gen uint64
}

// NewSystem returns a clock of its own; each owner needs one because Wake
// keeps a single pending call.
func NewSystem() *System { return new(System) }

// Now implements Clock.
func (c *System) Now() Time { return Now() }

// Now returns the current instant of the machine's monotonic clock.
func Now() Time { return Time(time.Since(epoch)) }

// Wake implements Clock.
func (c *System) Wake(t Time, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	if c.t != nil {
		c.t.Stop()
	}
	c.f = f
	if t == 0 {
		return
	}
	gen := c.gen
	c.t = time.AfterFunc(t.Sub(Now()), func() { c.fire(gen) })
}

func (c *System) fire(gen uint64) {
	c.mu.Lock()
	f := c.f
	stale := gen != c.gen
	c.mu.Unlock()
	if !stale {
		f()
	}
}
