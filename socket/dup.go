package socket

// This file owns descriptors: dup(2), of which several can be one socket, and
// fcntl(2).

import (
	"net"
	"syscall"
)

// Dup is dup(2): another descriptor of the same socket. What is done with one
// is seen by the other, deadlines and O_NONBLOCK too; each is closed for itself,
// which ends the calls that wait on it, and the last one closes the socket.
func (f *FD) Dup() (*FD, error) {
	for {
		n := f.refs.Load()
		if n == 0 || f.closed.Load() {
			return nil, net.ErrClosed
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return &FD{file: f.file}, nil
		}
	}
}

// Commands of Fcntl and the flags of its F_GETFL and F_SETFL, with Linux's
// numbers. The flags of the type that Socket, Socketpair and Accept4 are given
// are the same.
const (
	F_GETFL    = 3
	F_SETFL    = 4
	O_RDWR     = 0x2
	O_NONBLOCK = 0x800

	SOCK_NONBLOCK = O_NONBLOCK
	SOCK_CLOEXEC  = 0x80000 // nothing to do: no program that is started gets the sockets
)

// Fcntl is fcntl(2) for the flags of the socket: F_GETFL returns O_RDWR and
// O_NONBLOCK, F_SETFL changes the latter. EINVAL for other commands (Dup is
// F_DUPFD) and for other flags to be set.
func (f *FD) Fcntl(cmd, arg int) (int, error) {
	switch {
	case f.closed.Load():
		return 0, net.ErrClosed
	case cmd == F_GETFL:
		return O_RDWR | b2i(f.async.Load())*O_NONBLOCK, nil
	case cmd == F_SETFL && arg&^(O_RDWR|1|O_NONBLOCK) == 0: // the access mode is passed over
		f.async.Store(arg&O_NONBLOCK != 0)
		return 0, nil
	}
	return 0, syscall.EINVAL
}

// typeFlags parts the flags from a type.
func typeFlags(typ int) (bare int, nonblock bool) {
	return typ &^ (SOCK_NONBLOCK | SOCK_CLOEXEC), typ&SOCK_NONBLOCK != 0
}
