package socket

// This file owns many datagrams in one call, which Linux knows as UDP_SEGMENT
// and UDP_GRO: a program that sends or receives UDP in bulk, as QUIC does, pays
// for one call, one lookup and one packet down to the device instead of for
// each datagram.

import (
	"io"
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// isUDP reports whether datagrams can be sent and received several at once.
func (f *FD) isUDP() bool {
	return f.dgram != nil && f.typ == SOCK_DGRAM && (f.proto == 0 || f.proto == IPPROTO_UDP)
}

// SetSegmentSize makes Send and SendTo cut what they are given into datagrams
// of n bytes of payload, the last perhaps shorter (UDP_SEGMENT); 0 ends that.
// Errors: EINVAL for n below 0 or above 65535, ENOPROTOOPT when the socket is
// not UDP. SendSegments has the errors of what is sent then.
func (f *FD) SetSegmentSize(n int) error {
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case !f.isUDP():
		return syscall.ENOPROTOOPT
	}
	return f.dgram.SetSegmentSize(n)
}

// SetReceiveSegments lets one call receive several datagrams of a peer that
// are equally long, the last perhaps shorter (UDP_GRO). RecvSegments tells how
// long; Recv and RecvFrom return the same bytes and do not tell. ENOPROTOOPT
// when the socket is not UDP.
func (f *FD) SetReceiveSegments(on bool) error {
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case !f.isUDP():
		return syscall.ENOPROTOOPT
	}
	f.dgram.SetReceiveSegments(on)
	return nil
}

// SendSegments sends b as datagrams of size bytes of payload, the last perhaps
// shorter, to the peer, or to another address unless to is the zero AddrPort:
// sendmsg(2) with UDP_SEGMENT. It sends all or none. Errors beside those of
// SendTo: EINVAL for a size below 1 and for more than stack.MaxSegments
// datagrams; EMSGSIZE when one does not fit the path's MTU, because they are
// never fragmented, or b is longer than one datagram could be; EOPNOTSUPP when
// the socket is not UDP.
func (f *FD) SendSegments(b []byte, size, flags int, to netip.AddrPort) (int, error) {
	switch {
	case f.closed.Load():
		return 0, net.ErrClosed
	case !f.isUDP():
		return 0, syscall.EOPNOTSUPP
	case size <= 0 || size > 65535:
		return 0, syscall.EINVAL
	}
	m := stack.NewSendInfo()
	m.Segment = size
	return f.sendDatagram(b, flags, to, nil, &m)
}

// RecvSegments is RecvFrom that tells the boundaries of what it returns: with
// SetReceiveSegments, datagrams of size bytes, the last of the n bytes perhaps
// shorter; size is n where there is only one. MSG_TRUNC makes n the length of
// what was received, though b was too short for it. EOPNOTSUPP when the socket
// is not UDP.
func (f *FD) RecvSegments(b []byte, flags int) (n, size int, from netip.AddrPort, err error) {
	if f.closed.Load() {
		return 0, 0, from, net.ErrClosed
	}
	if !f.isUDP() {
		return 0, 0, from, syscall.EOPNOTSUPP
	}
	var a stack.Arrival
	if n, err = f.recvDatagram(b, flags, &a); err != nil {
		return n, 0, from, err
	}
	size = a.Segment
	if size == 0 {
		size = n
	}
	return n, size, f.fromStack(a.From), nil
}

// dataOf is a datagram socket of which only datagrams and the pending error are
// waited for, not the queue of errors.
type dataOf stack.Datagram

func (d *dataOf) Ready() stack.Ready        { return (*stack.Datagram)(d).ReadyData() }
func (d *dataOf) Waiters() *stack.WaitQueue { return (*stack.Datagram)(d).Waiters() }

// recvDatagram waits for a datagram, or several, and tells of it into a.
func (f *FD) recvDatagram(b []byte, flags int, a *stack.Arrival) (n int, err error) {
	if flags&^(MSG_DONTWAIT|MSG_NOSIGNAL|MSG_TRUNC|MSG_PEEK|MSG_WAITALL|MSG_OOB) != 0 || flags&MSG_OOB != 0 && f.typ == SOCK_RAW {
		return 0, syscall.EOPNOTSUPP // the last two mean nothing, as on Linux
	}
	flags = f.asyncFlags(flags)
	ctx, end := f.read.limited(background, syscall.EAGAIN)
	defer end()
	for {
		if err := f.mayWait(ctx, &f.read); err != nil {
			return 0, err
		}
		n, err = f.dgram.RecvMsg(b, flags&MSG_PEEK != 0, a)
		switch {
		case err == nil:
			if flags&MSG_TRUNC != 0 {
				n = a.Size
			}
			return n, nil
		case err != syscall.EAGAIN || flags&MSG_DONTWAIT != 0:
			return 0, ofStack(err)
		case f.isShut(&f.read):
			return 0, io.EOF // Linux: only for those who would wait
		}
		if err := f.wait(ctx, (*dataOf)(f.dgram), stack.ReadyIn, &f.read); err != nil {
			return 0, err
		}
	}
}

// SetSegmentSize makes Write, WriteTo and WriteToUDPAddrPort cut what they are
// given into datagrams of n bytes, the last perhaps shorter; 0 ends that. See
// WriteSegments for the errors of what is written then.
func (c *PacketConn) SetSegmentSize(n int) error {
	return c.wrap("set", "setsockopt", c.fd.SetSegmentSize(n))
}

// SetReceiveSegments lets ReadSegments return several datagrams at once. The
// other ways to read then do so too, without telling where one ends.
func (c *PacketConn) SetReceiveSegments(on bool) error {
	return c.wrap("set", "setsockopt", c.fd.SetReceiveSegments(on))
}

// WriteSegments sends b as datagrams of size bytes, the last perhaps shorter,
// to an address, or to the peer of a connected socket if that is the zero
// AddrPort. It sends all or none: EINVAL for more than stack.MaxSegments,
// EMSGSIZE when one does not fit the path's MTU or all together would be more
// than 64 KB.
func (c *PacketConn) WriteSegments(b []byte, size int, to netip.AddrPort) (int, error) {
	dst := c.remote
	if to.IsValid() {
		dst = addrOf(c.network, to)
		if c.remote != nil {
			return 0, &net.OpError{Op: "write", Net: c.network, Source: c.local, Addr: dst, Err: net.ErrWriteToConnected}
		}
	}
	n, err := c.fd.SendSegments(b, size, 0, to)
	if err != nil {
		return n, &net.OpError{Op: "write", Net: c.network, Source: c.local, Addr: dst, Err: syscallError("sendmsg", err)}
	}
	return n, nil
}

// ReadSegments reads what one peer has sent: n bytes in datagrams of size
// bytes, the last perhaps shorter. It is one datagram, and size is n, unless
// SetReceiveSegments asked for more; then b should have room for 64 KB.
func (c *PacketConn) ReadSegments(b []byte) (n, size int, from netip.AddrPort, err error) {
	n, size, from, err = c.fd.RecvSegments(b, 0)
	return n, size, from, c.wrap("read", "recvmsg", err)
}
