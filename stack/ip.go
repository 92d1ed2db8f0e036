package stack

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/frag"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/neigh"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

const (
	defaultTTL = 64
	minMTU4    = 68 // RFC 791 §3.2: every module must forward 68 bytes
)

// reassemblyTimeout: Linux's 30 s for IPv4, RFC 8200 §4.5's 60 s for IPv6.
var reassemblyTimeout = [2]time.Duration{inet: 30 * time.Second, inet6: 60 * time.Second}

// packet is what the upper layers get to know of an IP packet. The buffer's
// front is at the transport header.
type packet struct {
	*pkt.Buf
	iface    *Interface
	src, dst netip.Addr
	proto    uint8
	hops     uint8 // TTL or hop limit as received
	tos      uint8
	group    bool // to a multicast or broadcast IP address
	// fragmented: put together from fragments, or an atomic one.
	fragmented bool
}

// inputIPv4 is the step from Ethernet to IPv4. It takes p.
func (i *Interface) inputIPv4(b *batch, p *pkt.Buf) {
	st := &i.stack.stats.IPv4
	st.Input.inc()
	h, n, drop := parseIPv4(p)
	c := i.stack.cfg.Load()
	if drop != ipv4.DropNone {
		st.Parse[drop].inc()
		if drop == ipv4.DropOptions && i.acceptIPv4(c, h, h.Dst().IsMulticast() || c.isBroadcast(h.Dst(), i), p.Looped) == DropNone {
			p.Trim(h.TotalLen())
			p.MarkNetwork()
			i.badOptions(b.now, packet{Buf: p}, ipv4.BadOption(h.Options()))
		}
		p.Put()
		return
	}
	p.Trim(n)
	p.MarkNetwork()
	dst := h.Dst()
	group := dst.IsMulticast() || c.isBroadcast(dst, i)
	if d := i.acceptIPv4(c, h, group, p.Looped); d != DropNone {
		st.Drop[d].inc()
		p.Put()
		return
	}
	hl := h.Len()
	p.Pull(hl)
	if h.MF() || h.Offset() != 0 {
		st.Fragments.inc()
		k := frag.Key{Src: h.Src(), Dst: dst, ID: uint32(h.ID()), Proto: h.Protocol()}
		if p = i.reassemble(inet, b.now, k, p, hl, h.Offset(), h.MF()); p == nil {
			return
		}
		ipv4.Reassembled(p)
		if h, drop = ipv4.Parse(p.Bytes()); drop != ipv4.DropNone {
			st.Drop[DropReassembly].inc()
			p.Put()
			return
		}
		p.Pull(h.Len())
	}
	up := packet{Buf: p, iface: i, src: h.Src(), dst: dst, proto: h.Protocol(), hops: h.TTL(), tos: h.TOS(), group: group}
	if h.Len() > ipv4.HeaderLen && !i.inputOptions(b.now, up, h) {
		p.Put()
		return
	}
	i.stack.deliver(b, up)
}

// acceptIPv4 decides whether a packet is for this host (RFC 1122 §3.2.1.3).
func (i *Interface) acceptIPv4(c *config, h ipv4.Header, group, looped bool) Drop {
	src, dst := h.Src(), h.Dst()
	// RFC 1122 §3.2.1.3 (a), (b), (g): 127/8 is on no wire, 0/8 names nobody.
	switch {
	case !i.loopback && src.IsLoopback() && !i.localnet:
		return DropMartian
	case !i.loopback && dst.IsLoopback(), dst.As4()[0] == 0:
		return DropMartianDst
	}
	// A packet from one of our own addresses did not come from us, unless it is
	// the copy of a multicast; a source of 0.0.0.0 is only good for broadcasts
	// and multicasts (DHCP, IGMP).
	if c.isBroadcast(src, i) || (!i.loopback && !looped && c.byAddr[src] != nil) || src.As4()[0] == 0 && (!src.IsUnspecified() || !group) {
		return DropMartian
	}
	if i.rpFilter != RPFilterOff && !i.loopback && !looped && !src.IsUnspecified() && !i.reversePath(c, src) {
		return DropReversePath
	}
	if h.SourceRoute() {
		return DropSourceRoute // RFC 7126 §4.3, §4.4: dropped by default, as Linux
	}
	if group {
		if dst.IsMulticast() && !i.member(dst, src) {
			return DropForeignIP
		}
		return DropNone
	}
	// RFC 1122 §3.3.6: a unicast packet inside a link-layer broadcast is not
	// a broadcast; Linux takes it for IPv4 all the same, but never answers.
	if a := c.local(dst, i); a == nil || a.state == addrTentative {
		return DropForeignIP
	}
	return DropNone
}

// reversePath reports whether a source is where the routes have it: behind this
// interface, or with RPFilterLoose behind any (RFC 3704 §2.2, §2.4).
func (i *Interface) reversePath(c *config, src netip.Addr) bool {
	m, err := c.lookup(src, netip.Addr{}, nil)
	return err == nil && (m.iface == i || i.rpFilter == RPFilterLoose)
}

// inputIPv6 is the step from Ethernet to IPv6. It takes p.
func (i *Interface) inputIPv6(b *batch, p *pkt.Buf) {
	st := &i.stack.stats.IPv6
	st.Input.inc()
	h, n, drop := parseIPv6(p)
	if drop == ipv6.DropNone && i.noIPv6() {
		st.Drop[DropForeignIP].inc()
		p.Put()
		return
	}
	if drop != ipv6.DropNone {
		st.Parse[drop].inc()
		p.Put()
		return
	}
	p.Trim(ipv6.HeaderLen + n)
	p.MarkNetwork()
	if d := i.acceptIPv6(i.stack.cfg.Load(), h, p.Looped); d != DropNone {
		st.Drop[d].inc()
		p.Put()
		return
	}
	chain, ok := i.walk(b.now, p)
	if !ok {
		return
	}
	fragmented := chain.Atomic
	if chain.HasFrag && chain.FragOffset == 0 && chain.Proto == ipv6.ProtoHopByHop {
		// RFC 8200 §4.1: behind a fragment header it stands in no better place
		// than behind another, though it comes first when all is put together.
		st.Parse[ipv6.DropHeaderOrder].inc()
		i.parameterProblem(b.now, p, ipv6.Problem{Code: icmp.CodeNextHeader6, Pointer: uint32(chain.ProtoAt)})
		p.Put()
		return
	}
	if chain.HasFrag {
		st.Fragments.inc()
		if p = i.fragmentIPv6(b.now, p, h, chain); p == nil {
			return
		}
		if h, drop = ipv6.Parse(p.Bytes()); drop != ipv6.DropNone {
			st.Drop[DropReassembly].inc()
			p.Put()
			return
		}
		if chain, ok = i.walk(b.now, p); !ok {
			return
		}
		if chain.HasFrag || chain.Atomic {
			// A fragment of a fragment; answered as Linux does.
			st.Drop[DropReassembly].inc()
			i.parameterProblem(b.now, p, ipv6.Problem{Code: icmp.CodeField6, Pointer: uint32(chain.FragHeaderAt)})
			p.Put()
			return
		}
		fragmented = true
	}
	p.Rewind()
	p.Pull(chain.Offset)
	i.stack.deliver(b, packet{Buf: p, iface: i, src: h.Src(), dst: h.Dst(), proto: chain.Proto, hops: h.HopLimit(),
		tos: h.TrafficClass(), group: h.Dst().IsMulticast(), fragmented: fragmented})
}

// flow is the traffic class and the flow label of an IPv6 packet.
func (p *packet) flow() uint32 {
	if !p.dst.Is6() {
		return 0
	}
	return binary.BigEndian.Uint32(p.Network()) & 0x0fffffff
}

// walk follows the extension headers. When they cannot be used it says so to
// the sender where that is due, takes p and returns false.
func (i *Interface) walk(now mono.Time, p *pkt.Buf) (ipv6.Chain, bool) {
	chain, problem, drop := i.stack.ipv6cfg.Headers.Walk(p.Network())
	if drop == ipv6.DropNone {
		return chain, true
	}
	i.stack.stats.IPv6.Parse[drop].inc()
	if problem.Report {
		i.parameterProblem(now, p, problem)
	}
	p.Put()
	return chain, false
}

// fragmentIPv6 hands a fragment to reassembly (RFC 8200 §4.5); it takes p and
// returns the datagram when it is whole.
func (i *Interface) fragmentIPv6(now mono.Time, p *pkt.Buf, h ipv6.Header, chain ipv6.Chain) *pkt.Buf {
	p.Rewind()
	p.Pull(chain.Offset)
	// The header that will stand before the data names what the fragment
	// header named; RestoreFragment undoes it.
	ipv6.PatchNextHeader(p.Network(), chain, chain.Proto)
	k := frag.Key{Src: h.Src(), Dst: h.Dst(), ID: chain.FragID}
	whole := i.reassemble(inet6, now, k, p, chain.FragHeaderAt, chain.FragOffset, chain.FragMore)
	if whole == nil {
		return nil
	}
	if d := ipv6.Reassembled(whole); d != ipv6.DropNone {
		i.stack.stats.IPv6.Parse[d].inc()
		whole.Put()
		return nil
	}
	return whole
}

func (i *Interface) acceptIPv6(c *config, h ipv6.Header, looped bool) Drop {
	src, dst := h.Src(), h.Dst()
	switch {
	case !i.loopback && dst.IsLoopback():
		return DropMartianDst // RFC 4291 §2.5.3
	case !i.loopback && !looped && dst.IsInterfaceLocalMulticast():
		return DropMartianDst // RFC 4291 §2.7: the scope is this interface, its neighbours are outside
	case src.Is4In6():
		// RFC 4291 §2.5.5.2: they stand for IPv4 in interfaces to programs. On a
		// wire they would pass for the IPv4 address; Linux drops them as well.
		return DropMartian
	case !i.loopback && src.IsLoopback() && !i.localnet:
		return DropMartian
	}
	// One of our own, but not of another link.
	if a := c.local(src, i); a != nil && !i.loopback && !looped && a.state != addrTentative {
		return DropMartian
	}
	if dst.IsMulticast() {
		if !i.member(dst, src) {
			return DropForeignIP
		}
		return DropNone
	}
	// A tentative address still takes neighbour discovery (RFC 4862 §5.4);
	// everything else is refused when it gets to its protocol.
	if a := c.local(dst, i); a == nil {
		return DropForeignIP
	}
	return DropNone
}

// reassemble gives a fragment to the family's table and returns the whole
// datagram if this was the last piece. It takes p.
func (i *Interface) reassemble(f int, now mono.Time, k frag.Key, p *pkt.Buf, hdr, offset int, more bool) *pkt.Buf {
	counts, done := &i.stack.stats.IPv4.Frag, &i.stack.stats.IPv4.Reassembled
	if f == inet6 {
		counts, done = &i.stack.stats.IPv6.Frag, &i.stack.stats.IPv6.Reassembled
	}
	p.GSO = pkt.GSO{} // nothing that could be said of a piece is true of the whole
	if i.stack.memory.Full() {
		counts[frag.DropMemory].inc()
		p.Put()
		return nil
	}
	i.enter(now)
	whole, drop := i.frags[f].Add(now, k, p, hdr, offset, more)
	i.leave()
	if drop != frag.DropNone {
		counts[drop].inc()
	}
	if whole != nil {
		done.inc()
	}
	return whole
}

// reassemblyTimeoutLocked reports a datagram given up whose first fragment is
// at hand (RFC 792, RFC 8200 §4.5). It borrows first.
func (i *Interface) reassemblyTimeoutLocked(first *pkt.Buf, hdr int) {
	v6 := first.Network()[0]>>4 == 6
	if v6 {
		i.stack.stats.IPv6.ReassemblyTimeout.inc()
	} else {
		i.stack.stats.IPv4.ReassemblyTimeout.inc()
	}
	p, now := first.Clone(), i.now
	if v6 {
		ipv6.RestoreFragment(p.Network(), hdr)
	}
	i.after = append(i.after, func() {
		i.timeExceeded(now, p, v6)
		p.Put()
	})
}

// deliver gives a packet to its transport protocol; it takes p.Buf.
func (s *Stack) deliver(b *batch, p packet) {
	p.MarkTransport()
	took := false
	if t := s.raws.Load(); t != nil && (p.dst.Is4() || !s.isTentative(p)) {
		took = t.input(p)
	}
	switch {
	case p.proto == ipv4.ProtoTCP:
		s.tcp.input(b, p)
	case p.proto == ipv4.ProtoUDP:
		s.inputUDP(b, p)
	case p.proto == ipv4.ProtoICMP && p.dst.Is4():
		s.inputICMP4(b, p)
	case p.proto == ipv4.ProtoIGMP && p.dst.Is4():
		s.inputIGMP(b, p)
	case p.proto == ipv6.ProtoICMPv6 && p.dst.Is6():
		s.inputICMP6(b, p)
	case p.proto == ipv6.ProtoNone && p.dst.Is6():
		// RFC 8200 §4.7: nothing follows, and that is fine.
	case s.probeUnknown(p):
	case took:
		// A raw socket makes of it what it likes.
	case p.dst.Is4():
		s.stats.IPv4.Drop[DropUnknownProto].inc()
		s.unreachable(b.now, p, unreachProtocol)
	default:
		// RFC 8200 §4: parameter problem, code 1, at the byte that names what
		// nobody here speaks.
		s.stats.IPv6.Drop[DropUnknownProto].inc()
		chain, _, _ := s.ipv6cfg.Headers.Walk(p.Network())
		p.iface.parameterProblem(b.now, p.Buf, ipv6.Problem{Code: icmp.CodeNextHeader6, Pointer: uint32(chain.ProtoAt)})
	}
	p.Put()
}

// send is the network layer's way out: it puts the IP header in front of a
// transport header, cuts what is too large, and gives the frames to the link.
// hops 0 means the default. It takes p. df forbids fragments: EMSGSIZE.
func (s *Stack) send(now mono.Time, tx *txBatch, r *route, proto, hops, tos uint8, df bool, p *pkt.Buf) error {
	if hops == 0 {
		hops = defaultTTL
		if h := r.iface.hopLimit.Load(); h != 0 && r.dst.Is6() {
			hops = uint8(h)
		}
		if r.hops != 0 {
			hops = r.hops
		}
		if r.dst.IsMulticast() {
			hops = 1 // RFC 1112 §6.1, RFC 3493 §5.2: stays on the link unless asked
		}
	}
	n := p.Size()
	v4, hl := r.dst.Is4(), r.headerLen()
	fits := n+hl <= r.mtu
	if p.GSO.Type != pkt.GSONone {
		// It is its pieces that have to fit; there are no fragments of one.
		fits = int(p.GSO.HdrLen)+int(p.GSO.SegSize) <= r.mtu
		df = true
	}
	if !fits && df {
		p.Put()
		return syscall.EMSGSIZE
	}
	if v4 {
		st := &s.stats.IPv4
		f := ipv4.Fields{TOS: tos, DF: fits && !r.mayFrag && !r.tiny, TTL: hops, Protocol: proto, Src: r.src, Dst: r.dst, Options: r.opts, PayloadLen: n}
		if !f.DF {
			// RFC 6864 §4.1: only a datagram that may be fragmented needs an
			// identifier of its own.
			f.ID = uint16(s.ids.next(s, r.src, r.dst, proto))
		}
		f.Put(p.Push(f.HeaderLen()))
		p.MarkNetwork()
		st.Output.inc()
		if fits {
			return r.iface.transmit(now, tx, r, p)
		}
		var err error
		ipv4.Fragment(p.Whole(), r.mtu, func(f *pkt.Buf) {
			st.FragmentsOut.inc()
			if e := r.iface.transmit(now, tx, r, f); err == nil {
				err = e
			}
		})
		return err
	}
	st := &s.stats.IPv6
	f := ipv6.Fields{TrafficClass: tos, FlowLabel: s.flowLabel(r, proto, p.Bytes()), HopLimit: hops, Src: r.src, Dst: r.dst, PayloadLen: n + len(r.opts)}
	p, f.NextHeader = r.withHeaders(p, proto)
	f.Put(p.Push(ipv6.HeaderLen))
	p.MarkNetwork()
	st.Output.inc()
	if fits {
		return r.iface.transmit(now, tx, r, p)
	}
	var err error
	if d := ipv6.Fragment(p.Whole(), s.ids.next(s, r.src, r.dst, proto), r.mtu, func(f *pkt.Buf) {
		st.FragmentsOut.inc()
		if e := r.iface.transmit(now, tx, r, f); err == nil {
			err = e
		}
	}); d != ipv6.DropNone {
		st.Parse[d].inc()
		return syscall.EMSGSIZE
	}
	return err
}

// transmit finds the link-layer address of a packet's next hop and queues the
// frame, or the packet if the neighbour has yet to answer. It takes p.
// EHOSTUNREACH: the neighbour is known not to answer. ENETDOWN: see refuse.
func (i *Interface) transmit(now mono.Time, tx *txBatch, r *route, p *pkt.Buf) error {
	if i.loopback {
		i.stack.loop.push(i.stack, p)
		return nil
	}
	if i.isOff() {
		return i.refuse(r.dst, p)
	}
	if r.loop || r.stay {
		p = i.loopBack(r, p)
		if p == nil {
			return nil
		}
	}
	var mac ether.Addr
	switch {
	case i.ptp:
	case r.bcast:
		mac = ether.Broadcast
	case r.dst.IsMulticast():
		mac = ether.Multicast(r.dst)
	default:
		i.enter(now)
		if i.down || i.isOff() { // meanwhile: nobody will look after its queue
			i.mu.Unlock()
			return i.refuse(r.dst, p)
		}
		m, result, cache := [6]byte{}, neigh.Send, i.neigh[family(r.nextHop)]
		known := false
		if p.Size() > p.Len() {
			// Borrowed bytes cannot wait in a queue.
			if m, known = cache.Lookup(now, r.nextHop); !known {
				p = p.Whole()
			}
		}
		switch {
		case known:
		case r.answer:
			m, result = cache.Answer(now, r.nextHop, p)
		default:
			m, result = cache.Output(now, r.nextHop, p)
		}
		i.leaveBusy()
		switch result {
		case neigh.Send:
			mac = m
		case neigh.Refused:
			i.stack.dropOut(r.dst, DropNoNeighbour)
			p.Put()
			return syscall.EHOSTUNREACH
		default:
			return nil // waits for the neighbour
		}
	}
	i.frame(p, mac)
	if tx.iface != i {
		tx.send()
		tx.iface = i
	}
	tx.add(p)
	return nil
}

// dropOut counts a packet of our own that does not leave.
func (s *Stack) dropOut(dst netip.Addr, d Drop) {
	if dst.Is4() {
		s.stats.IPv4.Drop[d].inc()
	} else {
		s.stats.IPv6.Drop[d].inc()
	}
}

// frame puts the Ethernet header in front of a packet that starts at its
// network header.
func (i *Interface) frame(p *pkt.Buf, dst ether.Addr) {
	t := ether.TypeIPv6
	if p.Network()[0]>>4 == 4 {
		t = ether.TypeIPv4
	}
	src := i.mac
	if i.ptp {
		dst, src = ether.Addr{}, ether.Addr{}
	}
	ether.Put(p.Push(ether.HeaderLen), dst, src, t)
}

// transportChecksumOK verifies the checksum of a TCP segment or UDP datagram
// unless the device vouches for it.
func transportChecksumOK(p packet) bool {
	if p.Csum != pkt.CsumNone {
		return true
	}
	b := p.Bytes()
	return csum.Sum(b, csum.Pseudo(p.src, p.dst, p.proto, len(b))) == 0xffff
}
