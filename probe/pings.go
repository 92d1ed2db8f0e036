package probe

// This file owns several pings at once: their beginnings are spread out, so that
// a list of hosts is not a burst of packets, and each goes on by itself.

import (
	"context"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// Pings are several pings under way.
type Pings struct {
	session
	list    []PingRequest
	pause   time.Duration
	on      func(i int, x PingPacket)
	done    func([]PingResult)
	r       []PingResult
	begun   []*Pinging
	next    int // the next to begin
	left    int
	stopped bool
}

// StartPings begins a ping for each request, one every pause. on, unless nil, is
// told what happens to which; done what has become of all: one call at a time.
// Each takes an identifier of its own, of which there are 65535.
func (p *Prober) StartPings(list []PingRequest, pause time.Duration, on func(i int, x PingPacket), done func([]PingResult)) *Pings {
	if on == nil {
		on = func(int, PingPacket) {}
	}
	s := &Pings{list: list, pause: max(pause, 0), on: on, done: done, r: make([]PingResult, len(list)), begun: make([]*Pinging, len(list)), left: len(list)}
	s.init(p, s.tick, s.closed)
	s.mu.Lock()
	defer s.unlock()
	if s.left == 0 {
		s.end(func() { done(nil) })
		return s
	}
	s.tick(p.Now())
	return s
}

// tick begins the next, and without a pause all of them.
func (s *Pings) tick(now mono.Time) {
	for s.next < len(s.list) && !s.stopped {
		i := s.next
		s.next++
		s.later(func() { s.begin(i) })
		if s.pause > 0 {
			break
		}
	}
	if s.next < len(s.list) {
		s.wake(now.Add(s.pause))
	}
}

// begin starts the i-th, without the lock: it may be over before StartPing returns.
func (s *Pings) begin(i int) {
	x := s.p.StartPing(s.list[i], func(x PingPacket) {
		s.mu.Lock()
		s.later(func() { s.on(i, x) })
		s.unlock()
	}, func(r PingResult) {
		s.mu.Lock()
		s.r[i] = r
		s.endedLocked(1)
		s.unlock()
	})
	s.mu.Lock()
	s.begun[i] = x
	stopped := s.stopped
	s.unlock()
	if stopped {
		x.Stop()
	}
}

func (s *Pings) endedLocked(n int) {
	if s.left -= n; s.left == 0 {
		s.end(func() { s.done(s.r) })
	}
}

// neverLocked gives up those that have not begun.
func (s *Pings) neverLocked(err error) {
	s.stopped = true
	first := s.next
	s.next = len(s.list)
	for i := range s.r[first:] {
		s.r[first+i].Err = err
	}
	s.endedLocked(len(s.list) - first)
}

func (s *Pings) closed() { s.neverLocked(ErrClosed) }

// Stop ends all of them now; those that have not begun never do.
func (s *Pings) Stop() {
	s.mu.Lock()
	if s.over || s.stopped {
		s.unlock()
		return
	}
	s.neverLocked(nil)
	s.wake(0)
	var list []*Pinging
	for _, x := range s.begun {
		if x != nil {
			list = append(list, x)
		}
	}
	s.unlock()
	for _, x := range list {
		x.Stop()
	}
}

// Pings pings several hosts and waits until all are done or ctx ends, which is no
// error. on, unless nil, is told what happens on the way.
func (p *Prober) Pings(ctx context.Context, list []PingRequest, pause time.Duration, on func(i int, x PingPacket)) []PingResult {
	return wait(ctx, func(done func([]PingResult)) func() { return p.StartPings(list, pause, on, done).Stop })
}
