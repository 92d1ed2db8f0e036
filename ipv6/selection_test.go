package ipv6

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// sources reads "ADDR[/LEN][!deprecated][~temporary][@outgoing][+advertised]...".
func sources(s string) (list []Source) {
	for f := range strings.FieldsSeq(s) {
		end := strings.IndexAny(f, "!~@+")
		if end < 0 {
			end = len(f)
		}
		list = append(list, Source{Addr: netip.MustParseAddr(f[:end]), Deprecated: strings.Contains(f, "!"), Temporary: strings.Contains(f, "~"),
			Outgoing: strings.Contains(f, "@"), Advertised: strings.Contains(f, "+")})
	}
	return list
}

// choose is what a host does with the comparison; the order must not matter.
func choose(t *testing.T, p *Policies, dst netip.Addr, list []Source, prefs Preferences) Source {
	t.Helper()
	var best Source
	for range list {
		list = append(list[1:], list[0])
		b := list[0]
		for _, s := range list[1:] {
			c := p.CompareSources(dst, &s, &b, prefs)
			if d := p.CompareSources(dst, &b, &s, prefs); d != -c && (d > 0) != (c < 0) {
				t.Errorf("%v, %v: %d and %d", s, b, c, d)
			}
			if c < 0 {
				b = s
			}
		}
		if best.Addr.IsValid() && best != b {
			t.Errorf("to %v: %v or %v", dst, best.Addr, b.Addr)
		}
		best = b
	}
	return best
}

// TestSourceExamples is RFC 6724 §10.1, and a case for each rule it leaves out.
func TestSourceExamples(t *testing.T) {
	for _, c := range []struct{ name, dst, from, want string }{
		{"prefer appropriate scope", "2001:db8:1::1", "2001:db8:3::1 fe80::1", "2001:db8:3::1"},
		{"prefer appropriate scope", "ff05::1", "2001:db8:3::1 fe80::1", "2001:db8:3::1"},
		{"prefer same address", "2001:db8:1::1", "2001:db8:1::1! 2001:db8:2::1", "2001:db8:1::1"},
		{"prefer appropriate scope", "fe80::1", "fe80::2! 2001:db8:1::1", "fe80::2"},
		{"longest matching prefix", "2001:db8:1::1", "2001:db8:1::2 2001:db8:3::2", "2001:db8:1::2"},
		{"prefer matching label", "2002:c633:6401::1", "2002:c633:6401::d5e3:7953:13eb:22e8~ 2001:db8:1::2", "2002:c633:6401::d5e3:7953:13eb:22e8"},
		{"prefer temporary", "2001:db8:1::d5e3:0:0:1", "2001:db8:1::2 2001:db8:1::d5e3:7953:13eb:22e8~", "2001:db8:1::d5e3:7953:13eb:22e8"},

		{"3: deprecated", "2001:db8:1::1", "2001:db8:1::2! 2001:db8:9::2", "2001:db8:9::2"},
		{"5: outgoing interface", "2001:db8:1::1", "2001:db8:1::2 2001:db8:9::2@", "2001:db8:9::2"},
		{"5.5: advertised by the next hop", "2001:db8:1::1", "2001:db8:1::2 2001:db8:9::2+", "2001:db8:9::2"},
		{"6: label before 8", "fd00:1::1", "2001:db8::2 fd77::2", "fd77::2"},
		{"2: site-local", "fec0::1", "fe80::2 2001:db8::2", "2001:db8::2"},
		{"8: no further than the prefix", "2001:db8:1::ff", "2001:db8:1::fe~ 2001:db8:1:0:8000::1", "2001:db8:1::fe"},
	} {
		if got := choose(t, DefaultPolicies, netip.MustParseAddr(c.dst), sources(c.from), Preferences{}); got.Addr != netip.MustParseAddr(c.want) {
			t.Errorf("%s: to %s from %v, want %s", c.name, c.dst, got.Addr, c.want)
		}
	}
	// Rule 8 stops at the prefix, and so does not tell here.
	a := sources("2001:db8:1::fe 2001:db8:1:0:8000::1")
	if c := DefaultPolicies.CompareSources(netip.MustParseAddr("2001:db8:1::ff"), &a[0], &a[1], Preferences{}); c != 0 {
		t.Errorf("interface identifiers decide: %d", c)
	}
	a = sources("2001:db8:1::2 2001:db8:1::3~")
	if got := choose(t, DefaultPolicies, netip.MustParseAddr("2001:db8:1::1"), a, Preferences{Public: true}); got.Temporary {
		t.Error("a temporary address although a stable one was asked for")
	}
}

// order sorts destinations as a host with the sources would.
func order(t *testing.T, p *Policies, from, to string) string {
	var list []Destination
	for d := range strings.FieldsSeq(to) {
		x := Destination{Addr: netip.MustParseAddr(d)}
		fits := slices.DeleteFunc(sources(from), func(s Source) bool { return s.Addr.Is4() != x.Addr.Is4() })
		if len(fits) > 0 {
			x.Source = choose(t, p, x.Addr, fits, Preferences{})
		}
		list = append(list, x)
	}
	slices.SortStableFunc(list, func(a, b Destination) int { return p.CompareDestinations(&a, &b) })
	var out []string
	for _, d := range list {
		out = append(out, d.Addr.String())
	}
	return strings.Join(out, " ")
}

// TestDestinationExamples is RFC 6724 §10.2.
func TestDestinationExamples(t *testing.T) {
	for _, c := range []struct{ name, from, want string }{
		{"prefer matching scope", "2001:db8:1::2 fe80::1 169.254.13.78", "2001:db8:1::1 198.51.100.121"},
		{"prefer matching scope", "fe80::1 198.51.100.117", "198.51.100.121 2001:db8:1::1"},
		{"prefer higher precedence", "2001:db8:1::2 fe80::1 10.1.2.4", "2001:db8:1::1 10.1.2.3"},
		{"prefer smaller scope", "2001:db8:1::2 fe80::2", "fe80::1 2001:db8:1::1"},
		{"avoid deprecated addresses", "2001:db8:1::2 fe80::2!", "2001:db8:1::1 fe80::1"},
		{"longest matching prefix", "2001:db8:1::2 2001:db8:3f44::2 fe80::2", "2001:db8:1::1 2001:db8:3ffe::1"},
		{"prefer matching label", "2002:c633:6401::2 fe80::2", "2002:c633:6401::1 2001:db8:1::1"},
		{"prefer higher precedence", "2002:c633:6401::2 2001:db8:1::2 fe80::2", "2001:db8:1::1 2002:c633:6401::1"},
		{"avoid unusable destinations", "10.1.2.4", "10.1.2.3 2001:db8:1::1"},
		{"unusable both: precedence", "", "2001:db8::1 10.1.2.3 fd00::1"},
		{"IPv4 stays as it was", "10.1.2.4", "10.200.2.3 10.1.2.3"},
	} {
		f := strings.Fields(c.want)
		if got := order(t, DefaultPolicies, c.from, c.want); got != c.want {
			t.Errorf("%s, from %s: %s, want %s", c.name, c.from, got, c.want)
		}
		if strings.HasPrefix(c.name, "IPv4 stays") {
			continue
		}
		slices.Reverse(f)
		if got := order(t, DefaultPolicies, c.from, strings.Join(f, " ")); got != c.want {
			t.Errorf("%s, from %s, reversed: %s, want %s", c.name, c.from, got, c.want)
		}
	}
}

// TestPolicies: a table of one's own, RFC 6724 §10.3 and §10.6.
func TestPolicies(t *testing.T) {
	lines := DefaultPolicies.Lines()
	for i := range lines {
		if lines[i].Prefix.String() == "::ffff:0:0/96" || lines[i].Prefix.Addr().Is4In6() {
			lines[i].Precedence = 100
		}
	}
	own, err := NewPolicies(lines)
	if err != nil {
		t.Fatal(err)
	}
	if got := order(t, own, "2001:db8::2 fe80::1 169.254.13.78", "2001:db8::1 198.51.100.121"); got != "2001:db8::1 198.51.100.121" {
		t.Errorf("§10.3, scopes differ: %s", got)
	}
	if got := order(t, own, "2001:db8::2 fe80::1 10.1.2.4", "2001:db8::1 10.1.2.3"); got != "10.1.2.3 2001:db8::1" {
		t.Errorf("§10.3, IPv4 first: %s", got)
	}
	for name, bad := range map[string][]Policy{
		"empty":        nil,
		"no default":   {{netip.MustParsePrefix("fc00::/7"), 1, 1}},
		"twice":        {{netip.MustParsePrefix("::/0"), 1, 1}, {netip.MustParsePrefix("fc00::/7"), 1, 1}, {netip.MustParsePrefix("fdff::/7"), 1, 1}},
		"IPv4":         {{netip.MustParsePrefix("::/0"), 1, 1}, {netip.MustParsePrefix("10.0.0.0/8"), 1, 1}},
		"not a prefix": {{netip.MustParsePrefix("::/0"), 1, 1}, {netip.Prefix{}, 1, 1}},
	} {
		if _, err := NewPolicies(bad); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewPolicies(make([]Policy, MaxPolicies+1)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("too many: %v", err)
	}
	for a, want := range map[string]int{"::1": 0, "10.0.0.1": 4, "::1.2.3.4": 3, "2001:db8::1": 1, "2001::1": 5, "2002::1": 2, "3ffe::1": 12, "fec0::1": 11, "fd00::1": 13, "fe80::1%eth0": 1} {
		if got := DefaultPolicies.Of(netip.MustParseAddr(a)).Label; got != want {
			t.Errorf("label of %s is %d, not %d", a, got, want)
		}
	}
	for a, want := range map[string]int{"::1": 2, "127.0.0.1": 2, "169.254.1.1": 2, "10.0.0.1": 14, "fe80::1": 2, "fec0::1": 5, "fd00::1": 14, "ff02::1": 2, "ff05::1": 5, "ff0e::1": 14} {
		if got := Scope(netip.MustParseAddr(a)); got != want {
			t.Errorf("scope of %s is %d, not %d", a, got, want)
		}
	}
}
