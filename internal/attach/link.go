package attach

// This file owns what the kind of link means for the flags: a TUN has no
// Ethernet, and thus neither MAC addresses nor what is found out by their
// means.

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/tapstack/tapstack/stack"
)

// checkLink refuses what a TUN cannot have.
func (o *Options) checkLink(p *plan) error {
	if p.kind != "tun" {
		return nil
	}
	switch {
	case o.DHCP:
		return errors.New("--dhcp: a TUN has no Ethernet, and nobody at its other end who would answer; give an address with --ip")
	case o.MAC != "":
		return errors.New("--mac: a TUN has no Ethernet")
	case o.ACD:
		return errors.New("--acd: on a TUN there is nobody to ask for duplicates")
	}
	return nil
}

// deviceGateway reads "dev" in the place of a gateway: the default routes lead
// to whoever is at the other end of the TUN.
func (o *Options) deviceGateway(p *plan, s string) (ok bool, err error) {
	if strings.TrimSpace(s) != "dev" {
		return false, nil
	}
	if p.kind != "tun" {
		return true, errors.New("--gw dev: only on a TUN; on an Ethernet name the router")
	}
	p.byDevice = true
	return true, nil
}

// deviceRoutes are the default routes of --gw dev, one for each family that has
// an address given, both where none is given.
func (p *plan) deviceRoutes(nic *stack.Interface) (list []stack.Route) {
	if !p.byDevice {
		return nil
	}
	for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		has := len(p.addrs) == 0
		for _, a := range p.addrs {
			has = has || a.Addr().Is4() == all.Addr().Is4()
		}
		if has {
			list = append(list, stack.Route{Dst: all, Interface: nic})
		}
	}
	return list
}
