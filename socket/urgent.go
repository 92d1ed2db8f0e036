package socket

import "net"

// This file owns urgent data as a net.Conn offers it: inline, with a question
// whether there is some. It is what telnet's Synch is made of (package telnet
// asks for these methods without knowing this package).

// SetOOBInline is that of FD (SO_OOBINLINE).
func (c *Conn) SetOOBInline(on bool) error {
	return c.wrap("set", "setsockopt", c.fd.SetOOBInline(on))
}

// AtMark is that of FD (SIOCATMARK).
func (c *Conn) AtMark() (bool, error) {
	at, err := c.fd.AtMark()
	return at, c.wrap("read", "ioctl", err)
}

// UrgentPending reports whether the byte at the mark of urgent data has arrived
// and was not read (POLLPRI). A read does not go past the mark in one call, so
// what was read while this is true came before it.
func (c *Conn) UrgentPending() (bool, error) {
	bits := c.fd.Revents()
	if bits&POLLNVAL != 0 {
		return false, c.wrap("read", "poll", net.ErrClosed)
	}
	return bits&POLLPRI != 0, nil
}

// WriteUrgent writes b, whose last byte is urgent (MSG_OOB).
func (c *Conn) WriteUrgent(b []byte) (int, error) {
	n, err := c.fd.Send(b, MSG_OOB)
	return n, c.wrap("write", "write", err)
}
