package stack

// This file owns raw IP sockets (raw(7), RFC 3542 §3): a Datagram that has an IP
// protocol in the place of a port. It is given a copy of every packet of its
// protocol that is for this host, beside what the protocol itself makes of it;
// one of AF_INET with the IP header, one of AF_INET6 without. As long as there
// is none a packet costs one atomic load.

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// protoRaw is IPPROTO_RAW: a socket that only sends, headers included.
const protoRaw = 255

// rawSide is what a raw socket has beside a Datagram; guarded by its mu, but
// for proto and v6, which never change.
type rawSide struct {
	proto  uint8
	v6     bool
	header bool // what is sent begins with the IP header (IP_HDRINCL)
	// checksum is where in what is sent and received over IPv6 a checksum is,
	// -1: nowhere (IPV6_CHECKSUM).
	checksum int
	// filter has a bit for each type of ICMP that is not wanted: of IPv4's only
	// the first 32 (ICMP_FILTER, ICMP6_FILTER).
	filter [8]uint32
}

// rawSockets are all raw sockets. Immutable.
type rawSockets struct{ list []*Datagram }

// rawPointer holds them, nil for none.
type rawPointer struct{ atomic.Pointer[rawSockets] }

// NewRaw makes a raw socket for an IP protocol.
func (s *Stack) NewRaw(proto uint8, v6 bool) (*Datagram, error) {
	r := &rawSide{proto: proto, v6: v6, header: proto == protoRaw, checksum: -1}
	if v6 && proto == ipv6.ProtoICMPv6 {
		r.checksum = icmpChecksumAt // RFC 3542 §3.1
	}
	d, err := s.newDatagram(&Datagram{raw: r})
	if err != nil {
		return nil, err
	}
	a := any4
	if v6 {
		a = any6
	}
	// As Linux shows it: the protocol in the place of a port.
	d.local, d.bound = netip.AddrPortFrom(a, uint16(proto)), true
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	s.setRawLocked(append(slices.Clone(s.raws.list()), d))
	return d, nil
}

// icmpChecksumAt is where an ICMP message has its checksum.
const icmpChecksumAt = 2

func (t *rawPointer) list() []*Datagram {
	if r := t.Load(); r != nil {
		return r.list
	}
	return nil
}

func (s *Stack) setRawLocked(list []*Datagram) {
	if len(list) == 0 {
		s.raws.Store(nil)
		return
	}
	s.raws.Store(&rawSockets{list})
}

// forgetRaw takes a closed socket out of the list.
func (s *Stack) forgetRaw(d *Datagram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setRawLocked(slices.DeleteFunc(slices.Clone(s.raws.list()), func(o *Datagram) bool { return o == d }))
}

// bindRawLocked sets the address whose packets the socket receives and that it
// sends from; it may be called again, until the socket is connected.
func (d *Datagram) bindRawLocked(a netip.Addr) error {
	if d.remote.IsValid() {
		return syscall.EINVAL
	}
	d.local = netip.AddrPortFrom(a.WithZone(""), uint16(d.raw.proto))
	d.route = route{}
	return nil
}

// takesRawLocked reports whether the socket is for packets of a protocol from
// remote to local.
func (d *Datagram) takesRawLocked(proto uint8, local, remote netip.Addr, in *Interface) bool {
	own := d.local.Addr()
	if d.remote.IsValid() {
		if d.remote.Addr() != remote {
			return false
		}
		if d.source.IsValid() {
			own = d.source.WithZone("") // as Linux, where Connect binds
		}
	}
	return !d.closed && d.raw.proto == proto && d.raw.v6 == local.Is6() && (own.IsUnspecified() || own == local) &&
		(d.oif == nil || in == nil || d.oif == in)
}

// input gives a packet to the sockets that want it, and reports whether there is
// any. It borrows p.
func (t *rawSockets) input(p packet) (took bool) {
	from := p.src
	if from.Is6() && from.IsLinkLocalUnicast() {
		from = from.WithZone(p.iface.name)
	}
	for _, d := range t.list {
		d.mu.Lock()
		takes := d.takesRawLocked(p.proto, p.dst, p.src, p.iface)
		raw := *d.raw
		d.mu.Unlock()
		if !takes || p.dst.IsMulticast() && !d.hears(p.dst, p.src, p.iface) {
			continue
		}
		took = true
		payload, st := p.Bytes(), &d.stack.stats.Raw
		switch {
		case raw.refuses(payload):
			continue
		case !raw.v6:
			payload = p.Network()
		case raw.checksum >= 0 && !p.vouched() && csum.Sum(payload, csum.Pseudo(p.src, p.dst, p.proto, len(payload))) != 0xffff:
			st.Drop[DropBadChecksum].inc()
			continue
		}
		st.Input.inc()
		d.input(p, payload, 0, netip.AddrPortFrom(from, 0))
	}
	return took
}

// vouched reports that a packet may lack a checksum, because a device has
// verified it or it has not left the host. Other protocols always have theirs.
func (p *packet) vouched() bool {
	return p.Csum != pkt.CsumNone && (p.proto == ipv4.ProtoTCP || p.proto == ipv4.ProtoUDP)
}

// refuses reports whether the socket's filter of ICMP types is against a
// message.
func (r *rawSide) refuses(message []byte) bool {
	if len(message) == 0 {
		return false
	}
	typ := message[0]
	switch {
	case !r.v6 && r.proto == ipv4.ProtoICMP:
		return typ < 32 && r.filter[0]&(1<<typ) != 0
	case r.v6 && r.proto == ipv6.ProtoICMPv6:
		return r.filter[typ/32]&(1<<(typ%32)) != 0
	}
	return false
}

// inputError gives an ICMP error to the sockets that may have sent the quoted
// packet, and reports whether there is any.
func (t *rawSockets) inputError(s *Stack, q icmp.Quoted, e icmpError) (told bool) {
	for _, d := range t.list {
		d.mu.Lock()
		mine := d.takesRawLocked(q.Protocol, q.Src, q.Final, e.iface)
		header := d.raw.header
		d.mu.Unlock()
		if !mine {
			continue
		}
		told = true
		if e.tooBig && d.acceptsPathMTU(q.Dst) {
			s.pathMTUChanged(q, e)
		}
		data := q.Transport
		if header {
			data = slices.Concat(q.Header, q.Transport)
		}
		d.inputError(netip.AddrPortFrom(q.Final, 0), e, data)
	}
	return told
}

// checkRawPort: RFC 3542 has nothing to say of the port that an address of IPv6
// comes with; Linux wants it to be 0 or the protocol.
func (r *rawSide) checkPort(to netip.AddrPort) error {
	if to.IsValid() && to.Addr().Is6() && to.Port() != 0 && (to.Port() > 255 || r.proto != protoRaw && to.Port() != uint16(r.proto)) {
		return syscall.EINVAL
	}
	return nil
}

// emitRawLocked sends b as one packet.
func (d *Datagram) emitRawLocked(now mono.Time, r *route, b []byte, m *SendInfo) error {
	hops, tos, df := d.applyLocked(r, m)
	if d.raw.header {
		return d.emitHeaderLocked(now, r, b)
	}
	if err := d.fillOptionsLocked(r, m); err != nil {
		return err
	}
	limit := 65535 - r.headerLen()
	if r.dst.Is6() {
		limit = 65535 - len(r.opts)
	}
	if len(b) > limit || df && r.headerLen()+len(b) > r.mtu {
		if len(b) <= 65535 {
			d.tooLongLocked(r, 0)
		}
		return syscall.EMSGSIZE
	}
	if d.checkICMP() == nil && len(b) < 2 {
		return syscall.EFAULT // Linux looks for type and code
	}
	if c := d.raw.checksum; r.dst.Is6() && c >= 0 && c+2 > len(b) {
		return syscall.EINVAL // no room for it
	}
	p := pkt.From(b)
	if c := d.raw.checksum; r.dst.Is6() && c >= 0 {
		t := p.Bytes()
		t[c], t[c+1] = 0, 0
		binary.BigEndian.PutUint16(t[c:], csum.Checksum(t, csum.Pseudo(r.src, r.end(), d.raw.proto, len(t))))
	}
	p.MarkTransport()
	d.stack.stats.Raw.Output.inc()
	return d.stack.sendOne(now, r, d.raw.proto, hops, tos, df, p)
}

// emitHeaderLocked sends a packet that begins with its IP header, to where the
// route leads, whatever the header says. Of IPv4's header the total length and
// the checksum are filled in, and the source and the identifier where they are
// 0 (raw(7)); of IPv6's nothing. Departs from Linux, which sends any version
// number.
func (d *Datagram) emitHeaderLocked(now mono.Time, r *route, b []byte) error {
	hl, version := ipv4.HeaderLen, byte(4)
	if r.dst.Is6() {
		hl, version = ipv6.HeaderLen, 6
	}
	switch {
	case len(b) > r.iface.MTU():
		d.tooLongLocked(r, 0)
		return syscall.EMSGSIZE
	case len(b) < hl || b[0]>>4 != version:
		return syscall.EINVAL
	}
	if version == 4 {
		if hl = int(b[0]&0xf) * 4; hl < ipv4.HeaderLen || hl > len(b) {
			return syscall.EINVAL
		}
	}
	p := pkt.From(b)
	p.MarkNetwork()
	if h := p.Bytes()[:hl]; version == 4 {
		binary.BigEndian.PutUint16(h[2:], uint16(len(b)))
		if h[4] == 0 && h[5] == 0 {
			binary.BigEndian.PutUint16(h[4:], uint16(d.stack.ids.next(d.stack, r.src, r.dst, h[9])))
		}
		if [4]byte(h[12:16]) == ([4]byte{}) {
			src := r.src.As4()
			copy(h[12:], src[:])
		}
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], csum.Checksum(h, 0))
	}
	d.stack.stats.Raw.Output.inc()
	tx := newTx(r.iface)
	err := r.iface.transmit(now, tx, r, p)
	if e := tx.done(); err == nil {
		err = e
	}
	return err
}

// SetHeaderIncluded says that what is sent begins with the IP header (IP_HDRINCL,
// IPV6_HDRINCL). ENOPROTOOPT when the socket is not raw.
func (d *Datagram) SetHeaderIncluded(on bool) error {
	if d.raw == nil {
		return syscall.ENOPROTOOPT
	}
	d.mu.Lock()
	d.raw.header = on
	d.mu.Unlock()
	return nil
}

// HeaderIncluded returns what SetHeaderIncluded set.
func (d *Datagram) HeaderIncluded() (bool, error) {
	if d.raw == nil {
		return false, syscall.ENOPROTOOPT
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw.header, nil
}

// SetChecksumOffset says where in the packets of a raw socket of IPv6 a checksum
// is to be filled in and verified (IPV6_CHECKSUM, RFC 3542 §3.1); below 0:
// nowhere. EINVAL for an odd one.
func (d *Datagram) SetChecksumOffset(n int) error {
	switch {
	case d.raw == nil || !d.raw.v6:
		return syscall.ENOPROTOOPT
	case n > 0 && n%2 != 0:
		return syscall.EINVAL
	}
	d.mu.Lock()
	d.raw.checksum = max(n, -1)
	d.mu.Unlock()
	return nil
}

// ChecksumOffset returns what SetChecksumOffset set.
func (d *Datagram) ChecksumOffset() (int, error) {
	if d.raw == nil || !d.raw.v6 {
		return 0, syscall.ENOPROTOOPT
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw.checksum, nil
}

// SetICMPFilter keeps types of ICMP from a raw socket, those whose bit is set
// (ICMP_FILTER, RFC 3542 §3.2): of IPv4 the first 32. Errors: ENOPROTOOPT when
// the socket is not raw, EOPNOTSUPP when its protocol is not ICMP of its family.
func (d *Datagram) SetICMPFilter(blocked [8]uint32) error {
	if err := d.checkICMP(); err != nil {
		return err
	}
	d.mu.Lock()
	d.raw.filter = blocked
	d.mu.Unlock()
	return nil
}

// ICMPFilter returns what SetICMPFilter set.
func (d *Datagram) ICMPFilter() ([8]uint32, error) {
	if err := d.checkICMP(); err != nil {
		return [8]uint32{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw.filter, nil
}

func (d *Datagram) checkICMP() error {
	switch {
	case d.raw == nil:
		return syscall.ENOPROTOOPT
	case d.raw.v6 && d.raw.proto != ipv6.ProtoICMPv6, !d.raw.v6 && d.raw.proto != ipv4.ProtoICMP:
		return syscall.EOPNOTSUPP
	}
	return nil
}
