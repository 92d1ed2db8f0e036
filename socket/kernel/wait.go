package kernel

// This file owns waiting: a call that would block is tried again when the
// runtime's poller says so, until its deadline or context ends.

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// half is one direction of a socket. The poller has one deadline for it, which
// stands for that of the program and, set to the past, wakes a call whose
// context has ended.
type half struct {
	deadline func(time.Time) error             // of the poller
	wait     func(func(fd uintptr) bool) error // until the function returns true

	mu sync.Mutex // guards the rest, and what deadline the poller has
	at time.Time  // the program's deadline; zero: none
	// leaving counts the calls whose context has ended and that have not
	// returned. The poller lets one call wait at a time, so the others stand
	// aside for them.
	leaving int
	aside   sync.Cond // signalled when leaving changes
}

// call is one that may wait; guarded by the half's mu.
type call struct {
	leaving, done bool
}

func (h *half) set(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = t
	if h.leaving > 0 {
		return nil // the last of those that leave does it
	}
	return h.deadline(t)
}

// wake ends the waits that are under way, for a call whose context has ended.
func (h *half) wake(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.done {
		return
	}
	c.leaving = true
	h.leaving++
	h.deadline(time.Unix(1, 0))
	h.aside.Broadcast()
}

// left ends a call.
func (h *half) left(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.done = true; !c.leaving {
		return
	}
	if h.leaving--; h.leaving == 0 {
		h.deadline(h.at)
	}
	h.aside.Broadcast()
}

// over reports whether the program's deadline has passed for a call that the
// poller woke; if not, it may wait again, once those have left whose context
// has ended.
func (h *half) over(c *call) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.leaving > 0 && !c.leaving {
		h.aside.Wait()
	}
	return !c.leaving && !h.at.IsZero() && !time.Now().Before(h.at)
}

// waits reports whether a call with these flags is to wait.
func (s *Socket) waits(flags int) bool { return flags&unix.MSG_DONTWAIT == 0 && !s.async.Load() }

// do calls try until it returns something else than EAGAIN and EINTR.
func (s *Socket) do(ctx context.Context, h *half, flags int, try func(fd int) error) error {
	var c call
	stop := context.AfterFunc(ctx, func() { h.wake(&c) })
	defer h.left(&c)
	defer stop()
	for {
		switch {
		case s.closed.Load():
			return net.ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		err := error(nil)
		waitErr := h.wait(func(fd uintptr) bool {
			for {
				if err = try(int(fd)); err != unix.EINTR {
					return err != unix.EAGAIN || !s.waits(flags)
				}
			}
		})
		switch {
		case waitErr == nil:
			return err
		case errors.Is(waitErr, os.ErrDeadlineExceeded):
			if h.over(&c) && ctx.Err() == nil {
				return os.ErrDeadlineExceeded
			}
			// The context ended, or that of another call of this direction.
		default:
			return net.ErrClosed
		}
	}
}
