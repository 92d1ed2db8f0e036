package stack

import (
	"net/netip"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns who may watch connections from within (tcp.Trace).

// TraceTCP is asked for each new connection whether anybody wants to watch it,
// and answers with the listener or nil. It and the listener are called with the
// connection locked, and must not call the stack.
type TraceTCP func(local, remote netip.AddrPort) tcp.Trace

// SetTrace makes f hear of what happens in the connection from now on; nil ends
// it. segments says that f wants each segment as well. f is called with the
// connection locked: it must not call the connection, and what it writes to
// should not be slow.
func (c *TCPConn) SetTrace(f tcp.Trace, segments bool) {
	now := c.stack.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.SetTrace(c.tickLocked(now), f, segments)
}

// offerTraceLocked asks for a listener when the core has just been made, perhaps
// before the connection is in the table and knows its name.
func (c *TCPConn) offerTraceLocked(id fourTuple) {
	if t := &c.stack.tcpcfg; t.Trace != nil {
		if f := t.Trace(c.withZone(id.local), c.withZone(id.remote)); f != nil {
			c.core.SetTrace(c.now, f, t.TraceSegments)
		}
	}
}

// traceErrorLocked tells a listener of an ICMP error before it takes effect.
func (c *TCPConn) traceErrorLocked(now mono.Time, e icmpError) {
	if !c.core.Traced() {
		return
	}
	from := ""
	if !e.local {
		from = e.message.From.Addr().String()
	}
	c.core.TraceICMP(now, from, e.typ, e.code, e.errno.Error())
}
