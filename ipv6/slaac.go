package ipv6

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what a host learns from router advertisements: it solicits
// them (RFC 4861 §6.3.7), keeps the default routers and on-link prefixes
// (§6.3.4, §6.3.5) and configures addresses from prefixes (RFC 4862 §5.5). The
// link-local address and duplicate address detection are the owner's.

// Limits of what advertisements may make a host keep. When a table is full the
// entries that are there stay, so that a flood cannot displace them.
const (
	MaxAddresses = 16 // Linux: max_addresses
	MaxRouters   = 16
	MaxOnLink    = 32
)

// Constants of RFC 4861 §10 for soliciting routers.
const (
	maxRtrSolicitationDelay = 1 * time.Second
	rtrSolicitationInterval = 4 * time.Second
	maxRtrSolicitations     = 3
)

// twoHours is what a valid lifetime may not be cut below (RFC 4862 §5.5.3(e)).
const twoHours = 2 * time.Hour

// Bounds of what an advertisement may set: the lower ones are Linux's, so that
// one message cannot make a host flood its neighbours with solicitations, the
// upper one is RFC 4861 §6.2.1's.
const (
	minReachable = 100 * time.Millisecond
	maxReachable = time.Hour
	minRetrans   = 10 * time.Millisecond
)

// SLAACHost carries out what the core decides. Its methods are called from
// inside Start, Input, Expire and Stop and must not call the core. An address
// is a prefix that keeps its host bits, as 2001:db8::211:22ff:fe33:4456/64; its
// length does not say that the prefix is on-link. A time of 0 means never.
type SLAACHost interface {
	// SendRouterSolicit sends a solicitation to AllRouters; its source may be
	// unspecified while the link-local address is tentative.
	SendRouterSolicit()
	// AddAddress configures an address, which starts with duplicate address
	// detection. When that fails the core is not told: it keeps the entry, so
	// that the next advertisement does not configure the address again.
	AddAddress(p netip.Prefix, preferred, valid mono.Time)
	// UpdateAddress gives an address new lifetimes.
	UpdateAddress(p netip.Prefix, preferred, valid mono.Time)
	// Deprecate says that the preferred lifetime of an address has ended, or
	// that it was given a new one (RFC 4862 §5.5.4).
	Deprecate(p netip.Prefix, deprecated bool)
	// RemoveAddress ends an address: its valid lifetime is over.
	RemoveAddress(p netip.Prefix)
	// AddRouter and RemoveRouter keep the default router list; a is
	// link-local.
	AddRouter(a netip.Addr)
	RemoveRouter(a netip.Addr)
	// AddOnLink and RemoveOnLink keep the prefix list.
	AddOnLink(p netip.Prefix)
	RemoveOnLink(p netip.Prefix)
	// SetMTU sets the link MTU in bytes, at least MinMTU. A value above the
	// device's MTU is to be ignored (RFC 4861 §6.3.4).
	SetMTU(mtu int)
	// SetHopLimit sets the default hop limit of packets sent.
	SetHopLimit(n uint8)
	// SetTimers sets the base of the reachable time and the retransmission
	// time of neighbour discovery; 0 leaves one as it is.
	SetTimers(reachable, retrans time.Duration)
}

// SLAAC is one interface's router discovery and address configuration. It is
// not safe for concurrent use.
type SLAAC struct {
	host SLAACHost
	iid  [8]byte
	rnd  *rand.Rand

	running    bool
	solicited  int       // solicitations sent
	heard      bool      // a default router has answered
	solicitAt  mono.Time // next solicitation, 0: none
	addresses  []slaacAddress
	routers    []slaacRouter
	onLink     []slaacOnLink
	deadlineAt mono.Time // earliest of everything above
}

type slaacAddress struct {
	prefix           netip.Prefix // address and prefix length
	preferred, valid mono.Time    // 0: for ever
	deprecated       bool
}

type slaacRouter struct {
	addr  netip.Addr
	valid mono.Time
}

type slaacOnLink struct {
	prefix netip.Prefix
	valid  mono.Time // 0: for ever
}

// NewSLAAC returns a core that forms addresses with the interface identifier
// iid. It does nothing before Start.
func NewSLAAC(host SLAACHost, iid [8]byte, rnd *rand.Rand) *SLAAC {
	return &SLAAC{host: host, iid: iid, rnd: rnd}
}

// Start begins to solicit routers; the interface has come up.
func (s *SLAAC) Start(now mono.Time) {
	if s.running {
		return
	}
	s.running, s.solicited, s.heard = true, 0, false
	// RFC 4861 §6.3.7: a random delay, lest all hosts speak at once when a
	// link comes up.
	s.solicitAt = now.Add(time.Duration(s.rnd.Int64N(int64(maxRtrSolicitationDelay))))
	s.updateDeadline()
}

// Stop withdraws everything that was learned, because nothing would time it
// out any more; the interface goes down. Start may follow.
func (s *SLAAC) Stop() {
	for _, a := range s.addresses {
		s.host.RemoveAddress(a.prefix)
	}
	for _, p := range s.onLink {
		s.host.RemoveOnLink(p.prefix)
	}
	for _, r := range s.routers {
		s.host.RemoveRouter(r.addr)
	}
	*s = SLAAC{host: s.host, iid: s.iid, rnd: s.rnd}
}

// Deadline returns when Expire wants to be called next, 0 for never.
func (s *SLAAC) Deadline() mono.Time { return s.deadlineAt }

// Input applies an advertisement that ParseRouterAdvert accepted from src
// (RFC 4861 §6.3.4).
func (s *SLAAC) Input(now mono.Time, src netip.Addr, ra *RouterAdvert) {
	if !s.running {
		return
	}
	s.Expire(now)
	if ra.HopLimit != 0 {
		s.host.SetHopLimit(ra.HopLimit)
	}
	if ra.Reachable != 0 || ra.Retrans != 0 {
		var reachable, retrans time.Duration
		if ra.Reachable != 0 {
			reachable = min(max(ra.Reachable, minReachable), maxReachable)
		}
		if ra.Retrans != 0 {
			retrans = max(ra.Retrans, minRetrans)
		}
		s.host.SetTimers(reachable, retrans)
	}
	if ra.MTU >= MinMTU && ra.MTU <= HeaderLen+MaxPayload {
		s.host.SetMTU(int(ra.MTU))
	}
	s.inputRouter(now, src, ra.Lifetime)
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
			s.inputAutonomous(now, p)
		}
	}
	s.updateDeadline()
}

// RouterGone takes a off the default router list: its neighbour advertisement
// says that it is no router any more (RFC 4861 §7.2.5).
func (s *SLAAC) RouterGone(now mono.Time, a netip.Addr) {
	s.inputRouter(now, a, 0)
	s.updateDeadline()
}

// inputRouter keeps the default router list (RFC 4861 §6.3.4).
func (s *SLAAC) inputRouter(now mono.Time, src netip.Addr, lifetime time.Duration) {
	i := slices.IndexFunc(s.routers, func(r slaacRouter) bool { return r.addr == src })
	switch {
	case lifetime == 0:
		if i >= 0 {
			s.routers = slices.Delete(s.routers, i, i+1)
			s.host.RemoveRouter(src)
		}
		return
	case i >= 0:
		s.routers[i].valid = now.Add(lifetime)
	case len(s.routers) < MaxRouters:
		s.routers = append(s.routers, slaacRouter{src, now.Add(lifetime)})
		s.host.AddRouter(src)
	}
	// RFC 4861 §6.3.7: a default router has answered, so soliciting ends; but
	// one solicitation should go out even when the advertisement came first.
	s.heard = true
	if s.solicited > 0 {
		s.solicitAt = 0
	}
}

// inputOnLink keeps the prefix list (RFC 4861 §6.3.4).
func (s *SLAAC) inputOnLink(now mono.Time, p *PrefixInfo) {
	i := slices.IndexFunc(s.onLink, func(o slaacOnLink) bool { return o.prefix == p.Prefix })
	switch {
	case p.Valid == 0:
		if i >= 0 {
			s.onLink = slices.Delete(s.onLink, i, i+1)
			s.host.RemoveOnLink(p.Prefix)
		}
	case i >= 0:
		s.onLink[i].valid = after(now, p.Valid)
	case len(s.onLink) < MaxOnLink:
		s.onLink = append(s.onLink, slaacOnLink{p.Prefix, after(now, p.Valid)})
		s.host.AddOnLink(p.Prefix)
	}
}

// inputAutonomous configures an address or its lifetimes (RFC 4862 §5.5.3).
func (s *SLAAC) inputAutonomous(now mono.Time, p *PrefixInfo) {
	// (c)
	if p.Preferred > p.Valid {
		return
	}
	// (d): identifier and prefix fill the address; ours has 64 bits.
	if p.Prefix.Bits() != 64 {
		return
	}
	addr := netip.PrefixFrom(WithIID(p.Prefix, s.iid), 64)
	i := slices.IndexFunc(s.addresses, func(a slaacAddress) bool { return a.prefix == addr })
	if i < 0 {
		// (d): a new address, unless its life is over already.
		if p.Valid == 0 || len(s.addresses) == MaxAddresses {
			return
		}
		a := slaacAddress{prefix: addr, preferred: after(now, p.Preferred), valid: after(now, p.Valid)}
		s.addresses = append(s.addresses, a)
		s.host.AddAddress(a.prefix, a.preferred, a.valid)
		s.setDeprecated(&s.addresses[len(s.addresses)-1], now)
		return
	}
	// (e): the preferred lifetime is always taken. The valid one is not, or a
	// single forged advertisement could end all addresses: it may grow, or
	// shrink to two hours, but what has less left than that keeps it.
	a := &s.addresses[i]
	remaining := Infinite
	if a.valid != 0 {
		remaining = a.valid.Sub(now)
	}
	switch {
	case p.Valid > twoHours || p.Valid > remaining:
		a.valid = after(now, p.Valid)
	case remaining > twoHours:
		a.valid = now.Add(twoHours)
	}
	a.preferred = after(now, p.Preferred)
	s.host.UpdateAddress(a.prefix, a.preferred, a.valid)
	s.setDeprecated(a, now)
}

// setDeprecated tells the host when the preferred lifetime has ended or begun
// anew.
func (s *SLAAC) setDeprecated(a *slaacAddress, now mono.Time) {
	if d := a.preferred.Due(now); d != a.deprecated {
		a.deprecated = d
		s.host.Deprecate(a.prefix, d)
	}
}

// Expire does what is due at now: solicitations and the ends of lifetimes
// (RFC 4861 §6.3.5, RFC 4862 §5.5.4).
func (s *SLAAC) Expire(now mono.Time) {
	if !s.deadlineAt.Due(now) {
		return
	}
	if s.solicitAt.Due(now) {
		s.solicited++
		s.solicitAt = 0
		if s.solicited < maxRtrSolicitations && !s.heard {
			s.solicitAt = now.Add(rtrSolicitationInterval)
		}
		s.host.SendRouterSolicit()
	}
	s.routers = slices.DeleteFunc(s.routers, func(r slaacRouter) bool {
		due := r.valid.Due(now)
		if due {
			s.host.RemoveRouter(r.addr)
		}
		return due
	})
	s.onLink = slices.DeleteFunc(s.onLink, func(o slaacOnLink) bool {
		due := o.valid.Due(now)
		if due {
			s.host.RemoveOnLink(o.prefix)
		}
		return due
	})
	s.addresses = slices.DeleteFunc(s.addresses, func(a slaacAddress) bool {
		due := a.valid.Due(now)
		if due {
			s.host.RemoveAddress(a.prefix)
		}
		return due
	})
	for i := range s.addresses {
		s.setDeprecated(&s.addresses[i], now)
	}
	s.updateDeadline()
}

func (s *SLAAC) updateDeadline() {
	d := s.solicitAt
	for _, r := range s.routers {
		d = mono.Earliest(d, r.valid)
	}
	for _, o := range s.onLink {
		d = mono.Earliest(d, o.valid)
	}
	for i := range s.addresses {
		a := &s.addresses[i]
		d = mono.Earliest(d, a.valid)
		if !a.deprecated {
			d = mono.Earliest(d, a.preferred)
		}
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
