// Package arp is the Address Resolution Protocol for IPv4 over Ethernet: the
// packet (RFC 826), and what a host does about one it receives, address
// conflicts included (RFC 5227). The neighbour cache and the claiming of
// addresses live elsewhere; Decide only says what they are to be told.
package arp

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/ether"
)

// PacketLen is the length of an ARP packet for IPv4 over Ethernet in bytes.
const PacketLen = 28

// Operations.
const (
	OpRequest = 1
	OpReply   = 2
)

const (
	hardwareEthernet = 1
	hardware802      = 6 // IEEE 802 networks (RFC 1042), as some hosts say on an Ethernet
	protocolIPv4     = 0x0800
)

// Drop says why a packet was refused, or had no further effect.
type Drop uint8

// The reasons: first those of Parse, then those of Decide, then those of the
// interface.
const (
	DropNone        Drop = iota
	DropShort            // fewer than 28 bytes
	DropHardware         // hardware type is neither Ethernet nor IEEE 802
	DropProtocol         // protocol type is not IPv4
	DropLength           // address lengths are not 6 and 4
	DropOp               // neither request nor reply
	DropSenderMAC        // sender's MAC address is zero or a group
	DropSenderIP         // sender's IP address cannot be a host's
	DropTargetIP         // target's IP address is nobody's on a link
	DropOwn              // our own packet came back
	DropNotOurs          // concerns addresses that are not ours
	DropTentative        // asks for an address that we are still probing
	DropIgnored          // asks for an address that is not to be told here (Linux's arp_ignore)
	DropFiltered         // its answer would leave by another interface (Linux's arp_filter)
	DropReversePath      // its sender is not where the routes have it (Linux's rp_filter)
	DropRefuted          // a claim of a neighbour's address that the neighbour has refuted
	NumDrops             // how many reasons there are
)

var dropNames = [NumDrops]string{
	"none", "short", "bad-hardware-type", "bad-protocol-type", "bad-address-length",
	"bad-operation", "bad-sender-mac", "bad-sender-ip", "bad-target-ip", "own-packet", "not-ours", "tentative",
	"ignored", "filtered", "reverse-path", "refuted-claim",
}

// String returns the name under which the reason is counted, as "bad-operation".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

func (d Drop) Error() string { return "arp: " + d.String() }

// Packet is a view of an ARP packet:
//
//	 0       2       4   5   6       8            14       18            24       28
//	+-------+-------+---+---+-------+-------------+--------+-------------+--------+
//	| hw 1  | 0x800 | 6 | 4 |  op   | sender MAC  | IP     | target MAC  | IP     |
//	+-------+-------+---+---+-------+-------------+--------+-------------+--------+
//
// One returned by Parse never panics.
type Packet []byte

// Parse checks a packet. Bytes behind it are the frame's padding.
func Parse(b []byte) (Packet, Drop) {
	if len(b) < PacketLen {
		return nil, DropShort
	}
	p := Packet(b[:PacketLen:PacketLen])
	switch {
	// Both are taken, as Linux does: RFC 1042 has a number of its own for the
	// same addresses.
	case binary.BigEndian.Uint16(p[0:]) != hardwareEthernet && binary.BigEndian.Uint16(p[0:]) != hardware802:
		return nil, DropHardware
	case binary.BigEndian.Uint16(p[2:]) != protocolIPv4:
		return nil, DropProtocol
	case p[4] != 6 || p[5] != 4:
		return nil, DropLength
	case p.Op() != OpRequest && p.Op() != OpReply:
		return nil, DropOp
	}
	if mac := p.SenderMAC(); mac.IsZero() || mac.IsGroup() {
		return nil, DropSenderMAC
	}
	// A sender of 0.0.0.0 is a probe (RFC 5227 §1.1). The rest of 0/8, multicast,
	// broadcast and loopback addresses are no host's on a link (RFC 1122
	// §3.2.1.3); an entry for one would let its owner draw such traffic to itself.
	if ip := p.SenderIP(); ip.IsLoopback() || ip.As4()[0] >= 224 || ip.As4()[0] == 0 && !ip.IsUnspecified() {
		return nil, DropSenderIP
	}
	// Nobody asks for a group or for this host's own loopback; as Linux, such a
	// packet is not even learnt from.
	if ip := p.TargetIP(); ip.IsLoopback() || ip.IsMulticast() {
		return nil, DropTargetIP
	}
	return p, DropNone
}

// Op returns the operation, OpRequest or OpReply.
func (p Packet) Op() uint16 { return binary.BigEndian.Uint16(p[6:]) }

// SenderMAC returns the sender's hardware address.
func (p Packet) SenderMAC() ether.Addr { return ether.Addr(p[8:14]) }

// SenderIP returns the sender's protocol address; 0.0.0.0 in a probe.
func (p Packet) SenderIP() netip.Addr { return netip.AddrFrom4([4]byte(p[14:18])) }

// TargetMAC returns the target's hardware address, which means nothing in a
// request.
func (p Packet) TargetMAC() ether.Addr { return ether.Addr(p[18:24]) }

// TargetIP returns the target's protocol address.
func (p Packet) TargetIP() netip.Addr { return netip.AddrFrom4([4]byte(p[24:28])) }

// IsProbe reports a request whose sender has no address yet (RFC 5227 §1.1).
func (p Packet) IsProbe() bool { return p.Op() == OpRequest && p.SenderIP().IsUnspecified() }

// IsGratuitous reports a packet whose sender speaks of itself: an announcement
// (RFC 5227 §3) or the reply form of it.
func (p Packet) IsGratuitous() bool { return p.SenderIP() == p.TargetIP() }

// IsUpdate reports what Linux takes for a gratuitous packet: of the replies,
// only those whose target has the sender's MAC address as well.
func (p Packet) IsUpdate() bool {
	return p.IsGratuitous() && (p.Op() == OpRequest || p.TargetMAC() == p.SenderMAC())
}

// Put writes a packet into b, which has at least PacketLen bytes.
func Put(b []byte, op uint16, smac ether.Addr, sip netip.Addr, tmac ether.Addr, tip netip.Addr) {
	b = b[:PacketLen]
	binary.BigEndian.PutUint16(b[0:], hardwareEthernet)
	binary.BigEndian.PutUint16(b[2:], protocolIPv4)
	b[4], b[5] = 6, 4
	binary.BigEndian.PutUint16(b[6:], op)
	s, t := sip.As4(), tip.As4()
	copy(b[8:], smac[:])
	copy(b[14:], s[:])
	copy(b[18:], tmac[:])
	copy(b[24:], t[:])
}

// Request asks who has tip.
func Request(b []byte, mac ether.Addr, ip, tip netip.Addr) {
	Put(b, OpRequest, mac, ip, ether.Addr{}, tip)
}

// Probe asks whether anybody has ip, without claiming it (RFC 5227 §2.1.1): a
// sender address of zero pollutes no cache.
func Probe(b []byte, mac ether.Addr, ip netip.Addr) {
	Put(b, OpRequest, mac, netip.IPv4Unspecified(), ether.Addr{}, ip)
}

// Announcement tells everybody that ip is now at mac (RFC 5227 §2.3).
func Announcement(b []byte, mac ether.Addr, ip netip.Addr) {
	Put(b, OpRequest, mac, ip, ether.Addr{}, ip)
}

// Reply answers the request p: its target address is at mac. It goes to p's
// sender MAC address (RFC 826, the last step of reception). b does not overlap
// p.
func Reply(b []byte, p Packet, mac ether.Addr) {
	Put(b, OpReply, mac, p.TargetIP(), p.SenderMAC(), p.SenderIP())
}
