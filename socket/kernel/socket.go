package kernel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// Socket is a socket of the kernel with the methods, flags and errors of a
// socket.FD. The descriptor is in non-blocking mode and in the runtime's
// poller, so that calls that wait hold no thread and end with a deadline, a
// context and Close.
type Socket struct {
	file   *os.File
	raw    syscall.RawConn
	typ    int
	closed atomic.Bool
	async  atomic.Bool // the program's O_NONBLOCK, of which the kernel is not told

	read, write half
}

var _ socket.Berkeley = (*Socket)(nil)

// NewSocket is socket(2).
func NewSocket(domain, typ, proto int) (*Socket, error) {
	fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, err
	}
	s, err := newSocket(fd, typ&^(unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK))
	if err == nil {
		s.async.Store(typ&unix.SOCK_NONBLOCK != 0)
	}
	return s, err
}

func newSocket(fd, typ int) (*Socket, error) {
	s := &Socket{file: os.NewFile(uintptr(fd), "socket"), typ: typ}
	raw, err := s.file.SyscallConn()
	if err != nil {
		s.file.Close()
		return nil, err
	}
	s.raw = raw
	s.read = half{deadline: s.file.SetReadDeadline, wait: raw.Read}
	s.write = half{deadline: s.file.SetWriteDeadline, wait: raw.Write}
	s.read.aside.L, s.write.aside.L = &s.read.mu, &s.write.mu
	return s, nil
}

// control runs a call that does not wait.
func (s *Socket) control(f func(fd int) error) (err error) {
	if s.closed.Load() {
		return net.ErrClosed
	}
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return net.ErrClosed
	}
	return err
}

// Bind is bind(2).
func (s *Socket) Bind(a netip.AddrPort) error {
	return s.control(func(fd int) error { return withAddr(a, func(sa unix.Sockaddr) error { return unix.Bind(fd, sa) }) })
}

// Listen is listen(2).
func (s *Socket) Listen(backlog int) error {
	return s.control(func(fd int) error { return unix.Listen(fd, backlog) })
}

// Accept is accept(2).
func (s *Socket) Accept(ctx context.Context) (socket.Berkeley, netip.AddrPort, error) {
	var conn int
	var sa unix.Sockaddr
	if err := s.do(ctx, &s.read, 0, func(fd int) (err error) {
		conn, sa, err = unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err
	}); err != nil {
		return nil, netip.AddrPort{}, err
	}
	c, err := newSocket(conn, s.typ)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return c, fromSockaddr(sa), nil
}

// Connect is connect(2). The zero AddrPort makes a datagram socket forget its
// peer.
func (s *Socket) Connect(ctx context.Context, to netip.AddrPort) error {
	if !to.IsValid() {
		return s.control(disconnect)
	}
	begun := false
	err := s.do(ctx, &s.write, 0, func(fd int) error {
		if !begun || s.async.Load() {
			begun = true
			err := withAddr(to, func(sa unix.Sockaddr) error { return unix.Connect(fd, sa) })
			if err != unix.EINPROGRESS || s.async.Load() {
				return err
			}
			return unix.EAGAIN
		}
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || v != 0 {
			if err == nil {
				err = syscall.Errno(v)
			}
			return err
		}
		if _, err := unix.Getpeername(fd); err != nil {
			return unix.EAGAIN // not yet
		}
		return nil
	})
	if ctx.Err() != nil && err == ctx.Err() || errors.Is(err, os.ErrDeadlineExceeded) {
		s.control(disconnect) // given up; there is nothing to be done if that fails
	}
	return err
}

// Shutdown is shutdown(2).
func (s *Socket) Shutdown(how int) error {
	return s.control(func(fd int) error { return unix.Shutdown(fd, how) })
}

// Close is close(2); calls that wait return net.ErrClosed.
func (s *Socket) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	return s.file.Close()
}

// Getsockname is getsockname(2).
func (s *Socket) Getsockname() (netip.AddrPort, error) { return s.name(unix.Getsockname) }

// Getpeername is getpeername(2).
func (s *Socket) Getpeername() (netip.AddrPort, error) { return s.name(unix.Getpeername) }

func (s *Socket) name(call func(int) (unix.Sockaddr, error)) (a netip.AddrPort, err error) {
	err = s.control(func(fd int) error {
		sa, err := call(fd)
		a = fromSockaddr(sa)
		return err
	})
	return a, err
}

// SetsockoptInt is setsockopt(2) for options that are a number.
func (s *Socket) SetsockoptInt(level, opt, v int) error {
	return s.control(func(fd int) error { return unix.SetsockoptInt(fd, level, opt, v) })
}

// GetsockoptInt is getsockopt(2) for options that are a number.
func (s *Socket) GetsockoptInt(level, opt int) (v int, err error) {
	err = s.control(func(fd int) (err error) {
		v, err = unix.GetsockoptInt(fd, level, opt)
		return err
	})
	return v, err
}

// TakeError is SO_ERROR.
func (s *Socket) TakeError() error {
	v, err := s.GetsockoptInt(unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && v != 0 {
		err = syscall.Errno(v)
	}
	return err
}

// Ioctl is ioctl(2) for requests that return a number.
func (s *Socket) Ioctl(request int) (v int, err error) {
	err = s.control(func(fd int) (err error) {
		v, err = unix.IoctlGetInt(fd, uint(request))
		return err
	})
	return v, err
}

// SetNonblock makes calls return EAGAIN, and Connect EINPROGRESS, instead of
// waiting.
func (s *Socket) SetNonblock(on bool) error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	s.async.Store(on)
	return nil
}

// Ready is poll(2).
func (s *Socket) Ready() (r stack.Ready) {
	err := s.control(func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT | unix.POLLPRI | unix.POLLRDHUP}}
		if _, err := unix.Poll(p, 0); err != nil {
			return err
		}
		for bit, ready := range map[int16]stack.Ready{unix.POLLIN: stack.ReadyIn, unix.POLLOUT: stack.ReadyOut,
			unix.POLLPRI: stack.ReadyPri, unix.POLLERR: stack.ReadyErr, unix.POLLHUP: stack.ReadyHup, unix.POLLRDHUP: stack.ReadyRdHup} {
			if p[0].Revents&bit != 0 {
				r |= ready
			}
		}
		return nil
	})
	if err != nil {
		return stack.ReadyErr
	}
	return r
}

// SetDeadline sets both deadlines; the zero time removes them.
func (s *Socket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline is for Recv, RecvFrom and Accept.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.read, t) }

// SetWriteDeadline is for Send, SendTo and Connect.
func (s *Socket) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.write, t) }

func (s *Socket) setDeadline(h *half, t time.Time) error {
	if s.closed.Load() || h.set(t) != nil {
		return net.ErrClosed
	}
	return nil
}
