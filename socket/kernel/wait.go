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

	mu sync.Mutex // guards at, and that the poller has it
	at time.Time  // the program's deadline; zero: none
}

func (h *half) set(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = t
	return h.deadline(t)
}

// wake ends the waits that are under way.
func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline(time.Unix(1, 0))
}

// over reports whether the program's deadline has passed; if not, the poller
// gets it again.
func (h *half) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && !time.Now().Before(h.at) {
		return true
	}
	h.deadline(h.at)
	return false
}

// waits reports whether a call with these flags is to wait.
func (s *Socket) waits(flags int) bool { return flags&unix.MSG_DONTWAIT == 0 && !s.async.Load() }

// do calls try until it returns something else than EAGAIN and EINTR.
func (s *Socket) do(ctx context.Context, h *half, flags int, try func(fd int) error) error {
	stop := context.AfterFunc(ctx, h.wake)
	defer stop()
	for {
		switch {
		case s.closed.Load():
			return net.ErrClosed
		case ctx.Err() != nil:
			h.over() // the poller's deadline may be the one of wake
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
			if ctx.Err() == nil && h.over() {
				return os.ErrDeadlineExceeded
			}
			// The context ended, or that of another call of this direction.
		default:
			return net.ErrClosed
		}
	}
}
