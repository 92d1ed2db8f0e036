package stack

import (
	"net/netip"

	"github.com/tapstack/tapstack/internal/claim"
)

// This file owns addresses that somebody claims for the interface and wants to
// hear about: a DHCP client, which declines what is in use and asks for another
// (RFC 2131 §3.1, 5), or a host that makes itself an address (RFC 3927). A
// conflict over one of them is the claimant's business and no failure of
// Interface.Ready.

// AddrEvent is what becomes of an address that was claimed.
type AddrEvent uint8

// The events.
const (
	AddrUsable   AddrEvent = iota // nobody objected: it may be used
	AddrConflict                  // another host has it, or took it: it is gone
	AddrRemoved                   // somebody has taken it away
)

// ClaimOptions are the choices of ClaimAddr.
type ClaimOptions struct {
	// Probe asks the segment first and gives the address up in a lasting
	// conflict (RFC 5227), whatever InterfaceConfig.ACD says. It takes 5 to 7 s.
	Probe bool
	// Origin says who makes the address.
	Origin Origin
	// Notify hears what becomes of the address, in order, with none of the
	// stack's locks held. It must not block. After AddrConflict and AddrRemoved
	// it hears no more.
	Notify func(netip.Addr, AddrEvent)
}

// claimant is who wants to hear of an address.
type claimant struct {
	ClaimOptions
	usable bool // it was told so
}

// ClaimAddr is AddAddr for a claimant. With nothing to probe for, AddrUsable
// comes before it returns. An error comes without events.
func (i *Interface) ClaimAddr(p netip.Prefix, o ClaimOptions) error {
	a := p.Addr()
	i.mu.Lock()
	if i.claimants == nil {
		i.claimants = make(map[netip.Addr]*claimant)
	}
	other := i.claimants[a]
	i.claimants[a] = &claimant{ClaimOptions: o}
	i.mu.Unlock()
	err := i.addAddress(Addr{Prefix: p, Origin: o.Origin})
	if err != nil {
		i.mu.Lock()
		delete(i.claimants, a)
		if other != nil { // it was there already
			i.claimants[a] = other
		}
		i.mu.Unlock()
	}
	return err
}

// claimant returns who claimed an address, nil if nobody did.
func (i *Interface) claimant(a netip.Addr) *claimant {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.claimants[a]
}

// tellClaimant tells of an event, and forgets who heard the last one.
func (i *Interface) tellClaimant(a netip.Addr, e AddrEvent) {
	i.mu.Lock()
	o := i.claimants[a]
	news := o != nil && (e != AddrUsable || !o.usable)
	switch {
	case e != AddrUsable:
		delete(i.claimants, a)
	case o != nil:
		o.usable = true // of an address without probes two places say so
	}
	i.mu.Unlock()
	if news && o.Notify != nil {
		o.Notify(a, e)
	}
}

// Reclaim begins all claims anew, as RFC 5227 §2.1 wants when the link was away
// and may have come back as another one: addresses that are probed are
// tentative until nobody has objected, the others are announced.
func (i *Interface) Reclaim() {
	var probed []netip.Addr
	for _, x := range i.stack.cfg.Load().addrs {
		if x.iface == i && x.addr().Is4() && i.claimParams(x.addr()).Probes > 0 {
			probed = append(probed, x.addr())
		}
	}
	for _, a := range probed {
		i.changeAddr(a, func(x *address) { x.state = addrTentative })
	}
	i.enter(i.stack.clock.Now())
	for _, a := range i.claimsInOrderLocked() {
		if a.Is4() {
			i.claims[a].Start(i.now)
		}
	}
	for _, o := range i.claimants {
		o.usable = false
	}
	i.leave()
	i.announceChange(nil)
}

// params returns how an address is claimed; otherwise is how without a claimant
// who wants it probed.
func (o *claimant) params(otherwise claim.Params) claim.Params {
	if o != nil && o.Probe {
		return claim.ACD
	}
	return otherwise
}
