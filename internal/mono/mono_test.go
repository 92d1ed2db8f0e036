package mono

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestNowIsPositiveInABubble(t *testing.T) {
	if Now() <= 0 {
		t.Errorf("outside: %d", Now())
	}
	synctest.Test(t, func(t *testing.T) {
		before := Now()
		time.Sleep(time.Hour)
		if before <= 0 || Now().Sub(before) != time.Hour {
			t.Errorf("%d, an hour later %d", before, Now())
		}
	})
}

func TestWakeReplacesAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewSystem()
		var calls []int
		at := func(n int, d time.Duration) { c.Wake(Now().Add(d), func() { calls = append(calls, n) }) }
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait() // until the clock's goroutine is done as well
		}
		at(1, time.Second)
		at(2, 2*time.Second) // replaces
		wait(3 * time.Second)
		at(3, time.Second)
		c.Wake(0, nil)
		wait(3 * time.Second)
		at(4, -time.Second) // past: at once
		wait(time.Nanosecond)
		if len(calls) != 2 || calls[0] != 2 || calls[1] != 4 {
			t.Errorf("called: %v", calls)
		}
	})
}
