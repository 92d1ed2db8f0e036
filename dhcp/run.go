package dhcp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/tapstack/tapstack/internal/linklocal"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns the runner as its user sees it: one goroutine that takes a step
// whenever a message, a verdict about an address, a timer or its user wants it
// to. step.go owns what a step does; nothing in it waits.

// RunOptions are the choices of Run.
type RunOptions struct {
	// Hostname is sent to the server (option 12); empty sends none.
	Hostname string
	// ClientID and VendorClass are those of Config.
	ClientID    []byte
	VendorClass string
	// LeaseFile keeps the lease beyond the program's end: it is read at the
	// start, where an address that is still leased is asked for again by
	// INIT-REBOOT, and Close does not release the lease then. Empty: Close
	// releases it.
	LeaseFile string
	// LinkLocal gives the interface an address of 169.254/16 (RFC 3927) while no
	// server gives it one: as the last resort, when three requests went
	// unanswered. It goes again when a lease has come and no connection uses it.
	LinkLocal bool
	// Inform, if it is valid, is an address that the interface has by other
	// means: servers are only asked for the rest (RFC 2131 §3.4).
	Inform netip.Addr
	// Changed, unless nil, is called on the runner's goroutine when a lease
	// is obtained or renewed with other contents (true) and when it is lost
	// (false).
	Changed func(l Lease, have bool)
	// Trouble, unless nil, is told on the runner's goroutine what did not work
	// and is not vital: the lease file.
	Trouble func(error)
}

// Status is what a runner has obtained.
type Status struct {
	State State
	// Lease is held, and its address may be used, if Bound; if Informed it is
	// what servers told, without an address.
	Lease           Lease
	Bound, Informed bool
	// LinkLocal is valid while the interface has such an address and may use
	// it.
	LinkLocal netip.Prefix
}

// Runner keeps a lease for one interface: it moves the client core's messages
// over a UDP socket of the stack and gives the interface what the lease says.
type Runner struct {
	nic    *stack.Interface
	client *Client
	udp    *stack.Datagram
	waiter stack.Waiter
	opt    RunOptions
	wake   func() // asks for a step, from wherever
	done   chan struct{}

	// What only steps use.
	ended   bool
	routes  []stack.Route // that the lease has brought
	pending *Lease        // its address is being claimed
	claims  int           // numbers claims, so that old verdicts are known as such
	claim   int           // of the lease's address, 0: none
	ll      fallback
	store   *store // nil without a file
	buf     []byte

	mu       sync.Mutex // guards everything below
	status   Status
	verdicts []verdict
	stop     bool
	restart  bool
	changed  chan struct{} // closed and replaced when status changes
	drops    [NumDrops]uint64
}

// verdict is what became of an address that was claimed.
type verdict struct {
	claim int
	event stack.AddrEvent
}

// Run starts to obtain a lease for nic. Close ends it and releases the lease.
func Run(nic *stack.Interface, opt RunOptions) (*Runner, error) {
	wake := make(chan struct{}, 1)
	r, err := newRunner(nic, opt, mono.Now(), func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	go r.run(wake)
	return r, nil
}

// newRunner makes a runner that is driven by calls of step.
func newRunner(nic *stack.Interface, opt RunOptions, now mono.Time, wake func()) (*Runner, error) {
	s := nic.Stack()
	udp, err := s.NewUDP(false)
	if err != nil {
		return nil, err
	}
	udp.SetInterface(nic)
	if err = udp.Set(stack.DatagramBroadcast, 1); err == nil {
		err = udp.Bind(netip.AddrPortFrom(netip.IPv4Unspecified(), ClientPort))
	}
	if err != nil {
		udp.Close()
		return nil, err
	}
	r := &Runner{nic: nic, udp: udp, opt: opt, wake: wake, done: make(chan struct{}), changed: make(chan struct{}), buf: make([]byte, 2048)}
	c := Config{MAC: nic.MAC(), Hostname: opt.Hostname, ClientID: opt.ClientID, VendorClass: opt.VendorClass, AutoConfigure: opt.LinkLocal,
		Rand: rand.New(rand.NewPCG(s.RandUint64(), s.RandUint64()))}
	var last netip.Addr
	if opt.LeaseFile != "" {
		r.store = newStore(opt.LeaseFile, nic.MAC(), c.ClientID)
		was, err := r.store.load(time.Now())
		if err != nil {
			r.trouble(err)
		}
		c.Requested, c.Reboot, last = was.addr, was.live, was.linkLocal
	}
	r.client = NewClient(c)
	r.ll = fallback{on: opt.LinkLocal, choose: linklocal.New(nic.MAC(), last)}
	r.waiter = stack.Waiter{Want: stack.ReadyIn | stack.ReadyErr, F: func(stack.Ready) { wake() }}
	udp.Waiters().Add(&r.waiter)
	r.begin(now)
	return r, nil
}

// run takes steps until the runner has ended.
func (r *Runner) run(wake <-chan struct{}) {
	defer close(r.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.step(mono.Now())
		if r.ended {
			return
		}
		var due <-chan time.Time
		if d := r.deadline(); d != 0 {
			timer.Reset(d.Sub(mono.Now()))
			due = timer.C
		}
		select {
		case <-wake:
		case <-due:
		}
	}
}

// Status returns what there is.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Wait returns the lease as soon as its address may be used.
func (r *Runner) Wait(ctx context.Context) (Lease, error) {
	s, err := r.WaitFor(ctx, func(s Status) bool { return s.Bound })
	if err != nil {
		return Lease{}, err
	}
	return s.Lease, nil
}

// WaitFor waits until the status is one for which ok returns true. Errors: that
// of ctx, and net.ErrClosed when the runner has ended.
func (r *Runner) WaitFor(ctx context.Context, ok func(Status) bool) (Status, error) {
	for {
		r.mu.Lock()
		s, ch := r.status, r.changed
		r.mu.Unlock()
		if ok(s) {
			return s, nil
		}
		select {
		case <-ch:
		case <-r.done:
			return s, net.ErrClosed
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// LinkUp tells the runner that the link has come back, maybe as another one: a
// lease is verified, and a search begins anew (RFC 2131 §3.7, §4.4.2). The
// address stays until a server refuses it.
func (r *Runner) LinkUp() {
	r.mu.Lock()
	r.restart = true
	r.mu.Unlock()
	r.wake()
}

// Close releases the lease unless it is kept in a file, takes its address away
// and waits for the runner, which waits for nothing.
func (r *Runner) Close() {
	r.mu.Lock()
	r.stop = true
	r.mu.Unlock()
	r.wake()
	<-r.done
}

// Counters returns how many messages were not used, by reason: names such as
// "dhcp.drop.xid". Reasons that did not occur are left out.
func (r *Runner) Counters() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[string]uint64)
	for d := DropNone + 1; d < NumDrops; d++ {
		if r.drops[d] != 0 {
			m["dhcp.drop."+d.String()] = r.drops[d]
		}
	}
	return m
}

func (r *Runner) count(d Drop) {
	r.mu.Lock()
	r.drops[d]++
	r.mu.Unlock()
}

func (r *Runner) trouble(err error) {
	if r.opt.Trouble != nil {
		r.opt.Trouble(err)
	}
}

// set publishes a change of the status.
func (r *Runner) set(change func(*Status)) {
	r.mu.Lock()
	change(&r.status)
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// closedErr reports that the stack, or the socket, has gone.
func closedErr(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, errClosed) }
