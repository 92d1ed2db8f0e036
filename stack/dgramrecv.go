package stack

// This file owns the receive queue of a datagram socket: what is kept of each
// datagram beside its bytes, and how it is read. What the kernel puts into
// control messages is kept of every datagram, since it is a few bytes in a
// queue; package socket makes messages of it for those who ask.

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// received is one datagram in a receive queue, or with size not 0 several of
// that size, the last perhaps shorter; p starts at the payload, and knows when
// it arrived.
type received struct {
	p    *pkt.Buf
	size int
	from netip.AddrPort
	to   netip.Addr
	in   *Interface
	lost uint32 // datagrams that the queue had no room for before
	flow uint32 // of IPv6: traffic class and flow label
	hops uint8
	tos  uint8
	opts []byte // what headersOfLocked returns
}

// Arrival is what is known of a datagram that was received, beside its bytes.
type Arrival struct {
	From netip.AddrPort
	// To is the address that it was sent to, perhaps a group.
	To        netip.Addr
	Interface *Interface
	Size      int    // whole length
	Segment   int    // length of each but the last, if it is several, else 0
	Hops, TOS uint8  // TTL or hop limit, DS and ECN field, of the IP header
	FlowInfo  uint32 // of IPv6: traffic class and flow label
	Lost      uint32 // datagrams that the queue has had no room for
	Options   []byte // IPv4 options, with this host in those that record

	at mono.Time
	// headers are what headersOfLocked has kept of IPv6.
	headers []byte
}

// Time is when the frame was read from its device, or now if it came from none.
func (a *Arrival) Time() time.Time {
	if a.at == 0 || a.Interface == nil {
		return time.Now()
	}
	return a.Interface.stack.wall(a.at)
}

// Local is the address of this host that an answer would come from: To, unless
// that is a group or a broadcast address.
func (a *Arrival) Local() netip.Addr {
	s := a.Interface.stack
	c := s.cfg.Load()
	if c.local(a.To, s.lo) != nil && !c.isBroadcast(a.To, nil) {
		return a.To
	}
	return c.selectSource(a.From.Addr().WithZone(""), a.Interface, a.From.Addr().WithZone(""))
}

// RecvFrom takes the oldest datagram: n bytes of it fit into b, of size in
// all. A pending error comes before it, as on Linux. EAGAIN when there is none.
func (d *Datagram) RecvFrom(b []byte) (n, size int, from netip.AddrPort, err error) {
	n, size, _, from, err = d.RecvSegments(b)
	return n, size, from, err
}

// RecvSegments is RecvFrom for those who asked for several datagrams at once:
// the first has seg bytes, as have all but the last; seg is 0 when there is
// only one. Those that came by themselves are put together only as far as they
// fit b.
func (d *Datagram) RecvSegments(b []byte) (n, size, seg int, from netip.AddrPort, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.readableLocked(); err != nil {
		return 0, 0, 0, from, err
	}
	m := d.queue[d.head]
	n, size, seg = d.takeLocked(b, &m)
	return n, size, seg, m.from, nil
}

// RecvMsg is RecvSegments, and tells into a what else is known of it. With peek
// the datagram stays.
func (d *Datagram) RecvMsg(b []byte, peek bool, a *Arrival) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.readableLocked(); err != nil {
		return 0, err
	}
	m := d.queue[d.head]
	*a = Arrival{From: m.from, To: m.to, Interface: m.in, Hops: m.hops, TOS: m.tos, FlowInfo: m.flow, Lost: m.lost, at: m.p.At}
	if m.to.Is4() {
		a.Options = m.opts
	} else {
		a.headers = m.opts
	}
	if peek {
		a.Size = d.nextLocked()
		return copy(b, m.p.Bytes()[:a.Size]), nil
	}
	n, a.Size, a.Segment = d.takeLocked(b, &m)
	return n, nil
}

// PeekFrom is RecvFrom and leaves the datagram there.
func (d *Datagram) PeekFrom(b []byte) (n, size int, from netip.AddrPort, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.readableLocked(); err != nil {
		return 0, 0, from, err
	}
	size = d.nextLocked()
	m := &d.queue[d.head]
	return copy(b, m.p.Bytes()[:size]), size, m.from, nil
}

// readableLocked returns why there is nothing to be read.
func (d *Datagram) readableLocked() error {
	switch e := d.takeErrorLocked(); {
	case e != 0:
		return e
	case d.head < len(d.queue):
		return nil
	case d.closed:
		return syscall.EBADF
	}
	return syscall.EAGAIN
}

// takeLocked takes the oldest entry, m, or one datagram of it.
func (d *Datagram) takeLocked(b []byte, m *received) (n, size, seg int) {
	if m.size > 0 && !d.together {
		n, size = d.takeOneLocked(b)
		return n, size, 0
	}
	d.popLocked()
	n, size, seg = copy(b, m.p.Bytes()), m.p.Len(), m.size
	m.p.Put()
	if size <= seg {
		seg = 0 // the last one, the others were taken one by one
	}
	if seg == 0 && d.together && n == size && n > 0 {
		n, seg = d.joinLocked(b, n, m)
		size = n
	}
	return n, size, seg
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
