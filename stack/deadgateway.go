package stack

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/internal/neigh"
)

// This file owns the routers that do not answer (RFC 1122 §3.3.1.4, RFC 4861
// §6.3.6, §7.3.3): when neighbour unreachability detection gives one up, routes
// by others go before its own, until it is heard of again; for IPv4 only those
// of the same metric, as on Linux. When none answers they are tried in turn, the
// one that failed longest ago first.

// deadGateway is a router that has stopped answering. The list of them is in
// the config, the eldest first; update drops those that no route leads by any
// more, so that routes bound how many there are.
type deadGateway struct {
	iface *Interface
	addr  netip.Addr
}

// deadSince orders routes to equal prefixes: 0 for one whose gateway is not
// known to be dead, more the later it failed.
func (c *config) deadSince(r *Route) int {
	return slices.Index(c.dead, deadGateway{r.Interface, r.Gateway}) + 1
}

// gatewayDied notes that a neighbour does not answer, if it is a router of
// ours. It is called with Interface.mu held, and acts once that is released.
func (i *Interface) gatewayDied(a netip.Addr) {
	d := deadGateway{i, a}
	c := i.stack.cfg.Load()
	if !c.isGateway(d) || i.dying == 0 && len(c.dead) > 0 && c.dead[len(c.dead)-1] == d {
		return
	}
	i.dying++
	i.after = append(i.after, func() {
		i.mu.Lock()
		i.dying--
		i.mu.Unlock()
		i.stack.update(func(c *config) error {
			c.dead = append(slices.DeleteFunc(slices.Clone(c.dead), func(x deadGateway) bool { return x == d }), d)
			return nil
		})
	})
}

// gatewayLives notes that a neighbour has answered.
func (i *Interface) gatewayLives(a netip.Addr) {
	d := deadGateway{i, a}
	if i.dying == 0 && !slices.Contains(i.stack.cfg.Load().dead, d) {
		return
	}
	i.after = append(i.after, func() {
		i.stack.update(func(c *config) error {
			c.dead = slices.DeleteFunc(slices.Clone(c.dead), func(x deadGateway) bool { return x == d })
			return nil
		})
	})
}

// isGateway reports whether a route leads by a neighbour.
func (c *config) isGateway(d deadGateway) bool {
	return slices.ContainsFunc(c.routes, func(r Route) bool { return r.Gateway == d.addr && r.Interface == d.iface })
}

// gatewayChanged is told of every change of a neighbour's record.
func (i *Interface) gatewayChanged(e neigh.Entry, gone bool) {
	switch {
	case gone:
	case e.State == neigh.Failed || e.State == neigh.Unreachable:
		i.gatewayDied(e.Addr)
	case e.State == neigh.Incomplete || e.State == neigh.Probe:
	default:
		i.gatewayLives(e.Addr)
	}
}
