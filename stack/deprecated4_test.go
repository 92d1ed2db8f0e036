package stack_test

import (
	"net/netip"
	"testing"

	"github.com/tapstack/tapstack/stack"
)

// TestDeprecatedIPv4: what is new leaves from another address of the interface
// while there is one, and from the deprecated one otherwise.
func TestDeprecatedIPv4(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	for _, p := range []string{"10.77.0.7/24", "10.77.0.8/24", "10.88.0.7/24"} {
		h.add(p)
	}
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: peerIP4})
	a := netip.MustParseAddr
	for _, c := range []struct {
		addr      string
		old       bool
		near, far string // whom 10.77.0.200 and what is behind the router are reached from
	}{
		{"10.77.0.7", false, "10.77.0.7", "10.77.0.7"},
		{"10.77.0.7", true, "10.77.0.8", "10.77.0.8"},
		{"10.77.0.8", true, "10.88.0.7", "10.88.0.7"},
		{"10.88.0.7", true, "10.77.0.7", "10.77.0.7"},
		{"10.77.0.8", false, "10.77.0.8", "10.77.0.8"},
		{"10.77.0.7", false, "10.77.0.7", "10.77.0.7"},
	} {
		h.i.DeprecateAddr(a(c.addr), c.old)
		if near, far := sourceTo(t, h.s, "10.77.0.200"), sourceTo(t, h.s, "192.0.2.1"); near != c.near || far != c.far {
			t.Errorf("%s deprecated %v: from %s and %s, want %s and %s", c.addr, c.old, near, far, c.near, c.far)
		}
	}
}
