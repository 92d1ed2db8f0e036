package probe

import (
	"context"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns ping: echo requests at a pace, and what has become of each.

// PingRequest says what to send. Of Request the fields Dst, Src, TTL, TOS,
// Pattern, Payload, DF, FlowLabel, Device and Timeout count.
type PingRequest struct {
	Request
	// Count is how many to send, 0: until Stop.
	Count int
	// Data is how many bytes follow the ICMP header. With DataTo above it each
	// request has DataStep more than the one before, and begins again behind
	// DataTo.
	Data, DataTo, DataStep int
	// Interval between requests, 0: a second. Adaptive sends the next as soon as
	// one is answered, Flood does too and sends a hundred a second at least.
	Interval        time.Duration
	Flood, Adaptive bool
	// Preload is how many are sent at once in the beginning.
	Preload int
	// Deadline ends it whatever has been sent, 0: never.
	Deadline time.Duration
}

// PingPacket is something that happened to a request.
type PingPacket struct {
	Seq  int // from 1
	Data int // bytes of data sent
	// Outstanding: it has no answer yet, and the next is about to be sent.
	Outstanding bool
	Result
}

// PingResult is what a ping came to.
type PingResult struct {
	Sent int
	// Received counts requests that were answered, in time or late. Errors are
	// those for which an ICMP error came instead.
	Received, Late, Duplicates, Corrupt, Errors int
	Elapsed                                     time.Duration
	Stats                                       Stats
	Err                                         error // nothing more could be sent
}

// Lost returns how many requests were not answered.
func (r *PingResult) Lost() int { return r.Sent - r.Received }

// Pinging is a ping under way.
type Pinging struct {
	session
	q        PingRequest
	on       func(PingPacket)
	done     func(PingResult)
	r        PingResult
	id       uint16
	begin    mono.Time
	next     mono.Time // when the next is sent
	deadline mono.Time // of all, or for what is still missing; 0: none
	allSent  bool
	waiting  map[int]struct{} // sent, and no result yet
	silent   int              // the last that was not answered in time
	wire     uint16           // the last sequence number that was sent
}

// StartPing begins a ping. on, unless nil, is told what happens, done what has
// become of it: both on goroutines of the stack's, one call at a time.
func (p *Prober) StartPing(q PingRequest, on func(PingPacket), done func(PingResult)) *Pinging {
	if q.Interval <= 0 {
		q.Interval = time.Second
	}
	if q.Timeout <= 0 {
		q.Timeout = DefaultTimeout
	}
	if on == nil {
		on = func(PingPacket) {}
	}
	s := &Pinging{q: q, on: on, done: done, waiting: make(map[int]struct{})}
	s.init(p, s.tick, s.closed)
	s.mu.Lock()
	defer s.unlock()
	s.begin = p.Now()
	s.next = s.begin
	if q.Deadline > 0 {
		s.deadline = s.begin.Add(q.Deadline)
	}
	id, err := p.Reserve(ICMP, q.EchoID)
	if err != nil {
		s.r.Err = err
		s.finish(s.begin)
		return s
	}
	s.id = id
	for range max(q.Preload-1, 0) {
		s.sendNext(s.begin)
	}
	s.tick(s.begin)
	return s
}

// Stop ends it now; what is on its way counts as lost.
func (s *Pinging) Stop() {
	s.mu.Lock()
	s.finish(s.p.Now())
	s.unlock()
}

// Snapshot returns what it has come to so far.
func (s *Pinging) Snapshot() PingResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.r
	r.Elapsed = s.p.Now().Sub(s.begin)
	return r
}

func (s *Pinging) closed() {
	s.r.Err = ErrClosed
	s.finish(s.p.Now())
}

func (s *Pinging) finish(now mono.Time) {
	if s.over {
		return
	}
	s.r.Elapsed = now.Sub(s.begin)
	r := s.r
	s.end(func() {
		if s.id != 0 {
			s.p.Release(ICMP, s.id)
		}
		s.done(r)
	})
}

// tick sends what is due and sets the timer.
func (s *Pinging) tick(now mono.Time) {
	if s.deadline.Due(now) {
		s.finish(now)
		return
	}
	if !s.allSent && s.next.Due(now) {
		if _, missing := s.waiting[s.r.Sent]; missing || s.silent == s.r.Sent && s.silent > 0 {
			seq := s.r.Sent
			s.later(func() { s.on(PingPacket{Seq: seq, Outstanding: true}) })
		}
		s.sendNext(now)
		s.next = s.next.Add(s.pace())
		if s.next < now {
			s.next = now // we were held up
		}
	}
	s.rest(now)
}

// rest sets the timer to what comes next.
func (s *Pinging) rest(now mono.Time) {
	if s.allSent && len(s.waiting) == 0 {
		s.finish(now)
		return
	}
	when := s.deadline
	if !s.allSent {
		when = mono.Earliest(when, s.next)
	}
	s.wake(when)
}

// pace is the time to the next request if nothing is answered.
func (s *Pinging) pace() time.Duration {
	if s.q.Flood {
		return min(s.q.Interval, 10*time.Millisecond)
	}
	return s.q.Interval
}

// data is how much the seq-th request carries.
func (s *Pinging) data(seq int) int {
	q := &s.q
	if q.DataTo <= q.Data {
		return q.Data
	}
	step := max(q.DataStep, 1)
	return q.Data + (seq-1)%((q.DataTo-q.Data)/step+1)*step
}

func (s *Pinging) sendNext(now mono.Time) {
	s.r.Sent++
	seq := s.r.Sent
	if s.q.Count > 0 && seq >= s.q.Count {
		s.allSent = true
	}
	q := s.q.Request
	q.Proto, q.EchoID = ICMP, s.id
	n := s.data(seq)
	q.Size = n + 28
	if q.Dst.Is6() && !q.Dst.Is4In6() {
		q.Size = n + 48
	}
	if q.Payload != nil { // repeated to fill the data, as ping's pattern
		b := make([]byte, n)
		for i := range b {
			b[i] = q.Payload[i%max(len(q.Payload), 1)]
		}
		q.Payload = b
	}
	// A sequence number comes again after 65536; until then duplicates and late
	// answers are told apart.
	q.Watch = 200 * time.Millisecond
	if !s.q.Flood && !s.q.Adaptive {
		q.Watch = 10 * time.Second
	}
	s.waiting[seq] = struct{}{}
	s.request(q, seq, n, maxSkipped)
	if s.allSent && s.r.Received > 0 {
		s.linger(now)
	}
}

// maxSkipped is how many sequence numbers in a row may be passed over.
const maxSkipped = 1 << 10

// request sends the seq-th request under the next sequence number that is free:
// after 65536 they come again, and some may still be waited for.
func (s *Pinging) request(q Request, seq, data, skip int) {
	s.wire++
	q.EchoSeq = s.wire
	s.send(q, func(r Result) {
		if r.Kind == AddressInUse && skip > 0 && !s.over {
			s.request(q, seq, data, skip-1)
			return
		}
		s.result(seq, data, r)
	})
}

// linger bounds the waiting for the last answers once it is known how long
// answers take: twice the longest time, but at least an interval, as ping does.
func (s *Pinging) linger(now mono.Time) {
	s.deadline = mono.Earliest(s.deadline, now.Add(max(2*s.r.Stats.Wrst, s.q.Interval)))
}

// result is told of the seq-th request.
func (s *Pinging) result(seq, data int, r Result) {
	if s.over {
		return
	}
	now := s.p.Now()
	_, first := s.waiting[seq]
	delete(s.waiting, seq)
	switch {
	case r.Kind == Closed:
		s.r.Err = r.Err
		s.finish(now)
		return
	case r.Kind == Reply && r.Duplicate:
		s.r.Duplicates++
	case r.Kind == Reply:
		s.r.Received++
		if r.Late {
			s.r.Late++
		}
		s.r.Stats.Add(r.RTT)
	case r.Kind == NoReply:
		s.silent = seq
	case r.Duplicate:
	case r.Kind > ParameterProblem:
		// It was not sent.
		if first {
			s.r.Errors++
		}
		s.r.Err = r.Err
	default:
		s.r.Errors++
	}
	if r.Kind == Reply && r.CorruptAt >= 0 {
		s.r.Corrupt++
	}
	s.later(func() { s.on(PingPacket{Seq: seq, Data: data, Result: r}) })
	if (s.q.Flood || s.q.Adaptive) && !s.allSent && r.Kind == Reply && !r.Duplicate {
		s.sendNext(now)
		s.next = now.Add(s.pace())
	}
	s.rest(now)
}

// Ping sends echo requests and waits until all have a result or ctx ends, which
// is no error. on, unless nil, is told what happens on the way.
func (p *Prober) Ping(ctx context.Context, q PingRequest, on func(PingPacket)) PingResult {
	return wait(ctx, func(done func(PingResult)) func() { return p.StartPing(q, on, done).Stop })
}
