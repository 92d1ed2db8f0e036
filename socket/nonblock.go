package socket

// This file owns the socket in non-blocking mode: O_NONBLOCK, the connection
// that is made while the program does something else, its result by SO_ERROR,
// and readiness in the sense of poll(2).

import (
	"cmp"
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// SetNonblock is O_NONBLOCK of fcntl(2): Accept, Recv and Send return EAGAIN
// instead of waiting, and Connect begins the handshake and returns
// EINPROGRESS. Accepted sockets wait until they are told otherwise, as on
// Linux.
func (f *FD) SetNonblock(on bool) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	f.async.Store(on)
	return nil
}

// Nonblock reports O_NONBLOCK.
func (f *FD) Nonblock() bool { return f.async.Load() }

// asyncFlags adds MSG_DONTWAIT to the flags of a call on a non-blocking socket.
func (f *FD) asyncFlags(flags int) int {
	if f.async.Load() {
		flags |= MSG_DONTWAIT
	}
	return flags
}

// connectAsync is Connect of a non-blocking stream: EINPROGRESS when the SYN is
// on its way, or nil if Fast Open keeps it for the first bytes; called again
// EALREADY until the handshake is over, then its result once, then EISCONN.
func (f *FD) connectAsync(remote netip.AddrPort) error {
	f.mu.Lock()
	c, connecting := f.conn, f.connecting
	f.mu.Unlock()
	if !connecting {
		c, err := f.dial(remote)
		switch {
		case err != nil:
			return err
		case c.Held():
			f.dialled(nil)
			return nil
		}
		return syscall.EINPROGRESS
	}
	err := outcome(c)
	if err != syscall.EALREADY {
		f.dialled(err) // Linux: after an error the socket may try again
	}
	return err
}

// outcome returns how a handshake ended, EALREADY while it has not.
func outcome(c *stack.TCPConn) error {
	ready := c.Ready()
	switch {
	case c.State() == tcp.Closed:
		return cmp.Or(c.TakeError(), error(syscall.ECONNABORTED))
	case ready&stack.ReadyOut == 0:
		return syscall.EALREADY
	}
	return nil
}

// Ready returns what could be done without waiting, as poll(2) tells it: a
// listener is ReadyIn when a connection waits; a stream that was never
// connected is ReadyOut and ReadyHup, as on Linux.
func (f *FD) Ready() stack.Ready {
	f.mu.Lock()
	conn, bind, listening := f.conn, f.bind, f.listening
	f.mu.Unlock()
	switch {
	case f.closed.Load():
		return stack.ReadyErr
	case f.dgram != nil:
		return f.dgram.Ready() | f.shutReady()
	case f.packet != nil:
		return f.packet.Ready()
	case conn != nil:
		return conn.Ready()
	case listening:
		return bind.Ready()
	}
	return stack.ReadyOut | stack.ReadyHup
}

// shutReady is what Shutdown makes a datagram socket ready for.
func (f *FD) shutReady() (r stack.Ready) {
	if f.isShut(&f.read) {
		r |= stack.ReadyIn | stack.ReadyRdHup
		if f.isShut(&f.write) {
			r |= stack.ReadyHup
		}
	}
	return r
}

// TakeError is SO_ERROR of getsockopt(2): the pending error, which is cleared,
// or nil.
func (f *FD) TakeError() error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	f.mu.Lock()
	conn := f.conn
	f.mu.Unlock()
	switch {
	case f.dgram != nil:
		return f.dgram.TakeError()
	case f.packet != nil:
		return f.packet.TakeError()
	case conn != nil:
		return conn.TakeError()
	}
	return nil
}
