// Package tuntap is what TAP and TUN interfaces of Linux have in common: both
// are made and opened through /dev/net/tun, and their descriptors move one
// frame, or one IP packet, with each read and write. This file owns opening
// them, and the Device that both packages give out; offload.go owns the
// virtio-net header, and packets.go what is different without Ethernet.
package tuntap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/songgao/water"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/ether/internal/linkwatch"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is the kind of interface.
type Mode uint8

// The modes.
const (
	TAP Mode = iota // Ethernet frames
	TUN             // IP packets
)

func (m Mode) String() string { return [...]string{"tap", "tun"}[m] }

// Options says which interface to open.
type Options struct {
	// Name of the interface, at most 15 bytes, such as "tap7". Empty lets the
	// kernel choose one.
	Name string
	// Existing: fail when there is no such interface instead of making it.
	Existing bool
	// Persist: an interface made here stays when the device is closed. One
	// that was there before always stays.
	Persist bool
	// Up: set an interface made here up. One that was there before keeps the
	// state its owner gave it.
	Up bool
	// Offload: exchange super-frames with the kernel.
	Offload Offload
	// Queues: receive on so many queues (IFF_MULTI_QUEUE); 0 and 1 mean one.
	// More than one takes Offload, and an interface made for it.
	Queues int
	// BusyPoll is how long to look for the next frame before sleeping, which
	// shortens round trips and keeps a core busy; 0 sleeps at once.
	BusyPoll time.Duration
	// Notice, unless nil, is told once when the kernel turns out not to take
	// super-frames although it said so.
	Notice func(error)
}

// Stats are the counters of a device.
type Stats struct {
	fdloop.Stats
	// TxCut counts super-frames that were segmented in software.
	TxCut uint64
}

// Device is an open interface. It implements ether.Device.
type Device struct {
	mode   Mode
	name   string
	caps   ether.Caps
	queues []*fdloop.Loop

	tx vnet.Sender // with virtio-net headers

	link *linkwatch.Watch
}

var _ ether.Linker = (*Device)(nil)

// QueueLen is how many frames the kernel keeps for the stack in an interface
// made here; more are lost. Linux's 1000 are fewer than a receive window of 6
// MiB holds plain frames, which is 4345 of 1448 bytes. One that was there
// before keeps the queue that its owner gave it (ip link set … txqueuelen).
const QueueLen = 5000

// vlanTag is what a frame may be longer by than MTU and Ethernet header.
const vlanTag = 4

// Open opens an interface in the network namespace of the calling thread,
// making it first if there is none of that name. Making one takes
// CAP_NET_ADMIN; opening one takes that or being its owner.
func Open(m Mode, o Options) (*Device, error) {
	existed, err := inspect(m, o)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", m, err)
	}
	if o.Offload != OffloadOff {
		d, err := openQueues(m, o, existed)
		if err == nil || o.Offload == OffloadRequire || !errors.Is(err, errNoOffload) && !errors.Is(err, unix.EINVAL) {
			return d, err
		}
	}
	if o.Queues > 1 {
		return nil, fmt.Errorf("%v: %s: %d queues take offload, which it does not have", m, o.Name, o.Queues)
	}
	file, name, err := openPlain(m, o, existed)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", m, err)
	}
	return start(m, o, name, existed, []*os.File{file}, nil)
}

// openPlain opens the interface without headers.
func openPlain(m Mode, o Options, existed bool) (*os.File, string, error) {
	if !existed {
		return makePlain(m, o)
	}
	// Not with water, which loses a descriptor whenever the interface is busy: who
	// waits for it to be free would run out of them.
	fd, name, err := attach(m, o.Name, 0)
	if err != nil {
		return nil, "", explain(o.Name, existed, err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), name, nil
}

// makePlain makes the interface. A program that is started before the
// descriptor is marked close-on-exec would inherit it, and keep the interface
// busy after we are gone. water opens it without the mark, so no program is
// started here until it is set.
func makePlain(m Mode, o Options) (*os.File, string, error) {
	kind := water.DeviceType(water.TAP)
	if m == TUN {
		kind = water.TUN
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	w, err := water.New(water.Config{
		DeviceType:             kind,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: o.Name, Persist: o.Persist},
	})
	if err != nil {
		return nil, "", explain(o.Name, false, err)
	}
	file, ok := w.ReadWriteCloser.(*os.File)
	if !ok {
		w.Close()
		return nil, "", fmt.Errorf("cannot wait for frames on a %T", w.ReadWriteCloser)
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { syscall.CloseOnExec(int(fd)) })
	}
	if err != nil {
		file.Close()
		return nil, "", err
	}
	return file, w.Name(), nil
}

// attach opens a descriptor for the interface, without sleeping in reads and
// without leaving it to children, and returns the interface's name.
func attach(m Mode, name string, flags uint16) (fd int, got string, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		flags |= unix.IFF_NO_PI | unix.IFF_TAP
		if m == TUN {
			flags ^= unix.IFF_TAP | unix.IFF_TUN
		}
		req.SetUint16(flags)
		err = os.NewSyscallError("ioctl TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	}
	if err != nil {
		unix.Close(fd)
		return -1, "", err
	}
	return fd, req.Name(), nil
}

// openQueues opens the interface with virtio-net headers, once for each queue.
func openQueues(m Mode, o Options, existed bool) (*Device, error) {
	var files []*os.File
	allUSO := true
	for range max(1, o.Queues) {
		file, name, uso, err := openVnet(m, o, existed, o.Queues > 1)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("%v: %w", m, explain(o.Name, existed, err))
		}
		o.Name = name // the others join the interface that the first has made
		files = append(files, file)
		allUSO = allUSO && uso
	}
	caps := vnetCaps(len(files), allUSO)
	return start(m, o, o.Name, existed, files, &caps)
}

// start makes a device of open files and closes them when it cannot. headers,
// unless nil, is what the device can with virtio-net headers.
func start(m Mode, o Options, name string, existed bool, files []*os.File, headers *ether.Caps) (_ *Device, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			err = fmt.Errorf("%v: %s: %w", m, name, err)
		}
	}()
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if !existed {
		// Without it frames get lost under a large window, which TCP survives.
		_ = netlink.LinkSetTxQLen(link, QueueLen)
	}
	if o.Up && !existed {
		if err := netlink.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("set up: %w", err)
		}
	}
	if existed {
		if err := settle(name); err != nil {
			return nil, err
		}
	}
	d := &Device{mode: m, name: name, caps: ether.Caps{Queues: 1}}
	ops := fdloop.Ops{Size: ether.HeaderLen + vlanTag + link.Attrs().MTU, Read: read, Write: write}
	if m == TUN {
		ops.Read, ops.Write = readPacket, writePacket
	}
	if headers != nil {
		d.caps = *headers
		d.tx.Notice, d.tx.Packets = notice(m, name, o.Notice), m == TUN
		ops = fdloop.Ops{Size: vnet.Room, Read: readVnet, Write: d.tx.Write}
		if m == TUN {
			ops.Read = readVnetPacket
		}
	}
	d.caps.MTU, d.caps.PointToPoint = link.Attrs().MTU, m == TUN
	ops.BusyPoll = o.BusyPoll
	for _, file := range files {
		loop, err := fdloop.New(file, ops)
		if err != nil {
			return nil, err
		}
		if headers == nil {
			if err := loop.Control(resetOffload); err != nil {
				return nil, err
			}
		}
		d.queues = append(d.queues, loop)
	}
	d.link = linkwatch.New(link, func(mtu int) {
		if headers != nil {
			return // the buffers hold all that can come
		}
		for _, q := range d.queues {
			q.SetSize(ether.HeaderLen + vlanTag + mtu)
		}
	})
	d.caps.MTU = d.link.Get().MTU
	return d, nil
}

// settle waits until the kernel has noticed that somebody is at our end of an
// interface that is up. Until then it drops what it would send us, and a bridge
// what we send: mostly frames of address resolution, whose repetition takes a
// second. The kernel does it in the background, usually in less than one
// millisecond.
func settle(name string) error {
	const step, most = 200 * time.Microsecond, 300 * time.Millisecond
	for end := time.Now().Add(most); ; time.Sleep(step) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a := link.Attrs()
		if a.Flags&net.FlagUp == 0 || a.OperState == netlink.OperUp || time.Now().After(end) {
			return nil
		}
	}
}

// inspect finds out whether the interface exists already and is of the mode.
func inspect(m Mode, o Options) (existed bool, err error) {
	if len(o.Name) >= unix.IFNAMSIZ {
		return false, fmt.Errorf("interface name %q is longer than %d bytes", o.Name, unix.IFNAMSIZ-1)
	}
	if o.Name == "" {
		return false, nil
	}
	link, err := netlink.LinkByName(o.Name)
	var none netlink.LinkNotFoundError
	switch {
	case errors.As(err, &none):
		if o.Existing {
			return false, fmt.Errorf("there is no interface %s", o.Name)
		}
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for %s: %w", o.Name, err)
	}
	t, ok := link.(*netlink.Tuntap)
	want, called := netlink.TuntapMode(netlink.TUNTAP_MODE_TAP), "TAP"
	if m == TUN {
		want, called = netlink.TUNTAP_MODE_TUN, "TUN"
	}
	if !ok || t.Mode != want {
		return false, fmt.Errorf("%s is not a %s interface", o.Name, called)
	}
	return true, nil
}

// explain turns what the kernel answers into what is the matter.
func explain(name string, existed bool, err error) error {
	if name == "" {
		name = "a new interface"
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	opening := !errors.As(err, new(*os.SyscallError))
	switch {
	case opening && (errno == unix.ENOENT || errno == unix.ENODEV || errno == unix.ENXIO):
		return fmt.Errorf("open %s: no /dev/net/tun; load the tun module (modprobe tun): %w", name, err)
	case opening && (errno == unix.EACCES || errno == unix.EPERM):
		return fmt.Errorf("open %s: no permission for /dev/net/tun; run as root or in a lab: %w", name, err)
	case errno == unix.EPERM && existed:
		return fmt.Errorf("open %s: it belongs to another user; run as root: %w", name, err)
	case errno == unix.EPERM:
		return fmt.Errorf("make %s: no permission; run as root or with CAP_NET_ADMIN: %w", name, err)
	case errno == unix.EBUSY:
		return fmt.Errorf("open %s: another process uses it: %w", name, err)
	case errno == unix.EINVAL && existed:
		return fmt.Errorf("open %s: it is multi-queue or not of this kind: %w", name, err)
	}
	return fmt.Errorf("open %s: %w", name, err)
}

// read relies on the kernel to cut a frame that is too long: one that fills
// the whole buffer is longer than the MTU that the device was opened with.
func read(fd int, b *pkt.Buf) error {
	room := b.Room()
	n, err := unix.Read(fd, room)
	if err != nil {
		return err
	}
	if n == len(room) || n == 0 {
		return fdloop.ErrSkip
	}
	b.SetLen(n)
	return nil
}

func write(fd int, b *pkt.Buf) error {
	_, err := unix.Write(fd, b.Bytes())
	return err
}

// Name returns the interface's name.
func (d *Device) Name() string { return d.name }

// Stats returns the device's counters.
func (d *Device) Stats() Stats {
	st := Stats{TxCut: d.tx.Cut()}
	for _, q := range d.queues {
		st.Add(q.Stats())
	}
	return st
}

// Caps implements ether.Device. The MTU is the interface's when it was opened.
func (d *Device) Caps() ether.Caps { return d.caps }

// Watch implements ether.Linker. The link is down while the interface is
// (`ip link set … down`), and the MTU is the interface's.
func (d *Device) Watch(f func(ether.Link)) (stop func()) { return d.link.Watch(f) }

// Addr implements ether.Device: the zero address, because the interface's own
// is that of the host's end.
func (d *Device) Addr() ether.Addr { return ether.Addr{} }

// Receive implements ether.Device. It fails when the interface is deleted.
func (d *Device) Receive(ctx context.Context, queue int, deliver func(*pkt.Buf), idle func()) error {
	return d.wrap(d.queues[queue].Receive(ctx, deliver, idle))
}

// Poll implements ether.Poller.
func (d *Device) Poll(queue, most int, deliver func(*pkt.Buf)) { d.queues[queue].Poll(most, deliver) }

// Send implements ether.Device. A frame is lost with EIO while the interface
// is down, and with EAGAIN or ENOBUFS when the kernel's queue is full.
func (d *Device) Send(queue int, frames []*pkt.Buf) (sent int, err error) {
	return d.queues[queue].Send(frames)
}

// Close implements ether.Device. An interface that Open made disappears,
// unless Options.Persist was set.
func (d *Device) Close() error {
	var errs []error
	d.link.Close()
	for _, q := range d.queues {
		if d.caps.TxCsum {
			_ = q.Control(resetOffload) // for whoever opens it next
		}
		errs = append(errs, q.Close())
	}
	if errors.Is(errs[0], net.ErrClosed) {
		return net.ErrClosed
	}
	return errors.Join(errs...)
}

func (d *Device) wrap(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if errno == unix.EBADFD || errno == unix.EFAULT {
			return fmt.Errorf("%v: %s: the interface was deleted: %w", d.mode, d.name, err)
		}
		return fmt.Errorf("%v: %s: %w", d.mode, d.name, err)
	}
	return err
}
