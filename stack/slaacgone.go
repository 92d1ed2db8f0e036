package stack

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/ipv6"
)

// This file owns what routers have advertised and the host does not have: it
// could not be added, which is counted by its reason, or its user has taken it
// away. The core is told, and the next advertisement brings it anew, as on Linux.

// notAdded reports whether what an advertisement brought is not there, and
// counts it; full is the reason when its table is. What its user has given
// already (EEXIST) is there.
func (i *Interface) notAdded(err error, full ipv6.Drop) bool {
	switch {
	case err == nil, errors.Is(err, syscall.EEXIST):
		return false
	case errors.Is(err, syscall.ENOSPC):
		i.stack.stats.ND.Drop[full].inc()
	default:
		i.stack.stats.ND.Drop[ipv6.DropNotAdded].inc()
	}
	return true
}

// takenAway tells the core that an address is not there.
func (i *Interface) takenAway(a netip.Addr) {
	if i.slaac == nil || !a.Is6() {
		return
	}
	i.enter(i.stack.clock.Now())
	i.slaac.AddressGone(a)
	i.leave()
}

// routeTakenAway tells the core that a route is not there. Its user may have
// taken away another of the same router, with another metric.
func (i *Interface) routeTakenAway(r Route) {
	if i.slaac == nil || slices.ContainsFunc(i.stack.cfg.Load().routes, func(o Route) bool {
		return o.Origin == OriginRouter && o.Dst == r.Dst && o.Gateway == r.Gateway && o.Interface == i
	}) {
		return
	}
	i.enter(i.stack.clock.Now())
	i.slaac.RouteGone(r.Dst, r.Gateway)
	i.leave()
}
