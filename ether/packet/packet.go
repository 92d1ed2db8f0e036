// Package packet is the device for places without a TAP: a Linux packet socket
// (AF_PACKET, packet(7)) on an interface that exists already, such as one end
// of a veth pair or a spare network card. The kernel goes on using the
// interface as well, so the stack's addresses must not be the kernel's.
package packet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/ether/internal/linkwatch"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelBuf is the room for frames that wait in the kernel, each way, in bytes.
// It holds some dozens of super-frames; the usual 208 KB hold two.
const kernelBuf = 8 << 20

// recheck is how often an interface that is down is looked for.
const recheck = time.Second

// Stats are the counters of a device.
type Stats struct {
	fdloop.Stats
	// RxOverrun counts frames that the kernel had no room for.
	RxOverrun uint64
	// TxCut counts super-frames that were segmented in software.
	TxCut uint64
}

// Device is an open packet socket. It implements ether.Device with one queue.
type Device struct {
	name string
	mtu  int
	mac  ether.Addr
	loop *fdloop.Loop
	link *linkwatch.Watch
	rx   message
	tx   vnet.Sender
	// down is set from the moment the interface goes down until it is seen to
	// be up again. A frame does not show that: it may have waited since before.
	down    atomic.Bool
	overrun atomic.Uint64
}

var _ ether.Linker = (*Device)(nil)

// Open binds a packet socket to an Ethernet interface in the network namespace
// of the calling thread and makes the interface promiscuous while it is open,
// so that the stack may have a MAC address of its own. It takes CAP_NET_RAW.
func Open(ifname string) (*Device, error) {
	link, err := netlink.LinkByName(ifname)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("packet: there is no interface %s", ifname)
	}
	if err != nil {
		return nil, fmt.Errorf("packet: look for %s: %w", ifname, err)
	}
	a := link.Attrs()
	if a.EncapType != "ether" || len(a.HardwareAddr) != 6 {
		return nil, fmt.Errorf("packet: %s is not an Ethernet interface", ifname)
	}
	fd, err := socket(a.Index)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("packet: open %s: no permission; run as root or with CAP_NET_RAW: %w", ifname, err)
		}
		return nil, fmt.Errorf("packet: open %s: %w", ifname, err)
	}
	d := &Device{name: ifname, mtu: a.MTU, mac: ether.Addr(a.HardwareAddr)}
	file := os.NewFile(uintptr(fd), "packet:"+ifname)
	d.loop, err = fdloop.New(file, fdloop.Ops{Size: vnet.Room, Read: d.read, Write: d.write})
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("packet: open %s: %w", ifname, err)
	}
	d.link = linkwatch.New(link, nil)
	d.mtu = d.link.Get().MTU
	return d, nil
}

// socket opens a socket that receives nothing until everything is set.
func socket(index int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	for _, opt := range []struct {
		name  string
		opt   int
		needs bool
	}{
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, true},
		{"PACKET_AUXDATA", unix.PACKET_AUXDATA, true},
		// Linux before 4.20 has it not; read drops those frames as well.
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, false},
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt.opt, 1); err != nil && opt.needs {
			return -1, os.NewSyscallError("setsockopt "+opt.name, err)
		}
	}
	for _, opt := range []struct{ force, ask int }{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.force, kernelBuf) != nil {
			// Without privilege as much as the limit allows; less is no failure.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.ask, kernelBuf)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	promisc := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promisc); err != nil {
		return -1, os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", err)
	}
	return fd, nil
}

// Name returns the interface's name.
func (d *Device) Name() string { return d.name }

// Caps implements ether.Device. Frames from another stack on this machine may
// arrive as super-frames and with unfinished checksums, and may be sent so:
// what the interface cannot do itself the kernel does for it. (UDP super-frames
// take Linux 6.2, before which they are cut here.)
func (d *Device) Caps() ether.Caps {
	return ether.Caps{MTU: d.mtu, Queues: 1, GSOMax: vnet.GSOMax, USO: true, TxCsum: true, Gather: true, RxCsum: true}
}

// Addr implements ether.Device: the interface's address. A network that lets
// only that one pass wants the stack to use it.
func (d *Device) Addr() ether.Addr { return d.mac }

// Stats returns the device's counters.
func (d *Device) Stats() Stats {
	// The kernel's counter starts again with each reading. Once the device is
	// closed there is nothing to add.
	_ = d.loop.Control(func(fd int) {
		if st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			d.overrun.Add(uint64(st.Drops))
		}
	})
	return Stats{Stats: d.loop.Stats(), RxOverrun: d.overrun.Load(), TxCut: d.tx.Cut()}
}

// Receive implements ether.Device. It fails when the interface is deleted.
func (d *Device) Receive(ctx context.Context, _ int, deliver func(*pkt.Buf), idle func()) error {
	err := d.loop.Receive(ctx, deliver, idle)
	switch errno, ok := errors.AsType[syscall.Errno](err); {
	case ok && errno == unix.ENODEV:
		return fmt.Errorf("packet: %s: the interface was deleted: %w", d.name, err)
	case ok:
		return fmt.Errorf("packet: %s: %w", d.name, err)
	}
	return err
}

// Send implements ether.Device. A frame is lost with ENETDOWN while the
// interface is down, with EAGAIN or ENOBUFS when the kernel's queue is full and
// with EMSGSIZE when it is longer than the MTU allows.
func (d *Device) Send(_ int, frames []*pkt.Buf) (sent int, err error) {
	return d.loop.Send(frames)
}

// Watch implements ether.Linker. The link is down while the interface is, or has
// no carrier, and the MTU is the interface's.
func (d *Device) Watch(f func(ether.Link)) (stop func()) { return d.link.Watch(f) }

// Close implements ether.Device.
func (d *Device) Close() error {
	d.link.Close()
	return d.loop.Close()
}

// watch is called when the interface goes down. That may be the first half of
// its deletion, and of the second half a packet socket hears nothing.
func (d *Device) watch() {
	if !d.down.Swap(true) {
		time.AfterFunc(recheck, d.look)
	}
}

func (d *Device) look() {
	d.down.Store(false) // first, so that what happens meanwhile is watched anew
	gone, up := false, false
	err := d.loop.Control(func(fd int) {
		sa, err := unix.Getsockname(fd)
		ll, ok := sa.(*unix.SockaddrLinklayer)
		gone = err == nil && ok && ll.Ifindex <= 0
		if req, err := unix.NewIfreq(d.name); err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req) == nil {
			up = req.Uint16()&unix.IFF_UP != 0
		}
	})
	switch {
	case err != nil: // closed
	case gone:
		d.loop.Fail(unix.ENODEV)
	case !up:
		d.watch()
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
