package probe

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns a probe while it is under way: when it is sent again, when
// nobody waits for it any more, and when it is forgotten.

// probe is one under way.
type probe struct {
	identity
	order   uint64
	route   stack.ProbeRoute
	header  stack.ProbeHeader
	message []byte
	sum     header      // for comparing with quotes
	sent    []mono.Time // each transmission
	data    int         // where the data of message begins
	retries int
	connect bool
	tsval   uint32
	timer   timer
	giveUp  mono.Time
	forget  mono.Time // after watching
	wait    time.Duration
	watch   time.Duration // how long it is wanted after its result
	done    bool          // it had an answer
	late    bool          // NoReply was told
	group   bool          // whoever answers is right
	within  bool          // its port is a connection's
	// next and previous have the same ports.
	next, previous *probe
	f              func(Result)
}

// armLocked sets a probe's timer to what comes next.
func (p *Prober) armLocked(e *probe) {
	when := e.giveUp
	switch {
	case e.done || e.late:
		when = e.forget
	case e.retries > 0:
		when = mono.Earliest(when, e.sent[len(e.sent)-1].Add(e.wait))
	}
	p.setLocked(&e.timer, when)
}

// setLocked moves a timer and, if need be, the stack's.
func (p *Prober) setLocked(t *timer, when mono.Time) {
	p.timers.set(t, when)
	p.out.Arm(p.timers.first())
}

// expireLocked is a probe's timer.
func (p *Prober) expireLocked(e *probe, now mono.Time) func() {
	switch {
	case now >= e.forget:
		told := e.done || e.late
		p.removeLocked(e)
		if told {
			return nil
		}
	case now >= e.giveUp && !e.done:
		e.late = true
		p.armLocked(e)
	case e.retries > 0 && !e.done:
		e.retries--
		e.wait *= 2
		e.sent = append(e.sent, now)
		e.message = slices.Clone(e.message) // the one before may still be on its way down
		if e.proto == TCP {
			// Its timestamp tells which transmission an answer is to.
			e.tsval++
			binary.BigEndian.PutUint32(e.message[28:], e.tsval)
			sumTCP(e.message, e.ends())
		}
		p.armLocked(e)
		message := e.message
		return func() { _ = p.out.Send(&e.route, &e.header, message) } // what fails is lost, as on the way
	default:
		p.armLocked(e)
		return nil
	}
	r := Result{Kind: NoReply, CorruptAt: -1, Transmissions: len(e.sent), Sent: e.times()}
	return func() { e.f(r) }
}

// expire runs what is due.
func (p *Prober) expire(now mono.Time) {
	p.mu.Lock()
	for {
		when := p.timers.first()
		if !when.Due(now) || p.closed {
			break
		}
		t := p.timers.heap[0]
		p.timers.remove(t)
		if f := t.f(now); f != nil {
			p.mu.Unlock()
			f()
			p.mu.Lock()
		}
	}
	if !p.closed {
		p.out.Arm(p.timers.first())
	}
	p.mu.Unlock()
}

// hops is how far a probe may get.
func (e *probe) hops() uint8 {
	if e.header.TTL == 0 {
		return 64 // the stack's default
	}
	return e.header.TTL
}

// times is Result.Sent.
func (e *probe) times() (list []time.Duration) {
	if len(e.sent) < 2 {
		return nil
	}
	for _, t := range e.sent {
		list = append(list, t.Sub(e.sent[0]))
	}
	return list
}
