package socket

// This file owns the order in which the addresses of a name are tried: RFC 6724
// §6 with the default policy of §2.1, as far as a host without mobility and
// tunnels has use for its rules.

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
)

// policy is a line of the table of RFC 6724 §2.1.
type policy struct {
	prefix            netip.Prefix
	precedence, label int
}

// policies are searched from the top; the longest prefixes come first. IPv4
// addresses are looked up as ::ffff:0:0/96.
var policies = []policy{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4},
	{netip.MustParsePrefix("::/96"), 1, 3},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
	{netip.MustParsePrefix("fec0::/10"), 1, 11},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("::/0"), 40, 1},
}

func policyOf(a netip.Addr) policy {
	a = netip.AddrFrom16(a.As16()) // without zone
	for _, p := range policies {
		// A Prefix of IPv6 contains no mapped address as such.
		if bits16(a, p.prefix.Addr()) >= p.prefix.Bits() {
			return p
		}
	}
	panic("unreachable")
}

// bits16 is how many leading bits two addresses of 16 bytes have in common.
func bits16(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 128
}

// The scopes of RFC 4291 §2.7 that unicast addresses have (RFC 6724 §3.1).
const (
	scopeLink   = 2
	scopeSite   = 5
	scopeGlobal = 14
)

func scopeOf(a netip.Addr) int {
	switch {
	case a.IsLoopback() || a.IsLinkLocalUnicast():
		return scopeLink // RFC 6724 §3.2: IPv4's too
	case a.IsMulticast() && a.Is6():
		return int(a.As16()[1] & 15)
	case a.Is6() && policyOf(a).label == 11:
		return scopeSite
	}
	return scopeGlobal
}

// destination is an address with the one that it would be reached from.
type destination struct {
	addr, src netip.Addr // src is not valid when addr cannot be reached
	policy    policy
}

// sortAddrs puts those first that are likely to be reached.
func (n *Network) sortAddrs(addrs []netip.Addr) {
	if len(addrs) < 2 {
		return
	}
	list := make([]destination, len(addrs))
	for i, a := range addrs {
		list[i] = destination{a, n.sourceFor(a), policyOf(a)}
	}
	slices.SortStableFunc(list, compareDestinations)
	for i, d := range list {
		addrs[i] = d.addr
	}
}

// sourceFor asks the stack from which address it would send to a, as one does
// with sockets: by connecting one for datagrams, which sends nothing.
func (n *Network) sourceFor(a netip.Addr) netip.Addr {
	f, err := Socket(n.stack, domainFor("udp", a, false), SOCK_DGRAM, 0)
	if err != nil {
		return netip.Addr{}
	}
	defer f.Close()
	if f.Connect(background, netip.AddrPortFrom(a, 9)) != nil {
		return netip.Addr{}
	}
	at, _ := f.Getsockname()
	if at.Addr().IsUnspecified() {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// compareDestinations is below 0 when a is to be preferred. Rules 3, 4 and 7
// (deprecated and home addresses, encapsulation) have nothing to tell here.
func compareDestinations(a, b destination) int {
	prefer := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	if !a.src.IsValid() || !b.src.IsValid() {
		// Rule 1: avoid unusable destinations. Among these, by precedence.
		return cmp.Or(prefer(a.src.IsValid(), b.src.IsValid()), b.policy.precedence-a.policy.precedence)
	}
	return cmp.Or(
		// Rule 2: prefer matching scope.
		prefer(scopeOf(a.addr) == scopeOf(a.src), scopeOf(b.addr) == scopeOf(b.src)),
		// Rule 5: prefer matching label.
		prefer(policyOf(a.src).label == a.policy.label, policyOf(b.src).label == b.policy.label),
		// Rule 6: prefer higher precedence.
		b.policy.precedence-a.policy.precedence,
		// Rule 8: prefer smaller scope.
		scopeOf(a.addr)-scopeOf(b.addr),
		// Rule 9: use longest matching prefix, for IPv6: within an IPv4 site
		// it says nothing and would undo the server's rotation.
		commonPrefix(b)-commonPrefix(a),
	)
}

// commonPrefix is how much of an IPv6 address is that of the source, up to 64
// bits, the length of its prefix (RFC 6724 §2.2).
func commonPrefix(d destination) int {
	if d.addr.Is4() || d.src.Is4() {
		return 0
	}
	return min(bits16(d.addr, d.src), 64)
}
