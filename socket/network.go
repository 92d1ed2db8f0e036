package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// Network offers a stack in the shape of package net, so that a program moves
// onto it by changing one line: http.Transport{DialContext: n.DialContext},
// http.Serve(n.Listen("tcp", ":80")). Names other than "localhost" are not
// resolved; use addresses, with a zone for link-local ones.
type Network struct {
	// KeepAlive and KeepAliveConfig are what connections begin with, dialled
	// or accepted, as the fields of net.Dialer and net.ListenConfig: by
	// default silent peers are asked every 15 s; a negative KeepAlive turns
	// that off, a positive one is the idle time and the interval; and
	// KeepAliveConfig, if enabled, counts instead. Set them before use.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig

	stack *stack.Stack
}

// Net returns the stack's network.
func Net(s *stack.Stack) *Network { return &Network{stack: s} }

// Stack returns the stack below.
func (n *Network) Stack() *stack.Stack { return n.stack }

// Dial is DialContext without a context.
func (n *Network) Dial(network, address string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, address)
}

// DialContext connects to address ("10.77.0.1:7", "[fe80::1%tap7]:7") on
// network "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6".
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	a, err := resolve(ctx, "dial", network, address)
	if err != nil {
		return nil, err
	}
	remote := addrOf(network, a)
	fail := func(err error) (net.Conn, error) {
		switch err {
		case context.DeadlineExceeded, os.ErrDeadlineExceeded:
			err = dialTimeout{}
		case context.Canceled:
			err = dialCanceled{}
		}
		return nil, &net.OpError{Op: "dial", Net: network, Addr: remote, Err: syscallError("connect", err)}
	}
	f, err := Socket(n.stack, domainOf(a.Addr()), typeOf(network), 0)
	if err != nil {
		return fail(err)
	}
	if isUDP(network) {
		f.SetBroadcast(true) // as package net does
	} else {
		f.SetNoDelay(true) // likewise
		n.setKeepAlive(f)
	}
	if err := f.Connect(ctx, a); err != nil {
		f.Close()
		return fail(err)
	}
	if isUDP(network) {
		return &PacketConn{newConn(f, network)}, nil
	}
	return &Conn{newConn(f, network)}, nil
}

// Listen accepts connections on address; host part and port may be empty
// (":7" is every address of the host, both families on network "tcp").
func (n *Network) Listen(network, address string) (net.Listener, error) {
	f, err := n.bind("listen", network, address, false)
	if err != nil {
		return nil, err
	}
	f.SetNoDelay(true)
	n.setKeepAlive(f) // what is accepted has the same
	if err := f.Listen(SOMAXCONN); err != nil {
		f.Close()
		return nil, &net.OpError{Op: "listen", Net: network, Err: syscallError("listen", err)}
	}
	at, _ := f.Getsockname()
	return &Listener{f, network, addrOf(network, at)}, nil
}

func (n *Network) setKeepAlive(f *FD) {
	switch {
	case n.KeepAliveConfig.Enable:
		f.SetKeepAliveConfig(n.KeepAliveConfig)
	case n.KeepAlive >= 0:
		f.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: n.KeepAlive, Interval: n.KeepAlive})
	}
}

// ListenPacket receives datagrams on address.
func (n *Network) ListenPacket(network, address string) (net.PacketConn, error) {
	f, err := n.bind("listen", network, address, true)
	if err != nil {
		return nil, err
	}
	f.SetBroadcast(true)
	return &PacketConn{newConn(f, network)}, nil
}

// bind makes a bound socket for a listener or packet connection.
func (n *Network) bind(op, network, address string, udp bool) (*FD, error) {
	if isUDP(network) != udp {
		return nil, &net.OpError{Op: op, Net: network, Err: net.UnknownNetworkError(network)}
	}
	a, err := resolve(context.Background(), op, network, address)
	if err != nil {
		return nil, err
	}
	f, err := Socket(n.stack, domainOf(a.Addr()), typeOf(network), 0)
	if err == nil {
		if strings.HasSuffix(network, "6") {
			err = f.SetV6Only(true)
		}
		if err == nil && !udp {
			err = f.SetReuseAddr(true) // as package net: a server may start again at once
		}
		if err == nil {
			err = f.Bind(a)
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, &net.OpError{Op: op, Net: network, Addr: addrOf(network, a), Err: syscallError("bind", err)}
	}
	return f, nil
}

func isUDP(network string) bool { return strings.HasPrefix(network, "udp") }

func typeOf(network string) int {
	if isUDP(network) {
		return SOCK_DGRAM
	}
	return SOCK_STREAM
}

func domainOf(a netip.Addr) int {
	if a.Is4() {
		return AF_INET
	}
	return AF_INET6
}

// resolve turns an address of package net's form into one of ours.
func resolve(ctx context.Context, op, network, address string) (netip.AddrPort, error) {
	fail := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, &net.OpError{Op: op, Net: network, Err: err}
	}
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return fail(net.UnknownNetworkError(network))
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network[:3], service)
	if err != nil {
		return fail(err)
	}
	v4, v6 := strings.HasSuffix(network, "4"), strings.HasSuffix(network, "6")
	var ip netip.Addr
	switch {
	case host == "" && (v4 || op == "dial" && !v6):
		ip = netip.IPv4Unspecified()
	case host == "":
		ip = netip.IPv6Unspecified()
	case host == "localhost" && !v6:
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case host == "localhost":
		ip = netip.IPv6Loopback()
	default:
		if ip, err = netip.ParseAddr(host); err != nil {
			return fail(&net.AddrError{Err: "not an IP address (names are not resolved)", Addr: host})
		}
		ip = ip.Unmap()
	}
	if v4 && !ip.Is4() || v6 && ip.Is4() {
		return fail(&net.AddrError{Err: "no suitable address found", Addr: host})
	}
	return netip.AddrPortFrom(ip, uint16(port)), nil
}

// addrOf returns package net's type for an address.
func addrOf(network string, a netip.AddrPort) net.Addr {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if isUDP(network) {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
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

// conn is what streams and packet connections have in common.
type conn struct {
	fd            *FD
	network       string
	local, remote net.Addr // as they were at the beginning; they outlive fd
}

func newConn(f *FD, network string) conn {
	c := conn{fd: f, network: network}
	if a, err := f.Getsockname(); err == nil {
		c.local = addrOf(network, a)
	}
	if f.dgram == nil {
		// Even if the peer has hung up already.
		c.remote = addrOf(network, f.Stream().RemoteAddr())
	} else if a, err := f.Getpeername(); err == nil {
		c.remote = addrOf(network, a)
	}
	return c
}

// FD returns the Berkeley socket underneath.
func (c *conn) FD() *FD { return c.fd }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 && !c.fd.closed.Load() && c.fd.dgram == nil {
		return 0, nil // as package net: not even the end of the stream is told
	}
	n, err := c.fd.Recv(b, 0)
	return n, c.wrap("read", "read", err)
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.fd.Send(b, 0)
	return n, c.wrap("write", "write", err)
}

// Close implements net.Conn.
func (c *conn) Close() error { return c.wrap("close", "close", c.fd.Close()) }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn; nil without a peer.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.wrap("set", "", c.fd.SetDeadline(t)) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.wrap("set", "", c.fd.SetReadDeadline(t)) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", "", c.fd.SetWriteDeadline(t))
}

func (c *conn) wrap(op, call string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.remote, Err: syscallError(call, err)}
}

// Conn is a TCP connection: a net.Conn with half-close.
type Conn struct{ conn }

// CloseWrite sends FIN; reading goes on.
func (c *Conn) CloseWrite() error { return c.wrap("close", "shutdown", c.fd.Shutdown(SHUT_WR)) }

// CloseRead discards what arrives from now on.
func (c *Conn) CloseRead() error { return c.wrap("close", "shutdown", c.fd.Shutdown(SHUT_RD)) }

// SetNoDelay turns Nagle's algorithm off (the default, as in package net) or
// on.
func (c *Conn) SetNoDelay(on bool) error { return c.wrap("set", "setsockopt", c.fd.SetNoDelay(on)) }

// SetKeepAlive asks silent peers whether they are there, or no longer.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.wrap("set", "setsockopt", c.fd.SetKeepAlive(on))
}

// SetKeepAlivePeriod sets the time between keep-alives, and before the first.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.wrap("set", "setsockopt", c.fd.setKeepAlivePeriod(d))
}

// SetKeepAliveConfig sets keep-alives as net.TCPConn does.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	return c.wrap("set", "setsockopt", c.fd.SetKeepAliveConfig(config))
}

// SetLinger says what Close does with what is not sent, as FD.SetLinger.
func (c *Conn) SetLinger(sec int) error { return c.wrap("set", "setsockopt", c.fd.SetLinger(sec)) }

// Listener accepts TCP connections.
type Listener struct {
	fd      *FD
	network string
	addr    net.Addr
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	f, _, err := l.fd.Accept(context.Background())
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: l.network, Addr: l.Addr(), Err: syscallError("accept", err)}
	}
	return &Conn{newConn(f, l.network)}, nil
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	if err := l.fd.Close(); err != nil {
		return &net.OpError{Op: "close", Net: l.network, Addr: l.Addr(), Err: err}
	}
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// SetDeadline ends Accept calls at t.
func (l *Listener) SetDeadline(t time.Time) error {
	if err := l.fd.SetReadDeadline(t); err != nil {
		return &net.OpError{Op: "set", Net: l.network, Addr: l.Addr(), Err: err}
	}
	return nil
}

// FD returns the Berkeley socket underneath.
func (l *Listener) FD() *FD { return l.fd }

// PacketConn is a UDP socket; one that was dialled is also a net.Conn.
type PacketConn struct{ conn }

// ReadFrom implements net.PacketConn.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.fd.RecvFrom(b, 0)
	if err != nil {
		return n, nil, c.wrap("read", "recvfrom", err)
	}
	return n, addrOf(c.network, from), nil
}

// ReadFromUDPAddrPort is ReadFrom without an allocation for the address.
func (c *PacketConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.fd.RecvFrom(b, 0)
	return n, from, c.wrap("read", "recvfrom", err)
}

// WriteTo implements net.PacketConn; to is a *net.UDPAddr.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok || u == nil {
		return 0, &net.OpError{Op: "write", Net: c.network, Source: c.local, Addr: to, Err: syscall.EINVAL}
	}
	return c.WriteToUDPAddrPort(b, u.AddrPort())
}

// WriteToUDPAddrPort is WriteTo without an allocation for the address.
func (c *PacketConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.remote != nil {
		return 0, &net.OpError{Op: "write", Net: c.network, Source: c.local, Addr: addrOf(c.network, to), Err: net.ErrWriteToConnected}
	}
	n, err := c.fd.SendTo(b, 0, to)
	if err != nil {
		return n, &net.OpError{Op: "write", Net: c.network, Source: c.local, Addr: addrOf(c.network, to), Err: syscallError("sendto", err)}
	}
	return n, nil
}

// dialTimeout is what package net returns when the time to dial is up; it is
// os.ErrDeadlineExceeded too, like that of every other call.
type dialTimeout struct{}

func (dialTimeout) Error() string   { return "i/o timeout" }
func (dialTimeout) Timeout() bool   { return true }
func (dialTimeout) Temporary() bool { return true }
func (dialTimeout) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// dialCanceled is what package net returns for context.Canceled.
type dialCanceled struct{}

func (dialCanceled) Error() string        { return "operation was canceled" }
func (dialCanceled) Is(target error) bool { return target == context.Canceled }
