package wire

// This file is the port: the ether.Device that a stack or a test holds. Frames
// arrive either in a queue that Receive empties, or, once Attach was called,
// from the segment's event loop.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Stats are the counters of a port.
type Stats struct {
	Sent       uint64 // frames given to Send
	Delivered  uint64 // frames handed to this port's receiver
	Lost       uint64 // by Loss and Drop
	Duplicated uint64
	Reordered  uint64
	Corrupted  uint64
	Marked     uint64 // as having met congestion
	BadLength  uint64 // longer than MTU and header, or shorter than a header
	LinkDown   uint64 // to send, or that would have arrived, while the link was down
	QueueDrops uint64 // the line's queue, this port's or the segment was full
	NoReceiver uint64 // the station is on the same port, or its port is gone
}

// Port is a device on a Segment. It implements ether.Pusher.
type Port struct {
	s    *Segment
	name string
	mac  ether.Addr
	link ether.LinkState

	// Everything below is guarded by s.mu.

	line     line
	inFlight int // frames sent from here that are in the heap
	stats    Stats

	queue    fifo[*pkt.Buf]
	wake     chan struct{} // holds a token when queue may have become non-empty
	gone     chan struct{} // closed by Close
	deliver  func(*pkt.Buf)
	idle     func()
	touched  bool
	isClosed bool
}

var (
	_ ether.Pusher = (*Port)(nil)
	_ ether.Linker = (*Port)(nil)
)

// Attach joins a port to the segment; mac may be zero, the switch learns the
// addresses behind a port from what it sends. Attaching to a closed segment
// returns a closed port.
func (s *Segment) Attach(name string, mac ether.Addr) *Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Port{s: s, name: name, mac: mac, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	// A generator for each direction: how the sends of different ports fall
	// together does not change what happens to each.
	p.line.rand = rand.New(rand.NewPCG(s.o.Seed, uint64(s.nextPort)))
	s.nextPort++
	p.line.set(s.o.impairment())
	p.link.Set(ether.Link{Up: true, MTU: s.o.MTU})
	s.ports = append(s.ports, p)
	s.learnLocked(mac, p)
	if s.closed {
		p.closeLocked()
	}
	return p
}

// Name returns the name given to Attach.
func (p *Port) Name() string { return p.name }

// Caps implements ether.Device.
func (p *Port) Caps() ether.Caps {
	c := ether.Caps{MTU: p.link.Get().MTU, Queues: 1}
	if p.s.o.GSO {
		c.GSOMax, c.USO, c.TxCsum, c.RxCsum = gsoMax, true, true, true
	}
	return c
}

// Watch implements ether.Linker.
func (p *Port) Watch(f func(ether.Link)) (stop func()) { return p.link.Watch(f) }

// SetUp pulls the port's cable out, or puts it in again. While it is out nothing
// leaves and nothing arrives. Who watches has heard of it on return.
func (p *Port) SetUp(up bool) { p.link.Change(func(l *ether.Link) { l.Up = up }) }

// SetMTU changes how long a packet the port may send and receive, at most
// pkt.MaxFrame with its header. Who watches has heard of it on return.
func (p *Port) SetMTU(mtu int) {
	if mtu < 0 || mtu+ether.HeaderLen > pkt.MaxFrame {
		panic(fmt.Sprintf("wire: MTU %d", mtu))
	}
	p.link.Change(func(l *ether.Link) { l.MTU = mtu })
}

// maxFrame is the length of the longest frame that the port takes.
func (p *Port) maxFrame() int {
	if p.s.o.GSO {
		return pkt.MaxFrame
	}
	return p.link.Get().MTU + ether.HeaderLen
}

// takes reports whether the port can receive a frame, and counts it if not.
func (p *Port) takesLocked(b *pkt.Buf) bool {
	switch {
	case !p.link.Get().Up:
		p.stats.LinkDown++
	case b.Len() > p.maxFrame():
		p.stats.BadLength++
	default:
		return true
	}
	return false
}

// Addr implements ether.Device.
func (p *Port) Addr() ether.Addr { return p.mac }

// Stats returns the port's counters.
func (p *Port) Stats() Stats {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.stats
}

// SetImpairment changes what happens to frames that this port sends from now
// on; those under way are not touched.
func (p *Port) SetImpairment(out Impairment) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.line.set(out)
}

// Send implements ether.Device. A frame that is too long or shorter than its
// header does not leave (EMSGSIZE); one that the network loses has left.
func (p *Port) Send(_ int, frames []*pkt.Buf) (sent int, err error) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range frames {
		switch {
		case p.isClosed:
			err = net.ErrClosed
			b.Put()
		case !p.link.Get().Up:
			p.stats.LinkDown++
			if err == nil {
				err = syscall.ENETDOWN
			}
			b.Put()
		case b.Len() < ether.HeaderLen || b.Len() > p.maxFrame():
			p.stats.BadLength++
			if err == nil {
				err = syscall.EMSGSIZE
			}
			b.Put()
		default:
			sent++
			p.stats.Sent++
			p.transmitLocked(b)
		}
	}
	return sent, err
}

// Receive implements ether.Device. On a port with callbacks it only waits.
func (p *Port) Receive(ctx context.Context, _ int, deliver func(*pkt.Buf), idle func()) error {
	for n := 0; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, closed := p.take()
		if closed {
			return net.ErrClosed
		}
		if b != nil {
			deliver(b)
			if n++; n < ether.MaxBatch {
				continue
			}
		}
		if n > 0 {
			idle()
			n = 0
			continue
		}
		select {
		case <-p.wake:
		case <-p.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Port) take() (b *pkt.Buf, closed bool) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	b, ok := p.queue.pop()
	if ok {
		p.stats.Delivered++
	}
	return b, p.isClosed
}

// Attach implements ether.Pusher: from now on deliver and idle are called by
// the segment's clock. A call that is under way when they are detached may
// still end after Attach has returned. Frames that wait for Receive are
// delivered the new way.
func (p *Port) Attach(deliver func(*pkt.Buf), idle func()) bool {
	s := p.s
	if s.o.Pull {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.isClosed {
		return true
	}
	p.deliver, p.idle = deliver, idle
	if deliver == nil {
		return true
	}
	for b, ok := p.queue.pop(); ok; b, ok = p.queue.pop() {
		p.inFlight++
		s.flight.push(item{at: s.clock.Now(), from: p, to: p, b: b})
	}
	s.armLocked()
	return true
}

func (p *Port) pushed() bool { return p.deliver != nil }

// enqueueLocked takes b.
func (p *Port) enqueueLocked(b *pkt.Buf, now mono.Time) {
	if p.isClosed {
		p.stats.NoReceiver++
		b.Put()
		return
	}
	if !p.takesLocked(b) {
		b.Put()
		return
	}
	if p.queue.len() >= p.s.o.PortQueue {
		p.stats.QueueDrops++
		b.Put()
		return
	}
	p.finish(b, now)
	p.queue.push(b)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// finish makes the frame what a receiver gets from a device: whatever the
// sender's stack had noted about it is gone, except with GSO the metadata that
// a virtio header carries.
func (p *Port) finish(b *pkt.Buf, now mono.Time) {
	b.At = now
	b.Group = false
	if !p.s.o.GSO {
		b.GSO, b.Csum = pkt.GSO{}, pkt.CsumNone
	}
}

// Close implements ether.Device. What the port has sent still arrives.
func (p *Port) Close() error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.isClosed {
		return net.ErrClosed
	}
	p.closeLocked()
	return nil
}

func (p *Port) closeLocked() {
	s := p.s
	p.isClosed = true
	p.deliver, p.idle = nil, nil
	close(p.gone)
	for b, ok := p.queue.pop(); ok; b, ok = p.queue.pop() {
		b.Put()
	}
	for i, q := range s.ports {
		if q == p {
			s.ports = append(s.ports[:i:i], s.ports[i+1:]...)
			break
		}
	}
	for a, q := range s.stations {
		if q == p {
			delete(s.stations, a)
		}
	}
}

// Port returns the port of a name, the first of several, or nil.
func (s *Segment) Port(name string) *Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		if p.name == name {
			return p
		}
	}
	return nil
}
