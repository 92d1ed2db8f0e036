package socket_test

import (
	"net"
	"testing"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"golang.org/x/net/nettest"
)

// TestConn is the x/net project's idea of what a net.Conn must do, in real
// time: over a segment between two stacks, and over loopback within one.
func TestConn(t *testing.T) {
	for _, c := range []struct {
		name, network, addr string
		loopback            bool
	}{
		{"wire-ipv4", "tcp4", "10.77.0.2:0", false},
		{"wire-ipv6", "tcp6", "[fd77::2]:0", false},
		{"loopback-ipv4", "tcp", "127.0.0.1:0", true},
		{"loopback-ipv6", "tcp", "[::1]:0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			watch(t)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				from, to, end := hosts(t, c.loopback)
				c1, c2, hangUp, err := conns(t, from, to, c.network, c.addr)
				if err != nil {
					return nil, nil, nil, err
				}
				return c1, c2, func() { hangUp(); end() }, nil
			})
		})
	}
}

// hosts returns two networks, which are one and the same for loopback.
func hosts(t *testing.T, loopback bool) (from, to *socket.Network, end func()) {
	if loopback {
		s := lone(t)
		return socket.Net(s), socket.Net(s), func() { s.Close() }
	}
	p := newPair(t, wire.Options{})
	return p.na, p.nb, func() { p.a.Close(); p.b.Close() }
}
