package check

// This file owns a stream as a net.Conn, as TLS wants it.

import (
	"net"
	"net/netip"

	"github.com/tapstack/tapstack/socket"
)

// conn is a Berkeley socket as a net.Conn. Errors are those of the socket.
type conn struct {
	socket.Berkeley
	network string
	remote  netip.AddrPort
}

func newConn(s socket.Berkeley, network string, remote netip.AddrPort) *conn {
	return &conn{s, network, remote}
}

func (c *conn) Read(b []byte) (int, error)  { return c.Recv(b, 0) }
func (c *conn) Write(b []byte) (int, error) { return c.Send(b, 0) }
func (c *conn) RemoteAddr() net.Addr        { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) LocalAddr() net.Addr {
	a, _ := c.Getsockname() // the zero address when it is gone
	return net.TCPAddrFromAddrPort(a)
}
