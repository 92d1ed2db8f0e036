package socket

import (
	"sync"
	"time"
)

// deadline is an instant after which waiting is over, for any number of
// waiters, and which may be moved while they wait.
type deadline struct {
	mu    sync.Mutex // guards timer and ch
	timer *time.Timer
	ch    chan struct{} // closed when the deadline has passed
}

func (d *deadline) init() { d.ch = make(chan struct{}) }

// set moves the deadline; the zero time removes it.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		// Its function runs or has run: wait for the channel it closes, so
		// that the new one is not closed in its place.
		<-d.ch
	}
	d.timer = nil
	past := false
	select {
	case <-d.ch:
		past = true
	default:
	}
	wait := time.Until(t)
	switch {
	case t.IsZero():
		if past {
			d.ch = make(chan struct{})
		}
	case wait <= 0:
		if !past {
			close(d.ch)
		}
	default:
		if past {
			d.ch = make(chan struct{})
		}
		ch := d.ch
		d.timer = time.AfterFunc(wait, func() { close(ch) })
	}
}

// passed returns a channel that is closed once the deadline has passed.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ch
}

func (d *deadline) isPast() bool {
	select {
	case <-d.passed():
		return true
	default:
		return false
	}
}

// stop releases the timer.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}
