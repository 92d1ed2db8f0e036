package main

// This file owns the Linux kernel as a peer: the same services on kernel
// sockets, in a network namespace at the other end of a veth pair.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/service"
)

// kernel is one such server. Its veth has no bridge in between, which is the
// shortest way the kernel has.
//
//	driver  10.78.n.1 veth<n> ══ peer<n> 10.78.n.2  server
type kernel struct {
	n        byte // its number among the kernel peers
	offloads bool
	cc       string
	*process
}

func (k *kernel) name() string {
	if k.offloads {
		return "veth"
	}
	return "veth-off"
}

func (k *kernel) about() string {
	if k.offloads {
		return "the Linux kernel over a veth pair as it comes, no bridge in between: segments of up to 64 KB and no checksums"
	}
	return "the Linux kernel over a veth pair, no bridge in between, with segmentation, receive and checksum offload switched off, so that it too handles every 1500-byte packet and its checksum"
}

func (k *kernel) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 78, k.n, 2}) }
func (k *kernel) near() netip.Addr { return netip.AddrFrom4([4]byte{10, 78, k.n, 1}) }
func (k *kernel) pid() int         { return k.cmd.Process.Pid }

func (k *kernel) start(ctx context.Context) (err error) {
	cmd := self("kernel", k.cc)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if k.process, err = launch(ctx, cmd); err != nil {
		return err
	}
	if err = k.join(); err != nil {
		return errors.Join(err, k.process.stop())
	}
	return nil
}

// stop ends the server, and with its namespace the veth pair; taking it down
// first spares us the kernel's own pace in that.
func (k *kernel) stop() error {
	var err error
	if link, e := netlink.LinkByName(k.link()); e == nil {
		err = netlink.LinkDel(link)
	}
	return errors.Join(err, k.process.stop())
}

func (k *kernel) link() string { return fmt.Sprintf("veth%d", k.n) }

// join makes the veth pair between the driver's namespace and the server's.
func (k *kernel) join() error {
	la := netlink.NewLinkAttrs()
	la.Name = k.link()
	far := fmt.Sprintf("peer%d", k.n)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: far}); err != nil {
		return fmt.Errorf("make the pair %s-%s: %w", la.Name, far, err)
	}
	if !k.offloads {
		for _, name := range []string{la.Name, far} {
			if err := offloadsOff(name); err != nil {
				return err
			}
		}
	}
	ns, err := netns.GetFromPid(k.pid())
	if err != nil {
		return fmt.Errorf("namespace of the server: %w", err)
	}
	defer ns.Close()
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("namespace of the server: %w", err)
	}
	defer there.Close()
	link, err := netlink.LinkByName(far)
	if err == nil {
		err = netlink.LinkSetNsFd(link, int(ns))
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", far, err)
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := raise(there, far, k.addr()); err != nil {
		return err
	}
	return raise(here, la.Name, k.near())
}

// raise gives a link its address and sets it up.
func raise(h *netlink.Handle, name string, a netip.Addr) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}})
	}
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	return nil
}

// offloadsOff does what `ethtool -K name gro off gso off tso off tx off rx off`
// does. The order matters: the kernel takes each away from those that need it.
func offloadsOff(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, command := range []uint32{
		unix.ETHTOOL_SGRO, unix.ETHTOOL_SGSO, unix.ETHTOOL_STSO, unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SRXCSUM,
	} {
		value := struct{ cmd, data uint32 }{command, 0}
		request := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(request.name[:unix.IFNAMSIZ-1], name)
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); e != 0 {
			return fmt.Errorf("switch off offload %#x of %s: %w", command, name, e)
		}
	}
	return nil
}

// serveKernel runs the services on kernel sockets. Addresses come later: it
// listens on all.
func serveKernel(args []string) error {
	if len(args) != 1 {
		return errors.New("want a congestion control")
	}
	set, err := service.Start(kernelNet{net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
		if network[:3] != "tcp" {
			return nil
		}
		e := c.Control(func(fd uintptr) { err = setCC(int(fd), args[0]) })
		return errors.Join(e, err)
	}}}, services)
	if err != nil {
		return err
	}
	ctx, stop := attach.SignalContext()
	defer stop()
	fmt.Println("ready")
	<-ctx.Done()
	return set.Close()
}

// kernelNet is the kernel as a service.Network.
type kernelNet struct{ c net.ListenConfig }

func (n kernelNet) Listen(network, address string) (net.Listener, error) {
	return n.c.Listen(context.Background(), network, address)
}

func (n kernelNet) ListenPacket(network, address string) (net.PacketConn, error) {
	return n.c.ListenPacket(context.Background(), network, address)
}

// setCC sets the congestion control of a kernel socket; "" leaves the
// system's.
func setCC(fd int, cc string) error {
	if cc == "" {
		return nil
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, cc); err != nil {
		return fmt.Errorf("congestion control %s: %w", cc, os.NewSyscallError("setsockopt", err))
	}
	return nil
}
