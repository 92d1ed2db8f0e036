package socket

// This file owns TCP Fast Open (RFC 7413) as programs see it: the options
// TCP_FASTOPEN and TCP_FASTOPEN_CONNECT, and MSG_FASTOPEN.

import (
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// SetFastOpen lets n connections be accepted, read and written before their
// handshake is done (TCP_FASTOPEN), now or once the socket listens; 0 ends
// that. What the first SYN carried may then come twice, as two connections.
// Errors: EINVAL for n below 0 or a socket that is connected.
func (f *FD) SetFastOpen(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.ENOPROTOOPT
	case n < 0 || f.hasConnLocked():
		return syscall.EINVAL
	}
	f.changeLocked().fastQueue = min(n, SOMAXCONN)
	if f.listening {
		f.bind.SetFastOpen(n)
	}
	return nil
}

// SetFastOpenKey gives a listening socket, or one that is going to listen, keys of
// its own for its cookies (TCP_FASTOPEN_KEY), as servers need that share an
// address: 16 bytes, or 32 with a second key whose cookies are still accepted.
// Errors: EINVAL for another length or a socket that is connected.
func (f *FD) SetFastOpenKey(key []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.ENOPROTOOPT
	case len(key) != 16 && len(key) != 32 || f.hasConnLocked():
		return syscall.EINVAL
	}
	set := f.changeLocked()
	set.fastKeys = nil
	for ; len(key) > 0; key = key[16:] {
		set.fastKeys = append(set.fastKeys, [16]byte(key))
	}
	if f.listening {
		f.bind.SetFastOpenKeys(set.fastKeys...)
	}
	return nil
}

// SetFastOpenConnect makes Connect return at once where the server is known to
// take text in the SYN, which then leaves with the first bytes sent
// (TCP_FASTOPEN_CONNECT); an error of the handshake comes from a later call. A
// Recv that would wait lets it leave too. Elsewhere Connect asks the server for
// a cookie. Errors: EOPNOTSUPP when the stack does not permit it, EINVAL once
// connected.
func (f *FD) SetFastOpenConnect(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.ENOPROTOOPT
	case f.stack.FastOpen()&stack.FastOpenClient == 0:
		return syscall.EOPNOTSUPP
	case f.hasConnLocked() || f.listening:
		return syscall.EINVAL
	}
	f.changeLocked().fastConnect = on
	return nil
}

// hasConnLocked reports whether there is a connection, or the beginning of one.
func (f *FD) hasConnLocked() bool { return f.conn != nil && f.conn.State() != tcp.Closed }

// sendFast is a Send with MSG_FASTOPEN: it connects to the address and sends
// the beginning of b with the SYN if it can. Without MSG_DONTWAIT it waits for
// the handshake and sends all; with it, it returns what the SYN took, and
// EINPROGRESS if that was nothing. Errors: those of Connect, EOPNOTSUPP when
// the stack does not permit it or there is no address.
func (f *FD) sendFast(b []byte, flags int, to netip.AddrPort) (int, error) {
	flags = f.asyncFlags(flags)
	if err := f.mayWait(background, &f.write); err != nil {
		return 0, err
	}
	flags = f.asyncFlags(flags)
	flags &^= MSG_FASTOPEN
	if f.stack.FastOpen()&stack.FastOpenClient == 0 {
		return 0, syscall.EOPNOTSUPP
	}
	c, err := f.stream()
	switch {
	case err == syscall.ENOTCONN && !to.IsValid():
		return 0, syscall.EOPNOTSUPP
	case err == syscall.ENOTCONN:
		if c, err = f.dialAs(to, true); err == syscall.EISCONN {
			err = syscall.EALREADY // another goroutine was faster
		}
	case err == nil && c.State() != tcp.SynSent:
		// The end of a handshake that such a call began without waiting is
		// noticed by the next, for which it is then an ordinary one (Linux).
		if f.fastBegun.CompareAndSwap(true, false) {
			f.dialled(nil)
			return f.Send(b, flags)
		}
		err = syscall.EISCONN
	case err == nil && !c.Held():
		err = syscall.EALREADY
	}
	if err != nil {
		return 0, err
	}
	f.held.Store(false)
	how := tcp.SendFlags(0)
	if flags&MSG_DONTWAIT == 0 {
		how = tcp.SendWait
	}
	n, err := c.Send(b, how)
	if flags&MSG_DONTWAIT != 0 || err != nil && err != syscall.EINPROGRESS && err != syscall.EAGAIN {
		f.fastBegun.Store(true)
		if !f.async.Load() {
			f.dialled(nil)
		}
		if n == 0 && (err == nil || err == syscall.EAGAIN) {
			err = syscall.EINPROGRESS
		}
		return n, err
	}
	err = f.handshake(background, c)
	f.dialled(err)
	if err != nil {
		c.Abort() // as after Connect: the socket may try again
		return 0, err
	}
	ctx, end := f.write.limited(background, syscall.EAGAIN)
	defer end()
	if err := f.takeTurn(ctx); err != nil {
		return n, err
	}
	m, err := f.sendAll(ctx, c, b[n:], 0)
	f.leaveTurn()
	return n + m, err
}

// setFastConnect is TCP_FASTOPEN_CONNECT in its raw form.
func (f *FD) setFastConnect(v int) error {
	if v != 0 && v != 1 {
		return syscall.EINVAL
	}
	return f.SetFastOpenConnect(v == 1)
}

func (f *FD) fastOpen() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settingsLocked().fastQueue, nil
}

func (f *FD) fastOpenConnect() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return b2i(f.settingsLocked().fastConnect), nil
}
