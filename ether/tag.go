package ether

// This file owns the VLAN tag (IEEE 802.1Q §9): four bytes between the
// addresses and the type of a frame.
//
//	destination 6 | source 6 | 0x8100 2 | priority 3 bits, drop eligible 1, VLAN 12 | type 2
//
// It knows the bytes; which VLANs there are is the business of ether/vlan.

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/pkt"
)

const (
	// TagLen is the length of a VLAN tag in bytes.
	TagLen = 4
	// TypeServiceVLAN is the type of the outer tag of a provider's network
	// (IEEE 802.1ad), in which customers' tags are kept ("QinQ").
	TypeServiceVLAN Type = 0x88a8
	// MaxVLAN is the highest number of a VLAN: 0 and 4095 are none's.
	MaxVLAN = 4094
	// MaxPriority is the highest priority code point.
	MaxPriority = 7
)

// Tag is the control information of a VLAN tag.
type Tag uint16

// MakeTag returns the tag of a VLAN, 1 to MaxVLAN, or 0 for one that only has a
// priority, 0 to MaxPriority.
func MakeTag(vlan uint16, priority uint8) Tag { return Tag(priority)<<13 | Tag(vlan&0xfff) }

// VLAN returns the number: 0 says that the frame belongs to the VLAN of those
// without tag, and only has a priority.
func (t Tag) VLAN() uint16 { return uint16(t) & 0xfff }

// Priority returns the priority code point.
func (t Tag) Priority() uint8 { return uint8(t >> 13) }

// DropEligible reports whether the frame is to be dropped before others.
func (t Tag) DropEligible() bool { return t&0x1000 != 0 }

// TagOf returns the tag of a frame, and the type that follows it; ok is false
// when there is none, or not all of it.
func TagOf(frame []byte) (tag Tag, next Type, ok bool) {
	if len(frame) < HeaderLen+TagLen || Header(frame).Type() != TypeVLAN {
		return 0, 0, false
	}
	return Tag(binary.BigEndian.Uint16(frame[14:])), Type(binary.BigEndian.Uint16(frame[16:])), true
}

// PushTag puts a tag into the frame in b, which has a whole header.
func PushTag(b *pkt.Buf, typ Type, tag Tag) {
	b.Push(TagLen)
	f := b.Bytes()
	copy(f[:12], f[TagLen:TagLen+12])
	binary.BigEndian.PutUint16(f[12:], uint16(typ))
	binary.BigEndian.PutUint16(f[14:], uint16(tag))
}

// PullTag takes the tag out of the frame in b, which has one (TagOf).
func PullTag(b *pkt.Buf) {
	f := b.Bytes()
	copy(f[TagLen:], f[:12])
	b.Pull(TagLen)
}

// NetworkOffset is where the network header of a frame begins: behind the
// Ethernet header, and the VLAN tag if it has one.
func NetworkOffset(frame []byte) int {
	if len(frame) >= HeaderLen {
		if t := Header(frame).Type(); t == TypeVLAN || t == TypeServiceVLAN {
			return HeaderLen + TagLen
		}
	}
	return HeaderLen
}
