package probe

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/udp"
)

// This file owns which probe an answer is to. There is one table, and a key has
// everything that an answer shows of what was sent: protocol, both addresses,
// both ports and the token. Whatever does not fit exactly is refused and counted,
// for anybody can send an ICMP error; only where an address translator is known
// to change the token, a second mark of the packet is asked for in its place.

// handler keeps the stack's calls out of Prober's methods.
type handler struct{ p *Prober }

// ProbeInput implements stack.ProbeHandler.
func (h handler) ProbeInput(in stack.ProbeInput) { h.p.input(in) }

// ProbeExpire implements stack.ProbeHandler.
func (h handler) ProbeExpire(now mono.Time) { h.p.expire(now) }

// ProbeClosed implements stack.ProbeHandler.
func (h handler) ProbeClosed() { h.p.Close() }

// most is how many probes of one flow are looked at for one that a message
// without a token is about.
const most = 1024

// noDrop goes with a probe.
const noDrop = numDrops

// input takes an answer to its probe.
func (p *Prober) input(in stack.ProbeInput) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	r := Result{From: in.From, ReplyTTL: in.TTL, ReplyTOS: in.TOS, ReplySize: len(in.Message), CorruptAt: -1}
	var e *probe
	var why Drop
	switch {
	case in.Err != 0:
		e, why = p.failedLocked(&in, &r)
	case in.Quoted:
		e, why = p.errorLocked(&in, &r)
	case in.Within != nil:
		e, why = p.withinLocked(&in, &r)
	case in.Protocol == icmp.Proto4 || in.Protocol == icmp.Proto6:
		e, why = p.echoLocked(&in, &r)
	case in.Protocol == protoUDP:
		e, why = p.udpLocked(&in, &r)
	case in.Protocol == protoTCP:
		e, why = p.tcpLocked(&in, &r)
	default:
		e, why = p.sctpLocked(&in, &r)
	}
	if e == nil {
		p.counts[why]++
		p.mu.Unlock()
		return
	}
	if r.Answered == 0 {
		r.Answered = len(e.sent)
	}
	r.Transmissions, r.Sent = len(e.sent), e.times()
	at := in.At
	if at == 0 {
		at = p.Now()
	}
	r.RTT = max(at.Sub(e.sent[r.Answered-1]), 0)
	if r.From.Is6() && r.From.IsLinkLocalUnicast() && in.Interface != nil {
		r.From = r.From.WithZone(in.Interface.Name())
	}
	r.Duplicate, r.Late = e.done, e.late
	if !e.done && !e.late && !e.group {
		e.forget = p.Now().Add(e.watch)
	}
	e.done = true
	if e.watch > 0 || e.group {
		p.armLocked(e)
	} else {
		p.removeLocked(e)
	}
	farewell := e.farewell(&r)
	p.mu.Unlock()
	for _, b := range farewell {
		_ = p.out.Send(&e.route, &stack.ProbeHeader{Protocol: protoTCP, TOS: e.header.TOS}, b) // like any segment it may be lost
	}
	e.f(r)
}

// farewell is what a listener that accepted a SYN is told: a reset (RFC 9293
// §3.5.2), after the handshake's last segment if the connection was to be made.
func (e *probe) farewell(r *Result) (list [][]byte) {
	if r.TCP == nil || !r.TCP.SynAck {
		return nil
	}
	if e.connect && !r.Duplicate {
		list = append(list, bare(e.ends(), segment{seq: r.TCP.Ack, ack: r.TCP.Seq + 1, flags: flagAck}))
	}
	return append(list, bare(e.ends(), segment{seq: r.TCP.Ack, ack: r.TCP.Seq + 1, flags: flagRst | flagAck}))
}

// findLocked is the table, which has groups under the unspecified address.
func (p *Prober) findLocked(id identity) *probe {
	if e := p.table[id]; e != nil {
		return e
	}
	any := netip.IPv6Unspecified()
	if id.local.Addr().Is4() {
		any = netip.IPv4Unspecified()
	}
	id.remote = netip.AddrPortFrom(any, id.remote.Port())
	return p.table[id]
}

// failedLocked is for a packet whose neighbour does not answer.
func (p *Prober) failedLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	e, why := p.quotedLocked(in.Quote)
	r.Kind, r.Err = NoRouteHost, in.Err
	if in.Err == syscall.ENETDOWN {
		r.Kind = NetworkDown
	}
	return e, why
}

// errorLocked is for an ICMP error.
func (p *Prober) errorLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	b, v6 := in.Message, in.Protocol == icmp.Proto6
	m := icmp.Message{Type: b[0], Code: b[1], Rest: [4]byte(b[4:8]), Body: b[8:]}
	quote, ext, bad := icmp.SplitQuote(m, v6)
	q, ok := icmp.ParseQuoted(quote, v6)
	if !ok {
		return nil, DropShort
	}
	e, why := p.quotedLocked(q)
	if e == nil {
		return nil, why
	}
	r.ICMP, r.ICMPType, r.ICMPCode = true, m.Type, m.Code
	r.Extensions, r.BadExtensions = own(ext), bad
	r.Quoted = compare(e.sum, e.message, q)
	there := in.From == e.route.Dst()
	if v6 {
		switch {
		case m.Type == icmp.TypeTimeExceeded6 && m.Code == icmp.CodeHopLimit:
			r.Kind = TTLExpired
		case m.Type == icmp.TypeTooBig6:
			r.Kind, r.MTU = TooBig, int(min(binary.BigEndian.Uint32(m.Rest[:]), 1<<16))
		case m.Type == icmp.TypeUnreachable6 && m.Code == icmp.CodePort6 && there,
			m.Type == icmp.TypeParamProblem6 && m.Code == icmp.CodeNextHeader6 && there:
			r.Kind = Reply
		case m.Type == icmp.TypeParamProblem6:
			r.Kind = ParameterProblem
		default:
			r.Kind = NoRouteHost
		}
		return e, noDrop
	}
	switch {
	case m.Type == icmp.TypeTimeExceeded4 && m.Code == icmp.CodeHopLimit:
		r.Kind = TTLExpired
	case m.Type == icmp.TypeUnreachable4 && m.Code == icmp.CodeFragNeeded4:
		r.Kind, r.MTU = TooBig, int(binary.BigEndian.Uint16(m.Rest[2:]))
	case m.Type == icmp.TypeUnreachable4 && (m.Code == icmp.CodePort4 || m.Code == icmp.CodeProtocol4) && there:
		r.Kind = Reply
	case m.Type == icmp.TypeParamProblem4:
		r.Kind = ParameterProblem
	default:
		r.Kind = NoRouteHost
	}
	return e, noDrop
}

// own copies what aliases the message.
func own(x icmp.Extensions) icmp.Extensions {
	for i := range x.Others {
		x.Others[i].Data = slices.Clone(x.Others[i].Data)
	}
	return x
}

// quotedLocked finds the probe that a quote is of.
func (p *Prober) quotedLocked(q icmp.Quoted) (*probe, Drop) {
	t := q.Transport
	if q.FragOffset != 0 || len(t) < 8 {
		return nil, DropShort
	}
	id := identity{flow: flow{local: netip.AddrPortFrom(q.Src, binary.BigEndian.Uint16(t)),
		remote: netip.AddrPortFrom(q.Dst, binary.BigEndian.Uint16(t[2:]))}}
	switch {
	case q.Protocol == protoUDP:
		id.proto, id.token = UDP, uint32(binary.BigEndian.Uint16(t[6:]))
	case q.Protocol == protoTCP:
		id.proto, id.token = TCP, binary.BigEndian.Uint32(t[4:])
	case q.Protocol == protoSCP:
		id.proto = SCTP
	case q.Protocol == icmp.Proto4 && !q.V6 && t[0] == icmp.TypeEcho4, q.Protocol == icmp.Proto6 && q.V6 && t[0] == icmp.TypeEcho6:
		id.local = netip.AddrPortFrom(q.Src, binary.BigEndian.Uint16(t[4:]))
		id.remote = netip.AddrPortFrom(q.Dst, 0)
		id.token = uint32(binary.BigEndian.Uint16(t[6:]))
	default:
		return nil, DropType
	}
	e := p.findLocked(id)
	if e == nil {
		first := p.flows[id.flow]
		if first == nil {
			return nil, DropUnknown
		}
		for n := 0; first != nil && n < most; first, n = first.next, n+1 {
			if first.marked(q) {
				e = first
				break
			}
		}
		if e == nil {
			return nil, DropToken
		}
	}
	total := int(binary.BigEndian.Uint16(q.Header[2:]))
	if q.V6 {
		total = int(binary.BigEndian.Uint16(q.Header[4:])) + 40
	}
	if e.sum.total != 0 && total != e.sum.total {
		return nil, DropLength
	}
	return e, noDrop
}

// marked reports whether a quote whose token was changed on the way is of e by
// another mark: the tag of an INIT, the identification of an IPv4 packet, or the
// data that made up for the token.
func (e *probe) marked(q icmp.Quoted) bool {
	t := q.Transport
	switch {
	case e.proto == ICMP:
		return false // what answers it has to have its number
	case e.proto == SCTP:
		if len(t) >= 20 {
			return binary.BigEndian.Uint32(t[16:]) == e.token
		}
		// Eight bytes are all that an old router quotes.
		return q.V6 || binary.BigEndian.Uint16(q.Header[4:]) == e.header.ID
	case !q.V6:
		return binary.BigEndian.Uint16(q.Header[4:]) == e.header.ID
	case e.proto == UDP:
		return len(t) >= udp.HeaderLen+2 && len(e.message) >= udp.HeaderLen+2 && string(t[8:10]) == string(e.message[8:10])
	}
	return false
}

// echoLocked is for an echo reply.
func (p *Prober) echoLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	b := in.Message
	id := identity{flow{ICMP, netip.AddrPortFrom(in.To, binary.BigEndian.Uint16(b[4:])), netip.AddrPortFrom(in.From, 0)},
		uint32(binary.BigEndian.Uint16(b[6:]))}
	e := p.findLocked(id)
	if e == nil {
		return nil, DropUnknown
	}
	r.Kind, r.ICMP, r.ICMPType, r.ICMPCode = Reply, true, b[0], b[1]
	r.CorruptAt = mismatch(e.message[echoLen:], b[echoLen:])
	return e, noDrop
}

// udpLocked is for a datagram. It has no token. Unless it says by its data which
// probe it answers it is taken for an answer to one that waits, of those with the
// greatest TTL the oldest: where packets with several are under way those with the
// greatest get to the destination, and hops before it may keep silent.
func (p *Prober) udpLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	h, data, bad := udp.Parse(in.Message)
	if bad != udp.DropNone {
		return nil, DropShort
	}
	f := flow{UDP, netip.AddrPortFrom(in.To, h.DstPort()), netip.AddrPortFrom(in.From, h.SrcPort())}
	first := p.flows[f]
	if first == nil {
		return nil, DropUnknown
	}
	e, waiting := first, 0
	for x, n := first, 0; x != nil && n < most; x, n = x.next, n+1 {
		if len(data) > 0 && string(x.message[udp.HeaderLen:]) == string(data) {
			e, waiting = x, 0
			break
		}
		if !x.done {
			waiting++
		}
		if !x.done && e.done || x.done == e.done && x.hops() >= e.hops() {
			e = x
		}
	}
	r.Guessed = waiting > 1
	r.Kind, r.Data = Reply, slices.Clone(data)
	return e, noDrop
}

// tcpLocked is for a segment: only one that acknowledges the SYN is an answer.
func (p *Prober) tcpLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	b := in.Message
	if len(b) < 20 || int(b[12]>>4)*4 < 20 || int(b[12]>>4)*4 > len(b) {
		return nil, DropShort
	}
	f := flow{TCP, netip.AddrPortFrom(in.To, binary.BigEndian.Uint16(b[2:])), netip.AddrPortFrom(in.From, binary.BigEndian.Uint16(b))}
	flags, ack := b[13], binary.BigEndian.Uint32(b[8:])
	first := p.flows[f]
	switch {
	case first == nil:
		return nil, DropUnknown
	case flags&flagAck == 0:
		return nil, DropAck // RFC 9293 §3.10.7.3: a reset has to acknowledge the SYN
	case flags&(flagSyn|flagRst) == 0:
		return nil, DropType
	}
	e := p.table[identity{f, ack - 1}]
	for x, n := first, 0; e == nil && x != nil && n < most; x, n = x.next, n+1 {
		// With text in the SYN it may be acknowledged in part.
		if d := ack - x.token; d >= 1 && d <= uint32(1+len(x.message)-tcpLen) {
			e = x
		}
	}
	if e == nil {
		return nil, DropAck
	}
	t := &TCPReply{Flags: flags, SynAck: flags&flagSyn != 0 && flags&flagRst == 0, Reset: flags&flagRst != 0, ECE: flags&flagEce != 0,
		Window: binary.BigEndian.Uint16(b[14:]), WindowScale: -1, Seq: binary.BigEndian.Uint32(b[4:]), Ack: ack}
	echoed, ok := t.options(b[20 : int(b[12]>>4)*4])
	if n := len(e.sent); ok {
		// The first transmission had the lowest timestamp.
		if k := int(int32(echoed-e.tsval)) + n; k >= 1 && k <= n {
			r.Answered = k
		}
	}
	r.Kind, r.TCP = Reply, t
	return e, noDrop
}

// options reads those that a probe reports, and the timestamp that is echoed.
func (t *TCPReply) options(b []byte) (echoed uint32, ok bool) {
	for len(b) > 0 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		v := b[2:b[1]]
		switch {
		case b[0] == 2 && len(v) == 2:
			t.MSS = int(binary.BigEndian.Uint16(v))
		case b[0] == 3 && len(v) == 1:
			t.WindowScale = int(v[0])
		case b[0] == 4:
			t.SACK = true
		case b[0] == 8 && len(v) == 8:
			t.Timestamps = true
			echoed, ok = binary.BigEndian.Uint32(v[4:]), true
		}
		b = b[b[1]:]
	}
	return echoed, ok
}

// sctpLocked is for the first chunk of a packet (RFC 9260 §5.1, §8.4).
func (p *Prober) sctpLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	b := in.Message
	if len(b) < 16 {
		return nil, DropShort
	}
	if binary.LittleEndian.Uint32(b[8:]) != sctpSum(b) {
		return nil, DropChecksum
	}
	f := flow{SCTP, netip.AddrPortFrom(in.To, binary.BigEndian.Uint16(b[2:])), netip.AddrPortFrom(in.From, binary.BigEndian.Uint16(b))}
	e := p.flows[f]
	if e == nil {
		return nil, DropUnknown
	}
	if binary.BigEndian.Uint32(b[4:]) != e.token {
		return nil, DropToken
	}
	s := new(SCTPReply)
	switch c := b[12:]; {
	case c[0] == 2 && len(c) >= 20:
		s.InitAck = true
		s.Window, s.Streams = binary.BigEndian.Uint32(c[8:]), binary.BigEndian.Uint16(c[12:])
	case c[0] == 6:
		s.Abort = true
	default:
		return nil, DropType
	}
	r.Kind, r.SCTP = Reply, s
	return e, noDrop
}
