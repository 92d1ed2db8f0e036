package dhcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// Manual is a runner that its test drives: see package bothtest.
type Manual struct{ *Runner }

// NewManual makes one that calls wake when it wants a turn.
func NewManual(nic *stack.Interface, opt RunOptions, now mono.Time, wake func()) (Manual, error) {
	r, err := newRunner(nic, opt, now, wake)
	return Manual{r}, err
}

// Turn and Stop are those of bothtest.Runner.
func (m Manual) Turn(now mono.Time) (next mono.Time, ended bool) { return m.turn(now) }
func (m Manual) Stop()                                           { m.loop.Stop() }
