package kernel

// This file owns the calls that move data. All of them are sendmsg(2) and
// recvmsg(2).

import (
	"context"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/socket"
)

// Send is send(2): all of b of a stream, unless MSG_DONTWAIT says not to wait.
func (s *Socket) Send(b []byte, flags int) (int, error) { return s.SendTo(b, flags, netip.AddrPort{}) }

// SendTo is sendto(2).
func (s *Socket) SendTo(b []byte, flags int, to netip.AddrPort) (int, error) {
	return s.Sendmsg(&socket.Msg{Name: to, Buffers: [][]byte{b}}, flags)
}

// Sendmsg is sendmsg(2): all of a stream's bytes, as Send. The control messages
// go to the kernel as they are.
func (s *Socket) Sendmsg(m *socket.Msg, flags int) (sent int, err error) {
	all, control := size(m.Buffers), m.Control
	for {
		err = s.do(context.Background(), &s.write, flags, func(fd int) error {
			var to unix.Sockaddr
			if m.Name.IsValid() {
				var err error
				if to, err = sockaddr(m.Name); err != nil {
					return err
				}
			}
			n, err := unix.SendmsgBuffers(fd, from(m.Buffers, sent), control, to, flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if err == nil {
				sent, control = sent+n, nil
			}
			return err
		})
		if err != nil || sent == all || s.typ != unix.SOCK_STREAM || !s.waits(flags) {
			break
		}
	}
	if sent > 0 && err == unix.EAGAIN {
		err = nil
	}
	return sent, err
}

// Recv is recv(2).
func (s *Socket) Recv(b []byte, flags int) (int, error) {
	n, _, err := s.RecvFrom(b, flags)
	return n, err
}

// RecvFrom is recvfrom(2). io.EOF is the end of a stream.
func (s *Socket) RecvFrom(b []byte, flags int) (int, netip.AddrPort, error) {
	m := socket.Msg{Buffers: [][]byte{b}}
	n, err := s.Recvmsg(&m, flags)
	return n, m.Name, err
}

// Recvmsg is recvmsg(2). The control messages are the kernel's as they are, and
// so is m.Flags. It does not wait for an error with MSG_ERRQUEUE.
func (s *Socket) Recvmsg(m *socket.Msg, flags int) (got int, err error) {
	m.Name, m.Flags, m.ControlLen = netip.AddrPort{}, 0, 0
	if flags&unix.MSG_ERRQUEUE != 0 {
		flags |= unix.MSG_DONTWAIT
	}
	room, peek := size(m.Buffers), flags&unix.MSG_PEEK != 0
	// Of what a peek waits for readiness would not tell: it gets what there is.
	all := flags&unix.MSG_WAITALL != 0 && s.typ == unix.SOCK_STREAM && s.waits(flags) && !peek
	for {
		n := 0
		err = s.do(context.Background(), &s.read, flags, func(fd int) error {
			k, control, how, name, err := unix.RecvmsgBuffers(fd, from(m.Buffers, got), m.Control[m.ControlLen:],
				flags&^unix.MSG_WAITALL|unix.MSG_DONTWAIT)
			if err != nil {
				return err
			}
			n = k
			m.ControlLen += control
			m.Flags |= how
			if name != nil {
				m.Name = fromSockaddr(name)
			}
			return nil
		})
		switch {
		case err != nil && got > 0:
			return got, nil // an error is for the next call
		case err != nil:
			return 0, err
		case n == 0 && room > 0 && got == 0 && s.typ == unix.SOCK_STREAM && flags&unix.MSG_ERRQUEUE == 0:
			return 0, io.EOF
		}
		if got += n; !all || n == 0 || got >= room {
			return got, nil
		}
	}
}

// size is the length of all buffers together.
func size(buffers [][]byte) (n int) {
	for _, b := range buffers {
		n += len(b)
	}
	return n
}

// from is what of the buffers is left behind their first n bytes.
func from(buffers [][]byte, n int) [][]byte {
	for n > 0 && n >= len(buffers[0]) {
		n -= len(buffers[0])
		buffers = buffers[1:]
	}
	if n == 0 {
		return buffers
	}
	return append([][]byte{buffers[0][n:]}, buffers[1:]...)
}
