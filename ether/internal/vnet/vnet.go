// Package vnet is the virtio-net header (VIRTIO 1.2 §5.1.6) that stands before
// each frame on a TAP with IFF_VNET_HDR and a packet socket with
// PACKET_VNET_HDR: how a super-frame is to be cut, and what is left to do of
// its checksum.
//
//	flags 1 | gso type 1 | hdr len 2 | gso size 2 | csum start 2 | csum offset 2
//
// Its numbers are in the machine's byte order. Offsets count from the start of
// the frame there and from the network header in pkt.GSO.
package vnet

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// Len is the header's length in bytes.
const Len = 10

// Parse reads the header h of the frame b into b's metadata. The header
// length in it is only a hint and often wrong, so GSO.HdrLen stays 0; offsets
// that lie outside the frame are ignored.
func Parse(h []byte, b *pkt.Buf) { parse(h, b, ether.NetworkOffset(b.Bytes())) }

// ParsePacket is Parse for a packet that b holds without any link header.
func ParsePacket(h []byte, b *pkt.Buf) { parse(h, b, 0) }

// parse takes the length of what stands before the network header.
func parse(h []byte, b *pkt.Buf, n int) {
	link := uint16(n)
	flags, kind := h[0], h[1]
	start := binary.NativeEndian.Uint16(h[6:])
	offset := binary.NativeEndian.Uint16(h[8:])
	switch {
	case flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 && start >= link && int(start)+int(offset)+2 <= b.Len():
		b.Csum = pkt.CsumPartial
		b.GSO.CsumStart, b.GSO.CsumOffset = start-link, offset
	case flags&unix.VIRTIO_NET_HDR_F_DATA_VALID != 0:
		b.Csum = pkt.CsumValid
	}
	switch kind &^ unix.VIRTIO_NET_HDR_GSO_ECN {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4:
		b.GSO.Type = pkt.GSOTCPv4
	case unix.VIRTIO_NET_HDR_GSO_TCPV6:
		b.GSO.Type = pkt.GSOTCPv6
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		b.GSO.Type = pkt.GSOUDP
	default:
		return
	}
	b.GSO.SegSize = binary.NativeEndian.Uint16(h[4:])
}

// Put writes the header for the frame that b holds, which begins at its
// Ethernet header, into h.
func Put(h []byte, b *pkt.Buf) { put(h, b, ether.NetworkOffset(b.Bytes())) }

// put takes the length of what stands before the network header.
func put(h []byte, b *pkt.Buf, n int) {
	link := uint16(n)
	clear(h[:Len])
	if b.Csum != pkt.CsumPartial {
		return
	}
	g := &b.GSO
	h[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	binary.NativeEndian.PutUint16(h[6:], g.CsumStart+link)
	binary.NativeEndian.PutUint16(h[8:], g.CsumOffset)
	switch g.Type {
	case pkt.GSOTCPv4:
		h[1] = unix.VIRTIO_NET_HDR_GSO_TCPV4 | ecn(b, n)
	case pkt.GSOTCPv6:
		h[1] = unix.VIRTIO_NET_HDR_GSO_TCPV6 | ecn(b, n)
	case pkt.GSOUDP:
		h[1] = unix.VIRTIO_NET_HDR_GSO_UDP_L4
	default:
		return
	}
	binary.NativeEndian.PutUint16(h[2:], g.HdrLen+link)
	binary.NativeEndian.PutUint16(h[4:], g.SegSize)
}

// ecn says of a TCP super-frame with CWR that only its first segment may keep
// that (RFC 3168 §6.1.2), of which not every network card knows.
func ecn(b *pkt.Buf, link int) byte {
	const flags, cwr = 13, 0x80
	if i := link + int(b.GSO.CsumStart) + flags; i < b.Len() && b.Bytes()[i]&cwr != 0 {
		return unix.VIRTIO_NET_HDR_GSO_ECN
	}
	return 0
}
