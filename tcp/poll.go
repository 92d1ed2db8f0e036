package tcp

// This file owns what poll(2) asks of a connection beside its low-water marks
// (lowat.go): which directions are over, whether an error waits to be told, and
// whether it is worth to wake the writer. All of it as Linux's tcp_poll.

// Shut reports which directions are over: the reader's by the peer's FIN, or
// like the writer's because the user has closed it; both once the connection is.
func (c *Conn) Shut() (read, write bool) {
	closed := c.state == Closed
	return c.rcvFin || c.rdClosed || closed, c.wrClosed || closed
}

// ErrDue reports that the connection has failed and nobody was told why.
func (c *Conn) ErrDue() bool { return c.err != 0 && !c.errTaken }

// Usable reports that the handshake does not keep the user from reading and
// writing: it is over, or the text of a Fast Open came with it.
func (c *Conn) Usable() bool {
	return c.state != SynSent && (c.state != SynReceived || c.fastServer())
}

// MayWrite reports whether a third of the send buffer is free and the low mark
// allows more, or a write would fail at once, which needs no waiting either. If
// not, EvWritable will tell when it is so.
func (c *Conn) MayWrite() bool {
	if _, write := c.Shut(); write || c.roomy() {
		return true
	}
	c.wantWrite = true
	return false
}
