package stack

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns how a connection is taken out of the stack and put into another
// (TCP_REPAIR). What repair mode is and does is in tcp/repair.go.

// Repair calls f with the connection's core, for the methods of tcp/repair.go,
// and sends what follows. f must not keep the core.
func (c *TCPConn) Repair(f func(core *tcp.Conn, now mono.Time) error) (err error) {
	c.act(func(now mono.Time) { err = f(c.core, now) })
	return err
}

// InRepair reports whether the connection is in repair mode.
func (c *TCPConn) InRepair() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.InRepair()
}
