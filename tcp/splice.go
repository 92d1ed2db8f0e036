package tcp

// This file owns the short way from one connection to another, as a proxy goes
// it: received text is written to what the other sends without a buffer in
// between, from ring to ring.

// SpliceTo moves at most limit bytes that c has received to the end of what dst
// is to send, and returns how many. rerr is what Read and werr what dst's Write
// would return where none can be moved; at most one of them is not nil, and
// werr counts first: as long as dst takes none, c's are not asked for. As a read
// does, it stops before the mark of urgent data. dst may be c. Call Output of
// both afterwards.
func (c *Conn) SpliceTo(dst *Conn, limit int) (n int, rerr, werr error) {
	skip, have := c.toMark()
	if have == 0 || c.InRepair() {
		var none [1]byte
		_, rerr = c.Recv(none[:], 0) // says why there is nothing
		return 0, rerr, nil
	}
	a, b := c.rcv.Peek(skip, min(have, limit))
	n, werr = dst.Send(a, 0)
	if n == len(a) && len(b) > 0 {
		m, _ := dst.Send(b, 0)
		n += m
	}
	if n == 0 {
		return 0, nil, werr
	}
	c.rcv.Discard(skip + n)
	c.taken()
	return n, nil, nil
}
