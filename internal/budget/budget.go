// Package budget counts the memory that traffic makes a host hold against one
// limit, so that windows shrink and new connections are refused before the
// process grows without bound. It counts bytes and allocates none.
//
//	0                      3/4          7/8          limit
//	|----------------------|------------|------------|
//	  nothing is refused   | pressure   | no growth  | nothing new
//
// The last eighth is left to what must not fail: the first few KB of each
// connection's buffers, with which it makes progress however slowly, and new
// connections. Linux's tcp_mem has three such marks too (low, pressure, high);
// its connections also keep a minimum beyond the last (tcp_rmem[0]).
package budget

import "sync/atomic"

// Budget is a limit and what is used of it. All methods may be called from any
// goroutine and under any lock. A nil *Budget refuses nothing and counts
// nothing.
type Budget struct {
	limit, pressure, growth int64

	used    atomic.Int64
	pressed func()
}

// New returns a budget of limit bytes. pressed, unless nil, is called each time
// that use rises to three quarters of it: by whoever took the memory, under
// that caller's locks, so it may do no more than set a timer.
func New(limit int64, pressed func()) *Budget {
	return &Budget{limit: limit, pressure: limit / 4 * 3, growth: limit / 8 * 7, pressed: pressed}
}

// Take takes n bytes for something new, unless that would exceed the limit.
func (b *Budget) Take(n int) bool { return b == nil || b.take(int64(n), b.limit) }

// Grow takes n bytes for something that exists and can do without, unless that
// would exceed seven eighths of the limit.
func (b *Budget) Grow(n int) bool { return b == nil || b.take(int64(n), b.growth) }

func (b *Budget) take(n, most int64) bool {
	now := b.used.Add(n)
	if now > most {
		b.used.Add(-n)
		return false
	}
	b.notice(n, now)
	return true
}

// Fits reports whether Grow(n) would succeed now.
func (b *Budget) Fits(n int) bool { return b == nil || b.used.Load()+int64(n) <= b.growth }

// Charge takes n bytes whatever the limit; n may be negative.
func (b *Budget) Charge(n int) {
	if b != nil {
		b.notice(int64(n), b.used.Add(int64(n)))
	}
}

// notice tells of the pressure if the n bytes that made use rise to now began
// it.
func (b *Budget) notice(n, now int64) {
	if now >= b.pressure && now-n < b.pressure && b.pressed != nil {
		b.pressed()
	}
}

// Return gives n bytes back.
func (b *Budget) Return(n int) {
	if b != nil {
		b.used.Add(int64(-n))
	}
}

// Pressure reports that three quarters of the limit are used.
func (b *Budget) Pressure() bool { return b != nil && b.used.Load() >= b.pressure }

// Full reports that the limit is reached.
func (b *Budget) Full() bool { return b != nil && b.used.Load() >= b.limit }

// Used returns the bytes in use.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Limit returns the limit in bytes, 0 if there is none.
func (b *Budget) Limit() int64 {
	if b == nil {
		return 0
	}
	return b.limit
}
