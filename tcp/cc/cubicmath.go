package cc

import (
	"math"
	"math/bits"
	"time"
)

// This file owns the arithmetic of RFC 9438 §4.2, in integers only, so that
// every machine computes the same: W_cubic and its inverse at 0, K. C is 0.4
// segments per second cubed; a microsecond cubed is 10^-18 of that second, which
// needs 128 bits on the way.

// maxCubicTime is the largest |t-K| that is looked at, in microseconds, 35
// minutes: there the curve is beyond every window.
const maxCubicTime = 1 << 31

// cubicWindow is equation 1: C*(t-K)^3 + W_max, in bytes. It is at least 0 and
// at most MaxWindow; K is in microseconds.
func cubicWindow(t time.Duration, k uint32, wMax, mss int32) int64 {
	d := int64(t/time.Microsecond) - int64(k)
	neg := d < 0
	if neg {
		d = -d
	}
	d = min(d, maxCubicTime)
	// C*mss*d^3 = 2/5*mss * d^3/10^18, divided in two steps so that what is
	// cut off is less than a thousandth of a segment.
	cube := mulDiv(uint64(d*d), uint64(d), 1e15)
	off := int64(mulDiv(cube, 2*uint64(mss), 5000) & math.MaxInt64)
	if neg {
		return max(int64(wMax)-off, 0)
	}
	return min(int64(wMax)+min(off, MaxWindow), MaxWindow)
}

// cubicK is equation 2: the time in which the curve climbs by diff bytes to its
// flat part, the cube root of diff/(C*mss), in microseconds; 0 if there is
// nothing to climb.
func cubicK(diff, mss int32) uint32 {
	if diff <= 0 {
		return 0
	}
	// 5/2*diff/mss seconds cubed.
	hi, lo := bits.Mul64(uint64(diff), 5e18)
	div := 2 * uint64(mss)
	hi, rem := hi/div, hi%div
	lo, _ = bits.Div64(rem, lo, div)
	return cubeRoot(hi, lo)
}

// cubeRoot returns the largest x whose cube is at most hi*2^64+lo, or the
// largest uint32 if that is smaller. It finds one binary digit at a time.
func cubeRoot(hi, lo uint64) (x uint32) {
	for bit := uint32(1 << 31); bit != 0; bit >>= 1 {
		y := uint64(x | bit)
		h, l := bits.Mul64(y*y, y)
		if h < hi || h == hi && l <= lo {
			x |= bit
		}
	}
	return x
}

// mulDiv returns a*b/c, or the largest number if it does not fit. c is not 0.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}
