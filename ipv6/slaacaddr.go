package ipv6

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the addresses that a host makes for the prefixes of router
// advertisements: a stable one for each (RFC 4862 §5.5), and temporary ones
// beside it that take turns (RFC 8981).

// twoHours is what a valid lifetime may not be cut below (RFC 4862 §5.5.3(e)).
const twoHours = 2 * time.Hour

// Constants of RFC 8981 §3.8.
const (
	tempValidLifetime     = 48 * time.Hour
	tempPreferredLifetime = 24 * time.Hour
	tempIDGenRetries      = 3
	maxDesyncFactor       = tempPreferredLifetime * 4 / 10
	// regenAdvance is how long before its successor is made: 2 s, and the time
	// that probing three addresses takes, one probe and a second each.
	regenAdvance = 2*time.Second + tempIDGenRetries*time.Second
)

// How often another opaque identifier is tried, and after which time (RFC 7217
// §6).
const (
	IDGenRetries = 3
	IDGenDelay   = time.Second
)

// maxRoutersOf is how many routers are remembered that advertise a prefix.
const maxRoutersOf = 4

// AddressInfo is what is known of an address.
type AddressInfo struct {
	Preferred, Valid mono.Time
	Temporary        bool
	// Routers advertised the prefix of the address (RFC 8028 §3.1). Not to be
	// changed.
	Routers []netip.Addr
}

type slaacAddress struct {
	AddressInfo
	net        netip.Prefix // the prefix that was advertised
	prefix     netip.Prefix // the address with its prefix length; not valid: none yet, or taken
	deprecated bool
	tries      uint8     // addresses of this kind that were taken already
	retryAt    mono.Time // when to make another, 0: not
	// Of temporary ones: what the lifetimes never go beyond, and whether there
	// is a younger one.
	lastPreferred, lastValid mono.Time
	succeeded                bool
}

// deadline is when something is to be done about the address.
func (a *slaacAddress) deadline() mono.Time {
	d := mono.Earliest(a.Valid, a.retryAt)
	if !a.deprecated {
		d = mono.Earliest(d, a.Preferred)
	}
	if a.Temporary && !a.succeeded && a.Preferred != 0 {
		d = mono.Earliest(d, a.Preferred.Add(-regenAdvance))
	}
	return d
}

// inputAutonomous configures an address or its lifetimes (RFC 4862 §5.5.3).
func (s *SLAAC) inputAutonomous(now mono.Time, router netip.Addr, p *PrefixInfo) {
	// (c)
	if p.Preferred > p.Valid {
		return
	}
	// (d): identifier and prefix fill the address; ours has 64 bits.
	if p.Prefix.Bits() != 64 {
		return
	}
	i := slices.IndexFunc(s.addresses, func(a slaacAddress) bool { return a.net == p.Prefix && !a.Temporary })
	if i < 0 {
		// (d): a new address, unless its life is over already.
		if p.Valid == 0 {
			return
		}
		if len(s.addresses) >= MaxAddresses {
			s.host.Refused(DropAddressLimit)
			return
		}
		s.addresses = append(s.addresses, slaacAddress{net: p.Prefix,
			AddressInfo: AddressInfo{Preferred: after(now, p.Preferred), Valid: after(now, p.Valid), Routers: []netip.Addr{router}}})
		i = len(s.addresses) - 1
		s.make(now, &s.addresses[i])
	} else {
		s.refresh(now, &s.addresses[i], router, p)
	}
	s.refreshTemporary(now, i, p)
}

// make gives an entry its address and tells the host.
func (s *SLAAC) make(now mono.Time, a *slaacAddress) {
	iid := RandomIID(s.rnd)
	if !a.Temporary {
		iid = s.cfg.IID.Stable(a.net, a.tries)
	}
	a.prefix, a.retryAt = netip.PrefixFrom(WithIID(a.net, iid), 64), 0
	a.deprecated = false
	s.host.AddAddress(a.prefix, a.AddressInfo)
	s.setDeprecated(a, now)
}

// refresh is RFC 4862 §5.5.3 (e): the preferred lifetime is always taken. The
// valid one is not, or a single forged advertisement could end all addresses:
// it may grow, or shrink to two hours, but what has less left than that keeps
// it.
func (s *SLAAC) refresh(now mono.Time, a *slaacAddress, router netip.Addr, p *PrefixInfo) {
	remaining := Infinite
	if a.Valid != 0 {
		remaining = a.Valid.Sub(now)
	}
	switch {
	case p.Valid > twoHours || p.Valid > remaining:
		a.Valid = after(now, p.Valid)
	case remaining > twoHours:
		a.Valid = now.Add(twoHours)
	}
	a.Preferred = after(now, p.Preferred)
	if !slices.Contains(a.Routers, router) && len(a.Routers) < maxRoutersOf {
		a.Routers = append(slices.Clip(a.Routers), router)
	}
	s.update(now, a)
}

// update tells the host of an address's lifetimes.
func (s *SLAAC) update(now mono.Time, a *slaacAddress) {
	if a.prefix.IsValid() {
		s.host.UpdateAddress(a.prefix, a.AddressInfo)
		s.setDeprecated(a, now)
	}
}

// setDeprecated tells the host when the preferred lifetime has ended or begun
// anew.
func (s *SLAAC) setDeprecated(a *slaacAddress, now mono.Time) {
	if d := a.Preferred.Due(now); d != a.deprecated && a.prefix.IsValid() {
		a.deprecated = d
		s.host.Deprecate(a.prefix, d)
	}
}

// refreshTemporary gives the temporary addresses beside the stable one at i
// its lifetimes, as far as theirs go (RFC 8981 §3.4 step 1), and makes the
// first one (step 2).
func (s *SLAAC) refreshTemporary(now mono.Time, i int, p *PrefixInfo) {
	if !s.cfg.Temporary {
		return
	}
	stable, found := s.addresses[i], false
	for n := range s.addresses {
		a := &s.addresses[n]
		if !a.Temporary || a.net != stable.net {
			continue
		}
		// One that is to be replaced does not count, unless all that would
		// replace it turned out to be taken.
		found = found || !a.succeeded || a.tries == tempIDGenRetries
		a.Valid = mono.Earliest(stable.Valid, a.lastValid)
		a.Preferred = mono.Earliest(after(now, p.Preferred), a.lastPreferred)
		a.Routers = stable.Routers
		s.update(now, a)
	}
	if !found && !s.goesOn(now, stable.net) {
		s.makeTemporary(now, stable.net, 0)
	}
}

// goesOn has the youngest temporary address of a prefix wait for a successor
// again, and reports whether there is one: none could be made when it was time,
// as the prefix was about to end, and now it has been prolonged. With each
// advertisement of a prefix that is never preferred for long there would else be
// one more address.
func (s *SLAAC) goesOn(now mono.Time, prefix netip.Prefix) bool {
	for n := len(s.addresses) - 1; n >= 0; n-- {
		a := &s.addresses[n]
		if a.Temporary && a.net == prefix && a.prefix.IsValid() && a.Preferred.Sub(now) > regenAdvance {
			a.succeeded = false
			return true
		}
	}
	return false
}

// makeTemporary makes a temporary address beside the stable one of a prefix,
// and reports whether it did (RFC 8981 §3.4 steps 3 to 5).
func (s *SLAAC) makeTemporary(now mono.Time, prefix netip.Prefix, tries uint8) bool {
	i := slices.IndexFunc(s.addresses, func(a slaacAddress) bool { return a.net == prefix && !a.Temporary })
	if i < 0 || len(s.addresses) >= MaxAddresses || tries >= tempIDGenRetries {
		return false
	}
	desync := time.Duration(s.rnd.Int64N(int64(maxDesyncFactor)))
	a := slaacAddress{net: prefix, tries: tries, lastPreferred: now.Add(tempPreferredLifetime - desync), lastValid: now.Add(tempValidLifetime)}
	stable := &s.addresses[i]
	a.AddressInfo = AddressInfo{Temporary: true, Preferred: mono.Earliest(stable.Preferred, a.lastPreferred),
		Valid: mono.Earliest(stable.Valid, a.lastValid), Routers: stable.Routers}
	// Step 4: one that would have to be replaced at once is not made.
	if a.Preferred.Sub(now) <= regenAdvance {
		return false
	}
	s.addresses = append(s.addresses, a)
	s.make(now, &s.addresses[len(s.addresses)-1])
	return true
}

// Duplicate says that another host has the address a, which duplicate address
// detection found. A stable opaque address is tried again with the next
// identifier, after a while (RFC 7217 §6), a temporary one at once (RFC 8981
// §3.4 step 6). One made of the MAC address stays away: the entry is kept, so
// that the next advertisement does not configure it again.
func (s *SLAAC) Duplicate(now mono.Time, addr netip.Addr) {
	i := slices.IndexFunc(s.addresses, func(a slaacAddress) bool { return a.prefix.IsValid() && a.prefix.Addr() == addr })
	if i < 0 {
		return
	}
	a := &s.addresses[i]
	a.tries++
	switch {
	case a.Temporary:
		prefix, tries := a.net, a.tries
		if tries < tempIDGenRetries {
			s.addresses = slices.Delete(s.addresses, i, i+1)
			s.makeTemporary(now, prefix, tries)
			break
		}
		a.prefix, a.succeeded = netip.Prefix{}, true
	case s.cfg.IID.Mode == IIDOpaque && a.tries <= IDGenRetries:
		a.prefix, a.retryAt = netip.Prefix{}, now.Add(IDGenDelay)
	default:
		a.prefix = netip.Prefix{}
	}
	s.updateDeadline()
}

// expireAddresses ends addresses (RFC 4862 §5.5.4), and makes those that are
// due: successors of temporary ones, and others for those that were taken.
func (s *SLAAC) expireAddresses(now mono.Time) {
	s.addresses = slices.DeleteFunc(s.addresses, func(a slaacAddress) bool {
		due := a.Valid.Due(now)
		if due && a.prefix.IsValid() {
			s.host.RemoveAddress(a.prefix)
		}
		return due
	})
	for i := range s.addresses {
		a := &s.addresses[i]
		s.setDeprecated(a, now)
		if !a.prefix.IsValid() && a.Preferred.Due(now) {
			a.deprecated = true
		}
		if a.retryAt.Due(now) {
			s.make(now, a)
		}
	}
	// RFC 8981 §3.5: before the preferred lifetime ends there is another.
	for i := 0; i < len(s.addresses); i++ {
		if a := &s.addresses[i]; a.Temporary && !a.succeeded && a.Preferred != 0 && a.Preferred.Add(-regenAdvance).Due(now) {
			a.succeeded = true
			s.makeTemporary(now, a.net, 0)
		}
	}
}
