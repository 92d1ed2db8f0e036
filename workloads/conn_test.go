package workloads

import (
	"net"
	"testing"

	"github.com/tapstack/tapstack/ether/wire"
	"golang.org/x/net/nettest"
)

// TestConn is the x/net project's idea of what a net.Conn must do, while frames
// are lost. (Package socket has it on a link that harms nothing.)
func TestConn(t *testing.T) {
	for name, address := range map[string]string{"IPv4": "10.77.0.2:0", "IPv6": "[fd77::2]:0"} {
		t.Run(name, func(t *testing.T) {
			h := connect(t, wire.Options{Loss: 0.01, Seed: 8})
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				l, err := h.server.Listen("tcp", address)
				if err != nil {
					return nil, nil, nil, err
				}
				defer l.Close()
				if c1, err = h.client.DialContext(h.ctx, "tcp", l.Addr().String()); err != nil {
					return nil, nil, nil, err
				}
				if c2, err = l.Accept(); err != nil {
					c1.Close()
					return nil, nil, nil, err
				}
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}
