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
	if n := unsafe.Sizeof(Conn{}); n > 1800 {
		t.Errorf("Conn takes %d bytes", n)
	}
}
