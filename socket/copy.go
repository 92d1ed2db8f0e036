package socket

// This file owns streams as the ends of io.Copy. Between two of them bytes go
// from ring to ring; from anything else into the ring that is sent from, while
// it has room; else and to anything else through a buffer that is used again.

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// spliceBytes is how much is moved with the locks of two connections held: as
// much as one super-frame carries.
const spliceBytes = 64 << 10

// copyBuffers are those of ReadFrom and WriteTo.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// ReadFrom implements io.ReaderFrom: it sends all that r has to give. From
// another Conn, also as an io.LimitedReader's, nothing is copied in between, and
// anything else reads straight into the send ring while there is room.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if src, ok := limited.R.(*Conn); ok {
			n, err = splice(c, src, limited.N)
			limited.N -= n
			return n, c.copyError("readfrom", err)
		}
	}
	if src, ok := r.(*Conn); ok {
		n, err = splice(c, src, -1)
		return n, c.copyError("readfrom", err)
	}
	var buf *[64 << 10]byte
	defer func() {
		if buf != nil {
			copyBuffers.Put(buf)
		}
	}()
	for {
		var k int
		var rerr error
		room := c.fd.lend()
		if room.B != nil {
			k, rerr = r.Read(room.B)
		} else {
			if buf == nil {
				buf = copyBuffers.Get().(*[64 << 10]byte)
			}
			k, rerr = r.Read(buf[:])
		}
		if k < 0 {
			k, rerr = 0, errNegativeRead
		}
		m, err := k, error(nil)
		switch {
		case room.B == nil && k > 0:
			m, err = c.Write(buf[:k])
		case room.B != nil && !c.fd.settle(room, k):
			m, err = c.Write(room.B[:k])
		}
		n += int64(m)
		if err != nil {
			return n, c.copyError("readfrom", err)
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, c.copyError("readfrom", rerr)
		}
	}
}

// WriteTo implements io.WriterTo: it writes to w all that is received. To
// another Conn nothing is copied in between.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	if dst, ok := w.(*Conn); ok {
		n, err = splice(dst, c, -1)
		return n, c.copyError("writeto", err)
	}
	buf := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		k, rerr := c.Read(buf[:])
		if k > 0 {
			m, err := w.Write(buf[:k])
			n += int64(max(m, 0))
			if err == nil && m != k {
				err = io.ErrShortWrite
			}
			if err != nil {
				return n, c.copyError("writeto", err)
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, c.copyError("writeto", rerr)
		}
	}
}

var errNegativeRead = errors.New("reader returned a negative count")

// lend returns room in the send ring to be read into.
func (f *FD) lend() (room tcp.Loan) {
	c, err := f.stream()
	if err == nil && !f.async.Load() && f.mayWait(background, &f.write) == nil {
		room = c.Lend(spliceBytes)
	}
	return room
}

// settle sends the first n bytes of room, or reports that they have to be
// written.
func (f *FD) settle(room tcp.Loan, n int) bool {
	c, err := f.stream()
	if err != nil {
		return n == 0
	}
	if f.takeTurn(background) != nil {
		c.Settle(room, 0)
		return n == 0
	}
	defer f.leaveTurn()
	if f.mayWait(background, &f.write) != nil && n > 0 {
		c.Settle(room, 0)
		return false // Write says why
	}
	return c.Settle(room, n) || n == 0
}

// copyError is what package net makes of an error that ends a copy.
func (c *Conn) copyError(op string, err error) error {
	if err == nil {
		return nil
	}
	return opError(op, c.network, c.local, c.remote, err)
}

// anyByte is a connection as an endpoint that is ready to be read with a byte,
// whatever SO_RCVLOWAT says.
type anyByte stack.TCPConn

func (a *anyByte) Ready() stack.Ready        { return (*stack.TCPConn)(a).ReadyAt(1) }
func (a *anyByte) Waiters() *stack.WaitQueue { return (*stack.TCPConn)(a).Waiters() }

// splice moves what src receives to dst until it ends, or limit bytes unless
// that is negative. Sends of others to dst may come between the pieces, never
// into one.
func splice(dst, src *Conn, limit int64) (n int64, err error) {
	for limit < 0 || n < limit {
		piece := spliceBytes
		if limit >= 0 {
			piece = int(min(limit-n, spliceBytes))
		}
		m, rerr, werr := splicePiece(dst.fd, src.fd, piece)
		n += int64(m)
		switch {
		case werr != nil:
			return n, dst.wrap("write", "write", werr)
		case rerr == io.EOF:
			return n, nil
		case rerr != nil:
			return n, src.wrap("read", "read", rerr)
		}
	}
	return n, nil
}

// splicePiece moves bytes once there are some and dst has room, or returns why
// it will not wait for that.
func splicePiece(dst, src *FD, limit int) (n int, rerr, werr error) {
	from, rerr := src.stream()
	if rerr != nil {
		return 0, rerr, nil
	}
	to, werr := dst.stream()
	if werr != nil {
		return 0, nil, werr
	}
	rctx, rend := src.read.limited(background, syscall.EAGAIN)
	defer rend()
	wctx, wend := dst.write.limited(background, syscall.EAGAIN)
	defer wend()
	for {
		if rerr = src.mayWait(rctx, &src.read); rerr != nil {
			return 0, rerr, nil
		}
		if werr = dst.mayWait(wctx, &dst.write); werr == nil {
			werr = dst.takeTurn(wctx)
		}
		if werr != nil {
			return 0, nil, werr
		}
		n, rerr, werr = from.SpliceTo(to, limit)
		dst.leaveTurn()
		switch {
		case n > 0:
			return n, nil, nil
		case (werr == syscall.EAGAIN || werr == syscall.EINPROGRESS) && !dst.async.Load():
			if werr = dst.wait(wctx, to, stack.ReadyOut, &dst.write); werr != nil {
				return 0, nil, werr
			}
		case rerr == syscall.EAGAIN && !src.async.Load():
			if src.held.CompareAndSwap(true, false) {
				from.Connect() // or there would be nothing to wait for
			}
			if rerr = src.wait(rctx, (*anyByte)(from), stack.ReadyIn, &src.read); rerr != nil {
				return 0, rerr, nil
			}
		default:
			if dst.closed.Load() && werr != nil {
				werr = net.ErrClosed
			}
			return 0, rerr, werr
		}
	}
}
