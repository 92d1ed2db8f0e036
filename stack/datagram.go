package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/udp"
)

// Datagram is a socket for datagrams: UDP, ICMP echo ("ping" sockets, as Linux
// has them: the port is the echo identifier), or raw IP. No method blocks.
type Datagram struct {
	stack *Stack
	ping  bool
	raw   *rawSide // of raw sockets, see rawsock.go
	table *bindings[*Datagram]
	hdr   int  // bytes of the transport header
	both  bool // the IPv6 wildcard takes IPv4 as well
	holder
	held atomic.Pointer[held] // nil before the socket is entered in the table of ports

	mu     sync.Mutex // guards everything below
	local  netip.AddrPort
	sets   datagramSets
	bound  bool
	chosen bool           // the port is not one that Bind was given
	remote netip.AddrPort // valid when connected
	source netip.Addr     // what a connection of the wildcard is from, else invalid
	route  route          // to remote, when connected
	oif    *Interface
	// segSize cuts what is sent (UDP_SEGMENT), 0: one datagram; together lets
	// datagrams be received several at once (UDP_GRO).
	segSize  int
	together bool
	queue    []received
	head     int
	bytes    int
	limit    int           // most bytes in queue
	lost     uint32        // datagrams it had no room for
	err      syscall.Errno // pending
	errs     errorQueue
	groups   []membership
	// group4 and group6 are the interfaces that multicasts leave by, nil as the
	// route says, groupSrc is where those of IPv4 come from.
	group4, group6 *Interface
	groupSrc       netip.Addr
	hdrs           HeaderOptions // of what is sent
	pathNews       *PathMTUNews  // not yet taken, or nil
	corked         *corked       // a datagram that is not complete, or nil
	closed         bool

	filter  atomic.Pointer[Filter] // nil: all is received
	waiters WaitQueue
}

// perDatagram is what a queued datagram counts beside its payload, so that a
// flood of empty ones is bounded as well.
const perDatagram = 256

// NewUDP makes an unbound UDP socket; both lets the IPv6 wildcard take IPv4.
func (s *Stack) NewUDP(both bool) (*Datagram, error) {
	return s.newDatagram(&Datagram{table: &s.udp, hdr: udp.HeaderLen, both: both})
}

// NewPing makes an ICMP echo socket for one family: it sends and receives
// whole ICMP messages, whose identifier is the local port.
func (s *Stack) NewPing() (*Datagram, error) {
	return s.newDatagram(&Datagram{table: &s.ping, ping: true})
}

func (s *Stack) newDatagram(d *Datagram) (*Datagram, error) {
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	d.stack, d.limit = s, s.limits.DatagramReceive
	d.sets.init()
	return d, nil
}

// SetShare lets others who share bind the same port (SO_REUSEADDR); call it
// before Bind.
func (d *Datagram) SetShare(on bool) {
	d.SetSharing(0)
	if on {
		d.SetSharing(ShareAddr)
	}
}

// SetV6Only says whether the IPv6 wildcard leaves IPv4 to others (IPV6_V6ONLY);
// EINVAL once bound.
func (d *Datagram) SetV6Only(on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bound {
		return syscall.EINVAL
	}
	d.both = !on
	return nil
}

// SetReceiveBuffer sets how many bytes of datagrams may wait, at most
// Limits.DatagramReceive and at least 1152, as SO_RCVBUF does on Linux.
func (d *Datagram) SetReceiveBuffer(n int) {
	d.mu.Lock()
	d.limit = min(max(n, 1152), d.stack.limits.DatagramReceive)
	d.mu.Unlock()
}

// ReceiveBuffer returns how many bytes of datagrams may wait.
func (d *Datagram) ReceiveBuffer() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.limit
}

// SetInterface pins what the socket sends and receives to one interface
// (SO_BINDTODEVICE); nil unpins it.
func (d *Datagram) SetInterface(i *Interface) {
	d.mu.Lock()
	d.oif, d.route = i, route{}
	d.dev.Store(i)
	d.mu.Unlock()
}

// SendTo sends one datagram; an invalid to means the connected peer. For ping
// sockets b is an ICMP echo request, whose identifier is replaced. Errors: the
// pending error of an earlier datagram; EDESTADDRREQ; EMSGSIZE above what UDP
// can carry, or the path if fragments are forbidden; EACCES to broadcast
// without permission; those of the route and EHOSTUNREACH when the neighbour is
// known not to answer.
func (d *Datagram) SendTo(b []byte, to netip.AddrPort) error { return d.SendMsg(b, to, plainSend) }

func (d *Datagram) takeErrorLocked() syscall.Errno {
	e := d.err
	d.err = 0
	return e
}

// TakeError returns and clears the pending error (SO_ERROR).
func (d *Datagram) TakeError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.takeErrorLocked(); e != 0 {
		return e
	}
	return nil
}

// PutError makes an error pending again that a call has returned.
func (d *Datagram) PutError(e syscall.Errno) {
	d.mu.Lock()
	d.err = e
	d.mu.Unlock()
	d.waiters.Wake(ReadyErr)
}

// Ready returns what could be done without waiting; sending always can. An
// error is one while it is pending and while it is in the queue of errors.
func (d *Datagram) Ready() Ready {
	r, queued := d.ready()
	if queued {
		r |= ReadyErr
	}
	return r
}

// ReadyData is Ready without the queue of errors, which a call that waits for a
// datagram does not wait for.
func (d *Datagram) ReadyData() Ready {
	r, _ := d.ready()
	return r
}

func (d *Datagram) ready() (r Ready, queued bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r = ReadyOut
	if d.head < len(d.queue) {
		r |= ReadyIn
	}
	if d.err != 0 {
		r |= ReadyErr
	}
	if d.closed {
		r |= ReadyHup | ReadyIn
	}
	return r, len(d.errs.list) > 0
}

// Close gives the port back and drops what was not read.
func (d *Datagram) Close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	if d.bound && d.raw == nil {
		d.table.remove(d, d.local.Port())
	}
	for _, m := range d.queue[d.head:] {
		d.stack.memory.Return(m.p.Memory() + len(m.opts))
		m.p.Put()
	}
	d.queue, d.head, d.bytes = nil, 0, 0
	d.errs.flush(d.stack)
	d.corked = nil
	groups := d.groups
	d.groups = nil
	d.mu.Unlock()
	if d.raw != nil {
		d.stack.forgetRaw(d)
	}
	for _, g := range groups {
		g.in.listen(g.Group, g.filter(), mcast.Filter{})
	}
	d.waiters.Wake(ReadyIn | ReadyOut | ReadyHup)
}

func (t *bindings[E]) closeAll() {
	for _, e := range t.all() {
		if d, ok := any(e).(*Datagram); ok {
			d.Close()
		}
	}
}

// Waiters is where to wait for datagrams.
func (d *Datagram) Waiters() *WaitQueue { return &d.waiters }

// input queues a datagram, or with size not 0 several of that size; it keeps a
// copy.
func (d *Datagram) input(p packet, payload []byte, size int, from netip.AddrPort) {
	drops := d.drops()
	if f := d.filter.Load(); f != nil {
		if size > 0 {
			d.inputPieces(p, payload, size, from)
			return
		}
		b := p.Bytes()
		if d.raw != nil {
			b = payload // with the IP header, if the socket gets it
		}
		if payload = filtered(*f, b, payload, d.hdr); payload == nil {
			drops[DropFiltered].inc()
			return
		}
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		drops[DropNoSocket].inc()
		return
	}
	room := d.limit - d.bytes - d.errs.bytes
	if size > 0 {
		var lost int
		if payload, lost = fitting(payload, size, room); lost > 0 {
			d.lost += uint32(lost)
			drops[DropQueueFull].Add(uint64(lost))
		}
		if len(payload) == 0 {
			d.mu.Unlock()
			return
		}
		if len(payload) <= size {
			size = 0
		}
	}
	opts := d.headersOfLocked(&p)
	cost := len(payload) + len(opts) + perDatagram*datagrams(len(payload), size)
	if cost > room {
		d.lost++
		d.mu.Unlock()
		drops[DropQueueFull].inc()
		return
	}
	if !d.stack.memory.Take(pkt.Memory(len(payload)) + len(opts)) {
		d.lost += uint32(datagrams(len(payload), size))
		d.mu.Unlock()
		drops[DropMemory].Add(uint64(datagrams(len(payload), size)))
		return
	}
	if d.head > 64 && d.head > len(d.queue)/2 {
		n := copy(d.queue, d.queue[d.head:])
		clear(d.queue[n:])
		d.queue, d.head = d.queue[:n], 0
	}
	m := received{p: pkt.From(payload), size: size, from: from, to: p.dst, in: p.iface, lost: d.lost, hops: p.hops, tos: p.tos, flow: p.flow(), opts: opts}
	m.p.At = p.At
	d.queue = append(d.queue, m)
	d.bytes += cost
	d.mu.Unlock()
	d.waiters.Wake(ReadyIn)
}

// drops is where what the socket does not take is counted.
func (d *Datagram) drops() *dropCounters {
	switch {
	case d.ping:
		return &d.stack.stats.Ping.Drop
	case d.raw != nil:
		return &d.stack.stats.Raw.Drop
	}
	return &d.stack.stats.UDP.Drop
}

// fits scores how well the socket matches a packet: 0 not at all, a connected
// one best.
func (d *Datagram) fits(local, remote netip.AddrPort, in *Interface) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.oif != nil && in != nil && d.oif != in && !in.loopback {
		return 0
	}
	own, both := d.local.Addr(), d.both
	if d.remote.IsValid() && d.source.IsValid() {
		own, both = d.source.WithZone(""), false
	}
	n := accepts(own, both, local.Addr())
	if n == 0 || !d.remote.IsValid() {
		return n
	}
	if d.remote != remote && !(d.ping && d.remote.Addr() == remote.Addr()) {
		return 0
	}
	return n + connectedFit
}

// connectedFit is what a connected socket fits better than any other.
const connectedFit = 4
