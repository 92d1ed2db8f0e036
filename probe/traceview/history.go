package traceview

import (
	"sync"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// This file owns what became of the latest probes to each hop, for the displays
// that show them one by one.

// kept is how many are kept of a hop: more than any terminal is wide.
const kept = 512

// lost stands for a probe that was not answered.
const lost = time.Duration(-1)

// history is safe for concurrent use.
type history struct {
	mu   sync.Mutex
	hops map[int]*ring
}

type ring struct {
	n int // ever
	b [kept]time.Duration
}

func (h *history) add(ttl int, r *probe.Result) {
	d := r.RTT
	switch {
	case r.Kind == probe.NoReply:
		d = lost
	case r.Kind > probe.ParameterProblem:
		return // nothing was sent
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hops == nil {
		h.hops = make(map[int]*ring)
	}
	x := h.hops[ttl]
	if x == nil {
		x = new(ring)
		h.hops[ttl] = x
	}
	x.b[x.n%kept] = d
	x.n++
}

// last returns up to n of a hop, the oldest first.
func (h *history) last(ttl, n int) (list []time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.hops[ttl]
	if x == nil {
		return nil
	}
	n = min(n, x.n, kept)
	for i := x.n - n; i < x.n; i++ {
		list = append(list, x.b[i%kept])
	}
	return list
}

func (h *history) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hops = nil
}
