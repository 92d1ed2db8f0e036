package socket

// This file owns what is particular to streams: receiving with its flags and
// marks, and the end of a connection whose user wants to know how it goes.

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// sendFlags translates MSG_ flags.
func sendFlags(flags int) (s tcp.SendFlags) {
	if flags&MSG_MORE != 0 {
		s |= tcp.SendMore
	}
	if flags&MSG_OOB != 0 {
		s |= tcp.SendUrgent
	}
	if flags&MSG_EOR != 0 {
		s |= tcp.SendRecord
	}
	return s
}

// bytes is a connection as an endpoint that is ready with least bytes.
type bytes struct {
	*stack.TCPConn
	least int
}

func (b bytes) Ready() stack.Ready { return b.ReadyAt(b.least) }

// recvStream waits for a byte, for SO_RCVLOWAT bytes or, with MSG_WAITALL, for
// as many as fit into b. The end of the stream, a mark of urgent data and a
// failure end the waiting once there is something to return; the failure is
// then for the next call.
func (f *FD) recvStream(b []byte, flags int) (int, error) {
	c, err := f.stream()
	if err == syscall.ENOTCONN && flags&MSG_OOB != 0 && !f.isListening() {
		return 0, syscall.EINVAL // as Linux: there is no urgent data
	}
	if err == syscall.ENOTCONN {
		err = f.repairRecv(flags)
	}
	if err != nil {
		return 0, err
	}
	if flags&MSG_OOB != 0 {
		if err := f.mayWait(background, &f.read); err != nil {
			return 0, err
		}
		return c.ReadUrgent(b, flags&MSG_PEEK != 0)
	}
	target := min(c.Lowat(), len(b))
	if flags&MSG_WAITALL != 0 {
		target = len(b)
	}
	ctx, end := f.read.limited(background, syscall.EAGAIN)
	defer end()
	if flags&MSG_PEEK != 0 {
		return f.peekStream(ctx, c, b, target, flags)
	}
	got, how := 0, tcp.RecvFlags(0)
	for {
		err := f.mayWait(ctx, &f.read)
		n := 0
		if err == nil {
			n, err = c.Recv(b[got:], how)
			got += n
		}
		if len(b) == 0 && err == nil && c.ReadyAt(1)&stack.ReadyIn == 0 {
			err = syscall.EAGAIN // as Linux: no bytes are waited for like one
		}
		switch {
		case n > 0 && got < target && flags&MSG_DONTWAIT == 0:
			how = tcp.RecvMore
			continue
		case got > 0 && (err != syscall.EAGAIN || flags&MSG_DONTWAIT != 0):
			return got, nil // an error is for the next call
		case err == nil:
			return 0, nil
		case got == 0 && f.closed.Load():
			return 0, net.ErrClosed
		case err != syscall.EAGAIN || flags&MSG_DONTWAIT != 0:
			return 0, err
		}
		if f.held.CompareAndSwap(true, false) {
			c.Connect() // or there would be nothing to wait for
		}
		n, err = f.waitText(ctx, c, b[got:])
		switch got += n; {
		case err != nil && got == 0:
			return 0, err
		case err != nil || n > 0 && got >= target:
			return got, nil
		case n > 0:
			how = tcp.RecvMore
		}
	}
}

// peekStream is recvStream with MSG_PEEK: every look begins at the front.
func (f *FD) peekStream(ctx context.Context, c *stack.TCPConn, b []byte, target, flags int) (int, error) {
	for {
		if err := f.mayWait(ctx, &f.read); err != nil {
			return 0, err
		}
		n, err := c.Recv(b, tcp.RecvPeek)
		switch {
		case len(b) == 0 && err == nil && c.ReadyAt(1)&stack.ReadyIn == 0:
			err = syscall.EAGAIN
			if flags&MSG_DONTWAIT != 0 {
				return 0, err
			}
		case err == nil && (n >= target || flags&MSG_DONTWAIT != 0 || c.Final(n)):
			return n, nil
		case err != nil && f.closed.Load():
			return 0, net.ErrClosed
		case err != nil && (err != syscall.EAGAIN || flags&MSG_DONTWAIT != 0):
			return 0, err
		}
		if f.held.CompareAndSwap(true, false) {
			c.Connect()
		}
		if err := f.wait(ctx, bytes{c, n + 1}, stack.ReadyIn, &f.read); err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
	}
}

// closeStream ends a connection as SO_LINGER says.
func closeStream(c *stack.TCPConn) {
	sec := c.Knob(tcp.KnobLinger)
	if sec == 0 {
		c.Abort()
		return
	}
	c.Close()
	if sec < 0 {
		return
	}
	news := make(chan struct{}, 1)
	w := &stack.Waiter{Want: stack.ReadyOut, F: func(stack.Ready) {
		select {
		case news <- struct{}{}:
		default:
		}
	}}
	c.Waiters().Add(w)
	defer c.Waiters().Remove(w)
	over := time.NewTimer(time.Duration(sec) * time.Second)
	defer over.Stop()
	for c.Lingering() {
		select {
		case <-news:
		case <-over.C:
			return
		}
	}
}
