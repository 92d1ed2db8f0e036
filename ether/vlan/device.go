package vlan

// This file owns the sub-interface: a device whose Receive only lends its
// callbacks to the goroutine that receives from the trunk, so that a frame
// passes no queue on its way.

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Device is one VLAN of a trunk. It implements ether.Device.
type Device struct {
	trunk *Trunk
	id    uint16
	tag   ether.Tag
	done  chan struct{}
	sinks []atomic.Pointer[sink] // by queue
	// closed is guarded by Trunk.mu.
	closed bool
}

var _ ether.Linker = (*Device)(nil)

// ID returns the number of the VLAN.
func (d *Device) ID() uint16 { return d.id }

// Trunk returns what the VLAN is on.
func (d *Device) Trunk() *Trunk { return d.trunk }

// Caps implements ether.Device: those of the device below. Its MTU is for the
// packet, and an Ethernet carries the 4 bytes of the tag besides, as Linux
// assumes too.
func (d *Device) Caps() ether.Caps { return d.trunk.dev.Caps() }

// Addr implements ether.Device: as on Linux, all VLANs have the address of the
// device.
func (d *Device) Addr() ether.Addr { return d.trunk.dev.Addr() }

// Watch implements ether.Linker: the link is that of the device below.
func (d *Device) Watch(f func(ether.Link)) (stop func()) { return ether.WatchLink(d.trunk.dev, f) }

// sink is one call of Receive.
type sink struct {
	mu      sync.Mutex // held while a callback runs; guards the rest
	ended   bool
	touched bool // deliver was called since idle
	deliver func(*pkt.Buf)
	idle    func()
}

// take gives the receiver a frame, unless it has left.
func (s *sink) take(p *pump, b *pkt.Buf) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if !s.touched {
		s.touched = true
		p.touched = append(p.touched, s)
	}
	s.deliver(b)
	return true
}

func (s *sink) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.touched = false; !s.ended {
		s.idle()
	}
}

// Receive implements ether.Device. deliver and idle run on the goroutine that
// receives from the trunk, and not after Receive has returned.
func (d *Device) Receive(ctx context.Context, queue int, deliver func(*pkt.Buf), idle func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := &sink{deliver: deliver, idle: idle}
	d.sinks[queue].Store(s)
	defer func() {
		d.sinks[queue].CompareAndSwap(s, nil)
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
	}()
	p, err := d.trunk.pumpOf(queue)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return net.ErrClosed
	case <-p.failed:
		select {
		case <-d.done: // which was why
			return net.ErrClosed
		default:
		}
		return p.reason
	}
}

// Send implements ether.Device.
func (d *Device) Send(queue int, frames []*pkt.Buf) (sent int, err error) {
	select {
	case <-d.done:
		for _, b := range frames {
			b.Put()
		}
		return 0, net.ErrClosed
	default:
	}
	if d.tag != 0 {
		for _, b := range frames {
			ether.PushTag(b, ether.TypeVLAN, d.tag)
		}
	}
	return d.trunk.dev.Send(queue, frames)
}

// Close implements ether.Device. The last one closes the trunk.
func (d *Device) Close() error { return d.trunk.remove(d) }
