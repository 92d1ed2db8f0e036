package socket

// This file owns poll(2): many sockets, and which of them are ready.

import (
	"time"

	"github.com/tapstack/tapstack/stack"
)

// Events of Poll, with Linux's numbers. POLLERR, POLLHUP and POLLNVAL are
// always told.
const (
	POLLIN     = 0x1 // data, a connection, or the end of the stream can be read
	POLLPRI    = 0x2 // a byte of urgent data can be read by MSG_OOB
	POLLOUT    = 0x4 // a write makes progress
	POLLERR    = 0x8 // an error is pending
	POLLHUP    = 0x10
	POLLNVAL   = 0x20 // the descriptor is closed
	POLLRDNORM = 0x40
	POLLRDBAND = 0x80 // never
	POLLWRNORM = 0x100
	POLLWRBAND = 0x200 // with POLLOUT of a datagram socket
	POLLMSG    = 0x400 // never
	POLLRDHUP  = 0x2000
)

// PollFD is struct pollfd: a socket, nil to be passed over, the events that are
// of interest, and those that are there.
type PollFD struct {
	FD      *FD
	Events  int16
	Revents int16
}

// Revents returns the events of poll(2) that hold for the socket at this moment,
// all of them.
//
// POLLIN: the bytes of SO_RCVLOWAT can be read, or the end; POLLOUT: a third of
// the send buffer is free and TCP_NOTSENT_LOWAT allows more, or a write fails at
// once; POLLRDHUP: nothing more will come; POLLHUP: and nothing more can be
// sent, or there is no connection.
func (f *FD) Revents() int16 {
	if f.closed.Load() {
		return POLLNVAL
	}
	r := f.Ready()
	var bits int16
	if r&stack.ReadyIn != 0 {
		bits |= POLLIN | POLLRDNORM
	}
	if r&stack.ReadyOut != 0 {
		bits |= POLLOUT | POLLWRNORM
		if f.dgram != nil || f.packet != nil {
			bits |= POLLWRBAND
		}
	}
	if r&stack.ReadyPri != 0 {
		bits |= POLLPRI
	}
	if r&stack.ReadyErr != 0 {
		bits |= POLLERR
	}
	if r&stack.ReadyHup != 0 {
		bits |= POLLHUP
	}
	if r&stack.ReadyRdHup != 0 {
		bits |= POLLRDHUP
	}
	return bits
}

// wants is what has to be woken for to see events.
func wants(events int) (r stack.Ready) {
	if events&(POLLIN|POLLRDNORM) != 0 {
		r |= stack.ReadyIn
	}
	if events&(POLLOUT|POLLWRNORM|POLLWRBAND) != 0 {
		r |= stack.ReadyOut
	}
	if events&POLLPRI != 0 {
		r |= stack.ReadyPri
	}
	if events&POLLRDHUP != 0 {
		r |= stack.ReadyRdHup
	}
	return r
}

// Poll is poll(2): it waits until one of fds is ready, sets what each is ready
// for and returns how many are. It waits no longer than timeout; 0 is not at
// all, and below 0 without end. A descriptor that is closed meanwhile is
// POLLNVAL. Who polls many sockets often uses a Poller.
func Poll(fds []PollFD, timeout time.Duration) int {
	n := look(fds)
	if n > 0 || timeout == 0 {
		return n
	}
	news := make(chan struct{}, 1)
	wake := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	watchers := make([]watcher, len(fds))
	for i := range fds {
		p, w := &fds[i], &watchers[i]
		if p.FD == nil {
			continue
		}
		w.w = stack.Waiter{Want: wants(int(p.Events)), F: func(stack.Ready) { wake() }}
		w.gone = wake
		if p.FD.watch(w) != nil {
			wake() // just closed
		}
		defer p.FD.unwatch(w)
	}
	var over <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		over = t.C
	}
	for {
		// Only now, with all watched, can nothing be missed.
		if n := look(fds); n > 0 {
			return n
		}
		select {
		case <-news:
		case <-over:
			return look(fds)
		}
	}
}

// look sets Revents and returns how many are not 0.
func look(fds []PollFD) (n int) {
	for i := range fds {
		p := &fds[i]
		if p.Revents = 0; p.FD == nil {
			continue
		}
		p.Revents = p.FD.Revents() & (p.Events | POLLERR | POLLHUP | POLLNVAL)
		if p.Revents != 0 {
			n++
		}
	}
	return n
}
