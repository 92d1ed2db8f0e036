package dhcp6

// This file owns which answers the client believes (RFC 8415 §16), and what
// follows from them (§18.2.9, §18.2.10). Each check has a Drop of its own; a
// message that fails one changes nothing but, where the RFC says so, the limits
// SOL_MAX_RT and INF_MAX_RT.

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// The lengths of a DUID: its type, and 1 to 128 bytes (RFC 8415 §11.1).
const (
	minDUID = 3
	maxDUID = 130
)

// Input handles a UDP payload that came to the client port of the address dst; b
// is borrowed. DropNone says that the message was used.
func (c *Client) Input(now mono.Time, b []byte, dst netip.Addr) (Event, Drop) {
	m, d := ParseMessage(b)
	if d != DropNone {
		return EventNone, d
	}
	switch {
	case !dst.IsLinkLocalUnicast():
		// All is sent from a link-local address, so that nobody beyond the link can
		// answer.
		return EventNone, DropDestination
	case m.Type == Reconfigure:
		// §16.11: discarded without authentication, of which there is none as no
		// Reconfigure Accept option was ever sent.
		return EventNone, DropReconfigure
	case m.Type != Advertise && m.Type != Reply:
		return EventNone, DropType
	case c.typ == 0 || c.x.sent == 0 || m.XID != c.xid:
		return EventNone, DropXID
	}
	if id := m.Options.Get(OptServerID); len(id) < minDUID || len(id) > maxDUID {
		return EventNone, DropServerID
	}
	if !bytes.Equal(m.Options.Get(OptClientID), c.cfg.DUID) {
		return EventNone, DropClientID
	}
	if m.Type == Advertise {
		return EventNone, c.inputAdvertise(now, m)
	}
	return c.inputReply(now, m)
}

// learn takes SOL_MAX_RT and INF_MAX_RT (§21.24, §21.25) where they are in range.
func (c *Client) learn(o Options) {
	take := func(code OptionCode, into *time.Duration, s State) {
		if d, ok := o.Seconds(code); ok && d >= leastMaxRT && d <= mostMaxRT {
			*into = d
			if c.state == s {
				c.x.mrt = d
			}
		}
	}
	take(OptSolMaxRT, &c.solMaxRT, Soliciting)
	take(OptInfMaxRT, &c.infMaxRT, Informing)
}

// inputAdvertise collects advertisements (§18.2.1, §18.2.9).
func (c *Client) inputAdvertise(now mono.Time, m *Message) Drop {
	if c.state != Soliciting {
		return DropState
	}
	c.learn(m.Options) // of those too that are ignored
	if m.Options.Status() != Success {
		return DropStatus
	}
	a := advert{server: m.Options.Get(OptServerID), preference: m.Options.Preference()}
	na, pd := c.associations(m.Options)
	a.addrs, a.prefixes = alive(na.grants), alive(pd.grants)
	if a.kinds() == 0 {
		return DropLease
	}
	i := slices.IndexFunc(c.adverts, func(o advert) bool { return bytes.Equal(o.server, a.server) })
	switch {
	case i >= 0:
		c.adverts[i] = a
	case len(c.adverts) >= maxAdverts:
		return DropBound
	default:
		c.adverts = append(c.adverts, a)
	}
	// At once for one that nothing can be better than, and when others have had
	// the first retransmission time to answer.
	if a.preference == 255 || c.x.sent > 1 {
		c.request(now)
	}
	return DropNone
}

// alive are the leases of a message that would last.
func alive(grants []grant) (list []netip.Prefix) {
	for _, g := range grants {
		if g.valid > 0 {
			list = append(list, g.prefix)
		}
	}
	return list
}

// associations returns what a message says of our IAs. What was not asked for is
// not there.
func (c *Client) associations(o Options) (na, pd association) {
	na = o.association(OptIANA, c.cfg.IAID)
	if c.cfg.Delegate > 0 {
		pd = o.association(OptIAPD, c.cfg.IAID)
	}
	return na, pd
}

func (c *Client) inputReply(now mono.Time, m *Message) (Event, Drop) {
	server, status := m.Options.Get(OptServerID), m.Options.Status()
	switch c.state {
	case Soliciting:
		if c.cfg.NoRapidCommit || !m.Options.Has(OptRapidCommit) {
			return EventNone, DropRapidCommit
		}
	case Requesting, Declining, Releasing:
		if !bytes.Equal(server, c.server) {
			return EventNone, DropServer
		}
	case Renewing:
		if !bytes.Equal(server, c.lease.Server) {
			return EventNone, DropServer
		}
	}
	c.learn(m.Options)
	switch c.state {
	case Declining: // §18.2.10.3, §18.2.10.2: whatever the status
		return c.declined(now), DropNone
	case Releasing:
		c.rest(Stopped)
		return EventNone, DropNone
	case Informing:
		return c.informed(now, m)
	case Confirming:
		return c.confirmed(now, status)
	}
	switch status {
	case UnspecFail, UseMulticast:
		// As good as no answer: the message goes out again in its time, which is the
		// limit of the rate that §18.2.10 wants; and by multicast, as always.
		return EventNone, DropStatus
	}
	return c.granted(now, m, status)
}

// confirmed takes the answer to a Confirm (§18.2.10.1).
func (c *Client) confirmed(now mono.Time, status StatusCode) (Event, Drop) {
	switch status {
	case Success:
		return c.resume(now), DropNone
	case NotOnLink:
		return c.lose(now), DropNone
	}
	return EventNone, DropStatus
}

// lose gives up all leases and begins anew.
func (c *Client) lose(now mono.Time) Event {
	e := EventNone
	if c.leased && c.used {
		e = EventLost
	}
	c.leased, c.used, c.lease = false, false, Lease{}
	c.discover(now, 0)
	return e
}

// granted takes the leases of a Reply (§18.2.10.1).
func (c *Client) granted(now mono.Time, m *Message, status StatusCode) (Event, Drop) {
	na, pd := c.associations(m.Options)
	first := c.state == Soliciting || c.state == Requesting
	failed := func(s StatusCode) bool { return status == s || na.status == s || pd.status == s }
	if len(alive(na.grants))+len(alive(pd.grants)) == 0 {
		switch {
		case c.state == Soliciting:
			return EventNone, DropLease // others may have more
		case first:
			// NoAddrsAvail, NoPrefixAvail, NotOnLink, or nothing at all: another
			// server may have some.
			c.request(now)
			return EventNone, DropStatus
		case failed(NoBinding):
			c.requestAgain(now, m)
			return EventNone, DropNone
		case len(na.grants)+len(pd.grants) == 0:
			// It says nothing of what is held (§18.2.4: go on).
			return EventNone, DropLease
		}
	}
	again := !first && failed(NoBinding)
	l := c.lease
	if !c.leased {
		l = Lease{}
	}
	held := l
	l.setRest(m.Options)
	l.Addrs, l.Prefixes = merge(now, held.Addrs, na.grants), merge(now, held.Prefixes, pd.grants)
	if len(l.Addrs)+len(l.Prefixes) == 0 {
		return c.lose(now), DropNone // what is held is no longer valid
	}
	l.Acquired, l.T1, l.T2 = now, Infinite, Infinite
	list := []association{na, pd}
	if len(alive(na.grants))+len(alive(pd.grants)) == 0 {
		// Only others are left, which it did not name.
		list = []association{remaining(now, l.Addrs), remaining(now, l.Prefixes)}
	}
	for _, a := range list {
		// §18.2.4: all are renewed together, at the earliest of their times.
		if len(alive(a.grants)) > 0 {
			t1, t2 := a.times()
			l.T1, l.T2 = min(l.T1, t1), min(l.T2, t2)
		}
	}
	c.lease, c.leased, c.used, c.looked = l, true, true, now
	c.t1, c.t2 = after(now, l.T1), after(now, l.T2)
	c.adverts = nil
	if again {
		c.requestAgain(now, m)
	} else {
		c.rest(Bound)
	}
	return EventLease, DropNone
}

// requestAgain asks a server for what it has no binding for (§18.2.10.1). What is
// held goes on to be used, until it is over.
func (c *Client) requestAgain(now mono.Time, m *Message) {
	c.adverts = []advert{{server: m.Options.Get(OptServerID), addrs: prefixes(c.lease.Addrs), prefixes: prefixes(c.lease.Prefixes)}}
	c.request(now)
}

// informed takes the answer to an Information-request (§18.2.10.4).
func (c *Client) informed(now mono.Time, m *Message) (Event, Drop) {
	if m.Options.Status() != Success {
		return EventNone, DropStatus
	}
	l := Lease{Acquired: now, Refresh: irtDefault}
	l.setRest(m.Options)
	if d, ok := m.Options.Seconds(OptRefreshTime); ok {
		l.Refresh = max(d, irtMinimum) // §21.23
	}
	c.params, c.informs, c.refresh = l, true, after(now, l.Refresh)
	c.rest(Informed)
	return EventInformed, DropNone
}
