package main

// This file owns the ceiling: what a TAP's descriptor takes and gives when
// nobody does anything with the frames. No stack above it can be faster in one
// thread.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/csum"
)

// A bound is one of its four numbers.
type bound struct {
	Key   string   `json:"key"`
	Title string   `json:"title"`
	Value *summary `json:"mb_per_s"`
	// Peer and Metric are what it bounds.
	Peer   string `json:"peer"`
	Metric string `json:"metric"`

	samples []float64
}

func bounds() []*bound {
	return []*bound{
		{Key: "read_super", Title: "read of super-frames of 64 KB", Peer: ours, Metric: "tcp_in"},
		{Key: "write_super", Title: "write of super-frames of 64 KB", Peer: ours, Metric: "tcp_out"},
		{Key: "read_plain", Title: "read of frames of 1514 bytes", Peer: oursPlain, Metric: "tcp_in"},
		{Key: "write_plain", Title: "write of frames of 1514 bytes", Peer: oursPlain, Metric: "tcp_out"},
	}
}

const (
	ceilingTAP = "ceil0"
	vnetLen    = 10
	mss        = 1448
	// ringful is less than a TAP's queue holds (txqueuelen 1000).
	ringful    = 900
	superBytes = 45 * mss // of payload, whole segments
)

var (
	ceilingNear = netip.AddrFrom4([4]byte{10, 79, 0, 1})
	ceilingFar  = netip.AddrFrom4([4]byte{10, 79, 0, 2})
	ceilingMAC  = net.HardwareAddr{2, 0, 0, 0, 2, 7}
	nobodysMAC  = net.HardwareAddr{2, 0, 0, 0, 2, 8}
)

// ceilings returns the four numbers in MB/s, in the order of bounds.
func ceilings(length time.Duration) (values []float64, err error) {
	for _, super := range []bool{true, false} {
		read, write, err := ceiling(super, length)
		if err != nil {
			return nil, err
		}
		values = append(values, read, write)
	}
	return values, nil
}

func ceiling(super bool, length time.Duration) (read, write float64, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd) // and with it the interface
	if err := attachTAP(fd, ceilingTAP, unix.IFF_VNET_HDR); err != nil {
		return 0, 0, err
	}
	if super {
		// TUN_F_CSUM, TSO4, TSO6, USO4 and USO6 of linux/if_tun.h
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0x67); err != nil {
			return 0, 0, fmt.Errorf("the kernel has no USO: %w", err)
		}
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return 0, 0, err
	}
	defer here.Close()
	if err := raise(here, ceilingTAP, ceilingNear); err != nil {
		return 0, 0, err
	}
	link, err := netlink.LinkByName(ceilingTAP)
	if err != nil {
		return 0, 0, err
	}
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ceilingFar.AsSlice(), HardwareAddr: ceilingMAC,
	}); err != nil {
		return 0, 0, err
	}
	if write, err = writes(fd, super, length/2); err != nil {
		return 0, 0, fmt.Errorf("write: %w", err)
	}
	if read, err = reads(fd, super, length/2); err != nil {
		return 0, 0, fmt.Errorf("read: %w", err)
	}
	return read, write, nil
}

// writes sends one frame for somebody else over and over, which the kernel
// drops as soon as it sees that.
func writes(fd int, super bool, length time.Duration) (rate float64, err error) {
	payload := mss
	if super {
		payload = superBytes
	}
	frame := tcpFrame(payload, super)
	n, begin := 0, time.Now()
	for time.Since(begin) < length {
		for range 16 {
			if _, err := unix.Write(fd, frame); err != nil {
				return 0, err
			}
			n += payload
		}
	}
	return float64(n) / mega / time.Since(begin).Seconds(), nil
}

// tcpFrame is a virtio-net header and a frame with n bytes of TCP.
func tcpFrame(n int, super bool) []byte {
	const ethLen, ipLen, tcpLen = 14, 20, 32 // with timestamps
	f := make([]byte, vnetLen+ethLen+ipLen+tcpLen+n)
	if super {
		f[0], f[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_TCPV4
		binary.NativeEndian.PutUint16(f[2:], ethLen+ipLen+tcpLen)
		binary.NativeEndian.PutUint16(f[4:], mss)
		binary.NativeEndian.PutUint16(f[6:], ethLen+ipLen)
		binary.NativeEndian.PutUint16(f[8:], 16) // of the checksum in TCP
	}
	e := f[vnetLen:]
	copy(e, slices.Concat(nobodysMAC, ceilingMAC, net.HardwareAddr{8, 0}))
	ip := e[ethLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+tcpLen+n))
	copy(ip[12:], ceilingFar.AsSlice())
	copy(ip[16:], ceilingNear.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^csum.Sum(ip[:ipLen], 0))
	tcp := ip[ipLen:]
	tcp[12], tcp[13] = tcpLen/4<<4, 0x10
	return f
}

// reads has the kernel fill the TAP's queue and then empties it; only that is
// timed. Nobody fills it meanwhile, who would take the other core.
func reads(fd int, super bool, length time.Duration) (rate float64, err error) {
	s, err := open(unix.SOCK_DGRAM, 0, stall)
	if err != nil {
		return 0, err
	}
	defer s.close()
	payload := mss
	if super {
		payload = superBytes
		if err := unix.SetsockoptInt(int(s), unix.SOL_UDP, unix.UDP_SEGMENT, mss); err != nil {
			return 0, os.NewSyscallError("setsockopt UDP_SEGMENT", err)
		}
	}
	// In the kernel a frame counts for more than its bytes.
	const room = 256 << 20
	if unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_SNDBUF, room)
	}
	if err := s.connect(netip.AddrPortFrom(ceilingFar, discardPort)); err != nil {
		return 0, err
	}
	message, buf := make([]byte, payload), make([]byte, 1<<17)
	var took time.Duration
	got := 0
	for took < length {
		for range ringful {
			n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s), uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)), unix.MSG_DONTWAIT, 0, 0)
			if e == unix.EAGAIN || e == unix.ENOBUFS {
				break // as many as the socket may have on their way
			}
			if e != 0 || int(n) != len(message) {
				return 0, os.NewSyscallError("sendto", e)
			}
		}
		before := got
		begin := time.Now()
		for {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return 0, err
			}
			got += n
		}
		took += time.Since(begin)
		if got == before {
			return 0, errShort
		}
	}
	return float64(got) / mega / took.Seconds(), nil
}
