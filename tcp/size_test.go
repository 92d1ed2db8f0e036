package tcp

import (
	"testing"
	"unsafe"
)

// The records that stand for half-open and finished connections stay small.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(SynRequest{}); n > 80 {
		t.Errorf("SynRequest takes %d bytes", n)
	}
	if n := unsafe.Sizeof(TimeWaitRecord{}); n > 48 {
		t.Errorf("TimeWaitRecord takes %d bytes", n)
	}
	if unsafe.Sizeof(oooRange{}) != oooRangeSize || unsafe.Sizeof(sentRange{}) != sentRangeSize {
		t.Errorf("ranges take %d and %d bytes", unsafe.Sizeof(oooRange{}), unsafe.Sizeof(sentRange{}))
	}
	// One more byte than a size class of the allocator costs the next one.
	if n := unsafe.Sizeof(Conn{}); n > 512 {
		t.Errorf("Conn takes %d bytes", n)
	}
	if n := unsafe.Sizeof(flight{}); n > uintptr(flightSize) {
		t.Errorf("flight takes %d bytes, charged as %d", n, flightSize)
	}
}
