package socket

// This file owns SO_RCVBUF and SO_SNDBUF, with Linux's rules for their values:
// what is set is how much of a stream may wait; what is shown is twice that,
// because Linux counts its own overhead in.

import (
	"math"
	"net"
	"syscall"
)

// bufferSize is a size as setsockopt takes it: a negative one is, as on Linux,
// a very large one. 0 stands for "not set", so that it becomes the least there
// is.
func bufferSize(n int) int32 {
	if n < 0 {
		n = math.MaxInt32
	}
	return int32(min(max(n, 1), math.MaxInt32))
}

// SetReceiveBuffer is SO_RCVBUF: n bytes of a stream or datagrams may wait to
// be received. The buffer of a stream then no longer grows by itself. n is
// clipped to 1152 from below and to the stack's limit (Limits.TCPReceive,
// Limits.DatagramReceive). Connections accepted later begin with the listener's
// size; what a connection has promised its peer before the call stays promised.
func (f *FD) SetReceiveBuffer(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	if f.dgram != nil {
		f.dgram.SetReceiveBuffer(int(bufferSize(n)))
		return nil
	}
	f.rcvBuf = bufferSize(n)
	f.setBuffers()
	return nil
}

// SetSendBuffer is SO_SNDBUF of a stream: n bytes may be written that the peer
// has not yet acknowledged, and the buffer no longer grows by itself. n is
// clipped to 2304 from below and to Limits.TCPSend. A datagram socket has no
// send buffer, as every datagram leaves at once: ENOPROTOOPT.
func (f *FD) SetSendBuffer(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.dgram != nil:
		return syscall.ENOPROTOOPT
	}
	f.sndBuf = bufferSize(n)
	f.setBuffers()
	return nil
}

// setBuffers applies what was set to the connection, if there is one.
func (f *FD) setBuffers() {
	if f.conn == nil {
		return
	}
	if f.rcvBuf != 0 {
		f.conn.SetReceiveBuffer(int(f.rcvBuf))
	}
	if f.sndBuf != 0 {
		f.conn.SetSendBuffer(int(f.sndBuf))
	}
}

// ReceiveBuffer returns SO_RCVBUF: twice what may wait at present, or for a
// stream without a connection twice what was set, 0 if nothing was.
func (f *FD) ReceiveBuffer() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return 0, net.ErrClosed
	case f.dgram != nil:
		return 2 * f.dgram.ReceiveBuffer(), nil
	case f.conn != nil:
		return 2 * f.conn.Info().RcvBuf, nil
	}
	return 2 * int(f.rcvBuf), nil
}

// SendBuffer returns SO_SNDBUF of a stream, as ReceiveBuffer does SO_RCVBUF.
func (f *FD) SendBuffer() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return 0, net.ErrClosed
	case f.dgram != nil:
		return 0, syscall.ENOPROTOOPT
	case f.conn != nil:
		return 2 * f.conn.Info().SndBuf, nil
	}
	return 2 * int(f.sndBuf), nil
}

// SetReadBuffer sets the size of the receive buffer, as net.TCPConn does.
func (c *Conn) SetReadBuffer(bytes int) error {
	return c.wrap("set", "setsockopt", c.fd.SetReceiveBuffer(bytes))
}

// SetWriteBuffer sets the size of the send buffer, as net.TCPConn does.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.wrap("set", "setsockopt", c.fd.SetSendBuffer(bytes))
}

// SetReadBuffer sets the size of the receive buffer, as net.UDPConn does.
func (c *PacketConn) SetReadBuffer(bytes int) error {
	return c.wrap("set", "setsockopt", c.fd.SetReceiveBuffer(bytes))
}
