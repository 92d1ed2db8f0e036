package probe

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// This file owns probes within a connection that is established: segments of it
// with a small TTL, which firewalls let pass that let nothing begin. They repeat
// a byte that the peer has had long since, each another one, so that a router
// quotes which it was and the peer says by SACK which it has twice; the stream
// goes on as if there had been nothing. What they take part in is the
// connection's: the port is not ours, and the connection goes on hearing what
// concerns it.

// Adopt makes the Prober hear what answers probes within c, until Leave, the end
// of c or Close. Errors: EBUSY, another Prober has it; ENOTCONN, it is over.
func (p *Prober) Adopt(c *stack.TCPConn) error { return p.out.Adopt(c) }

// Leave ends Adopt.
func (p *Prober) Leave(c *stack.TCPConn) { p.out.Leave(c) }

// farthest is how far below what is acknowledged the repeated bytes lie: near
// enough for firewalls that remember a window of a few segments.
const farthest = 512

// beginWithin is begin for a request with Within. The connection has to be
// adopted. Err is EAGAIN while the peer's answers could disturb the connection,
// or, where it cannot say what they answer, while another probe waits.
func (p *Prober) beginWithin(q *Request, f func(Result)) (*probe, []byte, Kind, error) {
	bad := q.Proto != TCP || q.Connect || q.Retries > 0 || q.Size > 0 || q.Payload != nil || q.Src.IsValid() || q.SrcPort != 0 || q.DstPort != 0 ||
		q.Device != "" || q.FlowLabel != 0 || q.Dst.IsValid() && q.Dst.Unmap().WithZone("") != q.Within.RemoteAddr().Addr().WithZone("")
	if bad {
		return nil, nil, InvalidArgument, syscall.EINVAL
	}
	r, err := p.out.Within(q.Within)
	if err != nil {
		return nil, nil, UnexpectedError, err
	}
	e := &probe{route: r, f: f, within: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, nil, Closed, ErrClosed
	case len(p.table) >= p.inFlight:
		return nil, nil, ProbesExhausted, ErrExhausted
	}
	local, remote := q.Within.LocalAddr(), q.Within.RemoteAddr()
	e.flow = flow{TCP, netip.AddrPortFrom(r.Src(), local.Port()), netip.AddrPortFrom(r.Dst(), remote.Port())}
	for n := 0; ; n++ {
		if n == farthest {
			return nil, nil, AddressInUse, syscall.EADDRINUSE
		}
		p.ids.back = p.ids.back%farthest + 1
		certain := false
		if e.message, certain, err = p.out.Remind(q.Within, int(p.ids.back)); err == nil && !certain && p.undecidedLocked(e.flow) {
			err = syscall.EAGAIN
		}
		if err != nil {
			return nil, nil, UnexpectedError, err
		}
		if e.token = binary.BigEndian.Uint32(e.message[4:]); p.table[e.identity] == nil {
			break
		}
	}
	if p.ids.packet++; p.ids.packet == 0 {
		p.ids.packet = 1
	}
	// As the connection's own segments, but for an identification of its own.
	e.header = stack.ProbeHeader{Protocol: protoTCP, TTL: q.TTL, TOS: q.TOS, DF: true, ID: p.ids.packet}
	e.sum = header{tos: q.TOS, id: e.header.ID, df: true, total: len(e.message) + r.HeaderLen()}
	p.startLocked(e, q)
	return e, e.message, 0, nil
}

// undecidedLocked reports whether a probe of a flow has neither answer nor end.
func (p *Prober) undecidedLocked(f flow) bool {
	for x := p.flows[f]; x != nil; x = x.next {
		if !x.done {
			return true
		}
	}
	return false
}

// withinLocked is for an ACK of the peer's that answers such a probe.
func (p *Prober) withinLocked(in *stack.ProbeInput, r *Result) (*probe, Drop) {
	b := in.Message
	f := flow{TCP, netip.AddrPortFrom(in.To, binary.BigEndian.Uint16(b[2:])), netip.AddrPortFrom(in.From, binary.BigEndian.Uint16(b))}
	e := p.table[identity{f, in.Repeated}]
	if in.Repeated == 0 {
		// It cannot say which: the one that waits, and never a second time.
		for x := p.flows[f]; x != nil; x = x.next {
			if !x.done {
				e = x
			}
		}
		r.Guessed = true
	}
	if e == nil || !e.within {
		return nil, DropUnknown
	}
	r.Kind = Reply
	r.TCP = &TCPReply{Flags: b[13], Window: binary.BigEndian.Uint16(b[14:]), WindowScale: -1, SACK: in.Repeated != 0,
		Seq: binary.BigEndian.Uint32(b[4:]), Ack: binary.BigEndian.Uint32(b[8:])}
	r.TCP.options(b[20 : int(b[12]>>4)*4])
	return e, noDrop
}
