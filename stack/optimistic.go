package stack

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
)

// This file owns what a new IPv6 address may do early: optimistic addresses, in
// use while duplicate address detection still runs (RFC 4429), and telling the
// routers of addresses before anybody asks (RFC 9131). An optimistic address
// must not change what others know of the one who may have it: it is in no
// question to a neighbour, and in answers does not override. Addresses that
// somebody configures are probed first (RFC 4429 §3.1), and those of routers
// whose link-layer address is not known (§3.3), as Linux does.

// isOptimistic reports whether an address of interface i is optimistic.
func (c *config) isOptimistic(a netip.Addr, i *Interface) bool {
	x := c.addrOf(a, i)
	return x != nil && x.optimistic
}

// certain is the configuration as it would be without the optimistic addresses
// of interface i: for the source of a question to a neighbour (RFC 4429 §3.2).
// When no other is left nothing is asked yet; what is to be sent waits in the
// neighbour's queue for the next time.
func (c *config) certain(i *Interface) *config {
	x := *c
	x.addrs = slices.DeleteFunc(slices.Clone(c.addrs), func(a *address) bool { return a.iface == i && a.optimistic })
	return &x
}

// usableEarly does what becomes possible with an optimistic address. Routers are
// solicited at once, from the unspecified address (RFC 4429 §3.2): what they say
// is there when the detection ends, or before. Departs from Linux, which takes
// such addresses as well, but waits with the solicitation.
func (i *Interface) usableEarly(a netip.Addr) {
	i.solicitRouters(a)
	i.tellRouters(a)
	i.announceChange(nil)
	i.tellUsable(a)
}

// solicitRouters begins to solicit routers once there is a link-local address, or
// there will be one soon (RFC 4861 §6.3.7).
func (i *Interface) solicitRouters(a netip.Addr) {
	if i.slaac == nil || !a.Is6() || !a.IsLinkLocalUnicast() {
		return
	}
	i.enter(i.stack.clock.Now())
	i.slaac.Start(i.now)
	i.leave()
}

// tellRouters sends a neighbour advertisement to all routers, without the
// override flag, which an older owner's neighbours would obey (RFC 9131 §4.1.1).
func (i *Interface) tellRouters(a netip.Addr) {
	if !i.announce6 || i.loopback || !a.Is6() {
		return
	}
	m := ipv6.NeighborAdvert{Target: a, TargetMAC: i.mac, HasMAC: true}
	i.stack.stats.ND.Advert.inc()
	var scratch ndScratch
	i.sendND(ether.Multicast(ipv6.AllRouters), a, ipv6.AllRouters, m.Append(scratch[:0]))
}
