package stack

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what a network tells an interface beside addresses and routes,
// and what those who configure it by DHCP (RFC 2131) or give it a link-local
// address (RFC 3927) have to know.

// SetMTU4 lowers the largest IPv4 packet of the interface to n bytes, as a DHCP
// server may ask for (RFC 2132 §5.1); 0 goes back to the interface's own. It
// holds for what is sent from then on, and for the MSS of new connections.
// EINVAL: n is below 68 or above the interface's.
func (i *Interface) SetMTU4(n int) error {
	if n != 0 && (n < minMTU4 || n > i.MTU()) {
		return fmt.Errorf("MTU %d on %s: want %d to %d: %w", n, i.name, minMTU4, i.MTU(), syscall.EINVAL)
	}
	if i.mtu4.Swap(int32(n)) != int32(n) {
		i.stack.refreshRoutes()
	}
	return nil
}

// MTU4 returns the largest IPv4 packet in bytes.
func (i *Interface) MTU4() int { return i.mtuFor(any4) }

// DeprecateAddr says that new connections shall be made from another address if
// there is one, or again from this.
func (i *Interface) DeprecateAddr(a netip.Addr, old bool) { i.deprecate(a, old) }

// SetLifetimes notes when the lifetimes of an address end that a lease gave it; 0:
// never. It is the maker who ends it, by DeprecateAddr and LoseAddr.
func (i *Interface) SetLifetimes(a netip.Addr, preferred, valid mono.Time) {
	i.setLifetimes(a, preferred, valid, func(*address) bool { return true })
}

// AddrInUse reports whether a TCP connection is made from the address.
func (s *Stack) AddrInUse(a netip.Addr) bool {
	for _, e := range s.tcp.all() {
		if c, ok := e.(*TCPConn); ok && c.id().local.Addr() == a {
			return true
		}
	}
	return false
}
