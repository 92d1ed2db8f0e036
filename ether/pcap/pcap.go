// Package pcap writes down everything that passes a device, as a pcapng file
// for Wireshark, tcpdump and Print. The capture never disturbs the traffic: an
// error in writing ends the capture and is reported when the device is closed.
package pcap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
)

// bufSize is how many bytes of capture wait for the device to be idle.
const bufSize = 64 << 10

// Tee is a device that records what another one moves. It is an ether.Pusher
// as far as that one is. Super-frames are recorded whole, and unfinished
// checksums as they are.
type Tee struct {
	dev ether.Device

	mu     sync.Mutex // guards everything below
	w      *ngWriter
	choose Chooser // nil: everything
	now    func() time.Time
	err    error // the first in writing
	closed bool
	stats  Stats
}

// Stats are the counters of a capture.
type Stats struct {
	Written uint64 // frames in the capture
	Lost    uint64 // frames missing from it because of a write error
}

var _ ether.Pusher = (*Tee)(nil)

// New starts a capture of dev to w under the interface name name. The caller
// keeps w, and closes it after the Tee; the Tee owns dev.
func New(dev ether.Device, w io.Writer, name string) (*Tee, error) {
	return NewChosen(dev, w, name, nil)
}

// Chooser says whether a frame that comes or, with out, leaves is to be in a
// capture, and what is written beside it; "" is nothing. It is called with one
// frame after the other, in the order in which they pass, and keeps none.
type Chooser func(out bool, frame []byte, at time.Time) (comment string, ok bool)

// NewChosen is New with only those frames of which choose, unless nil, says so.
func NewChosen(dev ether.Device, w io.Writer, name string, choose Chooser) (*Tee, error) {
	ng, err := newNgWriter(w, name, dev.Caps().PointToPoint)
	if err != nil {
		return nil, fmt.Errorf("pcap: %w", err)
	}
	return &Tee{dev: dev, w: ng, choose: choose, now: time.Now}, nil
}

// SetNow replaces the clock that stamps the frames, which is time.Now.
func (t *Tee) SetNow(now func() time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
}

// Stats returns the capture's counters.
func (t *Tee) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// record borrows b.
func (t *Tee) record(b *pkt.Buf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recordLocked(b, false)
}

func (t *Tee) recordLocked(b *pkt.Buf, out bool) {
	if t.closed {
		return
	}
	at, comment := t.now(), ""
	if t.choose != nil {
		var ok bool
		if comment, ok = t.choose(out, b.Bytes(), at); !ok {
			return
		}
	}
	if t.err == nil {
		t.err = t.w.frame(at, b.Bytes(), out, comment)
	}
	if t.err != nil {
		t.stats.Lost++
		return
	}
	t.stats.Written++
}

// Flush writes out what has been recorded. The Tee does so by itself whenever
// the device is idle.
func (t *Tee) Flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flushLocked()
}

func (t *Tee) flushLocked() {
	if t.err == nil && !t.closed {
		t.err = t.w.flush()
	}
}

// Device returns the device that is recorded.
func (t *Tee) Device() ether.Device { return t.dev }

// Caps implements ether.Device.
func (t *Tee) Caps() ether.Caps {
	c := t.dev.Caps()
	c.Gather = false // a frame has to be whole to be recorded
	return c
}

// Watch implements ether.Linker.
func (t *Tee) Watch(f func(ether.Link)) (stop func()) { return ether.WatchLink(t.dev, f) }

// Addr implements ether.Device.
func (t *Tee) Addr() ether.Addr { return t.dev.Addr() }

// Receive implements ether.Device.
func (t *Tee) Receive(ctx context.Context, queue int, deliver func(*pkt.Buf), idle func()) error {
	deliver, idle = t.wrap(deliver, idle)
	return t.dev.Receive(ctx, queue, deliver, idle)
}

// Attach implements ether.Pusher. It answers false where the recorded device
// is none.
func (t *Tee) Attach(deliver func(*pkt.Buf), idle func()) bool {
	p, ok := t.dev.(ether.Pusher)
	if !ok {
		return false
	}
	if deliver != nil {
		deliver, idle = t.wrap(deliver, idle)
	}
	return p.Attach(deliver, idle)
}

func (t *Tee) wrap(deliver func(*pkt.Buf), idle func()) (func(*pkt.Buf), func()) {
	return func(b *pkt.Buf) {
			t.record(b)
			deliver(b)
		}, func() {
			// First the stack, whose answers then are in the file as well.
			idle()
			t.Flush()
		}
}

// Send implements ether.Device. Frames are recorded before they leave, so that
// no answer stands before its question.
func (t *Tee) Send(queue int, frames []*pkt.Buf) (sent int, err error) {
	t.mu.Lock()
	for _, b := range frames {
		t.recordLocked(b, true)
	}
	t.mu.Unlock()
	return t.dev.Send(queue, frames)
}

// Close closes the device and completes the capture. It returns the device's
// error and the first that writing met.
func (t *Tee) Close() error {
	err := t.dev.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return err
	}
	t.flushLocked()
	t.closed = true
	if t.err != nil {
		err = errors.Join(err, fmt.Errorf("pcap: %d frames are missing from the capture: %w", t.stats.Lost, t.err))
	}
	return err
}
