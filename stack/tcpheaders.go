package stack

// This file owns the IP options and extension headers of connections. A
// connection keeps its own in the core (tcp.Below), since hardly any has some and
// the size of its segments depends on them; what a half-open one has to answer
// with is in a table beside it.
//
// As on Linux a connection that was accepted answers over IPv4 with the options
// of its SYN, those that record (RFC 1122 §4.2.3.8; source routes do not come so
// far), and over IPv6 has the headers of its listener. Packets with options are
// sent one by one: each has its own record, and devices that cut know of none.

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/tcp"
)

// connHeaders is what a connection's packets have: a tcp.Below. Immutable.
type connHeaders struct {
	HeaderOptions
	wire []byte     // of IPv6: the headers as they are sent, first of them next
	next uint8      // of IPv6
	via  netip.Addr // with a routing header: where packets are sent
	n    int        // how much longer they make a packet
	// label is the peer's flow label, which is reflected; 0: one of our own.
	label uint32
}

// Len implements tcp.Below.
func (h *connHeaders) Len() int { return h.n }

// newConnHeaders returns what packets to remote have of o, and their label if that
// is not 0; nil for nothing. What is of the other family is only kept.
func newConnHeaders(o HeaderOptions, label uint32, remote netip.Addr) *connHeaders {
	if len(o.opts) == 0 && o.headers == nil && label == 0 {
		return nil
	}
	h := &connHeaders{HeaderOptions: o, label: label}
	switch {
	case remote.Is4():
		h.n = len(o.opts)
	case o.headers != nil && o.headers.length() > 0:
		h.wire, h.next = o.headers.put(make([]byte, 0, o.headers.length()), remote.WithZone(""), ipv4.ProtoTCP)
		h.n = len(h.wire)
		if via := o.headers.via(remote); via != remote {
			h.via = via.WithZone("")
		}
	}
	return h
}

// to is where packets to remote are sent.
func (h *connHeaders) to(remote netip.Addr) netip.Addr {
	if h != nil && h.via.IsValid() {
		return h.via
	}
	return remote
}

// fill gives a route to h.to(remote) what one packet has.
func (h *connHeaders) fill(s *Stack, now mono.Time, r *route, remote netip.Addr) {
	if h == nil {
		return
	}
	r.withLabel(h.label)
	switch {
	case h.n == 0:
	case r.dst.Is4():
		r.setOptions(s, now, h.opts)
	default:
		r.opts, r.next = h.wire, h.next
		if h.via.IsValid() {
			r.final = remote
		}
	}
}

// headersLocked returns what the connection's packets have, nil for nothing.
func (c *TCPConn) headersLocked() *connHeaders {
	h, _ := c.core.Below().(*connHeaders)
	return h
}

// SetHeaderOptions changes what the connection's packets have from now on, and
// the size of its segments with it.
func (c *TCPConn) SetHeaderOptions(o HeaderOptions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return
	}
	label := uint32(0)
	if old := c.headersLocked(); old != nil {
		label = old.label
	}
	if h := newConnHeaders(o, label, c.id().remote.Addr()); h != nil {
		c.core.SetBelow(h)
	} else {
		c.core.SetBelow(nil)
	}
	c.path.gen-- // the way may be another
}

// HeaderOptions returns what SetHeaderOptions or DialOptions.Headers has set, or
// what a connection that was accepted begins with.
func (c *TCPConn) HeaderOptions() HeaderOptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.headersLocked(); h != nil {
		return h.HeaderOptions
	}
	return HeaderOptions{}
}

// SetHeaderOptions sets what the connections of Dial begin with, and over IPv6
// those that are accepted, SYN-ACKs included.
func (l *TCPListener) SetHeaderOptions(o HeaderOptions) {
	l.mu.Lock()
	l.headers = o
	l.mu.Unlock()
}

// HeaderOptions returns what SetHeaderOptions set.
func (l *TCPListener) HeaderOptions() HeaderOptions {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.headers
}

// headersFor returns what the connection with a peer begins with that has sent
// something with syn.
func (l *TCPListener) headersFor(remote netip.Addr, syn fromSYN) *connHeaders {
	o := HeaderOptions{opts: syn.opts}
	if remote.Is6() {
		o = HeaderOptions{headers: l.HeaderOptions().headers}
	}
	return newConnHeaders(o, syn.label, remote)
}

// fromSYN is what the packets of a connection have because of a SYN.
type fromSYN struct {
	opts  []byte // of IPv4: those of the SYN that record
	label uint32 // of IPv6: the SYN's, if it is reflected
}

// fromSYN is that of p.
func (s *Stack) fromSYN(p *packet) (f fromSYN) {
	if opts := p.options4(); len(opts) > 0 {
		f.opts = ipv4.Answer(nil, opts)
	}
	f.label = s.reflected(ReflectConnections, p)
	return f
}

// synOptions are those of SYNs whose handshake is not done. Few half-open
// connections have any; the memory budget is charged for them.
type synOptions struct {
	n atomic.Int32 // entries of m
	m sync.Map     // *synEntry to fromSYN
}

// synOptionsCost is what one is charged.
const synOptionsCost = 160

func (t *synOptions) set(s *Stack, e *synEntry, f fromSYN) {
	if len(f.opts) == 0 && f.label == 0 || !s.memory.Take(synOptionsCost) {
		return // without memory the answers go without
	}
	t.m.Store(e, f)
	t.n.Add(1)
}

func (t *synOptions) of(e *synEntry) fromSYN {
	if t.n.Load() == 0 {
		return fromSYN{}
	}
	x, _ := t.m.Load(e)
	f, _ := x.(fromSYN)
	return f
}

func (t *synOptions) forget(s *Stack, e *synEntry) {
	if t.n.Load() == 0 {
		return
	}
	if _, had := t.m.LoadAndDelete(e); had {
		t.n.Add(-1)
		s.memory.Return(synOptionsCost)
	}
}

// headers returns what the entry's SYN-ACKs have.
func (e *synEntry) headers() *connHeaders {
	return e.listener.headersFor(e.id().remote.Addr(), e.table().synOptions.of(e))
}

// withBelow gives a configuration what a connection begins with.
func (h *connHeaders) withBelow(cfg *tcp.Config) {
	if h != nil {
		cfg.Below = h
	}
}
