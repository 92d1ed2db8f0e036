package stack

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
)

// This file owns what becomes of router advertisements: the core of package
// ipv6 decides, and here it is carried out.

// TempAddrs says whether there are temporary addresses beside those that stay
// the same (RFC 8981), with the values of Linux's use_tempaddr.
type TempAddrs uint8

// The values.
const (
	TempAddrsOff    TempAddrs = iota
	TempAddrsUsable           // they are made, and used by who asks for them
	TempAddrsPrefer           // they are made, and preferred as sources (RFC 6724 rule 7)
)

// newSLAAC makes the core of an interface.
func (i *Interface) newSLAAC() *ipv6.SLAAC {
	return ipv6.NewSLAAC((*slaacHost)(i), ipv6.SLAACConfig{IID: i.iid, Temporary: i.temp != TempAddrsOff, Ignore: i.ignoreRA}, i.rnd)
}

// Advertised is what routers advertise for a host to use, beside addresses and
// routes.
type Advertised struct {
	// DNS and Search are the name servers and search domains (RFC 8106).
	DNS    []netip.Addr
	Search []string
	// Managed and Other say that DHCPv6 has addresses, or other configuration
	// (RFC 4861 §4.2).
	Managed, Other bool
	// Portal is the URI of the captive portal's API (RFC 8910), if any.
	Portal string
	// Routers are those that advertise, each with the flags it has (RFC 5175), at
	// most ipv6.MaxRouters. Also those that are no default routers.
	Routers []ipv6.Advertiser
}

// Advertised returns what routers advertise on the interface. The slices are
// not to be changed.
func (i *Interface) Advertised() Advertised {
	if a := i.advertised.Load(); a != nil {
		return *a
	}
	return Advertised{}
}

// NameServers returns the servers and the search domains that routers on the
// interface advertise at present; link-local servers have the interface as their
// zone. Without InterfaceConfig.SLAAC nobody listens.
func (i *Interface) NameServers() (servers []netip.Addr, search []string) {
	a := i.Advertised()
	for _, s := range a.DNS {
		if s.IsLinkLocalUnicast() {
			s = s.WithZone(i.name)
		}
		servers = append(servers, s)
	}
	return servers, a.Search
}

// slaacHost is the interface as its SLAAC core sees it. Its methods run with
// Interface.mu held; changes of the configuration wait until it is released.
type slaacHost Interface

func (h *slaacHost) later(f func(*Interface)) {
	i := (*Interface)(h)
	i.after = append(i.after, func() { f(i) })
}

// advertise changes what is known, and wakes those who wait for it.
func (h *slaacHost) advertise(change func(*Advertised)) {
	i := (*Interface)(h)
	a := i.Advertised()
	change(&a)
	i.advertised.Store(&a)
	h.later(func(i *Interface) { i.announceChange(nil) })
}

// SendRouterSolicit implements ipv6.SLAACHost.
func (h *slaacHost) SendRouterSolicit() {
	i := (*Interface)(h)
	src := i.stack.cfg.Load().selectSource(ipv6.AllRouters, i, ipv6.AllRouters)
	if i.stack.cfg.Load().isOptimistic(src, i) {
		src = netip.Addr{} // RFC 4429 §3.2
	}
	m := ipv6.RouterSolicit{SourceMAC: i.mac, HasMAC: src.IsValid() && !i.ptp}
	if !src.IsValid() {
		src = any6 // RFC 4861 §4.1: then without our link-layer address
	}
	i.stack.stats.ND.RouterSolicit.inc()
	var scratch ndScratch
	i.sendND(ether.Multicast(ipv6.AllRouters), src, ipv6.AllRouters, m.Append(scratch[:0]))
}

// AddAddress implements ipv6.SLAACHost.
func (h *slaacHost) AddAddress(p netip.Prefix, info ipv6.AddressInfo) {
	known := h.routerKnown
	h.later(func(i *Interface) {
		err := i.claimAddress(Addr{Prefix: p, Origin: OriginRouter, Temporary: info.Temporary, Preferred: info.Preferred, Valid: info.Valid,
			Optimistic: known && i.optimistic}, info.Routers, 0, nil)
		if i.notAdded(err, ipv6.DropAddressLimit) {
			i.takenAway(p.Addr())
		}
	})
}

// UpdateAddress implements ipv6.SLAACHost.
func (h *slaacHost) UpdateAddress(p netip.Prefix, info ipv6.AddressInfo) {
	h.later(func(i *Interface) {
		i.setLifetimes(p.Addr(), info.Preferred, info.Valid, func(x *address) bool { return x.origin == OriginRouter })
		if x := i.stack.cfg.Load().addrOf(p.Addr(), i); x != nil && !slices.Equal(x.routers, info.Routers) {
			i.changeLearnt(p.Addr(), func(x *address) { x.routers = info.Routers })
		}
	})
}

// RemoveAddress implements ipv6.SLAACHost.
func (h *slaacHost) RemoveAddress(p netip.Prefix) {
	if h.sparing {
		h.later(func(i *Interface) { i.takeAddr(p.Addr(), OriginRouter, true) })
		return
	}
	h.later(func(i *Interface) { i.loseAddr(p.Addr(), OriginRouter) })
}

// Deprecate implements ipv6.SLAACHost.
func (h *slaacHost) Deprecate(p netip.Prefix, old bool) {
	h.later(func(i *Interface) { i.changeLearnt(p.Addr(), func(x *address) { x.deprecated = old }) })
}

// changeLearnt is changeAddr for an address that SLAAC has made: the same one may
// have been there already, from its user.
func (i *Interface) changeLearnt(a netip.Addr, change func(*address)) {
	i.changeAddr(a, func(x *address) {
		if x.origin == OriginRouter {
			change(x)
		}
	})
}

// routerMetric is the metric that Linux gives to learnt routes.
const routerMetric = 1024

// SetRoute implements ipv6.SLAACHost.
func (h *slaacHost) SetRoute(dst netip.Prefix, router netip.Addr, p ipv6.Preference) {
	h.later(func(i *Interface) {
		r := Route{Dst: dst, Gateway: router, Interface: i, Metric: routerMetric, Origin: OriginRouter, Preference: p}
		if i.stack.changeRoute(r) != nil && i.notAdded(i.stack.AddRoute(r), ipv6.DropRouteLimit) {
			i.routeTakenAway(r)
		}
		i.announceChange(nil)
	})
}

// RemoveRoute implements ipv6.SLAACHost.
func (h *slaacHost) RemoveRoute(dst netip.Prefix, router netip.Addr) {
	h.later(func(i *Interface) { i.stack.forgetRoute(Route{Dst: dst, Gateway: router, Interface: i}) })
}

// AddOnLink implements ipv6.SLAACHost.
func (h *slaacHost) AddOnLink(p netip.Prefix) {
	h.later(func(i *Interface) {
		r := Route{Dst: p, Interface: i, Metric: 256, Origin: OriginRouter}
		if i.notAdded(i.stack.AddRoute(r), ipv6.DropRouteLimit) {
			i.routeTakenAway(r)
		}
	})
}

// RemoveOnLink implements ipv6.SLAACHost.
func (h *slaacHost) RemoveOnLink(p netip.Prefix) {
	h.later(func(i *Interface) { i.stack.forgetRoute(Route{Dst: p, Interface: i}) })
}

// Refused implements ipv6.SLAACHost.
func (h *slaacHost) Refused(why ipv6.Drop) { h.stack.stats.ND.Drop[why].inc() }

// SetMTU implements ipv6.SLAACHost.
func (h *slaacHost) SetMTU(mtu int) {
	// Most advertisements say what the last one said, and a change has every
	// connection look for its route again.
	if mtu >= ipv6.MinMTU && mtu <= (*Interface)(h).MTU() && h.mtu6.Swap(int32(mtu)) != int32(mtu) {
		h.later(func(i *Interface) { i.stack.refreshRoutes() })
	}
}

// SetHopLimit implements ipv6.SLAACHost.
func (h *slaacHost) SetHopLimit(n uint8) { h.hopLimit.Store(int32(n)) }

// SetTimers implements ipv6.SLAACHost.
func (h *slaacHost) SetTimers(reachable, retrans time.Duration) {
	h.neigh[inet6].SetTimers(reachable, retrans)
	if retrans > 0 {
		h.retrans.Store(int64(retrans))
	}
}

// SetNames implements ipv6.SLAACHost.
func (h *slaacHost) SetNames(servers []netip.Addr, domains []string) {
	h.advertise(func(a *Advertised) { a.DNS, a.Search = slices.Clone(servers), slices.Clone(domains) })
}

// SetDHCP implements ipv6.SLAACHost.
func (h *slaacHost) SetDHCP(managed, other bool) {
	h.advertise(func(a *Advertised) { a.Managed, a.Other = managed, other })
}

// SetAdvertisers implements ipv6.SLAACHost.
func (h *slaacHost) SetAdvertisers(list []ipv6.Advertiser) {
	h.advertise(func(a *Advertised) { a.Routers = list })
}

// SetPortal implements ipv6.SLAACHost.
func (h *slaacHost) SetPortal(uri string) { h.advertise(func(a *Advertised) { a.Portal = uri }) }

// replace takes away an address that another host has, if another one will be
// there in its place, and reports whether so: SLAAC makes one, or the interface
// another link-local address (RFC 7217 §6).
func (i *Interface) replace(x *address) bool {
	a := x.addr()
	switch {
	case x.origin == OriginRouter && i.slaac != nil:
		i.delAddr(a, OriginStatic)
		i.enter(i.stack.clock.Now())
		i.slaac.Duplicate(i.now, a)
		i.leave()
		return true
	case x.origin == OriginKernel && i.iid.Mode == ipv6.IIDOpaque && a.IsLinkLocalUnicast() && i.linkLocals.Add(1) <= ipv6.IDGenRetries:
		// The new one is there before the old one goes, for who waits in Ready.
		i.addLinkLocal(ipv6.IDGenDelay)
		i.DelAddr(a)
		return true
	case x.origin == OriginKernel && i.slaac != nil:
		// RFC 4862 §5.4.5: another host has our MAC address, or what looks like
		// it; nothing is configured here.
		i.enter(i.stack.clock.Now())
		i.slaac.Stop()
		i.leave()
	}
	return false
}

// hasLinkLocal reports whether the interface has a link-local address.
func (i *Interface) hasLinkLocal() bool {
	return slices.ContainsFunc(i.stack.cfg.Load().addrs, func(a *address) bool {
		return a.iface == i && a.addr().Is6() && a.addr().IsLinkLocalUnicast()
	})
}

// addLinkLocal gives the interface its link-local address (RFC 4862 §5.3).
func (i *Interface) addLinkLocal(wait time.Duration) error {
	p := netip.PrefixFrom(ipv6.WithIID(ipv6.LinkLocalPrefix, i.iid.Stable(ipv6.LinkLocalPrefix, uint8(i.linkLocals.Load()))), 64)
	return i.claimAddress(Addr{Prefix: p, Origin: OriginKernel, Optimistic: i.optimistic && wait == 0}, nil, wait, nil)
}

// Link6 returns the MTU in bytes and the hop limit of IPv6 packets that leave by
// the interface, which routers may have set (RFC 4861 §6.3.4).
func (i *Interface) Link6() (mtu int, hopLimit uint8) {
	if h := i.hopLimit.Load(); h != 0 {
		return i.mtuFor(any6), uint8(h)
	}
	return i.mtuFor(any6), defaultTTL
}
