package stack_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// TestPolicies: the table decides by its labels, and cached routes notice.
func TestPolicies(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	for _, a := range []string{"2001:db8:1::7/64", "2002:c633:6401::7/64"} {
		if err := h.i.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("2001:db8:1::1")}); err != nil {
		t.Fatal(err)
	}
	if got := sourceTo(t, h.s, "2001:db8:99::1"); got != "2001:db8:1::7" {
		t.Errorf("by default from %s", got)
	}
	lines := slices.Insert(ipv6.DefaultPolicies.Lines(), 0, ipv6.Policy{Prefix: netip.MustParsePrefix("2001:db8:99::/48"), Precedence: 45, Label: 2})
	own, err := ipv6.NewPolicies(lines)
	if err != nil {
		t.Fatal(err)
	}
	h.s.SetPolicies(own)
	if got := sourceTo(t, h.s, "2001:db8:99::1"); got != "2002:c633:6401::7" {
		t.Errorf("with the label of 6to4 from %s", got)
	}
	if s, ok := h.s.SourceFor(netip.MustParseAddr("2001:db8:99::1")); !ok || s.Addr.String() != "2002:c633:6401::7" || s.Deprecated {
		t.Errorf("SourceFor: %+v, %v", s, ok)
	}
	h.s.SetPolicies(nil)
	if got := sourceTo(t, h.s, "2001:db8:99::1"); got != "2001:db8:1::7" || h.s.Policies() != ipv6.DefaultPolicies {
		t.Errorf("by default again from %s", got)
	}
	if _, ok := h.s.SourceFor(netip.MustParseAddr("203.0.113.1")); ok {
		t.Error("a source without a route")
	}
}
