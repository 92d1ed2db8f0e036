package seq

import "testing"

func TestArithmeticAcrossTheWrap(t *testing.T) {
	const top = Num(0xffffffff)
	if got := top.Add(1); got != 0 {
		t.Errorf("top+1 = %d, want 0", got)
	}
	if got := Num(5).Sub(top); got != 6 {
		t.Errorf("5-top = %d, want 6", got)
	}
	if got := top.Sub(5); got != -6 {
		t.Errorf("top-5 = %d, want -6", got)
	}
	if !top.Less(0) || Num(0).Less(top) || top.Less(top) || !top.LessEq(top) {
		t.Error("comparison across the wrap is wrong")
	}
	if Max(top, 3) != 3 || Min(top, 3) != top {
		t.Error("Max or Min across the wrap is wrong")
	}
	for _, c := range []struct {
		n, start Num
		size     int
		want     bool
	}{{0, top, 2, true}, {1, top, 2, false}, {top, top, 1, true}, {top, 0, 10, false}, {7, 7, 0, false}} {
		if got := c.n.InWindow(c.start, c.size); got != c.want {
			t.Errorf("%d in [%d,+%d) = %v", c.n, c.start, c.size, got)
		}
	}
}
