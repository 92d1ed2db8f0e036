package probe

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the enumeration of all ways to a destination among which routers
// share out flows: the multipath detection algorithm of Augustin, Friedman and
// Teixeira (2007). For each router seen, flows that pass it are sent one hop
// further until there were so many that another next router would have been seen
// with the confidence asked for.

// Defaults of PathsRequest.
const (
	DefaultConfidence = 0.95
	DefaultMaxFlows   = 1024
	DefaultPace       = 5 * time.Millisecond
)

// PathsRequest says what to send. The fields of Request count as in
// TraceRequest, but SrcPort, EchoSum and FlowLabel, which make the flows.
type PathsRequest struct {
	Request
	FirstTTL, MaxTTL uint8   // 0: 1 and 30
	Confidence       float64 // that no next router was missed, for each; 0: 0.95
	MaxFlows         int     // 0: 1024
	// Pace is the least time between two probes, 0: 5 ms. Routers limit how
	// many errors they send.
	Pace time.Duration
	// Tries is how often a flow is sent to a hop that is silent, 0: 3.
	Tries      int
	MaxUnknown int // silent hops in a row; 0: 3
	// Cycles is how often each way that was found is then traced with a flow of
	// its own, at that Interval (0: a second); 0: not at all.
	Cycles   int
	Interval time.Duration
}

// PathNode is a router, or with an invalid Addr the silent ones, of a hop.
type PathNode struct {
	TTL   int
	Addr  netip.Addr
	Flows int           // seen to pass it
	Best  time.Duration // shortest round trip
	Sent  int           // of those for which it would have answered
	Lost  int           // tries without an answer; of flows that it answered before or after
}

// PathEdge says that some flow passes From at TTL and To at the next.
type PathEdge struct {
	TTL      int
	From, To netip.Addr
}

// PathsResult is what was found, in the order of TTLs and addresses.
type PathsResult struct {
	Nodes []PathNode
	Edges []PathEdge
	// Width is the greatest number of routers at a hop.
	Width   int
	Reached bool
	Probes  int
	// Complete: each router got as many flows as the stopping rule asks for;
	// otherwise MaxFlows was too low.
	Complete bool
	// Paths are the ways, no two of them the same, with Cycles.
	Paths []FlowPath
	Err   error
}

// Flows returns how many flows have to be sent through a router behind which
// next others were seen, until the chance that there is another one that none of
// them met is no more than 1-confidence, if it is as likely as the others.
func Flows(next int, confidence float64) int {
	k := float64(max(next, 1) + 1) // as if there were one more
	for n := max(next, 1) + 1; ; n++ {
		// Inclusion and exclusion: the chance that some of k are missed by n.
		miss, sign, choose := 0.0, 1.0, 1.0
		for j := 1.0; j <= k; j++ {
			choose *= (k - j + 1) / j
			miss += sign * choose * math.Pow(1-j/k, float64(n))
			sign = -sign
		}
		if miss <= 1-confidence || n > 10000 {
			return n
		}
	}
}

// visit is a flow at a hop.
type visit struct{ ttl, flow int }

// enumeration is an enumeration under way.
type enumeration struct {
	session
	q        PathsRequest
	done     func(PathsResult)
	r        PathsResult
	ttl      int
	at       map[visit]netip.Addr // who answered; invalid: nobody
	ends     map[visit]bool       // it was the destination
	best     map[PathEdge]time.Duration
	lost     map[visit]int
	ports    []uint16 // of each flow
	queue    []visit  // to be sent
	under    int      // way
	silence  int
	label    uint32
	capped   bool
	nextSend mono.Time
	tracing  []*Tracing // of each of r.Paths
}

// StartPaths begins an enumeration; done is told what was found, on a goroutine
// of the stack's. The function that is returned ends it early.
func (p *Prober) StartPaths(q PathsRequest, done func(PathsResult)) (stop func()) {
	q.FirstTTL = max(q.FirstTTL, 1)
	if q.MaxTTL == 0 {
		q.MaxTTL = DefaultMaxTTL
	}
	if q.Confidence <= 0 || q.Confidence >= 1 {
		q.Confidence = DefaultConfidence
	}
	if q.MaxFlows <= 0 {
		q.MaxFlows = DefaultMaxFlows
	}
	if q.Pace <= 0 {
		q.Pace = DefaultPace
	}
	if q.Tries <= 0 {
		q.Tries = 3
	}
	if q.MaxUnknown <= 0 {
		q.MaxUnknown = 3
	}
	if q.Timeout <= 0 {
		q.Timeout = time.Second
	}
	if q.Interval <= 0 {
		q.Interval = defaultPathInterval
	}
	s := &enumeration{q: q, done: done, ttl: int(q.FirstTTL), at: make(map[visit]netip.Addr), ends: make(map[visit]bool),
		best: make(map[PathEdge]time.Duration), lost: make(map[visit]int)}
	s.init(p, s.tick, s.closed)
	s.mu.Lock()
	defer s.unlock()
	s.label = p.label()
	s.step()
	return func() {
		s.mu.Lock()
		s.finish()
		s.unlock()
	}
}

// label is a random flow label to begin with.
func (p *Prober) label() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint32(p.rand())
}

// tick sends one of the queue.
func (s *enumeration) tick(now mono.Time) {
	if len(s.queue) == 0 {
		return
	}
	v := s.queue[0]
	s.queue = s.queue[1:]
	s.under++
	s.r.Probes++
	q := s.flowRequest(v.flow)
	q.TTL = uint8(v.ttl)
	s.send(q, func(r Result) { s.heard(v, r) })
	if len(s.queue) > 0 {
		s.wake(now.Add(s.q.Pace))
	}
	s.nextSend = now.Add(s.q.Pace)
}

// heard takes a result.
func (s *enumeration) heard(v visit, r Result) {
	if s.over {
		return
	}
	s.under--
	switch {
	case r.Kind == Closed || r.Kind > ParameterProblem:
		s.r.Err = r.Err
		s.finish()
		return
	case r.Kind == NoReply:
		if s.lost[v]++; s.lost[v] < s.q.Tries {
			s.ask(v)
			return
		}
		s.at[v] = netip.Addr{}
	default:
		s.at[v] = r.From
		s.ends[v] = r.Kind != TTLExpired
		s.r.Reached = s.r.Reached || r.Kind == Reply || r.From == s.q.Dst.Unmap()
		id := PathEdge{TTL: v.ttl, From: r.From}
		if best, ok := s.best[id]; !ok || r.RTT < best {
			s.best[id] = r.RTT
		}
	}
	if s.under == 0 && len(s.queue) == 0 {
		s.step()
	}
}

// ask queues a visit.
func (s *enumeration) ask(v visit) {
	s.queue = append(s.queue, v)
	if len(s.queue) == 1 {
		s.wake(max(s.nextSend, s.p.Now()))
	}
}

// newFlow makes another flow, if there may be one.
func (s *enumeration) newFlow() (int, bool) {
	if len(s.ports) >= s.q.MaxFlows {
		s.capped = true
		return 0, false
	}
	port := uint16(0)
	if s.q.Proto != ICMP {
		var err error
		if port, err = s.p.Reserve(s.q.Proto, 0); err != nil {
			s.capped = true
			return 0, false
		}
	}
	s.ports = append(s.ports, port)
	return len(s.ports) - 1, true
}

// flowsAt groups the flows by whom they meet at a hop. Before the first hop they
// all come from us.
func (s *enumeration) flowsAt(ttl int) (who []netip.Addr, flows map[netip.Addr][]int) {
	flows = make(map[netip.Addr][]int)
	for f := range s.ports {
		a, ok := s.at[visit{ttl, f}]
		if ttl < int(s.q.FirstTTL) {
			a, ok = netip.Addr{}, true
		}
		if ok && !s.ends[visit{ttl, f}] {
			flows[a] = append(flows[a], f)
		}
	}
	if ttl < int(s.q.FirstTTL) && len(flows) == 0 {
		flows[netip.Addr{}] = nil
	}
	for a := range flows {
		who = append(who, a)
	}
	slices.SortFunc(who, netip.Addr.Compare)
	return who, flows
}

// step decides what to ask next, when all that was asked has a result.
func (s *enumeration) step() {
	for len(s.queue) == 0 {
		who, flows := s.flowsAt(s.ttl - 1)
		if len(who) == 0 || s.ttl > int(s.q.MaxTTL) || s.silence >= s.q.MaxUnknown {
			s.collect()
			if s.q.Cycles > 0 {
				s.follow()
			} else {
				s.finish()
			}
			return
		}
		for _, a := range who {
			s.extend(flows[a], len(who))
		}
		if len(s.queue) > 0 {
			return
		}
		// Every router before this hop has had enough: go on behind it.
		next, _ := s.flowsAt(s.ttl)
		if len(next) == 1 && !next[0].IsValid() {
			s.silence++
		} else {
			s.silence = 0
		}
		s.ttl++
	}
}

// extend asks for more of the hop behind a router that flows pass, one of width.
func (s *enumeration) extend(flows []int, width int) {
	next := make(map[netip.Addr]bool)
	asked := 0
	var fresh []int
	for _, f := range flows {
		a, ok := s.at[visit{s.ttl, f}]
		switch {
		case !ok:
			fresh = append(fresh, f)
			continue
		case a.IsValid():
			next[a] = true
		}
		asked++
	}
	missing := Flows(len(next), s.q.Confidence) - asked
	for _, f := range fresh {
		if missing <= 0 {
			return
		}
		s.ask(visit{s.ttl, f})
		missing--
	}
	if missing <= 0 {
		return
	}
	if s.ttl == int(s.q.FirstTTL) {
		for range missing {
			if f, ok := s.newFlow(); ok {
				s.ask(visit{s.ttl, f})
			}
		}
		return
	}
	// More flows are needed that pass this router: of new ones it is to be seen
	// which of them do.
	for range missing * width {
		if f, ok := s.newFlow(); ok {
			s.ask(visit{s.ttl - 1, f})
		}
	}
}

func (s *enumeration) closed() {
	s.r.Err = ErrClosed
	s.finish()
}

func (s *enumeration) finish() {
	if s.over {
		return
	}
	if s.r.Nodes == nil {
		s.collect()
	}
	s.interrupt()
	r := s.r
	r.Paths = distinct(r.Paths)
	s.end(func() {
		for _, port := range s.ports {
			if port != 0 {
				s.p.Release(s.q.Proto, port)
			}
		}
		s.done(r)
	})
}

// collect makes the result of what each flow met.
func (s *enumeration) collect() {
	nodes := make(map[PathEdge]*PathNode)
	edges := make(map[PathEdge]bool)
	width := make(map[int]int)
	for v, a := range s.at {
		id := PathEdge{TTL: v.ttl, From: a}
		n := nodes[id]
		if n == nil {
			n = &PathNode{TTL: v.ttl, Addr: a, Best: s.best[id]}
			nodes[id] = n
			if a.IsValid() {
				width[v.ttl]++
			}
		}
		n.Flows++
		n.Sent += s.lost[v]
		if a.IsValid() {
			n.Sent++
			n.Lost += s.lost[v]
		}
		if b, ok := s.at[visit{v.ttl + 1, v.flow}]; ok && !s.ends[v] {
			edges[PathEdge{v.ttl, a, b}] = true
		}
	}
	for _, n := range nodes {
		s.r.Nodes = append(s.r.Nodes, *n)
	}
	slices.SortFunc(s.r.Nodes, func(a, b PathNode) int { return cmp.Or(a.TTL-b.TTL, a.Addr.Compare(b.Addr)) })
	for e := range edges {
		s.r.Edges = append(s.r.Edges, e)
	}
	slices.SortFunc(s.r.Edges, func(a, b PathEdge) int {
		return cmp.Or(a.TTL-b.TTL, a.From.Compare(b.From), a.To.Compare(b.To))
	})
	for _, n := range width {
		s.r.Width = max(s.r.Width, n)
	}
	s.r.Complete = !s.capped && s.r.Err == nil && len(s.queue) == 0 && s.under == 0
}

// Paths finds the ways to a destination and returns when the stopping rule is met
// or ctx ends.
func (p *Prober) Paths(ctx context.Context, q PathsRequest) PathsResult {
	return wait(ctx, func(done func(PathsResult)) func() { return p.StartPaths(q, done) })
}
