package socket

// This file owns what programs may ask of a network without caring whose it
// is: a stack's (Network) or the host's (package socket/kernel).

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// A System is a network as programs use it: package net's functions, and
// Berkeley sockets.
type System interface {
	Dial(network, address string) (net.Conn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
	// LookupNetIP returns the addresses of a name; network is "ip", "ip4" or
	// "ip6".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	Interfaces() ([]Interface, error)
	InterfaceAddrs() ([]net.Addr, error)
	Socket(domain, typ, proto int) (Berkeley, error)
}

// Berkeley is a socket. The methods and their errors are those of FD.
type Berkeley interface {
	Bind(local netip.AddrPort) error
	Listen(backlog int) error
	Accept(ctx context.Context) (Berkeley, netip.AddrPort, error)
	Connect(ctx context.Context, remote netip.AddrPort) error
	Send(b []byte, flags int) (int, error)
	SendTo(b []byte, flags int, to netip.AddrPort) (int, error)
	Recv(b []byte, flags int) (int, error)
	RecvFrom(b []byte, flags int) (int, netip.AddrPort, error)
	Sendmsg(m *Msg, flags int) (int, error)
	Recvmsg(m *Msg, flags int) (int, error)
	Shutdown(how int) error
	Close() error

	Getsockname() (netip.AddrPort, error)
	Getpeername() (netip.AddrPort, error)
	SetsockoptInt(level, opt, v int) error
	GetsockoptInt(level, opt int) (int, error)
	TakeError() error
	Ioctl(request int) (int, error)
	SetNonblock(on bool) error
	Ready() stack.Ready

	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// berkeleyFD is an FD whose Accept returns the interface.
type berkeleyFD struct{ *FD }

func (b berkeleyFD) Accept(ctx context.Context) (Berkeley, netip.AddrPort, error) {
	f, from, err := b.FD.Accept(ctx)
	if err != nil {
		return nil, from, err
	}
	return berkeleyFD{f}, from, nil
}

var _ System = (*Network)(nil)

// Interface is what a program may want to know of an interface: net.Interface
// with its addresses.
type Interface struct {
	Index        int // from 1, in the order of Interfaces
	MTU          int // in bytes
	Name         string
	HardwareAddr net.HardwareAddr // nil: it has none
	Flags        net.Flags

	addrs []net.Addr
}

// NewInterface makes an Interface with these addresses, each a *net.IPNet.
func NewInterface(i net.Interface, addrs []net.Addr) Interface {
	return Interface{Index: i.Index, MTU: i.MTU, Name: i.Name, HardwareAddr: i.HardwareAddr, Flags: i.Flags, addrs: addrs}
}

// Addrs returns the unicast addresses that may be used, each a *net.IPNet with
// the length of its link's prefix.
func (i *Interface) Addrs() ([]net.Addr, error) { return i.addrs, nil }

// Interfaces returns the stack's interfaces, loopback first.
func (n *Network) Interfaces() ([]Interface, error) {
	var list []Interface
	for k, i := range n.stack.Interfaces() {
		v := Interface{Index: k + 1, MTU: i.MTU(), Name: i.Name(), Flags: net.FlagUp | net.FlagRunning | net.FlagMulticast}
		select {
		case <-i.Down():
			v.Flags &^= net.FlagRunning
		default:
		}
		if i.Loopback() {
			v.Flags = v.Flags&^net.FlagMulticast | net.FlagLoopback
		} else {
			mac := i.MAC()
			v.HardwareAddr = mac[:]
			v.Flags |= net.FlagBroadcast
		}
		for _, p := range i.Addrs() {
			v.addrs = append(v.addrs, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
		}
		list = append(list, v)
	}
	return list, nil
}

// InterfaceByName returns one of Interfaces.
func (n *Network) InterfaceByName(name string) (*Interface, error) {
	list, _ := n.Interfaces()
	for i := range list {
		if list[i].Name == name {
			return &list[i], nil
		}
	}
	return nil, opError("route", "ip+net", nil, nil, errNoInterface)
}

// InterfaceAddrs returns the addresses of all interfaces.
func (n *Network) InterfaceAddrs() (addrs []net.Addr, err error) {
	list, err := n.Interfaces()
	for _, i := range list {
		addrs = append(addrs, i.addrs...)
	}
	return addrs, err
}

var errNoInterface = errors.New("no such network interface")
