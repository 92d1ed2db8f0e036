package stack

import "github.com/tapstack/tapstack/tcp"

// This file owns the readiness of a connection, which is what poll(2) of Linux
// says of a TCP socket, state by state.

// Ready returns what could be done without waiting; reading could when there
// is as much as KnobRcvLowat asks for. Who is told that writing could not will
// be woken when it can.
func (c *TCPConn) Ready() (r Ready) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readyLocked(c.core.Knob(tcp.KnobRcvLowat))
}

// ReadyAt is Ready for a reader who wants at least n bytes.
func (c *TCPConn) ReadyAt(n int) Ready {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readyLocked(n)
}

func (c *TCPConn) readyLocked(least int) Ready {
	r := c.hangUpLocked()
	if r&ReadyRdHup != 0 {
		r |= ReadyIn
	}
	if c.core.ErrDue() {
		r |= ReadyErr
	}
	if !c.core.Usable() {
		// A handshake says nothing before it is over, but that there is room
		// in a SYN that waits for the first bytes.
		if c.core.Held() && c.core.Writable() > 0 {
			r |= ReadyOut
		}
		return r
	}
	if c.core.ReadableAt(least) {
		r |= ReadyIn
	}
	if c.core.MayWrite() {
		r |= ReadyOut
	}
	if c.core.Urgent() {
		r |= ReadyPri
	}
	return r
}

// hangUpLocked is the part of it that tells which directions are over.
func (c *TCPConn) hangUpLocked() (r Ready) {
	read, write := c.core.Shut()
	if read {
		r |= ReadyRdHup
	}
	if read && write {
		r |= ReadyHup
	}
	return r
}
