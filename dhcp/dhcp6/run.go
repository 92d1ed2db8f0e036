package dhcp6

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns the runner as its user sees it. Its goroutine is package both's
// loop, which takes a step whenever something wants it to; step.go owns what a
// step does.

// Mode is what a runner asks servers for.
type Mode uint8

// The modes.
const (
	Auto      Mode = iota // what routers say: see Advice
	Stateful              // addresses, and all else
	Stateless             // all but addresses
)

// Advice is what routers say about DHCPv6.
type Advice struct {
	Router bool // there is one
	// Managed and Other are the flags of its advertisements (RFC 4861 §4.2).
	Managed, Other bool
}

// RunOptions are the choices of Run.
type RunOptions struct {
	Mode Mode
	// Advice is for Auto, and required then: with Managed it becomes Stateful,
	// with only Other it becomes Stateless. It is asked whenever the interface
	// changes (see stack.Interface.Observe), and what has begun goes on when the
	// flags are gone: no later RFC says otherwise, and Linux's clients do so.
	Advice func() Advice
	// Alone is how long Auto waits for a router before it looks for addresses
	// without one (RFC 4862 §5.5.2); 0: for ever.
	Alone time.Duration
	// DUID is the host's identifier; empty: dhcp.DUIDLL of the MAC address.
	DUID []byte
	// Hostname, NoRapidCommit and Delegate are those of Config.
	Hostname      string
	NoRapidCommit bool
	Delegate      int
	// LeaseFile keeps the lease beyond the program's end: what is in it at the
	// start is verified, and Close does not release the lease then. Empty: Close
	// releases it.
	LeaseFile string
	// Changed, unless nil, is called on the runner's goroutine when a lease, or
	// what is known without one, is obtained or has changed but for its times
	// (true), and when a lease is lost (false).
	Changed func(l Lease, have bool)
	// Trouble, unless nil, is told on the runner's goroutine what did not work
	// and is not vital: the lease file.
	Trouble func(error)
}

// Status is what a runner has obtained.
type Status struct {
	State State
	// Lease is held if Bound: each of its addresses may be used, or will when
	// nobody has objected; the first that may is there. If Informed it is what
	// servers told, without leases.
	Lease           Lease
	Bound, Informed bool
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
	ended     bool
	mode      Mode      // what has begun; Auto: nothing
	linkUp    bool      // it is to begin anew
	alone     mono.Time // until when a router is waited for, 0: not any more
	tired     bool      // none has come until then
	unobserve func()
	claims    []claimed
	numbers   int    // of claims
	store     *store // nil without a file
	buf       []byte
}

// claimed is an address that the interface has from the lease.
type claimed struct {
	addr   netip.Addr
	number int
	usable bool
	old    bool // no longer preferred
}

// maxMessage is the size in bytes of the largest message that is received whole;
// of a larger one, options are missing, and it is counted as such.
const maxMessage = 8192

// Run starts to ask for what the options say. Close ends it and releases the
// lease.
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
	udp, err := s.NewUDP(true)
	if err != nil {
		return nil, err
	}
	udp.SetInterface(nic)
	if err = udp.SetV6Only(true); err == nil {
		err = udp.Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), ClientPort))
	}
	if err != nil {
		udp.Close()
		return nil, err
	}
	if len(opt.DUID) == 0 {
		opt.DUID = dhcp.DUIDLL(nic.MAC())
	}
	r := &Runner{nic: nic, udp: udp, opt: opt, loop: both.NewLoop[Status](wake, int(NumDrops)), buf: make([]byte, maxMessage)}
	c := Config{DUID: opt.DUID, IAID: IAID(nic.MAC()), Hostname: opt.Hostname, NoRapidCommit: opt.NoRapidCommit, Delegate: opt.Delegate,
		Rand: rand.New(rand.NewPCG(s.RandUint64(), s.RandUint64()))}
	if opt.LeaseFile != "" {
		r.store = newStore(opt.LeaseFile, c.DUID, c.IAID)
		if c.Previous, err = r.store.load(time.Now(), now); err != nil {
			r.trouble(err)
		}
	}
	r.client = NewClient(c)
	if opt.Mode == Auto && opt.Alone > 0 {
		r.alone = now.Add(opt.Alone)
	}
	r.waiter = stack.Waiter{Want: stack.ReadyIn | stack.ReadyErr, F: func(stack.Ready) { wake() }}
	udp.Waiters().Add(&r.waiter)
	r.unobserve = nic.Observe(wake)
	return r, nil
}

// Status returns what there is.
func (r *Runner) Status() Status { return r.loop.Status() }

// Wait returns the lease as soon as its first address may be used.
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
// lease is verified, and what is known without one is asked for again (RFC 8415
// §18.2.12). Addresses stay until a server refuses them.
func (r *Runner) LinkUp() { r.loop.LinkUp() }

// Close takes the addresses away, releases the lease unless it is kept in a file,
// and waits for the runner, which waits for nothing: the RELEASE is sent once, as
// by Linux's clients, and not again when no server answers (RFC 8415 §18.2.7).
func (r *Runner) Close() { r.loop.Close() }

// Counters returns how many messages were not used, by reason: names such as
// "dhcp6.drop.xid". Reasons that did not occur are left out.
func (r *Runner) Counters() map[string]uint64 {
	return r.loop.Counters("dhcp6.drop.", func(d int) string { return Drop(d).String() })
}

func (r *Runner) trouble(err error) {
	if r.opt.Trouble != nil {
		r.opt.Trouble(err)
	}
}

func (r *Runner) tell(l Lease, have bool) {
	if r.opt.Changed != nil {
		r.opt.Changed(l, have)
	}
}
