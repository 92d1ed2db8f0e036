package ipv6

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what a host learns from router advertisements: it solicits
// them (RFC 4861 §6.3.7, RFC 7559) and hands what they say to those who keep
// it: routers, routes and on-link prefixes (slaacroutes.go), addresses
// (slaacaddr.go), name servers (slaacdns.go) and routers' flags (raflags.go). The link-local address and
// duplicate address detection are the owner's.

// Limits of what advertisements may make a host keep. When a table is full the
// entries that are there stay, so that a flood cannot displace them.
const (
	MaxAddresses = 16 // Linux: max_addresses
	MaxRouters   = 16
	MaxRoutes    = 32
	MaxOnLink    = 32
)

// Constants for soliciting routers: RFC 4861 §10, and of RFC 7559 §2 the
// longest time between two.
const (
	maxRtrSolicitationDelay = 1 * time.Second
	rtrSolicitationInterval = 4 * time.Second // IRT
	maxRtrSolicitationTime  = time.Hour       // MRT
)

// advDefaultLifetime is AdvDefaultLifetime where nobody has set it (RFC 4861
// §6.2.1): three times MaxRtrAdvInterval.
const advDefaultLifetime = 1800 * time.Second

// Bounds of what an advertisement may set: the lower ones are Linux's, so that
// one message cannot make a host flood its neighbours with solicitations, the
// upper ones so that it cannot stop it asking, nor leave its next address
// tentative for the 49 days that the field has room for. That of the reachable
// time is RFC 4861 §6.2.1's, the other is internal/neigh's; Linux has none.
const (
	minReachable = 100 * time.Millisecond
	maxReachable = time.Hour
	minRetrans   = 10 * time.Millisecond
	maxRetrans   = time.Minute
)

// noPortal is the URI that says that there is no captive portal (RFC 8910 §2).
const noPortal = "urn:ietf:params:capport:unrestricted"

// SLAACHost carries out what the core decides. Its methods are called from
// inside Start, Input, Expire, Duplicate and Stop and must not call the core.
// An address is a prefix that keeps its host bits, as
// 2001:db8::211:22ff:fe33:4456/64; its length does not say that the prefix is
// on-link. A time of 0 means never.
type SLAACHost interface {
	// SendRouterSolicit sends a solicitation to AllRouters; its source may be
	// unspecified while the link-local address is tentative.
	SendRouterSolicit()
	// AddAddress configures an address, which starts with duplicate address
	// detection. When that fails Duplicate is called.
	AddAddress(p netip.Prefix, info AddressInfo)
	// UpdateAddress gives an address new lifetimes, or another router.
	UpdateAddress(p netip.Prefix, info AddressInfo)
	// Deprecate says that the preferred lifetime of an address has ended, or
	// that it was given a new one (RFC 4862 §5.5.4).
	Deprecate(p netip.Prefix, deprecated bool)
	// RemoveAddress ends an address: its valid lifetime is over.
	RemoveAddress(p netip.Prefix)
	// SetRoute adds a route, or gives it another preference. Those to ::/0 are
	// the default router list. router is link-local.
	SetRoute(dst netip.Prefix, router netip.Addr, p Preference)
	RemoveRoute(dst netip.Prefix, router netip.Addr)
	// AddOnLink and RemoveOnLink keep the prefix list.
	AddOnLink(p netip.Prefix)
	RemoveOnLink(p netip.Prefix)
	// Refused counts what an advertisement says that is not taken because its
	// table is full: DropAddressLimit or DropRouteLimit.
	Refused(why Drop)
	// SetMTU sets the link MTU in bytes, at least MinMTU. A value above the
	// device's MTU is to be ignored (RFC 4861 §6.3.4).
	SetMTU(mtu int)
	// SetHopLimit sets the default hop limit of packets sent.
	SetHopLimit(n uint8)
	// SetTimers sets the base of the reachable time and the retransmission
	// time of neighbour discovery; 0 leaves one as it is.
	SetTimers(reachable, retrans time.Duration)
	// SetNames tells the name servers and search domains, all of them; the
	// slices are the host's.
	SetNames(servers []netip.Addr, domains []string)
	// SetDHCP tells what is to be had by DHCPv6: addresses (M), other
	// configuration (O) (RFC 4861 §4.2). M includes the other.
	SetDHCP(managed, other bool)
	// SetAdvertisers tells who advertises, with which flags (RFC 5175): all of
	// them, in the order they were first heard. The slice is the host's.
	SetAdvertisers([]Advertiser)
	// SetPortal tells the URI of the captive portal's API (RFC 8910 §2.3), "" for
	// none.
	SetPortal(uri string)
}

// SLAACConfig is what a core needs to know.
type SLAACConfig struct {
	IID IIDConfig
	// Temporary makes temporary addresses beside the stable ones (RFC 8981).
	Temporary bool
	// Ignore is what of advertisements is left aside.
	Ignore RAIgnore
}

// SLAAC is one interface's router discovery and address configuration. It is
// not safe for concurrent use.
type SLAAC struct {
	host SLAACHost
	cfg  SLAACConfig
	rnd  *rand.Rand

	running   bool // routers are solicited
	stopped   bool
	solicited bool          // a solicitation was sent
	heard     bool          // a default router has answered
	solicitAt mono.Time     // next solicitation, 0: none
	interval  time.Duration // RT of RFC 7559: between the last and the next
	managed   bool
	other     bool
	portal    string
	// advertisers are the routers that were heard.
	advertisers []Advertiser
	addresses   []slaacAddress
	routes      []slaacRoute
	onLink      []slaacOnLink
	servers     []slaacName[netip.Addr]
	domains     []slaacName[string]
	deadlineAt  mono.Time // earliest of everything above
}

// NewSLAAC returns a core. It sends nothing before Start.
func NewSLAAC(host SLAACHost, c SLAACConfig, rnd *rand.Rand) *SLAAC {
	return &SLAAC{host: host, cfg: c, rnd: rnd}
}

// Start begins to solicit routers; the interface has come up.
func (s *SLAAC) Start(now mono.Time) {
	if s.running {
		return
	}
	s.running, s.stopped = true, false
	// RFC 4861 §6.3.7: a random delay, lest all hosts speak at once when a
	// link comes up.
	s.solicitAt = now.Add(time.Duration(s.rnd.Int64N(int64(maxRtrSolicitationDelay))))
	s.updateDeadline()
}

// Resolicit asks for routers again, as if the interface had come up, and keeps
// what they said before: the link was away for a moment, and may be another one
// now (RFC 4861 §6.3.7).
func (s *SLAAC) Resolicit(now mono.Time) {
	if !s.running {
		return
	}
	s.running, s.solicited, s.heard, s.interval = false, false, false, 0
	s.Start(now)
}

// Stop withdraws everything that was learned, because nothing would time it
// out any more; the interface goes down. Start may follow.
func (s *SLAAC) Stop() {
	for _, a := range s.addresses {
		if a.prefix.IsValid() {
			s.host.RemoveAddress(a.prefix)
		}
	}
	for _, p := range s.onLink {
		s.host.RemoveOnLink(p.prefix)
	}
	for _, r := range s.routes {
		s.host.RemoveRoute(r.dst, r.router)
	}
	if len(s.servers)+len(s.domains) > 0 {
		s.host.SetNames(nil, nil)
	}
	if s.managed || s.other {
		s.host.SetDHCP(false, false)
	}
	if s.portal != "" {
		s.host.SetPortal("")
	}
	if len(s.advertisers) > 0 {
		s.host.SetAdvertisers(nil)
	}
	*s = SLAAC{host: s.host, cfg: s.cfg, rnd: s.rnd, stopped: true}
}

// Deadline returns when Expire wants to be called next, 0 for never.
func (s *SLAAC) Deadline() mono.Time { return s.deadlineAt }

// Input applies an advertisement that ParseRouterAdvert accepted from src
// (RFC 4861 §6.3.4). It need not have been asked for, but nothing is learnt
// between Stop and Start.
func (s *SLAAC) Input(now mono.Time, src netip.Addr, ra *RouterAdvert) {
	if s.stopped {
		return
	}
	s.Expire(now)
	ra = s.cfg.Ignore.strip(ra)
	if ra.HopLimit != 0 {
		s.host.SetHopLimit(ra.HopLimit)
	}
	if ra.Reachable != 0 || ra.Retrans != 0 {
		var reachable, retrans time.Duration
		if ra.Reachable != 0 {
			reachable = min(max(ra.Reachable, minReachable), maxReachable)
		}
		if ra.Retrans != 0 {
			retrans = min(max(ra.Retrans, minRetrans), maxRetrans)
		}
		s.host.SetTimers(reachable, retrans)
	}
	if ra.MTU >= MinMTU && ra.MTU <= HeaderLen+MaxPayload {
		s.host.SetMTU(int(ra.MTU))
	}
	if ra.Managed != s.managed || ra.Other != s.other {
		s.managed, s.other = ra.Managed, ra.Other
		s.host.SetDHCP(s.managed, s.other)
	}
	if uri := ra.Portal; uri != "" {
		if uri == noPortal {
			uri = ""
		}
		if uri != s.portal {
			s.portal = uri
			s.host.SetPortal(uri)
		}
	}
	s.inputFlags(now, src, ra)
	s.inputRouter(now, src, ra)
	for i := range ra.Prefixes {
		p := &ra.Prefixes[i]
		// RFC 4861 §6.3.4, RFC 4862 §5.5.3(b): the link-local prefix is never
		// learned. A multicast one makes no sense; Linux skips it too.
		if a := p.Prefix.Addr(); a.IsLinkLocalUnicast() || a.IsMulticast() {
			continue
		}
		if p.OnLink {
			s.inputOnLink(now, p)
		}
		if p.Autonomous {
			s.inputAutonomous(now, src, p)
		}
	}
	s.inputNames(now, ra)
	s.updateDeadline()
}

// answered ends the solicitations: a default router has spoken. One should go
// out even when the advertisement came first (RFC 4861 §6.3.7).
func (s *SLAAC) answered() {
	s.heard = true
	if s.solicited {
		s.solicitAt = 0
	}
}

// solicit sends a solicitation and sets the time of the next: without an
// answer they go on, further and further apart, lest a host that lost three is
// left without a router (RFC 7559 §2, with the formulae of RFC 8415 §15).
func (s *SLAAC) solicit(now mono.Time) {
	switch {
	case s.heard:
		s.solicitAt = 0
	case s.interval == 0:
		s.interval = rtrSolicitationInterval + s.jitter(rtrSolicitationInterval)
	default:
		s.interval = 2*s.interval + s.jitter(s.interval)
	}
	if s.interval > maxRtrSolicitationTime {
		s.interval = maxRtrSolicitationTime + s.jitter(maxRtrSolicitationTime)
	}
	if !s.heard {
		s.solicitAt = now.Add(s.interval)
	}
	s.solicited = true
	s.host.SendRouterSolicit()
}

// jitter is RAND times d: from -0.1 d to 0.1 d.
func (s *SLAAC) jitter(d time.Duration) time.Duration {
	return time.Duration(s.rnd.Int64N(int64(d)/5)) - d/10
}

// Expire does what is due at now: solicitations, and the ends of lifetimes
// (RFC 4861 §6.3.5, RFC 4862 §5.5.4).
func (s *SLAAC) Expire(now mono.Time) {
	if !s.deadlineAt.Due(now) {
		return
	}
	if s.solicitAt.Due(now) {
		s.solicit(now)
	}
	s.expireRoutes(now)
	s.expireAddresses(now)
	s.expireNames(now)
	s.expireFlags(now)
	s.updateDeadline()
}

func (s *SLAAC) updateDeadline() {
	d := s.solicitAt
	for i := range s.routes {
		d = mono.Earliest(d, s.routes[i].valid)
	}
	for i := range s.onLink {
		d = mono.Earliest(d, s.onLink[i].valid)
	}
	for i := range s.addresses {
		d = mono.Earliest(d, s.addresses[i].deadline())
	}
	for i := range s.servers {
		d = mono.Earliest(d, s.servers[i].valid)
	}
	for i := range s.domains {
		d = mono.Earliest(d, s.domains[i].valid)
	}
	for i := range s.advertisers {
		d = mono.Earliest(d, s.advertisers[i].until)
	}
	s.deadlineAt = d
}

// after returns the end of a lifetime that begins now, 0 for an infinite one.
func after(now mono.Time, lifetime time.Duration) mono.Time {
	if lifetime == Infinite {
		return 0
	}
	return now.Add(lifetime)
}
