package ether

import "github.com/tapstack/tapstack/internal/pkt"

// This file owns the header of frames that have none on their link: what a
// device with Caps.PointToPoint puts in front of the packets that it reads.

// PushPacketHeader puts the header of a frame without addresses in front of
// the IP packet in b. It reports false, and leaves b as it is, for what is of
// no version of IP.
func PushPacketHeader(b *pkt.Buf) bool {
	if b.Len() == 0 {
		return false
	}
	var t Type
	switch b.Bytes()[0] >> 4 {
	case 4:
		t = TypeIPv4
	case 6:
		t = TypeIPv6
	default:
		return false
	}
	Put(b.Push(HeaderLen), Addr{}, Addr{}, t)
	return true
}
