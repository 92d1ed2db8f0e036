package wire

// This file is what can go wrong with a frame between a port and the switch,
// and how long it takes. All faults of one frame are drawn together and always
// in the same order, so that turning one knob leaves what the others do to each
// frame unchanged: with the same seed the same frames are lost at any delay.

import (
	"math/rand/v2"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Impairment is what happens to the frames a port sends. Loss, Duplicate,
// Reorder and Corrupt are probabilities from 0 to 1, independent of each other
// and of what happened to other frames.
type Impairment struct {
	Loss      float64
	Duplicate float64 // a copy follows the frame
	Reorder   float64 // the frame is held back by ReorderBy, others overtake it
	Corrupt   float64 // one bit behind the Ethernet header is inverted

	Delay     time.Duration // how long a frame is under way
	Jitter    time.Duration // added to Delay, uniform from 0 to Jitter; keeps the order
	ReorderBy time.Duration // 0 means DefaultReorderBy

	// Rate is the speed of the line in bit/s, 0 for infinite. While a frame is
	// being sent up to Queue others wait, 0 means DefaultQueue; the rest is
	// dropped.
	Rate  int64
	Queue int
	// MarkFrom is how many frames have to wait for those behind them to be
	// marked as having met congestion (RFC 3168 §5), if their sender
	// understands that: a step, the simplest of active queues. 0: never.
	MarkFrom int

	// Drop is asked about every frame and says which are lost, for tests that
	// lose "the third SYN". It must not call into the segment or keep frame.
	Drop func(frame []byte) bool
}

func (o *Options) impairment() Impairment {
	return Impairment{
		Loss: o.Loss, Duplicate: o.Duplicate, Reorder: o.Reorder, Corrupt: o.Corrupt,
		Delay: o.Delay, Jitter: o.Jitter, ReorderBy: o.ReorderBy,
		Rate: o.Rate, Queue: o.Queue, MarkFrom: o.MarkFrom, Drop: o.Drop,
	}
}

// line is one direction of one port.
type line struct {
	Impairment
	rand *rand.Rand
	// waiting holds when each frame that waits for the line, or is on it, will
	// have left it.
	waiting fifo[mono.Time]
	// latest is the arrival of the latest frame that was not held back: no
	// other overtakes it.
	latest mono.Time
}

func (l *line) set(i Impairment) {
	if i.Queue == 0 {
		i.Queue = DefaultQueue
	}
	if i.ReorderBy == 0 {
		i.ReorderBy = DefaultReorderBy
	}
	l.Impairment = i
}

// faults are the fate of one frame.
type faults struct {
	lost, duplicate, reorder, corrupt bool
	bit                               uint64
	jitter                            time.Duration
}

func (l *line) draw() faults {
	f := faults{
		lost:      l.rand.Float64() < l.Loss,
		duplicate: l.rand.Float64() < l.Duplicate,
		reorder:   l.rand.Float64() < l.Reorder,
		corrupt:   l.rand.Float64() < l.Corrupt,
		bit:       l.rand.Uint64(),
	}
	f.jitter = time.Duration(l.rand.Float64() * float64(l.Jitter))
	return f
}

// transmitLocked sends one frame through the port's line. It takes b.
func (p *Port) transmitLocked(b *pkt.Buf) {
	l := &p.line
	f := l.draw()
	if l.Drop != nil && l.Drop(b.Bytes()) {
		f.lost = true
	}
	if f.lost {
		p.stats.Lost++
		b.Put()
		return
	}
	if f.corrupt && b.Len() > ether.HeaderLen {
		p.stats.Corrupted++
		if b.Csum == pkt.CsumPartial {
			// On a real line the checksum was completed before the damage and
			// shows it. Here there is none yet: the frame fails at once.
			b.Put()
			return
		}
		payload := b.Bytes()[ether.HeaderLen:]
		bit := f.bit % uint64(8*len(payload))
		payload[bit/8] ^= 1 << (bit % 8)
	}
	var twin *pkt.Buf
	if f.duplicate {
		p.stats.Duplicated++
		twin = b.Clone()
	}
	p.launchLocked(b, f)
	if twin != nil {
		f.reorder = false
		p.launchLocked(twin, f)
	}
}

// launchLocked works out when the frame arrives, and sends it on its way. It
// takes b.
func (p *Port) launchLocked(b *pkt.Buf, f faults) {
	l := &p.line
	now := p.s.clock.Now()
	left, ok := l.depart(now, b.Len())
	if !ok {
		p.stats.QueueDrops++
		b.Put()
		return
	}
	if l.MarkFrom > 0 && l.waiting.len() > l.MarkFrom && mark(b.Bytes()) {
		p.stats.Marked++
	}
	at := left.Add(l.Delay + f.jitter)
	if f.reorder {
		p.stats.Reordered++
		at = at.Add(l.ReorderBy)
	} else {
		if l.latest != 0 && at.Before(l.latest) {
			at = l.latest
		}
		l.latest = at
	}
	p.s.routeLocked(p, b, at)
}

// depart queues a frame of n bytes on the line and returns when its last bit
// has left, or false when the queue is full.
func (l *line) depart(now mono.Time, n int) (mono.Time, bool) {
	for l.waiting.len() > 0 && l.waiting.at(0) <= now {
		l.waiting.pop()
	}
	if l.Rate <= 0 {
		return now, true
	}
	start := now
	if k := l.waiting.len(); k > 0 {
		// One of those in the list is on the line and no longer waits.
		if k > l.Queue {
			return 0, false
		}
		start = l.waiting.at(k - 1)
	}
	done := start.Add(time.Duration(int64(n) * 8 * int64(time.Second) / l.Rate))
	l.waiting.push(done)
	return done, true
}
