// Package wheel is the stack's one timer queue: a heap of deadlines with a
// stable order. Deadlines that move later cost nothing: a Timer keeps its
// place in the heap, fires early, and its owner asks for the true deadline
// again (lazy re-arming).
package wheel

import (
	"sync"

	"github.com/tapstack/tapstack/internal/mono"
)

// Timer is one owner's place in the queue. The zero value with Owner set is
// ready.
type Timer struct {
	Owner Owner

	when  mono.Time // 0: not queued; guarded by Queue.mu
	order uint32    // modulo 2^32
	index int32
}

// Owner has a Timer.
type Owner interface {
	// Expire is called when the timer is due, without the queue's lock held,
	// so it may take its owner's lock and call Arm. It may come early; the
	// owner compares with its own deadline and arms again.
	Expire(now mono.Time)
}

// Func is an Owner that is a function.
type Func func(now mono.Time)

// Expire implements Owner.
func (f Func) Expire(now mono.Time) { f(now) }

// Queue runs the timers of one stack on one Clock.
type Queue struct {
	clock mono.Clock

	mu     sync.Mutex // guards everything below
	heap   []*Timer
	order  uint32
	woken  mono.Time // instant the clock is set to, 0: none
	closed bool
	active sync.WaitGroup
}

// minShrink is the room in the heap that is kept however few timers there are.
const minShrink = 1024

// New returns an empty queue. The queue is the only user of clock.Wake.
func New(clock mono.Clock) *Queue { return &Queue{clock: clock} }

// Arm makes t fire at or before when; a timer already due earlier stays as it
// is. when == 0 does nothing. Equal instants fire in the order of arming.
func (q *Queue) Arm(t *Timer, when mono.Time) {
	if when == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || (t.when != 0 && t.when <= when) {
		return
	}
	q.order++
	t.order = q.order
	if t.when == 0 {
		t.when, t.index = when, int32(len(q.heap))
		q.heap = append(q.heap, t)
	} else {
		t.when = when
	}
	q.up(int(t.index))
	q.setClockLocked()
}

// Stop takes t out of the queue. A call of its owner may already be under way.
func (q *Queue) Stop(t *Timer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.when != 0 {
		q.removeLocked(t)
	}
}

// Len returns the number of queued timers.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heap)
}

// Close drops all timers and waits until no timer function runs. It must not
// be called from a timer function.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	for _, t := range q.heap {
		t.when = 0
	}
	q.heap = nil
	q.clock.Wake(0, nil)
	q.mu.Unlock()
	q.active.Wait()
}

// run fires everything due. It is the clock's callback.
func (q *Queue) run() {
	q.mu.Lock()
	q.woken = 0
	if q.closed {
		q.mu.Unlock()
		return
	}
	q.active.Add(1)
	defer q.active.Done()
	now := q.clock.Now()
	for len(q.heap) > 0 && q.heap[0].when <= now {
		t := q.heap[0]
		q.removeLocked(t)
		q.mu.Unlock()
		t.Owner.Expire(now)
		q.mu.Lock()
	}
	q.setClockLocked()
	q.mu.Unlock()
}

// setClockLocked asks the clock for the first deadline, if it is not already
// set to something as early.
func (q *Queue) setClockLocked() {
	if len(q.heap) == 0 || q.closed {
		return
	}
	if first := q.heap[0].when; q.woken == 0 || first < q.woken {
		q.woken = first
		q.clock.Wake(first, q.run)
	}
}

func (q *Queue) less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	return a.when < b.when || a.when == b.when && int32(a.order-b.order) < 0
}

func (q *Queue) swap(i, j int) {
	h := q.heap
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}

func (q *Queue) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *Queue) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(q.heap) {
			return
		}
		if c+1 < len(q.heap) && q.less(c+1, c) {
			c++
		}
		if !q.less(c, i) {
			return
		}
		q.swap(i, c)
		i = c
	}
}

func (q *Queue) removeLocked(t *Timer) {
	i, last := int(t.index), len(q.heap)-1
	q.swap(i, last)
	q.heap[last] = nil
	q.heap = q.heap[:last]
	if c := cap(q.heap); c > minShrink && last < c/4 {
		q.heap = append(make([]*Timer, 0, c/2), q.heap...)
	}
	if i < last {
		q.down(i)
		q.up(i)
	}
	t.when = 0
}
