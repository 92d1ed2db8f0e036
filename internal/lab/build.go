package lab

// This file makes the lab's network inside the namespace of the calling
// thread, with netlink alone: no program and no file below /proc or /sys is
// needed, so it works in containers where those are missing or read-only.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// settle bounds the waits for what the kernel does in its own time: addresses
// that become usable, links that come up.
const settle = 5 * time.Second

// build needs the calling goroutine locked to a thread that is already in the
// namespace to fill.
func build(o Options) (*Layout, error) {
	l := new(Layout)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("lab: find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("lab: set lo up: %w", err)
	}
	br, err := addBridge(Bridge, KernelMAC)
	if err != nil {
		return nil, err
	}
	void, err := addBridge("void0", "fe:ff:00:00:00:01")
	if err != nil {
		return nil, err
	}
	held := addHold(br, void) == nil
	if err := l.addPorts(br, void, o); err != nil {
		return nil, err
	}
	// A bridge that is set up when a port of it has a carrier has one itself at
	// once, and later only when the kernel comes round to it.
	if l.Packet {
		err = awaitUp(slices.Concat(l.Ports, l.Devices)...)
	} else if held {
		err = awaitUp("hold0")
	}
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return nil, fmt.Errorf("lab: set %s up: %w", Bridge, err)
	}
	if err := l.addAddrs(br); err != nil {
		return nil, err
	}
	for _, port := range l.Ports {
		if o.Loss > 0 {
			if err := setLoss(port, o.Loss); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// addBridge makes a bridge with a fixed address: without one it takes the
// smallest of its ports', which changes as they come and go. Ports forward at
// once because a new bridge has the spanning tree protocol off, and every
// group frame is flooded because snooping is off.
func addBridge(name, mac string) (*netlink.Bridge, error) {
	la := netlink.NewLinkAttrs()
	la.Name = name
	la.HardwareAddr, _ = net.ParseMAC(mac)
	off := false
	br := &netlink.Bridge{LinkAttrs: la, MulticastSnooping: &off}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("lab: make bridge %s: %w", name, err)
	}
	quiet(br)
	return br, nil
}

// quiet keeps the kernel from giving an interface a link-local address, and
// with it from sending duplicate address detection, router solicitations and
// multicast listener reports there. Without IPv6 there is nothing to quieten,
// hence no error.
func quiet(link netlink.Link) {
	_ = netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE)
}

// addHold gives the bridge a port that is always up. A bridge all of whose TAPs
// are closed has no carrier, and when one is opened the kernel takes a moment
// to notice, in which its answers to the stack's first frames would be lost.
// That happens in a kernel without veth, and costs a second there.
func addHold(br, void netlink.Link) error {
	return addPair("hold1", "hold0", net.HardwareAddr{0xfe, 0, 0, 0, 1, 1}, net.HardwareAddr{0xfe, 0, 0, 0, 1, 0}, void, br)
}

// addPair makes a veth pair whose one end joins void, where what it receives
// vanishes, and whose other end is a port of br.
//
//	stack ─ packet socket ─ eth7 ═ port7 ─ br0 ─ kernel
//	                          └─ void0 (down)
//
// The kernel must not answer on eth7 itself, which is a stack's and not its
// own. Packet sockets see frames before a bridge does, and a bridge that is
// down discards them.
func addPair(dev, port string, devMAC, portMAC net.HardwareAddr, void, br netlink.Link) error {
	la := netlink.NewLinkAttrs()
	la.Name = dev
	veth := &netlink.Veth{LinkAttrs: la, PeerName: port}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: make the pair %s-%s: %w", dev, port, err)
	}
	peer, err := netlink.LinkByName(port)
	if err != nil {
		return fmt.Errorf("lab: find %s: %w", port, err)
	}
	if err := enslave(veth, void, devMAC); err != nil {
		return err
	}
	return enslave(peer, br, portMAC)
}

// addAddrs makes the kernel a host on the bridge. Its IPv6 addresses skip
// duplicate address detection, which would leave them unusable for a second.
func (l *Layout) addAddrs(br netlink.Link) error {
	if err := netlink.AddrAdd(br, &netlink.Addr{IPNet: ipNet(Kernel4)}); err != nil {
		return fmt.Errorf("lab: add %s to %s: %w", Kernel4, Bridge, err)
	}
	for _, p := range []netip.Prefix{KernelLL, Kernel6} {
		err := netlink.AddrAdd(br, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD})
		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EACCES), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPERM):
			l.note("IPv6 is switched off in this kernel; the lab has IPv4 only")
			return nil
		case err != nil:
			return fmt.Errorf("lab: add %s to %s: %w", p, Bridge, err)
		}
	}
	l.IPv6 = true
	return awaitLocal(br)
}

// awaitLocal returns when the kernel takes packets to its new addresses for
// its own. It makes the routes for that in the background, and who connects
// before gets "no route to host".
func awaitLocal(br netlink.Link) error {
	for _, p := range []netip.Prefix{KernelLL, Kernel6} {
		for end := time.Now().Add(settle); ; time.Sleep(time.Millisecond) {
			routes, err := netlink.RouteGetWithOptions(p.Addr().AsSlice(), &netlink.RouteGetOptions{OifIndex: br.Attrs().Index})
			if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("lab: %s of %s does not become usable (%v)", p.Addr(), Bridge, err)
			}
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addPorts makes a TAP for each host, or where that is impossible a veth pair
// whose far end a packet socket will use.
func (l *Layout) addPorts(br, void netlink.Link, o Options) error {
	if o.Device != "packet" {
		err := l.addTaps(br, o.Hosts)
		if err == nil || o.Device == "tap" || len(l.Devices) > 0 {
			return err
		}
		l.note(fmt.Sprintf("no TAP here (%v); using a packet socket on %s", reason(err), hostName("eth", 0)))
	}
	l.Packet = true
	return l.addVeths(br, void, o.Hosts)
}

func (l *Layout) note(s string) {
	if l.Note != "" {
		l.Note += "; "
	}
	l.Note += s
}

func reason(err error) error {
	if in := errors.Unwrap(err); in != nil {
		return in
	}
	return err
}

// addTaps leaves l.Devices empty when not even the first can be made.
func (l *Layout) addTaps(br netlink.Link, hosts int) error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	f.Close()
	for i := range hosts {
		name := hostName("tap", i)
		la := netlink.NewLinkAttrs()
		la.Name = name
		tap := &netlink.Tuntap{
			LinkAttrs: la,
			Mode:      netlink.TUNTAP_MODE_TAP,
			Flags:     netlink.TUNTAP_NO_PI,
			Owner:     uint32(os.Geteuid()),
			Group:     uint32(os.Getegid()),
		}
		// The TAP is open while it is made. A process forked meanwhile would
		// hold it for a moment longer, and whoever opens it next would find it
		// busy.
		syscall.ForkLock.RLock()
		err := netlink.LinkAdd(tap)
		syscall.ForkLock.RUnlock()
		if err != nil {
			return fmt.Errorf("lab: make %s: %w", name, err)
		}
		l.Devices = append(l.Devices, name)
		l.Ports = append(l.Ports, name)
		// For a receive window of plain frames, as scripts/tap.sh has it.
		if err := netlink.LinkSetTxQLen(tap, tapQueue); err != nil {
			return fmt.Errorf("lab: lengthen the queue of %s: %w", name, err)
		}
		if err := enslave(tap, br, portMAC(i)); err != nil {
			return err
		}
	}
	return nil
}

// tapQueue is how many frames wait in a TAP for the stack.
const tapQueue = 5000

// addVeths makes pairs eth7-port7.
func (l *Layout) addVeths(br, void netlink.Link, hosts int) error {
	for i := range hosts {
		dev, port := hostName("eth", i), hostName("port", i)
		if err := addPair(dev, port, HostMAC(i), portMAC(i), void, br); err != nil {
			return err
		}
		l.Devices = append(l.Devices, dev)
		l.Ports = append(l.Ports, port)
	}
	return nil
}

// awaitUp returns when the kernel has noticed that the interfaces have a
// carrier, which it does in the background; before, a bridge drops what it gets
// from them and they drop what it sends.
func awaitUp(names ...string) error {
	for _, name := range names {
		for end := time.Now().Add(settle); ; time.Sleep(time.Millisecond / 2) {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return fmt.Errorf("lab: find %s: %w", name, err)
			}
			if link.Attrs().OperState == netlink.OperUp {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("lab: %s does not come up", name)
			}
		}
	}
	return nil
}

// HostMAC is the MAC address of host i's stack.
func HostMAC(i int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, 0, byte(FirstHost + i)}
}

// portMAC is the address of the kernel's end of host i's device. It must not
// be the stack's own: a bridge keeps frames for a port's address to itself.
func portMAC(i int) net.HardwareAddr {
	return net.HardwareAddr{0xfe, 0, 0, 0, 0, byte(FirstHost + i)}
}

func enslave(link, br netlink.Link, mac net.HardwareAddr) error {
	name := link.Attrs().Name
	quiet(link)
	if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
		return fmt.Errorf("lab: set the address of %s: %w", name, err)
	}
	if err := netlink.LinkSetMaster(link, br); err != nil {
		return fmt.Errorf("lab: join %s to %s: %w", name, br.Attrs().Name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("lab: set %s up: %w", name, err)
	}
	return nil
}

// setLoss drops permille of 1000 frames at random on a port of the bridge,
// each way; 0 takes the rules away again.
func setLoss(port string, permille int) error {
	nft, err := exec.LookPath("nft")
	if err != nil {
		return errors.New("lab: loss needs the nft program, which is not installed")
	}
	table := "loss_" + port
	// The first line makes the second valid whether or not a table existed.
	script := fmt.Sprintf("table bridge %s\ndelete table bridge %s\n", table, table)
	if permille > 0 {
		script += fmt.Sprintf(`table bridge %s {
	chain in { type filter hook prerouting priority 0; iifname %q numgen random mod 1000 <= %d drop; }
	chain out { type filter hook postrouting priority 0; oifname %q numgen random mod 1000 <= %d drop; }
}
`, table, port, permille-1, port, permille-1)
	}
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: loss on %s: nft: %w: %s", port, err, strings.TrimSpace(string(out)))
	}
	return nil
}
