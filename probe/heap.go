package probe

import "github.com/tapstack/tapstack/internal/mono"

// This file owns the one heap of deadlines: of probes that wait and of pings
// and traces that send the next. The stack's timer is set to the first.

// timer is a place in the heap. f runs with Prober.mu held and returns what to
// do without it, or nil.
type timer struct {
	when  mono.Time // 0: not in the heap
	order uint64
	index int
	f     func(now mono.Time) func()
}

func (a *timer) before(b *timer) bool {
	return a.when < b.when || a.when == b.when && a.order < b.order
}

type timers struct {
	heap  []*timer
	order uint64
}

// set moves t to when; 0 takes it out.
func (h *timers) set(t *timer, when mono.Time) {
	switch {
	case when == 0:
		if t.when != 0 {
			h.remove(t)
		}
		return
	case t.when == 0:
		t.index = len(h.heap)
		h.heap = append(h.heap, t)
	}
	h.order++
	t.when, t.order = when, h.order
	h.up(t.index)
	h.down(t.index)
}

func (h *timers) remove(t *timer) {
	i, last := t.index, len(h.heap)-1
	h.swap(i, last)
	h.heap[last] = nil
	h.heap = h.heap[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	t.when = 0
}

// first is the next deadline, or 0.
func (h *timers) first() mono.Time {
	if len(h.heap) == 0 {
		return 0
	}
	return h.heap[0].when
}

func (h *timers) swap(i, j int) {
	a := h.heap
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (h *timers) up(i int) {
	for i > 0 && h.heap[i].before(h.heap[(i-1)/2]) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *timers) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h.heap); c++ {
			if h.heap[c].before(h.heap[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
