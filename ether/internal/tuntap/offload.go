package tuntap

// This file owns the interface with a virtio-net header in front of each frame
// (IFF_VNET_HDR): the kernel then hands over and accepts TCP segments of up to
// 64 KB and leaves checksums to whoever is last. songgao/water cannot ask for
// it, so the device is opened here.

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// Offload says whether to use super-frames.
type Offload uint8

// The choices.
const (
	OffloadOff     Offload = iota // plain frames
	OffloadAuto                   // super-frames where the kernel has them
	OffloadRequire                // an error where it has not
)

var offloadNames = [...]string{"off", "auto", "require"}

func (o Offload) String() string { return offloadNames[o] }

// ParseOffload reads "off", "auto" or "require".
func ParseOffload(s string) (Offload, error) {
	for i, n := range offloadNames {
		if s == n {
			return Offload(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", s, strings.Join(offloadNames[:], ", "))
}

// What TUNSETOFFLOAD understands (linux/if_tun.h).
const (
	tunFCsum = 0x01
	tunFTSO4 = 0x02
	tunFTSO6 = 0x04
	tunFECN  = 0x08 // TSO of segments with CWR
	tunFUSO4 = 0x20
	tunFUSO6 = 0x40
)

// errNoOffload is why a device has plain frames although they were not asked
// for.
var errNoOffload = errors.New("the kernel offers no segmentation offload on it")

// openVnet opens one queue of the interface with virtio-net headers; uso says that
// the kernel exchanges UDP super-frames too.
func openVnet(m Mode, o Options, existed, multi bool) (file *os.File, name string, uso bool, err error) {
	flags := uint16(unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	fd, name, err := attach(m, o.Name, flags)
	if err != nil {
		return nil, "", false, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnet.Len); err != nil {
		return nil, "", false, fmt.Errorf("%w: %w", errNoOffload, err)
	}
	const base = tunFCsum | tunFTSO4 | tunFTSO6 | tunFECN
	// Linux before 6.2 has no segmentation of UDP. With these two bits it got
	// both ways of it, so they tell about writing as well.
	uso = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, base|tunFUSO4|tunFUSO6) == nil
	if !uso {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, base); err != nil {
			return nil, "", false, fmt.Errorf("%w: %w", errNoOffload, err)
		}
	}
	if !existed && o.Persist {
		if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
			return nil, "", false, os.NewSyscallError("ioctl TUNSETPERSIST", err)
		}
	}
	// Only now: the poller must see the descriptor after it is attached.
	return os.NewFile(uintptr(fd), "/dev/net/tun"), name, uso, nil
}

// resetOffload takes back what an earlier user, who may have crashed, asked
// the kernel to leave undone: without headers we could not do it.
func resetOffload(fd int) { _ = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0) }

// readVnet reads one frame and its virtio-net header. The kernel cuts off what
// is too long for the buffer: a frame that fills it is not whole. Linux keeps
// a TAP's below 64 KB, whatever gso_max_size its owner asks for.
func readVnet(fd int, b *pkt.Buf) error {
	h, err := readHeader(fd, b)
	if err == nil {
		vnet.Parse(h, b)
	}
	return err
}

// readHeader reads a virtio-net header, which it returns, and what stands
// behind it.
func readHeader(fd int, b *pkt.Buf) ([]byte, error) {
	b.Push(vnet.Len)
	room := b.Room()
	n, err := unix.Read(fd, room)
	if err != nil || n <= vnet.Len || n == len(room) {
		b.SetLen(vnet.Len)
		b.Pull(vnet.Len)
		if err == nil {
			err = fdloop.ErrSkip
		}
		return nil, err
	}
	b.SetLen(n)
	return b.Pull(vnet.Len), nil
}

// notice says what a refused super-frame means for the device.
func notice(m Mode, name string, tell func(error)) func(error) {
	if tell == nil {
		return nil
	}
	return func(err error) {
		tell(fmt.Errorf("%v: %s: the kernel refuses super-frames (%w); they are segmented in software", m, name, err))
	}
}

// vnetCaps are the capabilities with headers, without the MTU.
func vnetCaps(queues int, uso bool) ether.Caps {
	return ether.Caps{Queues: queues, GSOMax: vnet.GSOMax, USO: uso, TxCsum: true, Gather: true, RxCsum: true}
}
