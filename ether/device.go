package ether

import (
	"context"

	"github.com/tapstack/tapstack/internal/pkt"
)

// Caps is what a device can do; it is constant while the device is open.
type Caps struct {
	MTU    int // largest network-layer packet in bytes, as 1500
	Queues int // independent receive queues, at least 1
	GSOMax int // largest TCP super-frame payload; 0: the device does not segment
	// USO: the device segments UDP super-frames as well.
	USO bool
	// TxCsum: the device completes CsumPartial frames.
	TxCsum bool
	// Gather: Send takes frames that borrow bytes (pkt.Buf.Borrow); to any
	// other device only whole ones are given.
	Gather bool
	// RxCsum: the device may deliver CsumPartial and CsumValid frames.
	RxCsum bool
	// PointToPoint: the device carries IP packets to and from whoever is at its
	// other end, and no Ethernet. Frames have a header all the same, so that all
	// devices look alike, but its addresses mean nothing and do not leave; its
	// type is that of the packet. There are no stations to ask for addresses.
	PointToPoint bool
}

// MaxBatch is how many frames a Device delivers at most before it calls idle,
// though it has more.
const MaxBatch = 64

// Device moves whole Ethernet frames. All methods are safe for concurrent use.
type Device interface {
	// Caps returns the device's capabilities.
	Caps() Caps
	// Addr returns the MAC address that belongs to the device, or the zero
	// address where it has none of its own (a TAP's own address is the
	// host's, not ours).
	Addr() Addr
	// Receive calls deliver for each frame of a queue, and idle before it
	// sleeps and after MaxBatch frames at the latest, until ctx ends (it then returns ctx.Err()), the device is
	// closed (net.ErrClosed) or fails. deliver takes the frame. One goroutine
	// at a time may receive from a queue; deliver and idle run on it.
	Receive(ctx context.Context, queue int, deliver func(*pkt.Buf), idle func()) error
	// Send writes frames in order and takes all of them, whatever the
	// result. It never blocks for long and never calls back into the stack.
	// sent counts the frames that left; err is of the first that did not.
	Send(queue int, frames []*pkt.Buf) (sent int, err error)
	// Close releases the device; a pending Receive returns net.ErrClosed.
	Close() error
}

// Poller is a Device that can be asked for frames at any time.
type Poller interface {
	Device
	// Poll calls deliver for the frames of a queue that are there, at most most
	// of them, and does not wait. It may be called while another goroutine
	// receives from the queue: each frame comes to one of the two.
	Poll(queue, most int, deliver func(*pkt.Buf))
}

// Pusher is a Device that calls deliver and idle from its owner's event loop
// instead of sleeping in Receive: the in-memory wire in virtual time. A stack
// that is given one starts no reader goroutine for it.
type Pusher interface {
	Device
	// Attach registers the callbacks; both nil detaches them. It returns
	// false when the device is not driven by an event loop after all.
	Attach(deliver func(*pkt.Buf), idle func()) bool
}
