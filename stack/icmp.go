package stack

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/udp"
)

// inputICMP4 handles ICMP (RFC 792, RFC 1122 §3.2.2). It borrows p.
func (s *Stack) inputICMP4(b *batch, p packet) {
	st := &s.stats.ICMP
	st.Input.inc()
	m, drop := icmp.Parse4(p.Bytes())
	if drop != icmp.DropNone {
		st.Parse[drop].inc()
		return
	}
	switch m.Type {
	case icmp.TypeEcho4:
		st.EchoRequest.inc()
		// RFC 1122 §3.2.2.6 leaves echo to broadcast and multicast to the
		// host; Linux ignores it (icmp_echo_ignore_broadcasts).
		if p.group || p.Group {
			st.Drop[DropForeignGroup].inc()
			return
		}
		s.echoReply(b.now, p, icmp.TypeEchoReply4)
	case icmp.TypeEchoReply4:
		st.EchoReply.inc()
		s.inputPing(p, m.EchoID())
	case icmp.TypeUnreachable4, icmp.TypeTimeExceeded4, icmp.TypeParamProblem4:
		st.ErrorIn.inc()
		s.inputError(b.now, p, m, false)
	case icmp.TypeRedirect4:
		s.inputRedirect4(b.now, p, m)
	case icmp.TypeTimestamp4:
		st.TimestampRequest.inc()
		s.timestampReply(b.now, p, m)
	default:
		if icmp.Deprecated4(m.Type) {
			st.Drop[DropDeprecated].inc() // RFC 6633, RFC 6918
			return
		}
		// Replies that nobody has asked for, and what routers say.
		st.Drop[DropNotForHost].inc()
	}
}

// timestampReply answers with the time of day (RFC 792, RFC 1122 §3.2.2.8), by
// the rules of echo.
func (s *Stack) timestampReply(now mono.Time, p packet, m icmp.Message) {
	if p.group || p.Group {
		s.stats.ICMP.Drop[DropForeignGroup].inc()
		return
	}
	q := pkt.Get(icmp.TimestampLen)
	if !icmp.AnswerTimestamp(q.Append(icmp.TimestampLen), &m, s.midnight(now)) {
		s.stats.ICMP.Parse[icmp.DropShort].inc()
		q.Put()
		return
	}
	if s.reply(now, p, p.dst, ipv4.ProtoICMP, q) {
		s.stats.ICMP.TimestampReply.inc()
	}
}

// midnight is an instant as ICMP and the timestamp option have it.
func (s *Stack) midnight(now mono.Time) uint32 { return icmp.Midnight(s.wall(now)) }

// inputICMP6 handles ICMPv6 (RFC 4443). It borrows p.
func (s *Stack) inputICMP6(b *batch, p packet) {
	st := &s.stats.ICMP
	st.Input.inc()
	m, drop := icmp.Parse6(p.Bytes(), p.src, p.dst)
	if drop != icmp.DropNone {
		st.Parse[drop].inc()
		return
	}
	if s.inputND(b, p, m.Type) {
		return
	}
	if s.tentative(p) {
		return
	}
	switch m.Type {
	case icmp.TypeEcho6:
		st.EchoRequest.inc()
		if p.src.IsUnspecified() {
			st.Drop[DropMartian].inc()
			return
		}
		if s.ipv6cfg.ignoresEcho(p.group || p.Group) {
			st.Drop[DropForeignGroup].inc()
			return
		}
		s.echoReply(b.now, p, icmp.TypeEchoReply6)
	case icmp.TypeEchoReply6:
		st.EchoReply.inc()
		s.inputPing(p, m.EchoID())
	case icmp.TypeUnreachable6, icmp.TypeTooBig6, icmp.TypeTimeExceeded6, icmp.TypeParamProblem6:
		st.ErrorIn.inc()
		s.inputError(b.now, p, m, true)
	default:
		// RFC 4443 §2.4 (a), (b): what may be an error goes to who sent the
		// packet, node information queries (RFC 4620) and the like to nobody.
		if m.Type < icmp.TypeEcho6 {
			st.ErrorIn.inc()
			s.inputError(b.now, p, m, true)
			return
		}
		st.Drop[DropNotForHost].inc()
	}
}

// tentative reports, and counts, a packet to an address that may not be used
// yet (RFC 4862 §5.4).
func (s *Stack) tentative(p packet) bool {
	if s.isTentative(p) {
		s.stats.IPv6.Drop[DropForeignIP].inc()
		return true
	}
	return false
}

func (s *Stack) isTentative(p packet) bool {
	a := s.cfg.Load().local(p.dst, p.iface)
	return a != nil && a.state == addrTentative
}

// echoReply turns an echo request around: same identifier, sequence number
// and data (RFC 792, RFC 4443 §4.2), from the address that was asked.
func (s *Stack) echoReply(now mono.Time, p packet, typ uint8) {
	src := p.dst
	if p.group {
		src = netip.Addr{} // RFC 4443 §4.2: then a unicast address of ours
	}
	q := pkt.From(p.Bytes())
	q.Bytes()[0] = typ
	proto := uint8(ipv4.ProtoICMP)
	if p.dst.Is6() {
		proto = ipv6.ProtoICMPv6
	}
	if s.reply(now, p, src, proto, q) {
		s.stats.ICMP.EchoReply.inc()
	}
}

// reply sends an ICMP message to who sent p, with the IP options that belong
// into an answer, and reports whether it could. It takes q and sets its checksum.
func (s *Stack) reply(now mono.Time, p packet, src netip.Addr, proto uint8, q *pkt.Buf) bool {
	r, err := s.findRoute(p.src, src, s.replyInterface(p))
	if err != nil || r.bcast {
		s.stats.ICMP.Drop[DropNoRoute].inc()
		q.Put()
		return false
	}
	if p.dst.Is4() {
		icmp.SetChecksum4(q.Bytes())
		if !s.answerOptions(now, &r, p.options4()) {
			q.Put()
			return false
		}
	} else {
		icmp.SetChecksum6(q.Bytes(), r.src, r.dst)
		r.withLabel(s.reflected(ReflectEchoes, &p))
	}
	r.answer = true
	s.echoes.sent(now, r.dst, q.Bytes(), ipv4.HeaderLen+q.Len())
	tx := newTx(r.iface)
	s.send(now, tx, &r, proto, 0, p.tos, false, q)
	tx.done()
	return true
}

// replyInterface pins replies to link-local addresses to the link they came
// from; all others follow the routes.
func (s *Stack) replyInterface(p packet) *Interface {
	if p.src.Is6() && p.src.IsLinkLocalUnicast() && !p.iface.loopback {
		return p.iface
	}
	return nil
}

// What an error is about, translated to each family's type and code.
type unreachReason uint8

const (
	unreachPort unreachReason = iota
	unreachProtocol
)

// unreachable answers a packet with destination unreachable: no such port or
// protocol here. It borrows p.
func (s *Stack) unreachable(now mono.Time, p packet, why unreachReason) {
	if p.dst.Is4() {
		code := uint8(icmp.CodePort4)
		if why == unreachProtocol {
			code = icmp.CodeProtocol4
		}
		s.sendError(now, p.iface, p.Buf, icmp.TypeUnreachable4, code, [4]byte{}, false)
		return
	}
	s.sendError(now, p.iface, p.Buf, icmp.TypeUnreachable6, icmp.CodePort6, [4]byte{}, false)
}

// parameterProblem answers an IPv6 packet whose headers cannot be used
// (RFC 4443 §3.4). It borrows p.
func (i *Interface) parameterProblem(now mono.Time, p *pkt.Buf, pr ipv6.Problem) {
	i.stack.stats.IPv6.ParameterProblem.inc()
	var rest [4]byte
	binary.BigEndian.PutUint32(rest[:], pr.Pointer)
	i.stack.sendError(now, i, p, icmp.TypeParamProblem6, pr.Code, rest, pr.EvenIfMulticast)
}

// timeExceeded reports a reassembly timeout about its first fragment.
func (i *Interface) timeExceeded(now mono.Time, p *pkt.Buf, v6 bool) {
	typ := uint8(icmp.TypeTimeExceeded4)
	if v6 {
		typ = icmp.TypeTimeExceeded6
	}
	i.stack.sendError(now, i, p, typ, icmp.CodeReassembly, [4]byte{}, false)
}

// sendError sends an ICMP error about a packet received, if one may be sent
// (RFC 1122 §3.2.2, RFC 4443 §2.4) and the rate limit allows. It borrows p,
// whose network header is marked.
func (s *Stack) sendError(now mono.Time, in *Interface, p *pkt.Buf, typ, code uint8, rest [4]byte, evenIfMulticast bool) {
	offending := p.Network()
	v6 := offending[0]>>4 == 6
	var src, dst netip.Addr // of the error
	var n int
	var tos uint8
	if v6 {
		h := ipv6.Header(offending)
		if !icmp.MayReport6(offending, p.Group, evenIfMulticast) {
			return
		}
		n, src, dst = icmp.QuoteLen6(offending), h.Dst(), h.Src()
	} else {
		h := ipv4.Header(offending)
		if !icmp.MayReport4(offending, p.Group) || s.cfg.Load().isBroadcast(h.Dst(), in) {
			return
		}
		n, src, dst = icmp.QuoteLen4(offending), h.Dst(), h.Src()
		// RFC 1812 §4.3.2.5: internetwork control, which Linux's hosts send too,
		// with the type of service of the packet; RFC 1122 §3.2.2 would have 0.
		tos = h.TOS()&0x1e | 0xc0
	}
	if src.IsMulticast() {
		src = netip.Addr{}
	}
	oif := in
	if !(dst.Is6() && dst.IsLinkLocalUnicast()) {
		oif = nil
	}
	r, err := s.findRoute(dst, src, oif)
	if err != nil || r.bcast || dst.IsMulticast() {
		s.stats.ICMP.Drop[DropNoRoute].inc()
		return
	}
	if !s.allowICMP(now, &r) {
		s.stats.ICMP.Drop[DropRateLimited].inc()
		return
	}
	if !v6 {
		// As Linux, which answers with them here too, and quotes less then.
		opts := ipv4.Header(offending).Options()
		if typ == icmp.TypeParamProblem4 {
			opts = opts[:max(0, min(len(opts), int(rest[0])-ipv4.HeaderLen))] // those before the bad one
		}
		if !s.answerOptions(now, &r, opts) {
			return
		}
		n = min(n, icmp.MaxQuote4-len(r.opts))
	}
	q := pkt.Get(icmp.HeaderLen + n)
	icmp.Put(q.Append(icmp.HeaderLen), typ, code, rest)
	copy(q.Append(n), offending[:n])
	proto := uint8(ipv4.ProtoICMP)
	if v6 {
		proto = ipv6.ProtoICMPv6
		icmp.SetChecksum6(q.Bytes(), r.src, r.dst)
	} else {
		icmp.SetChecksum4(q.Bytes())
	}
	s.stats.ICMP.ErrorOut.inc()
	r.answer = true
	tx := newTx(r.iface)
	s.send(now, tx, &r, proto, 0, tos, false, q)
	tx.done()
}

// maxICMPPeers is of how many destinations it is remembered how many errors they
// were sent. With the limit of all errors no more can have been sent one lately.
const maxICMPPeers = 4096

// allowICMP asks the limit of all errors and that of the destination (RFC 1812
// §4.3.2.8, RFC 4443 §2.4 (f)). What stays on this host is not limited, as on
// Linux.
func (s *Stack) allowICMP(now mono.Time, r *route) bool {
	if r.iface.loopback {
		return true
	}
	interval := s.limits.ICMPErrorInterval
	if r.dst.Is6() {
		interval /= 4
		if r.nextHop != r.dst {
			interval /= 4
		}
	}
	s.icmpMu.Lock()
	defer s.icmpMu.Unlock()
	return s.icmpLimit.Allow(now) && s.icmpPeers.Allow(now, r.dst, interval)
}

// inputError delivers an ICMP error to the socket whose packet it quotes.
func (s *Stack) inputError(now mono.Time, p packet, m icmp.Message, v6 bool) {
	q, ok := icmp.ParseQuoted(m.Body, v6)
	if !ok {
		s.stats.ICMP.Parse[icmp.DropShort].inc()
		return
	}
	e := icmpError{iface: p.iface, now: now, errno: syscall.EPROTO, typ: m.Type, code: m.Code, message: Arrival{From: netip.AddrPortFrom(p.src, 0),
		To: p.dst, Interface: p.iface, Hops: p.hops, TOS: p.tos, FlowInfo: p.flow(), at: now}}
	e.quote, e.body = icmp.DeclaredQuote(m, v6), len(m.Body)
	if q.FragOffset == 0 {
		e.tail = m.Body[len(q.Header)+len(q.Transport):]
	}
	if v6 {
		e.info = binary.BigEndian.Uint32(m.Rest[:]) // whatever that is, as Linux
	}
	e.errno, e.hard, ok = icmp.Errno(v6, m.Type, m.Code)
	switch {
	case !v6 && m.Type == icmp.TypeUnreachable4 && m.Code == icmp.CodeFragNeeded4:
		e.mtu = int(binary.BigEndian.Uint16(m.Rest[2:]))
		e.tooBig, e.info = true, uint32(e.mtu)
	case v6 && m.Type == icmp.TypeTooBig6:
		e.mtu = int(min(binary.BigEndian.Uint32(m.Rest[:]), 1<<16))
		e.tooBig = true
	case !v6 && m.Type == icmp.TypeParamProblem4:
		e.info = uint32(m.Rest[0])
	case !ok && v6:
		e.errno = syscall.EPROTO // RFC 4443 §2.4 (a): passed on, as Linux does
	case !ok:
		s.stats.ICMP.Drop[DropNotForHost].inc() // a type or code nobody here knows
		return
	}
	if s.remindedError(p, q) {
		return
	}
	// A raw socket may have taken it as well.
	if delivered := s.deliverError(q, e); !s.probeError(p, q) && !delivered {
		s.stats.ICMP.Drop[DropNoSocket].inc()
	}
}

// icmpError is an error on its way to a socket.
type icmpError struct {
	iface  *Interface
	now    mono.Time
	errno  syscall.Errno
	hard   bool
	tooBig bool
	mtu    int // with tooBig: the next hop's MTU, 0 from old routers
	local  bool
	// What a socket's queue of errors is told: the message, what is in its
	// fourth to eighth byte, and how it came.
	typ, code uint8
	info      uint32
	message   Arrival
	// quote is how much of the message's body is the quoted packet, as it says,
	// 0 when it does not; body is how long that is, and tail what follows the
	// packet in it: padding, and the extensions of RFC 4884.
	quote, body int
	tail        []byte
}

// localError delivers the failure of one of our own packets to the socket it
// came from, as if a router had reported it. It borrows p, a packet that
// starts at its network header.
func (s *Stack) localError(p *pkt.Buf, errno syscall.Errno) {
	b := p.Network()
	if q, ok := icmp.ParseQuoted(b, b[0]>>4 == 6); ok {
		// As Linux, which sends itself the message that a router would send.
		e := icmpError{now: s.clock.Now(), errno: errno, hard: true, local: true, typ: icmp.TypeUnreachable4, code: icmp.CodeHost4,
			message: Arrival{From: netip.AddrPortFrom(q.Src, 0), To: q.Src, Interface: s.lo, Hops: defaultTTL, at: s.clock.Now()}}
		if q.V6 {
			e.typ, e.code = icmp.TypeUnreachable6, icmp.CodeAddress6
		}
		s.deliverError(q, e)
		s.probeFailed(p, q, errno)
	}
}

// deliverError finds the socket that sent the quoted packet, and reports
// whether there is one.
func (s *Stack) deliverError(q icmp.Quoted, e icmpError) bool {
	raw := false
	if t := s.raws.Load(); t != nil && q.FragOffset == 0 {
		raw = t.inputError(s, q, e)
	}
	return s.deliverErrorTo(q, e) || raw
}

func (s *Stack) deliverErrorTo(q icmp.Quoted, e icmpError) bool {
	if len(q.Transport) < 8 {
		return false
	}
	sport, dport := binary.BigEndian.Uint16(q.Transport), binary.BigEndian.Uint16(q.Transport[2:])
	local, remote := netip.AddrPortFrom(q.Src, sport), netip.AddrPortFrom(q.Final, dport)
	switch {
	case q.Protocol == ipv4.ProtoTCP:
		return s.tcp.inputError(local, remote, q.Transport, e)
	case q.Protocol == ipv4.ProtoUDP && udp.HeaderLen <= len(q.Transport):
		if d := s.lookupUDP(local, remote, e.iface); d != nil {
			if e.tooBig && d.acceptsPathMTU(q.Dst) {
				s.pathMTUChanged(q, e)
			}
			d.inputError(remote, e, q.Transport[udp.HeaderLen:])
			return true
		}
	case q.Protocol == ipv4.ProtoICMP || q.Protocol == ipv6.ProtoICMPv6:
		if typ := q.Transport[0]; typ == icmp.TypeEchoReply6 && q.V6 || typ == icmp.TypeEchoReply4 && !q.V6 {
			if e.tooBig && s.echoes.quoted(e.now, q.Dst, q.Transport) {
				s.pathMTUChanged(q, e)
				return true
			}
			return false
		}
		// An echo request of ours: its identifier is where the ports are.
		id := binary.BigEndian.Uint16(q.Transport[4:])
		if d := s.lookupPing(netip.AddrPortFrom(q.Src, id)); d != nil {
			if e.tooBig && d.acceptsPathMTU(q.Dst) {
				s.pathMTUChanged(q, e)
			}
			d.inputError(netip.AddrPortFrom(q.Final, 0), e, q.Transport)
			return true
		}
	}
	return false
}

// pathMTUChanged believes a router's "packet too big" about a datagram that a
// socket of ours may have sent (RFC 1191 §6.3, RFC 8201 §4). About one that would
// have passed it is not true.
func (s *Stack) pathMTUChanged(q icmp.Quoted, e icmpError) {
	if s.cfg.Load().local(q.Src, e.iface) == nil || e.mtu >= q.Len() {
		return
	}
	s.learnPathMTU(e.now, q.Dst, e.mtu)
}

// quotedSeq is the sequence number of a quoted TCP header.
func quotedSeq(b []byte) seq.Num { return seq.Num(binary.BigEndian.Uint32(b[4:])) }
