package main

import (
	"strings"
	"testing"
	"time"
)

// TestWanReport: a row tells whether the median of the ratios is enough.
func TestWanReport(t *testing.T) {
	o := &options{rounds: 3, wan: time.Second, cc: "cubic"}
	list := []peer{&tapstack{}, &gvisor{}, &kernel{}}
	text := string(wanReport(o, list, func(way int, l line, p peer) []float64 {
		switch {
		case l.loss != 1 || l.delay != 25*time.Millisecond:
			return nil
		case p.name() == vethOff:
			return []float64{2, 2, 2}
		case p.name() == gvisorTAP:
			return []float64{1, 1, 1}
		case way == 0:
			return []float64{1, 1.96, 2}
		}
		return []float64{1.8, 1.8, 4}
	}))
	for _, want := range []string{"| 1 % loss, 50 ms | 2.00 ", "0.98 [0.50-1.00] | yes |", "0.90 [0.90-2.00] | no |", "1.96 [1.00-2.00] |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "50 ms |"); n != 2 {
		t.Errorf("%d rows", n)
	}
}

func TestLineArgs(t *testing.T) {
	l := line{loss: 0.1, delay: 5 * time.Millisecond, mbit: 100, reorder: 1}
	if got, want := strings.Join(l.args(), " "), "0.1 5ms 100 1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := l.String(), "0.1 % loss, 10 ms, 100 Mbit/s, 1 % reordered by 3"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
