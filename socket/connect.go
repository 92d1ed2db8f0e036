package socket

// This file owns how a stream gets its connection: Listen, Accept, Connect.

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// Listen is listen(2); an unbound socket takes a free port. Called again it
// changes the backlog.
func (f *FD) Listen(backlog int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.EOPNOTSUPP
	case f.conn != nil:
		return syscall.EINVAL
	}
	if f.bind == nil {
		if err := f.bindLocked(netip.AddrPortFrom(f.any(), 0)); err != nil {
			return err
		}
	}
	set := f.settingsLocked()
	if set.congestion != "" {
		f.bind.SetCongestion(set.congestion)
	}
	err := f.bind.Listen(backlog)
	if err == nil && set.fastQueue > 0 {
		f.bind.SetFastOpen(set.fastQueue)
	}
	if err == nil && set.fastKeys != nil {
		f.bind.SetFastOpenKeys(set.fastKeys...)
	}
	f.listening = f.listening || err == nil
	f.movedLocked()
	return ofStack(err)
}

// listener returns what Accept takes connections from.
func (f *FD) listener() (*stack.TCPListener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return nil, net.ErrClosed
	case f.typ != SOCK_STREAM:
		return nil, syscall.EOPNOTSUPP
	case !f.listening:
		return nil, syscall.EINVAL
	}
	return f.bind, nil
}

// Accept is accept(2): it waits for a connection until ctx ends, the read
// deadline passes or the socket is closed.
func (f *FD) Accept(ctx context.Context) (*FD, netip.AddrPort, error) {
	l, err := f.listener()
	ctx, end := f.read.limited(ctx, syscall.EAGAIN)
	defer end()
	for err == nil {
		if err = f.mayWait(ctx, &f.read); err != nil {
			break
		}
		var c *stack.TCPConn
		if c, err = l.Accept(); err == nil {
			return f.accepted(c)
		}
		switch err {
		case syscall.EAGAIN:
			if f.async.Load() {
				return nil, netip.AddrPort{}, err
			}
			err = f.wait(ctx, l, stack.ReadyIn, &f.read)
		case syscall.EBADF:
			_, err = f.listener() // closed, or shut down
			err = cmp.Or(err, net.ErrClosed)
		}
	}
	return nil, netip.AddrPort{}, err
}

// Accept4 is accept4(2): Accept with SOCK_NONBLOCK and SOCK_CLOEXEC for the new
// socket. EINVAL for other flags.
func (f *FD) Accept4(ctx context.Context, flags int) (*FD, netip.AddrPort, error) {
	if flags&^(SOCK_NONBLOCK|SOCK_CLOEXEC) != 0 {
		return nil, netip.AddrPort{}, syscall.EINVAL
	}
	g, from, err := f.Accept(ctx)
	if err == nil {
		g.async.Store(flags&SOCK_NONBLOCK != 0)
	}
	return g, from, err
}

// accepted makes a socket of a connection.
func (f *FD) accepted(c *stack.TCPConn) (*FD, netip.AddrPort, error) {
	g := newFD(f.stack, int(f.domain), int(f.typ), int(f.proto))
	f.mu.Lock()
	g.only6, g.sharing = f.only6, f.sharing
	if f.settings != nil && f.settings.device != nil {
		g.changeLocked().device = f.settings.device
	}
	g.inheritFilter(f.settingsLocked())
	f.mu.Unlock()
	g.conn = c // with the settings the listener had when the handshake ended
	return g, g.fromStack(c.RemoteAddr()), nil
}

// Connect is connect(2): for a stream it waits for the handshake until ctx
// ends, the write deadline passes or the socket is closed; the connection is
// then given up. A datagram socket only remembers the peer. The zero AddrPort
// (AF_UNSPEC in C) makes a datagram socket forget its peer and resets what a
// stream is or listens to, which may then connect again. Errors: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH,
// ENETUNREACH, EADDRNOTAVAIL, EADDRINUSE, EISCONN; EALREADY while another
// Connect waits.
func (f *FD) Connect(ctx context.Context, remote netip.AddrPort) error {
	if err := f.mayWait(ctx, &f.write); err != nil {
		return err
	}
	if f.packet != nil {
		return syscall.EOPNOTSUPP
	}
	if !remote.IsValid() {
		if f.dgram == nil {
			return f.disconnectStream()
		}
		return f.disconnect()
	}
	if f.dgram != nil {
		a, err := f.toStack(f.fromStack(remote))
		if err != nil {
			return err
		}
		err = f.dgram.Connect(a)
		if err == nil && a.Addr().Zone() != "" {
			f.mu.Lock()
			f.pinnedLocked()
			f.mu.Unlock()
		}
		return ofStack(err)
	}
	if f.async.Load() || f.late.Load() {
		return f.connectAsync(remote)
	}
	c, err := f.dial(remote)
	if err != nil {
		return err
	}
	limit, end := f.write.limited(ctx, syscall.EINPROGRESS)
	defer end()
	err = f.handshake(limit, c)
	if err == syscall.EINPROGRESS {
		f.late.Store(true) // it goes on as if O_NONBLOCK had been set
		return err
	}
	f.dialled(err)
	if err != nil {
		c.Abort()
	}
	return err
}

// disconnect makes a datagram socket forget its peer, and its device with it.
func (f *FD) disconnect() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.settings != nil {
		f.settings.device = nil
	}
	return ofStack(f.dgram.Connect(netip.AddrPort{}))
}

// disconnectStream resets the connection, ends listening, and leaves a socket
// that is bound only if the user has bound it (Linux's tcp_disconnect). Who
// waits for the handshake learns that it was given up.
func (f *FD) disconnectStream() error {
	f.shutListener(SHUT_RDWR)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		return nil
	}
	f.conn.Abort()
	if f.connecting && !f.late.Load() && !f.async.Load() {
		return nil // Connect takes it away
	}
	f.conn, f.connecting = nil, false
	f.late.Store(false)
	f.held.Store(false)
	f.fastBegun.Store(false)
	if f.bind != nil {
		f.bind.Narrow(netip.Addr{})
	}
	f.movedLocked()
	return nil
}

// dialled ends what dial began; after an error the socket is as before.
func (f *FD) dialled(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connecting = false
	f.late.Store(false)
	if err != nil {
		f.conn = nil
		if f.bind != nil {
			f.bind.Narrow(netip.Addr{})
		}
		f.movedLocked()
	}
}

// dial begins a connection.
func (f *FD) dial(to netip.AddrPort) (c *stack.TCPConn, err error) {
	f.mu.Lock()
	fast := f.settingsLocked().fastConnect
	f.mu.Unlock()
	return f.dialAs(to, fast)
}

// dialAs begins a connection, by Fast Open or in the ordinary way.
func (f *FD) dialAs(to netip.AddrPort, fast bool) (c *stack.TCPConn, err error) {
	a, bad := f.toStack(to)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return nil, net.ErrClosed
	case f.connecting || f.conn != nil && f.conn.State() == tcp.SynSent && !f.conn.Held():
		return nil, syscall.EALREADY
	case f.conn != nil || f.listening:
		return nil, syscall.EISCONN
	case bad != nil:
		return nil, bad
	case f.settings != nil && (f.settings.trace != nil || f.settings.repair.on):
		c, err = f.dialTracedLocked(a, fast)
	case f.bind != nil && fast:
		c, err = f.bind.DialFast(a)
	case f.bind != nil:
		c, err = f.bind.Dial(a)
	default:
		o := f.dialOptionsLocked()
		o.Fast = fast
		c, err = f.stack.DialTCPWith(netip.AddrPortFrom(f.any(), 0), a, o)
	}
	if err != nil {
		return nil, err
	}
	if name := f.settingsLocked().congestion; name != "" {
		c.SetCongestion(name)
	}
	if r := &f.settingsLocked().repair; r.on {
		f.repairedLocked(c, r)
	}
	f.conn, f.connecting = c, true
	if f.bind != nil {
		f.bind.Narrow(c.LocalAddr().Addr())
	}
	f.held.Store(fast && c.Held())
	f.movedLocked()
	return c, nil
}

// dialOptionsLocked are those of a connection from no port in particular.
func (f *FD) dialOptionsLocked() stack.DialOptions {
	s := f.settingsLocked()
	return stack.DialOptions{Knobs: s.knobs, Headers: s.headers, Device: s.device, Sharing: f.sharing, Filter: s.filter}
}

// handshake waits until the connection stands, or returns why it does not.
func (f *FD) handshake(ctx context.Context, c *stack.TCPConn) error {
	for {
		switch ready := c.Ready(); {
		case f.closed.Load():
			return net.ErrClosed
		case c.Err() != nil:
			return c.Err()
		case c.State() == tcp.Closed:
			return syscall.ECONNABORTED
		case ready&stack.ReadyOut != 0:
			return nil
		}
		if err := f.wait(ctx, c, stack.ReadyOut, &f.write); err != nil {
			return err
		}
	}
}

// stream returns the connection, or why there is none.
func (f *FD) stream() (*stack.TCPConn, error) {
	if f.closed.Load() {
		return nil, net.ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		return nil, syscall.ENOTCONN
	}
	return f.conn, nil
}
