package stack

// This file owns how a datagram socket learns that a datagram did not arrive:
// the pending error, which the next call returns, and the queue of errors for
// those who want to know which datagram and from whom (IP_RECVERR). See RFC
// 1122 §4.1.3.3.

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
)

// Who has found the error: Linux's SO_EE_ORIGIN values.
const (
	ErrorLocal = 1 // this host
	ErrorICMP  = 2
	ErrorICMP6 = 3
)

// QueuedError is an error about a datagram that was sent.
type QueuedError struct {
	Errno      syscall.Errno
	Origin     uint8
	Type, Code uint8  // of the ICMP message
	Info       uint32 // what it has to add: the MTU, or where the problem is
	// To is where the datagram went.
	To netip.AddrPort
	// Offender is who sent the ICMP message, invalid when nobody did.
	Offender netip.Addr
	// Message tells of the ICMP message itself; Size is of what it quotes of the
	// datagram, with what follows that.
	Message Arrival
	// Extensions is where in that the extensions of RFC 4884 begin, 0 when there
	// are none or nobody asked (DatagramRFC4884); BadExtensions says that they
	// are damaged.
	Extensions    int
	BadExtensions bool
}

// errorQueue holds the errors of a socket that asked for them.
type errorQueue struct {
	list  []queuedError
	bytes int
	fresh bool // one was added that nobody has been told of
}

type queuedError struct {
	QueuedError
	data []byte // of the datagram, as far as it was quoted
}

// cost is what an error counts against the socket's receive buffer and the
// stack's memory.
func (e *queuedError) cost() int { return len(e.data) + perDatagram }

// addLocked queues an error, or drops it when there is no room for it.
func (d *Datagram) addErrorLocked(e queuedError) {
	if d.bytes+d.errs.bytes+e.cost() > d.limit || !d.stack.memory.Take(e.cost()) {
		d.drops()[DropErrorQueue].inc()
		return
	}
	d.errs.list = append(d.errs.list, e)
	d.errs.bytes += e.cost()
	d.errs.fresh = true
}

func (q *errorQueue) pop(s *Stack) queuedError {
	e := q.list[0]
	q.list[0] = queuedError{}
	q.list = q.list[1:]
	if len(q.list) == 0 {
		q.list = nil
	}
	q.bytes -= e.cost()
	s.memory.Return(e.cost())
	return e
}

func (q *errorQueue) flush(s *Stack) {
	for len(q.list) > 0 {
		q.pop(s)
	}
}

// TakeQueuedError takes the oldest error out of the queue (MSG_ERRQUEUE): what
// it quotes of the datagram's payload goes into b. EAGAIN when there is none.
// The next one, if it came by ICMP, becomes the pending error, as on Linux.
func (d *Datagram) TakeQueuedError(b []byte, into *QueuedError) (n int, err error) {
	d.mu.Lock()
	defer d.unlock()
	if len(d.errs.list) == 0 {
		if d.closed {
			return 0, syscall.EBADF
		}
		return 0, syscall.EAGAIN
	}
	e := d.errs.pop(d.stack)
	switch {
	case len(d.errs.list) > 0 && d.errs.list[0].Origin != ErrorLocal:
		d.err = d.errs.list[0].Errno
		d.errs.fresh = true
	case e.Origin != ErrorLocal:
		d.err = 0
	}
	*into = e.QueuedError
	return copy(b, e.data), nil
}

// tooLongLocked queues that a datagram was longer than it may be.
func (d *Datagram) tooLongLocked(r *route, port uint16) {
	mtu := r.mtu
	if r.dst.Is6() {
		mtu -= len(r.opts)
		if d.sets.on(DatagramPathMTU) {
			d.pathNews = &PathMTUNews{To: r.dst, MTU: mtu}
		}
	}
	if d.sets.forFamily(r.dst, DatagramErrors, DatagramErrors6) == 0 {
		return
	}
	if r.dst.Is4() {
		port = d.remote.Port() // as Linux: it is that of the peer, if any
	}
	d.addErrorLocked(queuedError{QueuedError: QueuedError{Errno: syscall.EMSGSIZE, Origin: ErrorLocal,
		Info: uint32(mtu), To: netip.AddrPortFrom(r.dst, port)}})
}

// inputError delivers an ICMP error about one of our datagrams, of which data
// is quoted. Sockets that have a queue are told of everything; of the others
// only those that are connected, and only of hard errors (RFC 1122 §4.1.3.3).
func (d *Datagram) inputError(to netip.AddrPort, e icmpError, data []byte) {
	d.mu.Lock()
	connected := d.remote.IsValid() && d.remote.Addr() == to.Addr() && (d.ping || d.raw != nil || d.remote.Port() == to.Port())
	discover := d.sets.forFamily(to.Addr(), DatagramMTUDiscover, DatagramMTUDiscover6)
	queue := d.sets.forFamily(to.Addr(), DatagramErrors, DatagramErrors6) != 0
	switch {
	case d.closed:
		queue, connected = false, false
	case e.tooBig && discover >= PMTUInterface:
		queue, connected = false, false
	case e.tooBig && discover != PMTUDont:
		e.hard = true
	case e.tooBig && to.Addr().Is4():
		queue, connected = false, false
	}
	if queue {
		q := queuedError{QueuedError: QueuedError{Errno: e.errno, Origin: ErrorICMP, Type: e.typ, Code: e.code,
			Info: e.info, To: to, Offender: e.message.From.Addr(), Message: e.message}, data: slices.Concat(data, e.tail)}
		if to.Addr().Is6() {
			q.Origin = ErrorICMP6
		}
		q.Message.Size = len(q.data)
		if d.sets.forFamily(to.Addr(), DatagramRFC4884, DatagramRFC4884v6) != 0 {
			q.findExtensions(e)
		}
		d.addErrorLocked(q)
	}
	tell := queue || connected && e.hard
	if tell {
		d.err = e.errno
	}
	d.errs.fresh = false
	d.mu.Unlock()
	if tell {
		d.waiters.Wake(ReadyErr | ReadyIn)
	}
}

// minQuote is the least length that a message may say its quoted packet has,
// padding included (RFC 4884 §4.1). Linux believes no less.
const minQuote = 128

// findExtensions says where in the data the extensions begin.
func (q *queuedError) findExtensions(e icmpError) {
	at := e.quote - (e.body - len(q.data)) // without the headers in front
	if e.quote < minQuote || at < 0 || at+4 > len(q.data) {
		return
	}
	q.Extensions, q.BadExtensions = at, !icmp.ValidExtensions(q.data[at:])
}

// acceptsPathMTU reports whether the socket lets routers say how long its
// packets to dst may be.
func (d *Datagram) acceptsPathMTU(dst netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sets.forFamily(dst, DatagramMTUDiscover, DatagramMTUDiscover6) < PMTUInterface
}
