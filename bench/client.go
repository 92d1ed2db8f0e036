package main

// This file owns the driver's sockets: blocking ones of the kernel, by system
// calls of which Go's scheduler knows nothing. What the client adds to a
// measurement is so what a program in C would add, and the same for all peers.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stall is how long a stream may stand still before the measurement fails.
const stall = 5 * time.Second

// socket is a descriptor.
type socket int

// dial connects a TCP socket with congestion control cc.
func dial(a netip.AddrPort, cc string) (socket, error) { return dialFor(a, cc, stall) }

// dialFor is dial with another time for each call to take.
func dialFor(a netip.AddrPort, cc string, limit time.Duration) (socket, error) {
	s, err := open(unix.SOCK_STREAM, 0, limit)
	if err != nil {
		return s, err
	}
	err = setCC(int(s), cc)
	if err == nil {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	if err == nil {
		err = s.connect(a)
	}
	if err != nil {
		s.close()
	}
	return s, err
}

func open(kind, protocol int, timeout time.Duration) (socket, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	t := unix.NsecToTimeval(int64(timeout))
	for _, o := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, o, &t); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	return socket(fd), nil
}

func (s socket) close() { unix.Close(int(s)) }

func (s socket) connect(a netip.AddrPort) error {
	sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], a.Port())
	_, err := s.call("connect", unix.SYS_CONNECT, unsafe.Pointer(&sa), unix.SizeofSockaddrInet4)
	return err
}

// read returns 0 at the end of a stream.
func (s socket) read(p []byte) (int, error) {
	return s.call("read", unix.SYS_READ, unsafe.Pointer(&p[0]), len(p))
}

func (s socket) write(p []byte) (int, error) {
	return s.call("write", unix.SYS_WRITE, unsafe.Pointer(&p[0]), len(p))
}

// call repeats what a signal has interrupted: the runtime sends itself one
// when a goroutine seems to run for long, as this does. Each time the kernel
// starts its clock anew, so ours has the last word.
func (s socket) call(name string, number uintptr, p unsafe.Pointer, n int) (int, error) {
	var end time.Time
	for {
		r, _, e := unix.RawSyscall(number, uintptr(s), uintptr(p), uintptr(n))
		switch e {
		case 0:
			return int(r), nil
		case unix.EINTR:
			if now := time.Now(); end.IsZero() {
				end = now.Add(stall)
			} else if now.After(end) {
				return 0, fmt.Errorf("%s: %w", name, os.ErrDeadlineExceeded)
			}
		case unix.EAGAIN, unix.EINPROGRESS:
			return 0, fmt.Errorf("%s: %w", name, os.ErrDeadlineExceeded)
		default:
			return 0, os.NewSyscallError(name, e)
		}
	}
}

// errShort is an answer that is not what was asked for.
var errShort = errors.New("the answer is not what was asked for")

// request connects, has one byte echoed, and closes; it returns how long that
// took.
func request(a netip.AddrPort, cc string) (time.Duration, error) {
	begin := time.Now()
	s, err := dial(a, cc)
	if err != nil {
		return 0, err
	}
	defer s.close()
	if err := s.exchange([]byte{'x'}); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// exchange has p echoed; it changes the first byte to know the answer.
func (s socket) exchange(p []byte) error {
	p[0]++
	want := p[0]
	if _, err := s.write(p); err != nil {
		return err
	}
	p[0] = ^want
	for got := 0; got < len(p); {
		n, err := s.read(p[got:])
		if err != nil {
			return err
		}
		if n == 0 {
			return errShort
		}
		got += n
	}
	if p[0] != want {
		return errShort
	}
	return nil
}

// abort closes a connection by RST, whatever is still on its way.
func (s socket) abort() {
	// Without it the close is only slower.
	_ = unix.SetsockoptLinger(int(s), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.close()
}

// all reads to the end of the stream.
func (s socket) all() ([]byte, error) {
	var got []byte
	for p := make([]byte, 512); ; {
		n, err := s.read(p)
		if n == 0 || err != nil {
			return got, err
		}
		got = append(got, p[:n]...)
	}
}
