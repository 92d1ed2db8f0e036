package dhcp

// This file owns which answers the client believes, and what follows from
// them. Each check has a Drop of its own; a message that fails one changes
// nothing.

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/internal/mono"
)

// Input handles a UDP payload that came to the client port of the address dst;
// b is borrowed. DropNone says that the message was used.
func (c *Client) Input(now mono.Time, b []byte, dst netip.Addr) (Event, Drop) {
	m, d := ParseMessage(b)
	if d != DropNone {
		return EventNone, d
	}
	force := m.Options.Type() == ForceRenew // the server's own transaction
	switch {
	case m.Op != OpReply:
		return EventNone, DropOp
	case m.XID != c.xid && !force:
		return EventNone, DropXID
	case m.CHAddr != c.cfg.MAC:
		return EventNone, DropMAC
	case m.Options.Has(OptClientID) && !slices.Equal(m.Options.Get(OptClientID), c.cfg.ClientID):
		// RFC 6842 §3: servers return it, and it MUST be ours.
		return EventNone, DropClientID
	}
	switch m.Options.Type() {
	case Offer:
		return EventNone, c.inputOffer(now, m)
	case ACK:
		return c.inputACK(now, m)
	case NAK:
		return c.inputNAK(now, m)
	case ForceRenew:
		if !isHost(dst) {
			return EventNone, DropType // RFC 3203 §2.2: only unicast
		}
		return EventNone, c.inputForceRenew(now, m, b)
	}
	return EventNone, DropType
}

// inputOffer takes the first offer that can be used at once, as dhclient does;
// a client may wait for others (RFC 2131 §4.4.1).
func (c *Client) inputOffer(now mono.Time, m *Message) Drop {
	if c.state != Selecting {
		return DropState
	}
	if a := m.Options.Get(OptAutoConfigure); m.YIAddr.IsUnspecified() && len(a) == 1 && a[0] <= 1 && c.cfg.AutoConfigure {
		// RFC 2563 §2: an offer of no address only says whether the host may
		// make one. Once forbidden it stays so until the next start.
		if c.auto != 1 {
			c.auto = 1 + a[0]
		}
		return DropNone
	}
	l, d := newLease(m)
	if d != DropNone {
		return d
	}
	c.wanted, c.server = l.Addr.Addr(), l.Server
	c.ask(now, Requesting, Request)
	return DropNone
}

// asked reports whether a REQUEST is under way, of which address, and of
// which server if only one may answer.
func (c *Client) asked() (addr, server netip.Addr, ok bool) {
	switch c.state {
	case Requesting:
		return c.wanted, c.server, true
	case Rebooting:
		return c.wanted, netip.Addr{}, true
	case Renewing:
		return c.lease.Addr.Addr(), c.lease.Server, true
	case Rebinding:
		return c.lease.Addr.Addr(), netip.Addr{}, true
	}
	return netip.Addr{}, netip.Addr{}, false
}

func (c *Client) inputACK(now mono.Time, m *Message) (Event, Drop) {
	if c.state == Informing {
		l, d := newInform(m)
		if d == DropNone {
			l.Acquired = now
			c.params, c.state, c.typ, c.retry = l, Informed, 0, 0
			c.key.learn(m.Options)
			return EventInformed, DropNone
		}
		return EventNone, d
	}
	addr, server, ok := c.asked()
	if !ok {
		return EventNone, DropState
	}
	l, d := newLease(m)
	switch {
	case d != DropNone:
		return EventNone, d
	case server.IsValid() && l.Server != server:
		return EventNone, DropServer
	case l.Addr.Addr() != addr:
		return EventNone, DropAddress
	}
	e := EventBound
	if c.leased {
		e = EventRenewed
	} else {
		c.key.have = false
	}
	c.key.learn(m.Options)
	// RFC 2131 §4.4.1: the lease counts from the sending of the request.
	l.Acquired = c.sent
	c.lease, c.leased = l, true
	c.state, c.typ, c.naks = Bound, 0, 0
	c.retry, c.t1, c.t2, c.expiry = 0, 0, 0, 0
	if l.Lease != Infinite {
		// §4.4.5: some fuzz keeps clients from renewing in step.
		c.t1 = c.sent.Add(l.T1 - c.spread(l.T1/50))
		c.t2, c.expiry = c.sent.Add(l.T2), c.sent.Add(l.Lease)
	}
	return e, DropNone
}

// inputNAK begins anew (RFC 2131 §3.1, 4): at once the first time, later and
// later when NAKs are all that comes.
func (c *Client) inputNAK(now mono.Time, m *Message) (Event, Drop) {
	_, server, ok := c.asked()
	if !ok {
		return EventNone, DropState
	}
	if s := m.Options.Addr(OptServerID); !s.IsValid() || server.IsValid() && s != server {
		return EventNone, DropServer
	}
	e := EventNone
	if c.leased {
		e = EventLost
	}
	c.leased, c.wanted, c.typ = false, netip.Addr{}, 0
	if c.naks++; c.naks == 1 {
		c.discover(now)
	} else {
		c.pause(now, c.backoff(c.naks-2))
	}
	return e, DropNone
}
