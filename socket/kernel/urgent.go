package kernel

// This file owns urgent data on a connection of package net, which has no calls
// for it. The methods are those of socket.Conn.

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Urgent is the urgent data of a TCP connection.
type Urgent struct{ raw syscall.RawConn }

// UrgentOf returns the urgent data of a connection of package net. False: it is
// not one of TCP.
func UrgentOf(c net.Conn) (*Urgent, bool) {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return nil, false
	}
	raw, err := tc.SyscallConn()
	return &Urgent{raw}, err == nil
}

func (u *Urgent) control(f func(fd int) error) error {
	var err error
	if e := u.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// SetOOBInline is SO_OOBINLINE.
func (u *Urgent) SetOOBInline(on bool) error {
	v := 0
	if on {
		v = 1
	}
	return u.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, v) })
}

// AtMark is SIOCATMARK.
func (u *Urgent) AtMark() (at bool, err error) {
	err = u.control(func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.SIOCATMARK)
		at = n == 1
		return err
	})
	return at, err
}

// UrgentPending is POLLPRI: the byte at the mark has arrived and was not read.
func (u *Urgent) UrgentPending() (pending bool, err error) {
	err = u.control(func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		for {
			_, err := unix.Poll(p, 0)
			if err == unix.EINTR {
				continue
			}
			pending = p[0].Revents&unix.POLLPRI != 0
			return err
		}
	})
	return pending, err
}

// WriteUrgent writes b, whose last byte is urgent (MSG_OOB).
func (u *Urgent) WriteUrgent(b []byte) (n int, err error) {
	e := u.raw.Write(func(fd uintptr) bool {
		for {
			n, err = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_OOB|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if e != nil {
		return 0, e
	}
	return n, err
}
