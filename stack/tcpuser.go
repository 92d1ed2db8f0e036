package stack

import (
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns what the user of a connection calls to move bytes and to set
// how it behaves. None of it waits.

// Read takes received bytes. EAGAIN when there are none, io.EOF at the end.
func (c *TCPConn) Read(p []byte) (int, error) { return c.Recv(p, 0) }

// Recv is Read with flags.
func (c *TCPConn) Recv(p []byte, flags tcp.RecvFlags) (int, error) {
	c.mu.Lock()
	n, err := c.core.Recv(p, flags)
	var ready Ready
	if n > 0 && flags&tcp.RecvPeek == 0 {
		ready = c.outputLocked(c.stack.clock.Now()) // the window may have opened
	}
	c.mu.Unlock()
	c.waiters.Wake(ready)
	return n, err
}

// Offer is for a reader who finds nothing and is about to wait: text that
// arrives goes to p, as tcp.Conn.Offer says, until Collect. It returns false
// when there is something to be had already, and nothing is to be waited for.
func (c *TCPConn) Offer(s *tcp.Sink, p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readyLocked(1)&(ReadyIn|ReadyErr|ReadyHup) != 0 {
		return false
	}
	c.core.Offer(s, p)
	return true
}

// Collect ends an Offer and returns how many bytes have come.
func (c *TCPConn) Collect(s *tcp.Sink) int {
	c.mu.Lock()
	n := c.core.Collect(s)
	var ready Ready
	if n > 0 {
		ready = c.outputLocked(c.stack.clock.Now()) // the window may have opened
	}
	c.mu.Unlock()
	c.waiters.Wake(ready)
	return n
}

// ReadUrgent takes the byte at the mark of urgent data (MSG_OOB), or looks at
// it (peek). Errors: EINVAL, EAGAIN, ENOTCONN, io.EOF as tcp.Conn.ReadUrgent.
func (c *TCPConn) ReadUrgent(p []byte, peek bool) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.ReadUrgent(p, peek)
}

// Write gives bytes to be sent; it may take fewer. EAGAIN when the send
// buffer is full or the connection is not yet open, EINPROGRESS when an empty
// Write lets the SYN of DialTCPFast go.
func (c *TCPConn) Write(p []byte) (int, error) { return c.Send(p, 0) }

// Send is Write with flags.
func (c *TCPConn) Send(p []byte, flags tcp.SendFlags) (n int, err error) {
	c.mu.Lock()
	if c.core.InRepair() {
		n, err = c.core.RepairWrite(c.tickLocked(c.stack.clock.Now()), p)
		c.mu.Unlock()
		c.waiters.Wake(ReadyIn)
		return n, err
	}
	var ready Ready
	for {
		var m int
		m, err = c.core.Send(p[n:], flags)
		if n += m; m > 0 || err == syscall.EINPROGRESS {
			ready |= c.outputLocked(c.stack.clock.Now())
		}
		if m == 0 || n == len(p) || c.core.Err() != nil {
			break
		}
		// What has just left may have made room (KnobNotSentLowat).
	}
	if n > 0 {
		err = nil
	}
	c.mu.Unlock()
	c.waiters.Wake(ready)
	return n, err
}

// SetKnob changes a setting. Errors as tcp.Conn.SetKnob.
func (c *TCPConn) SetKnob(id tcp.Knob, v int) (err error) {
	c.act(func(now mono.Time) {
		err = c.core.SetKnob(now, id, v)
		c.lowat.Store(int32(c.core.Knob(tcp.KnobRcvLowat)))
	})
	return err
}

// Knob returns a setting as it is in force.
func (c *TCPConn) Knob(id tcp.Knob) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Knob(id)
}

// SetNoDelay turns Nagle's algorithm off or on.
func (c *TCPConn) SetNoDelay(on bool) {
	v := 0
	if on {
		v = 1
	}
	c.SetKnob(tcp.KnobNoDelay, v)
}

// AtMark reports whether the reader is at the mark of urgent data.
func (c *TCPConn) AtMark() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.AtMark()
}

// TakeError returns and forgets the pending error (SO_ERROR).
func (c *TCPConn) TakeError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.TakeErr()
}

// PutError undoes a TakeError, or the call that has returned the error of a
// failed connection.
func (c *TCPConn) PutError() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.PutErr()
}

// Final reports whether a read can get no more than n bytes, however long it
// waits.
func (c *TCPConn) Final(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Final(n)
}

func (c *TCPConn) setLowat(k *tcp.Knobs) { c.lowat.Store(int32(k.Get(tcp.KnobRcvLowat))) }

// Lowat is KnobRcvLowat, without a lock.
func (c *TCPConn) Lowat() int { return max(int(c.lowat.Load()), 1) }

// Queued returns what waits in the connection.
func (c *TCPConn) Queued() tcp.Queued {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Queued()
}

// countOrphanLocked counts a connection that its user has just left among the
// orphans, or resets it when there are too many.
func (c *TCPConn) countOrphanLocked(now mono.Time) {
	if st := c.core.State(); c.removed || st == tcp.Closed || st == tcp.TimeWait {
		return
	}
	t := &c.stack.tcp
	if t.orphan.Add(1) > int64(c.stack.limits.Orphans) {
		t.orphan.Add(-1)
		c.stack.stats.TCP.OrphanLimit.inc()
		c.core.Abort(now)
		return
	}
	c.counted = true
}

// Lingering reports whether something written, or the FIN after it, has not
// been acknowledged yet: what SO_LINGER waits for.
func (c *TCPConn) Lingering() bool {
	switch c.State() {
	case tcp.FinWait1, tcp.Closing, tcp.LastAck:
		return true
	}
	return false
}
