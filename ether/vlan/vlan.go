// Package vlan makes of one device as many as there are VLANs on it
// (IEEE 802.1Q): each sees the frames of its VLAN without their tags, and what
// it sends gets the tag. Linux does the same with sub-interfaces as eth0.10.
//
// A Trunk owns the device and receives from it; its sub-interfaces are devices
// of their own, super-frames included, since the tag stands before everything
// that segmentation looks at. What belongs to none of them is counted.
package vlan

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Untagged is the number for the frames without tag, and those whose tag has a
// priority but no VLAN (IEEE 802.1Q §6.9).
const Untagged = 0

// Stats counts what a Trunk has dropped.
type Stats struct {
	Untagged uint64 // without a tag, and nobody wants those
	Foreign  uint64 // of a VLAN that nobody has
	Reserved uint64 // of VLAN 4095, which may not be used
	Double   uint64 // with a second tag, or a provider's (802.1ad)
	Short    uint64 // too short for what they say they are
	Idle     uint64 // of a VLAN whose receiver has not begun, or has ended
}

// Trunk is a device that carries several VLANs.
type Trunk struct {
	dev    ether.Device
	queues int

	untagged, foreign, reserved, double, short, idle atomic.Uint64

	subs atomic.Pointer[[ether.MaxVLAN + 1]*Device]

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards everything below, and changes of subs
	open   int
	closed bool
	pumps  []*pump // one for each queue that is received from
}

// New makes a trunk of dev, and owns it: it is closed with the last of the
// sub-interfaces, or by Close.
func New(dev ether.Device) *Trunk {
	t := &Trunk{dev: dev, queues: max(1, dev.Caps().Queues)}
	t.subs.Store(new([ether.MaxVLAN + 1]*Device))
	t.pumps = make([]*pump, t.queues)
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// Open returns the sub-interface of a VLAN, 1 to ether.MaxVLAN or Untagged,
// whose frames leave with a priority of 0 to ether.MaxPriority. Errors: EINVAL,
// EEXIST, and net.ErrClosed when the trunk has been closed.
func (t *Trunk) Open(id uint16, priority uint8) (*Device, error) {
	if id > ether.MaxVLAN || priority > ether.MaxPriority {
		return nil, fmt.Errorf("vlan: VLAN %d with priority %d: want 1 to %d and 0 to %d: %w", id, priority, ether.MaxVLAN, ether.MaxPriority, syscall.EINVAL)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	subs := *t.subs.Load()
	switch {
	case t.dev.Caps().PointToPoint:
		return nil, fmt.Errorf("vlan: there is no Ethernet: %w", syscall.EINVAL)
	case t.closed:
		return nil, fmt.Errorf("vlan: %w", net.ErrClosed)
	case subs[id] != nil:
		return nil, fmt.Errorf("vlan: VLAN %d: %w", id, syscall.EEXIST)
	}
	d := &Device{trunk: t, id: id, tag: ether.MakeTag(id, priority), done: make(chan struct{}), sinks: make([]atomic.Pointer[sink], t.queues)}
	subs[id] = d
	t.subs.Store(&subs)
	t.open++
	return d, nil
}

// Stats returns the counters.
func (t *Trunk) Stats() Stats {
	return Stats{Untagged: t.untagged.Load(), Foreign: t.foreign.Load(), Reserved: t.reserved.Load(),
		Double: t.double.Load(), Short: t.short.Load(), Idle: t.idle.Load()}
}

// Close closes the device and all that is on it.
func (t *Trunk) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return net.ErrClosed
	}
	t.closed = true
	for _, d := range t.subs.Load() {
		if d != nil && !d.closed {
			d.closed = true
			close(d.done)
		}
	}
	t.mu.Unlock()
	t.stop()
	err := t.dev.Close()
	t.wg.Wait()
	return err
}

// remove takes a sub-interface out, and closes the device after the last one.
func (t *Trunk) remove(d *Device) error {
	t.mu.Lock()
	if d.closed {
		t.mu.Unlock()
		return net.ErrClosed
	}
	d.closed = true
	close(d.done)
	subs := *t.subs.Load()
	subs[d.id] = nil
	t.subs.Store(&subs)
	t.open--
	last := t.open == 0
	t.mu.Unlock()
	if last {
		return t.Close()
	}
	return nil
}

// pump receives from one queue for all sub-interfaces.
type pump struct {
	trunk   *Trunk
	queue   int
	touched []*sink
	failed  chan struct{} // closed when nothing more will come
	reason  error         // set before
}

// pumpOf starts receiving from a queue with the first that wants frames of it.
func (t *Trunk) pumpOf(queue int) (*pump, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	p := t.pumps[queue]
	if p == nil {
		p = &pump{trunk: t, queue: queue, failed: make(chan struct{})}
		t.pumps[queue] = p
		t.wg.Go(func() {
			p.reason = t.dev.Receive(t.ctx, queue, p.deliver, p.idle)
			p.idle()
			close(p.failed)
		})
	}
	return p, nil
}

// deliver finds out whose a frame is, and takes its tag away.
func (p *pump) deliver(b *pkt.Buf) {
	t, id := p.trunk, uint16(Untagged)
	h, ok := ether.Parse(b.Bytes())
	if !ok {
		p.drop(&t.short, b)
		return
	}
	switch h.Type() {
	case ether.TypeServiceVLAN:
		p.drop(&t.double, b)
		return
	case ether.TypeVLAN:
		tag, next, ok := ether.TagOf(b.Bytes())
		switch {
		case !ok:
			p.drop(&t.short, b)
			return
		case next == ether.TypeVLAN || next == ether.TypeServiceVLAN:
			p.drop(&t.double, b)
			return
		}
		if id = tag.VLAN(); id > ether.MaxVLAN {
			p.drop(&t.reserved, b)
			return
		}
		ether.PullTag(b)
	}
	d := t.subs.Load()[id]
	switch {
	case d == nil && id == Untagged:
		p.drop(&t.untagged, b)
		return
	case d == nil:
		p.drop(&t.foreign, b)
		return
	}
	s := d.sinks[p.queue].Load()
	if s == nil || !s.take(p, b) {
		p.drop(&t.idle, b)
	}
}

func (p *pump) drop(c *atomic.Uint64, b *pkt.Buf) {
	c.Add(1)
	b.Put()
}

// idle tells those that got frames since the last time.
func (p *pump) idle() {
	for i, s := range p.touched {
		s.flush()
		p.touched[i] = nil
	}
	p.touched = p.touched[:0]
}
