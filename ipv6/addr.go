package ipv6

import (
	"net/netip"

	"github.com/tapstack/tapstack/ether"
)

// This file owns the addresses that are made from others: interface
// identifiers, link-local and solicited-node addresses, and the well-known
// groups.

// The multicast groups that every host or router listens to (RFC 4291 §2.7.1,
// RFC 3810 §5.2.14).
var (
	AllNodes     = netip.MustParseAddr("ff02::1")
	AllRouters   = netip.MustParseAddr("ff02::2")
	MLDv2Routers = netip.MustParseAddr("ff02::16")
)

// LinkLocalPrefix is fe80::/64: RFC 4291 §2.5.6 fixes the 54 bits after the
// /10 to zero.
var LinkLocalPrefix = netip.MustParsePrefix("fe80::/64")

// solicitedNode is ff02::1:ff00:0/104.
var solicitedNode = netip.MustParsePrefix("ff02::1:ff00:0/104")

// SolicitedNode returns the solicited-node group of a: ff02::1:ff and its low
// 24 bits (RFC 4291 §2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	g, b := solicitedNode.Addr().As16(), a.As16()
	copy(g[13:], b[13:])
	return netip.AddrFrom16(g)
}

// IsSolicitedNode reports whether a is a solicited-node group.
func IsSolicitedNode(a netip.Addr) bool { return solicitedNode.Contains(a) }

// InterfaceID returns the modified EUI-64 identifier of mac (RFC 2464 §4).
func InterfaceID(mac ether.Addr) [8]byte { return ether.EUI64(mac) }

// LinkLocal returns the link-local address of mac, fe80::/64 with its EUI-64
// identifier (RFC 2464 §5).
func LinkLocal(mac ether.Addr) netip.Addr { return WithIID(LinkLocalPrefix, InterfaceID(mac)) }

// WithIID returns the address whose upper 64 bits are prefix's and whose lower
// 64 bits are iid.
func WithIID(prefix netip.Prefix, iid [8]byte) netip.Addr {
	b := prefix.Masked().Addr().As16()
	copy(b[8:], iid[:])
	return netip.AddrFrom16(b)
}
