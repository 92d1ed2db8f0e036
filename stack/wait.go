package stack

import (
	"sync"
	"sync/atomic"
)

// Ready is a set of conditions of an endpoint, in the sense of poll(2).
type Ready uint8

// The conditions.
const (
	ReadyIn    Ready = 1 << iota // data, a connection or end of file can be read
	ReadyOut                     // a write would make progress
	ReadyErr                     // an error is pending
	ReadyHup                     // both directions are over, or there is no connection
	ReadyPri                     // a byte of urgent data can be read out of line
	ReadyRdHup                   // nothing more will come than what can be read now
)

// Waiter is one party's interest in an endpoint. F runs without any lock of
// the stack held, possibly on the device's reader goroutine, so it must be
// short: put a token into a channel, or (in simulations) run the application.
type Waiter struct {
	Want Ready
	F    func(Ready)
	// Take instead of F is for a party that may leave the news to others: of
	// those, Wake asks one after the other, the one that waits longest first,
	// until one says that it takes care.
	Take func(Ready) bool

	next, prev *Waiter
}

// WaitQueue is the list of an endpoint's waiters. The zero value is ready.
type WaitQueue struct {
	n    atomic.Int32 // lets Wake skip the lock when nobody waits
	mu   sync.Mutex   // guards head and the links of the waiters
	head *Waiter
}

// Add enters w; a condition that already holds is not reported, so look at
// the endpoint's readiness after adding.
func (q *WaitQueue) Add(w *Waiter) {
	q.mu.Lock()
	w.prev, w.next = nil, q.head
	if q.head != nil {
		q.head.prev = w
	}
	q.head = w
	q.mu.Unlock()
	q.n.Add(1)
}

// Remove takes w out again; its F may still be running elsewhere.
func (q *WaitQueue) Remove(w *Waiter) {
	q.mu.Lock()
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
	q.mu.Unlock()
	q.n.Add(-1)
}

// Wake tells every waiter that wants one of r. Errors and hang-ups wake all.
func (q *WaitQueue) Wake(r Ready) {
	if r == 0 || q.n.Load() == 0 {
		return
	}
	q.mu.Lock()
	// F may add or remove waiters, so it runs on a copy, outside the lock.
	var few [8]func(Ready)
	list := few[:0]
	var takers []func(Ready) bool
	for w := q.head; w != nil; w = w.next {
		switch {
		case r&(w.Want|ReadyErr|ReadyHup) == 0:
		case w.Take != nil:
			takers = append(takers, w.Take)
		default:
			list = append(list, w.F)
		}
	}
	q.mu.Unlock()
	for _, f := range list {
		f(r)
	}
	for i := len(takers) - 1; i >= 0 && !takers[i](r); i-- {
	}
}
