package stack

// This file owns the extension headers that programs send and receive through
// datagram sockets (RFC 3542 §6 to §9): hop-by-hop and destination options that
// stay with a socket or go with one datagram, and what of the headers of a
// received datagram is kept for who asked. Routing headers are received only:
// the type that programs could send is abolished (RFC 5095).

import (
	"iter"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// ExtensionHeaders are those of a packet that is sent, each whole or nil. Their
// first byte, the next header, is filled in; their options are not looked at.
type ExtensionHeaders struct {
	HopByHop    []byte // IPV6_HOPOPTS
	Destination []byte // IPV6_DSTOPTS: for the destination alone
}

// length is that of all of them, in bytes.
func (h *ExtensionHeaders) length() int { return len(h.HopByHop) + len(h.Destination) }

// ParseOptionsHeader returns the header of options at the start of b, without
// what follows. EINVAL: b is shorter than it says.
func ParseOptionsHeader(b []byte) ([]byte, error) {
	if len(b) < 2 || len(b) < 8+8*int(b[1]) {
		return nil, syscall.EINVAL
	}
	return b[: 8+8*int(b[1]) : 8+8*int(b[1])], nil
}

// SetExtensionHeader gives all datagrams of the socket that go over IPv6 a
// header of options, hop-by-hop (IPV6_HOPOPTS) or for the destination
// (IPV6_DSTOPTS); an empty one takes it away. EINVAL for one that is not of as
// many bytes as it says, at most 2040.
func (d *Datagram) SetExtensionHeader(hopByHop bool, b []byte) error {
	var h []byte
	if len(b) > 0 {
		var err error
		if h, err = ParseOptionsHeader(b); err != nil || len(b)%8 != 0 || len(b) > 8*255 {
			return syscall.EINVAL
		}
		h = append([]byte(nil), h...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var all ExtensionHeaders
	if d.headers != nil {
		all = *d.headers
	}
	if hopByHop {
		all.HopByHop = h
	} else {
		all.Destination = h
	}
	d.headers = nil
	if all.length() > 0 {
		d.headers = &all
	}
	return nil
}

// ExtensionHeader returns what SetExtensionHeader has set.
func (d *Datagram) ExtensionHeader(hopByHop bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.headers == nil:
		return nil
	case hopByHop:
		return append([]byte(nil), d.headers.HopByHop...)
	}
	return append([]byte(nil), d.headers.Destination...)
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

// fillHeadersLocked gives a route the extension headers of one datagram: those
// it comes with take the place of all of the socket's, as on Linux.
func (d *Datagram) fillHeadersLocked(r *route, m *SendInfo) {
	r.opts = nil
	h := d.headers
	if m.Headers.length() > 0 {
		h = &m.Headers
	}
	if h == nil {
		return
	}
	// RFC 8200 §4.1: hop-by-hop first.
	r.opts = append(append(make([]byte, 0, h.length()), h.HopByHop...), h.Destination...)
	r.next = ipv6.ProtoDestOpts
	at := 0
	if n := len(h.HopByHop); n > 0 {
		r.next = ipv6.ProtoHopByHop
		if len(h.Destination) > 0 {
			r.opts[0], at = ipv6.ProtoDestOpts, n
		}
	}
	r.opts[at] = d.protocol()
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
	q.Csum, q.At = p.Csum, p.At
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
