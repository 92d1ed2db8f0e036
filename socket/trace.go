package socket

// This file owns SetTrace: a listener to what happens inside the connection
// that a socket makes, who hears of it from the SYN on.

import (
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// SetTrace makes t hear of the connection that Connect is about to make, or if
// there is one already of what happens in it from now on; nil ends it. segments
// says that t wants each segment as well. t is called with the connection
// locked: it must be quick and must not call the socket. Errors: ENOPROTOOPT for
// a datagram socket, net.ErrClosed.
func (f *FD) SetTrace(t tcp.Trace, segments bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.ENOPROTOOPT
	}
	s := f.changeLocked()
	s.trace, s.segments = t, segments
	if f.conn != nil {
		f.conn.SetTrace(t, segments)
	}
	return nil
}

// dialTracedLocked begins a connection that is listened to, or one in repair mode.
func (f *FD) dialTracedLocked(to netip.AddrPort, fast bool) (*stack.TCPConn, error) {
	s := f.settings
	local, o := netip.AddrPortFrom(f.any(), 0), f.dialOptionsLocked()
	if f.bind != nil {
		local, o = f.bind.Addr(), f.bind.DialOptions()
	}
	o.Fast, o.Trace, o.TraceSegments = fast, s.trace, s.segments
	if s.repair.on {
		o.Repair = &s.repair.start
	}
	return f.stack.DialTCPWith(local, to, o)
}
