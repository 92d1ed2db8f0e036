package dhcp6

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// Manual is a runner that its test drives, so that it works in stack/simnet,
// where there is one goroutine.
type Manual struct{ *Runner }

// NewManual makes a runner that calls wake when it wants a Step.
func NewManual(nic *stack.Interface, opt RunOptions, now mono.Time, wake func()) (Manual, error) {
	r, err := newRunner(nic, opt, now, wake)
	return Manual{r}, err
}

// Step does what is to be done at now and returns when the next one is needed.
func (m Manual) Step(now mono.Time) mono.Time {
	m.step(now)
	if m.ended {
		return 0
	}
	return m.deadline()
}

// Stop is Close for a runner without a goroutine: the next Step ends it.
func (m Manual) Stop() { m.loop.Stop() }
