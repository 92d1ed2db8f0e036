package socket

import (
	"cmp"
	"net"
	"syscall"
)

// This file owns the choice of congestion control, TCP_CONGESTION of tcp(7).

// SetCongestion chooses the congestion control by name ("cubic", "reno",
// "bbr"), at any time: of the connection, which goes on with the window it
// has; of a connection to come; of a listener, for those it accepts. Errors:
// ENOENT when there is none of that name, EINVAL without a name, ENOPROTOOPT on
// a datagram socket.
func (f *FD) SetCongestion(name string) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.typ != SOCK_STREAM:
		return syscall.ENOPROTOOPT
	case name == "":
		return syscall.EINVAL
	case !f.stack.HasCongestion(name):
		return syscall.ENOENT
	}
	if f.conn == nil || f.connecting {
		f.changeLocked().congestion = name
	}
	if f.bind != nil {
		err = f.bind.SetCongestion(name)
	}
	if f.conn != nil {
		err = f.conn.SetCongestion(name)
	}
	return err
}

// Congestion returns the name of the congestion control. Errors: EOPNOTSUPP on a
// datagram socket, as in Linux.
func (f *FD) Congestion() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return "", net.ErrClosed
	case f.typ != SOCK_STREAM:
		return "", syscall.EOPNOTSUPP
	case f.conn != nil:
		return f.conn.Congestion(), nil
	}
	return cmp.Or(f.settingsLocked().congestion, f.stack.Congestion()), nil
}

// SetCongestion chooses the congestion control; see FD.SetCongestion.
func (c *Conn) SetCongestion(name string) error {
	return c.wrap("set", "setsockopt", c.fd.SetCongestion(name))
}

// SetCongestion chooses the congestion control of connections whose handshake
// ends from now on; see FD.SetCongestion.
func (l *Listener) SetCongestion(name string) error {
	if err := l.fd.SetCongestion(name); err != nil {
		return &net.OpError{Op: "set", Net: l.network, Addr: l.Addr(), Err: syscallError("setsockopt", err)}
	}
	return nil
}
