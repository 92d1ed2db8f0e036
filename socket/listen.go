package socket

// This file owns ListenConfig and Listener.

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// ListenConfig is net.ListenConfig over a stack. Its fields mean what they
// mean there.
type ListenConfig struct {
	// Net is the network to listen on.
	Net *Network
	// Control, if it is not nil, is called with each socket before it is
	// bound. network says the family: "tcp4", "udp6". What it returns ends the
	// call.
	Control func(network, address string, fd *FD) error
	// KeepAlive and KeepAliveConfig are as those of Network.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
}

// Listen accepts connections on address. ctx is for looking names up only.
func (c *ListenConfig) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	a, err := c.Net.listenAddr(ctx, network, address, false)
	if err != nil {
		return nil, err
	}
	l, err := c.listen(network, a)
	if err != nil {
		return nil, err // not a nil *Listener
	}
	return l, nil
}

// ListenPacket receives datagrams on address. ctx is for looking names up only.
func (c *ListenConfig) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	a, err := c.Net.listenAddr(ctx, network, address, true)
	if err != nil {
		return nil, err
	}
	p, err := c.listenPacket(network, a)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// listenAddr returns the address to listen on: of a name's the first of IPv4.
func (n *Network) listenAddr(ctx context.Context, network, address string, udp bool) (netip.AddrPort, error) {
	addrs, err := n.addrList(ctx, nil, "listen", network, address)
	if err != nil {
		return netip.AddrPort{}, opError("listen", network, nil, nil, err)
	}
	a := addrs[0]
	for _, b := range addrs {
		if is4(b) {
			a = b
			break
		}
	}
	if isUDP(network) != udp {
		err := &net.AddrError{Err: "unexpected address type", Addr: address}
		return a, opError("listen", network, nil, addrOf(network, a), err)
	}
	return a, nil
}

func (c *ListenConfig) listen(network string, a netip.AddrPort) (*Listener, error) {
	f, err := c.bind(network, a)
	if err != nil {
		return nil, err
	}
	f.SetNoDelay(true)
	setKeepAlive(f, c.KeepAlive, c.KeepAliveConfig) // what is accepted has the same
	if err := f.Listen(SOMAXCONN); err != nil {
		f.Close()
		return nil, opError("listen", network, nil, addrOf(network, a), syscallError("listen", err))
	}
	at, _ := f.Getsockname()
	return &Listener{f, network, addrOf(network, at)}, nil
}

func (c *ListenConfig) listenPacket(network string, a netip.AddrPort) (*PacketConn, error) {
	f, err := c.bind(network, a)
	if err != nil {
		return nil, err
	}
	return &PacketConn{newConn(f, network)}, nil
}

// bind makes a bound socket for a listener or packet connection.
func (c *ListenConfig) bind(network string, a netip.AddrPort) (*FD, error) {
	domain := domainFor(network, a.Addr(), true)
	fail := func(call string, err error) (*FD, error) {
		return nil, opError("listen", network, nil, addrOf(network, a), syscallError(call, err))
	}
	f, err := Socket(c.Net.stack, domain, typeOf(network), 0)
	if err != nil {
		return fail("socket", err)
	}
	if only6(network) {
		err = f.SetV6Only(true)
	}
	if isUDP(network) {
		f.SetBroadcast(true) // as package net does
	} else if err == nil {
		err = f.SetReuseAddr(true) // likewise: a server may start again at once
	}
	if err == nil && c.Control != nil {
		err = c.Control(withFamily(network, domain), addrOf(network, a).String(), f)
	}
	if err == nil {
		err = f.Bind(mapped(inDomain(a, domain), domain))
	}
	if err != nil {
		f.Close()
		return fail("bind", err)
	}
	return f, nil
}

// Listener accepts TCP connections.
type Listener struct {
	fd      *FD
	network string
	addr    net.Addr
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP is Accept that returns what it is.
func (l *Listener) AcceptTCP() (*Conn, error) {
	f, _, err := l.fd.Accept(background)
	if err != nil {
		return nil, l.fail("accept", syscallError("accept", err))
	}
	return &Conn{newConn(f, l.network)}, nil
}

// Close implements net.Listener.
func (l *Listener) Close() error { return l.fail("close", l.fd.Close()) }

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// SetDeadline ends Accept calls at t. After Close it returns net.ErrClosed as
// such, as package net does.
func (l *Listener) SetDeadline(t time.Time) error { return l.fd.SetReadDeadline(t) }

// FD returns the Berkeley socket underneath.
func (l *Listener) FD() *FD { return l.fd }

// SyscallConn always fails, see Conn.SyscallConn.
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	return nil, l.fail("raw-control", errNoDescriptor{})
}

// File always fails, see Conn.File.
func (l *Listener) File() (*os.File, error) { return nil, l.fail("file", errNoDescriptor{}) }

func (l *Listener) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return opError(op, l.network, nil, l.addr, err)
}
