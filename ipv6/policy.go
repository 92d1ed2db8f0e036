package ipv6

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"syscall"
)

// This file owns the policy table of RFC 6724 §2.1: for each prefix a
// precedence, which orders the addresses of a destination, and a label, which
// destinations should share with the address they are reached from.

// Policy is a line of the table. IPv4 addresses are looked up as
// ::ffff:0:0/96.
type Policy struct {
	Prefix            netip.Prefix
	Precedence, Label int
}

// MaxPolicies is how many lines a table may have.
const MaxPolicies = 64

// Policies is a table, the longest prefixes first. Immutable.
type Policies struct {
	lines []Policy
	match []bits128 // of their prefixes: each datagram to somebody new asks
}

// bits128 is a prefix as words: its bits, and which they are.
type bits128 struct{ hi, lo, maskHi, maskLo uint64 }

// DefaultPolicies is the table of RFC 6724 §2.1.
var DefaultPolicies = must(NewPolicies([]Policy{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::/0"), 40, 1},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("::/96"), 1, 3},
	{netip.MustParsePrefix("fec0::/10"), 1, labelSite},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
}))

// labelSite is the default label of the deprecated site-local addresses.
const labelSite = 11

func must(p *Policies, err error) *Policies {
	if err != nil {
		panic(err)
	}
	return p
}

// NewPolicies makes a table of its lines, in any order. EINVAL for a prefix
// that is no IPv6 one, one that is there twice, or a table without ::/0, which
// every address needs; ENOSPC for more than MaxPolicies.
func NewPolicies(lines []Policy) (*Policies, error) {
	if len(lines) > MaxPolicies {
		return nil, fmt.Errorf("more than %d policies: %w", MaxPolicies, syscall.ENOSPC)
	}
	t := &Policies{lines: slices.Clone(lines)}
	for i := range t.lines {
		p := &t.lines[i]
		if !p.Prefix.IsValid() || !p.Prefix.Addr().Is6() || p.Prefix.Addr().Zone() != "" {
			return nil, fmt.Errorf("policy for %v: %w", p.Prefix, syscall.EINVAL)
		}
		p.Prefix = masked(p.Prefix)
	}
	slices.SortStableFunc(t.lines, func(a, b Policy) int { return b.Prefix.Bits() - a.Prefix.Bits() })
	for i, p := range t.lines {
		if slices.ContainsFunc(t.lines[:i], func(o Policy) bool { return o.Prefix == p.Prefix }) {
			return nil, fmt.Errorf("two policies for %v: %w", p.Prefix, syscall.EINVAL)
		}
	}
	if n := len(t.lines); n == 0 || t.lines[n-1].Prefix.Bits() != 0 {
		return nil, fmt.Errorf("no policy for ::/0: %w", syscall.EINVAL)
	}
	for _, p := range t.lines {
		b, n := p.Prefix.Addr().As16(), p.Prefix.Bits()
		t.match = append(t.match, bits128{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:]),
			^(^uint64(0) >> min(n, 64)), ^(^uint64(0) >> max(n-64, 0))})
	}
	return t, nil
}

// masked is p.Masked, which knows no prefix of mapped addresses.
func masked(p netip.Prefix) netip.Prefix {
	b := p.Addr().As16()
	for i := range b {
		if n := p.Bits() - 8*i; n < 8 {
			b[i] &= ^byte(0xff >> max(n, 0))
		}
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), p.Bits())
}

// Lines returns the table, the longest prefixes first.
func (t *Policies) Lines() []Policy { return slices.Clone(t.lines) }

// Of returns the line for an address, IPv4 or IPv6, with or without zone.
func (t *Policies) Of(a netip.Addr) Policy {
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	for i := range t.match {
		if m := &t.match[i]; hi&m.maskHi == m.hi && lo&m.maskLo == m.lo {
			return t.lines[i]
		}
	}
	return Policy{} // unreachable: ::/0 is there
}

// CommonPrefix is how many leading bits two addresses of 16 bytes have in
// common (RFC 6724 §2.2); IPv4 ones count as mapped.
func CommonPrefix(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	if d := binary.BigEndian.Uint64(x[:]) ^ binary.BigEndian.Uint64(y[:]); d != 0 {
		return bits.LeadingZeros64(d)
	}
	return 64 + bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:])^binary.BigEndian.Uint64(y[8:]))
}

// Scope is how far an address reaches (RFC 4007, RFC 6724 §3): the value of
// the field that multicast addresses have for it (RFC 4291 §2.7), link-local 2,
// site-local 5, global 14. IPv4's loopback and link-local addresses are
// link-local (§3.2), unique local ones global (§3.1).
func Scope(a netip.Addr) int {
	switch {
	case a.IsMulticast() && a.Is6():
		return int(a.As16()[1] & 15)
	case a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast():
		return 2
	case a.Is6() && a.As16()[0] == 0xfe && a.As16()[1]&0xc0 == 0xc0:
		return 5
	}
	return 14
}
