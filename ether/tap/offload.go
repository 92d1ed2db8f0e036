package tap

// This file owns the TAP with a virtio-net header in front of each frame
// (IFF_VNET_HDR): the kernel then hands over and accepts TCP segments of up to
// 64 KB and leaves checksums to whoever is last. songgao/water cannot ask for
// it, so the device is opened here.

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/gso"
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
	tunFUSO4 = 0x20
	tunFUSO6 = 0x40
)

// errNoOffload is why a device has plain frames although they were not asked
// for.
var errNoOffload = errors.New("the kernel offers no segmentation offload on it")

// maxSuper is the room for the longest super-frame, its header included.
const maxSuper = vnet.Len + ether.HeaderLen + vlanTag + 1<<16

// openVnet opens one queue of the TAP with virtio-net headers.
func openVnet(o Options, existed, multi bool) (file *os.File, name string, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	req, err := unix.NewIfreq(o.Name)
	if err != nil {
		return nil, "", err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, "", os.NewSyscallError("ioctl TUNSETIFF", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnet.Len); err != nil {
		return nil, "", fmt.Errorf("%w: %w", errNoOffload, err)
	}
	const base = tunFCsum | tunFTSO4 | tunFTSO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, base|tunFUSO4|tunFUSO6) != nil {
		// Linux before 6.2 has no segmentation of UDP.
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, base); err != nil {
			return nil, "", fmt.Errorf("%w: %w", errNoOffload, err)
		}
	}
	if !existed && o.Persist {
		if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
			return nil, "", os.NewSyscallError("ioctl TUNSETPERSIST", err)
		}
	}
	// Only now: the poller must see the descriptor after it is attached.
	return os.NewFile(uintptr(fd), "/dev/net/tun"), req.Name(), nil
}

// resetOffload takes back what an earlier user, who may have crashed, asked
// the kernel to leave undone: without headers we could not do it.
func resetOffload(fd int) { _ = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0) }

// readVnet reads one frame and its virtio-net header.
func readVnet(fd int, b *pkt.Buf) error {
	b.Push(vnet.Len)
	n, err := unix.Read(fd, b.Room())
	if err != nil || n <= vnet.Len {
		b.SetLen(vnet.Len)
		b.Pull(vnet.Len)
		if err == nil {
			err = errShort
		}
		return err
	}
	b.SetLen(n)
	vnet.Parse(b.Pull(vnet.Len), b)
	return nil
}

// writeVnet writes one frame behind its virtio-net header. When the kernel
// refuses a super-frame, which some do although they said they would not, this
// and all later ones are cut here.
func (d *Device) writeVnet(fd int, b *pkt.Buf) error {
	super := b.GSO.Type != pkt.GSONone
	if super && d.cut.Load() {
		return d.writeCut(fd, b)
	}
	err := putVnet(fd, b)
	if super && (err == unix.EINVAL || err == unix.EIO) {
		// EIO may also mean that the interface is down; then the pieces do
		// not leave either.
		b.Pull(vnet.Len)
		again := d.writeCut(fd, b)
		if again == nil && !d.cut.Swap(true) && d.notice != nil {
			d.notice(fmt.Errorf("tap: %s: the kernel refuses super-frames (%w); they are segmented in software", d.name, err))
		}
		return again
	}
	return err
}

func putVnet(fd int, b *pkt.Buf) error {
	var h [vnet.Len]byte
	vnet.Put(h[:], b)
	copy(b.Push(vnet.Len), h[:])
	x, y := b.Borrowed()
	if len(x) == 0 {
		_, err := unix.Write(fd, b.Bytes())
		return err
	}
	return writev(fd, b.Bytes(), x, y)
}

// writev writes one frame that lies in up to three pieces, of which the first
// two are not empty. It is unix.Writev without its allocation.
func writev(fd int, pieces ...[]byte) error {
	var iov [3]unix.Iovec
	n := 0
	for _, p := range pieces {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(n)); errno != 0 {
		return errno
	}
	return nil
}

// writeCut segments a super-frame in software.
func (d *Device) writeCut(fd int, b *pkt.Buf) (err error) {
	d.software.Add(1)
	ok := gso.Segment(b.Clone(), func(p *pkt.Buf) {
		if e := putVnet(fd, p); err == nil {
			err = e
		}
		p.Put()
	})
	if !ok {
		return unix.EINVAL
	}
	return err
}

// vnetCaps are the capabilities with headers.
func vnetCaps(mtu, queues int) ether.Caps {
	return ether.Caps{MTU: mtu, Queues: queues, GSOMax: 1<<16 - 1, TxCsum: true, Gather: true, RxCsum: true}
}
