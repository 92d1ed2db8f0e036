package packet

// This file is one system call's worth of packet socket: the frame with the
// virtio-net header in front (PACKET_VNET_HDR, VIRTIO 1.2 §5.1.6) and, in the
// ancillary data, the VLAN tag that the kernel has taken out (PACKET_AUXDATA).

import (
	"unsafe"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

const auxLen = int(unsafe.Sizeof(unix.TpacketAuxdata{}))

// message is what recvmsg needs besides the buffer. The device has one, for
// its only receiver, so that receiving allocates nothing.
type message struct {
	hdr     unix.Msghdr
	iov     unix.Iovec
	from    unix.RawSockaddrLinklayer
	control [8]uint64 // CMSG_SPACE(auxLen) and to spare, aligned
}

func (d *Device) read(fd int, b *pkt.Buf) error {
	m := &d.rx
	b.Push(vnet.Len)
	room := b.Room()
	m.iov.Base = &room[0]
	m.iov.SetLen(len(room))
	m.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&m.from)), Namelen: unix.SizeofSockaddrLinklayer, Iov: &m.iov, Control: (*byte)(unsafe.Pointer(&m.control[0]))}
	m.hdr.SetIovlen(1)
	m.hdr.SetControllen(int(unsafe.Sizeof(m.control)))
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT)
	b.SetLen(int(n))
	if errno != 0 {
		b.SetLen(vnet.Len)
		b.Pull(vnet.Len)
		switch errno {
		case unix.EAGAIN:
			return unix.EAGAIN
		case unix.ENETDOWN:
			d.watch()
			return fdloop.ErrSkip
		case unix.EINVAL:
			// A super-frame of a kind that the header has no word for.
			return fdloop.ErrSkip
		}
		return errno
	}
	return m.finish(b)
}

// finish turns what recvmsg has left into a frame with its metadata. When it
// returns an error, b is empty again.
func (m *message) finish(b *pkt.Buf) error {
	if b.Len() < vnet.Len+ether.HeaderLen || m.hdr.Flags&unix.MSG_TRUNC != 0 || m.from.Pkttype == unix.PACKET_OUTGOING {
		b.SetLen(vnet.Len)
		b.Pull(vnet.Len)
		return fdloop.ErrSkip
	}
	vnet.Parse(b.Pull(vnet.Len), b)
	if tpid, tci, ok := m.vlan(); ok {
		ether.PushTag(b, ether.Type(tpid), ether.Tag(tci))
	}
	return nil
}

// vlan returns the tag that the kernel has taken out of the frame.
func (m *message) vlan() (tpid, tci uint16, ok bool) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&m.control))
	if int(m.hdr.Controllen) < unix.CmsgLen(auxLen) ||
		h.Level != unix.SOL_PACKET || h.Type != unix.PACKET_AUXDATA {
		return 0, 0, false
	}
	aux := (*unix.TpacketAuxdata)(unsafe.Add(unsafe.Pointer(h), unix.CmsgLen(0)))
	if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0, 0, false
	}
	tpid = uint16(ether.TypeVLAN)
	if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = aux.Vlan_tpid
	}
	return tpid, aux.Vlan_tci, true
}

// write sends one frame behind its virtio-net header.
func (d *Device) write(fd int, b *pkt.Buf) error {
	err := d.tx.Write(fd, b)
	if err == unix.ENETDOWN {
		// The socket tells once of an interface that went down some time ago;
		// whether it still is, only a second attempt shows.
		d.watch()
		err = d.tx.Write(fd, b)
	}
	return err
}
