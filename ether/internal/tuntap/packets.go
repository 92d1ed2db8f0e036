package tuntap

// This file owns what is different on a TUN, which carries IP packets without
// any link header. The stack's frames have an Ethernet header all the same, in
// which only the type means something: it is made here from the version of the
// packet that is read, and taken away from the packet that is written.

import (
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// readPacket reads one packet and puts a header in front of it. What is of
// neither version of IP is skipped.
func readPacket(fd int, b *pkt.Buf) error {
	if err := read(fd, b); err != nil {
		return err
	}
	return finishPacket(b)
}

// readVnetPacket is readPacket with a virtio-net header, whose offsets count
// from the packet.
func readVnetPacket(fd int, b *pkt.Buf) error {
	h, err := readHeader(fd, b)
	if err != nil {
		return err
	}
	vnet.ParsePacket(h, b)
	return finishPacket(b)
}

// finishPacket leaves b empty when there is no frame to be made of it.
func finishPacket(b *pkt.Buf) error {
	if !ether.PushPacketHeader(b) {
		b.SetLen(0)
		b.GSO, b.Csum = pkt.GSO{}, pkt.CsumNone
		return fdloop.ErrSkip
	}
	return nil
}

// writePacket writes what stands behind the header of one frame.
func writePacket(fd int, b *pkt.Buf) error {
	_, err := unix.Write(fd, b.Bytes()[ether.HeaderLen:])
	return err
}
