package socket

// This file owns waiting: what each direction of a socket has for it, and the
// one place in the project where a goroutine sleeps until the stack has news.

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// half is one direction of a socket: its deadline, which may be moved while
// any number of goroutines wait for it, those who wait, and a place in wait
// queues to be used again. A socket that nobody waits for has no channel.
type half struct {
	mu      sync.Mutex  // guards everything below
	at      time.Time   // when the deadline will pass; zero: never, or it has
	timer   *time.Timer // runs expire, perhaps too early; nil until needed
	past    bool        // the deadline has passed
	ended   bool
	taken   bool         // a Send is under way: the others wait for their turn
	timeout atomic.Int64 // SO_RCVTIMEO or SO_SNDTIMEO in ns, 0: none
	idle    *parker      // to be used again
	parked  *parker      // who waits, the newest first
}

// set moves the deadline; the zero time removes it.
func (h *half) set(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return net.ErrClosed
	}
	now := time.Now()
	wait := t.Sub(now)
	h.at = time.Time{}
	if t.IsZero() || wait <= 0 {
		h.past = !t.IsZero()
		if h.timer != nil {
			h.timer.Stop()
		}
		if h.past {
			h.wakeLocked()
		}
		return nil
	}
	h.past = false
	if h.timer == nil {
		h.timer = time.AfterFunc(wait, h.expire)
	} else {
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
	h.at, h.past = time.Time{}, true
	h.wakeLocked()
}

// look lets all who wait look what has happened.
func (h *half) look() {
	h.mu.Lock()
	h.wakeLocked()
	h.mu.Unlock()
}

// wakeLocked is look.
func (h *half) wakeLocked() {
	for p := h.parked; p != nil; p = p.next {
		p.wake(0)
	}
}

// isPast reports whether the deadline has passed.
func (h *half) isPast() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.past
}

// end releases the timer and wakes all who wait.
func (h *half) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.wakeLocked()
}

// parker is a goroutine that waits. Each belongs to one half of one socket: a
// pool for all would carry channels from one testing/synctest bubble into the
// next.
type parker struct {
	w          stack.Waiter
	news       chan struct{} // holds a token when something may have changed
	next, prev *parker       // in half.parked
	turn       uint8         // guarded by half.mu
	sink       tcp.Sink      // where text goes that a reader waits for
}

// wake puts a token into p's channel, if there is none.
func (p *parker) wake(stack.Ready) {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// park enters the caller among those who wait.
func (h *half) park() *parker {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.idle
	h.idle = nil
	if p == nil {
		p = &parker{news: make(chan struct{}, 1)}
		p.w.F = p.wake
	}
	p.prev, p.next = nil, h.parked
	if p.next != nil {
		p.next.prev = p
	}
	h.parked = p
	return p
}

// unpark takes p out and keeps it for the next time. A token that is put into
// it late makes somebody look once more than needed.
func (h *half) unpark(p *parker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		h.parked = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.next, p.prev = nil, nil
	h.idle = p
}

// The turn of a parker.
const (
	turnNone uint8 = iota // not what it waits for
	turnWanted
	turnGiven
)

// takeTurn waits until no other Send is under way, in the order of the calls.
func (f *FD) takeTurn(ctx context.Context) error {
	h := &f.write
	if h.turn(nil) {
		return nil
	}
	p := h.park()
	defer h.unpark(p)
	for !h.turn(p) {
		if err := f.mayWait(ctx, h); err != nil {
			h.mu.Lock()
			if p.turn == turnGiven {
				h.passTurnLocked() // just now
			}
			p.turn = turnNone
			h.mu.Unlock()
			return err
		}
		select {
		case <-p.news:
		case <-ctx.Done():
		}
	}
	return nil
}

// turn reports whether it is the caller's turn, who is p if it waits.
func (h *half) turn(p *parker) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	mine := !h.taken || p != nil && p.turn == turnGiven
	if p != nil {
		p.turn = turnWanted
		if mine {
			p.turn = turnNone
		}
	}
	h.taken = true
	return mine
}

// leaveTurn lets the next Send begin.
func (f *FD) leaveTurn() {
	f.write.mu.Lock()
	f.write.passTurnLocked()
	f.write.mu.Unlock()
}

// passTurnLocked gives the turn to whoever has waited longest for it.
func (h *half) passTurnLocked() {
	var next *parker
	for p := h.parked; p != nil; p = p.next {
		if p.turn == turnWanted {
			next = p
		}
	}
	if h.taken = next != nil; h.taken {
		next.turn = turnGiven
		next.wake(0)
	}
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

// waitText is wait for a reader of a stream who has b for what arrives: it may
// be there already when waiting ends, n bytes of it.
func (f *FD) waitText(ctx context.Context, c *stack.TCPConn, b []byte) (n int, err error) {
	h := &f.read
	p := h.park()
	p.w.Want = stack.ReadyIn
	q := c.Waiters()
	q.Add(&p.w)
	if err = f.mayWait(ctx, h); err == nil && c.Offer(&p.sink, b) {
		if ctx == background {
			<-p.news
		} else {
			select {
			case <-p.news:
			case <-ctx.Done():
			}
		}
		n = c.Collect(&p.sink)
	}
	q.Remove(&p.w)
	h.unpark(p)
	return n, err
}

func (f *FD) sleep(ctx context.Context, p *parker, e endpoint, want stack.Ready, h *half) error {
	// Only now, in the queues, can nothing be missed.
	if e.Ready()&(want|stack.ReadyErr|stack.ReadyHup) != 0 || f.isShut(h) {
		return nil
	}
	if err := f.mayWait(ctx, h); err != nil {
		return err
	}
	select {
	case <-p.news:
		return nil
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
