// Package both is what the DHCP clients of IPv4 and IPv6 have in common: the
// loop that takes a runner's steps, with what comes to it from outside (this
// file); the files in which a client keeps what outlives the program (file.go);
// and names as DNS writes them (name.go).
package both

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// StepMessages bounds the messages of one step; the next follows at once.
const StepMessages = 64

// Loop is what a runner shares with other goroutines: its status, of type S, and
// what they want of it. A runner takes a step whenever a message, a verdict about
// an address, a timer or its user wants it to; nothing in a step waits.
type Loop[S any] struct {
	wake func() // asks for a step, from wherever
	done chan struct{}

	mu      sync.Mutex // guards everything below
	status  S
	orders  Orders
	changed chan struct{} // closed and replaced when status changes
	drops   []uint64
}

// Orders are what others want of a runner.
type Orders struct {
	Verdicts []Verdict
	Stop     bool // stays once it is given
	LinkUp   bool // the link has come back
}

// Verdict is what became of an address that was claimed.
type Verdict struct {
	Claim int // its number
	Event stack.AddrEvent
}

// NewLoop makes a loop that calls wake when it wants a step; drops is the number
// of reasons to count.
func NewLoop[S any](wake func(), drops int) *Loop[S] {
	return &Loop[S]{wake: wake, done: make(chan struct{}), changed: make(chan struct{}), drops: make([]uint64, drops)}
}

// Waker returns a function that asks for a step, for NewLoop, and the channel
// for Run.
func Waker() (func(), <-chan struct{}) {
	wake := make(chan struct{}, 1)
	return func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}, wake
}

// Run takes steps on the calling goroutine until one says that it was the last.
// step returns when the next is needed if nothing happens before, 0 for never.
func (l *Loop[S]) Run(wake <-chan struct{}, step func(now mono.Time) (next mono.Time, ended bool)) {
	defer close(l.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, ended := step(mono.Now())
		if ended {
			return
		}
		var due <-chan time.Time
		if next != 0 {
			timer.Reset(next.Sub(mono.Now()))
			due = timer.C
		}
		select {
		case <-wake:
		case <-due:
		}
	}
}

// Wake asks for a step.
func (l *Loop[S]) Wake() { l.wake() }

// Orders returns what has come since the last call.
func (l *Loop[S]) Orders() Orders {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.orders
	l.orders.Verdicts, l.orders.LinkUp = nil, false
	return o
}

// Status returns what there is.
func (l *Loop[S]) Status() S {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Set publishes a change of the status.
func (l *Loop[S]) Set(change func(*S)) {
	l.mu.Lock()
	change(&l.status)
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

// Note changes the status in what nobody waits for.
func (l *Loop[S]) Note(change func(*S)) {
	l.mu.Lock()
	change(&l.status)
	l.mu.Unlock()
}

// WaitFor waits until the status is one for which ok returns true. Errors: that
// of ctx, and net.ErrClosed when the runner has ended.
func (l *Loop[S]) WaitFor(ctx context.Context, ok func(S) bool) (S, error) {
	for {
		l.mu.Lock()
		s, ch := l.status, l.changed
		l.mu.Unlock()
		if ok(s) {
			return s, nil
		}
		select {
		case <-ch:
		case <-l.done:
			return s, net.ErrClosed
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// LinkUp orders what follows when the link has come back.
func (l *Loop[S]) LinkUp() {
	l.mu.Lock()
	l.orders.LinkUp = true
	l.mu.Unlock()
	l.wake()
}

// Stop orders the end.
func (l *Loop[S]) Stop() {
	l.mu.Lock()
	l.orders.Stop = true
	l.mu.Unlock()
	l.wake()
}

// Close orders the end and waits for it.
func (l *Loop[S]) Close() {
	l.Stop()
	<-l.done
}

// Claim claims an address; what becomes of it comes as verdicts with the number
// n.
func (l *Loop[S]) Claim(nic *stack.Interface, p netip.Prefix, probe bool, n int) error {
	return nic.ClaimAddr(p, stack.ClaimOptions{Probe: probe, Origin: stack.OriginDHCP, Notify: func(_ netip.Addr, e stack.AddrEvent) {
		l.mu.Lock()
		l.orders.Verdicts = append(l.orders.Verdicts, Verdict{n, e})
		l.mu.Unlock()
		l.wake()
	}})
}

// Count counts a message that was not used, by its reason; 0 is none.
func (l *Loop[S]) Count(reason int) {
	l.mu.Lock()
	l.drops[reason]++
	l.mu.Unlock()
}

// Counters returns how often each reason has occurred, those that have not left
// out, by names that begin with prefix.
func (l *Loop[S]) Counters(prefix string, name func(reason int) string) map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]uint64)
	for d, n := range l.drops {
		if d != 0 && n != 0 {
			m[prefix+name(d)] = n
		}
	}
	return m
}

// Receive gives each message that has come to take; it stops for a step of its
// own after StepMessages. False: the socket was closed with its stack.
func (l *Loop[S]) Receive(udp *stack.Datagram, buf []byte, take func(b []byte, from *stack.Arrival)) bool {
	var from stack.Arrival
	for range StepMessages {
		n, err := udp.RecvMsg(buf, false, &from)
		switch {
		case err == syscall.EAGAIN:
			return true
		case err != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EBADF)):
			return false
		case err != nil: // an ICMP error about a message of ours: as good as lost
		default:
			take(buf[:n], &from)
		}
	}
	l.wake()
	return true
}
