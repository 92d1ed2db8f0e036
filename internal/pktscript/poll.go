package pktscript

import (
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// This file owns poll(2) and epoll(7), made of the readiness of sockets.

// pollEvents are the conditions of a descriptor in poll's bits, which are
// epoll's too.
func (f *file) pollEvents() (n int64) {
	r := f.fd.Ready()
	for _, m := range []struct {
		r stack.Ready
		n int64
	}{
		{stack.ReadyIn, symbols["POLLIN"] | symbols["POLLRDNORM"]},
		{stack.ReadyOut, symbols["POLLOUT"] | symbols["POLLWRNORM"]},
		{stack.ReadyErr, symbols["POLLERR"]}, {stack.ReadyHup, symbols["POLLHUP"]},
	} {
		if r&m.r != 0 {
			n |= m.n
		}
	}
	return n
}

// unasked are reported whether one asks for them or not.
var unasked = symbols["POLLERR"] | symbols["POLLHUP"]

// expired reports that a wait with a time-out in milliseconds is over.
func (c *sysCall) expired(timeout int64) bool {
	if timeout < 0 {
		return false
	}
	if c.limit == 0 {
		c.limit = c.begun.Add(time.Duration(timeout) * time.Millisecond)
		if timeout > 0 {
			c.r.net.At(c.limit, func() {}) // so that the clock stops there
		}
	}
	return c.r.net.Now() >= c.limit
}

// poll is poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, timeout).
func (c *sysCall) poll() (int64, error) {
	timeout, err := c.num(2, -1)
	if err != nil {
		return 0, err
	}
	list := c.arg(0).List
	got := make([]int64, len(list))
	ready := int64(0)
	for i, e := range list {
		fd, err1 := e.Field("fd").orZero().number()
		want, err2 := e.Field("events").orZero().number()
		if err1 != nil || err2 != nil {
			return 0, &Unsupported{Reason: "poll() of " + e.String()}
		}
		f := c.r.files[int(fd)]
		if f == nil || f.fd == nil {
			got[i] = symbols["POLLNVAL"]
		} else {
			got[i] = f.pollEvents() & (want | unasked)
		}
		if got[i] != 0 {
			ready++
		}
	}
	if ready == 0 && !c.expired(timeout) {
		return 0, errBlocks
	}
	for i, e := range list {
		want, err := e.Field("revents").orZero().number()
		if err != nil {
			return 0, err
		}
		if got[i] != want {
			return 0, wrong("revents of %s is %#x", e, got[i])
		}
	}
	return ready, nil
}

// epoll is an epoll instance.
type epoll struct {
	list []*watch
}

// watch is a descriptor in an epoll instance.
type watch struct {
	fd     int64
	f      *file
	events int64
	armed  bool // edge-triggered: something has happened since it was told
	waiter stack.Waiter
	queue  *stack.WaitQueue
}

func (c *sysCall) epollCreate() (int64, error) {
	n, err := c.newFD()
	if err != nil {
		return 0, err
	}
	c.r.files[int(n)] = &file{epoll: &epoll{}}
	return n, nil
}

func (c *sysCall) epollOf() (*epoll, error) {
	f, err := c.file()
	if err == nil && f.epoll == nil {
		err = syscall.EINVAL
	}
	if err != nil {
		return nil, err
	}
	return f.epoll, nil
}

func (c *sysCall) epollCtl() (int64, error) {
	ep, err := c.epollOf()
	if err != nil {
		return 0, err
	}
	op, err := c.num(1, 0)
	if err != nil {
		return 0, err
	}
	fd, err := c.num(2, -1)
	if err != nil {
		return 0, err
	}
	f := c.r.files[int(fd)]
	if f == nil || f.fd == nil {
		return 0, syscall.EBADF
	}
	at := -1
	for i, w := range ep.list {
		if w.fd == fd {
			at = i
		}
	}
	if op != symbols["EPOLL_CTL_ADD"] && at < 0 {
		return 0, syscall.ENOENT
	}
	if at >= 0 {
		if op == symbols["EPOLL_CTL_ADD"] {
			return 0, syscall.EEXIST
		}
		ep.list[at].stop()
		ep.list = append(ep.list[:at], ep.list[at+1:]...)
	}
	if op == symbols["EPOLL_CTL_DEL"] {
		return 0, nil
	}
	events, err := c.arg(3).Field("events").orZero().number()
	if err != nil {
		return 0, err
	}
	ep.list = append(ep.list, newWatch(fd, f, events))
	return 0, nil
}

func newWatch(fd int64, f *file, events int64) *watch {
	w := &watch{fd: fd, f: f, events: events, armed: true}
	if s := f.fd.Stream(); s != nil && events&symbols["EPOLLET"] != 0 {
		w.queue = s.Waiters()
		if events&symbols["EPOLLIN"] != 0 {
			w.waiter.Want |= stack.ReadyIn
		}
		if events&symbols["EPOLLOUT"] != 0 {
			w.waiter.Want |= stack.ReadyOut
		}
		w.waiter.F = func(stack.Ready) { w.armed = true }
		w.queue.Add(&w.waiter)
	}
	return w
}

func (w *watch) stop() {
	if w.queue != nil {
		w.queue.Remove(&w.waiter)
	}
}

// ready returns what epoll_wait tells of a descriptor.
func (w *watch) ready() int64 {
	edge := w.events&symbols["EPOLLET"] != 0
	if edge && !w.armed {
		return 0
	}
	return w.f.pollEvents() & (w.events | unasked)
}

// epollWait is epoll_wait(5, {events=EPOLLIN, fd=4}, max, timeout).
func (c *sysCall) epollWait() (int64, error) {
	ep, err := c.epollOf()
	if err != nil {
		return 0, err
	}
	timeout, err := c.num(3, -1)
	if err != nil {
		return 0, err
	}
	n, first := int64(0), int64(0)
	for _, w := range ep.list {
		if got := w.ready(); got != 0 {
			w.armed = w.queue == nil
			if n == 0 {
				first = got
			}
			n++
		}
	}
	if n == 0 && !c.expired(timeout) {
		return 0, errBlocks
	}
	e := c.arg(1)
	if e.Kind == ExprStruct && n > 0 {
		want, err := e.Field("events").orZero().number()
		if err != nil {
			return 0, err
		}
		if want != first {
			return 0, wrong("events are %#x, not %#x", first, want)
		}
	}
	return n, nil
}
