package stack

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/wheel"
)

// loopbackMTU is the largest IP packet.
const loopbackMTU = 65535

// loopQueue holds what the stack sends to itself. A sender may hold a
// connection's lock, so packets are not input at once but by a timer that is
// due immediately; no goroutine waits for them.
type loopQueue struct {
	mu      sync.Mutex // guards frames and running
	frames  []*pkt.Buf
	bytes   int  // memory of frames, as charged
	running bool // somebody inputs frames; a second timer call leaves them to it
	timer   wheel.Timer
	batch   *batch // belongs to whom running stands for
}

// loopDevice makes loopback an interface like the others; its frames never
// reach it.
type loopDevice struct{}

func (loopDevice) Caps() ether.Caps { return ether.Caps{MTU: loopbackMTU, Queues: 1} }
func (loopDevice) Addr() ether.Addr { return ether.Addr{0x02} }
func (loopDevice) Close() error     { return nil }
func (loopDevice) Receive(context.Context, int, func(*pkt.Buf), func()) error {
	return net.ErrClosed
}
func (loopDevice) Send(_ int, frames []*pkt.Buf) (int, error) {
	for _, p := range frames {
		p.Put()
	}
	return len(frames), nil
}

func (s *Stack) initLoopback() {
	i, err := s.newInterface(InterfaceConfig{Name: "lo", Device: loopDevice{}, Plain: true})
	if err != nil {
		panic(err) // the constants above are wrong
	}
	i.loopback = true
	s.lo = i
	s.loop.timer.Owner = wheel.Func(s.runLoopback)
	s.loop.batch = i.newBatch(0)
	s.update(func(c *config) error {
		c.ifaces = append(c.ifaces, i)
		s.lastIndex++
		i.index = s.lastIndex
		return nil
	})
	i.addAddress(Addr{Prefix: netip.PrefixFrom(loopback4, 8), Origin: OriginKernel})
	i.addAddress(Addr{Prefix: netip.PrefixFrom(netip.IPv6Loopback(), 128), Origin: OriginKernel})
}

// push queues a packet that starts at its network header. It takes p.
func (q *loopQueue) push(s *Stack, p *pkt.Buf) { q.pushFrom(s, p, nil) }

// pushFrom is push for a packet socket, which does not see what it sends.
func (q *loopQueue) pushFrom(s *Stack, p *pkt.Buf, from *PacketSocket) {
	if t := s.taps.Load(); t != nil && !p.Looped {
		s.tapLoop(t, 0, p, true, from)
	}
	// It has not left the host: nothing can have damaged it.
	p.Csum = pkt.CsumValid
	q.mu.Lock()
	reason := DropNone
	switch {
	case len(q.frames) >= s.limits.LoopbackFrames || s.closed.Load():
		reason = DropQueueFull
	case !s.memory.Take(p.Memory()):
		reason = DropMemory
	default:
		q.frames = append(q.frames, p)
		q.bytes += p.Memory()
	}
	running := q.running
	q.mu.Unlock()
	switch {
	case reason != DropNone:
		s.stats.Loop.Drop[reason].inc()
		p.Put()
	case !running:
		s.timers.Arm(&q.timer, s.clock.Now())
	}
}

// loopBack gives sockets of this host a copy of a multicast or broadcast that
// leaves by i, as if it had come in there (IP_MULTICAST_LOOP). It takes p, and
// returns it unless that was all that was wanted.
func (i *Interface) loopBack(r *route, p *pkt.Buf) *pkt.Buf {
	if r.loop && (r.bcast || i.member(r.dst, r.src)) {
		c := p
		if r.stay {
			p = nil
		} else {
			c = p.Clone()
		}
		c = c.Whole()
		c.Looped, c.In = true, i.index
		i.stack.loop.push(i.stack, c)
	} else if r.stay {
		p.Put()
		p = nil
	}
	return p
}

// runLoopback inputs what is queued, and what that brings about.
func (s *Stack) runLoopback(now mono.Time) {
	q := &s.loop
	q.mu.Lock()
	if q.running {
		q.mu.Unlock()
		return
	}
	q.running = true
	for {
		frames := q.frames
		s.memory.Return(q.bytes)
		q.frames, q.bytes = nil, 0
		if len(frames) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		q.batch.now = now
		for _, p := range frames {
			s.stats.Loop.Frames.inc()
			in := s.lo
			if p.Looped {
				if in = s.InterfaceByIndex(int(p.In)); in == nil {
					s.stats.Loop.Drop[DropLinkDown].inc() // it was removed meanwhile
					p.Put()
					continue
				}
			} else if t := s.taps.Load(); t != nil {
				s.tapLoop(t, now, p, false, nil)
			}
			p.At = now
			if p.Bytes()[0]>>4 == 4 {
				in.inputIPv4(q.batch, p)
			} else {
				in.inputIPv6(q.batch, p)
			}
		}
		q.batch.flush()
		now = s.clock.Now()
		q.mu.Lock()
	}
}

// drain frees what nobody will input any more.
func (q *loopQueue) drain(s *Stack) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range q.frames {
		p.Put()
	}
	s.memory.Return(q.bytes)
	q.frames, q.bytes = nil, 0
}
