package dhcp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// RunOptions are the choices of Run.
type RunOptions struct {
	// Hostname is sent to the server (option 12); empty sends none.
	Hostname string
	// Changed, unless nil, is called on the runner's goroutine when a lease
	// is obtained or renewed with other contents (true) and when it is lost
	// (false).
	Changed func(l Lease, have bool)
}

// Runner keeps a lease for one interface: it moves the client core's messages
// over a UDP socket of the stack and gives the interface what the lease says.
type Runner struct {
	nic    *stack.Interface
	client *Client
	fd     *socket.FD
	opt    RunOptions
	done   chan struct{}

	mu      sync.Mutex // guards everything below
	lease   Lease
	have    bool
	stop    bool
	changed chan struct{} // closed and replaced when have changes
	drops   [NumDrops]uint64
}

// Run starts to obtain a lease for nic. Close ends it and releases the lease.
func Run(nic *stack.Interface, opt RunOptions) (*Runner, error) {
	s := nic.Stack()
	fd, err := socket.Socket(s, socket.AF_INET, socket.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	fd.BindToDevice(nic)
	fd.SetBroadcast(true)
	if err := fd.Bind(netip.AddrPortFrom(netip.IPv4Unspecified(), ClientPort)); err != nil {
		fd.Close()
		return nil, err
	}
	r := &Runner{nic: nic, fd: fd, opt: opt, done: make(chan struct{}), changed: make(chan struct{}),
		client: NewClient(Config{MAC: nic.MAC(), Hostname: opt.Hostname, Rand: rand.New(rand.NewPCG(s.RandUint64(), s.RandUint64()))})}
	go r.run()
	return r, nil
}

// Wait returns the lease as soon as its address may be used.
func (r *Runner) Wait(ctx context.Context) (Lease, error) {
	for {
		r.mu.Lock()
		l, have, ch := r.lease, r.have, r.changed
		r.mu.Unlock()
		if have {
			return l, nil
		}
		select {
		case <-ch:
		case <-r.done:
			return Lease{}, net.ErrClosed
		case <-ctx.Done():
			return Lease{}, ctx.Err()
		}
	}
}

// Close releases the lease, takes its address away and waits for the runner.
func (r *Runner) Close() {
	r.mu.Lock()
	r.stop = true
	r.mu.Unlock()
	r.fd.SetReadDeadline(time.Unix(1, 0)) // wakes the runner
	<-r.done
}

func (r *Runner) stopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop
}

func (r *Runner) run() {
	defer close(r.done)
	defer r.fd.Close()
	r.client.Start(mono.Now())
	b := make([]byte, 2048)
	for {
		r.send()
		if r.stopping() {
			r.client.Release(mono.Now())
			r.send()
			r.drop()
			return
		}
		var until time.Time
		if d := r.client.Deadline(); d != 0 {
			until = time.Now().Add(d.Sub(mono.Now()))
		}
		r.fd.SetReadDeadline(until)
		if r.stopping() { // Close may have set its deadline just before ours
			continue
		}
		n, from, err := r.fd.RecvFrom(b, 0)
		now := mono.Now()
		switch {
		case err == nil && from.Port() != ServerPort:
			r.count(DropOp) // clients talk to servers only
		case err == nil:
			event, drop := r.client.Input(now, b[:n])
			r.count(drop)
			r.apply(event)
		case errors.Is(err, os.ErrDeadlineExceeded):
			if r.client.Deadline().Due(now) {
				r.apply(r.client.Expire(now))
			}
		case errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EBADF), errors.Is(err, syscall.ENETDOWN):
			return // the stack is closed
		}
	}
}

func (r *Runner) count(d Drop) {
	r.mu.Lock()
	r.drops[d]++
	r.mu.Unlock()
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

// send gives the client's messages to the network. One that cannot be sent is
// as good as lost: the client tries again.
func (r *Runner) send() {
	for {
		b, dst, _, ok := r.client.Output(mono.Now())
		if !ok {
			return
		}
		r.fd.SendTo(b, 0, dst)
	}
}

// apply makes the interface follow the lease.
func (r *Runner) apply(e Event) {
	switch e {
	case EventBound:
		r.drop()
		r.install()
	case EventRenewed:
		r.mu.Lock()
		old, have := r.lease, r.have
		r.mu.Unlock()
		l, ok := r.client.Lease()
		switch {
		case !ok:
		case have && l.Addr == old.Addr && slices.Equal(routes(&l), routes(&old)):
			r.set(l, true)
		default: // the network has changed under us
			r.drop()
			r.install()
		}
	case EventLost:
		r.drop()
	}
}

// install gives the interface the lease's address and routes. An address that
// turns out to be in use is declined (RFC 2131 §3.1, 5), and so is one that the
// interface cannot have: there is nothing else to do with it.
func (r *Runner) install() {
	l, ok := r.client.Lease()
	if !ok {
		return
	}
	err := r.nic.AddAddr(l.Addr)
	if err == nil {
		// Address conflict detection ends by itself within 7 s.
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		err = r.nic.WaitUsable(ctx, l.Addr.Addr())
		cancel()
		if err != nil {
			r.nic.DelAddr(l.Addr.Addr())
		}
	}
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			r.client.Decline(mono.Now())
		}
		return
	}
	for _, rt := range routes(&l) {
		// A server that gives a /32 means that its router is on the link.
		rt.Interface, rt.OnLink, rt.Origin = r.nic, true, stack.OriginDHCP
		r.nic.Stack().AddRoute(rt)
	}
	r.set(l, true)
}

// routes returns what a lease says about the way out: option 121 if it is
// there, and then only that (RFC 3442), else the first router.
func routes(l *Lease) (list []stack.Route) {
	for _, rt := range l.Routes {
		gw := rt.Gateway
		if gw.IsUnspecified() {
			gw = netip.Addr{} // RFC 3442: on the link
		}
		list = append(list, stack.Route{Dst: rt.Dst, Gateway: gw})
	}
	if len(list) == 0 && len(l.Routers) > 0 {
		list = append(list, stack.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: l.Routers[0]})
	}
	return list
}

// drop takes address and routes away.
func (r *Runner) drop() {
	r.mu.Lock()
	l, have := r.lease, r.have
	r.mu.Unlock()
	if !have {
		return
	}
	for _, rt := range routes(&l) {
		rt.Interface = r.nic
		r.nic.Stack().DelRoute(rt)
	}
	r.nic.DelAddr(l.Addr.Addr())
	r.set(l, false)
}

func (r *Runner) set(l Lease, have bool) {
	r.mu.Lock()
	r.lease, r.have = l, have
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	if r.opt.Changed != nil {
		r.opt.Changed(l, have)
	}
}
