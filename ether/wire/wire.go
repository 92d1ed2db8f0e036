// Package wire is an Ethernet segment in memory: a switch that joins any number
// of stacks without a kernel between them, with the faults of a real network
// made to order and the same ones again for the same seed.
//
//	port a ─ impairment of a ─┐          ┌─ queue or callbacks of b
//	                          ├─ switch ─┤
//	port c ─ impairment of c ─┘          └─ queue or callbacks of c
//
// What a port sends passes that port's impairment once and is then delivered to
// one port or to all others. Frames are moved; only a frame for several ports,
// or one that is duplicated, is copied.
package wire

import (
	"fmt"
	"sync"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Limits of a segment.
const (
	// DefaultMTU is the MTU where Options names none.
	DefaultMTU = 1500
	// DefaultQueue is how many frames wait for a port's line to be free.
	DefaultQueue = 1000
	// DefaultPortQueue is how many frames wait for a port's Receive.
	DefaultPortQueue = 4096
	// MaxInFlight is how many frames are under way in the whole segment.
	MaxInFlight = 1 << 16
	// MaxStations is how many MAC addresses the switch remembers.
	MaxStations = 1024
	// DefaultReorderBy is how long a frame is held back to be overtaken.
	DefaultReorderBy = time.Millisecond
)

// gsoMax is the payload of the largest super-frame.
const gsoMax = 65535

// Options are the properties of a segment. Those from Loss to Drop are the
// impairment that each port has until Port.SetImpairment changes it.
type Options struct {
	// Seed of all randomness. Equal seeds and equal input give equal output.
	Seed uint64
	// MTU is the largest network-layer packet in bytes; frames may be 14
	// longer. 0 means DefaultMTU.
	MTU int
	// GSO: ports carry super-frames of up to 64 KB whole, and leave checksums
	// unfinished as a virtio device would.
	GSO bool
	// PortQueue is how many frames wait for Receive; 0 means DefaultPortQueue.
	PortQueue int
	// Pull: every port is read with Receive; Attach answers false.
	Pull bool
	// Hub: every frame goes to all other ports, whoever it is for, and nothing
	// is learnt, so that none can draw another's frames away by its address.
	Hub bool

	Loss, Duplicate, Reorder, Corrupt float64
	Delay, Jitter, ReorderBy          time.Duration
	Rate                              int64
	Queue, MarkFrom                   int
	Drop                              func(frame []byte) bool
}

// Segment is the wire and the switch in the middle of it.
type Segment struct {
	clock mono.Clock
	o     Options
	wake  func() // drain, bound once so that arming allocates nothing

	mu       sync.Mutex // guards everything below and the fields of its ports
	ports    []*Port
	nextPort int // seeds of ports are never reused
	stations map[ether.Addr]*Port
	flight   flight
	armed    mono.Time // when the clock will wake us; 0: it will not
	draining bool
	closed   bool
	touched  []*Port // scratch of drain
}

// New returns a segment without ports. The segment becomes the owner of clock,
// which nobody else may use for Wake; nil means a system clock of its own.
func New(clock mono.Clock, o Options) *Segment {
	if clock == nil {
		clock = mono.NewSystem()
	}
	if o.MTU == 0 {
		o.MTU = DefaultMTU
	}
	if o.MTU < 0 || o.MTU+ether.HeaderLen > pkt.MaxFrame {
		panic(fmt.Sprintf("wire: MTU %d", o.MTU))
	}
	if o.PortQueue == 0 {
		o.PortQueue = DefaultPortQueue
	}
	s := &Segment{clock: clock, o: o, stations: make(map[ether.Addr]*Port)}
	s.wake = s.drain
	return s
}

// learnLocked remembers behind which port an address lives. A full table
// learns nothing more, and frames to the others are flooded.
func (s *Segment) learnLocked(a ether.Addr, p *Port) {
	if a.IsGroup() || a.IsZero() || s.o.Hub {
		return
	}
	if _, known := s.stations[a]; known || len(s.stations) < MaxStations {
		s.stations[a] = p
	}
}

// routeLocked moves a frame that has passed its impairment to the ports it is
// for, at time at. It takes b.
func (s *Segment) routeLocked(from *Port, b *pkt.Buf, at mono.Time) {
	h := ether.Header(b.Bytes()) // Send has checked the length
	dst := h.Dst()
	s.learnLocked(h.Src(), from)
	if to, ok := s.stations[dst]; ok && !dst.IsGroup() {
		if to == from {
			// A switch does not send a frame back where it came from.
			from.stats.NoReceiver++
			b.Put()
			return
		}
		s.carryLocked(from, to, b, at)
		return
	}
	var last *Port
	for _, to := range s.ports {
		if to == from {
			continue
		}
		if last != nil {
			s.carryLocked(from, last, b.Clone(), at)
		}
		last = to
	}
	if last == nil {
		from.stats.NoReceiver++
		b.Put()
		return
	}
	s.carryLocked(from, last, b, at)
}

// carryLocked brings a frame to a port at time at: through the heap, or where
// nothing is to wait for and nothing to overtake, into the port's queue.
func (s *Segment) carryLocked(from, to *Port, b *pkt.Buf, at mono.Time) {
	now := s.clock.Now()
	if at <= now && from.inFlight == 0 && !to.pushed() {
		to.enqueueLocked(b, now)
		return
	}
	if s.flight.len() >= MaxInFlight {
		from.stats.QueueDrops++
		b.Put()
		return
	}
	from.inFlight++
	s.flight.push(item{at: at, from: from, to: to, b: b})
	s.armLocked()
}

// armLocked asks the clock for a call when the next frame arrives. While drain
// runs it asks for none: drain does so when it ends.
func (s *Segment) armLocked() {
	next := s.flight.next()
	if s.draining || next == s.armed {
		return
	}
	s.armed = next
	s.clock.Wake(next, s.wake)
}

// drain delivers the frames that have arrived, at most ether.MaxBatch a call so that at one
// instant of virtual time other events get their turn. It is called by the
// clock and holds no lock while callbacks run.
func (s *Segment) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.closed {
		return
	}
	s.draining, s.armed = true, 0
	now := s.clock.Now()
	for range ether.MaxBatch {
		if !s.flight.next().Due(now) {
			break
		}
		it := s.flight.pop()
		it.from.inFlight--
		if it.to.deliver == nil {
			it.to.enqueueLocked(it.b, now)
			continue
		}
		s.deliverLocked(it, now)
	}
	for _, p := range s.touched {
		p.touched = false
		if idle := p.idle; idle != nil {
			s.mu.Unlock()
			idle()
			s.mu.Lock()
		}
	}
	s.touched = s.touched[:0]
	s.draining = false
	s.armLocked()
}

// deliverLocked gives up the lock during the callback.
func (s *Segment) deliverLocked(it item, now mono.Time) {
	p := it.to
	if !p.takesLocked(it.b) {
		it.b.Put()
		return
	}
	if !p.touched {
		p.touched = true
		s.touched = append(s.touched, p)
	}
	p.stats.Delivered++
	deliver := p.deliver
	p.finish(it.b, now)
	s.mu.Unlock()
	deliver(it.b)
	s.mu.Lock()
}

// Close closes every port and drops what is under way. A second call does
// nothing.
func (s *Segment) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for len(s.ports) > 0 {
		s.ports[0].closeLocked()
	}
	for s.flight.len() > 0 {
		s.flight.pop().b.Put()
	}
	s.clock.Wake(0, nil)
}
