package probe

import (
	"context"
	"net/netip"
	"slices"
)

// This file owns the search for what a path carries: packets that must not be
// fragmented, as large as the link allows, then as large as routers say (RFC
// 1191, RFC 8201), and where nobody says anything by halving (RFC 4821 §7).

// MTURequest says what to send. Size, DF and TTL of Request do not count.
type MTURequest struct {
	Request
	// Tries is how often a size is sent before it counts as too large, 0: 3.
	Tries int
}

// MTUHop is a router that refused a size.
type MTUHop struct {
	Addr netip.Addr
	Size int // of the packet that it refused
	MTU  int // that it named, 0: an old router
}

// MTUResult is what a path carries.
type MTUResult struct {
	// MTU is the largest packet that was answered, 0: none was.
	MTU int
	// Hops are those who refused something, in the order of their answers.
	Hops []MTUHop
	// BlackHole: larger packets vanish, without anybody saying so.
	BlackHole bool
	Probes    int
	Err       error // nothing could be sent
}

// plateaus are the sizes that links have, for routers that name none (RFC 1191 §7).
var plateaus = []int{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// least returns what every link to a destination carries.
func least(dst netip.Addr) int {
	if dst.Is6() && !dst.Is4In6() {
		return 1280
	}
	return 68
}

// refused returns what somebody carries who has refused a packet of so many bytes
// and named an MTU; 0 is none named, and the next plateau is taken.
func refused(size, mtu int) int {
	if mtu == 0 {
		return plateaus[max(slices.IndexFunc(plateaus, func(p int) bool { return p < size }), 0)]
	}
	return mtu
}

// search is a search under way.
type search struct {
	session
	q          MTURequest
	done       func(MTUResult)
	r          MTUResult
	least      int // that every link carries
	high       int // nothing larger gets there
	size, left int // being tried, and how often more
}

// StartMTU begins a search; done is told what was found, on a goroutine of the
// stack's. The function that is returned ends it early.
func (p *Prober) StartMTU(q MTURequest, done func(MTUResult)) (stop func()) {
	setDefault(&q.Tries, 3)
	s := &search{q: q, done: done, least: least(q.Dst)}
	s.init(p, nil, nil) // there is always a probe under way
	s.mu.Lock()
	defer s.unlock()
	if route, err := p.route(&q.Request); err != nil {
		s.r.Err = err
		s.finish()
	} else {
		s.high = route.LinkMTU()
		s.try(s.high)
	}
	return func() {
		s.mu.Lock()
		s.finish()
		s.unlock()
	}
}

func (s *search) try(size int) {
	s.size, s.left = size, s.q.Tries
	s.once()
}

func (s *search) once() {
	s.left--
	s.r.Probes++
	q := s.q.Request
	q.Size, q.DF, q.TTL = s.size, true, 0
	s.send(q, s.heard)
}

func (s *search) heard(r Result) {
	if s.over {
		return
	}
	switch {
	case r.Kind == Reply:
		s.r.MTU = s.size
	case r.Kind == TooBig && r.MTU < s.size:
		s.r.Hops = append(s.r.Hops, MTUHop{r.From, s.size, r.MTU})
		s.high = max(refused(s.size, r.MTU), s.least)
		if s.high <= s.r.MTU || s.high >= s.size {
			s.finish() // what it says is against what was seen
			return
		}
		s.try(s.high)
		return
	case r.Kind == Closed || r.Kind > ParameterProblem || r.Kind == NoRouteHost || r.Kind == TTLExpired:
		s.r.Err = r.Err
		s.finish()
		return
	case s.left > 0:
		s.once()
		return
	case s.size <= s.least:
		s.finish() // nothing gets there, whatever its size
		return
	default:
		s.high = s.size - 1
		s.r.BlackHole = true
		if s.r.MTU == 0 {
			s.try(s.least) // does anything?
			return
		}
	}
	if s.r.MTU >= s.high {
		s.finish()
		return
	}
	s.try((s.r.MTU + s.high + 1) / 2)
}

func (s *search) finish() {
	if s.over {
		return
	}
	s.r.BlackHole = s.r.BlackHole && s.r.MTU > 0
	r := s.r
	s.end(func() { s.done(r) })
}

// MTU finds out what a path carries, and returns when it is known or ctx ends.
func (p *Prober) MTU(ctx context.Context, q MTURequest) MTUResult {
	return wait(ctx, func(done func(MTUResult)) func() { return p.StartMTU(q, done) })
}
