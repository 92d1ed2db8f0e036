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
	// stack's locks held but that of a change of the link: it must not change
	// one, nor block. After AddrConflict and AddrRemoved it hears no more.
	Notify func(netip.Addr, AddrEvent)
}

// claimant is who wants to hear of an address. Its fields are guarded by
// Interface.mu.
type claimant struct {
	ClaimOptions
	usable bool // it was told so
	// events are still to be told, and telling says that somebody does: what
	// several goroutines find out is heard in order, and one after another.
	events  []AddrEvent
	telling bool
}

// ClaimAddr is AddAddr for a claimant. With nothing to probe for, AddrUsable
// comes before it returns. An error comes without events.
func (i *Interface) ClaimAddr(p netip.Prefix, o ClaimOptions) error {
	return i.claimAddress(Addr{Prefix: p, Origin: o.Origin}, nil, 0, &claimant{ClaimOptions: o})
}

// setClaimant notes who claims an address that is being added. Stack.mu is held.
func (i *Interface) setClaimant(a netip.Addr, o *claimant) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.claimants == nil {
		i.claimants = make(map[netip.Addr]*claimant)
	}
	i.claimants[a] = o
}

// takeClaimant forgets who claims an address and returns him, nil if nobody
// does. Whoever takes an address away calls it with Stack.mu held, so that the
// next one who claims the address is not told of that.
func (i *Interface) takeClaimant(a netip.Addr) *claimant {
	i.mu.Lock()
	defer i.mu.Unlock()
	o := i.claimants[a]
	delete(i.claimants, a)
	return o
}

// tellUsable tells who claims an address that it may be used.
func (i *Interface) tellUsable(a netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	// Of an address without probes two places say so.
	if o := i.claimants[a]; o != nil && !o.usable {
		o.usable = true
		i.notifyLocked(o, a, AddrUsable)
	}
}

// tellGone tells a claimant, if there is one, that his address is gone.
func (i *Interface) tellGone(o *claimant, a netip.Addr, e AddrEvent) {
	if o == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.notifyLocked(o, a, e)
}

// notifyLocked lets a claimant hear of an event, now or after those before it.
// It releases the lock meanwhile.
func (i *Interface) notifyLocked(o *claimant, a netip.Addr, e AddrEvent) {
	if o.Notify == nil {
		return
	}
	o.events = append(o.events, e)
	if o.telling {
		return // by whoever does so
	}
	o.telling = true
	for len(o.events) > 0 {
		e, o.events = o.events[0], o.events[1:]
		i.mu.Unlock()
		o.Notify(a, e)
		i.mu.Lock()
	}
	o.telling = false
}

// Reclaim begins all claims anew, as RFC 5227 §2.1 wants when the link was away
// and may have come back as another one: addresses that are probed are
// tentative until nobody has objected, the others are announced.
func (i *Interface) Reclaim() {
	var probed []netip.Addr
	i.enter(i.stack.clock.Now())
	for _, a := range i.claimsInOrderLocked() {
		if !a.Is4() {
			continue
		}
		c := i.claims[a]
		c.Start(i.now)
		if c.Probes() {
			probed = append(probed, a)
			if o := i.claimants[a]; o != nil {
				o.usable = false
			}
		}
	}
	i.leave()
	// Only now: what the claims found before has no effect on their addresses any
	// more (actLocked).
	for _, a := range probed {
		i.changeAddr(a, func(x *address) { x.state = addrTentative })
	}
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
