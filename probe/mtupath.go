package probe

import (
	"context"
	"net/netip"
	"syscall"
	"time"
)

// This file owns the search for where a path gets narrow: what MTU finds out of
// the whole way is asked of its beginnings, one TTL after the other. A router
// that names an MTU has the narrow line behind it; where larger packets vanish
// without a word, the last hop that they still get to does.

// MTUPathRequest says what to send. Size, DF and TTL of Request do not count;
// its Timeout is of each probe, 0: 1 s.
type MTUPathRequest struct {
	Request
	// Tries is how often a size is sent before it counts as too large, 0: 3.
	Tries int
	// MaxTTL is how far to go, 0: 30. Silent is how many hops in a row may keep
	// silent, whatever the size, before the search ends, 0: 5.
	MaxTTL, Silent int
	// Likely, unless 0, is tried first where larger packets vanish: what MTU
	// has found saves halving.
	Likely int
}

// MTUStep is a hop of the path.
type MTUStep struct {
	TTL int
	// Addr is who told that the TTL expired there, or the destination; invalid:
	// nobody did.
	Addr netip.Addr
	// MTU is the largest packet that got there, 0: unknown.
	MTU int
	// Refused are those who told on the way there that a size is too large.
	Refused []MTUHop
	// BlackHole: larger packets than MTU are lost before this hop, and nobody
	// says so.
	BlackHole bool
}

// MTUPathResult is the path, hop by hop.
type MTUPathResult struct {
	Steps []MTUStep
	// MTU is what got to the last hop that answered.
	MTU     int
	Reached bool
	Probes  int
	Err     error // nothing could be sent, or who says that there is no way
}

// mtuPath is such a search under way.
type mtuPath struct {
	session
	q                  MTUPathRequest
	done               func(MTUPathResult)
	r                  MTUPathResult
	step               MTUStep
	least, carried     int // that every link carries; that got to the hop before
	size, left, silent int
	low, high          int // while halving: answered, and too large; high 0: not halving
	port               uint16
}

// StartMTUPath begins a search; done is told what was found, on a goroutine of
// the stack's. The function that is returned ends it early, with what it has.
func (p *Prober) StartMTUPath(q MTUPathRequest, done func(MTUPathResult)) (stop func()) {
	setDefault(&q.Tries, 3)
	setDefault(&q.MaxTTL, 30)
	setDefault(&q.Silent, 5)
	if q.Timeout <= 0 {
		q.Timeout = time.Second
	}
	s := &mtuPath{q: q, done: done, least: least(q.Dst)}
	s.init(p, nil, nil) // there is always a probe under way
	s.mu.Lock()
	defer s.unlock()
	route, err := p.route(&q.Request)
	if err == nil && s.q.SrcPort == 0 && (q.Proto == UDP || q.Proto == TCP) {
		// One flow, or routers that share out flows would show several ways.
		s.q.SrcPort, err = p.Reserve(q.Proto, 0)
		s.port = s.q.SrcPort
	}
	if err != nil {
		s.r.Err = err
		s.finish()
	} else {
		s.carried = route.LinkMTU()
		s.hop(1)
	}
	return func() {
		s.mu.Lock()
		s.finish()
		s.unlock()
	}
}

func setDefault(p *int, v int) {
	if *p <= 0 {
		*p = v
	}
}

// hop begins with the next TTL, with what got to the one before.
func (s *mtuPath) hop(ttl int) {
	s.step = MTUStep{TTL: ttl}
	s.low, s.high = 0, 0
	s.try(s.carried)
}

func (s *mtuPath) try(size int) {
	s.size, s.left = size, s.q.Tries
	s.once()
}

func (s *mtuPath) once() {
	s.left--
	s.r.Probes++
	q := s.q.Request
	q.Size, q.DF, q.TTL = s.size, true, uint8(s.step.TTL)
	s.send(q, s.heard)
}

func (s *mtuPath) heard(r Result) {
	if s.over {
		return
	}
	switch {
	case r.Kind == Reply || r.Kind == TTLExpired:
		s.step.Addr = r.From
		s.r.Reached = r.Kind == Reply
		s.low = s.size
		if s.high == 0 || s.low >= s.high-1 {
			s.next()
			return
		}
	case r.Kind == TooBig && r.MTU < s.size:
		s.step.Refused = append(s.step.Refused, MTUHop{r.From, s.size, r.MTU})
		mtu := max(refused(s.size, r.MTU), s.least)
		if mtu >= s.size || mtu <= s.low {
			s.next() // what it says is against what was seen
			return
		}
		s.high = 0
		s.try(mtu)
		return
	case r.Kind == Closed || r.Kind > ParameterProblem || r.Kind == NoRouteHost:
		if s.r.Err = r.Err; s.r.Err == nil {
			s.r.Err = syscall.EHOSTUNREACH
		}
		s.finish()
		return
	case s.left > 0:
		s.once()
		return
	case s.size <= s.least:
		s.high = 0 // silent whatever the size
		s.next()
		return
	default:
		s.high = s.size
		if s.low == 0 {
			if l := s.q.Likely; l > s.least && l < s.high {
				s.try(l)
			} else {
				s.try(s.least) // does anything get there?
			}
			return
		}
		if s.low >= s.high-1 {
			s.next()
			return
		}
	}
	if s.low == s.q.Likely && s.low > s.least {
		s.try(s.low + 1)
		return
	}
	s.try((s.low + s.high) / 2)
}

// next ends a hop.
func (s *mtuPath) next() {
	s.step.MTU = s.low
	if s.low > 0 {
		s.step.BlackHole = s.high > 0
		s.carried, s.r.MTU, s.silent = s.low, s.low, 0
	} else {
		s.silent++
	}
	s.r.Steps = append(s.r.Steps, s.step)
	if s.r.Reached || s.step.TTL >= s.q.MaxTTL || s.silent >= s.q.Silent {
		s.finish()
		return
	}
	s.hop(s.step.TTL + 1)
}

func (s *mtuPath) finish() {
	if s.over {
		return
	}
	// Hops at the end that said nothing are no part of the path.
	for n := len(s.r.Steps); n > 0 && !s.r.Steps[n-1].Addr.IsValid(); n-- {
		s.r.Steps = s.r.Steps[:n-1]
	}
	r := s.r
	s.end(func() {
		if s.port != 0 {
			s.p.Release(s.q.Proto, s.port)
		}
		s.done(r)
	})
}

// MTUPath finds out what each hop of a path can be sent, and returns when it is
// known or ctx ends.
func (p *Prober) MTUPath(ctx context.Context, q MTUPathRequest) MTUPathResult {
	return wait(ctx, func(done func(MTUPathResult)) func() { return p.StartMTUPath(q, done) })
}
