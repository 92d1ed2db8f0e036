package tcp

import (
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the end of a connection that the host cannot go on with
// although both users want to: its address goes to another host.

// Reset fails the connection with err and resets the peer, as RFC 5227 §2.4
// wants it of a host that gives up its address.
func (c *Conn) Reset(now mono.Time, err syscall.Errno) Events {
	c.wake()
	c.traceAt(now)
	if c.InRepair() {
		c.fail(err) // frozen: it says nothing
	} else {
		c.abort(err)
	}
	return c.takeEvents()
}
