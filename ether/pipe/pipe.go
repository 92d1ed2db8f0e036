// Package pipe is the device whose other end is a program instead of an
// interface of the kernel: anything that can be read and written. It may be one
// end of a socketpair that keeps messages apart (SOCK_SEQPACKET or SOCK_DGRAM),
// of which each is a frame; any io.ReadWriteCloser of which each Read and Write
// is a frame, such as a tunnel; or a stream, in which each frame stands behind
// its length, as QEMU and passt exchange them. What passes may be Ethernet
// frames or IP packets.
//
// This file owns the options and the device; file.go what is done with a
// descriptor that can be polled, copy.go with anything else.
package pipe

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Options says what passes.
type Options struct {
	// Packets: IP packets instead of Ethernet frames. The device then is
	// ether.Caps.PointToPoint.
	Packets bool
	// Stream: bytes without boundaries, in which the length of each frame
	// stands before it in 4 bytes, the highest first.
	Stream bool
	// MTU is that of the link in bytes, 68 to 65535; 0 is 1500.
	MTU int
	// Addr is the MAC address that belongs to this end, if there is such.
	Addr ether.Addr
}

const defaultMTU = 1500

// size is the longest thing that may come.
func (o *Options) size() int {
	if o.Packets {
		return o.MTU
	}
	return ether.HeaderLen + ether.TagLen + o.MTU
}

func (o *Options) check() error {
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	if o.MTU < 68 || o.MTU > 65535 {
		return fmt.Errorf("pipe: MTU %d, want 68 to 65535", o.MTU)
	}
	return nil
}

// Stats are the counters of a device.
type Stats = fdloop.Stats

// Device is one end. It implements ether.Device with one queue.
type Device struct {
	o    Options
	loop *fdloop.Loop // of a file
	copy *copier      // of anything else
}

var _ ether.Device = (*Device)(nil)

// New makes a device of anything that can be read and written, and owns it from
// then on. Each Read returns a frame, cut off if the buffer is too short for
// it, and each Write takes one; with Options.Stream they move bytes. Both may
// block: two goroutines do nothing else, and frames for which the writer is too
// slow are lost. io.EOF is the end of the link. Its Close must end a Read and a
// Write that are under way, as that of files and connections does.
func New(rwc io.ReadWriteCloser, o Options) (*Device, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return &Device{o: o, copy: newCopier(rwc, &o)}, nil
}

// OpenFile makes a device of a descriptor that keeps messages apart and can be
// waited for: a socket of type SOCK_SEQPACKET or SOCK_DGRAM that is connected,
// or the descriptor of a TUN or TAP that somebody else has opened. It owns f
// from then on. For a stream, use New.
func OpenFile(f *os.File, o Options) (*Device, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Stream {
		return nil, fmt.Errorf("pipe: %s: a stream is for New", f.Name())
	}
	loop, err := openLoop(f, &o)
	if err != nil {
		return nil, fmt.Errorf("pipe: %s: %w", f.Name(), err)
	}
	return &Device{o: o, loop: loop}, nil
}

// Caps implements ether.Device.
func (d *Device) Caps() ether.Caps {
	return ether.Caps{MTU: d.o.MTU, Queues: 1, PointToPoint: d.o.Packets}
}

// Addr implements ether.Device.
func (d *Device) Addr() ether.Addr { return d.o.Addr }

// Stats returns the counters.
func (d *Device) Stats() Stats {
	if d.loop != nil {
		return d.loop.Stats()
	}
	return d.copy.stats.get()
}

// Receive implements ether.Device. It fails with io.EOF when the other end has
// gone.
func (d *Device) Receive(ctx context.Context, _ int, deliver func(*pkt.Buf), idle func()) error {
	if d.loop != nil {
		return d.loop.Receive(ctx, deliver, idle)
	}
	return d.copy.receive(ctx, deliver, idle)
}

// Send implements ether.Device.
func (d *Device) Send(_ int, frames []*pkt.Buf) (sent int, err error) {
	if d.loop != nil {
		return d.loop.Send(frames)
	}
	return d.copy.send(frames)
}

// Close implements ether.Device. The other end sees it.
func (d *Device) Close() error {
	if d.loop != nil {
		return d.loop.Close()
	}
	return d.copy.close()
}

// finish makes a frame of what was read; it reports false for what is none.
func (o *Options) finish(b *pkt.Buf) bool {
	if o.Packets {
		return ether.PushPacketHeader(b)
	}
	return b.Len() >= ether.HeaderLen
}

// strip is what is written of a frame.
func (o *Options) strip(b *pkt.Buf) []byte {
	if o.Packets {
		return b.Bytes()[ether.HeaderLen:]
	}
	return b.Bytes()
}

// counts are the counters of a copier.
type counts struct {
	rxFrames, rxDropped, txFrames, txBusy, txErrors atomic.Uint64
}

func (c *counts) get() Stats {
	return Stats{RxFrames: c.rxFrames.Load(), RxDropped: c.rxDropped.Load(), TxFrames: c.txFrames.Load(),
		TxBusy: c.txBusy.Load(), TxErrors: c.txErrors.Load()}
}
