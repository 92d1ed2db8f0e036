package stack

// This file owns the extension headers that programs send and receive through
// datagram sockets (RFC 3542 §6 to §9): those that stay with a socket or go with
// one datagram, and what of the headers of a received datagram is kept for who
// asked. What may be sent, and in which order, is in headeroptions.go.

import (
	"iter"
	"net/netip"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// SetHeaderOptions gives all datagrams of the socket options and extension
// headers.
func (d *Datagram) SetHeaderOptions(o HeaderOptions) {
	d.mu.Lock()
	d.hdrs, d.route = o, route{} // the way may be another
	d.mu.Unlock()
}

// HeaderOptions returns what SetHeaderOptions has set.
func (d *Datagram) HeaderOptions() HeaderOptions {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hdrs
}

// protocol is the one of the socket's packets over IPv6.
func (d *Datagram) protocol() uint8 {
	switch {
	case d.raw != nil:
		return d.raw.proto
	case d.ping:
		return ipv6.ProtoICMPv6
	}
	return ipv4.ProtoUDP
}

// headersLocked returns the extension headers of one datagram: those it comes with
// take the place of all of the socket's, as on Linux.
func (d *Datagram) headersLocked(m *SendInfo) *ExtensionHeaders {
	if !m.Headers.none() {
		return &m.Headers
	}
	return d.hdrs.headers
}

// fillHeadersLocked gives a route the extension headers of one datagram.
func (d *Datagram) fillHeadersLocked(r *route, m *SendInfo) {
	r.opts = nil
	h := d.headersLocked(m)
	if h == nil || h.length() == 0 {
		return
	}
	r.opts, r.next = h.put(make([]byte, 0, h.length()), r.end(), d.protocol())
}

// withHeaders puts the route's extension headers in front of a transport header,
// and returns what to name in the fixed header. It takes p.
func (r *route) withHeaders(p *pkt.Buf, proto uint8) (*pkt.Buf, uint8) {
	if len(r.opts) == 0 {
		return p, proto
	}
	// They may be longer than the room in front.
	p = p.Whole()
	q := pkt.Get(len(r.opts) + p.Len())
	copy(q.Append(len(r.opts)), r.opts)
	copy(q.Append(p.Len()), p.Bytes())
	q.Csum, q.GSO, q.At = p.Csum, p.GSO, p.At
	p.Put()
	return q, r.next
}

// headersOfLocked returns what is to be kept of the IP header of a received
// packet: its options, or the number of its first extension header and all of
// them. nil: nothing.
func (d *Datagram) headersOfLocked(p *packet) []byte {
	if !p.dst.Is6() {
		return optionsOf(p)
	}
	if d.sets[DatagramKeepHeaders] == 0 {
		return nil
	}
	h := p.Network()
	n := len(h) - len(p.Transport())
	if n <= ipv6.HeaderLen {
		return nil
	}
	return append([]byte{h[6]}, h[ipv6.HeaderLen:n]...)
}

// ExtensionHeaders yields the extension headers that the datagram came with, in
// order, each with its number; none unless DatagramKeepHeaders is set.
func (a *Arrival) ExtensionHeaders() iter.Seq2[uint8, []byte] {
	return func(yield func(uint8, []byte) bool) {
		if len(a.headers) == 0 {
			return
		}
		next, b := a.headers[0], a.headers[1:]
		for len(b) >= 8 {
			n := 8
			if next != ipv6.ProtoFragment {
				n += 8 * int(b[1])
			}
			if n > len(b) || !yield(next, b[:n:n]) {
				return
			}
			next, b = b[0], b[n:]
		}
	}
}

// PathMTUNews tells of a datagram that was too long not to be fragmented
// (IPV6_RECVPATHMTU).
type PathMTUNews struct {
	To  netip.Addr
	MTU int
}

// TakePathMTUNews returns the latest once; ok is false without any.
func (d *Datagram) TakePathMTUNews() (n PathMTUNews, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pathNews == nil {
		return n, false
	}
	n, d.pathNews = *d.pathNews, nil
	return n, true
}

// preferLocked chooses the source again that findRoute has chosen, as the
// socket prefers (RFC 5014).
func (d *Datagram) preferLocked(r *route) {
	p := d.sets[DatagramPreferences]
	if p&(PreferTemporary|PreferPublic) == 0 || !r.dst.Is6() {
		return
	}
	c := d.stack.cfg.Load()
	if r.src == c.selectSource(r.dst, r.iface, r.nextHop) {
		r.src = c.selectSource6(r.dst, r.iface, r.nextHop, p&PreferPublic != 0)
	}
}

// What DatagramPreferences may be, with Linux's bits of IPV6_ADDR_PREFERENCES.
const (
	PreferTemporary = 1
	PreferPublic    = 2
	PreferCareOf    = 4 // there are no care-of addresses here, so all are equal
)
