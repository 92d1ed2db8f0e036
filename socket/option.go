package socket

// This file owns the socket options: the raw form of setsockopt(2) and
// getsockopt(2) with the kernel's numbers, for those whose value is an int, and
// typed methods for the ones that programs set. What an option does is in
// package tcp, in the file of its mechanism.

import (
	"math"
	"net"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/tcp"
)

// Levels and names of options, as Linux has them.
const (
	SOL_SOCKET   = 1
	SOL_TCP      = IPPROTO_TCP
	IPPROTO_IP   = 0
	IPPROTO_IPV6 = 41
	SOL_UDP      = IPPROTO_UDP
)

// Requests of Ioctl, as Linux has them.
const (
	SIOCINQ     = 0x541B // FIONREAD: bytes that can be read
	SIOCOUTQ    = 0x5411 // TIOCOUTQ: bytes written and not acknowledged
	SIOCOUTQNSD = 0x894B // bytes written and not sent
	FIONBIO     = 0x5421 // of IoctlSetInt
	SIOCATMARK  = 0x8905 // 1 if the reader is at the mark of urgent data
)

// option is how an option is set and read; nil where that is not allowed.
type option struct {
	set func(f *FD, v int) error
	get func(f *FD) (int, error)
}

func knob(id tcp.Knob) option {
	return option{
		func(f *FD, v int) error { return f.setKnob(id, v) },
		func(f *FD) (int, error) { return f.getKnob(id) },
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// SetsockoptInt is setsockopt(2) with an int. Errors: ENOPROTOOPT for an option
// that is not in the table, cannot be set, or is not of this kind of socket;
// EINVAL for the value. Reading has EOPNOTSUPP for a level of another family.
func (f *FD) SetsockoptInt(level, opt, v int) error {
	o, err := f.option(level, opt)
	if err == nil && o.set == nil {
		err = syscall.ENOPROTOOPT
	}
	if err != nil {
		return err
	}
	return o.set(f, int(int32(v)))
}

// GetsockoptInt is getsockopt(2) with an int.
func (f *FD) GetsockoptInt(level, opt int) (int, error) {
	o, err := f.option(level, opt)
	if err == syscall.ENOPROTOOPT && f.domain == AF_INET && level != SOL_SOCKET && level != IPPROTO_IP &&
		(f.typ == SOCK_DGRAM || level != SOL_TCP) && (level != SOL_UDP || !f.isUDP()) {
		err = syscall.EOPNOTSUPP // so Linux calls a level that IPv4 does not know, when it is read
	}
	if err != nil {
		return 0, err
	}
	return o.get(f)
}

func (f *FD) option(level, opt int) (option, error) {
	if f.closed.Load() {
		return option{}, net.ErrClosed
	}
	var o option
	var ok bool
	switch level {
	case SOL_SOCKET:
		o, ok = socketOptions[opt]
	case SOL_TCP:
		o, ok = tcpOptions[opt]
	case IPPROTO_IP:
		o, ok = ipOptions[opt]
	case IPPROTO_IPV6:
		o, ok = ip6Options[opt]
	case SOL_UDP:
		o, ok = udpOptions[opt]
	case SOL_RAW:
		o, ok = rawSocketOptions[opt]
		ok = ok && f.typ == SOCK_RAW
	case SOL_PACKET:
		o, ok = packetOptions[opt]
	}
	if level == IPPROTO_IP && f.domain == AF_INET6 && f.typ == SOCK_RAW {
		ok = false // Linux: it never sends or receives IPv4
	}
	if f.domain == AF_PACKET != (level == SOL_PACKET) && level != SOL_SOCKET {
		ok = false
	}
	if !ok || level == SOL_TCP && f.typ != SOCK_STREAM || level == SOL_UDP && !f.isUDP() || level == IPPROTO_IPV6 && f.domain != AF_INET6 {
		return option{}, syscall.ENOPROTOOPT
	}
	return o, nil
}

// setKnob changes a setting of the connection, or of those to come. The general
// options of SOL_SOCKET are remembered by a datagram socket too, and mean
// nothing there, as on Linux.
func (f *FD) setKnob(id tcp.Knob, v int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	switch {
	case f.conn != nil:
		if err := f.conn.SetKnob(id, v); err != nil || !f.connecting {
			return err
		}
	case f.listening && id == tcp.KnobWindowClamp && v == 0:
		return syscall.EINVAL
	}
	knobs := &f.changeLocked().knobs
	err := knobs.Set(id, v)
	if f.bind != nil {
		f.bind.SetKnobs(*knobs)
	}
	return err
}

func (f *FD) getKnob(id tcp.Knob) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		return f.conn.Knob(id), nil
	}
	return f.settingsLocked().knobs.Get(id), nil
}

// setStream is setKnob for options that only a stream has.
func (f *FD) setStream(id tcp.Knob, v int) error {
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.ENOPROTOOPT
	}
	return f.setKnob(id, v)
}

func (f *FD) protocol() (int, error) {
	switch {
	case f.typ == SOCK_STREAM:
		return IPPROTO_TCP, nil
	case f.domain == AF_PACKET:
		return 0, nil // as Linux shows it
	case f.proto == 0:
		return IPPROTO_UDP, nil
	}
	return int(f.proto), nil
}

func (f *FD) acceptConn() (int, error) { return b2i(f.isListening()), nil }

func (f *FD) isListening() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listening
}

// pendingError is SO_ERROR: the error that the next call would return, once.
func (f *FD) pendingError() (int, error) {
	errno, _ := f.TakeError().(syscall.Errno)
	return int(errno), nil
}

func (f *FD) setBroadcast(v int) error { return f.SetBroadcast(v != 0) }

func (f *FD) broadcast() (int, error) { return b2i(f.bcast.Load()), nil }

// SetNoDelay turns Nagle's algorithm off (TCP_NODELAY).
func (f *FD) SetNoDelay(on bool) error { return f.setStream(tcp.KnobNoDelay, b2i(on)) }

// SetCork holds back what does not fill a segment, for 200 ms or one
// retransmission time-out at most, or lets it go (TCP_CORK).
func (f *FD) SetCork(on bool) error { return f.setStream(tcp.KnobCork, b2i(on)) }

// SetQuickAck acknowledges at once what arrives, or waits for an answer to
// carry the ACK; what arrives changes that again (TCP_QUICKACK).
func (f *FD) SetQuickAck(on bool) error { return f.setStream(tcp.KnobQuickAck, b2i(on)) }

// SetOOBInline leaves urgent data in the stream, or takes its last byte out for
// MSG_OOB (SO_OOBINLINE).
func (f *FD) SetOOBInline(on bool) error { return f.setStream(tcp.KnobOOBInline, b2i(on)) }

// SetKeepAlive asks silent peers whether they are there (SO_KEEPALIVE).
func (f *FD) SetKeepAlive(on bool) error { return f.setStream(tcp.KnobKeepAlive, b2i(on)) }

// Package net's defaults of a net.KeepAliveConfig.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// SetKeepAliveConfig sets keep-alives as net.TCPConn does: zero fields are 15 s,
// 15 s and 9 probes, negative ones leave the present value. Times are rounded
// up to seconds.
func (f *FD) SetKeepAliveConfig(c net.KeepAliveConfig) error {
	err := f.SetKeepAlive(c.Enable)
	set := func(id tcp.Knob, v int) {
		if err == nil && v >= 0 {
			err = f.setStream(id, v)
		}
	}
	set(tcp.KnobKeepIdle, seconds(c.Idle, keepAliveIdle))
	set(tcp.KnobKeepInterval, seconds(c.Interval, keepAliveInterval))
	if c.Count == 0 {
		c.Count = keepAliveCount
	}
	set(tcp.KnobKeepCount, c.Count)
	return err
}

func (f *FD) setKeepAlivePeriod(d time.Duration) error {
	s := seconds(d, keepAliveIdle)
	err := f.setStream(tcp.KnobKeepIdle, s)
	if err == nil {
		err = f.setStream(tcp.KnobKeepInterval, s)
	}
	return err
}

// seconds rounds up; 0 is the default, below 0 stays below.
func seconds(d, def time.Duration) int {
	switch {
	case d < 0:
		return -1
	case d == 0:
		d = def
	}
	return int((d + time.Second - 1) / time.Second)
}

// SetUserTimeout is how long text may go unacknowledged, or unsent for want of
// a window, before the connection fails with ETIMEDOUT; 0 is the default of the
// stack (TCP_USER_TIMEOUT). It is rounded up to milliseconds.
func (f *FD) SetUserTimeout(d time.Duration) error {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return f.setStream(tcp.KnobUserTimeout, int(min(ms, math.MaxInt32)))
}

// SetUserTimeoutOption tells the peer of the user timeout, and takes the larger
// one of both if none was set here (RFC 5482). Linux has no such option.
func (f *FD) SetUserTimeoutOption(on bool) error { return f.setStream(tcp.KnobTimeoutOption, b2i(on)) }

// SetLinger is SO_LINGER: Close waits up to sec seconds until what was written
// has arrived; with 0 it throws it away and resets the connection; below 0 it
// does not wait, which is the default.
func (f *FD) SetLinger(sec int) error { return f.setKnob(tcp.KnobLinger, sec) }

// Linger returns what SetLinger set.
func (f *FD) Linger() (sec int, err error) {
	if f.closed.Load() {
		return 0, net.ErrClosed
	}
	return f.getKnob(tcp.KnobLinger)
}

// AtMark is sockatmark(3): the next byte to be read is the one at the mark of
// urgent data.
func (f *FD) AtMark() (bool, error) {
	n, err := f.Ioctl(SIOCATMARK)
	return n == 1, err
}

// IoctlSetInt is ioctl(2) for the requests that take a number: FIONBIO, which is
// O_NONBLOCK. ENOTTY for another.
func (f *FD) IoctlSetInt(request, v int) error {
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case request != FIONBIO:
		return syscall.ENOTTY
	}
	return f.SetNonblock(v != 0)
}

// Ioctl is ioctl(2) for the requests that ask a stream how much waits in it,
// and for SIOCINQ of a datagram socket: the size of the next datagram. Errors:
// EINVAL for a stream that listens (except SIOCATMARK), ENOTTY for another
// request.
func (f *FD) Ioctl(request int) (int, error) {
	if f.closed.Load() {
		return 0, net.ErrClosed
	}
	if f.dgram != nil {
		switch request {
		case SIOCINQ:
			return f.dgram.NextSize(), nil
		case SIOCOUTQ:
			return 0, nil // nothing waits here
		}
		return 0, syscall.ENOTTY
	}
	if f.packet != nil {
		return f.packetIoctl(request)
	}
	f.mu.Lock()
	c, listening := f.conn, f.listening
	f.mu.Unlock()
	var q tcp.Queued
	if c != nil {
		q = c.Queued()
	}
	n := 0
	switch request {
	case SIOCATMARK:
		return b2i(c != nil && c.AtMark()), nil
	case SIOCINQ:
		n = q.In
	case SIOCOUTQ:
		n = q.Out
	case SIOCOUTQNSD:
		n = q.Unsent
	default:
		return 0, syscall.ENOTTY
	}
	if listening {
		return 0, syscall.EINVAL
	}
	return n, nil
}
