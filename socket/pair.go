package socket

// This file owns socketpair(2). There are no sockets of AF_UNIX here; a pair is
// two ordinary ones, connected over the loopback interface of a stack that is
// theirs alone. So all calls and options of TCP and UDP work on it, with their
// buffers and errors, and nobody else can reach it or see its packets.

import (
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// AF_UNIX is a domain for Socketpair, which makes an AF_INET pair of it.
const AF_UNIX = 1

// pairStack is the stack of a pair, which ends with the second of the two.
type pairStack struct {
	stack *stack.Stack
	left  atomic.Int32
}

func (p *pairStack) release() {
	if p.left.Add(-1) == 0 {
		p.stack.Close()
	}
}

// Socketpair is socketpair(2): two sockets that are connected to each other, of
// AF_UNIX, AF_INET or AF_INET6 (Linux knows only the first), SOCK_STREAM or
// SOCK_DGRAM. Datagrams keep their order, and as any of UDP are lost when nobody
// receives them and the buffer is full. The pair does not need s any more once
// it is made. Errors: those of Socket.
func Socketpair(s *stack.Stack, domain, typ, proto int) (a, b *FD, err error) {
	if domain == AF_UNIX {
		domain = AF_INET
	}
	bare, _ := typeFlags(typ)
	probe, err := Socket(s, domain, typ, proto)
	if err != nil {
		return nil, nil, err
	}
	probe.Close()
	if !probe.isUDP() && bare != SOCK_STREAM {
		return nil, nil, syscall.EPROTONOSUPPORT // echo requests have one direction
	}
	p := &pairStack{stack: stack.New(stack.Config{})}
	if a, b, err = p.connect(domain, bare, proto); err != nil {
		p.stack.Close()
		return nil, nil, err
	}
	p.left.Store(2)
	for _, f := range []*FD{a, b} {
		f.async.Store(typ&SOCK_NONBLOCK != 0)
		f.mu.Lock()
		f.changeLocked().pair = p
		f.mu.Unlock()
	}
	return a, b, nil
}

func (p *pairStack) connect(domain, typ, proto int) (a, b *FD, err error) {
	lo := netip.AddrPortFrom(loopbackOf(domain), 0)
	if a, err = Socket(p.stack, domain, typ, proto); err == nil {
		err = a.Bind(lo)
	}
	if err != nil {
		return nil, nil, err
	}
	l, err := Socket(p.stack, domain, typ, proto)
	if err == nil {
		err = l.Bind(lo)
	}
	if err == nil && typ == SOCK_STREAM {
		err = l.Listen(1)
	}
	if err != nil {
		return nil, nil, err
	}
	to, _ := l.Getsockname()
	if err := a.Connect(background, to); err != nil {
		return nil, nil, err
	}
	if typ == SOCK_STREAM {
		b, _, err = l.Accept(background)
		l.Close()
		return a, b, err
	}
	from, _ := a.Getsockname()
	return a, l, l.Connect(background, from)
}

func loopbackOf(domain int) netip.Addr {
	if domain == AF_INET6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
