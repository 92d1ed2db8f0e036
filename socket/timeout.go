package socket

// This file owns SO_RCVTIMEO and SO_SNDTIMEO: how long a call waits that nothing
// else ends. The time is that of the whole call.

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// SetReceiveTimeout makes Recv, RecvFrom and Accept fail with EAGAIN once they
// have waited for d (SO_RCVTIMEO); what a Recv has by then it returns. 0 is
// without end, below 0 at once. EDOM is not returned: a Duration is normal.
func (f *FD) SetReceiveTimeout(d time.Duration) error { return f.setTimeout(&f.read, d) }

// SetSendTimeout is the same for Send and SendTo, and for Connect, which fails
// with EINPROGRESS and goes on in the background (SO_SNDTIMEO).
func (f *FD) SetSendTimeout(d time.Duration) error { return f.setTimeout(&f.write, d) }

func (f *FD) setTimeout(h *half, d time.Duration) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	h.timeout.Store(int64(d))
	return nil
}

// ReceiveTimeout returns what SetReceiveTimeout set.
func (f *FD) ReceiveTimeout() time.Duration { return time.Duration(f.read.timeout.Load()) }

// SendTimeout returns what SetSendTimeout set.
func (f *FD) SendTimeout() time.Duration { return time.Duration(f.write.timeout.Load()) }

// callLimit is the context of one call that has a time-out.
type callLimit struct {
	context.Context // the caller's
	done            chan struct{}
	over            atomic.Bool
	errno           syscall.Errno
}

func (l *callLimit) Done() <-chan struct{} { return l.done }

func (l *callLimit) Err() error {
	if l.over.Load() {
		return l.errno
	}
	return l.Context.Err()
}

func nothing() {}

// limited returns the context for a call that begins now, whose Err is errno
// when it has lasted too long. end must be called.
func (h *half) limited(ctx context.Context, errno syscall.Errno) (limit context.Context, end func()) {
	d := time.Duration(h.timeout.Load())
	if d == 0 {
		return ctx, nothing
	}
	l := &callLimit{Context: ctx, done: make(chan struct{}), errno: errno}
	var once atomic.Bool
	finish := func() {
		if once.CompareAndSwap(false, true) {
			close(l.done)
		}
	}
	stop := context.AfterFunc(ctx, finish)
	t := time.AfterFunc(max(d, 0), func() {
		l.over.Store(true)
		finish()
	})
	return l, func() {
		t.Stop()
		stop()
	}
}
