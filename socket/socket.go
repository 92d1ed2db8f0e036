// Package socket is how programs use the stack: the Berkeley calls (FD), and
// on top of the same code Go's net.Conn, net.Listener and net.PacketConn
// (Network). It is the only place of the project that blocks; the stack below
// never waits.
//
// Errors are the kernel's: a syscall.Errno, found with errors.Is, inside a
// *net.OpError where package net would wrap it; os.ErrDeadlineExceeded when a
// deadline passes; net.ErrClosed after Close.
package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// The names and numbers of the Berkeley interface, as Linux has them.
const (
	AF_INET        = 2
	AF_INET6       = 10
	SOCK_STREAM    = 1
	SOCK_DGRAM     = 2
	IPPROTO_ICMP   = 1
	IPPROTO_TCP    = 6
	IPPROTO_UDP    = 17
	IPPROTO_ICMPV6 = 58
	SHUT_RD        = 0
	SHUT_WR        = 1
	SHUT_RDWR      = 2
	SOMAXCONN      = 4096
)

// Flags of Send and Recv.
const (
	MSG_TRUNC    = 0x20   // RecvFrom: report a datagram's whole length
	MSG_DONTWAIT = 0x40   // EAGAIN instead of waiting
	MSG_NOSIGNAL = 0x4000 // nothing to do: there is no SIGPIPE here
)

// FD is a socket. Its methods may be called from any goroutine; those that
// wait end with net.ErrClosed when the socket is closed.
type FD struct {
	stack  *stack.Stack
	domain int
	typ    int
	proto  int
	closed atomic.Bool
	done   chan struct{} // closed by Close

	read, write deadline

	mu     sync.Mutex // guards everything below
	only6  bool
	share  bool
	noWait bool // TCP_NODELAY, kept for the connection to come
	bind   *stack.TCPListener
	conn   *stack.TCPConn
	dgram  *stack.Datagram
	// failed is the error of a connect that did not succeed.
	failed error
}

// Socket is socket(2): AF_INET or AF_INET6; SOCK_STREAM, or SOCK_DGRAM with
// protocol 0, IPPROTO_UDP, or IPPROTO_ICMP and IPPROTO_ICMPV6 for echo ("ping")
// sockets. Errors: EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, ENETDOWN.
func Socket(s *stack.Stack, domain, typ, proto int) (*FD, error) {
	if domain != AF_INET && domain != AF_INET6 {
		return nil, syscall.EAFNOSUPPORT
	}
	f := newFD(s, domain, typ, proto)
	var err error
	switch {
	case typ == SOCK_STREAM && (proto == 0 || proto == IPPROTO_TCP):
		return f, nil
	case typ == SOCK_DGRAM && (proto == 0 || proto == IPPROTO_UDP):
		f.dgram, err = s.NewUDP(domain == AF_INET6)
	case typ == SOCK_DGRAM && (proto == IPPROTO_ICMP && domain == AF_INET || proto == IPPROTO_ICMPV6 && domain == AF_INET6):
		f.dgram, err = s.NewPing()
	case typ == SOCK_STREAM || typ == SOCK_DGRAM:
		return nil, syscall.EPROTONOSUPPORT
	default:
		return nil, syscall.ESOCKTNOSUPPORT
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func newFD(s *stack.Stack, domain, typ, proto int) *FD {
	f := &FD{stack: s, domain: domain, typ: typ, proto: proto, done: make(chan struct{})}
	f.read.init()
	f.write.init()
	return f
}

// toStack checks an address given by the user and unmaps IPv4-mapped ones.
func (f *FD) toStack(a netip.AddrPort) (netip.AddrPort, error) {
	ip := a.Addr()
	switch {
	case !ip.IsValid():
		return a, syscall.EINVAL
	case f.domain == AF_INET && !ip.Unmap().Is4(), f.domain == AF_INET6 && ip.Is4():
		return a, syscall.EAFNOSUPPORT
	case f.only6 && ip.Is4In6():
		return a, syscall.ENETUNREACH
	}
	return netip.AddrPortFrom(ip.Unmap(), a.Port()), nil
}

// fromStack shows an IPv4 address as the socket's family does.
func (f *FD) fromStack(a netip.AddrPort) netip.AddrPort {
	if f.domain == AF_INET6 && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

// SetV6Only keeps an AF_INET6 socket from IPv4 (IPV6_V6ONLY); EINVAL once it
// is bound.
func (f *FD) SetV6Only(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.domain != AF_INET6 || f.bind != nil || f.conn != nil || f.dgram != nil {
		return syscall.EINVAL
	}
	f.only6 = on
	return nil
}

// SetBroadcast permits a datagram socket to send to broadcast addresses
// (SO_BROADCAST).
func (f *FD) SetBroadcast(on bool) error {
	if f.dgram == nil {
		return syscall.ENOPROTOOPT
	}
	f.dgram.SetBroadcast(on)
	return nil
}

// SetNoDelay turns Nagle's algorithm off (TCP_NODELAY).
func (f *FD) SetNoDelay(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.typ != SOCK_STREAM {
		return syscall.ENOPROTOOPT
	}
	f.noWait = on
	if f.conn != nil {
		f.conn.SetNoDelay(on)
	}
	return nil
}

// BindToDevice pins a datagram socket to one interface (SO_BINDTODEVICE).
func (f *FD) BindToDevice(i *stack.Interface) error {
	if f.dgram == nil {
		return syscall.ENOPROTOOPT
	}
	f.dgram.SetInterface(i)
	return nil
}

// Bind is bind(2). Errors: EINVAL when already bound, EADDRINUSE,
// EADDRNOTAVAIL, EAFNOSUPPORT.
func (f *FD) Bind(local netip.AddrPort) error {
	a, err := f.toStack(local)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	if f.dgram != nil {
		return f.dgram.Bind(a)
	}
	if f.bind != nil || f.conn != nil {
		return syscall.EINVAL
	}
	f.bind, err = f.stack.BindTCP(a, f.only6 || f.domain == AF_INET, f.share)
	return err
}

// Listen is listen(2); an unbound socket takes a free port.
func (f *FD) Listen(backlog int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.EOPNOTSUPP
	case f.conn != nil:
		return syscall.EINVAL
	}
	if f.bind == nil {
		var err error
		if f.bind, err = f.stack.BindTCP(netip.AddrPortFrom(f.any(), 0), f.only6 || f.domain == AF_INET, false); err != nil {
			return err
		}
	}
	return f.bind.Listen(backlog)
}

func (f *FD) any() netip.Addr {
	if f.domain == AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// Accept is accept(2): it waits for a connection until ctx ends, the read
// deadline passes or the socket is closed.
func (f *FD) Accept(ctx context.Context) (*FD, netip.AddrPort, error) {
	f.mu.Lock()
	l := f.bind
	f.mu.Unlock()
	if f.typ != SOCK_STREAM {
		return nil, netip.AddrPort{}, syscall.EOPNOTSUPP
	}
	if l == nil {
		return nil, netip.AddrPort{}, syscall.EINVAL
	}
	for {
		c, err := l.Accept()
		if err == nil {
			g := newFD(f.stack, f.domain, f.typ, f.proto)
			g.conn = c
			if f.noWait {
				c.SetNoDelay(true)
			}
			return g, g.fromStack(c.RemoteAddr()), nil
		}
		if f.closed.Load() {
			return nil, netip.AddrPort{}, net.ErrClosed
		}
		if err != syscall.EAGAIN {
			return nil, netip.AddrPort{}, err
		}
		if err := f.wait(ctx, l, stack.ReadyIn, &f.read); err != nil {
			return nil, netip.AddrPort{}, err
		}
	}
}

// Connect is connect(2): for a stream it waits for the handshake until ctx
// ends, the write deadline passes or the socket is closed; the connection is
// then given up. Errors: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH,
// EADDRNOTAVAIL, EADDRINUSE, EISCONN.
func (f *FD) Connect(ctx context.Context, remote netip.AddrPort) error {
	if f.dgram != nil && !remote.IsValid() {
		return f.dgram.Connect(netip.AddrPort{})
	}
	a, err := f.toStack(remote)
	if err != nil {
		return err
	}
	f.mu.Lock()
	switch {
	case f.closed.Load():
		err = net.ErrClosed
	case f.dgram != nil:
		err = f.dgram.Connect(a)
	case f.conn != nil:
		err = syscall.EISCONN
	default:
		f.failed = nil
		if f.bind != nil {
			f.conn, err = f.bind.Dial(a)
		} else {
			f.conn, err = f.stack.DialTCP(netip.AddrPortFrom(f.any(), 0), a)
		}
	}
	c := f.conn
	f.mu.Unlock()
	if err != nil || c == nil {
		return err
	}
	if f.noWait {
		c.SetNoDelay(true)
	}
	err = f.wait(ctx, c, stack.ReadyOut, &f.write)
	if err == nil {
		err = c.Err()
	}
	if err != nil {
		c.Abort()
		f.mu.Lock()
		if f.conn == c {
			f.conn, f.failed = nil, err
		}
		f.mu.Unlock()
	}
	return err
}

// endpoint is what can be waited for.
type endpoint interface {
	Ready() stack.Ready
	Waiters() *stack.WaitQueue
}

// parker is a goroutine's place in a wait queue; they are reused.
type parker struct {
	w  stack.Waiter
	ch chan struct{}
}

var parkers = sync.Pool{New: func() any {
	p := &parker{ch: make(chan struct{}, 1)}
	p.w.F = func(stack.Ready) {
		select {
		case p.ch <- struct{}{}:
		default:
		}
	}
	return p
}}

// wait returns when e is ready for want, or with the reason why it will not
// wait any longer.
func (f *FD) wait(ctx context.Context, e endpoint, want stack.Ready, d *deadline) error {
	p := parkers.Get().(*parker)
	p.w.Want = want
	q := e.Waiters()
	q.Add(&p.w)
	defer func() {
		q.Remove(&p.w)
		select {
		case <-p.ch:
		default:
		}
		parkers.Put(p)
	}()
	var cancelled <-chan struct{}
	if ctx != nil {
		cancelled = ctx.Done()
	}
	for {
		if e.Ready()&(want|stack.ReadyErr|stack.ReadyHup) != 0 {
			return nil
		}
		select {
		case <-p.ch:
		case <-d.passed():
			return os.ErrDeadlineExceeded
		case <-f.done:
			return net.ErrClosed
		case <-cancelled:
			return ctx.Err()
		}
	}
}

// stream returns the connection, or why there is none.
func (f *FD) stream() (*stack.TCPConn, error) {
	if f.closed.Load() {
		return nil, net.ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		return nil, syscall.ENOTCONN
	}
	return f.conn, nil
}

// Send is send(2): all of b, waiting for room unless MSG_DONTWAIT says not to.
func (f *FD) Send(b []byte, flags int) (int, error) {
	if flags&^(MSG_DONTWAIT|MSG_NOSIGNAL) != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	if f.dgram != nil {
		return f.sendTo(b, netip.AddrPort{})
	}
	c, err := f.stream()
	if err != nil {
		if err == syscall.ENOTCONN {
			err = syscall.EPIPE // as Linux for a stream that never was one
		}
		return 0, err
	}
	for sent := 0; ; {
		if f.write.isPast() {
			return sent, os.ErrDeadlineExceeded
		}
		n, err := c.Write(b[sent:])
		sent += n
		switch {
		case f.closed.Load():
			return sent, net.ErrClosed
		case err != nil && err != syscall.EAGAIN:
			return sent, err
		case sent == len(b):
			return sent, nil
		case flags&MSG_DONTWAIT != 0:
			if sent > 0 {
				return sent, nil
			}
			return 0, syscall.EAGAIN
		}
		if err := f.wait(nil, c, stack.ReadyOut, &f.write); err != nil {
			return sent, err
		}
	}
}

// Recv is recv(2): it waits for at least a byte. io.EOF is the end of a
// stream, where C returns 0.
func (f *FD) Recv(b []byte, flags int) (int, error) {
	n, _, err := f.RecvFrom(b, flags)
	return n, err
}

// SendTo is sendto(2); for a stream the address is ignored, as Linux does.
func (f *FD) SendTo(b []byte, flags int, to netip.AddrPort) (int, error) {
	if f.dgram == nil || !to.IsValid() {
		return f.Send(b, flags)
	}
	if flags&^(MSG_DONTWAIT|MSG_NOSIGNAL) != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	a, err := f.toStack(to)
	if err != nil {
		return 0, err
	}
	return f.sendTo(b, a)
}

func (f *FD) sendTo(b []byte, to netip.AddrPort) (int, error) {
	if f.closed.Load() {
		return 0, net.ErrClosed
	}
	if f.write.isPast() {
		return 0, os.ErrDeadlineExceeded
	}
	if err := f.dgram.SendTo(b, to); err != nil {
		return 0, err
	}
	return len(b), nil
}

// RecvFrom is recvfrom(2). What does not fit of a datagram is lost;
// MSG_TRUNC returns its whole length.
func (f *FD) RecvFrom(b []byte, flags int) (n int, from netip.AddrPort, err error) {
	if flags&^(MSG_DONTWAIT|MSG_NOSIGNAL|MSG_TRUNC) != 0 {
		return 0, from, syscall.EOPNOTSUPP
	}
	if f.dgram == nil {
		c, err := f.stream()
		if err != nil {
			return 0, from, err
		}
		for {
			if f.read.isPast() {
				return 0, from, os.ErrDeadlineExceeded
			}
			n, err := c.Read(b)
			if err != syscall.EAGAIN || n > 0 {
				if f.closed.Load() && n == 0 {
					err = net.ErrClosed
				}
				return n, from, err
			}
			if flags&MSG_DONTWAIT != 0 {
				return 0, from, syscall.EAGAIN
			}
			if err := f.wait(nil, c, stack.ReadyIn, &f.read); err != nil {
				return 0, from, err
			}
		}
	}
	for {
		if f.closed.Load() {
			return 0, from, net.ErrClosed
		}
		if f.read.isPast() {
			return 0, from, os.ErrDeadlineExceeded
		}
		n, size, from, err := f.dgram.RecvFrom(b)
		if err == nil && flags&MSG_TRUNC != 0 {
			n = size
		}
		if err == nil {
			return n, f.fromStack(from), nil
		}
		if err != syscall.EAGAIN || flags&MSG_DONTWAIT != 0 {
			return 0, from, err
		}
		if err := f.wait(nil, f.dgram, stack.ReadyIn, &f.read); err != nil {
			return 0, from, err
		}
	}
}

// Shutdown is shutdown(2): SHUT_RD, SHUT_WR or SHUT_RDWR.
func (f *FD) Shutdown(how int) error {
	if how < SHUT_RD || how > SHUT_RDWR {
		return syscall.EINVAL
	}
	if f.dgram != nil {
		if !f.dgram.RemoteAddr().IsValid() {
			return syscall.ENOTCONN
		}
		return nil
	}
	c, err := f.stream()
	if err != nil {
		return err
	}
	if how != SHUT_WR {
		c.CloseRead()
	}
	if how != SHUT_RD {
		return c.CloseWrite()
	}
	return nil
}

// Close is close(2). Data written is still sent; calls that wait return.
func (f *FD) Close() error {
	if !f.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	close(f.done)
	f.read.stop()
	f.write.stop()
	f.mu.Lock()
	bind, conn, dgram := f.bind, f.conn, f.dgram
	f.mu.Unlock()
	if bind != nil {
		bind.Close()
	}
	if conn != nil {
		conn.Close()
	}
	if dgram != nil {
		dgram.Close()
	}
	return nil
}

// Getsockname returns the local address, with port 0 while unbound.
func (f *FD) Getsockname() (netip.AddrPort, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := netip.AddrPortFrom(f.any(), 0)
	switch {
	case f.conn != nil:
		a = f.conn.LocalAddr()
	case f.bind != nil:
		a = f.bind.Addr()
	case f.dgram != nil:
		if b := f.dgram.LocalAddr(); b.IsValid() {
			a = b
		}
	}
	return f.fromStack(a), nil
}

// Getpeername returns the peer's address; ENOTCONN without one.
func (f *FD) Getpeername() (netip.AddrPort, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		return f.fromStack(f.conn.RemoteAddr()), nil
	}
	if f.dgram != nil {
		if a := f.dgram.RemoteAddr(); a.IsValid() {
			return f.fromStack(a), nil
		}
	}
	return netip.AddrPort{}, syscall.ENOTCONN
}

// Stream returns the connection below, for its Info; nil when there is none.
func (f *FD) Stream() *stack.TCPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn
}

// SetDeadline sets both deadlines; the zero time removes them.
func (f *FD) SetDeadline(t time.Time) error {
	if err := f.SetReadDeadline(t); err != nil {
		return err
	}
	return f.SetWriteDeadline(t)
}

// SetReadDeadline is for Recv, RecvFrom and Accept.
func (f *FD) SetReadDeadline(t time.Time) error { return f.setDeadline(&f.read, t) }

// SetWriteDeadline is for Send, SendTo and Connect.
func (f *FD) SetWriteDeadline(t time.Time) error { return f.setDeadline(&f.write, t) }

func (f *FD) setDeadline(d *deadline, t time.Time) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	d.set(t)
	return nil
}

// isErrno unwraps the errno of an error, for wrapping it as package net does.
func isErrno(err error) (syscall.Errno, bool) {
	var e syscall.Errno
	ok := errors.As(err, &e)
	return e, ok
}
