package attach

// This file owns what the kind of link means for the flags: a TUN has no
// Ethernet, and thus neither MAC addresses nor what is found out by their
// means; an Ethernet may have VLANs, or frames with SNAP.

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/snap"
	"github.com/tapstack/tapstack/ether/vlan"
	"github.com/tapstack/tapstack/stack"
)

// checkLink reads what is below the packets, and refuses what a TUN cannot have.
func (o *Options) checkLink(p *plan) error {
	if o.VLAN > ether.MaxVLAN {
		return fmt.Errorf("--vlan %d: want 1 to %d", o.VLAN, ether.MaxVLAN)
	}
	if o.VLANPriority > ether.MaxPriority {
		return fmt.Errorf("--vlan-priority %d: want 0 to %d", o.VLANPriority, ether.MaxPriority)
	}
	p.vlan, p.priority, p.snap = o.VLAN, o.VLANPriority, o.SNAP
	if p.kind != "tun" {
		return nil
	}
	switch {
	case o.VLAN != 0 || o.VLANPriority != 0 || o.SNAP:
		return errors.New("--vlan, --vlan-priority, --snap: a TUN has no Ethernet")
	case o.DHCP:
		return errors.New("--dhcp: a TUN has no Ethernet, and nobody at its other end who would answer; give an address with --ip")
	case o.MAC != "":
		return errors.New("--mac: a TUN has no Ethernet")
	case o.ACD:
		return errors.New("--acd: on a TUN there is nobody to ask for duplicates")
	}
	return nil
}

// interfaceName is what Linux would call it: tap7, or tap7.10 in a VLAN.
func (p *plan) interfaceName() string {
	if p.vlan != 0 {
		return fmt.Sprintf("%s.%d", p.name, p.vlan)
	}
	return p.name
}

// decorate puts between the device and the stack what the frames need.
func (p *plan) decorate(dev ether.Device) (ether.Device, error) {
	if p.vlan != 0 || p.priority != 0 {
		sub, err := vlan.New(dev).Open(p.vlan, p.priority)
		if err != nil {
			return dev, err
		}
		dev = sub
	}
	if p.snap {
		d, err := snap.New(dev)
		if err != nil {
			return dev, err
		}
		dev = d
	}
	return dev, nil
}

func parseVLAN(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

func parsePriority(s string) (uint8, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err
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
