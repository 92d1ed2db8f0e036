package socket

// This file owns watching a socket from outside of its calls, as poll(2) and
// epoll(7) do: a watcher stays where news of the socket comes up, though that
// is another place once it connects, listens, or a connection has failed.

import (
	"net"

	"github.com/tapstack/tapstack/stack"
)

// watcher is one party's interest in a socket. Its w.F, or w.Take, may be called
// with the socket's lock held, so it takes no lock but its own.
type watcher struct {
	w          stack.Waiter
	fd         *FD
	gone       func()           // the descriptor was closed; called without locks
	q          *stack.WaitQueue // where w is, nil: nowhere. Guarded by file.mu, as are
	next, prev *watcher         // its neighbours in file.watchers
	listed     bool
}

// tell is what a stack.WaitQueue does.
func (w *watcher) tell(r stack.Ready) {
	if w.w.Take != nil {
		w.w.Take(r)
	} else {
		w.w.F(r)
	}
}

// everything wakes all watchers.
const everything = stack.ReadyIn | stack.ReadyOut | stack.ReadyPri | stack.ReadyErr | stack.ReadyHup | stack.ReadyRdHup

// watch enters w, which is told what happens from now on.
func (f *FD) watch(w *watcher) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return net.ErrClosed
	}
	w.fd, w.listed = f, true
	w.prev, w.next = nil, f.watchers
	if w.next != nil {
		w.next.prev = w
	}
	f.watchers = w
	w.moveTo(f.queueLocked())
	return nil
}

// unwatch takes w out; a call of it may still be under way.
func (f *FD) unwatch(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unwatchLocked(w)
}

func (f *FD) unwatchLocked(w *watcher) {
	if !w.listed {
		return
	}
	w.moveTo(nil)
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		f.watchers = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.next, w.prev, w.listed = nil, nil, false
}

// unwatchAll takes out all who watch through this descriptor, which was closed.
func (f *FD) unwatchAll() {
	var gone []*watcher
	f.mu.Lock()
	for w := f.watchers; w != nil; {
		next := w.next
		if w.fd == f {
			f.unwatchLocked(w)
			gone = append(gone, w)
		}
		w = next
	}
	f.mu.Unlock()
	for _, w := range gone {
		w.gone()
	}
}

func (w *watcher) moveTo(q *stack.WaitQueue) {
	if w.q == q {
		return
	}
	if w.q != nil {
		w.q.Remove(&w.w)
	}
	if w.q = q; q != nil {
		q.Add(&w.w)
	}
}

// queueLocked is where news of the socket comes up at present.
func (f *file) queueLocked() *stack.WaitQueue {
	switch {
	case f.dgram != nil:
		return f.dgram.Waiters()
	case f.packet != nil:
		return f.packet.Waiters()
	case f.conn != nil:
		return f.conn.Waiters()
	case f.listening:
		return f.bind.Waiters()
	}
	return nil
}

// movedLocked takes the watchers along to where news comes up now, and lets
// them look, for the socket is another one than it was.
func (f *file) movedLocked() {
	for w := f.watchers; w != nil; w = w.next {
		w.moveTo(f.queueLocked())
		w.tell(everything)
	}
}
