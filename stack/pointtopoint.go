package stack

// This file owns what is different on a link between two (Caps.PointToPoint),
// such as a TUN: who is at the other end gets all that is sent there. Nobody is
// asked for addresses, so that there are no neighbours, and nothing is probed,
// announced or defended: neither ARP nor neighbour discovery's resolution and
// duplicate detection, as on Linux's interfaces with IFF_NOARP. Routes need no
// gateway; one that is named only has to be on the link. Multicast listener
// reports and, with SLAAC, router solicitations go out as elsewhere, without
// link-layer addresses.
//
// Frames keep an Ethernet header above the device, whose addresses are zero.
// The other design, frames that begin at IP, would make segmentation, merging,
// captures and packet sockets know two kinds of frames, for the 14 bytes that
// this one writes in front of a packet.

import "github.com/tapstack/tapstack/ether"

// pointToPoint takes the device's word. The interface's MAC address is never
// on the link; the identifier of its link-local address is made of it.
func (i *Interface) pointToPoint() {
	if i.ptp = i.caps.PointToPoint; i.ptp {
		i.noDAD, i.acd = true, false
	}
}

// PointToPoint reports whether the interface leads to one other host and has
// no link-layer addresses.
func (i *Interface) PointToPoint() bool { return i.ptp }

// MAC returns our address on the segment, zero on a link between two.
func (i *Interface) MAC() ether.Addr {
	if i.ptp {
		return ether.Addr{}
	}
	return i.mac
}
