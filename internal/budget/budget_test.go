package budget

import (
	"sync"
	"testing"
)

func TestMarks(t *testing.T) {
	pressed := 0
	b := New(800, func() { pressed++ })
	if !b.Grow(599) || b.Pressure() || pressed != 0 {
		t.Fatalf("599 of 800: pressure %v, told %d times", b.Pressure(), pressed)
	}
	if !b.Grow(1) || !b.Pressure() || pressed != 1 {
		t.Fatalf("600 of 800: pressure %v, told %d times", b.Pressure(), pressed)
	}
	if !b.Fits(100) || b.Fits(101) || b.Grow(101) || b.Used() != 600 {
		t.Fatalf("growth beyond 7/8: used %d", b.Used())
	}
	if !b.Grow(100) || b.Grow(1) {
		t.Fatal("growth ends at 7/8")
	}
	if !b.Take(100) || b.Take(1) || b.Used() != 800 {
		t.Fatalf("new things end at the limit: used %d", b.Used())
	}
	if !b.Full() {
		t.Fatal("800 of 800 is not full")
	}
	b.Charge(50)
	if b.Used() != 850 || pressed != 1 {
		t.Fatalf("used %d, told %d times", b.Used(), pressed)
	}
	b.Charge(-100)
	b.Return(151)
	if b.Used() != 599 || b.Pressure() {
		t.Fatalf("used %d", b.Used())
	}
	if b.Charge(1); pressed != 2 {
		t.Fatal("not told the second time")
	}
	if b.Limit() != 800 {
		t.Fatal("limit")
	}
}

func TestNilRefusesNothing(t *testing.T) {
	var b *Budget
	b.Charge(1 << 40)
	b.Return(1)
	if !b.Take(1<<40) || !b.Grow(1<<40) || !b.Fits(1<<40) || b.Pressure() || b.Full() || b.Used() != 0 || b.Limit() != 0 {
		t.Error("a nil budget has an opinion")
	}
}

// TestConcurrent: whoever is refused has taken nothing, and the sum is right.
func TestConcurrent(t *testing.T) {
	b := New(1000, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10_000 {
				if b.Take(300) {
					b.Return(300)
				}
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 || !b.Take(1000) {
		t.Errorf("used %d afterwards", b.Used())
	}
}
