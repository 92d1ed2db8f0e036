// Package kernel is the host's own network as a socket.System: what a program
// does over a stack it can do over the kernel's sockets too, and be compared.
//
// This file owns the part in the shape of package net, which is package net;
// socket.go owns Berkeley sockets, over system calls.
package kernel

import (
	"context"
	"net"
	"net/netip"

	"github.com/tapstack/tapstack/socket"
)

// Network is the host's network. The zero value is ready; its fields are for
// connections, listeners and look-ups to come.
type Network struct {
	Dialer   net.Dialer
	Config   net.ListenConfig
	Resolver *net.Resolver // nil: net.DefaultResolver
}

var _ socket.System = (*Network)(nil)

// Dial is net.Dial.
func (n *Network) Dial(network, address string) (net.Conn, error) {
	return n.Dialer.Dial(network, address)
}

// DialContext is that of net.Dialer.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.Dialer.DialContext(ctx, network, address)
}

// Listen is net.Listen.
func (n *Network) Listen(network, address string) (net.Listener, error) {
	return n.Config.Listen(context.Background(), network, address)
}

// ListenPacket is net.ListenPacket.
func (n *Network) ListenPacket(network, address string) (net.PacketConn, error) {
	return n.Config.ListenPacket(context.Background(), network, address)
}

// LookupNetIP is that of net.Resolver.
func (n *Network) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	r := n.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	return r.LookupNetIP(ctx, network, host)
}

// Interfaces is net.Interfaces. One that goes away meanwhile is left out.
func (n *Network) Interfaces() ([]socket.Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []socket.Interface
	for _, i := range list {
		if addrs, err := i.Addrs(); err == nil {
			out = append(out, socket.NewInterface(i, addrs))
		}
	}
	return out, nil
}

// InterfaceAddrs is net.InterfaceAddrs.
func (n *Network) InterfaceAddrs() ([]net.Addr, error) { return net.InterfaceAddrs() }

// Socket is the function of that name.
func (n *Network) Socket(domain, typ, proto int) (socket.Berkeley, error) {
	s, err := NewSocket(domain, typ, proto)
	if err != nil {
		return nil, err
	}
	return s, nil
}
