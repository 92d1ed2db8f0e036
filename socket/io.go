package socket

// This file owns the calls that move data, and Shutdown.

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// Send is send(2): all of b, waiting for room unless MSG_DONTWAIT says not to.
// The bytes of one call stay together, however many goroutines send.
func (f *FD) Send(b []byte, flags int) (int, error) {
	if flags&MSG_FASTOPEN != 0 && f.dgram == nil && f.packet == nil {
		return f.SendTo(b, flags, netip.AddrPort{})
	}
	flags = f.asyncFlags(flags)
	if f.dgram != nil {
		info := stack.NewSendInfo()
		return f.sendDatagram(b, flags, netip.AddrPort{}, nil, &info)
	}
	if f.packet != nil {
		return f.sendPacket(b, nil, 0, nil)
	}
	if flags&^(MSG_DONTWAIT|MSG_NOSIGNAL|MSG_MORE|MSG_OOB|MSG_EOR) != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	if f.held.CompareAndSwap(true, false) {
		return f.sendFast(b, flags, netip.AddrPort{})
	}
	c, err := f.stream()
	if err != nil {
		if err == syscall.ENOTCONN {
			err = syscall.EPIPE // as Linux for a stream that never was one
		}
		return 0, err
	}
	if flags&MSG_DONTWAIT != 0 {
		if err := f.mayWait(background, &f.write); err != nil {
			return 0, err
		}
		return c.Send(b, sendFlags(flags))
	}
	ctx, end := f.write.limited(background, syscall.EAGAIN)
	defer end()
	if err := f.takeTurn(ctx); err != nil {
		return 0, err
	}
	n, err := f.sendAll(ctx, c, b, sendFlags(flags)|tcp.SendWait)
	f.leaveTurn()
	return n, err
}

func (f *FD) sendAll(ctx context.Context, c *stack.TCPConn, b []byte, flags tcp.SendFlags) (sent int, err error) {
	for {
		if err := f.mayWait(ctx, &f.write); err != nil {
			if err == syscall.EAGAIN && sent > 0 {
				return sent, nil // SO_SNDTIMEO, when some has been sent
			}
			return sent, err
		}
		n, err := c.Send(b[sent:], flags)
		sent += n
		switch {
		case err == nil && sent == len(b):
			return sent, nil
		case err != nil && err != syscall.EAGAIN && err != syscall.EINPROGRESS:
			if f.closed.Load() {
				err = net.ErrClosed
			}
			return sent, err
		}
		if err := f.wait(ctx, c, stack.ReadyOut, &f.write); err != nil {
			if err == syscall.EAGAIN && sent > 0 {
				return sent, nil
			}
			return sent, err
		}
	}
}

// SendTo is sendto(2). For a stream the address is ignored, as Linux does,
// unless MSG_FASTOPEN says to connect there with what can be sent.
func (f *FD) SendTo(b []byte, flags int, to netip.AddrPort) (int, error) {
	if f.packet != nil && to.IsValid() {
		return 0, syscall.EINVAL // another family's address
	}
	if flags&MSG_FASTOPEN != 0 && f.dgram == nil && f.packet == nil {
		if flags&^(MSG_FASTOPEN|MSG_DONTWAIT|MSG_NOSIGNAL) != 0 {
			return 0, syscall.EOPNOTSUPP
		}
		return f.sendFast(b, flags, to)
	}
	if f.dgram == nil {
		return f.Send(b, flags)
	}
	info := stack.NewSendInfo()
	return f.sendDatagram(b, flags, to, nil, &info)
}

// sendDatagram sends b as a datagram, or as several, with what m and the control
// messages ask for; a zero to is the peer.
func (f *FD) sendDatagram(b []byte, flags int, to netip.AddrPort, control []byte, m *stack.SendInfo) (int, error) {
	if f.closed.Load() {
		return 0, net.ErrClosed
	}
	if f.wrongFlags(flags) {
		return 0, syscall.EOPNOTSUPP
	}
	if to.IsValid() {
		// Datagram sockets of AF_INET6 take a sockaddr_in here and in Connect.
		var err error
		if f.typ != SOCK_RAW {
			to = f.fromStack(to)
		}
		if to, err = f.toStack(to); err != nil {
			return 0, err
		}
	}
	m.More, m.DontRoute = flags&MSG_MORE != 0, flags&MSG_DONTROUTE != 0
	if len(control) > 0 {
		dst := to
		if !dst.IsValid() {
			if dst = f.dgram.RemoteAddr(); !dst.IsValid() {
				return 0, syscall.EDESTADDRREQ
			}
		}
		if err := f.sendControl(control, dst.Addr().Is4(), m); err != nil {
			return 0, err
		}
	}
	return f.sendTo(b, to, m)
}

// wrongFlags reports whether a datagram cannot be sent with flags. UDP over
// IPv6 takes MSG_OOB and does nothing about it, as on Linux.
func (f *FD) wrongFlags(flags int) bool {
	allowed := MSG_DONTWAIT | MSG_NOSIGNAL | MSG_DONTROUTE
	if f.isUDP() || f.typ == SOCK_RAW {
		allowed |= MSG_MORE
	}
	if f.domain == AF_INET6 && f.typ != SOCK_RAW && f.proto != IPPROTO_ICMPV6 {
		allowed |= MSG_OOB
	}
	return flags&^allowed != 0
}

// sendTo sends a datagram or several; nothing makes it wait.
func (f *FD) sendTo(b []byte, to netip.AddrPort, m *stack.SendInfo) (int, error) {
	if err := f.mayWait(background, &f.write); err != nil {
		return 0, err
	}
	if f.isShut(&f.write) {
		if !to.IsValid() && !f.dgram.RemoteAddr().IsValid() {
			return 0, syscall.EDESTADDRREQ
		}
		return 0, syscall.EPIPE
	}
	if err := f.dgram.SendMsg(b, to, m); err != nil {
		return 0, ofStack(err)
	}
	return len(b), nil
}

// Recv is recv(2): it waits for at least a byte. io.EOF is the end of a
// stream, where C returns 0.
func (f *FD) Recv(b []byte, flags int) (int, error) {
	n, _, err := f.RecvFrom(b, flags)
	return n, err
}

// RecvFrom is recvfrom(2). What does not fit of a datagram is lost;
// MSG_TRUNC returns its whole length. From a stream MSG_TRUNC takes bytes
// without caring for them: what is left in b is unspecified.
func (f *FD) RecvFrom(b []byte, flags int) (n int, from netip.AddrPort, err error) {
	if f.dgram != nil {
		var a stack.Arrival
		n, err = f.recvDatagram(b, flags, &a)
		return n, f.fromStack(a.From), err
	}
	if f.packet != nil {
		n, _, err = f.RecvPacket(b, flags)
		return n, from, err
	}
	if flags&^(MSG_DONTWAIT|MSG_NOSIGNAL|MSG_TRUNC|MSG_PEEK|MSG_WAITALL|MSG_OOB) != 0 {
		return 0, from, syscall.EOPNOTSUPP
	}
	n, err = f.recvStream(b, f.asyncFlags(flags))
	return n, from, err
}

// Shutdown is shutdown(2): SHUT_RD, SHUT_WR or SHUT_RDWR. Errors: EINVAL for
// another how, ENOTCONN without a peer; a datagram socket without one is shut
// all the same, as on Linux.
func (f *FD) Shutdown(how int) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	if how < SHUT_RD || how > SHUT_RDWR {
		return syscall.EINVAL
	}
	if f.dgram != nil {
		return f.shutDatagram(how)
	}
	if f.packet != nil {
		return syscall.EOPNOTSUPP
	}
	c, err := f.stream()
	if err == syscall.ENOTCONN && f.shutListener(how) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.State() == tcp.Closed {
		return syscall.ENOTCONN
	}
	if how == SHUT_RD && c.Repair(repairFin) == nil {
		return nil
	}
	if how != SHUT_WR {
		c.CloseRead()
	}
	if how != SHUT_RD {
		return c.CloseWrite()
	}
	return nil
}

// shutListener reports whether the socket is listening, and ends that unless
// how is SHUT_WR, which says nothing to a listener. The port stays bound.
func (f *FD) shutListener(how int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.listening {
		return false
	}
	if how != SHUT_WR {
		f.bind.Unlisten()
		f.listening = false
		f.movedLocked()
	}
	return true
}

func (f *FD) shutDatagram(how int) error {
	bits := uint32(1 << how)
	if how == SHUT_RDWR {
		bits = 1<<SHUT_RD | 1<<SHUT_WR
	}
	f.shut.Or(bits)
	f.dgram.Waiters().Wake(stack.ReadyHup | stack.ReadyRdHup)
	if !f.dgram.RemoteAddr().IsValid() {
		return syscall.ENOTCONN
	}
	return nil
}

// isShut reports whether Shutdown ended this direction of a datagram socket.
func (f *FD) isShut(h *half) bool {
	how := SHUT_RD
	if h == &f.write {
		how = SHUT_WR
	}
	return f.shut.Load()&(1<<how) != 0
}
