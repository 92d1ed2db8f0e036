package stack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/claim"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// AddAddr gives the interface an address with the prefix that is on its link.
// Unless detection is off the address is tentative at first: see Ready.
// Errors: EINVAL for an address that no host can have, EEXIST, ENOSPC at
// Limits.Addresses, EAFNOSUPPORT for IPv6 where it is disabled, ENODEV when the
// interface was removed.
func (i *Interface) AddAddr(p netip.Prefix) error {
	return i.addAddress(Addr{Prefix: p})
}

func (i *Interface) addAddress(n Addr) error { return i.claimAddress(n, nil, 0, nil) }

// claimAddress adds an address whose prefix routers advertise, none for one that
// nobody does, and begins to claim it after wait, for o if that is not nil.
func (i *Interface) claimAddress(n Addr, routers []netip.Addr, wait time.Duration, o *claimant) error {
	p := n.Prefix
	a := p.Addr()
	switch {
	case !p.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a == limitedBroadcast || a.Zone() != "",
		a.Is4() && ipv4Impossible(p):
		return fmt.Errorf("address %v: %w", p, syscall.EINVAL)
	case a.Is6() && i.noIPv6():
		return fmt.Errorf("address %v: IPv6 is off on %s: %w", p, i.name, syscall.EAFNOSUPPORT)
	}
	params := i.claimParams(a, o)
	if n.Origin == OriginRouter && params.Probes > 0 {
		// RFC 4862 §5.4.2: many hosts have heard the same advertisement.
		params.InitialDelay = time.Second
	}
	optimistic := n.Optimistic && params.Probes > 0
	if optimistic {
		params.InitialDelay = 0 // RFC 4429 §3.3
	}
	state := addrTentative
	if params.Probes == 0 || optimistic {
		state = addrAssigned
	}
	if err := i.stack.update(func(c *config) error {
		if c.byAddrIn(a, i) {
			return fmt.Errorf("address %v: %w", a, syscall.EEXIST)
		}
		if !slices.Contains(c.ifaces, i) && !i.loopback {
			return fmt.Errorf("address %v: interface %s: %w", a, i.name, syscall.ENODEV)
		}
		if n := c.count(i); n >= i.stack.limits.Addresses {
			return fmt.Errorf("address %v: %s has %d already: %w", a, i.name, n, syscall.ENOSPC)
		}
		c.addAddr(&address{iface: i, prefix: p, state: state, optimistic: optimistic, origin: n.Origin,
			temporary: n.Temporary, life: newLifetimes(n.Preferred, n.Valid), routers: routers})
		if o != nil {
			i.setClaimant(a, o)
		}
		return nil
	}); err != nil {
		return err
	}
	if i.loopback {
		i.announceChange(nil)
		i.tellUsable(a)
		return nil
	}
	now := i.stack.clock.Now()
	i.enter(now)
	if i.stack.cfg.Load().addrOf(a, i) == nil {
		i.leave() // somebody has taken it away already, and had no claim to end
		return nil
	}
	if a.Is6() {
		// RFC 4862 §5.4.2: the solicited-node group is joined before DAD.
		i.joinLocked(ipv6.SolicitedNode(a))
	}
	c := claim.New(a, params, i.rnd)
	i.claims[a] = c
	c.Start(now.Add(wait))
	i.leave()
	switch {
	case optimistic:
		i.usableEarly(a)
	case state == addrAssigned:
		i.assigned(a)
	}
	return nil
}

// byAddrIn reports whether interface i already has the address.
func (c *config) byAddrIn(a netip.Addr, i *Interface) bool {
	return slices.ContainsFunc(c.addrs, func(x *address) bool { return x.addr() == a && x.iface == i })
}

func (c *config) count(i *Interface) (n int) {
	for _, a := range c.addrs {
		if a.iface == i {
			n++
		}
	}
	return n
}

// ipv4Impossible reports the network and broadcast addresses of a prefix,
// 0/8 and class E. RFC 3021: a /31 has two host addresses.
func ipv4Impossible(p netip.Prefix) bool {
	a := p.Addr().As4()
	if a[0] == 0 || a[0] >= 240 {
		return true
	}
	return p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == ipv4.Broadcast(p))
}

// claimParams chooses how an address is claimed. Linux probes IPv6 addresses
// and not IPv4 ones; ACD asks for the latter too.
func (i *Interface) claimParams(a netip.Addr, o *claimant) claim.Params {
	switch {
	case i.loopback, i.ptp:
		return claim.Params{}
	case a.Is4() && i.acd:
		return claim.ACD
	case a.Is4():
		// Announce as RFC 5227 §2.3 so that neighbours and bridges learn us.
		// Nobody asked us to give the address up in a conflict (§2.4 (c)), and
		// two forged packets must not be enough to take it away.
		return o.params(claim.NoProbe)
	case i.noDAD:
		return claim.Params{}
	}
	params := claim.DAD
	if r := i.retrans.Load(); r != 0 {
		params.Wait = time.Duration(r) // RFC 4862 §5.1: RetransTimer, which routers may have set
	}
	return params
}

// DelAddr takes an address away; EADDRNOTAVAIL when the interface lacks it.
// Connections from it end with that error, routes that send from it go too. Of
// secondary addresses of its prefix one takes its place. One that routers
// advertise comes back with the next advertisement, as on Linux.
func (i *Interface) DelAddr(a netip.Addr) error {
	err := i.delAddr(a, OriginStatic)
	if err == nil {
		i.takenAway(a)
	}
	return err
}

// delAddr is DelAddr; an origin other than OriginStatic spares an address that
// another one made.
func (i *Interface) delAddr(a netip.Addr, by Origin) error { return i.takeAddr(a, by, false) }

// takeAddr is delAddr that may spare the address's connections.
func (i *Interface) takeAddr(a netip.Addr, by Origin, spare bool) error {
	var claimant *claimant
	if err := i.stack.update(func(c *config) error {
		x := c.addrOf(a, i)
		if x == nil || by != OriginStatic && x.origin != by {
			return fmt.Errorf("address %v: %w", a, syscall.EADDRNOTAVAIL)
		}
		c.delAddr(x)
		c.routesWithout(a, i)
		claimant = i.takeClaimant(a)
		return nil
	}); err != nil {
		return err
	}
	i.enter(i.stack.clock.Now())
	i.unclaimLocked(a)
	if a.Is6() {
		i.leaveGroupLocked(ipv6.SolicitedNode(a))
	}
	i.leave()
	if !spare && !i.stack.cfg.Load().byAddrAny(a) {
		i.stack.tcp.addressGone(a)
	}
	i.announceChange(nil)
	i.tellGone(claimant, a, AddrRemoved)
	return nil
}

// changeAddr replaces the record of an address by a changed one.
func (i *Interface) changeAddr(a netip.Addr, change func(*address)) {
	i.stack.update(func(c *config) error {
		for n, x := range c.addrs {
			if x.addr() == a && x.iface == i {
				y := *x
				change(&y)
				c.addrs[n] = &y
			}
		}
		return nil
	})
}

// Addrs returns the usable addresses in order of assignment; tentative ones
// are not among them.
func (i *Interface) Addrs() []netip.Prefix {
	var list []netip.Prefix
	for _, a := range i.stack.cfg.Load().addrs {
		if a.iface == i && a.state != addrTentative {
			list = append(list, a.prefix)
		}
	}
	return list
}

// Ready waits until no address is tentative. The error wraps EADDRINUSE when
// an address turned out to be taken, ENETDOWN when the device failed.
func (i *Interface) Ready(ctx context.Context) error {
	for {
		i.changedMu.Lock()
		ch, problem := i.changed, i.problem
		i.changedMu.Unlock()
		if problem != nil {
			return problem
		}
		if i.stack.closed.Load() {
			return net.ErrClosed
		}
		if !slices.ContainsFunc(i.stack.cfg.Load().addrs, func(a *address) bool {
			return a.iface == i && a.state == addrTentative
		}) {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitUsable waits until the address may be used. EADDRINUSE: it was given up,
// because another host has it; ENETDOWN: the device failed, or was removed.
func (i *Interface) WaitUsable(ctx context.Context, a netip.Addr) error {
	for {
		i.changedMu.Lock()
		ch := i.changed
		i.changedMu.Unlock()
		if i.stack.closed.Load() {
			return net.ErrClosed
		}
		list := i.stack.cfg.Load().addrs
		n := slices.IndexFunc(list, func(x *address) bool { return x.addr() == a && x.iface == i })
		if n >= 0 && list[n].state != addrTentative {
			return nil
		}
		if i.isDown() {
			return i.downError()
		}
		if n < 0 {
			return fmt.Errorf("address %v: %w", a, syscall.EADDRINUSE)
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitAddr waits until the interface has a usable address for which want
// returns true, and returns it: what SLAAC or DHCP will bring. ENETDOWN: the
// device failed, or was removed.
func (i *Interface) WaitAddr(ctx context.Context, want func(netip.Prefix) bool) (netip.Prefix, error) {
	for {
		i.changedMu.Lock()
		ch := i.changed
		i.changedMu.Unlock()
		for _, p := range i.Addrs() {
			if want(p) {
				return p, nil
			}
		}
		if i.stack.closed.Load() {
			return netip.Prefix{}, net.ErrClosed
		}
		if i.isDown() {
			return netip.Prefix{}, i.downError()
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return netip.Prefix{}, ctx.Err()
		}
	}
}

// downError is what those are told who wait for an interface that is gone.
func (i *Interface) downError() error {
	return fmt.Errorf("interface %s: %w", i.name, syscall.ENETDOWN)
}

// announceChange wakes those who wait in Ready and WaitAddr.
func (i *Interface) announceChange(problem error) {
	i.changedMu.Lock()
	if i.problem == nil {
		i.problem = problem
	}
	close(i.changed)
	i.changed = make(chan struct{})
	i.changedMu.Unlock()
	i.observed()
}

// assigned does what becomes possible with a usable address.
func (i *Interface) assigned(a netip.Addr) {
	if a.Is6() && a.IsLinkLocalUnicast() {
		// MLD reports so far went out from the unspecified address and are
		// repeated from this one (RFC 3590 §4).
		i.enter(i.stack.clock.Now())
		i.members[inet6].Announce(i.now)
		i.leave()
	}
	i.solicitRouters(a)
	i.tellRouters(a)
	i.announceChange(nil)
	i.tellUsable(a)
}

// actLocked carries out what a claim asks for.
func (i *Interface) actLocked(a netip.Addr, c *claim.Claim, act claim.Action) {
	for ; act != claim.None; act = c.Expire(i.now) {
		switch act {
		case claim.Probe:
			i.sendProbeLocked(a)
			c.Sent(i.stack.clock.Now())
		case claim.Announce, claim.Defend:
			i.sendAnnounceLocked(a)
		case claim.Assigned:
			i.after = append(i.after, func() {
				if i.assign(a, c) {
					i.assigned(a)
				}
			})
		case claim.Failed:
			i.stack.stats.ND.Duplicate.inc()
			i.unclaimLocked(a)
			i.after = append(i.after, func() { i.giveUp(a) })
			return
		case claim.Lost:
			i.unclaimLocked(a)
			i.after = append(i.after, func() { i.giveUp(a) })
			return
		}
		if !c.Deadline().Due(i.now) {
			return
		}
	}
}

// assign lets an address be used, unless its claim has begun anew meanwhile, or
// is not the address's any more.
func (i *Interface) assign(a netip.Addr, c *claim.Claim) (done bool) {
	i.changeAddr(a, func(x *address) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if done = i.claims[a] == c && c.State() == claim.StateAssigned; done {
			x.state, x.optimistic = addrAssigned, false
		}
	})
	return done
}

// unclaimLocked forgets the claim of an address.
func (i *Interface) unclaimLocked(a netip.Addr) {
	delete(i.claims, a)
	delete(i.nonces, a)
}

// giveUp removes an address that belongs to another host.
func (i *Interface) giveUp(a netip.Addr) {
	x := i.stack.cfg.Load().addrOf(a, i)
	if x != nil && i.replace(x) {
		return
	}
	i.stack.tcp.resetConnections(a)
	claimant := i.takeClaimant(a)
	if claimant == nil {
		// The reason comes first: who waits in Ready must not see the address
		// gone and take that for success.
		i.announceChange(fmt.Errorf("address %v is in use by another host on %s: %w", a, i.name, syscall.EADDRINUSE))
	}
	i.LoseAddr(a)
	i.tellGone(claimant, a, AddrConflict)
}

// conflictLocked tells a claim that somebody else uses its address.
func (i *Interface) conflictLocked(a netip.Addr) {
	if c := i.claims[a]; c != nil {
		i.actLocked(a, c, c.Conflict(i.now))
	}
}

// deprecate marks an address that SLAAC no longer prefers, or does again.
func (i *Interface) deprecate(a netip.Addr, old bool) {
	i.changeAddr(a, func(x *address) { x.deprecated = old })
}
