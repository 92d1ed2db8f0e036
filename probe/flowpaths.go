package probe

import (
	"net/netip"
	"slices"
	"time"
)

// This file owns what becomes of the ways that an enumeration found: of the flows
// that were sent a few are kept, such that every link that was seen is passed by
// one, and each of them is traced like a destination of its own, cycle by cycle.
// So loss and round trips are told for each way and not for all of them together.

// maxPaths bounds the ways that are traced.
const maxPaths = 256

// FlowPath is a way to the destination and how it fared.
type FlowPath struct {
	// What makes the flow: the source port, or of echo requests their checksum,
	// and the flow label of IPv6.
	SrcPort, EchoSum uint16
	FlowLabel        uint32
	// Routers are those that answered most, hop by hop from FirstTTL on; invalid
	// where nobody did.
	Routers []netip.Addr
	Trace   TraceResult
}

// Loss returns the per cent of the probes to the destination that were not
// answered, 100 when it was never reached.
func (f *FlowPath) Loss() float64 {
	if !f.Trace.Reached() || len(f.Trace.Hops) == 0 {
		return 100
	}
	return f.Trace.Hops[len(f.Trace.Hops)-1].Loss()
}

// chosen returns flows that pass every link that was seen, those first that were
// seen at most hops.
func (s *enumeration) chosen() (list []int) {
	type link struct {
		ttl      int
		from, to netip.Addr
	}
	missing := make(map[link]bool)
	of := make([][]link, len(s.ports))
	for v, a := range s.at {
		b, ok := s.at[visit{v.ttl + 1, v.flow}]
		if v.ttl == int(s.q.FirstTTL) {
			l := link{v.ttl - 1, netip.Addr{}, a}
			missing[l] = true
			of[v.flow] = append(of[v.flow], l)
		}
		if ok && !s.ends[v] {
			l := link{v.ttl, a, b}
			missing[l] = true
			of[v.flow] = append(of[v.flow], l)
		}
	}
	for len(missing) > 0 && len(list) < maxPaths {
		best, most := -1, 0
		for f, links := range of {
			n := 0
			for _, l := range links {
				if missing[l] {
					n++
				}
			}
			if n > most {
				best, most = f, n
			}
		}
		if best < 0 {
			break
		}
		for _, l := range of[best] {
			delete(missing, l)
		}
		list = append(list, best)
	}
	slices.Sort(list)
	return list
}

// flowRequest is the request of a flow.
func (s *enumeration) flowRequest(flow int) Request {
	q := s.q.Request
	q.EchoSum, q.EchoID = 0, 0
	if q.Proto == ICMP {
		q.EchoSum = uint16(1 + flow*40503%65534)
	} else {
		q.SrcPort = s.ports[flow]
	}
	if q.Dst.Is6() {
		q.FlowLabel = (s.label + uint32(flow)*2654435761) & 0xfffff
	}
	return q
}

// follow traces the chosen flows, and ends the enumeration when all have been.
func (s *enumeration) follow() {
	flows := s.chosen()
	s.r.Paths = make([]FlowPath, len(flows))
	s.tracing = make([]*Tracing, len(flows))
	left := len(flows)
	if left == 0 {
		s.finish()
		return
	}
	for i, f := range flows {
		q := s.flowRequest(f)
		s.r.Paths[i] = FlowPath{SrcPort: q.SrcPort, EchoSum: q.EchoSum, FlowLabel: q.FlowLabel}
		t := TraceRequest{Request: q, FirstTTL: s.q.FirstTTL, MaxTTL: s.q.MaxTTL, Cycles: s.q.Cycles, Interval: s.q.Interval, MaxUnknown: s.q.MaxUnknown, Grace: s.q.Timeout}
		s.later(func() {
			x := s.p.StartTrace(t, nil, func(r TraceResult) {
				s.mu.Lock()
				s.traced(i, r)
				if left--; left == 0 {
					s.finish()
				}
				s.unlock()
			})
			s.mu.Lock()
			s.tracing[i] = x
			over := s.over
			s.mu.Unlock()
			if over {
				x.Stop()
			}
		})
	}
}

// traced takes what a trace came to.
func (s *enumeration) traced(i int, r TraceResult) {
	if s.over {
		return
	}
	p := &s.r.Paths[i]
	p.Trace = r
	for k := range r.Hops {
		x, _ := r.Hops[k].Most()
		p.Routers = append(p.Routers, x.Addr)
	}
	if r.Err != nil && s.r.Err == nil {
		s.r.Err = r.Err
	}
}

// interrupt stops the traces and keeps what they know.
func (s *enumeration) interrupt() {
	for i, t := range s.tracing {
		if t != nil {
			if s.r.Paths[i].Routers == nil {
				s.traced(i, t.Snapshot())
			}
			s.later(t.Stop)
		}
	}
}

// distinct leaves out ways that are the same as others, which may be when two
// flows were kept for links that each of them passes in the end.
func distinct(paths []FlowPath) []FlowPath {
	var list []FlowPath
	for _, p := range paths {
		if p.Routers != nil && !slices.ContainsFunc(list, func(x FlowPath) bool { return slices.Equal(x.Routers, p.Routers) }) {
			list = append(list, p)
		}
	}
	return list
}

// defaultPathInterval is between cycles.
const defaultPathInterval = time.Second
