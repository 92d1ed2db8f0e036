package tcp

import "github.com/tapstack/tapstack/internal/ring"

// This file owns room in the send buffer that is lent to somebody who fills it
// while the connection goes on: a file is read to where it is sent from, without
// a copy in between.

// Loan is lent room, its bytes in B. The zero Loan is none.
type Loan = ring.Loan

// leastLoan is the room for which lending is worth a read of its own.
const leastLoan = 16 << 10

// Lend lends at most n bytes of room in the send buffer, until Settle. It lends
// none while the connection is not open, or has little room: then Write has to
// say so, or wait.
func (c *Conn) Lend(n int) Loan {
	if c.state != Established && c.state != CloseWait || c.wrClosed || c.err != 0 || c.InRepair() || c.aboveLowat() {
		return Loan{}
	}
	if n = min(n, c.writeRoom()); n < leastLoan {
		return Loan{}
	}
	c.wake()
	return c.snd.Lend(n)
}

// Settle ends a loan and takes its first n bytes as if they had been written.
// It reports false when it has not, because the room was needed or the
// connection has ended since: then they are to be given to Write.
func (c *Conn) Settle(l Loan, n int) bool {
	if c.state != Established && c.state != CloseWait || c.wrClosed || c.err != 0 || c.InRepair() {
		c.snd.Settle(l, 0)
		return false
	}
	if !c.snd.Settle(l, n) {
		return false
	}
	if n > 0 {
		c.wrote(0)
	}
	return true
}
