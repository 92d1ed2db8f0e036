// Package snap is a decorator that speaks IEEE 802.3 with LLC and SNAP
// (RFC 1042) on a device, for segments where that is what is spoken: frames are
// sent so, and received so or as Ethernet II, intermixed (RFC 1122 §2.3.3). The
// stack above sees Ethernet II. Without the decorator such frames are counted
// and dropped, as Linux does.
package snap

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
)

// MaxMTU is the longest packet that a frame holds beside the headers
// (RFC 1042, "maximum transmission unit").
const MaxMTU = 1500 - ether.SNAPLen

// Stats are the counters of a decorator.
type Stats struct {
	Received uint64 // frames that came with SNAP
	Sent     uint64 // frames that left with SNAP
}

// Device is a device whose frames have SNAP on the link. It implements
// ether.Device.
type Device struct {
	ether.Device
	received, sent atomic.Uint64
}

// New decorates dev, which carries Ethernet, and owns it.
func New(dev ether.Device) (*Device, error) {
	if dev.Caps().PointToPoint {
		return nil, fmt.Errorf("snap: there is no Ethernet: %w", syscall.EINVAL)
	}
	return &Device{Device: dev}, nil
}

// Caps implements ether.Device. Each frame says its length, so none can be
// segmented below; and of what has SNAP no device knows where its checksum is.
func (d *Device) Caps() ether.Caps {
	c := d.Device.Caps()
	c.MTU = min(c.MTU-ether.SNAPLen, MaxMTU)
	c.GSOMax, c.USO, c.TxCsum, c.Gather = 0, false, false, false
	return c
}

// Watch implements ether.Linker.
func (d *Device) Watch(f func(ether.Link)) (stop func()) {
	return ether.WatchLink(d.Device, func(l ether.Link) {
		l.MTU = min(l.MTU-ether.SNAPLen, MaxMTU)
		f(l)
	})
}

// Stats returns the counters.
func (d *Device) Stats() Stats { return Stats{d.received.Load(), d.sent.Load()} }

// Receive implements ether.Device.
func (d *Device) Receive(ctx context.Context, queue int, deliver func(*pkt.Buf), idle func()) error {
	return d.Device.Receive(ctx, queue, func(b *pkt.Buf) {
		if h, ok := ether.Parse(b.Bytes()); ok && h.Type() < ether.MinType {
			if kind, typ, end := ether.ParseLength(b.Bytes()); kind == ether.LengthSNAP && typ >= ether.MinType {
				ether.PullSNAP(b, typ, end)
				d.received.Add(1)
			}
		}
		deliver(b)
	}, idle)
}

// arpHardware802 is the hardware type of IEEE 802 networks (RFC 1042).
const arpHardware802 = 6

// Send implements ether.Device.
func (d *Device) Send(queue int, frames []*pkt.Buf) (sent int, err error) {
	for _, b := range frames {
		f := b.Bytes()
		if t := ether.Header(f).Type(); t < ether.MinType {
			continue // of a packet socket, with a length already
		} else if t == ether.TypeARP && len(f) >= ether.HeaderLen+2 {
			binary.BigEndian.PutUint16(f[ether.HeaderLen:], arpHardware802)
		}
		ether.PushSNAP(b)
		d.sent.Add(1)
	}
	return d.Device.Send(queue, frames)
}
