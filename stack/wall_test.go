package stack

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// shifted is a clock that somebody may set.
type shifted struct {
	mono.Clock
	by time.Duration
}

func (s *shifted) Now() mono.Time { return s.Clock.Now().Add(s.by) }

// TestWall: an instant has one time of the calendar, whenever it is asked for,
// until the two clocks part.
func TestWall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &shifted{Clock: mono.NewSystem()}
		s := New(Config{Clock: c})
		defer s.Close()
		at, now := c.Now(), time.Now()
		if w := s.wall(at); !w.Equal(now) {
			t.Errorf("%v, want %v", w, now)
		}
		c.by = time.Millisecond // as if somebody else had run between two looks
		if w := s.wall(at); !w.Equal(now) {
			t.Errorf("after a moment: %v, want %v", w, now)
		}
		time.Sleep(time.Hour)
		if w := s.wall(at.Add(time.Minute)); !w.Equal(now.Add(time.Minute)) {
			t.Errorf("after an hour: %v, want %v", w, now.Add(time.Minute))
		}
		c.by = -time.Hour // the machine has slept, and its clock has gone on
		if w := s.wall(c.Now()); !w.Equal(time.Now()) {
			t.Errorf("after an hour of sleep: %v, want %v", w, time.Now())
		}
	})
}
