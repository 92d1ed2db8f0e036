package ipv4

import (
	"encoding/binary"
	"net/netip"
)

// This file owns what IPv4 addresses mean beyond net/netip.

// Addresses with a meaning of their own.
var (
	// LimitedBroadcast reaches every host of the link and is never forwarded
	// (RFC 1122 §3.2.1.3 (c)).
	LimitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	// AllSystems is the group every multicast host is in (RFC 1112 §4).
	AllSystems = netip.AddrFrom4([4]byte{224, 0, 0, 1})
)

// Broadcast returns the directed broadcast address of a subnet, all host bits
// one (RFC 1122 §3.2.1.3 (d)), or the zero Addr for /31 (RFC 3021), /32 and
// what is not an IPv4 prefix.
func Broadcast(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() < 0 || p.Bits() > 30 {
		return netip.Addr{}
	}
	a := p.Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|^uint32(0)>>p.Bits())
	return netip.AddrFrom4(a)
}
