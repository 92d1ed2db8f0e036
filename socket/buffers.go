package socket

// This file owns SO_RCVBUF and SO_SNDBUF, with Linux's rules for their values:
// what is set is how much may wait; what is shown is twice that, because Linux
// counts its own overhead in.

import (
	"math"

	"github.com/tapstack/tapstack/tcp"
)

// SetReceiveBuffer lets n bytes wait to be received (SO_RCVBUF). The buffer of a
// stream then no longer grows by itself. n is clipped to 1152 from below and to
// the stack's limit (Limits.TCPReceive, Limits.DatagramReceive); a negative one
// is as large as can be. What a connection has promised its peer before the
// call stays promised.
func (f *FD) SetReceiveBuffer(n int) error { return f.SetsockoptInt(SOL_SOCKET, SO_RCVBUF, clip32(n)) }

// SetSendBuffer lets n bytes be written to a stream that the peer has not yet
// acknowledged (SO_SNDBUF); the buffer then no longer grows by itself. n is
// clipped to 2304 from below and to Limits.TCPSend. To a datagram socket it
// means nothing, as every datagram leaves at once.
func (f *FD) SetSendBuffer(n int) error { return f.SetsockoptInt(SOL_SOCKET, SO_SNDBUF, clip32(n)) }

func clip32(n int) int { return min(max(n, -1), math.MaxInt32) }

func (f *FD) setRcvBuf(n int) error {
	if f.dgram != nil {
		if n < 0 {
			n = math.MaxInt32
		}
		f.dgram.SetReceiveBuffer(n)
		return nil
	}
	if f.packet != nil {
		f.setPacketRcvBuf(n)
		return nil
	}
	return f.setKnob(tcp.KnobRcvBuf, n)
}

func (f *FD) getRcvBuf() (int, error) {
	if f.dgram != nil {
		return 2 * f.dgram.ReceiveBuffer(), nil
	}
	if f.packet != nil {
		return 2 * f.packet.ReceiveBuffer(), nil
	}
	return f.getKnob(tcp.KnobRcvBuf)
}

// SetReadBuffer sets the size of the receive buffer, as net.TCPConn does.
func (c *Conn) SetReadBuffer(bytes int) error {
	return c.wrapSet("setsockopt", c.fd.SetReceiveBuffer(bytes))
}

// SetWriteBuffer sets the size of the send buffer, as net.TCPConn does.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.wrapSet("setsockopt", c.fd.SetSendBuffer(bytes))
}

// SetReadBuffer sets the size of the receive buffer, as net.UDPConn does.
func (c *PacketConn) SetReadBuffer(bytes int) error {
	return c.wrapSet("setsockopt", c.fd.SetReceiveBuffer(bytes))
}

// SetWriteBuffer is there because net.UDPConn has it; it means nothing, see
// FD.SetSendBuffer.
func (c *PacketConn) SetWriteBuffer(bytes int) error {
	return c.wrapSet("setsockopt", c.fd.SetSendBuffer(bytes))
}
