package stack

// This file owns who is told that links, addresses, routes or neighbours have
// changed. A Watch is a bounded queue: who does not read loses what is newest,
// is told so, and lists everything anew, as with rtnetlink(7). Changes of the
// configuration are found by comparing the old with the new in update, so that
// none can be forgotten; without a Watch they are not looked for.

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// ChangeKind is what a change is about; a Watch may be for several of them.
type ChangeKind uint8

// The kinds.
const (
	LinkChange ChangeKind = 1 << iota
	AddrChange
	RouteChange
	NeighbourChange
	AllChanges = LinkChange | AddrChange | RouteChange | NeighbourChange
)

// ChangeOp is what has happened.
type ChangeOp uint8

// The operations.
const (
	Added ChangeOp = iota
	Changed
	Removed
)

// String names the operation.
func (o ChangeOp) String() string { return [...]string{"added", "changed", "removed"}[o] }

// Change is one change. Of the last four fields that of its kind is set: as it
// is now, and of what was removed as it was.
type Change struct {
	Kind      ChangeKind
	Op        ChangeOp
	Link      Link
	Addr      Addr
	Route     Route
	Neighbour Neighbour
}

// String formats a change for a log: "route added: default via 10.77.0.1 dev tap7".
func (c Change) String() string {
	switch c.Kind {
	case LinkChange:
		return fmt.Sprintf("link %v: %v", c.Op, c.Link)
	case AddrChange:
		return fmt.Sprintf("address %v: %v", c.Op, c.Addr)
	case RouteChange:
		return fmt.Sprintf("route %v: %v", c.Op, c.Route)
	}
	return fmt.Sprintf("neighbour %v: %v", c.Op, c.Neighbour)
}

// Watch is a subscription to changes.
type Watch struct {
	s     *Stack
	kinds ChangeKind
	most  int
	wake  chan struct{} // has an element when there may be something to read

	mu     sync.Mutex // guards the rest; nothing else is locked under it
	queue  []Change
	lost   bool
	closed bool
}

// watches are all of them, nil: none.
type watches struct {
	p atomic.Pointer[[]*Watch]
}

// Watch subscribes to changes of some kinds; at most most of them wait to be
// read, 0 stands for 256. Close it when done.
func (s *Stack) Watch(kinds ChangeKind, most int) *Watch {
	if most <= 0 {
		most = 256
	}
	w := &Watch{s: s, kinds: kinds, most: most, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		w.closed = true
		return w
	}
	s.watches.set(append(s.watches.list(), w))
	return w
}

func (t *watches) list() []*Watch {
	if p := t.p.Load(); p != nil {
		return slices.Clone(*p)
	}
	return nil
}

func (t *watches) set(list []*Watch) {
	if len(list) == 0 {
		t.p.Store(nil)
		return
	}
	t.p.Store(&list)
}

// Close ends the subscription; Next returns net.ErrClosed from then on.
func (w *Watch) Close() {
	w.s.mu.Lock()
	w.s.watches.set(slices.DeleteFunc(w.s.watches.list(), func(o *Watch) bool { return o == w }))
	w.s.mu.Unlock()
	w.end()
}

func (w *Watch) end() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// TryNext returns the oldest change that was not read. EAGAIN: there is none;
// ENOBUFS, once: changes were lost, list everything anew; net.ErrClosed: there
// will be no more.
func (w *Watch) TryNext() (Change, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.queue) > 0:
		c := w.queue[0]
		w.queue[0] = Change{}
		w.queue = w.queue[1:]
		return c, nil
	case w.lost:
		w.lost = false
		return Change{}, fmt.Errorf("changes were lost: %w", syscall.ENOBUFS)
	case w.closed:
		return Change{}, net.ErrClosed
	}
	return Change{}, syscall.EAGAIN
}

// Next is TryNext that waits for a change, for as long as ctx lets it. It is for
// one goroutine.
func (w *Watch) Next(ctx context.Context) (Change, error) {
	for {
		c, err := w.TryNext()
		if err != syscall.EAGAIN {
			return c, err
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

// wants reports whether somebody watches a kind of change.
func (t *watches) wants(k ChangeKind) bool {
	p := t.p.Load()
	return p != nil && slices.ContainsFunc(*p, func(w *Watch) bool { return w.kinds&k != 0 })
}

// tell queues a change for those who watch its kind. Whatever the caller has
// locked stays so.
func (t *watches) tell(c Change) {
	p := t.p.Load()
	if p == nil {
		return
	}
	for _, w := range *p {
		if w.kinds&c.Kind == 0 {
			continue
		}
		w.mu.Lock()
		// Once something is lost nothing may follow until the reader knows.
		if w.lost = w.lost || len(w.queue) >= w.most; !w.lost {
			w.queue = append(w.queue, c)
		}
		w.mu.Unlock()
		w.signal()
	}
}

// closeWatches ends all subscriptions.
func (s *Stack) closeWatches() {
	s.mu.Lock()
	list := s.watches.list()
	s.watches.set(nil)
	s.mu.Unlock()
	for _, w := range list {
		w.end()
	}
}

// compareLocked tells what is different in a new configuration.
func (t *watches) compareLocked(old, now *config) {
	if t.p.Load() == nil {
		return
	}
	for _, i := range now.ifaces {
		if !slices.Contains(old.ifaces, i) {
			t.tell(Change{Kind: LinkChange, Op: Added, Link: i.linkInfo()})
		}
	}
	type key struct {
		i *Interface
		a any
	}
	before := make(map[key]*address, len(old.addrs))
	for _, a := range old.addrs {
		before[key{a.iface, a.addr()}] = a
	}
	var added []Change
	for _, a := range now.addrs {
		k := key{a.iface, a.addr()}
		b := before[k]
		delete(before, k)
		switch {
		case b == nil:
			added = append(added, Change{Kind: AddrChange, Op: Added, Addr: a.public()})
		case b != a && b.public() != a.public():
			added = append(added, Change{Kind: AddrChange, Op: Changed, Addr: a.public()})
		}
	}
	routes := make(map[Route]bool, len(old.routes))
	for _, r := range old.routes {
		routes[r] = true
	}
	for _, r := range now.routes {
		if !routes[r] {
			added = append(added, Change{Kind: RouteChange, Op: Added, Route: r})
		}
		delete(routes, r)
	}
	// What goes, goes first; in the order in which it was listed.
	for _, r := range old.routes {
		if routes[r] {
			t.tell(Change{Kind: RouteChange, Op: Removed, Route: r})
		}
	}
	for _, a := range old.addrs {
		if before[key{a.iface, a.addr()}] != nil {
			t.tell(Change{Kind: AddrChange, Op: Removed, Addr: a.public()})
		}
	}
	for _, c := range added {
		t.tell(c)
	}
	for _, i := range old.ifaces {
		if !slices.Contains(now.ifaces, i) {
			t.tell(Change{Kind: LinkChange, Op: Removed, Link: i.linkInfo()})
		}
	}
}
