package probe

import (
	"context"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns how a probe begins: what of a request can be sent, how large it
// is, and the three ways to wait for its result.

// Send sends a probe and returns. f is called with its result, on a goroutine of
// the stack's, which it must not hold up, or before Send returns if nothing
// could be sent; it may send more probes. With Request.Watch it may be called
// several times. The stack's clock and devices do the rest.
func (p *Prober) Send(q Request, f func(Result)) {
	e, message, kind, err := p.begin(&q, f)
	if e == nil {
		f(Result{Kind: kind, Err: err, CorruptAt: -1})
		return
	}
	// The table knows it: an answer may come before Send returns.
	if err := p.out.Send(&e.route, &e.header, message); err != nil {
		p.mu.Lock()
		if p.table[e.identity] != e {
			p.mu.Unlock()
			return // somebody has told already
		}
		p.removeLocked(e)
		p.mu.Unlock()
		f(Result{Kind: kindOf(err), Err: err, CorruptAt: -1})
	}
}

// kindOf names an error of sending.
func kindOf(err error) Kind {
	switch err {
	case syscall.ENETUNREACH:
		return NoRouteNetwork
	case syscall.EHOSTUNREACH:
		return NoRouteHost
	case syscall.EADDRNOTAVAIL:
		return AddressNotAvailable
	case syscall.EADDRINUSE:
		return AddressInUse
	case syscall.ENETDOWN:
		return NetworkDown
	case syscall.EMSGSIZE:
		return MessageSize
	case syscall.EINVAL, syscall.ENODEV:
		return InvalidArgument
	}
	return UnexpectedError
}

// begin builds a probe and enters it in the table.
func (p *Prober) begin(q *Request, f func(Result)) (*probe, []byte, Kind, error) {
	if q.Proto >= numProtos || q.Within == nil && !q.Dst.IsValid() || q.Src.IsValid() && q.Src.Is4() != q.Dst.Unmap().Is4() || q.Size < 0 || q.FlowLabel > 0xfffff {
		return nil, nil, InvalidArgument, syscall.EINVAL
	}
	if q.Mark != 0 {
		return nil, nil, InvalidArgument, ErrMark
	}
	if q.Within != nil {
		return p.beginWithin(q, f)
	}
	r, err := p.route(q)
	if err != nil {
		return nil, nil, kindOf(err), err
	}
	n := q.messageLen(r.HeaderLen())
	if n+r.HeaderLen() > 65535 {
		return nil, nil, MessageSize, syscall.EMSGSIZE
	}
	if q.Proto == TCP && r.Group() {
		return nil, nil, InvalidArgument, syscall.EINVAL
	}
	e := &probe{route: r, f: f, message: make([]byte, n), group: r.Group(), retries: q.Retries, connect: q.Connect}
	e.header = stack.ProbeHeader{Protocol: q.Proto.ipProto(r.Dst().Is6()), TTL: q.TTL, TOS: q.TOS, DF: q.DF, FlowLabel: q.FlowLabel}

	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, nil, Closed, ErrClosed
	case len(p.table) >= p.inFlight:
		return nil, nil, ProbesExhausted, ErrExhausted
	}
	if err := p.identifyLocked(e, q); err != nil {
		return nil, nil, kindOf(err), err
	}
	e.sum = header{tos: q.TOS, id: e.header.ID, df: q.DF, label: q.FlowLabel, total: n + r.HeaderLen()}
	if mtu := r.MTU(); !q.DF && e.sum.total > mtu {
		e.sum.total = 0
	}
	p.startLocked(e, q)
	return e, e.message, 0, nil
}

// startLocked enters a probe that is about to be sent.
func (p *Prober) startLocked(e *probe, q *Request) {
	p.insertLocked(e)
	now := p.Now()
	timeout := q.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	e.sent = append(e.sent, now)
	e.giveUp = now.Add(timeout)
	e.forget = e.giveUp.Add(max(q.Watch, 0))
	e.watch = max(q.Watch, 0)
	e.timer.f = func(now mono.Time) func() { return p.expireLocked(e, now) }
	e.wait = time.Second
	p.armLocked(e)
}

// messageLen is the length of the message behind an IP header of hl bytes.
func (q *Request) messageLen(hl int) int {
	n := q.Size - hl
	if q.Size == 0 && (q.Proto == ICMP || q.Proto == UDP) {
		n = DefaultSize - hl
	}
	n = max(n, q.Proto.headerLen())
	if q.Payload != nil {
		n = q.Proto.headerLen() + len(q.Payload)
		if q.Proto == SCTP {
			n += 4
		}
	}
	if q.Proto == SCTP {
		n = (n + 3) &^ 3 // chunks are multiples of four bytes
	}
	return n
}

// Start sends a probe; its result, and with Request.Watch the first of them, is
// received from the channel. When ctx ends first it is Closed, with ctx's error.
func (p *Prober) Start(ctx context.Context, q Request) <-chan Result {
	c := make(chan Result, 1)
	stop := context.AfterFunc(ctx, func() {
		select {
		case c <- Result{Kind: Closed, Err: context.Cause(ctx), CorruptAt: -1}:
		default:
		}
	})
	p.Send(q, func(r Result) {
		stop()
		select {
		case c <- r:
		default: // a duplicate, or ctx has ended
		}
	})
	return c
}

// Probe sends a probe and waits for its result. The error is ctx's or ErrClosed;
// what else can go wrong is a Kind.
func (p *Prober) Probe(ctx context.Context, q Request) (Result, error) {
	r := <-p.Start(ctx, q)
	if r.Kind == Closed {
		return r, r.Err
	}
	return r, nil
}

// Poll looks for answers on the caller's goroutine, on which they may be told.
// Between probes that are sent as fast as can be it makes round trips those of
// the network: otherwise a goroutine has to be woken for the first answer.
func (p *Prober) Poll() { p.out.Poll() }
