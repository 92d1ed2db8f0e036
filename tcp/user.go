package tcp

import (
	"io"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the user's calls (RFC 9293 §3.10.1 to 3.10.6) and what the
// network layer has to tell. They return no events: who calls them looks at
// State and calls Output.

// RecvFlags say how Recv is to take bytes.
type RecvFlags uint8

// The flags.
const (
	RecvPeek RecvFlags = 1 << iota // leave the bytes there (MSG_PEEK)
	RecvMore                       // add to what an earlier Recv of the same call has taken
)

// Read takes received bytes in order. It returns syscall.EAGAIN when there are
// none yet; when the connection has failed, the error once and io.EOF after
// it; io.EOF after the peer's FIN or CloseRead. What arrived before a failure
// is still read first. A read stops before the mark of urgent data; the next
// one goes on after it. Call Output afterwards: a window update may be due.
func (c *Conn) Read(p []byte) (int, error) { return c.Recv(p, 0) }

// Recv is Read with flags. With RecvMore, io.EOF only says that the call has
// all it can get: an error stays for the next, and the mark is not passed.
func (c *Conn) Recv(p []byte, flags RecvFlags) (int, error) {
	if c.InRepair() && (flags&RecvPeek == 0 || c.RepairQueue() != RepairReceive) {
		return c.repairRecv(p, flags)
	}
	more := flags&RecvMore != 0
	if more && c.AtMark() {
		return 0, io.EOF
	}
	if c.rcv.Len() > 0 {
		if len(p) == 0 {
			return 0, nil
		}
		if n := c.take(p, flags&RecvPeek != 0); n > 0 {
			return n, nil
		}
	}
	if more && (c.EOF() || c.err != 0) {
		return 0, io.EOF
	}
	if c.rcvFin {
		return 0, io.EOF // all is there; a later RST only concerns the writer
	}
	if err := c.takeErr(); err != nil {
		return 0, err
	}
	switch {
	case c.EOF():
		return 0, io.EOF
	case c.state == Listen:
		return 0, syscall.ENOTCONN
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, syscall.EAGAIN
}

// take reads up to the mark, or from it on.
func (c *Conn) take(p []byte, peek bool) int {
	c.wake()
	skip, n := c.toMark()
	p = p[:min(len(p), n)]
	if peek {
		a, b := c.rcv.Peek(skip, len(p))
		return copy(p, a) + copy(p[len(a):], b)
	}
	c.rcv.Discard(skip)
	n = c.rcv.Read(p)
	c.taken()
	return n
}

// taken is what follows when the user has taken bytes out of the ring.
func (c *Conn) taken() {
	if c.rcv.Len() == 0 && (c.state == Closed || c.cfg.Memory.Pressure()) {
		c.rcv.Shrink()
	}
	c.passMark()
	c.tune.due = true
	c.readerFreed()
}

// Write appends p to the send buffer and returns how many bytes it took:
// fewer than all when the buffer is full, syscall.EAGAIN when none fit or the
// handshake is not finished; syscall.EINPROGRESS when a SYN that waited for
// text leaves without. When the connection has failed it returns the
// error if Read has not yet, then syscall.EPIPE, as after CloseWrite.
func (c *Conn) Write(p []byte) (int, error) { return c.Send(p, 0) }

// Send is Write with flags that say more of the bytes.
func (c *Conn) Send(p []byte, flags SendFlags) (int, error) {
	if err := c.takeErr(); err != nil {
		return 0, err
	}
	switch {
	case c.InRepair():
		return 0, syscall.EINVAL // see RepairWrite
	case c.wrClosed:
		return 0, syscall.EPIPE
	case c.Held():
		// Fast Open: what the SYN can carry, and the SYN is on its way.
		c.wantWrite = true
		n := c.snd.Write(p[:min(len(p), c.synRoom())])
		c.Connect()
		c.pushed = c.iss.Add(1 + c.snd.Len())
		c.willWrite = flags&SendWait != 0 && n < len(p)
		if n == 0 {
			return 0, syscall.EINPROGRESS
		}
		return n, nil
	case c.state == SynSent || c.state == SynReceived && !c.fastServer():
		c.wantWrite = true
		c.willWrite = flags&SendWait != 0 && len(p) > 0
		return 0, syscall.EAGAIN
	case c.state == SynReceived:
	case c.state != Established && c.state != CloseWait:
		return 0, syscall.EPIPE
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.wake()
	n := c.snd.Write(p[:min(len(p), c.writeRoom())])
	c.wantWrite = !c.roomy()
	if n > 0 {
		if n < len(p) {
			flags &^= SendMore | SendRecord // the rest has to wait, so this must not
		}
		c.wrote(flags)
	}
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	return n, nil
}

// TakeErr is SO_ERROR of getsockopt(2): why the connection failed, if nobody
// was told yet, or as on Linux the ICMP error that may have passed; it is
// cleared.
func (c *Conn) TakeErr() error {
	if err := c.takeErr(); err != nil {
		return err
	}
	soft := c.softErr
	c.softErr = 0
	if soft == 0 {
		return nil
	}
	return syscall.Errno(soft)
}

// takeErr returns the error of a failed connection the first time.
func (c *Conn) takeErr() error {
	if c.err == 0 || c.errTaken {
		return nil
	}
	c.errTaken = true
	return syscall.Errno(c.err)
}

// PutErr lets the error of a failed connection be told once more.
func (c *Conn) PutErr() { c.errTaken = false }

// Readable returns how many bytes Read can take, of which the mark of urgent
// data may make more than one Read.
func (c *Conn) Readable() int {
	skip, _ := c.toMark()
	return c.rcv.Len() - skip
}

// EOF reports that no byte will follow those that Readable counts.
func (c *Conn) EOF() bool { return c.rcvFin || c.rdClosed || c.state == Closed }

// Writable returns how many bytes Write can take.
func (c *Conn) Writable() int {
	switch {
	case c.wrClosed:
	case c.state == Established || c.state == CloseWait || c.state == SynReceived && c.fastServer():
		if c.aboveLowat() || len(c.openRecords()) >= maxRecords {
			return 0
		}
		return c.sndFree()
	case c.Held():
		return c.synRoom()
	}
	return 0
}

// Err returns why the connection failed, a syscall.Errno, or nil.
func (c *Conn) Err() error {
	if c.err == 0 {
		return nil
	}
	return syscall.Errno(c.err)
}

// State returns the state.
func (c *Conn) State() State { return c.state }

// SetNoDelay turns Nagle's algorithm off, or on again.
func (c *Conn) SetNoDelay(on bool) { c.SetKnob(0, KnobNoDelay, flag(on)) }

// CloseRead ends reading: what has arrived may still be read, then Read
// returns io.EOF. The peer is not told (there is no such thing in TCP), and
// what it sends counts against the window, as in Linux.
func (c *Conn) CloseRead() { c.rdClosed = true }

// CloseWrite is CLOSE of RFC 9293 §3.10.4: a FIN follows the last byte.
// Reading goes on. It returns syscall.ENOTCONN when there is no connection.
func (c *Conn) CloseWrite(now mono.Time) error {
	c.wake()
	c.traceAt(now)
	switch c.state {
	case Closed, Listen:
		return syscall.ENOTCONN
	case SynReceived:
		c.wrClosed = true // queued until ESTABLISHED
	case SynSent, Established, CloseWait:
		c.wrClosed = true
		c.moveTo(evClose)
		c.repairShut(now)
		c.events = 0
	}
	return nil
}

// Close says that the application is gone. What was written is still sent,
// and the connection ends by itself; it may last as long as the peer makes
// progress, but has no reader: if anything arrived that was not read, or
// arrives from now on, the peer gets a RST so that it knows (RFC 2525 §2.17,
// RFC 9293 §3.10.4).
func (c *Conn) Close(now mono.Time) {
	if c.orphan {
		return
	}
	c.wake()
	c.traceAt(now)
	unread := c.rcv.Len() > 0
	c.orphan, c.rdClosed = true, true
	c.rcv.Release()
	c.urg.state = urgentNone
	c.ooo = reassembly{}
	c.chargeLists()
	if c.state == Closed {
		c.rest(now)
		return
	}
	if c.InRepair() {
		c.repairClose()
		return
	}
	if unread && c.state != TimeWait {
		c.count(CountAbortOnClose, 1)
		c.wrClosed = true
		c.abort(syscall.ECONNRESET)
		c.events = 0
		return
	}
	c.CloseWrite(now)
	if c.state == FinWait2 {
		c.awaitFin(now)
	}
}

// Abort is ABORT of RFC 9293 §3.10.5: everything queued is dropped and the
// peer gets a RST.
func (c *Conn) Abort(now mono.Time) {
	c.wake()
	c.traceAt(now)
	c.orphan, c.rdClosed, c.wrClosed = true, true, true
	if c.InRepair() {
		c.repairClose()
		return
	}
	c.rcv.Release()
	c.abort(syscall.ECONNABORTED)
	c.events = 0
}

// SoftError notes an ICMP error that may pass (RFC 1122 §4.2.3.9, RFC 5461):
// it becomes the error if the connection fails by time-out.
func (c *Conn) SoftError(err syscall.Errno) { c.softErr = uint16(err) }

// HardError fails the connection with err, without a RST. Linux does this to
// a connection in SYN-SENT or SYN-RECEIVED for every ICMP unreachable.
func (c *Conn) HardError(now mono.Time, err syscall.Errno) Events {
	c.wake()
	c.traceAt(now)
	c.fail(err)
	return c.takeEvents()
}

// Holding reports that Trim would give memory back, if not now then within
// challengeInterval. It is kept while the connection is busy, because a buffer
// that empties with every segment would otherwise grow anew, and copy, with
// every segment.
func (c *Conn) Holding() bool {
	return c.rcv.Cap() > 0 && c.rcv.Len() == 0 || c.snd.Cap() > 0 && c.snd.Len() == 0 || c.restful()
}

// Trim gives the memory of empty buffers back, and if nothing else is going on
// all that an idle connection does not need; for one that has been idle for a
// while. It changes nothing in what the connection does.
func (c *Conn) Trim(now mono.Time) {
	if c.flight == &asleep {
		return
	}
	c.rcv.Shrink()
	c.snd.Shrink()
	c.rest(now)
}
