package stack

// This file owns whether the link of an interface can be used, and how long its
// packets may be, both of which change while the stack runs: the user sets the
// interface down, a cable is pulled out, somebody changes the MTU.
//
// An interface that the user has set down is as on Linux: its routes lead
// nowhere, senders get ENETUNREACH, packet sockets ENETDOWN, what SLAAC has
// learnt is forgotten, and when it comes up again everything is claimed anew.
// One whose device lost its carrier keeps its routes, and what is sent is lost
// without an error. Either way its neighbours are forgotten, IPv4 addresses are
// announced again afterwards and groups reported, and TCP only sees that
// packets get lost.
//
// Departs from Linux: routes and addresses that the user has set come back with
// the link, where Linux forgets the routes and, of IPv6, the addresses; most
// systems run a program that sets them again. Routes without carrier are passed
// over while another one leads to the destination, as with Linux's
// ignore_routes_with_linkdown. And routers are asked again when the carrier
// comes back, which Linux leaves to that program too (RFC 4861 §6.3.7).

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// What keeps a link from being used. None of them: it is up.
const (
	linkSetDown   = 1 << iota // by the user
	linkNoCarrier             // the device says so
	linkFailed                // the device has failed, or was removed: for good
)

// linkDead are those with which routes lead nowhere.
const linkDead = linkSetDown | linkFailed

// isOff reports that nothing can be sent at present.
func (i *Interface) isOff() bool { return i.link.Load() != 0 }

// isDead reports that the interface is set down, or gone.
func (i *Interface) isDead() bool { return i.link.Load()&linkDead != 0 }

// noCarrier reports that the device has none.
func (i *Interface) noCarrier() bool { return i.link.Load()&linkNoCarrier != 0 }

// noIPv6 reports that there is no IPv6 here: the user wants none, or the link
// does not carry the 1280 bytes that it needs (RFC 8200 §5).
func (i *Interface) noIPv6() bool { return i.disableIPv6 || i.MTU() < ipv6.MinMTU }

// SetUp sets an interface up, or down. It is up from the start. EINVAL for
// loopback, ENODEV when it was removed, ENETDOWN when its device has failed.
func (l Links) SetUp(i *Interface, up bool) error {
	return i.changeLink(func() {
		if up {
			i.link.And(^uint32(linkSetDown))
		} else {
			i.link.Or(linkSetDown)
		}
	})
}

// SetMTU changes the largest IP packet of an interface, in bytes; 0 has it
// follow the device's, as at first without InterfaceConfig.MTU. Connections go
// on with segments of the new size. Below 1280 bytes there is no IPv6: its
// addresses and routes go, and with 1280 or more there is a link-local address
// again (RFC 8200 §5). Errors: EINVAL below 68 (RFC 791 §3.2) or above the
// device's, and those of SetUp.
func (l Links) SetMTU(i *Interface, mtu int) error {
	if most := int(i.devMTU.Load()); mtu != 0 && (mtu < minMTU4 || mtu > most) {
		return fmt.Errorf("MTU %d on %s: want %d to %d: %w", mtu, i.name, minMTU4, most, syscall.EINVAL)
	}
	return i.changeLink(func() { i.wantMTU = mtu })
}

// followDevice begins to listen to the device, and unfollowDevice ends it.
func (i *Interface) followDevice() {
	stop := ether.WatchLink(i.dev, i.deviceLink)
	i.changedMu.Lock()
	i.unwatch = stop
	i.changedMu.Unlock()
	if i.isDown() { // removed meanwhile
		stop()
	}
}

func (i *Interface) unfollowDevice() {
	i.changedMu.Lock()
	stop := i.unwatch
	i.changedMu.Unlock()
	if stop != nil {
		stop()
	}
}

// deviceLink is told by the device.
func (i *Interface) deviceLink(l ether.Link) {
	// An interface that is gone has no use for it.
	_ = i.changeLink(func() {
		if i.devMTU.Store(int32(max(l.MTU, minMTU4))); l.Up {
			i.link.And(^uint32(linkNoCarrier))
		} else {
			i.link.Or(linkNoCarrier)
		}
	})
}

// changeLink makes a change and has everything else follow it. One change is
// carried out after the other.
func (i *Interface) changeLink(change func()) error {
	s := i.stack
	i.linkMu.Lock()
	defer i.linkMu.Unlock()
	wasOff, wasDead, oldMTU, had6 := false, false, 0, false
	if err := s.update(func(c *config) error {
		switch {
		case s.closed.Load():
			return net.ErrClosed
		case i.loopback:
			return fmt.Errorf("interface %s: %w", i.name, syscall.EINVAL)
		case !slices.Contains(c.ifaces, i):
			return fmt.Errorf("interface %s: %w", i.name, syscall.ENODEV)
		case i.isDown():
			return fmt.Errorf("interface %s: %w", i.name, syscall.ENETDOWN)
		}
		old := i.link.Load()
		wasOff, wasDead, oldMTU, had6 = i.isOff(), i.isDead(), i.MTU(), !i.noIPv6()
		change()
		mtu := int(i.devMTU.Load())
		if i.wantMTU != 0 {
			mtu = min(mtu, i.wantMTU)
		}
		i.mtu.Store(int32(mtu))
		if had6 && i.noIPv6() {
			c.routes = slices.DeleteFunc(c.routes, func(r Route) bool { return r.Interface == i && r.Dst.Addr().Is6() && r.Origin != OriginRouter })
		}
		if i.link.Load() != old || mtu != oldMTU {
			s.watches.tell(Change{Kind: LinkChange, Op: Changed, Link: i.linkInfo()})
		}
		return nil
	}); err != nil {
		return err
	}
	if i.MTU() != oldMTU {
		i.mtuChanged(had6)
	}
	if !wasDead && i.isDead() {
		i.wasSetDown()
	}
	switch off := i.isOff(); {
	case off && !wasOff:
		i.linkLost()
	case wasOff && !off:
		i.linkBack()
	}
	return nil
}

// linkLost forgets what is known of the link. Claims under way and timers of
// addresses stand still until it is back.
func (i *Interface) linkLost() {
	i.enter(i.stack.clock.Now())
	for _, c := range i.neigh {
		c.Flush(i.now)
	}
	i.leave()
	i.announceChange(nil)
}

// wasSetDown is what follows beside that from the user's wish.
func (i *Interface) wasSetDown() {
	i.anew = true
	i.stack.exceptions.gatewayGone(netip.Addr{}, i)
	i.stopSLAAC(true)
	i.mtu6.Store(0)
	i.tellPackets()
}

// stopSLAAC withdraws what routers have taught. The connections from such
// addresses may be left alone: the same addresses may be back in a moment.
func (i *Interface) stopSLAAC(spare bool) {
	if i.slaac == nil {
		return
	}
	i.enter(i.stack.clock.Now())
	i.sparing = spare
	i.slaac.Stop()
	i.sparing = false
	i.leave()
}

// linkBack begins what a host does on a link that it may never have seen. IPv4
// addresses are announced, or probed with ACD (RFC 5227 §2.1). IPv6 ones are
// probed after the interface was set up (RFC 4862 §5.4); as on Linux, not when
// just the carrier was away, except those of which nobody knew yet. The rest
// follows from that: see assigned.
func (i *Interface) linkBack() {
	anew := i.anew
	i.anew = false
	if anew {
		var probed []netip.Addr
		for _, x := range i.stack.cfg.Load().addrs {
			if a := x.addr(); x.iface == i && a.Is6() && i.claimParams(a, nil).Probes > 0 {
				probed = append(probed, a)
			}
		}
		for _, a := range probed {
			i.changeAddr(a, func(x *address) { x.state, x.optimistic = addrTentative, false })
		}
	}
	i.enter(i.stack.clock.Now())
	var steady []netip.Addr
	for _, a := range i.claimsInOrderLocked() {
		switch c := i.claims[a]; {
		case a.Is4():
		case anew || c.Pending():
			c.Start(i.now)
		default:
			steady = append(steady, a)
		}
	}
	for _, m := range i.members {
		m.Announce(i.now)
	}
	if i.slaac != nil && !anew {
		i.slaac.Resolicit(i.now)
	}
	i.leave()
	for _, a := range steady {
		i.tellRouters(a)
	}
	i.Reclaim()
}

// mtuChanged is what follows from another MTU: all routes are looked up anew
// already, and connections with them.
func (i *Interface) mtuChanged(had6 bool) {
	has6 := !i.noIPv6()
	i.enter(i.stack.clock.Now())
	i.members[inet].MaxReport = igmpReport(i.MTU())
	i.leave()
	switch {
	case had6 && !has6:
		i.stopSLAAC(false)
		i.mtu6.Store(0)
		for _, p := range i.stack.cfg.Load().addrs {
			if p.iface == i && p.addr().Is6() {
				i.DelAddr(p.addr())
			}
		}
	case has6 && !had6:
		i.addLinkLocal(0) // with which SLAAC begins
	}
}

// igmpReport is the length of the longest report on a link.
func igmpReport(mtu int) int {
	return max(min(mtu, 1500)-ipv4.HeaderLen-len(ipv4.RouterAlert), minMTU4-ipv4.HeaderLen-len(ipv4.RouterAlert))
}

// refuse drops a packet that cannot leave at present. It takes p. ENETDOWN: the
// interface is set down, or gone; without a carrier there is no error, as with
// Linux's queue of such an interface.
func (i *Interface) refuse(dst netip.Addr, p *pkt.Buf) error {
	i.stack.dropOut(dst, DropLinkDown)
	p.Put()
	if i.isDead() {
		return syscall.ENETDOWN
	}
	return nil
}
