package dhcp

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/internal/linklocal"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns the runner as its user sees it. Its goroutine is package both's
// loop, which takes a step whenever something wants it to; step.go owns what a
// step does.

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
	loop   *both.Loop[Status]

	// What only steps use.
	ended   bool
	routes  []stack.Route // that the lease has brought
	pending *Lease        // its address is being claimed
	claims  int           // numbers claims, so that old verdicts are known as such
	claim   int           // of the lease's address, 0: none
	ll      fallback
	store   *store // nil without a file
	buf     []byte
}

// Run starts to obtain a lease for nic. Close ends it and releases the lease.
func Run(nic *stack.Interface, opt RunOptions) (*Runner, error) {
	wake, woken := both.Waker()
	r, err := newRunner(nic, opt, mono.Now(), wake)
	if err != nil {
		return nil, err
	}
	go r.loop.Run(woken, r.turn)
	return r, nil
}

// turn takes a step, and returns when the next is needed and whether it was the
// last.
func (r *Runner) turn(now mono.Time) (next mono.Time, ended bool) {
	r.step(now)
	return r.deadline(), r.ended
}

// newRunner makes a runner that is driven by calls of turn.
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
	r := &Runner{nic: nic, udp: udp, opt: opt, loop: both.NewLoop[Status](wake, int(NumDrops)), buf: make([]byte, 2048)}
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

// Status returns what there is.
func (r *Runner) Status() Status { return r.loop.Status() }

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
	return r.loop.WaitFor(ctx, ok)
}

// LinkUp tells the runner that the link has come back, maybe as another one: a
// lease is verified, and a search begins anew (RFC 2131 §3.7, §4.4.2). The
// address stays until a server refuses it.
func (r *Runner) LinkUp() { r.loop.LinkUp() }

// Close releases the lease unless it is kept in a file, takes its address away
// and waits for the runner, which waits for nothing.
func (r *Runner) Close() { r.loop.Close() }

// Counters returns how many messages were not used, by reason: names such as
// "dhcp.drop.xid". Reasons that did not occur are left out.
func (r *Runner) Counters() map[string]uint64 {
	return r.loop.Counters("dhcp.drop.", func(d int) string { return Drop(d).String() })
}

func (r *Runner) count(d Drop) { r.loop.Count(int(d)) }

func (r *Runner) trouble(err error) {
	if r.opt.Trouble != nil {
		r.opt.Trouble(err)
	}
}

// set publishes a change of the status.
func (r *Runner) set(change func(*Status)) { r.loop.Set(change) }
