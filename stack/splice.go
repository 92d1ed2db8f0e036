package stack

// This file owns what saves copies: moving bytes from one connection to another,
// perhaps of another stack, with both locks held; and room in a send buffer that
// is filled with none held.

import (
	"syscall"
	"unsafe"

	"github.com/tapstack/tapstack/tcp"
)

// SpliceTo moves at most limit received bytes to what dst sends, without a
// buffer in between. Its results are those of tcp.Conn.SpliceTo: EAGAIN as rerr
// when nothing was received, as werr when dst is full. dst may be c.
func (c *TCPConn) SpliceTo(dst *TCPConn, limit int) (n int, rerr, werr error) {
	lockPair(c, dst)
	n, rerr, werr = c.core.SpliceTo(dst.core, limit)
	var in, out Ready
	if c != dst {
		if n > 0 {
			in = c.outputLocked(c.stack.clock.Now()) // the window may have opened
		}
		c.mu.Unlock()
	}
	if n > 0 || werr == syscall.EINPROGRESS {
		out = dst.outputLocked(dst.stack.clock.Now())
	}
	dst.mu.Unlock()
	c.waiters.Wake(in)
	dst.waiters.Wake(out)
	return n, rerr, werr
}

// lockPair takes the locks of two connections, which may be one. This is the
// only place where a second one is taken while one is held; so that two proxies
// that go opposite ways do not wait for each other, the one at the lower address
// comes first. What is shared between goroutines does not move.
func lockPair(a, b *TCPConn) {
	switch {
	case a == b:
		a.mu.Lock()
		return
	case uintptr(unsafe.Pointer(a)) > uintptr(unsafe.Pointer(b)):
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
}

// Lend lends at most n bytes of room in the send buffer, as tcp.Conn.Lend. Who
// borrows it may wait for long: a connection that is idle meanwhile gives back
// what it then holds.
func (c *TCPConn) Lend(n int) tcp.Loan {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.core.Lend(n)
	if l.B != nil && !c.removed {
		c.touched = c.tickLocked(c.stack.clock.Now())
		c.armLocked(c.touched)
	}
	return l
}

// Settle ends a loan and sends its first n bytes, or reports that they have to
// be written.
func (c *TCPConn) Settle(l tcp.Loan, n int) bool {
	c.mu.Lock()
	ok := c.core.Settle(l, n)
	var ready Ready
	if ok && n > 0 {
		ready = c.outputLocked(c.stack.clock.Now())
	}
	c.mu.Unlock()
	c.waiters.Wake(ready)
	return ok
}
