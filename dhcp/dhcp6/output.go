package dhcp6

// This file owns what is in the client's messages (RFC 8415 §18.2.1 to §18.2.8,
// appendix B). All go to AllServers.

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/internal/mono"
)

// asked are the options of the Option Request option. §21.7 wants SOL_MAX_RT in
// each, and INF_MAX_RT and the refresh time of an Information-request.
var asked = []OptionCode{OptDNS, OptSearch, OptSNTP, OptNTP, OptCaptivePortal, OptSolMaxRT}

// Output returns the message to send, if there is one, from a link-local address
// and ClientPort to AllServers and ServerPort. b is good until the next call.
func (c *Client) Output(now mono.Time) (b []byte, ok bool) {
	if !c.pending {
		return nil, false
	}
	c.pending = false
	if when := c.rate.take(now); when != 0 {
		c.x.next = when // §14.1: not yet
		return nil, false
	}
	m := Message{Type: c.typ, XID: c.xid}
	o := &m.Options
	o.Add(OptClientID, c.cfg.DUID...)
	switch c.typ {
	case Request, Decline, Release:
		o.Add(OptServerID, c.server...)
	case Renew:
		o.Add(OptServerID, c.lease.Server...)
	}
	o.Add(OptElapsed, binary.BigEndian.AppendUint16(nil, c.x.elapsed(now))...)
	if c.typ == Solicit && !c.cfg.NoRapidCommit {
		o.Add(OptRapidCommit)
	}
	addrs, delegated := c.wanted, c.wantedP
	switch c.typ {
	case Confirm, Renew, Rebind:
		addrs, delegated = prefixes(c.lease.Addrs), prefixes(c.lease.Prefixes)
	}
	switch c.typ {
	case InformationRequest:
	case Confirm:
		o.addIA(OptIANA, c.cfg.IAID, addrs)
	case Release, Decline: // only what there is
		if len(addrs) > 0 {
			o.addIA(OptIANA, c.cfg.IAID, addrs)
		}
		if len(delegated) > 0 {
			o.addIA(OptIAPD, c.cfg.IAID, delegated)
		}
	default:
		// Each time both: what was not to be had before may be now (§18.2.4).
		o.addIA(OptIANA, c.cfg.IAID, addrs)
		if n := c.cfg.Delegate; n > 0 {
			if len(delegated) == 0 {
				delegated = []netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), n)} // §18.2.1: a hint
			}
			o.addIA(OptIAPD, c.cfg.IAID, delegated)
		}
	}
	switch c.typ {
	case Solicit, Request, Renew, Rebind, InformationRequest:
		c.describe(o)
	}
	c.x.transmit(now, c.cfg.Rand)
	c.buf = m.Append(c.buf[:0])
	return c.buf, true
}

// describe adds what servers are asked for, and told of the client's name.
func (c *Client) describe(o *Options) {
	var oro []byte
	ask := func(codes ...OptionCode) {
		for _, code := range codes {
			oro = binary.BigEndian.AppendUint16(oro, uint16(code))
		}
	}
	ask(asked...)
	if c.typ == InformationRequest {
		ask(OptRefreshTime, OptInfMaxRT)
	} else if c.cfg.Hostname != "" {
		// RFC 4704 §4.1: S, the server shall see to the address records; a name
		// of one label is a partial one.
		full := false
		for i := range len(c.cfg.Hostname) {
			full = full || c.cfg.Hostname[i] == '.'
		}
		if b, ok := both.AppendName([]byte{1}, c.cfg.Hostname, full); ok {
			ask(OptFQDN)
			o.Add(OptFQDN, b...)
		}
	}
	o.Add(OptRequest, oro...)
}
