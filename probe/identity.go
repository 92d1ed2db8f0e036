package probe

import (
	"net/netip"
	"syscall"
)

// This file owns who a probe is: the flow that routers see of it, the token in it
// that they do not look at when they choose a path, and its place in the table.

// flow is what the routers of a path see of a probe. For echo requests the
// local port is the identifier and the remote one 0.
type flow struct {
	proto         Proto
	local, remote netip.AddrPort
}

// identity is a flow and the token in it.
type identity struct {
	flow
	token uint32
}

// identifyLocked gives a probe its ports and token, and writes its message.
func (p *Prober) identifyLocked(e *probe, q *Request) error {
	src, dst := e.route.Src(), e.route.Dst()
	port := q.SrcPort
	if q.Proto == ICMP {
		port = q.EchoID
	}
	shared := &p.ids.udp
	if q.Proto == ICMP {
		shared = &p.ids.echo
	}
	if port == 0 && (q.Proto == ICMP || q.Proto == UDP) {
		if *shared == 0 {
			n, err := p.reserveLocked(q.Proto, 0)
			if err != nil {
				return err
			}
			*shared = n
		}
		port = *shared
	}
	port, err := p.reserveLocked(q.Proto, port)
	if err != nil {
		return err
	}
	remote := uint16(0)
	if q.Proto != ICMP {
		if remote = q.DstPort; remote == 0 {
			remote = DefaultTCPPort
			if q.Proto == UDP {
				remote = DefaultUDPPort
			}
		}
	}
	if p.ids.packet++; p.ids.packet == 0 {
		p.ids.packet = 1
	}
	e.header.ID = p.ids.packet
	// Whoever may be many is not known by an address.
	who := dst
	if e.group {
		who = netip.IPv6Unspecified()
		if dst.Is4() {
			who = netip.IPv4Unspecified()
		}
	}
	e.flow = flow{q.Proto, netip.AddrPortFrom(src, port), netip.AddrPortFrom(who, remote)}
	x := ends{src, dst, port, remote}
	b := e.message
	e.data = min(q.Proto.headerLen(), len(b))
	if q.Proto != SCTP {
		fill(b[e.data:], q.Pattern, q.Payload)
	}
	ok := false
	switch q.Proto {
	case ICMP:
		// The Prober's own requests are numbered by it; those of a caller's
		// identifier by the caller.
		seq := q.EchoSeq
		if q.EchoID == 0 {
			seq, ok = p.freeTokenLocked(e, &p.ids.seq, 0, 0xffff)
		} else {
			e.token = uint32(seq)
			ok = p.table[e.identity] == nil
		}
		if ok {
			putEcho(b, x, seq, q.EchoSum)
		}
	case UDP:
		var token uint16
		if token, ok = p.freeTokenLocked(e, &p.ids.token, 1, 0xfffe); ok {
			sum := putUDP(b, x, token, q.Payload == nil)
			e.token = uint32(sum)
			// Without room for a token equal datagrams are equal.
			ok = p.table[e.identity] == nil
		}
	case TCP:
		r := p.rand()
		e.token, e.tsval = uint32(r), uint32(r>>32)
		if ok = p.table[e.identity] == nil; ok {
			putSYN(b, x, segment{seq: e.token, flags: flagSyn, tsval: e.tsval})
		}
	case SCTP:
		e.token = uint32(p.rand()) | 1 // the tag; 0 is none (RFC 9260 §3.3.2)
		putINIT(b, x, e.token, q.Pattern, q.Payload)
		// Quotes of IPv4 do not show the tag.
		ok = p.flows[e.flow] == nil
	}
	if !ok {
		p.releaseLocked(q.Proto, port)
		return syscall.EADDRINUSE
	}
	return nil
}

// freeTokenLocked counts a token on to one that nobody in e's flow has.
func (p *Prober) freeTokenLocked(e *probe, next *uint16, low, high uint16) (uint16, bool) {
	for range 1 << 16 {
		if *next++; *next < low || *next > high {
			*next = low
		}
		e.token = uint32(*next)
		if p.table[e.identity] == nil {
			return *next, true
		}
	}
	return 0, false
}

func (p *Prober) insertLocked(e *probe) {
	p.timers.order++
	e.order = p.timers.order
	p.table[e.identity] = e
	if first := p.flows[e.flow]; first != nil {
		e.next, first.previous = first, e
	}
	p.flows[e.flow] = e
}

// removeLocked forgets a probe.
func (p *Prober) removeLocked(e *probe) {
	delete(p.table, e.identity)
	switch {
	case e.previous != nil:
		e.previous.next = e.next
	case e.next != nil:
		p.flows[e.flow] = e.next
	default:
		delete(p.flows, e.flow)
	}
	if e.next != nil {
		e.next.previous = e.previous
	}
	e.next, e.previous = nil, nil
	p.timers.set(&e.timer, 0)
	if !e.within {
		p.releaseLocked(e.proto, e.local.Port())
	}
}

func (e *probe) ends() ends {
	return ends{e.route.Src(), e.route.Dst(), e.local.Port(), e.remote.Port()}
}
