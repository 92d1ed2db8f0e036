package stack

import (
	"net/netip"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/udp"
)

// Datagram is a socket for datagrams: UDP, or ICMP echo ("ping" sockets, as
// Linux has them: the port is the echo identifier). No method blocks.
type Datagram struct {
	stack *Stack
	ping  bool
	table *bindings[*Datagram]
	hdr   int  // bytes of the transport header
	both  bool // the IPv6 wildcard takes IPv4 as well
	holder
	// held is the address in the table of ports; it is set before the socket
	// is entered there and never changes.
	held netip.Addr

	mu     sync.Mutex // guards everything below
	local  netip.AddrPort
	bcast  bool  // may send to broadcast addresses (SO_BROADCAST)
	tos    uint8 // of the IP header, with the ECN field
	hops   uint8 // TTL or hop limit to one host, 0: the default
	bound  bool
	remote netip.AddrPort // valid when connected
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
	err      syscall.Errno // pending
	closed   bool

	waiters WaitQueue
}

// received is one datagram in a receive queue, or with size not 0 several of
// that size, the last perhaps shorter; p starts at the payload.
type received struct {
	p    *pkt.Buf
	size int
	from netip.AddrPort
	to   netip.Addr
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
	return d, nil
}

func (d *Datagram) holds() hold { return d.hold(d.held, d.both) }

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

// SetBroadcast permits sending to broadcast addresses (SO_BROADCAST).
func (d *Datagram) SetBroadcast(on bool) {
	d.mu.Lock()
	d.bcast = on
	d.mu.Unlock()
}

// SetTOS sets the DS and ECN fields of what is sent (IP_TOS, IPV6_TCLASS).
func (d *Datagram) SetTOS(tos uint8) {
	d.mu.Lock()
	d.tos = tos
	d.mu.Unlock()
}

// TOS returns what SetTOS set.
func (d *Datagram) TOS() uint8 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tos
}

// SetHops sets the TTL or hop limit of what is sent to one host, 0 for the
// default (IP_TTL, IPV6_UNICAST_HOPS).
func (d *Datagram) SetHops(n uint8) {
	d.mu.Lock()
	d.hops = n
	d.mu.Unlock()
}

// hopsLocked is what send is to be told for dst.
func (d *Datagram) hopsLocked(dst netip.Addr) uint8 {
	if dst.IsMulticast() {
		return 0 // IP_MULTICAST_TTL would be for them
	}
	return d.hops
}

// SetInterface pins what the socket sends and receives to one interface
// (SO_BINDTODEVICE); nil unpins it.
func (d *Datagram) SetInterface(i *Interface) {
	d.mu.Lock()
	d.oif, d.route = i, route{}
	d.dev.Store(i)
	d.mu.Unlock()
}

// Bind gives the socket its local address; port 0 takes a free one. Errors:
// EINVAL when already bound, EADDRNOTAVAIL, EADDRINUSE.
func (d *Datagram) Bind(local netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bindLocked(local)
}

func (d *Datagram) bindLocked(local netip.AddrPort) error {
	if d.closed {
		return syscall.EBADF
	}
	if d.bound {
		return syscall.EINVAL
	}
	a := local.Addr()
	if !a.IsMulticast() && !d.stack.cfg.Load().broadcast(a) {
		if err := d.stack.checkLocal(a); err != nil {
			return err
		}
	}
	if z := a.Zone(); z != "" {
		if d.oif = d.stack.cfg.Load().named(z); d.oif == nil {
			return syscall.EINVAL
		}
	}
	d.held = a.WithZone("")
	port, err := d.table.add(d.stack, d, local.Port())
	if err != nil {
		return err
	}
	d.local = netip.AddrPortFrom(d.held, port)
	d.bound = true
	return nil
}

// autobindLocked binds a socket that sends before Bind.
func (d *Datagram) autobindLocked(v4 bool) error {
	if d.bound {
		return nil
	}
	a := any6
	if v4 && !d.both {
		a = any4
	}
	return d.bindLocked(netip.AddrPortFrom(a, 0))
}

// Connect fixes the peer: sends go there, and only what comes from there is
// received. An unspecified address dissolves the connection.
func (d *Datagram) Connect(remote netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !remote.IsValid() {
		d.remote = netip.AddrPort{}
		d.Narrow(netip.Addr{})
		return nil
	}
	if err := d.autobindLocked(remote.Addr().Is4()); err != nil {
		return err
	}
	r, err := d.routeLocked(remote.Addr())
	if err != nil {
		return err
	}
	d.route = r
	d.remote = netip.AddrPortFrom(r.dst, remote.Port())
	if d.held.IsUnspecified() {
		d.Narrow(r.src)
	}
	return nil
}

func (d *Datagram) routeLocked(dst netip.Addr) (route, error) {
	if dst.IsUnspecified() {
		// As Linux: "any address" means this host.
		if dst.Is6() {
			dst = netip.IPv6Loopback()
		} else {
			dst = loopback4
		}
	}
	src := d.local.Addr()
	switch {
	case src.Is4() == dst.Is4():
	case src.Is4():
		return route{}, syscall.EAFNOSUPPORT
	case !src.IsUnspecified() || !d.both:
		return route{}, syscall.ENETUNREACH
	}
	if src.IsMulticast() || src.IsUnspecified() || d.stack.cfg.Load().broadcast(src) {
		src = netip.Addr{} // bound to receive there; nothing is sent from it
	}
	r, err := d.stack.findRoute(dst, src, d.oif)
	if err == nil && r.bcast && !d.bcast {
		return route{}, syscall.EACCES
	}
	return r, err
}

// SendTo sends one datagram; an invalid to means the connected peer. For ping
// sockets b is an ICMP echo request, whose identifier is replaced. Errors: the
// pending error of an earlier datagram; EDESTADDRREQ; EMSGSIZE above what UDP
// can carry; EACCES to broadcast without permission; those of the route and
// EHOSTUNREACH when the neighbour is known not to answer.
func (d *Datagram) SendTo(b []byte, to netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sendLocked(b, d.segSize, to)
}

// sendLocked sends b in datagrams of size bytes, or with 0 in one.
func (d *Datagram) sendLocked(b []byte, size int, to netip.AddrPort) error {
	now := d.stack.clock.Now()
	if d.closed {
		return syscall.EBADF
	}
	if err := d.takeErrorLocked(); err != 0 {
		return err
	}
	r := d.route
	switch {
	case to.IsValid():
		if err := d.autobindLocked(to.Addr().Is4()); err != nil {
			return err
		}
		if to.Port() == 0 && !d.ping {
			return syscall.EINVAL
		}
		var err error
		if r, err = d.routeLocked(to.Addr()); err != nil {
			return err
		}
	case !d.remote.IsValid():
		return syscall.EDESTADDRREQ
	default:
		to = d.remote
		if r.stale(d.stack, now) {
			var err error
			if r, err = d.routeLocked(to.Addr()); err != nil {
				return err
			}
			d.route = r
		}
	}
	limit := 65535 - ipv4.HeaderLen - d.hdr
	if r.dst.Is6() {
		limit = 65535 - d.hdr
	}
	if len(b) > limit {
		return syscall.EMSGSIZE
	}
	if d.ping {
		return d.sendPingLocked(&r, b)
	}
	if size > 0 {
		if err := checkSegments(&r, len(b), size); err != nil {
			return err
		}
	}
	var p *pkt.Buf
	if size > 0 && len(b) > size {
		p = newSegments(&r, d.local.Port(), to.Port(), b, size)
		d.stack.stats.UDP.Output.Add(uint64((len(b) + size - 1) / size))
	} else {
		n := udp.HeaderLen + len(b)
		p = pkt.Get(n)
		out := p.Append(n)
		udp.Put(out, d.local.Port(), to.Port(), len(b))
		copy(out[udp.HeaderLen:], b)
		udp.SetChecksum(out, r.src, r.dst)
		d.stack.stats.UDP.Output.inc()
	}
	p.MarkTransport()
	tx := newTx(r.iface)
	err := d.stack.send(now, tx, &r, ipv4.ProtoUDP, d.hopsLocked(r.dst), d.tos, false, p)
	if e := tx.done(); err == nil {
		err = e
	}
	return err
}

// RecvFrom takes the oldest datagram: n bytes of it fit into b, of size in
// all. A pending error comes before it, as on Linux. EAGAIN when there is none.
func (d *Datagram) RecvFrom(b []byte) (n, size int, from netip.AddrPort, err error) {
	n, size, _, from, err = d.RecvSegments(b)
	return n, size, from, err
}

// PeekFrom is RecvFrom and leaves the datagram there.
func (d *Datagram) PeekFrom(b []byte) (n, size int, from netip.AddrPort, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.takeErrorLocked(); e != 0 {
		return 0, 0, from, e
	}
	if d.head == len(d.queue) {
		if d.closed {
			return 0, 0, from, syscall.EBADF
		}
		return 0, 0, from, syscall.EAGAIN
	}
	size = d.nextLocked()
	m := &d.queue[d.head]
	return copy(b, m.p.Bytes()[:size]), size, m.from, nil
}

// NextSize returns the size of the oldest datagram, 0 without one.
func (d *Datagram) NextSize() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.head == len(d.queue) {
		return 0
	}
	return d.nextLocked()
}

// nextLocked is the size of the oldest datagram, which may have come together
// with others.
func (d *Datagram) nextLocked() int {
	m := &d.queue[d.head]
	if m.size > 0 {
		return min(m.size, m.p.Len())
	}
	return m.p.Len()
}

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

// Ready returns what could be done without waiting; sending always can.
func (d *Datagram) Ready() Ready {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := ReadyOut
	if d.head < len(d.queue) {
		r |= ReadyIn
	}
	if d.err != 0 {
		r |= ReadyErr
	}
	if d.closed {
		r |= ReadyHup | ReadyIn
	}
	return r
}

// LocalAddr returns the address the socket is bound to; for a connected one
// the address that its datagrams come from.
func (d *Datagram) LocalAddr() netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.remote.IsValid() && d.local.Addr().IsUnspecified() {
		return netip.AddrPortFrom(d.route.src, d.local.Port())
	}
	return d.local
}

// RemoteAddr returns the connected peer, invalid when there is none.
func (d *Datagram) RemoteAddr() netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remote
}

// Close gives the port back and drops what was not read.
func (d *Datagram) Close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	if d.bound {
		d.table.remove(d, d.local.Port())
	}
	for _, m := range d.queue[d.head:] {
		d.stack.memory.Return(m.p.Memory())
		m.p.Put()
	}
	d.queue, d.head, d.bytes = nil, 0, 0
	d.mu.Unlock()
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
	drops := &d.stack.stats.UDP.Drop
	if d.ping {
		drops = &d.stack.stats.Ping.Drop
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		drops[DropNoSocket].inc()
		return
	}
	room := d.limit - d.bytes
	if size > 0 {
		var lost int
		if payload, lost = fitting(payload, size, room); lost > 0 {
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
	cost := len(payload) + perDatagram*datagrams(len(payload), size)
	if cost > room {
		d.mu.Unlock()
		drops[DropQueueFull].inc()
		return
	}
	if !d.stack.memory.Take(pkt.Memory(len(payload))) {
		d.mu.Unlock()
		drops[DropMemory].Add(uint64(datagrams(len(payload), size)))
		return
	}
	if d.head > 64 && d.head > len(d.queue)/2 {
		n := copy(d.queue, d.queue[d.head:])
		clear(d.queue[n:])
		d.queue, d.head = d.queue[:n], 0
	}
	d.queue = append(d.queue, received{pkt.From(payload), size, from, p.dst})
	d.bytes += cost
	d.mu.Unlock()
	d.waiters.Wake(ReadyIn)
}

// inputError makes an ICMP error about one of our datagrams pending. Only
// connected sockets are told, and only of hard errors, as Linux does without
// IP_RECVERR (RFC 1122 §4.1.3.3).
func (d *Datagram) inputError(to netip.AddrPort, e icmpError) {
	d.mu.Lock()
	connected := d.remote.IsValid() && d.remote.Addr() == to.Addr() && (d.ping || d.remote.Port() == to.Port())
	if connected && e.hard && !d.closed {
		d.err = e.errno
	}
	d.mu.Unlock()
	if connected && e.hard {
		d.waiters.Wake(ReadyErr | ReadyIn)
	}
}

// fits scores how well the socket matches a packet: 0 not at all, a connected
// one best.
func (d *Datagram) fits(local, remote netip.AddrPort, in *Interface) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.oif != nil && in != nil && d.oif != in && !in.loopback {
		return 0
	}
	n := accepts(d.local.Addr(), d.both, local.Addr())
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
