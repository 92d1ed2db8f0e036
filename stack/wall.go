package stack

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// clockSlack is how far the two clocks may be apart before somebody must have
// set the machine's, or the machine has slept.
const clockSlack = 50 * time.Millisecond

// wall is an instant of the stack's clock by the calendar, for timestamps. As
// long as nobody sets the machine's clock it answers the same for the same
// instant, and instants are as far apart as they were.
func (s *Stack) wall(at mono.Time) time.Time {
	epoch := s.epoch.Load()
	now := time.Now().UnixNano() - int64(s.clock.Now())
	if d := time.Duration(now - epoch); d > clockSlack || d < -clockSlack {
		epoch = now
		s.epoch.Store(epoch)
	}
	return time.Unix(0, epoch+int64(at))
}
