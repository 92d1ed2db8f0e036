package ether

// This file owns the frames of IEEE 802.3, which have a length where others have
// a type, and behind it the header of logical link control (IEEE 802.2). With
// SNAP (RFC 1042) that leads to a type again:
//
//	destination 6 | source 6 | length 2 | 0xaa 0xaa 0x03 | 00 00 00 | type 2 | packet

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/pkt"
)

// SNAPLen is what an LLC and SNAP header add to a frame.
const SNAPLen = 8

// LengthKind says what a frame with a length has behind it.
type LengthKind uint8

// The kinds.
const (
	LengthBad    LengthKind = iota // longer than the frame, or than any may be
	LengthSNAP                     // a type, with the OUI of RFC 1042
	LengthVendor                   // SNAP with an OUI of somebody's
	LengthLLC                      // another protocol of 802.2, as spanning tree
	LengthRaw                      // Novell's form without 802.2
)

// maxLength is the longest packet of IEEE 802.3.
const maxLength = 1500

// ParseLength finds out what a frame with a length is. For LengthSNAP typ is
// the type of the packet, which begins HeaderLen+SNAPLen bytes from the start of
// the frame and ends after end bytes; what follows is padding.
func ParseLength(frame []byte) (kind LengthKind, typ Type, end int) {
	h, ok := Parse(frame)
	if !ok {
		return LengthBad, 0, 0
	}
	n := int(h.Type())
	b := frame[HeaderLen:]
	if n > maxLength || n > len(b) || n < 3 {
		return LengthBad, 0, 0
	}
	b = b[:n]
	switch {
	case b[0] == 0xff && b[1] == 0xff:
		return LengthRaw, 0, 0
	case b[0] != 0xaa || b[1] != 0xaa || b[2] != 3:
		return LengthLLC, 0, 0
	case n < SNAPLen:
		return LengthBad, 0, 0
	case b[3] != 0 || b[4] != 0 || b[5] != 0:
		return LengthVendor, 0, 0
	}
	return LengthSNAP, Type(binary.BigEndian.Uint16(b[6:])), HeaderLen + n
}

// PullSNAP makes an Ethernet II frame of one with SNAP, as ParseLength found it.
func PullSNAP(b *pkt.Buf, typ Type, end int) {
	b.Trim(end)
	f := b.Bytes()
	copy(f[SNAPLen:], f[:12])
	b.Pull(SNAPLen)
	binary.BigEndian.PutUint16(b.Bytes()[12:], uint16(typ))
}

// PushSNAP makes a frame with SNAP of an Ethernet II frame, whole and of at most
// 1492 bytes of packet.
func PushSNAP(b *pkt.Buf) {
	typ := Header(b.Bytes()).Type()
	b.Push(SNAPLen)
	f := b.Bytes()
	copy(f[:12], f[SNAPLen:SNAPLen+12])
	binary.BigEndian.PutUint16(f[12:], uint16(len(f)-HeaderLen))
	copy(f[14:], []byte{0xaa, 0xaa, 3, 0, 0, 0})
	binary.BigEndian.PutUint16(f[20:], uint16(typ))
}
