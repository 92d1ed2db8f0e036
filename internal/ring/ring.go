// Package ring is the byte queue of a connection: a ring that has no memory
// until it holds something, grows in powers of two up to a limit, and gives its
// memory back to a pool. Bytes may be written beyond its end before those in
// between have arrived, which is how TCP stores out-of-order data.
//
//	0           Len               written ahead           limit
//	|--readable--|.......|######|........|##|................|
//	^ Peek, Read  ^ Write, Commit        ^ WriteAt
package ring

import (
	"math/bits"
	"sync"

	"github.com/tapstack/tapstack/internal/budget"
)

// MinCap is the smallest memory a ring takes, in bytes. It is never refused,
// so that a connection makes progress however little memory there is.
const MinCap = 4 << 10

// MaxLimit is the largest limit a ring can have, in bytes: TCP's largest
// window (RFC 7323 §2.3).
const MaxLimit = 1 << 30

// Ring is a queue of bytes. The zero Ring has the limit 0: call Init or
// SetLimit first. It has no lock.
type Ring struct {
	slab   *slab // nil: no memory
	memory *budget.Budget
	start  int32 // index in the slab of offset 0
	len    int32 // readable bytes
	high   int32 // end of the farthest byte written, as an offset; >= len
	limit  int32
}

// Init sets the limit in bytes, as SetLimit does, and the budget that the
// ring's memory is charged to, nil for none. The ring must be without memory.
func (r *Ring) Init(limit int, b *budget.Budget) {
	r.memory = b
	r.SetLimit(limit)
}

// Budget returns what the ring's memory is charged to.
func (r *Ring) Budget() *budget.Budget { return r.memory }

// Len returns the number of readable bytes.
func (r *Ring) Len() int { return int(r.len) }

// Cap returns how many bytes of memory the ring holds at present.
func (r *Ring) Cap() int {
	if r.slab == nil {
		return 0
	}
	return len(r.slab.b)
}

// Limit returns the largest offset that can be written, in bytes.
func (r *Ring) Limit() int { return int(r.limit) }

// Free returns how many bytes Write would take, or perhaps only some of them
// when the budget is nearly used up; it is 0 when Write would take none.
func (r *Ring) Free() int {
	room := int(r.limit)
	// The next size up costs as much again as there is.
	if n := max(r.Cap(), MinCap); !r.memory.Fits(n) {
		room = min(room, n)
	}
	return max(0, room-int(r.len))
}

// SetLimit sets the limit in bytes, clipped to 0 and MaxLimit. A lower limit
// than the bytes held stops new ones and leaves those alone.
func (r *Ring) SetLimit(n int) { r.limit = int32(max(0, min(n, MaxLimit))) }

// Write appends as much of p as limit and budget allow and returns how much
// that was.
func (r *Ring) Write(p []byte) int {
	n := r.WriteAt(int(r.len), p)
	r.len += int32(n)
	return n
}

// WriteAt stores p at offset off, counted from the first readable byte, and
// returns how many bytes of it limit and budget allowed. Those beyond Len stay
// unreadable until Commit. off below 0 stores nothing; off below Len replaces
// what is there.
func (r *Ring) WriteAt(off int, p []byte) int {
	if off < 0 || off >= int(r.limit) || len(p) == 0 {
		return 0
	}
	end := r.Reserve(off + len(p))
	if end <= off {
		return 0
	}
	if r.slab.lent {
		r.move(class(r.Cap())) // the borrower keeps the memory
	}
	p = p[:end-off]
	a, b := r.span(off, len(p))
	copy(b, p[copy(a, p):])
	r.high = max(r.high, int32(end))
	return len(p)
}

// Reserve gets memory for the offsets [0, n) and returns how many of them can
// be written: less than n beyond the limit, and when the budget refuses.
func (r *Ring) Reserve(n int) int {
	n = min(n, int(r.limit))
	have := r.Cap()
	for c := class(n); c >= 0 && have < n && have < MinCap<<c; c-- {
		more := MinCap<<c - have
		if c == 0 {
			r.memory.Charge(more)
		} else if !r.memory.Grow(more) {
			continue // perhaps a smaller size
		}
		r.move(c)
		have = MinCap << c
	}
	return min(n, have)
}

// Commit makes the next n bytes after Len readable. They must have been written
// with WriteAt, each of them; n is clipped to the farthest byte written.
func (r *Ring) Commit(n int) {
	r.len += int32(max(0, min(n, int(r.high-r.len))))
}

// Peek returns the readable bytes [off, off+n), clipped to what there is, in
// two parts because they may wrap; either may be empty. They are valid until
// the next call that changes the ring.
func (r *Ring) Peek(off, n int) (a, b []byte) {
	if off < 0 || off >= int(r.len) || n <= 0 {
		return nil, nil
	}
	return r.span(off, min(n, int(r.len)-off))
}

// Read moves bytes from the front of the ring into p and returns how many.
func (r *Ring) Read(p []byte) int {
	a, b := r.Peek(0, len(p))
	n := copy(p, a)
	n += copy(p[n:], b)
	r.Discard(n)
	return n
}

// Discard removes n bytes from the front, clipped to Len.
func (r *Ring) Discard(n int) {
	n = max(0, min(n, int(r.len)))
	r.len -= int32(n)
	r.high -= int32(n)
	if r.high == 0 && !r.lends() {
		// Nothing is held: begin again at the front, so that the next
		// bytes lie in one part.
		r.start = 0
		return
	}
	r.start = int32((int(r.start) + n) & (r.Cap() - 1))
}

// Ahead returns how far beyond Len bytes have been written: 0 when nothing
// waits for Commit.
func (r *Ring) Ahead() int { return int(r.high - r.len) }

// Forget drops the bytes written beyond Len.
func (r *Ring) Forget() {
	if r.high = r.len; r.high == 0 && !r.lends() {
		r.start = 0
	}
}

// Shrink gives the memory back when the ring holds nothing, neither readable
// bytes nor bytes written ahead.
func (r *Ring) Shrink() {
	if r.high == 0 {
		r.Release()
	}
}

// Roomy reports whether n bytes would do with less memory than the ring has.
func (r *Ring) Roomy(n int) bool { return MinCap<<class(n) < r.Cap() }

// Fit moves what the ring holds into as little memory as will do.
func (r *Ring) Fit() {
	if r.high == 0 {
		r.Release()
		return
	}
	if r.Roomy(int(r.high)) {
		c := class(int(r.high))
		r.memory.Return(r.Cap() - MinCap<<c)
		r.move(c)
	}
}

// Release drops all bytes and gives the memory back. Limit and budget stay.
func (r *Ring) Release() {
	if r.slab != nil {
		r.memory.Return(len(r.slab.b))
		put(r.slab)
	}
	*r = Ring{limit: r.limit, memory: r.memory}
}

// span returns the memory of the offsets [off, off+n), which lie within Cap.
func (r *Ring) span(off, n int) (a, b []byte) {
	buf := r.slab.b
	i := (int(r.start) + off) & (len(buf) - 1)
	if k := len(buf) - i; n > k {
		return buf[i:], buf[:n-k]
	}
	return buf[i : i+n], nil
}

// move puts everything, with what was written ahead, into a slab of class c,
// which must be large enough.
func (r *Ring) move(c int) {
	s := get(c)
	if r.high > 0 {
		a, b := r.span(0, int(r.high))
		copy(s.b[copy(s.b, a):], b)
	}
	if r.slab != nil {
		put(r.slab)
	}
	r.slab, r.start = s, 0
}

// slab is memory of one size class, kept by pointer so that the pool's
// bookkeeping does not allocate. Its bytes are not cleared between users.
type slab struct {
	b    []byte
	lent bool // see loan.go; once its ring has left it, it belongs to the borrower
}

// pools holds a pool per size class: MinCap << i. What lies there is charged to
// nobody but is memory all the same. Each of the garbage collector's runs frees
// what has not been used since the one before, so that it lasts no longer than
// other garbage does; GOMEMLIMIT bounds both together.
var pools [19]sync.Pool

// class returns the size class for n bytes.
func class(n int) int {
	if n <= MinCap {
		return 0
	}
	return bits.Len(uint(n-1)) - bits.Len(uint(MinCap-1))
}

func get(c int) *slab {
	if s, ok := pools[c].Get().(*slab); ok {
		return s
	}
	return &slab{b: make([]byte, MinCap<<c)}
}

func put(s *slab) {
	if !s.lent {
		pools[class(len(s.b))].Put(s)
	}
}
