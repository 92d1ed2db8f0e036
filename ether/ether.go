// Package ether is the link layer: MAC addresses, Ethernet II frames, and the
// Device interface behind which a TAP, a packet socket or an in-memory wire
// moves frames in batches.
package ether

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Addr is a 48-bit MAC address.
type Addr [6]byte

// Broadcast is the all-ones address.
var Broadcast = Addr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseAddr reads "02:00:00:00:00:07" and the other forms net.ParseMAC knows.
func ParseAddr(s string) (Addr, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		return Addr{}, fmt.Errorf("invalid MAC address %q", s)
	}
	return Addr(m), nil
}

func (a Addr) String() string { return net.HardwareAddr(a[:]).String() }

// IsGroup reports a multicast or broadcast address: the I/G bit (IEEE 802).
func (a Addr) IsGroup() bool { return a[0]&1 != 0 }

// IsZero reports the all-zero address, which no station may use.
func (a Addr) IsZero() bool { return a == Addr{} }

// Multicast returns the group MAC address of an IP multicast address:
// 01:00:5e and 23 bits for IPv4 (RFC 1112 §6.4), 33:33 and 32 bits for IPv6
// (RFC 2464 §7).
func Multicast(ip netip.Addr) Addr {
	if ip.Is4() {
		b := ip.As4()
		return Addr{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := ip.As16()
	return Addr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// EUI64 returns the modified EUI-64 interface identifier of a MAC address
// (RFC 2464 §4).
func EUI64(a Addr) [8]byte {
	return [8]byte{a[0] ^ 0x02, a[1], a[2], 0xff, 0xfe, a[3], a[4], a[5]}
}

// Type is an EtherType.
type Type uint16

// The EtherTypes the stack knows. Values below MinType are IEEE 802.3 lengths.
const (
	TypeIPv4 Type = 0x0800
	TypeARP  Type = 0x0806
	TypeVLAN Type = 0x8100
	TypeIPv6 Type = 0x86dd
	MinType  Type = 0x0600
)

// HeaderLen is the length of an Ethernet II header in bytes.
const HeaderLen = 14

// Header is a view of an Ethernet II header: destination, source, type
// (RFC 894). It is at least HeaderLen bytes long.
type Header []byte

// Parse checks the length of a frame and returns its header.
func Parse(frame []byte) (Header, bool) {
	if len(frame) < HeaderLen {
		return nil, false
	}
	return Header(frame[:HeaderLen]), true
}

// Dst returns the destination address.
func (h Header) Dst() Addr { return Addr(h[0:6]) }

// Src returns the source address.
func (h Header) Src() Addr { return Addr(h[6:12]) }

// Type returns the EtherType, or the length of an IEEE 802.3 frame when it is
// below MinType.
func (h Header) Type() Type { return Type(binary.BigEndian.Uint16(h[12:])) }

// Put writes an Ethernet II header into b, which has HeaderLen bytes.
func Put(b []byte, dst, src Addr, t Type) {
	copy(b[0:6], dst[:])
	copy(b[6:12], src[:])
	binary.BigEndian.PutUint16(b[12:], uint16(t))
}
