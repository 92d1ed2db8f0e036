package stack

// This file owns what becomes of frames that are not plain Ethernet II. VLANs
// are made devices of their own below an interface (ether/vlan), and SNAP is
// taken away there (ether/snap), so what comes up to here with either is of
// others, with one exception.

import (
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
)

// untag takes a tag away that has a priority but names no VLAN: the frame
// belongs to those without tag (IEEE 802.1Q §6.9). Any other tag says that it
// is none of ours, whatever addresses it holds: Linux without such a
// sub-interface takes it for another station's.
func untag(p *pkt.Buf) (next ether.Type, ok bool) {
	tag, next, ok := ether.TagOf(p.Bytes())
	if !ok || tag.VLAN() != 0 || next == ether.TypeVLAN || next == ether.TypeServiceVLAN {
		return 0, false
	}
	ether.PullTag(p)
	return next, true
}

// lengthDrop is why a frame with a length instead of a type is dropped.
func lengthDrop(frame []byte) Drop {
	switch kind, _, _ := ether.ParseLength(frame); kind {
	case ether.LengthSNAP, ether.LengthVendor:
		return DropSNAP
	case ether.LengthLLC:
		return DropLLC
	}
	return DropLengthFrame
}
