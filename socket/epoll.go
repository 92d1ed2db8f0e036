package socket

// This file owns the Poller, a set of sockets to wait for as epoll(7) has it.
// Each member has a place in the wait queue of its socket, so that one of 10,000
// that becomes ready costs as much as one of ten: its callback puts it on the
// list of those to look at, and wakes one of those who wait.

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// Events of a Poller, with Linux's numbers: those of Poll, and how to be told.
const (
	EPOLLIN     = POLLIN
	EPOLLPRI    = POLLPRI
	EPOLLOUT    = POLLOUT
	EPOLLERR    = POLLERR // always told
	EPOLLHUP    = POLLHUP // always told
	EPOLLRDNORM = POLLRDNORM
	EPOLLRDBAND = POLLRDBAND
	EPOLLWRNORM = POLLWRNORM
	EPOLLWRBAND = POLLWRBAND
	EPOLLMSG    = POLLMSG
	EPOLLRDHUP  = POLLRDHUP

	EPOLLEXCLUSIVE = 1 << 28 // of the sets a socket is in with this, news wake one where somebody waits
	EPOLLWAKEUP    = 1 << 29 // keeps the machine from sleeping in the kernel; means nothing here
	EPOLLONESHOT   = 1 << 30 // told once, then not until Mod
	EPOLLET        = 1 << 31 // told when something happens, not as long as it holds
)

const (
	epollPrivate   = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET
	epollAlways    = EPOLLERR | EPOLLHUP
	epollExclusive = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
)

// EpollEvent is struct epoll_event: what a member is ready for, and what Add was
// given with it.
type EpollEvent struct {
	Events uint32
	Data   any
}

// Poller is a set of sockets, each of which somebody may wait for together with
// the others. It holds some 250 bytes for each member and nothing else that
// grows. A descriptor that is closed leaves it, also when the socket has others
// (Linux keeps it then). A Poller is no socket, so none can be in another. Its
// methods may be called from any goroutine.
type Poller struct {
	mu      sync.Mutex // guards everything here; held while sockets are looked at
	members map[*FD]*member
	closed  bool

	ready readyList
}

// readyList is what members' callbacks touch; nothing is locked while its lock
// is held.
type readyList struct {
	mu         sync.Mutex // guards everything here, and member.{queued,dead,asleep,after}
	head, tail *member    // to be looked at, the oldest first
	n          int
	waiting    *pollWaiter // who waits, the newest first
	last       *pollWaiter // and the oldest
	idle       *pollWaiter // to be used again
	called     int         // who was taken off waiting and is on the way
	closed     bool
}

// member is a socket in a Poller.
type member struct {
	watcher
	p      *Poller
	events uint32 // guarded by Poller.mu, as is
	data   any
	queued bool // on the ready list
	dead   bool // no longer a member
	asleep bool // EPOLLONESHOT, and it was told
	after  *member
}

// pollWaiter is a goroutine in Wait.
type pollWaiter struct {
	news       chan struct{}
	called     bool // taken off the list, and there is a token in news
	next, prev *pollWaiter
}

// NewPoller is epoll_create(2).
func NewPoller() *Poller { return &Poller{members: make(map[*FD]*member)} }

// Add is EPOLL_CTL_ADD. What f is ready for already is told too, also with
// EPOLLET. Errors: EBADF without a socket, EEXIST, net.ErrClosed for a closed
// socket or set; EINVAL for EPOLLEXCLUSIVE beside anything but EPOLLIN,
// EPOLLOUT and EPOLLET.
func (p *Poller) Add(f *FD, events uint32, data any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f == nil:
		return syscall.EBADF
	case p.closed || f.closed.Load():
		return net.ErrClosed
	case events&EPOLLEXCLUSIVE != 0 && events&^epollExclusive != 0:
		return syscall.EINVAL
	case p.members[f] != nil:
		return syscall.EEXIST
	}
	m := &member{p: p, events: events, data: data}
	if events&EPOLLEXCLUSIVE != 0 {
		m.w.Take = m.notify
	} else {
		m.w.F = func(r stack.Ready) { m.notify(r) }
	}
	// What Mod may ask for is not known to the queue, where others read.
	m.w.Want = everything
	m.gone = m.leave
	if err := f.watch(&m.watcher); err != nil {
		return err
	}
	p.members[f] = m
	m.check()
	return nil
}

// Mod is EPOLL_CTL_MOD: other events and data, told afresh. Errors: EBADF,
// ENOENT for no member, net.ErrClosed; EINVAL for EPOLLEXCLUSIVE, before or now.
func (p *Poller) Mod(f *FD, events uint32, data any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := p.member(f)
	if err != nil {
		return err
	}
	if (events|m.events)&EPOLLEXCLUSIVE != 0 {
		return syscall.EINVAL
	}
	m.events, m.data = events, data
	p.ready.mu.Lock()
	m.asleep = false
	p.ready.mu.Unlock()
	m.check()
	return nil
}

// Del is EPOLL_CTL_DEL. Errors: EBADF, ENOENT for no member, net.ErrClosed.
func (p *Poller) Del(f *FD) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := p.member(f)
	if err == nil {
		m.removeLocked()
	}
	return err
}

func (p *Poller) member(f *FD) (*member, error) {
	switch {
	case f == nil:
		return nil, syscall.EBADF
	case p.closed:
		return nil, net.ErrClosed
	case p.members[f] == nil && f.closed.Load():
		return nil, net.ErrClosed
	case p.members[f] == nil:
		return nil, syscall.ENOENT
	}
	return p.members[f], nil
}

// Len returns the number of members.
func (p *Poller) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.members)
}

// Close ends the set, and all who wait for it with net.ErrClosed. The sockets
// stay open.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	p.closed = true
	for _, m := range p.members {
		m.removeLocked()
	}
	l := &p.ready
	l.mu.Lock()
	l.closed = true
	for l.callLocked() {
	}
	l.mu.Unlock()
	return nil
}

// removeLocked ends the membership.
func (m *member) removeLocked() {
	delete(m.p.members, m.fd)
	m.fd.unwatch(&m.watcher)
	l := &m.p.ready
	l.mu.Lock()
	m.dead, m.data = true, nil
	l.dropLocked(m)
	l.mu.Unlock()
}

// leave is watcher.gone.
func (m *member) leave() {
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	if m.p.members[m.fd] == m {
		m.removeLocked()
	}
}

// check puts m on the list if it is ready now.
func (m *member) check() {
	if uint32(m.fd.Revents())&(m.events|epollAlways) != 0 {
		m.notify(everything)
	}
}

// notify puts m on the list, unless it is there, and wakes one who waits. It
// reports whether somebody is on the way to look.
func (m *member) notify(stack.Ready) bool {
	l := &m.p.ready
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.dead || m.asleep:
		return false
	case m.queued:
		return l.called > 0
	}
	l.pushLocked(m)
	return l.callLocked()
}

func (l *readyList) pushLocked(m *member) {
	m.queued, m.after = true, nil
	if l.tail != nil {
		l.tail.after = m
	} else {
		l.head = m
	}
	l.tail = m
	l.n++
}

func (l *readyList) popLocked() *member {
	m := l.head
	if l.head = m.after; l.head == nil {
		l.tail = nil
	}
	m.queued, m.after = false, nil
	l.n--
	return m
}

// dropLocked takes m off the list if it is there.
func (l *readyList) dropLocked(m *member) {
	if !m.queued {
		return
	}
	// Rare, and the list is as long as there are members that became ready
	// since the last Wait.
	for range l.n {
		if x := l.popLocked(); x != m {
			l.pushLocked(x)
		}
	}
}

// callLocked wakes who waits longest, and reports whether there is anybody.
func (l *readyList) callLocked() bool {
	w := l.last
	if w == nil {
		return false
	}
	l.unlinkLocked(w)
	w.called = true
	l.called++
	w.news <- struct{}{}
	return true
}

func (l *readyList) unlinkLocked(w *pollWaiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.waiting = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.next, w.prev = nil, nil
}

// Wait is epoll_wait(2): it waits until a member is ready, fills events with
// those that are, as many as fit, and returns how many that are. It waits no
// longer than timeout; 0 is not at all, and below 0 without end. Of several
// goroutines that wait one is woken for each member that becomes ready; members
// without EPOLLET and EPOLLONESHOT are told to all, one after the other, as long
// as they are ready. Errors: EINVAL without room for an event, net.ErrClosed.
func (p *Poller) Wait(events []EpollEvent, timeout time.Duration) (int, error) {
	if timeout <= 0 {
		return p.wait(background, nil, events, timeout == 0)
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	return p.wait(background, t.C, events, false)
}

// WaitContext is Wait until ctx ends, whose error it then returns.
func (p *Poller) WaitContext(ctx context.Context, events []EpollEvent) (int, error) {
	return p.wait(ctx, nil, events, false)
}

func (p *Poller) wait(ctx context.Context, over <-chan time.Time, events []EpollEvent, now bool) (int, error) {
	if len(events) == 0 {
		return 0, syscall.EINVAL
	}
	for {
		n, err := p.harvest(events)
		if n > 0 || err != nil || now {
			return n, err
		}
		w := p.ready.park()
		if w == nil {
			continue
		}
		select {
		case <-w.news:
		case <-over:
			now = true // once more: somebody may have relied on us
		case <-ctx.Done():
			if !p.ready.unpark(w) {
				p.ready.pass()
			}
			return 0, ctx.Err()
		}
		p.ready.unpark(w)
	}
}

// park enters the caller among those who wait, or returns nil if there is
// something to look at.
func (l *readyList) park() *pollWaiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head != nil || l.closed {
		return nil
	}
	w := l.idle
	l.idle = nil
	if w == nil {
		w = &pollWaiter{news: make(chan struct{}, 1)}
	}
	w.next = l.waiting
	if w.next != nil {
		w.next.prev = w
	} else {
		l.last = w
	}
	l.waiting = w
	return w
}

// unpark takes w out, and reports false if it was called meanwhile.
func (l *readyList) unpark(w *pollWaiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	waited := !w.called
	if waited {
		l.unlinkLocked(w)
	} else {
		l.called--
	}
	select {
	case <-w.news:
	default:
	}
	w.called = false
	l.idle = w
	return waited
}

// pass lets another look at what the caller was called for.
func (l *readyList) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head != nil {
		l.callLocked()
	}
}

// harvest looks at the members on the list, each once, until events is full.
func (p *Poller) harvest(events []EpollEvent) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	l := &p.ready
	l.mu.Lock()
	defer l.mu.Unlock()
	for range l.n {
		if n == len(events) || l.head == nil {
			break
		}
		m := l.popLocked()
		l.mu.Unlock()
		bits := uint32(m.fd.Revents()) & (m.events | epollAlways) &^ epollPrivate
		l.mu.Lock()
		if bits == 0 || m.dead || m.asleep {
			continue // it was otherwise when it was put there
		}
		events[n] = EpollEvent{bits, m.data}
		n++
		switch {
		case m.events&EPOLLONESHOT != 0:
			m.asleep = true
			l.dropLocked(m)
		case m.events&EPOLLET == 0 && !m.queued:
			l.pushLocked(m) // to be looked at again next time
		}
	}
	if l.head != nil {
		l.callLocked()
	}
	return n, nil
}
