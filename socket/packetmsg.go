package socket

// This file owns the ways to move datagrams that tell more of them or move
// several at once: those of net.UDPConn with ancillary data, and batches in the
// shape of golang.org/x/net/ipv4's.

import (
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// ReadMsgUDP reads a datagram into b and what the socket's options make it tell
// of the datagram into oob, as control messages. flags has MSG_TRUNC when the
// datagram was longer than b.
func (c *PacketConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, from, err := c.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		return n, oobn, flags, nil, err
	}
	return n, oobn, flags, addrOf(c.network, from).(*net.UDPAddr), nil
}

// ReadMsgUDPAddrPort is ReadMsgUDP without an allocation for the address.
func (c *PacketConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	n, oobn, flags, addr, err = c.fd.recvMsg(b, oob, 0)
	return n, oobn, flags, addr, c.wrap("read", "recvmsg", err)
}

// WriteMsgUDP sends b with the control messages in oob, to addr, or if the
// socket has a peer to that one with a nil addr.
func (c *PacketConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	return c.write(b, oob, "sendmsg", addr.AddrPort(), udpAddr(addr))
}

// WriteMsgUDPAddrPort is WriteMsgUDP without an allocation for the address.
func (c *PacketConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	if c.remote == nil && addr.IsValid() {
		if n, err = c.sendMsg(b, oob, 0, addr); err == nil {
			return n, len(oob), nil
		}
		return n, 0, c.writeError(addrPort{addr}, syscallError("sendmsg", err))
	}
	dst := net.Addr(nil)
	if addr.IsValid() {
		dst = addrPort{addr}
	}
	return c.write(b, oob, "sendmsg", addr, dst)
}

// Message is a datagram of ReadBatch and WriteBatch, with the fields of the
// type of that name in golang.org/x/net/ipv4 and ipv6.
type Message struct {
	Buffers [][]byte // the payload, in one or more parts
	OOB     []byte   // control messages
	Addr    net.Addr // where from or where to, a *net.UDPAddr; to the peer: nil
	N       int      // bytes read into, or written from, Buffers
	NN      int      // bytes read into OOB
	Flags   int      // MSG_TRUNC when Buffers were too short
}

// ReadBatch waits for a datagram, and reads it and those that wait behind it,
// as many as ms has room for. It returns how many there were; an error only if
// there was none, else it is for the next call.
func (c *PacketConn) ReadBatch(ms []Message, flags int) (int, error) {
	for i := range ms {
		if err := c.readMessage(&ms[i], flags); err != nil {
			return i, c.wrap("read", "recvmmsg", c.fd.later(i, err))
		}
		flags |= MSG_DONTWAIT
	}
	return len(ms), nil
}

func (c *PacketConn) readMessage(m *Message, flags int) error {
	msg := Msg{Buffers: m.Buffers, Control: m.OOB}
	n, err := c.fd.Recvmsg(&msg, flags)
	if err != nil {
		return err
	}
	m.N, m.NN, m.Flags, m.Addr = min(n, size(m.Buffers)), msg.ControlLen, msg.Flags, addrOf(c.network, msg.Name)
	return nil
}

// WriteBatch sends the datagrams in ms, in this order, and returns how many
// were; an error only if none was.
func (c *PacketConn) WriteBatch(ms []Message, flags int) (int, error) {
	for i := range ms {
		if err := c.writeMessage(&ms[i], flags); err != nil {
			if i > 0 {
				return i, nil
			}
			return 0, opError("write", c.network, c.local, ms[0].Addr, err)
		}
	}
	return len(ms), nil
}

func (c *PacketConn) writeMessage(m *Message, flags int) error {
	to := netip.AddrPort{}
	if m.Addr != nil {
		u, ok := m.Addr.(*net.UDPAddr)
		switch {
		case !ok:
			return syscall.EINVAL
		case c.remote != nil:
			return net.ErrWriteToConnected
		}
		to = u.AddrPort()
	} else if c.remote == nil {
		return errMissingAddress
	}
	b, p := gather(m.Buffers)
	if p != nil {
		defer scratch.Put(p)
	}
	n, err := c.sendMsg(b, m.OOB, flags, to)
	m.N = n
	return syscallError("sendmmsg", err)
}

// recvMsg receives a datagram with what the socket tells of it.
func (f *FD) recvMsg(b, oob []byte, flags int) (n, oobn, got int, from netip.AddrPort, err error) {
	m := Msg{Control: oob}
	n, err = f.recvmsg(&m, b, flags)
	return min(n, len(b)), m.ControlLen, m.Flags, m.Name, err
}

// sendMsg sends a datagram with control messages.
func (c *PacketConn) sendMsg(b, oob []byte, flags int, to netip.AddrPort) (int, error) {
	if err := c.wrongFamily(to); err != nil {
		return 0, err
	}
	info := stack.NewSendInfo()
	return c.fd.sendDatagram(b, flags, to, oob, &info)
}
