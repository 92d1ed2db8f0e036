package arp

import (
	"net/netip"

	"github.com/tapstack/tapstack/ether"
)

// This file owns the decision about a received packet. It keeps no state: the
// caller carries the verdict to its addresses, cache and device.

// Ownership says what an address is to the interface that a packet came in on.
type Ownership uint8

// The states of an address, as far as ARP is concerned.
const (
	NotOurs   Ownership = iota
	Tentative           // being probed (RFC 5227 §2.1): must not be used yet
	Assigned            // in use
)

// Learn says what the neighbour cache may take from a packet: that the sender's
// IP address is at the sender's MAC address.
type Learn uint8

// The degrees of trust.
const (
	LearnNone   Learn = iota
	LearnUpdate       // an entry that exists; never make one
	LearnCreate       // an entry may be made: the sender is about to talk to us
)

// Verdict is what is to be done about a packet.
type Verdict struct {
	// Reply: answer it, with Reply, to the sender's MAC address.
	Reply bool
	Learn Learn
	// Confirm: a reply to a request of ours, so the entry is not only known
	// but proven reachable.
	Confirm bool
	// Conflict: somebody else uses, or tries to get, the address Addr, which
	// is ours or which we are probing (RFC 5227 §2.1.1, §2.4).
	Conflict bool
	Addr     netip.Addr
	// Drop says why the packet had no effect beyond Learn.
	Drop Drop
}

// Decide is the reception algorithm of RFC 826 with the conflict detection of
// RFC 5227 and the choices of Linux's defaults. ours tells what an address is
// to the receiving interface, whose MAC address is mac.
//
// RFC 826 updates an entry that exists whatever the packet is about (its merge
// flag), and makes one only if it is the target. Linux narrows the second to
// requests: who asks for us will be answered and talked to, whereas a reply
// that nobody asked for must not fill the cache. Whether an update may replace
// an entry that is in good standing, and how soon, is the cache's decision.
func Decide(p Packet, mac ether.Addr, ours func(netip.Addr) Ownership) Verdict {
	sip, tip := p.SenderIP(), p.TargetIP()
	// A segment with a loop returns our own packets. RFC 5227 §2.1.1 excludes
	// them from conflicts, and there is nothing to learn from them.
	if p.SenderMAC() == mac {
		return Verdict{Drop: DropOwn}
	}
	if sip.IsUnspecified() {
		return decideUnspecified(p, tip, ours(tip))
	}
	// RFC 5227 §2.1.1 and §2.4: any packet, request or reply, sent from an
	// address of ours by another station. It is not answered either: the
	// answer would go to ourselves.
	if ours(sip) != NotOurs {
		return Verdict{Conflict: true, Addr: sip}
	}
	target := ours(tip)
	switch {
	case target == NotOurs:
		// Announcements are here as well.
		return Verdict{Learn: LearnUpdate, Drop: DropNotOurs}
	case p.Op() == OpRequest && target == Tentative:
		// RFC 5227 §2.1.1: no use of the address, answers among it, before
		// the probing is over.
		return Verdict{Learn: LearnUpdate, Drop: DropTentative}
	case p.Op() == OpRequest:
		return Verdict{Reply: true, Learn: LearnCreate}
	}
	// A broadcast reply is nobody's answer; one to our own request carries our
	// MAC address as its target.
	return Verdict{Learn: LearnUpdate, Confirm: target == Assigned && p.TargetMAC() == mac}
}

// decideUnspecified handles a sender of 0.0.0.0. There is no address to learn,
// and learning 0.0.0.0 itself would turn broadcasts into unicasts.
func decideUnspecified(p Packet, tip netip.Addr, target Ownership) Verdict {
	switch {
	case p.Op() != OpRequest || target == NotOurs:
		return Verdict{Drop: DropNotOurs}
	case target == Tentative:
		// RFC 5227 §2.1.1: two hosts probe for one address; both give up.
		return Verdict{Conflict: true, Addr: tip}
	}
	// Answering a probe for our address tells its sender to stay away.
	return Verdict{Reply: true}
}
