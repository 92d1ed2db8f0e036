package wheel

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

func TestOrderAndLazyRearming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := mono.NewSystem()
		q := New(clock)
		start := clock.Now()
		var got []string
		add := func(name string, d time.Duration) *Timer {
			tm := &Timer{}
			tm.Owner = Func(func(mono.Time) { got = append(got, name) })
			q.Arm(tm, start.Add(d))
			return tm
		}
		add("c", 3*time.Second)
		add("a1", time.Second)
		add("a2", time.Second)
		late := add("late", 5*time.Second)
		gone := add("gone", 2*time.Second)
		q.Stop(gone)
		q.Arm(late, start.Add(9*time.Second)) // later: keeps its earlier place
		q.Arm(late, start.Add(2*time.Second)) // earlier: moves
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if want := []string{"a1", "a2", "late", "c"}; !slices.Equal(got, want) {
			t.Fatalf("fired %v, want %v", got, want)
		}
		if q.Len() != 0 {
			t.Fatalf("%d timers left", q.Len())
		}
		q.Close()
	})
}

func TestTimerMayArmItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := mono.NewSystem()
		q := New(clock)
		n := 0
		tm := &Timer{}
		tm.Owner = Func(func(now mono.Time) {
			if n++; n < 1000 {
				q.Arm(tm, now.Add(time.Millisecond))
			}
		})
		q.Arm(tm, clock.Now().Add(time.Millisecond))
		time.Sleep(2 * time.Second)
		if n != 1000 {
			t.Fatalf("fired %d times", n)
		}
		q.Close()
		q.Arm(tm, clock.Now())
		time.Sleep(time.Second)
		if n != 1000 {
			t.Fatal("fired after Close")
		}
	})
}
