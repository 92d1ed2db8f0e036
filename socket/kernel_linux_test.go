package socket_test

// This file and differential_test.go run the same calls on the Linux kernel
// and on the stack, both over loopback, and compare what they return. Here are
// the two systems; each test function knows only the berkeley interface.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"golang.org/x/sys/unix"
)

// berkeley is a system of sockets.
type berkeley interface {
	socket(domain, typ, proto int) (berkeleySocket, error)
	// settle lets everything that is under way arrive.
	settle()
}

// berkeleySocket is a socket of either system. No call waits but connect.
type berkeleySocket interface {
	bind(netip.AddrPort) error
	listen(backlog int) error
	accept() (berkeleySocket, netip.AddrPort, error)
	connect(netip.AddrPort) error // the zero AddrPort: AF_UNSPEC
	begin(netip.AddrPort) error   // connect of a non-blocking socket
	send(b []byte, flags int, to netip.AddrPort) (int, error)
	recv(b []byte, flags int) (int, netip.AddrPort, error)
	shutdown(how int) error
	sockname() (netip.AddrPort, error)
	peername() (netip.AddrPort, error)
	set(option int, on bool) error
	setInt(level, name, v int) error
	getInt(level, name int) (int, error)
	ioctl(request int) (int, error)
	drain()       // waits until what was sent is acknowledged, if it ever is
	poll() string // the events of poll(2) that hold
	close() error
}

// The options that both know.
const (
	optBroadcast = iota
	optNoDelay
	optV6Only
)

// kernelSystem is the machine's.
type kernelSystem struct{ open []*kernelSocket }

type kernelSocket struct {
	k   *kernelSystem
	fd  int
	typ int
}

func (k *kernelSystem) settle() {}

func (k *kernelSystem) end() {
	for _, s := range k.open {
		s.close()
	}
}

func (k *kernelSystem) socket(domain, typ, proto int) (berkeleySocket, error) {
	fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, err
	}
	return k.add(fd, typ), nil
}

func (k *kernelSystem) add(fd, typ int) *kernelSocket {
	s := &kernelSocket{k, fd, typ}
	k.open = append(k.open, s)
	return s
}

// sockaddr keeps the family that the address has.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (s *kernelSocket) bind(a netip.AddrPort) error { return unix.Bind(s.fd, sockaddr(a)) }
func (s *kernelSocket) listen(n int) error          { return unix.Listen(s.fd, n) }

func (s *kernelSocket) accept() (berkeleySocket, netip.AddrPort, error) {
	unix.SetNonblock(s.fd, true)
	defer unix.SetNonblock(s.fd, false)
	fd, sa, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return s.k.add(fd, s.typ), fromSockaddr(sa), nil
}

func (s *kernelSocket) connect(a netip.AddrPort) error {
	if !a.IsValid() {
		return disconnect(s.fd)
	}
	return unix.Connect(s.fd, sockaddr(a))
}

func (s *kernelSocket) begin(a netip.AddrPort) error {
	unix.SetNonblock(s.fd, true)
	return unix.Connect(s.fd, sockaddr(a))
}

func (s *kernelSocket) send(b []byte, flags int, to netip.AddrPort) (int, error) {
	var sa unix.Sockaddr
	if to.IsValid() {
		sa = sockaddr(to)
	}
	return unix.SendmsgN(s.fd, b, nil, sa, flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

func (s *kernelSocket) recv(b []byte, flags int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Recvfrom(s.fd, b, flags|unix.MSG_DONTWAIT)
	from := fromSockaddr(sa)
	if n == 0 && err == nil && len(b) > 0 && !from.IsValid() {
		err = io.EOF
	}
	return max(n, 0), from, err
}

func (s *kernelSocket) shutdown(how int) error { return unix.Shutdown(s.fd, how) }

func (s *kernelSocket) sockname() (netip.AddrPort, error) {
	sa, err := unix.Getsockname(s.fd)
	return fromSockaddr(sa), err
}

func (s *kernelSocket) peername() (netip.AddrPort, error) {
	sa, err := unix.Getpeername(s.fd)
	return fromSockaddr(sa), err
}

func (s *kernelSocket) set(option int, on bool) error {
	v := 0
	if on {
		v = 1
	}
	switch option {
	case optBroadcast:
		return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_BROADCAST, v)
	case optNoDelay:
		return unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, v)
	}
	return unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v)
}

func (s *kernelSocket) setInt(level, name, v int) error {
	return unix.SetsockoptInt(s.fd, level, name, v)
}

func (s *kernelSocket) getInt(level, name int) (int, error) {
	return unix.GetsockoptInt(s.fd, level, name)
}

func (s *kernelSocket) ioctl(request int) (int, error) { return unix.IoctlGetInt(s.fd, uint(request)) }

func (s *kernelSocket) drain() {
	for i := 0; i < 100; i++ {
		if n, err := s.ioctl(unix.SIOCOUTQ); n == 0 || err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *kernelSocket) poll() string {
	fd := s.fd
	if fd < 0 {
		fd = 1 << 20 // a closed one, which -1 is not
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: allEvents}}
	if _, err := unix.Poll(p, 0); err != nil {
		return err.Error()
	}
	return pollNames(p[0].Revents)
}

func (s *kernelSocket) close() error {
	if s.fd < 0 {
		return unix.EBADF
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}

// stackSystem is ours, in virtual time.
type stackSystem struct {
	t *testing.T
	s *stack.Stack
}

type stackSocket struct {
	sys stackSystem
	f   *socket.FD
}

func (k stackSystem) settle() { time.Sleep(10 * time.Millisecond) }

func (k stackSystem) socket(domain, typ, proto int) (berkeleySocket, error) {
	f, err := socket.Socket(k.s, domain, typ, proto)
	if err != nil {
		return nil, err
	}
	return k.add(f), nil
}

func (k stackSystem) add(f *socket.FD) *stackSocket {
	k.t.Cleanup(func() { f.Close() })
	return &stackSocket{k, f}
}

func (s *stackSocket) bind(a netip.AddrPort) error { return s.f.Bind(a) }
func (s *stackSocket) listen(n int) error          { return s.f.Listen(n) }

func (s *stackSocket) accept() (berkeleySocket, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	g, from, err := s.f.Accept(ctx)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = unix.EAGAIN
		}
		return nil, from, err
	}
	return s.sys.add(g), from, nil
}

func (s *stackSocket) connect(a netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	return s.f.Connect(ctx, a)
}

func (s *stackSocket) begin(a netip.AddrPort) error {
	s.f.SetNonblock(true)
	return s.f.Connect(context.Background(), a)
}

func (s *stackSocket) send(b []byte, flags int, to netip.AddrPort) (int, error) {
	return s.f.SendTo(b, flags|socket.MSG_DONTWAIT, to)
}

func (s *stackSocket) recv(b []byte, flags int) (int, netip.AddrPort, error) {
	n, from, err := s.f.RecvFrom(b, flags|socket.MSG_DONTWAIT)
	if len(b) == 0 && err == io.EOF {
		err = nil // C cannot tell either
	}
	return n, from, err
}

func (s *stackSocket) shutdown(how int) error            { return s.f.Shutdown(how) }
func (s *stackSocket) sockname() (netip.AddrPort, error) { return s.f.Getsockname() }
func (s *stackSocket) peername() (netip.AddrPort, error) { return s.f.Getpeername() }
func (s *stackSocket) close() error                      { return s.f.Close() }

func (s *stackSocket) setInt(level, name, v int) error     { return s.f.SetsockoptInt(level, name, v) }
func (s *stackSocket) getInt(level, name int) (int, error) { return s.f.GetsockoptInt(level, name) }
func (s *stackSocket) ioctl(request int) (int, error)      { return s.f.Ioctl(request) }

func (s *stackSocket) drain() { s.sys.settle() }

func (s *stackSocket) poll() string {
	p := []socket.PollFD{{FD: s.f, Events: allEvents}}
	socket.Poll(p, 0)
	return pollNames(p[0].Revents)
}

func (s *stackSocket) set(option int, on bool) error {
	switch option {
	case optBroadcast:
		return s.f.SetBroadcast(on)
	case optNoDelay:
		return s.f.SetNoDelay(on)
	}
	return s.f.SetV6Only(on)
}

// freePorts finds ports that nobody has on any address, below the ephemeral
// ones, so that nobody gets them by chance meanwhile.
func freePorts(t *testing.T, n int) (ports []uint16) {
	t.Helper()
	for range 20000 {
		if len(ports) == n {
			return ports
		}
		lastPort = 10000 + (lastPort+1)%20000
		at := fmt.Sprintf(":%d", lastPort)
		// Without SO_REUSEADDR, so that ports in TIME-WAIT are passed over.
		exact := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) })
			return err
		}}
		l, err := exact.Listen(context.Background(), "tcp", at)
		if err != nil {
			continue
		}
		l.Close()
		if p, err := net.ListenPacket("udp", at); err == nil {
			p.Close()
			ports = append(ports, uint16(lastPort))
		}
	}
	t.Fatal("the machine has no free ports")
	return nil
}

var lastPort = rand.IntN(20000)

// kernelHasIPv6 reports whether ::1 is there.
func kernelHasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// disconnect is connect with AF_UNSPEC, which x/sys has no Sockaddr for.
func disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
		return e
	}
	return nil
}
