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
	"os/exec"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/attach"
)

// kernel is one such server. Its veth has no bridge in between, which is the
// shortest way the kernel has.
type kernel struct {
	pair
	offloads bool
	cc       string
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

func (k *kernel) start(ctx context.Context) error {
	return k.launch(ctx, self("kernel", k.cc), k.offloads, k.addr())
}

// pair is a server in a network namespace of its own and the veth pair to it.
//
//	driver  10.78.n.1 veth<n> ══ peer<n> 10.78.n.2  server
type pair struct {
	n byte // its number among the pairs
	*process
}

func (p *pair) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 78, p.n, 2}) }
func (p *pair) near() netip.Addr { return netip.AddrFrom4([4]byte{10, 78, p.n, 1}) }
func (p *pair) pid() int         { return p.cmd.Process.Pid }
func (p *pair) link() string     { return fmt.Sprintf("veth%d", p.n) }
func (p *pair) far() string      { return fmt.Sprintf("peer%d", p.n) }

// launch starts the server and then makes the pair. The far end gets the
// address far, or none if that is the zero Addr.
func (p *pair) launch(ctx context.Context, cmd *exec.Cmd, offloads bool, far netip.Addr) (err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if p.process, err = launch(ctx, cmd); err != nil {
		return err
	}
	if err = p.join(offloads, far); err != nil {
		return errors.Join(err, p.process.stop())
	}
	return nil
}

// stop ends the server, and with its namespace the veth pair; taking it down
// first spares us the kernel's own pace in that.
func (p *pair) stop() error {
	var err error
	if link, e := netlink.LinkByName(p.link()); e == nil {
		err = netlink.LinkDel(link)
	}
	return errors.Join(err, p.process.stop())
}

// join makes the veth pair between the driver's namespace and the server's.
func (p *pair) join(offloads bool, far netip.Addr) error {
	if err := addVeth(p.link(), p.far(), offloads); err != nil {
		return err
	}
	// The same in each round, so that neighbours need not learn it again.
	link, err := netlink.LinkByName(p.far())
	if err == nil {
		err = netlink.LinkSetHardwareAddr(link, net.HardwareAddr{2, 2, 10, 78, p.n, 2})
	}
	if err != nil {
		return fmt.Errorf("set the address of %s: %w", p.far(), err)
	}
	ns, err := netns.GetFromPid(p.pid())
	if err != nil {
		return fmt.Errorf("namespace of the server: %w", err)
	}
	defer ns.Close()
	if err := move(p.far(), ns, far); err != nil {
		return err
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer here.Close()
	return raise(here, p.link(), p.near())
}

// addVeth makes a veth pair in the driver's namespace.
func addVeth(a, b string, offloads bool) error {
	la := netlink.NewLinkAttrs()
	la.Name = a
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: b}); err != nil {
		return fmt.Errorf("make the pair %s-%s: %w", a, b, err)
	}
	if offloads {
		return nil
	}
	return errors.Join(offloadsOff(a), offloadsOff(b))
}

// move takes a link to another namespace and raises it there.
func move(name string, ns netns.NsHandle, addrs ...netip.Addr) error {
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("namespace of %s: %w", name, err)
	}
	defer there.Close()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetNsFd(link, int(ns))
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	return raise(there, name, addrs...)
}

// raise gives a link its addresses, as far as they are valid, and sets it up.
func raise(h *netlink.Handle, name string, addrs ...netip.Addr) error {
	link, err := h.LinkByName(name)
	for _, a := range addrs {
		if err == nil && a.IsValid() {
			err = h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}})
		}
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
	set, err := startServices(kernelNet{net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
		if network[:3] != "tcp" {
			return nil
		}
		e := c.Control(func(fd uintptr) { err = setCC(int(fd), args[0]) })
		return errors.Join(e, err)
	}}})
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
