package probe

import (
	"context"
	"sync"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what Ping, Trace, Paths and MTU have in common: a state machine
// that goes on when a result comes or its timer is due. It holds its own lock
// while it does, and calls whoever started it without.

// session is the frame of such a machine. Its lock is taken before the Prober's.
type session struct {
	p     *Prober
	mu    sync.Mutex
	timer timer
	gone  func()   // with the lock, ends it when the Prober is closed while nothing is under way
	calls []func() // to be made without the lock, in order
	busy  bool     // somebody makes them
	over  bool
}

// init sets what the timer does, and what is to be done when there is none any
// more; both with the lock held.
func (s *session) init(p *Prober, tick func(now mono.Time), gone func()) {
	s.p, s.gone = p, gone
	s.timer.f = func(now mono.Time) func() {
		return func() {
			s.mu.Lock()
			if !s.over {
				tick(now)
			}
			s.unlock()
		}
	}
}

// unlock lets go of the lock and makes the calls that came up under it. While
// one is made others may come up elsewhere: they follow it.
func (s *session) unlock() {
	if s.busy {
		s.mu.Unlock()
		return
	}
	s.busy = true
	for len(s.calls) > 0 {
		f := s.calls[0]
		s.calls = s.calls[1:]
		s.mu.Unlock()
		f()
		s.mu.Lock()
	}
	s.calls = nil
	s.busy = false
	s.mu.Unlock()
}

// later makes f a call without the lock.
func (s *session) later(f func()) { s.calls = append(s.calls, f) }

// wake sets the timer. That of a Prober which is closed never runs: who would
// wait for it has ended.
func (s *session) wake(when mono.Time) {
	s.p.mu.Lock()
	closed := s.p.closed
	if !closed {
		s.p.setLocked(&s.timer, when)
	}
	s.p.mu.Unlock()
	if closed && when != 0 && !s.over {
		s.gone()
	}
}

// send sends a probe once the lock is free; f is called with the lock.
func (s *session) send(q Request, f func(Result)) {
	s.later(func() {
		s.p.Send(q, func(r Result) {
			s.mu.Lock()
			f(r)
			s.unlock()
		})
	})
}

// end makes f the last call.
func (s *session) end(f func()) {
	if !s.over {
		s.over = true
		s.wake(0)
		s.later(f)
	}
}

// wait runs start, which is to call done in the end with the result, and waits for
// that. When ctx ends it calls what start returned, which makes done come soon.
func wait[R any](ctx context.Context, start func(done func(R)) (stop func())) (r R) {
	c := make(chan struct{})
	stop := start(func(x R) {
		r = x
		close(c)
	})
	select {
	case <-c:
	case <-ctx.Done():
		stop()
		<-c
	}
	return r
}
