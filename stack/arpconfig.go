package stack

// This file owns what an interface may be told about ARP: which questions it
// answers, which address it asks from, and what it learns. The knobs and their
// numbers are those of Linux (ip-sysctl: net.ipv4.conf.*.arp_*), so that what
// is written about the one holds for the other; only Locktime departs.
//
// What Linux has and this has not: arp_notify, since new addresses are announced
// in any case (RFC 5227 §2.3, claim.NoProbe), and so are all of them when the
// link was away; proxy_arp (RFC 1027), which is a router's, and this is a host.

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/arp"
)

// ARPConfig is how an interface does ARP. The zero value is Linux's defaults,
// but for Locktime.
type ARPConfig struct {
	// Accept (arp_accept) says of which announcements, and replies that nobody
	// asked for, an entry of the cache is made where there is none. 0: of none;
	// 1: of all; 2: of those of a sender in the prefix of an address of the
	// interface. They update entries that exist in any case.
	Accept int
	// Ignore (arp_ignore) says which questions are answered. 0: those for any
	// address of the host, on whatever interface; 1: for those of the interface
	// that was asked; 2: and only if the sender is in the same prefix; 3: for any
	// but those of the loopback interface, whose addresses have host scope here;
	// 8: none. Who asks in vain is not learnt either.
	Ignore int
	// Announce (arp_announce) says which address questions are asked from. 0:
	// the source of the packet that waits for the answer, if it is the host's;
	// 1: only if it is in the same prefix of the interface as the neighbour;
	// 2: always the address that the interface would choose for the neighbour,
	// which stands in for the others too.
	Announce int
	// Filter (arp_filter) answers only where the route to who asks leaves by
	// the interface that was asked, so that of several on one link each
	// answers for its own.
	Filter bool
	// Locktime says what becomes of the claim that a neighbour who is known is
	// at another MAC address. 0: the neighbour is asked first, at the address
	// that is known, and the claim is believed only if it does not answer
	// within 0.9 s. A time above that is Linux's locktime, there 1 s: a claim
	// is believed once the entry has not changed for so long, at once if it
	// is an announcement or asks for an address of ours. LocktimeNone believes
	// every claim at once, as locktime 0 of Linux.
	Locktime time.Duration
}

// LocktimeNone is Linux's locktime of 0, since 0 says something else here.
const LocktimeNone time.Duration = -1

// Check says in one line what is wrong with a configuration; the error wraps
// EINVAL.
func (a *ARPConfig) Check() error {
	for _, k := range []struct {
		name  string
		value int
		ok    bool
		want  string
	}{
		{"accept", a.Accept, a.Accept >= 0 && a.Accept <= 2, "0, 1 or 2"},
		{"ignore", a.Ignore, a.Ignore >= 0 && a.Ignore <= 3 || a.Ignore == 8, "0, 1, 2, 3 or 8"},
		{"announce", a.Announce, a.Announce >= 0 && a.Announce <= 2, "0, 1 or 2"},
	} {
		if !k.ok {
			return fmt.Errorf("arp-%s %d: want %s: %w", k.name, k.value, k.want, syscall.EINVAL)
		}
	}
	if a.Locktime < LocktimeNone {
		return fmt.Errorf("arp-locktime %v: want 0 or more: %w", a.Locktime, syscall.EINVAL)
	}
	return nil
}

// judgeARP is what arp.Decide has found, with what depends on more than the
// packet: the knobs and the routes.
func (i *Interface) judgeARP(c *config, a arp.Packet, v arp.Verdict) arp.Verdict {
	sip, tip := a.SenderIP(), a.TargetIP()
	switch {
	case c.broadcast(sip):
		// No host's, whatever its sender says (RFC 1122 §3.2.1.3).
		return arp.Verdict{Drop: arp.DropSenderIP}
	case !v.Reply:
	case !sip.IsUnspecified() && i.rpFilter != RPFilterOff && !i.reversePath(c, sip):
		return arp.Verdict{Learn: arp.LearnUpdate, Drop: arp.DropReversePath}
	case !i.tells(c, sip, tip):
		return arp.Verdict{Drop: arp.DropIgnored}
	case i.arp.Filter && !sip.IsUnspecified():
		if m, err := c.lookup(sip, tip, nil); err != nil || m.iface != i {
			return arp.Verdict{Drop: arp.DropFiltered}
		}
	}
	return v
}

// tells reports whether sip may learn here where tip is, which is ours.
func (i *Interface) tells(c *config, sip, tip netip.Addr) bool {
	switch i.arp.Ignore {
	case 1:
		return c.addrOf(tip, i) != nil
	case 2:
		if c.addrOf(tip, i) == nil {
			return false
		}
		return sip.IsUnspecified() || c.samePrefix(i, tip, sip)
	case 3:
		return slices.ContainsFunc(c.addrs, func(x *address) bool { return x.addr() == tip && !x.iface.loopback })
	case 8:
		return false
	}
	return true
}

// samePrefix reports whether the prefix of an address of interface i has both.
func (c *config) samePrefix(i *Interface, a, b netip.Addr) bool {
	return slices.ContainsFunc(c.addrs, func(x *address) bool { return x.iface == i && x.prefix.Contains(a) && x.prefix.Contains(b) })
}

// acceptsARP reports whether an entry may be made of a packet that nobody asked
// for.
func (i *Interface) acceptsARP(c *config, a arp.Packet) bool {
	switch {
	case i.arp.Accept == 0, a.Op() != arp.OpReply && !a.IsUpdate():
		return false
	case i.arp.Accept == 2:
		return c.samePrefix(i, a.SenderIP(), a.SenderIP())
	}
	return true
}

// askAs is the address that a question for an IPv4 neighbour comes from: prompt
// is the source of the packet that waits for the answer, if one does.
func (i *Interface) askAs(c *config, target, prompt netip.Addr) netip.Addr {
	if x := c.byAddr[prompt]; x != nil && x.state != addrTentative && !prompt.IsLoopback() &&
		(i.arp.Announce == 0 || i.arp.Announce == 1 && c.samePrefix(i, target, prompt)) {
		return prompt
	}
	return c.selectSource(target, i, target)
}
