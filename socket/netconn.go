package socket

// This file owns what streams and packet connections have in common, and Conn,
// a stream in the shape of net.TCPConn.

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is what streams and packet connections have in common.
type conn struct {
	fd            *FD
	network       string
	local, remote net.Addr // as they were at the beginning; they outlive fd
}

func newConn(f *FD, network string) conn {
	c := conn{fd: f, network: network}
	if a, err := f.Getsockname(); err == nil {
		c.local = addrOf(network, a)
	}
	if f.dgram == nil {
		// Even if the peer has hung up already.
		c.remote = addrOf(network, f.Stream().RemoteAddr())
	} else if a, err := f.Getpeername(); err == nil {
		c.remote = addrOf(network, a)
	}
	return c
}

// FD returns the Berkeley socket underneath.
func (c *conn) FD() *FD { return c.fd }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 && !c.fd.closed.Load() && c.fd.dgram == nil {
		return 0, nil // as package net: not even the end of the stream is told
	}
	n, err := c.fd.Recv(b, 0)
	return n, c.wrap("read", "read", err)
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.fd.Send(b, 0)
	return n, c.wrap("write", "write", err)
}

// Close implements net.Conn.
func (c *conn) Close() error { return c.wrap("close", "close", c.fd.Close()) }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn; nil without a peer.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.wrapSet("", c.fd.SetDeadline(t)) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.wrapSet("", c.fd.SetReadDeadline(t)) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.wrapSet("", c.fd.SetWriteDeadline(t))
}

// File always fails: the socket has no file descriptor that could be had. The
// error is errors.ErrUnsupported.
func (c *conn) File() (*os.File, error) { return nil, c.wrap("file", "", errNoDescriptor{}) }

func (c *conn) wrap(op, call string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.remote, Err: syscallError(call, err)}
}

// wrapSet is wrap for deadlines and buffers, where package net leaves the peer
// out.
func (c *conn) wrapSet(call string, err error) error {
	if err == nil {
		return nil
	}
	return opError("set", c.network, nil, c.local, syscallError(call, err))
}

// errNoDescriptor is why SyscallConn and File fail.
type errNoDescriptor struct{}

func (errNoDescriptor) Error() string {
	return "not supported: a socket of a stack in user space has no file descriptor"
}
func (errNoDescriptor) Is(target error) bool { return target == errors.ErrUnsupported }

// Conn is a TCP connection: a net.Conn with the methods of net.TCPConn.
type Conn struct{ conn }

// CloseWrite sends FIN; reading goes on.
func (c *Conn) CloseWrite() error { return c.wrap("close", "shutdown", c.fd.Shutdown(SHUT_WR)) }

// CloseRead discards what arrives from now on.
func (c *Conn) CloseRead() error { return c.wrap("close", "shutdown", c.fd.Shutdown(SHUT_RD)) }

// SetNoDelay turns Nagle's algorithm off (the default, as in package net) or
// on.
func (c *Conn) SetNoDelay(on bool) error { return c.wrap("set", "setsockopt", c.fd.SetNoDelay(on)) }

// SetKeepAlive asks silent peers whether they are there, or no longer.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.wrap("set", "setsockopt", c.fd.SetKeepAlive(on))
}

// SetKeepAlivePeriod sets the time between keep-alives, and before the first.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.wrap("set", "setsockopt", c.fd.setKeepAlivePeriod(d))
}

// SetKeepAliveConfig sets keep-alives as net.TCPConn does.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.wrap("set", "setsockopt", c.fd.SetKeepAliveConfig(config))
}

// SetLinger says what Close does with what is not sent, as FD.SetLinger.
func (c *Conn) SetLinger(sec int) error { return c.wrap("set", "setsockopt", c.fd.SetLinger(sec)) }

// MultipathTCP reports that the connection is not one of Multipath TCP, which
// the stack does not have.
func (c *Conn) MultipathTCP() (bool, error) { return false, nil }

// SyscallConn always fails: there is no file descriptor on which system calls
// could be made. Options are set by FD. The error is errors.ErrUnsupported.
//
// PacketConn has no such method at all: programs that look for it, as quic-go
// does, take its error for their own and fail, and do without when it is not
// there.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	return nil, c.wrap("raw-control", "", errNoDescriptor{})
}
