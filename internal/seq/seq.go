// Package seq is TCP's sequence number arithmetic, modulo 2^32
// (RFC 9293 §3.4). Numbers compare correctly while they lie within 2^31 of
// each other.
package seq

// Num is a sequence number.
type Num uint32

// Add returns n advanced by d bytes (d may be negative).
func (n Num) Add(d int) Num { return n + Num(uint32(d)) }

// Sub returns how far n lies after m, negative when before it.
func (n Num) Sub(m Num) int { return int(int32(n - m)) }

// Less reports n < m in sequence space.
func (n Num) Less(m Num) bool { return int32(n-m) < 0 }

// LessEq reports n <= m in sequence space.
func (n Num) LessEq(m Num) bool { return int32(n-m) <= 0 }

// InWindow reports whether n lies in [start, start+size).
func (n Num) InWindow(start Num, size int) bool { return uint32(n-start) < uint32(size) }

// Max returns the later of two numbers.
func Max(a, b Num) Num {
	if a.Less(b) {
		return b
	}
	return a
}

// Min returns the earlier of two numbers.
func Min(a, b Num) Num {
	if b.Less(a) {
		return b
	}
	return a
}
