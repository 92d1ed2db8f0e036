package stack

// This file owns how one datagram is sent: what sendmsg(2) may ask for it
// beside what the socket is set to, and the datagram that is put together from
// several calls (UDP_CORK, MSG_MORE).

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/udp"
)

// SendInfo is what SendMsg does otherwise than the socket is set to. Begin with
// NewSendInfo.
type SendInfo struct {
	// Source is the address to send from; unspecified lets the route choose,
	// invalid leaves it to the socket.
	// One of the other family than the datagram is EINVAL.
	Source    netip.Addr
	Interface *Interface // to leave by, nil as the route says
	TOS, Hops int16      // -1: as the socket is set
	DontFrag  int16      // IPV6_DONTFRAG, likewise
	Segment   int        // as SetSegmentSize, -1: what that has set
	More      bool       // MSG_MORE: part of a datagram, the rest follows
	DontRoute bool       // MSG_DONTROUTE
	Options   []byte     // IPv4 options in place of the socket's, nil: those
	// Nobody sends from 0.0.0.0 although the host may have an address: DHCP's
	// messages before there is one of theirs (RFC 2131 §4.1). IPv4 only.
	Nobody bool
	// Of IPv6: extension headers in place of the socket's; the flow label, 0: as
	// the socket is set; and IPV6_USE_MIN_MTU, -1: as the socket is set.
	Headers   ExtensionHeaders
	FlowLabel uint32
	MinMTU    int16
}

// NewSendInfo asks for nothing.
func NewSendInfo() SendInfo {
	return SendInfo{TOS: -1, Hops: -1, DontFrag: -1, Segment: -1, MinMTU: -1}
}

var plainSend = &SendInfo{TOS: -1, Hops: -1, DontFrag: -1, Segment: -1, MinMTU: -1}

// SendMsg is SendTo with what m asks for. Errors beside those of SendTo and
// SendSegments: for a source that is not ours ENETUNREACH, with IPv6 EINVAL.
func (d *Datagram) SendMsg(b []byte, to netip.AddrPort, m *SendInfo) error {
	d.mu.Lock()
	err := d.sendLocked(b, to, m)
	d.unlock()
	return err
}

// unlock releases mu, and then tells those who wait what was found out under it.
func (d *Datagram) unlock() {
	fresh := d.errs.fresh
	d.errs.fresh = false
	d.mu.Unlock()
	if fresh {
		d.waiters.Wake(ReadyErr)
	}
}

// sendLocked sends b to a peer, or keeps it for the rest of the datagram.
func (d *Datagram) sendLocked(b []byte, to netip.AddrPort, m *SendInfo) error {
	now := d.stack.clock.Now()
	if d.closed {
		return syscall.EBADF
	}
	if err := d.takeErrorLocked(); err != 0 {
		return err
	}
	if d.corked != nil {
		return d.corkLocked(now, b, m)
	}
	r, port, err := d.resolveLocked(now, to, m)
	if err != nil {
		return err
	}
	if !d.ping && (d.raw == nil || !d.raw.header) && (m.More || d.sets.on(DatagramCork)) {
		d.corked = &corked{route: r, port: port, info: *m}
		return d.corkLocked(now, b, m)
	}
	return d.emitLocked(now, &r, port, b, m)
}

// resolveLocked finds the way to an address, or to the connected peer.
func (d *Datagram) resolveLocked(now mono.Time, to netip.AddrPort, m *SendInfo) (r route, port uint16, err error) {
	r = d.route
	switch {
	case to.IsValid():
		if err := d.autobindLocked(to.Addr().Is4()); err != nil {
			return r, 0, err
		}
		if d.raw != nil {
			if err := d.raw.checkPort(to); err != nil {
				return r, 0, err
			}
		} else if to.Port() == 0 && !d.ping {
			return r, 0, syscall.EINVAL
		}
		if r, err = d.routeLocked(to.Addr(), m); m.Nobody && r.dst.Is4() {
			r.src = any4
		}
	case !d.remote.IsValid():
		return r, 0, syscall.EDESTADDRREQ
	default:
		to = d.remote
		own := m.Source.IsValid() || m.Interface != nil || m.DontRoute || len(m.Headers.Routing) > 0 || d.route.final.IsValid() && !m.Headers.none()
		if own || r.iface == nil || r.stale(d.stack, now) {
			r, err = d.routeLocked(to.Addr(), m)
			if err == syscall.EADDRNOTAVAIL && d.reselectLocked(m) {
				r, err = d.routeLocked(to.Addr(), m)
			}
			if err == nil && !own {
				d.route = r
				if !d.source.IsValid() && d.local.Addr().IsUnspecified() {
					d.source = r.src
					d.Narrow(r.src)
				}
			}
		}
	}
	return r, to.Port(), err
}

// emitLocked sends b as one datagram, or as several that travel together.
func (d *Datagram) emitLocked(now mono.Time, r *route, port uint16, b []byte, m *SendInfo) error {
	if d.raw != nil {
		return d.emitRawLocked(now, r, b, m)
	}
	hops, tos, df := d.applyLocked(r, m)
	if err := d.fillOptionsLocked(r, m); err != nil {
		return err
	}
	limit := 65535 - r.headerLen() - d.hdr
	if r.dst.Is6() {
		limit = 65535 - d.hdr - len(r.opts)
	}
	size := d.segSize
	if m.Segment >= 0 {
		size = m.Segment
	}
	if len(b) > limit || df && size == 0 && r.headerLen()+d.hdr+len(b) > r.mtu {
		if len(b) <= 65535 || r.dst.Is6() { // IPv4 on Linux looks at that first
			d.tooLongLocked(r, port)
		}
		return syscall.EMSGSIZE
	}
	if d.ping {
		return d.sendPingLocked(now, r, b, hops, tos, df)
	}
	if size > 0 {
		if err := checkSegments(r, len(b), size); err != nil {
			return err
		}
	}
	// Nobody here listens: no copy is made.
	r.loop = r.loop && d.stack.udp.held(port)
	var p *pkt.Buf
	switch {
	case size > 0 && len(b) > size && r.dst.Is6() && len(r.opts) > 0:
		// Devices that cut know of no extension headers.
		for at := 0; at < len(b); at += size {
			one := *r
			if err := d.stack.sendOne(now, &one, ipv4.ProtoUDP, hops, tos, df, d.oneLocked(r, port, b[at:min(at+size, len(b))])); err != nil {
				return err
			}
		}
		return nil
	case size > 0 && len(b) > size:
		p = newSegments(r, d.local.Port(), port, b, size)
		d.stack.stats.UDP.Output.Add(uint64((len(b) + size - 1) / size))
	default:
		p = d.oneLocked(r, port, b)
	}
	p.MarkTransport()
	return d.stack.sendOne(now, r, ipv4.ProtoUDP, hops, tos, df, p)
}

// oneLocked is one datagram, from its UDP header on.
func (d *Datagram) oneLocked(r *route, port uint16, b []byte) *pkt.Buf {
	n := udp.HeaderLen + len(b)
	p := pkt.Get(n)
	out := p.Append(n)
	udp.Put(out, d.local.Port(), port, len(b))
	copy(out[udp.HeaderLen:], b)
	udp.SetChecksum(out, r.src, r.end())
	d.stack.stats.UDP.Output.inc()
	p.MarkTransport()
	return p
}

// sendOne is send for a packet that nothing travels with.
func (s *Stack) sendOne(now mono.Time, r *route, proto, hops, tos uint8, df bool, p *pkt.Buf) error {
	tx := newTx(r.iface)
	err := s.send(now, tx, r, proto, hops, tos, df, p)
	if e := tx.done(); err == nil {
		err = e
	}
	return err
}

// corked is a datagram that is not complete. Where it goes, and how, is what
// its first part said.
type corked struct {
	route route
	port  uint16
	info  SendInfo
	buf   []byte
}

// corkLocked adds to the datagram under the cork, and sends it if that was the
// last part. What gets too long is dropped as a whole, as on Linux.
func (d *Datagram) corkLocked(now mono.Time, b []byte, m *SendInfo) error {
	c := d.corked
	if len(c.buf)+len(b) > 65535 {
		d.corked = nil
		return syscall.EMSGSIZE
	}
	c.buf = append(c.buf, b...)
	if m.More || d.sets.on(DatagramCork) {
		return nil
	}
	return d.uncorkLocked(now)
}

func (d *Datagram) uncorkLocked(now mono.Time) error {
	c := d.corked
	d.corked = nil
	if c.route.stale(d.stack, now) {
		r, err := d.routeLocked(c.route.end(), &c.info)
		if err != nil {
			return err
		}
		c.route = r
	}
	return d.emitLocked(now, &c.route, c.port, c.buf, &c.info)
}
