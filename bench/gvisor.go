package main

// This file owns gVisor's network stack as a peer, configured as an expert
// would: on a TAP as it comes, on a TAP with its own segmentation, and on a
// packet socket with the virtio-net header, as its container runtime has it.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/tapstack/tapstack/internal/attach"
)

// The three ways to attach it; also the argument of its server.
const (
	gvisorTAP    = "gvisor"     // plain frames, as it comes
	gvisorSW     = "gvisor-sw"  // plain frames, segments cut just before
	gvisorPacket = "gvisor-gso" // super-frames
)

// gvisor is it on one of the lab's TAPs.
type gvisor struct {
	device
	software bool
	*process
}

func (g *gvisor) name() string {
	if g.software {
		return gvisorSW
	}
	return gvisorTAP
}

func (g *gvisor) about() string {
	if g.software {
		return "the same on TAP " + g.dev() + " with its software segmentation, which it has for sockets only and a wrapper of ours switches on; measured where it matters, in bulk"
	}
	return "gVisor's network stack on TAP " + g.dev() + ", a port of the same bridge, as it comes: plain frames of 1500 bytes; SACK, CUBIC, RACK, buffers of 1 MiB that grow to 8 MiB"
}

func (g *gvisor) pid() int { return g.cmd.Process.Pid }

// start keeps frames for others away from the device, which a bridge sends
// everywhere while it has not learnt a place: the first of them ends the reader
// of gVisor's endpoint for TAPs for good. So the bridge is told the place too.
func (g *gvisor) start(ctx context.Context) (err error) {
	link, err := netlink.LinkByName(g.dev())
	if err == nil {
		err = netlink.LinkSetFlood(link, false)
	}
	if err == nil {
		err = netlink.NeighSet(&netlink.Neigh{
			Family: unix.AF_BRIDGE, LinkIndex: link.Attrs().Index, State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER,
			HardwareAddr: net.HardwareAddr(gvisorMAC(g.addr())),
		})
	}
	if err != nil {
		return fmt.Errorf("port %s of the bridge: %w", g.dev(), err)
	}
	g.process, err = launch(ctx, self("gvisor", g.name(), g.dev(), g.addr().String()))
	return err
}

// gvisorPair is it on a packet socket.
type gvisorPair struct{ pair }

func (*gvisorPair) name() string { return gvisorPacket }

func (*gvisorPair) about() string {
	return "the same on a packet socket over a veth pair with the virtio-net header, as in its container runtime: super-frames of up to 64 KB, recvmmsg, incoming checksums left out"
}

func (g *gvisorPair) start(ctx context.Context) error {
	// The kernel at the far end has no address, so everything is gVisor's.
	return g.launch(ctx, self("gvisor", gvisorPacket, g.far(), g.addr().String()), true, netip.Addr{})
}

// gvisorMAC is made of an address, and not the far interface's own, so that the
// kernel there drops early what it gets a copy of.
func gvisorMAC(a netip.Addr) tcpip.LinkAddress {
	return tcpip.LinkAddress(append([]byte{2, 1}, a.AsSlice()...))
}

func serveGvisor(args []string) error {
	if len(args) != 3 {
		return errors.New("want a kind, a device and an address")
	}
	addr, err := netip.ParseAddr(args[2])
	if err != nil {
		return err
	}
	ctx, stop := attach.SignalContext()
	defer stop()
	kind := args[0]
	if kind == gvisorPacket {
		// The pair is made once the namespace it is to join is known.
		fmt.Println("ready")
	}
	fd, err := openGvisor(kind, args[1])
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	s, err := newGvisor(kind, fd, addr)
	if err != nil {
		return err
	}
	set, err := startServices(gvisorNet{s})
	if err != nil {
		return err
	}
	if kind != gvisorPacket {
		fmt.Println("ready")
	}
	<-ctx.Done()
	return set.Close()
}

const mtu = 1500

func newGvisor(kind string, fd int, addr netip.Addr) (*stack.Stack, error) {
	o := &fdbased.Options{
		FDs: []int{fd}, MTU: mtu, EthernetHeader: true, Address: gvisorMAC(addr),
		PacketDispatchMode: fdbased.RecvMMsg, // on a TAP it falls back to readv
	}
	if kind == gvisorPacket {
		// With TXChecksumOffload it would leave SYN-ACKs without a checksum,
		// which the kernel drops; segments have the header's partial one.
		o.GSOMaxSize, o.RXChecksumOffload = 1<<16, true
	}
	ep, err := fdbased.New(o)
	if err != nil {
		return nil, fmt.Errorf("gVisor's endpoint: %w", err)
	}
	if kind == gvisorSW {
		ep = softwareGSO{ep}
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	const kib, mib = 1 << 10, 1 << 20
	sack, cc, rack, moderate := tcpip.TCPSACKEnabled(true), tcpip.CongestionControlOption("cubic"),
		tcpip.TCPRACKLossDetection, tcpip.TCPModerateReceiveBufferOption(true)
	for _, opt := range []tcpip.SettableTransportProtocolOption{
		&sack, &cc, &rack, &moderate,
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4 * kib, Default: mib, Max: 8 * mib},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 * kib, Default: mib, Max: 8 * mib},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return nil, fmt.Errorf("gVisor's option %T: %v", opt, err)
		}
	}
	const nic = 1
	if err := s.CreateNIC(nic, ep); err != nil {
		return nil, fmt.Errorf("gVisor's interface: %v", err)
	}
	a := tcpip.AddrFrom4(addr.As4())
	if err := s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: a, PrefixLen: 24},
	}, stack.AddressProperties{}); err != nil {
		return nil, fmt.Errorf("gVisor's address: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return s, nil
}

// softwareGSO makes TCP hand over large segments that gVisor cuts into frames
// before they reach the endpoint, which offers that for sockets only.
type softwareGSO struct{ stack.LinkEndpoint }

func (softwareGSO) GSOMaxSize() uint32               { return stack.GVisorGSOMaxSize }
func (softwareGSO) SupportedGSO() stack.SupportedGSO { return stack.GVisorGSOSupported }

func openGvisor(kind, name string) (fd int, err error) {
	if kind != gvisorPacket {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return -1, fmt.Errorf("open /dev/net/tun: %w", err)
		}
		return fd, attachTAP(fd, name, 0)
	}
	link, err := awaitLink(name)
	if err != nil {
		return -1, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	const room = 4 << 20 // as its container runtime asks for
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return -1, os.NewSyscallError("setsockopt PACKET_VNET_HDR", err)
	}
	return fd, os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}))
}

// attachTAP makes a descriptor of /dev/net/tun one of the TAP; flags are beside
// those that every TAP here has.
func attachTAP(fd int, name string, flags uint16) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
	return os.NewSyscallError("ioctl TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
}

// awaitLink returns when a link is there and works.
func awaitLink(name string) (netlink.Link, error) {
	for end := time.Now().Add(startLimit); ; time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByName(name)
		if err == nil && link.Attrs().OperState == netlink.OperUp {
			return link, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s does not come up", name)
		}
	}
}

// gvisorNet is it as a service.Network.
type gvisorNet struct{ s *stack.Stack }

// local reads ":7".
func local(address string) (tcpip.FullAddress, error) {
	port, err := strconv.ParseUint(address[1:], 10, 16)
	return tcpip.FullAddress{Port: uint16(port)}, err
}

func (n gvisorNet) Listen(_, address string) (net.Listener, error) {
	a, err := local(address)
	if err != nil {
		return nil, err
	}
	return gonet.ListenTCP(n.s, a, ipv4.ProtocolNumber)
}

func (n gvisorNet) ListenPacket(_, address string) (net.PacketConn, error) {
	a, err := local(address)
	if err != nil {
		return nil, err
	}
	return gonet.DialUDP(n.s, &a, nil, ipv4.ProtocolNumber)
}
