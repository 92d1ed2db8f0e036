package socket

// This file owns waiting: what each direction of a socket has for it, and the
// one place in the project where a goroutine sleeps until the stack has news.

import (
	"context"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// half is one direction of a socket: its deadline, which may be moved while
// any number of goroutines wait for it, and a place in wait queues to be used
// again.
type half struct {
	mu    sync.Mutex    // guards everything below
	past  chan struct{} // closed when the deadline has passed
	at    time.Time     // when it will pass; zero: never, or it has
	timer *time.Timer   // runs expire, perhaps too early; nil until needed
	ended bool
	idle  *parker
}

func (h *half) init() { h.past = make(chan struct{}) }

// set moves the deadline; the zero time removes it.
func (h *half) set(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return net.ErrClosed
	}
	now := time.Now()
	wait := t.Sub(now)
	if t.IsZero() || wait > 0 {
		if h.isPastLocked() {
			h.past = make(chan struct{})
		}
	} else if !h.isPastLocked() {
		close(h.past)
	}
	h.at = time.Time{}
	switch {
	case t.IsZero() || wait <= 0:
		if h.timer != nil {
			h.timer.Stop()
		}
		return nil
	case h.timer == nil:
		h.timer = time.AfterFunc(wait, h.expire)
	default:
		h.timer.Reset(wait)
	}
	// By the monotonic clock from here on, whatever t was made from.
	h.at = now.Add(wait)
	return nil
}

// expire is the timer's function. It may be late, when the deadline has been
// moved since, and then looks again.
func (h *half) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() || h.ended {
		return
	}
	if wait := time.Until(h.at); wait > 0 {
		h.timer.Reset(wait)
		return
	}
	h.at = time.Time{}
	close(h.past)
}

func (h *half) isPastLocked() bool {
	select {
	case <-h.past:
		return true
	default:
		return false
	}
}

// isPast reports whether the deadline has passed.
func (h *half) isPast() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.isPastLocked()
}

// passed returns a channel that is closed once the deadline has passed. It
// stays good while the deadline is moved, until it has passed.
func (h *half) passed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.past
}

// end releases the timer.
func (h *half) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

// parker is a goroutine's place in a wait queue. Each belongs to one half of
// one socket: a pool for all would carry channels from one testing/synctest
// bubble into the next.
type parker struct {
	w    stack.Waiter
	news chan struct{} // holds a token when something may have changed
}

func (h *half) park() *parker {
	h.mu.Lock()
	p := h.idle
	h.idle = nil
	h.mu.Unlock()
	if p == nil {
		p = &parker{news: make(chan struct{}, 1)}
		p.w.F = func(stack.Ready) {
			select {
			case p.news <- struct{}{}:
			default:
			}
		}
	}
	return p
}

// unpark keeps p for the next time. A token that is put into it late makes
// somebody look once more than needed.
func (h *half) unpark(p *parker) {
	h.mu.Lock()
	h.idle = p
	h.mu.Unlock()
}

// background is for calls that take no context.
var background = context.Background()

// endpoint is what can be waited for.
type endpoint interface {
	Ready() stack.Ready
	Waiters() *stack.WaitQueue
}

// wait returns nil when e may be ready for want, so that it is time to try
// again, or the reason why it will not wait any longer.
func (f *FD) wait(ctx context.Context, e endpoint, want stack.Ready, h *half) error {
	p := h.park()
	p.w.Want = want
	q := e.Waiters()
	q.Add(&p.w)
	err := f.sleep(ctx, p, e, want, h)
	q.Remove(&p.w)
	h.unpark(p)
	return err
}

func (f *FD) sleep(ctx context.Context, p *parker, e endpoint, want stack.Ready, h *half) error {
	// Only now, in the queue, can nothing be missed.
	if e.Ready()&(want|stack.ReadyErr|stack.ReadyHup) != 0 || f.isShut(h) {
		return nil
	}
	select {
	case <-p.news:
		return nil
	case <-h.passed():
		return os.ErrDeadlineExceeded
	case <-f.done:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayWait returns why a call must not even begin: closed, cancelled, too late.
func (f *FD) mayWait(ctx context.Context, h *half) error {
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case h.isPast():
		return os.ErrDeadlineExceeded
	}
	return nil
}
