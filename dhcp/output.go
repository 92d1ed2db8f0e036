package dhcp

// This file owns the fields and options of what the client sends (RFC 2131
// table 5), and whom it is sent to.

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// Output returns the message to send, if there is one: to dst, from the source
// address src and ClientPort. 0.0.0.0 as src means that the interface has no
// address yet. b is good until the next call.
func (c *Client) Output(now mono.Time) (b []byte, dst netip.AddrPort, src netip.Addr, ok bool) {
	if c.typ == 0 {
		return nil, dst, src, false
	}
	m := Message{Op: OpRequest, XID: c.xid, CHAddr: c.cfg.MAC}
	m.Options.Set(OptMessageType, byte(c.typ))
	m.Options.Set(OptClientID, c.cfg.ClientID...)
	extending := c.state == Renewing || c.state == Rebinding
	to, src := netip.AddrFrom4([4]byte{255, 255, 255, 255}), netip.IPv4Unspecified()

	// The fields of RFC 2131 table 5.
	switch c.typ {
	case Discover, Request:
		// Replies come before there is an address: have them broadcast.
		m.Broadcast = !c.leased
		m.Secs = uint16(min(now.Sub(c.begun)/time.Second, 0xffff))
		switch {
		case c.state == Selecting:
			c.secs = m.Secs
		case c.state == Requesting:
			m.Secs = c.secs // §4.4.1: the same as in the DISCOVER
			m.Options.SetAddr(OptServerID, c.server)
		case extending:
			m.CIAddr, src = c.lease.Addr.Addr(), c.lease.Addr.Addr()
			if c.state == Renewing {
				to = c.lease.Server
			}
		}
		if !extending && isHost(c.wanted) {
			m.Options.SetAddr(OptRequestedIP, c.wanted)
		}
		if c.typ == Request {
			c.sent = now
		}
		if c.typ == Discover && c.cfg.AutoConfigure {
			m.Options.Set(OptAutoConfigure, 1) // RFC 2563 §2.1
		}
		c.describe(&m)
	case Inform:
		m.CIAddr, src = c.wanted, c.wanted
		m.Secs = uint16(min(now.Sub(c.begun)/time.Second, 0xffff))
		c.describe(&m)
	case Decline:
		m.Options.SetAddr(OptRequestedIP, c.lease.Addr.Addr())
		m.Options.SetAddr(OptServerID, c.lease.Server)
	case Release:
		m.CIAddr, src, to = c.lease.Addr.Addr(), c.lease.Addr.Addr(), c.lease.Server
		m.Options.SetAddr(OptServerID, c.lease.Server)
	}
	c.typ = 0
	c.buf = m.Append(c.buf[:0])
	return c.buf, netip.AddrPortFrom(to, ServerPort), src, true
}

// describe adds what servers are told of the client, and asked for.
func (c *Client) describe(m *Message) {
	m.Options.Set(OptMaxMessageSize, maxMessage>>8, maxMessage&0xff)
	m.Options.Set(OptParameters, parameters...)
	m.Options.Set(OptNonceCapable, authHMACMD5) // RFC 6704 §3.1.1
	if c.cfg.Hostname != "" {
		m.Options.Set(OptHostName, []byte(c.cfg.Hostname)...)
	}
	if c.cfg.VendorClass != "" {
		m.Options.Set(OptVendorClass, []byte(c.cfg.VendorClass)...)
	}
}
