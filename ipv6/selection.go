package ipv6

import (
	"cmp"
	"net/netip"
)

// This file owns the choice of addresses of RFC 6724: the source for a
// destination (§5), and in which order to try the destinations of a name (§6).
// The rules about home addresses and encapsulation have nothing to tell on a
// host without mobility and tunnels.

// Source is an address to choose from.
type Source struct {
	Addr netip.Addr
	// Deprecated says that its preferred lifetime is over (RFC 4862 §5.5.4).
	Deprecated bool
	// Outgoing: on the interface the packet leaves by.
	Outgoing bool
	// Advertised: in a prefix that the next hop advertised (RFC 8028 §3.1).
	Advertised bool
	// Temporary: made by RFC 8981.
	Temporary bool
	// PrefixLen is the length of the on-link prefix of the address; 0: 64.
	PrefixLen int
}

// Preferences are what a socket or a host asks of the choice.
type Preferences struct {
	// Public prefers stable addresses to temporary ones, against rule 7
	// (RFC 5014's IPV6_PREFER_SRC_PUBLIC).
	Public bool
}

// CompareSources is below 0 when a is to be preferred to b as the source of
// what is sent to dst, above 0 when b is, and 0 when the rules of RFC 6724 §5
// do not tell: then the one that is used already, or any.
func (t *Policies) CompareSources(dst netip.Addr, a, b *Source, p Preferences) int {
	// Rule 1: prefer the same address.
	if c := prefer(a.Addr == dst, b.Addr == dst); c != 0 {
		return c
	}
	// Rule 2: prefer appropriate scope: the smallest not smaller than the
	// destination's.
	if sa, sb, sd := Scope(a.Addr), Scope(b.Addr), Scope(dst); sa != sb {
		if sa < sb {
			return prefer(sa >= sd, sa < sd)
		}
		return prefer(sb < sd, sb >= sd)
	}
	if c := cmp.Or(
		// Rule 3: avoid deprecated addresses.
		prefer(!a.Deprecated, !b.Deprecated),
		// Rule 5: prefer the outgoing interface.
		prefer(a.Outgoing, b.Outgoing),
		// Rule 5.5: prefer addresses in a prefix advertised by the next hop.
		prefer(a.Advertised, b.Advertised),
	); c != 0 {
		return c
	}
	// Rule 6: prefer matching label.
	if la, lb := t.Of(a.Addr).Label, t.Of(b.Addr).Label; la != lb {
		label := t.Of(dst).Label
		if c := prefer(la == label, lb == label); c != 0 {
			return c
		}
	}
	return cmp.Or(
		// Rule 7: prefer temporary addresses.
		prefer(a.Temporary != p.Public, b.Temporary != p.Public),
		// Rule 8: use longest matching prefix.
		b.common(dst)-a.common(dst),
	)
}

// common is CommonPrefixLen(S, D) of RFC 6724 §2.2: no longer than the prefix
// of the source, as interface identifiers tell nothing.
func (s *Source) common(dst netip.Addr) int {
	n := s.PrefixLen
	if n == 0 {
		n = 64
	}
	return min(CommonPrefix(s.Addr, dst), n)
}

// Destination is an address to try, with the source it would be reached from.
type Destination struct {
	Addr netip.Addr
	// Source is the zero Source when there is no way to Addr.
	Source Source
}

// CompareDestinations is below 0 when a is to be tried before b (RFC 6724 §6),
// and 0 where the rules do not tell and the order stays as it was.
func (t *Policies) CompareDestinations(a, b *Destination) int {
	pa, pb := t.Of(a.Addr), t.Of(b.Addr)
	sa, sb := a.Source.Addr, b.Source.Addr
	if !sa.IsValid() || !sb.IsValid() {
		// Rule 1: avoid unusable destinations. Among these, by precedence.
		return cmp.Or(prefer(sa.IsValid(), sb.IsValid()), pb.Precedence-pa.Precedence)
	}
	return cmp.Or(
		// Rule 2: prefer matching scope.
		prefer(Scope(a.Addr) == Scope(sa), Scope(b.Addr) == Scope(sb)),
		// Rule 3: avoid deprecated addresses.
		prefer(!a.Source.Deprecated, !b.Source.Deprecated),
		// Rule 5: prefer matching label.
		prefer(t.Of(sa).Label == pa.Label, t.Of(sb).Label == pb.Label),
		// Rule 6: prefer higher precedence.
		pb.Precedence-pa.Precedence,
		// Rule 8: prefer smaller scope.
		Scope(a.Addr)-Scope(b.Addr),
		// Rule 9: use longest matching prefix, of IPv6: within an IPv4 site it
		// says nothing and would undo the server's rotation.
		rule9(a, b),
	)
}

func rule9(a, b *Destination) int {
	if a.Addr.Is4() || b.Addr.Is4() {
		return 0
	}
	return b.Source.common(b.Addr) - a.Source.common(a.Addr)
}

// prefer is below 0 when only a, above 0 when only b.
func prefer(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
