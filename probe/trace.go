package probe

import (
	"context"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns trace: probes with every TTL up to the destination's, again and
// again, and the figures of each hop. All probes of a trace have the same ports,
// or echo checksum, so that routers that share out flows send them one way
// (Paris); ecmp.go asks for the other ways.

// Defaults of TraceRequest, mtr's.
const (
	DefaultMaxTTL     = 30
	DefaultMaxUnknown = 12
	DefaultGrace      = 5 * time.Second
	DefaultCycles     = 10
)

// TraceRequest says what to send. Every field of Request counts but TTL, EchoID,
// EchoSeq, Watch, Retries and Connect.
type TraceRequest struct {
	Request
	FirstTTL, MaxTTL uint8         // 0: 1 and 30
	Cycles           int           // 0: 10
	Interval         time.Duration // between cycles, 0: a second
	// MaxUnknown is how many hops in a row may be silent before it goes no
	// further, 0: 12.
	MaxUnknown int
	// Grace is how long to wait for answers at the end, 0: 5 s.
	Grace time.Duration
	// Classic varies what routers hash, as traceroute did at first: the hops
	// shown need not be of one way. Datagrams go to DstPort and the ports behind it,
	// SYNs come from ports of their own, whatever SrcPort is.
	Classic bool
}

// EndReason says why a trace goes no further than its last hop.
type EndReason uint8

// The reasons.
const (
	EndReached     EndReason = iota // the destination answered
	EndUnreachable                  // somebody says that it cannot be reached
	EndSilent                       // MaxUnknown hops in a row are silent
	EndMaxTTL
	EndLoop // the same router again with another between
	EndFailed
	EndUnfinished // it was stopped, or asked, before it knew
)

// String names the reason.
func (e EndReason) String() string {
	if e > EndUnfinished {
		return "unknown"
	}
	return [...]string{"reached", "unreachable", "silent", "max-ttl", "loop", "failed", "unfinished"}[e]
}

// TraceResult is what a trace came to.
type TraceResult struct {
	Dst, Src netip.Addr
	Hops     []Hop // from FirstTTL on
	Cycles   int   // complete
	End      EndReason
	Err      error // nothing could be sent
}

// Reached reports whether the destination answered.
func (r *TraceResult) Reached() bool { return r.End == EndReached }

// Tracing is a trace under way.
type Tracing struct {
	session
	q       TraceRequest
	on      func(hop int, r Result)
	done    func(TraceResult)
	hops    []Hop
	cycle   int
	ttl     int // the next to send
	last    int // the destination's TTL, or that of who says it is unreachable; 0: not known
	met     int // where the destination answered last
	reached bool
	sent    int
	stop    mono.Time // of waiting, 0: not yet
	id      uint16
	err     error
	src     netip.Addr
	paused  bool
	alone   bool // probes within a connection have to go one by one
	held    bool // the next waits for the result of the one before
	life    int  // counts Resets: results from before one are not counted
}

// StartTrace begins a trace. on, unless nil, is told each result with its TTL,
// done what it has come to; on goroutines of the stack's, one call at a time.
func (p *Prober) StartTrace(q TraceRequest, on func(ttl int, r Result), done func(TraceResult)) *Tracing {
	set := func(b *uint8, v uint8) {
		if *b == 0 {
			*b = v
		}
	}
	set(&q.FirstTTL, 1)
	set(&q.MaxTTL, DefaultMaxTTL)
	q.MaxTTL = max(q.MaxTTL, q.FirstTTL)
	if q.Cycles <= 0 {
		q.Cycles = DefaultCycles
	}
	if q.Interval <= 0 {
		q.Interval = time.Second
	}
	if q.MaxUnknown <= 0 {
		q.MaxUnknown = DefaultMaxUnknown
	}
	if q.Grace <= 0 {
		q.Grace = DefaultGrace
	}
	if on == nil {
		on = func(int, Result) {}
	}
	t := &Tracing{q: q, on: on, done: done, ttl: int(q.FirstTTL)}
	t.init(p, t.tick, t.closed)
	t.mu.Lock()
	defer t.unlock()
	route, err := p.route(&q.Request)
	if err == nil && q.Within != nil && !q.Dst.IsValid() {
		t.q.Dst = route.Dst()
	}
	if err == nil && q.Within != nil {
		t.alone = !q.Within.Info().SACK
	}
	if err == nil && q.Proto != SCTP && q.Within == nil {
		t.src = route.Src()
		port := q.SrcPort
		if q.Proto == ICMP {
			port = q.EchoID
		}
		t.id, err = p.Reserve(q.Proto, port)
	}
	if err != nil {
		t.err = err
		t.finish()
		return t
	}
	t.src = route.Src()
	if q.Proto == ICMP && q.EchoSum == 0 {
		t.q.EchoSum = t.id ^ 0x5555 | 1
	}
	t.tick(p.Now())
	return t
}

// Stop ends it now.
func (t *Tracing) Stop() {
	t.mu.Lock()
	t.finish()
	t.unlock()
}

// Snapshot returns what is known so far.
func (t *Tracing) Snapshot() TraceResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.result()
}

// tick sends the next probe.
func (t *Tracing) tick(now mono.Time) {
	if t.paused {
		t.wake(now.Add(pausedWake))
		return
	}
	if t.stop == 0 && t.busy() {
		// It cannot be told what an answer would be to if there were two.
		t.held = true
		return
	}
	if t.stop != 0 {
		for i := range t.hops {
			t.hops[i].Pending = 0 // lost: nobody waits for them any more
		}
		t.finish()
		return
	}
	t.sendNext()
	n := max(t.length(), 1)
	if t.last == 0 {
		n = max(n, 10) // as mtr begins, without knowing how far it is
	}
	if !t.more() {
		if t.cycle++; t.cycle == t.q.Cycles {
			t.stop = now.Add(t.q.Grace)
			t.wake(t.stop)
			return
		}
		t.ttl = int(t.q.FirstTTL)
	}
	t.wake(now.Add(t.q.Interval / time.Duration(n)))
}

// busy reports whether a probe waits that has to be the only one.
func (t *Tracing) busy() bool {
	return t.q.Within != nil && t.alone && slices.ContainsFunc(t.hops, func(h Hop) bool { return h.Pending > 0 })
}

// length is how many hops a cycle has, as far as is known.
func (t *Tracing) length() int {
	if t.last != 0 {
		return t.last - int(t.q.FirstTTL) + 1
	}
	return len(t.hops)
}

// more reports whether t.ttl is still to be sent in this cycle.
func (t *Tracing) more() bool {
	if t.ttl > int(t.q.MaxTTL) || t.last != 0 && t.ttl > t.last {
		return false
	}
	silent := 0
	for i := t.ttl - int(t.q.FirstTTL) - 1; i >= 0 && i < len(t.hops) && len(t.hops[i].Hosts) == 0; i-- {
		silent++
	}
	return silent < t.q.MaxUnknown
}

func (t *Tracing) sendNext() {
	ttl := t.ttl
	t.ttl++
	i := ttl - int(t.q.FirstTTL)
	for len(t.hops) <= i {
		t.hops = append(t.hops, Hop{TTL: int(t.q.FirstTTL) + len(t.hops)})
	}
	h := &t.hops[i]
	h.Sent++
	h.Pending++
	t.sent++
	q := t.q.Request
	q.TTL = uint8(ttl)
	switch {
	case q.Within != nil:
	case q.Proto == ICMP:
		q.EchoID, q.EchoSeq = t.id, uint16(t.sent)
		if t.q.Classic {
			q.EchoSum = 0
		}
	case q.Proto == UDP && t.q.Classic:
		q.SrcPort = t.id
		first := int(q.DstPort)
		if first == 0 {
			first = DefaultUDPPort
		}
		q.DstPort = uint16((first+t.sent%1000-1)%65535 + 1)
	case q.Proto == TCP && t.q.Classic:
		q.SrcPort = 0
	case q.Proto != SCTP:
		q.SrcPort = t.id
	}
	life := t.life
	t.send(q, func(r Result) {
		if life == t.life || r.Kind == Closed {
			t.heard(ttl, r)
		}
	})
}

// heard takes the result of a probe.
func (t *Tracing) heard(ttl int, r Result) {
	if t.over {
		return
	}
	if r.Kind == Closed {
		t.err = r.Err
		t.finish()
		return
	}
	h := &t.hops[ttl-int(t.q.FirstTTL)]
	h.Pending--
	switch {
	case r.Err == syscall.EAGAIN:
		h.Sent-- // not now: the hop goes without in this cycle
	case r.Kind > ParameterProblem:
		t.err = r.Err
	case r.Kind != NoReply:
		h.Received++
		h.Stats.Add(r.RTT)
		h.host(&r)
		it := r.From == t.q.Dst.Unmap()
		switch end := r.Kind != TTLExpired || it; {
		case end && (t.last == 0 || ttl < t.last || ttl == t.last && r.Kind == Reply):
			t.last = ttl
			if t.reached = r.Kind == Reply || it; t.reached {
				t.met = ttl
			}
		case !end && ttl == t.last:
			// The way goes on behind it: it has become longer, or who said that it
			// ends there says so no more.
			t.last, t.reached = 0, false
		}
	}
	t.later(func() { t.on(ttl, r) })
	if t.stop != 0 && t.settled() {
		t.finish()
	} else if t.held && !t.busy() {
		t.held = false
		t.tick(t.p.Now())
	}
}

// settled reports whether nothing that matters is waited for: what was sent
// beyond the destination does not.
func (t *Tracing) settled() bool {
	for i := range t.hops {
		if t.hops[i].Pending > 0 && (t.last == 0 || t.hops[i].TTL <= t.last) {
			return false
		}
	}
	return true
}

// result is what is known, without the hops behind the destination.
func (t *Tracing) result() TraceResult {
	r := TraceResult{Dst: t.q.Dst, Src: t.src, Cycles: t.cycle, Err: t.err}
	length := t.length()
	if t.last == 0 && t.met != 0 { // it is being looked for farther away
		length = t.met - int(t.q.FirstTTL) + 1
	}
	hops := t.hops[:min(len(t.hops), max(length, 0))]
	for _, h := range hops {
		h.Hosts = slices.Clone(h.Hosts)
		r.Hops = append(r.Hops, h)
	}
	silent := 0
	for i := len(hops) - 1; i >= 0 && len(hops[i].Hosts) == 0; i-- {
		silent++
	}
	switch {
	case t.reached, t.last == 0 && t.met != 0:
		r.End = EndReached
	case t.last != 0:
		r.End = EndUnreachable
	case len(hops) == 0 || silent == len(hops) && t.err != nil:
		r.End = EndFailed
	case loops(hops):
		r.End = EndLoop
	case silent >= t.q.MaxUnknown:
		r.End = EndSilent
	case t.cycle == 0 && t.more():
		r.End = EndUnfinished
	default:
		r.End = EndMaxTTL
	}
	return r
}

// loops reports whether some router comes twice, with another between.
func loops(hops []Hop) bool {
	seen := make(map[netip.Addr]int)
	for i, h := range hops {
		for _, x := range h.Hosts {
			if at, ok := seen[x.Addr]; ok && i-at > 1 {
				return true
			}
			seen[x.Addr] = i
		}
	}
	return false
}

func (t *Tracing) closed() {
	t.err = ErrClosed
	t.finish()
}

func (t *Tracing) finish() {
	if t.over {
		return
	}
	r := t.result()
	t.end(func() {
		if t.id != 0 {
			t.p.Release(t.q.Proto, t.id)
		}
		t.done(r)
	})
}

// Trace finds the routers to a destination, Cycles times, and returns when all
// probes have a result or ctx ends, which is no error. on, unless nil, is told of
// each result.
func (p *Prober) Trace(ctx context.Context, q TraceRequest, on func(ttl int, r Result)) TraceResult {
	return wait(ctx, func(done func(TraceResult)) func() { return p.StartTrace(q, on, done).Stop })
}
