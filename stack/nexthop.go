package stack

// This file owns where a packet goes first, for those who watch a link and want
// to know whom the stack looks for.

import (
	"net/netip"
	"syscall"
)

// NextHop returns who is asked for on the link when something is sent to dst: a
// router, or dst itself. Errors are those of Prober.Route.
func (s *Stack) NextHop(dst netip.Addr) (netip.Addr, error) {
	if !dst.IsValid() || dst.IsUnspecified() {
		return netip.Addr{}, syscall.EINVAL
	}
	r, err := s.findRoute(dst.Unmap(), netip.Addr{}, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	return r.nextHop.WithZone(""), nil
}
