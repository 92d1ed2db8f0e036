package socket

// This file owns descriptors: dup(2), of which several can be one socket.

import "net"

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
