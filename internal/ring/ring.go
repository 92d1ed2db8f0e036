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
)

// MinCap is the smallest memory a ring takes, in bytes.
const MinCap = 4 << 10

// MaxLimit is the largest limit a ring can have, in bytes: TCP's largest
// window (RFC 7323 §2.3).
const MaxLimit = 1 << 30

// Ring is a queue of bytes. The zero Ring has the limit 0: call SetLimit first.
// It has no lock.
type Ring struct {
	slab  *slab  // nil: no memory
	buf   []byte // slab's bytes; the length is a power of two
	start int    // index in buf of offset 0
	len   int    // readable bytes
	high  int    // end of the farthest byte written, as an offset; >= len
	limit int
}

// Len returns the number of readable bytes.
func (r *Ring) Len() int { return r.len }

// Cap returns how many bytes of memory the ring holds at present.
func (r *Ring) Cap() int { return len(r.buf) }

// Limit returns the largest offset that can be written, in bytes.
func (r *Ring) Limit() int { return r.limit }

// Free returns how many bytes Write would take.
func (r *Ring) Free() int { return max(0, r.limit-r.len) }

// SetLimit sets the limit in bytes, clipped to 0 and MaxLimit. A lower limit
// than the bytes held stops new ones and leaves those alone.
func (r *Ring) SetLimit(n int) { r.limit = max(0, min(n, MaxLimit)) }

// Write appends as much of p as the limit allows and returns how much that was.
func (r *Ring) Write(p []byte) int {
	n := r.WriteAt(r.len, p)
	r.len += n
	return n
}

// WriteAt stores p at offset off, counted from the first readable byte, and
// returns how many bytes of it the limit allowed. Those beyond Len stay
// unreadable until Commit. off below 0 stores nothing; off below Len replaces
// what is there.
func (r *Ring) WriteAt(off int, p []byte) int {
	if off < 0 || off >= r.limit || len(p) == 0 {
		return 0
	}
	p = p[:min(len(p), r.limit-off)]
	end := off + len(p)
	if end > len(r.buf) {
		r.grow(end)
	}
	a, b := r.span(off, len(p))
	copy(b, p[copy(a, p):])
	r.high = max(r.high, end)
	return len(p)
}

// Commit makes the next n bytes after Len readable. They must have been written
// with WriteAt, each of them; n is clipped to the farthest byte written.
func (r *Ring) Commit(n int) {
	r.len += max(0, min(n, r.high-r.len))
}

// Peek returns the readable bytes [off, off+n), clipped to what there is, in
// two parts because they may wrap; either may be empty. They are valid until
// the next call that changes the ring.
func (r *Ring) Peek(off, n int) (a, b []byte) {
	if off < 0 || off >= r.len || n <= 0 {
		return nil, nil
	}
	return r.span(off, min(n, r.len-off))
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
	n = max(0, min(n, r.len))
	r.len -= n
	r.high -= n
	if r.high == 0 {
		// Nothing is held: begin again at the front, so that the next
		// bytes lie in one part.
		r.start = 0
		return
	}
	r.start = (r.start + n) & (len(r.buf) - 1)
}

// Shrink gives the memory back when the ring holds nothing, neither readable
// bytes nor bytes written ahead.
func (r *Ring) Shrink() {
	if r.high == 0 {
		r.Release()
	}
}

// Release drops all bytes and gives the memory back. The limit stays.
func (r *Ring) Release() {
	if r.slab != nil {
		put(r.slab)
	}
	*r = Ring{limit: r.limit}
}

// span returns the memory of the offsets [off, off+n), which lie within Cap.
func (r *Ring) span(off, n int) (a, b []byte) {
	i := (r.start + off) & (len(r.buf) - 1)
	if k := len(r.buf) - i; n > k {
		return r.buf[i:], r.buf[:n-k]
	}
	return r.buf[i : i+n], nil
}

// grow moves everything, with what was written ahead, into memory for at least
// need bytes.
func (r *Ring) grow(need int) {
	s := get(need)
	if r.high > 0 {
		a, b := r.span(0, r.high)
		copy(s.b[copy(s.b, a):], b)
	}
	if r.slab != nil {
		put(r.slab)
	}
	r.slab, r.buf, r.start = s, s.b, 0
}

// slab is memory of one size class, kept by pointer so that the pool's
// bookkeeping does not allocate. Its bytes are not cleared between users.
type slab struct{ b []byte }

// pools holds a pool per size class: MinCap << i.
var pools [19]sync.Pool

// class returns the size class for n bytes.
func class(n int) int {
	if n <= MinCap {
		return 0
	}
	return bits.Len(uint(n-1)) - bits.Len(uint(MinCap-1))
}

func get(n int) *slab {
	c := class(n)
	if s, ok := pools[c].Get().(*slab); ok {
		return s
	}
	return &slab{b: make([]byte, MinCap<<c)}
}

func put(s *slab) { pools[class(len(s.b))].Put(s) }
