package socket

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/ipv6"
)

// sortAddrs puts those addresses of a name first that are likely to be
// reached: RFC 6724 §6 with the stack's policy table.
func (n *Network) sortAddrs(addrs []netip.Addr) {
	if len(addrs) < 2 {
		return
	}
	list := make([]ipv6.Destination, len(addrs))
	for i, a := range addrs {
		list[i].Addr = a
		list[i].Source, _ = n.stack.SourceFor(a)
	}
	p := n.stack.Policies()
	slices.SortStableFunc(list, func(a, b ipv6.Destination) int { return p.CompareDestinations(&a, &b) })
	for i, d := range list {
		addrs[i] = d.Addr
	}
}
