package socket

// This file owns Network, a stack in the shape of package net, and what its
// parts share: how networks and addresses are named.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// Network offers a stack in the shape of package net, so that a program moves
// onto it by changing one line: http.Transport{DialContext: n.DialContext},
// http.Serve(n.Listen("tcp", ":80")). Dialer and ListenConfig are for those who
// need more than Dial and Listen take.
//
// Networks are "tcp", "udp" and these with 4 or 6 at the end; any other is a
// net.UnknownNetworkError. Errors, their texts too, are those of package net.
type Network struct {
	// KeepAlive and KeepAliveConfig are what connections begin with, dialled
	// or accepted, as the fields of net.Dialer and net.ListenConfig: by
	// default silent peers are asked every 15 s; a negative KeepAlive turns
	// that off, a positive one is the idle time and the interval; and
	// KeepAliveConfig, if enabled, counts instead. Set them before use.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Resolver looks names up; nil leaves that to the servers of SetDNS.
	// net.DefaultResolver asks whom the host asks, by the host's own network.
	// Set it before use.
	Resolver Resolver

	stack *stack.Stack
	dns   atomic.Pointer[DNS] // nil: no server is known
	// source says which servers there are, in place of dns; nil: nothing does.
	source atomic.Pointer[func() ([]netip.Addr, []string)]
	hosts  atomic.Pointer[hosts] // nil: no file has names
}

// Net returns the stack's network.
func Net(s *stack.Stack) *Network { return &Network{stack: s} }

// Stack returns the stack below.
func (n *Network) Stack() *stack.Stack { return n.stack }

func (n *Network) dialer() *Dialer {
	return &Dialer{Net: n, KeepAlive: n.KeepAlive, KeepAliveConfig: n.KeepAliveConfig}
}

func (n *Network) listenConfig() *ListenConfig {
	return &ListenConfig{Net: n, KeepAlive: n.KeepAlive, KeepAliveConfig: n.KeepAliveConfig}
}

// Dial is DialContext without a context.
func (n *Network) Dial(network, address string) (net.Conn, error) {
	return n.dialer().DialContext(background, network, address)
}

// DialTimeout is Dial that takes no longer than timeout.
func (n *Network) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	d := n.dialer()
	d.Timeout = timeout
	return d.DialContext(background, network, address)
}

// DialContext connects to address ("10.77.0.1:7", "[fe80::1%tap7]:7",
// "example.net:http"), see Dialer.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dialer().DialContext(ctx, network, address)
}

// Listen accepts connections on address; host part and port may be empty
// (":7" is every address of the host, both families on network "tcp").
func (n *Network) Listen(network, address string) (net.Listener, error) {
	return n.listenConfig().Listen(background, network, address)
}

// ListenPacket receives datagrams on address.
func (n *Network) ListenPacket(network, address string) (net.PacketConn, error) {
	return n.listenConfig().ListenPacket(background, network, address)
}

// DialTCP connects to remote, from local unless it is nil, as net.DialTCP.
func (n *Network) DialTCP(network string, local, remote *net.TCPAddr) (*Conn, error) {
	if err := wrongNetwork(network, false); err != nil {
		return nil, opError("dial", network, tcpAddr(local), tcpAddr(remote), err)
	}
	if remote == nil {
		return nil, opError("dial", network, tcpAddr(local), nil, errMissingAddress)
	}
	d := n.dialer()
	d.LocalAddr = tcpAddr(local)
	f, err := d.open(background, network, toAddrPort(remote))
	if err != nil {
		return nil, err
	}
	return &Conn{newConn(f, network)}, nil
}

// DialUDP makes a UDP socket with the peer remote, bound to local unless it is
// nil, as net.DialUDP.
func (n *Network) DialUDP(network string, local, remote *net.UDPAddr) (*PacketConn, error) {
	if err := wrongNetwork(network, true); err != nil {
		return nil, opError("dial", network, udpAddr(local), udpAddr(remote), err)
	}
	if remote == nil {
		return nil, opError("dial", network, udpAddr(local), nil, errMissingAddress)
	}
	d := n.dialer()
	d.LocalAddr = udpAddr(local)
	f, err := d.open(background, network, toAddrPort(remote))
	if err != nil {
		return nil, err
	}
	return &PacketConn{newConn(f, network)}, nil
}

// ListenTCP listens on local, or if it is nil on a free port of every address,
// as net.ListenTCP.
func (n *Network) ListenTCP(network string, local *net.TCPAddr) (*Listener, error) {
	if err := wrongNetwork(network, false); err != nil {
		return nil, opError("listen", network, nil, tcpAddr(local), err)
	}
	if local == nil {
		local = &net.TCPAddr{}
	}
	return n.listenConfig().listen(network, toAddrPort(local))
}

// ListenUDP makes a UDP socket bound to local, or if it is nil to a free port
// of every address, as net.ListenUDP.
func (n *Network) ListenUDP(network string, local *net.UDPAddr) (*PacketConn, error) {
	if err := wrongNetwork(network, true); err != nil {
		return nil, opError("listen", network, nil, udpAddr(local), err)
	}
	if local == nil {
		local = &net.UDPAddr{}
	}
	return n.listenConfig().listenPacket(network, toAddrPort(local))
}

// Socket is the function of that name, for users of Net.
func (n *Network) Socket(domain, typ, proto int) (Berkeley, error) {
	f, err := Socket(n.stack, domain, typ, proto)
	if err != nil {
		return nil, err
	}
	return berkeleyFD{f}, nil
}

// wrongNetwork returns the error for a network that is not one of UDP, or not
// one of TCP.
func wrongNetwork(network string, udp bool) error {
	if !isKnown(network) || isUDP(network) != udp {
		return net.UnknownNetworkError(network)
	}
	return nil
}

func isKnown(network string) bool {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		return true
	}
	return false
}

func isUDP(network string) bool { return strings.HasPrefix(network, "udp") }

func only4(network string) bool { return strings.HasSuffix(network, "4") }
func only6(network string) bool { return strings.HasSuffix(network, "6") }

func typeOf(network string) int {
	if isUDP(network) {
		return SOCK_DGRAM
	}
	return SOCK_STREAM
}

// An address of package net whose host part is empty is an AddrPort here whose
// Addr is not valid.

// addrOf returns package net's type for an address.
func addrOf(network string, a netip.AddrPort) net.Addr {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if isUDP(network) {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

// toAddrPort is the inverse of addrOf.
func toAddrPort(a interface{ AddrPort() netip.AddrPort }) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// tcpAddr and udpAddr keep a nil pointer from becoming an interface that is
// not nil.
func tcpAddr(a *net.TCPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

func udpAddr(a *net.UDPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// domainFor is the family of a socket for an address. One that listens on
// every address of network "tcp" or "udp" has both families, and so is of
// IPv6, whichever way the address is written.
func domainFor(network string, a netip.Addr, listen bool) int {
	switch {
	case only4(network):
		return AF_INET
	case only6(network):
		return AF_INET6
	case listen && isWildcard(a):
		return AF_INET6
	case a.IsValid() && !a.Is4():
		return AF_INET6
	}
	return AF_INET
}

// inDomain is a as an address of a family, the wildcard too.
func inDomain(a netip.AddrPort, domain int) netip.AddrPort {
	if !isWildcard(a.Addr()) {
		return a
	}
	if domain == AF_INET {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
}

func isWildcard(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

var errMissingAddress = errors.New("missing address")

func opError(op, network string, source, addr net.Addr, err error) error {
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}

// syscallError names the call of an errno, as package net's messages do:
// "connect: connection refused".
func syscallError(call string, err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return os.NewSyscallError(call, e)
	}
	return err
}
