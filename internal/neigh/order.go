package neigh

// The two orders entries are kept in: lists by use, for eviction, and a heap
// by time, for the timers. Both are intrusive and allocate nothing per entry
// but the heap's slice.

import "github.com/tapstack/tapstack/internal/mono"

// The two memberships an entry has room for.
const (
	byRank = iota
	byWait
)

type link struct{ prev, next *entry }

// list is a doubly linked list of entries, oldest first. The zero list is an
// empty one by rank.
type list struct {
	id          int // which of the entry's links
	n           int // how many are in it
	first, last *entry
}

func (l *list) pushBack(e *entry) {
	e.links[l.id] = link{prev: l.last}
	l.n++
	if l.last == nil {
		l.first = e
	} else {
		l.last.links[l.id].next = e
	}
	l.last = e
}

func (l *list) remove(e *entry) {
	k := e.links[l.id]
	l.n--
	if k.prev == nil {
		l.first = k.next
	} else {
		k.prev.links[l.id].next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		k.next.links[l.id].prev = k.prev
	}
	e.links[l.id] = link{}
}

func (l *list) moveToBack(e *entry) {
	if l.last != e {
		l.remove(e)
		l.pushBack(e)
	}
}

// heap orders entries by when, at or before their due. Times of equal entries
// fire in an order that depends on the calls alone.
type heap []*entry

// first returns the earliest when, 0 if there is none.
func (h heap) first() mono.Time {
	if len(h) == 0 {
		return 0
	}
	return h[0].when
}

// set makes e due at t. A later time than before only moves e.due: the heap
// is put right when the earlier one comes (due).
func (h *heap) set(e *entry, t mono.Time) {
	e.due = t
	switch {
	case e.index < 0:
		e.when, e.index = t, len(*h)
		*h = append(*h, e)
		h.up(e.index)
	case t < e.when:
		e.when = t
		h.up(e.index)
	}
}

// stop takes e out.
func (h *heap) stop(e *entry) {
	if e.index < 0 {
		return
	}
	i, last := e.index, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	e.due, e.when, e.index = 0, 0, -1
}

// due returns an entry that is due at now, or nil. It stays in the heap.
func (h *heap) due(now mono.Time) *entry {
	for len(*h) > 0 {
		e := (*h)[0]
		if e.when > now {
			return nil
		}
		if e.due <= now {
			return e
		}
		e.when = e.due
		h.down(0)
	}
	return nil
}

func (h heap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h heap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].when <= h[i].when {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h heap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].when < h[child].when {
			child++
		}
		if h[i].when <= h[child].when {
			return
		}
		h.swap(i, child)
		i = child
	}
}
