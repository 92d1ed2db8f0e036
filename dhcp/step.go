package dhcp

// This file owns what a runner does when something has happened: it makes the
// interface follow the client. An address is claimed first, which the interface
// does by itself (RFC 5227, with detection 5 to 7 s); the verdict comes as an
// event of its own, so that messages, timers and Close need not wait for it.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/internal/linklocal"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

const (
	// leastMTU is what every host accepts (RFC 791 §3.1). Servers that ask for
	// less are mistaken, and are not followed, as with dhclient.
	leastMTU = 576
	// zeroconfMetric is that of the route by which link-local addresses are
	// neighbours of a host that has another one (RFC 3927 §2.6.2).
	zeroconfMetric = 1000
)

// begin starts the client.
func (r *Runner) begin(now mono.Time) {
	if r.opt.Inform.IsValid() {
		r.client.Inform(now, r.opt.Inform)
		return
	}
	r.client.Start(now)
	r.ll.search(now)
	r.reachLinkLocal()
}

// reachLinkLocal makes link-local addresses neighbours, whatever address we have
// (RFC 3927 §2.6.2). The route goes with the interface's last address, and so
// has to be made again with each lease.
func (r *Runner) reachLinkLocal() {
	rt := stack.Route{Dst: linklocal.Prefix, Interface: r.nic, Metric: zeroconfMetric}
	if r.ll.on && r.nic.Stack().AddRoute(rt) == nil {
		r.ll.route = rt
	}
}

// deadline is when the next step is needed if nothing happens before.
func (r *Runner) deadline() mono.Time { return mono.Earliest(r.client.Deadline(), r.ll.deadline()) }

// step does all that is to be done at now.
func (r *Runner) step(now mono.Time) {
	if r.ended {
		return
	}
	o := r.loop.Orders()
	for _, v := range o.Verdicts {
		r.judge(now, v)
		r.send(now) // before the client is wanted for anything else
	}
	if !r.receive(now) {
		r.end()
		return
	}
	switch {
	case o.Stop:
		r.leave(now)
		return
	case o.LinkUp && r.opt.Inform.IsValid():
		r.client.Inform(now, r.opt.Inform)
	case o.LinkUp:
		r.client.Start(now)
		r.ll.search(now)
	}
	if r.client.Deadline().Due(now) {
		r.apply(now, r.client.Expire(now))
	}
	r.send(now)
	r.fallBack(now)
	r.loop.Note(func(s *Status) { s.State = r.client.State() })
}

// receive gives the client what has come. False: the socket was closed with its
// stack.
func (r *Runner) receive(now mono.Time) bool {
	return r.loop.Receive(r.udp, r.buf, func(b []byte, from *stack.Arrival) {
		if from.From.Port() != ServerPort {
			r.count(DropOp) // clients talk to servers only
			return
		}
		event, drop := r.client.Input(now, b, from.To)
		r.count(drop)
		r.apply(now, event)
		// Before the next message: it may be about what this one asked for.
		r.send(now)
	})
}

// send gives the client's messages to the network. One that cannot be sent is
// as good as lost: the client tries again.
func (r *Runner) send(now mono.Time) {
	for {
		b, dst, src, ok := r.client.Output(now)
		if !ok {
			return
		}
		m := stack.NewSendInfo()
		if m.Nobody = src.IsUnspecified(); !m.Nobody {
			m.Source = src
		}
		if m.Source.IsValid() && dst.Addr().IsGlobalUnicast() {
			// RFC 2131 §4.4.4 has it sent by the routes, which the interface's own
			// address needs on whichever interface they lead.
			m.Interface = r.nic
		}
		_ = r.udp.SendMsg(b, dst, &m)
	}
}

// apply makes the interface follow the lease.
func (r *Runner) apply(now mono.Time, e Event) {
	switch e {
	case EventBound, EventRenewed:
		l, _ := r.client.Lease()
		s := r.Status()
		switch {
		case r.pending != nil && r.pending.Addr == l.Addr:
			r.pending = &l
		case s.Bound && s.Lease.Addr == l.Addr:
			r.use(now, l)
		default: // the first, or another prefix than before
			r.drop()
			r.install(now, l)
		}
	case EventLost:
		r.drop()
		r.ll.search(now)
		r.forget()
	case EventInformed:
		l, _ := r.client.Parameters()
		r.setMTU(l.MTU)
		r.set(func(s *Status) { s.Lease, s.Informed = l, true })
		r.tell(l, true)
	}
}

// install claims the lease's address. One that the interface cannot have is
// declined as if it were in use: there is nothing else to do with it.
func (r *Runner) install(now mono.Time, l Lease) {
	r.pending = &l
	if err := r.claimAddr(l.Addr, false); err != nil {
		r.pending, r.claim = nil, 0
		r.client.Decline(now)
	}
}

// claimAddr claims an address; the verdict is for the claim that is the latest
// of its kind.
func (r *Runner) claimAddr(p netip.Prefix, linkLocal bool) error {
	r.claims++
	n := r.claims
	if linkLocal {
		r.ll.claim = n
	} else {
		r.claim = n
	}
	return r.loop.Claim(r.nic, p, linkLocal, n)
}

// judge acts on what became of an address.
func (r *Runner) judge(now mono.Time, v both.Verdict) {
	s := r.Status()
	switch {
	case v.Claim == r.ll.claim:
		r.judgeLinkLocal(now, v.Event)
	case v.Claim != r.claim: // of an address that is gone
	case r.pending != nil && v.Event == stack.AddrUsable:
		l := *r.pending
		r.pending = nil
		r.client.Keep()
		r.use(now, l)
	case v.Event == stack.AddrUsable: // again, after the link was away
	case r.pending != nil || s.Bound:
		// In use by another host, at once or later (RFC 2131 §3.1, 5; RFC 5227
		// §2.4); or its user wants to be rid of it.
		r.drop()
		r.forget()
		if v.Event == stack.AddrConflict {
			r.client.Decline(now)
			r.ll.search(now)
		} else {
			r.client.Release(now)
			r.ll.stop()
		}
	}
}

// use has the interface work as a lease says whose address it has.
func (r *Runner) use(now mono.Time, l Lease) {
	s := r.nic.Stack()
	want := routes(&l)
	for i := range want {
		// A server that gives a /32 means that its router is on the link.
		want[i].Interface, want[i].OnLink, want[i].Origin = r.nic, true, stack.OriginDHCP
	}
	r.routes = slices.DeleteFunc(r.routes, func(o stack.Route) bool {
		if slices.Contains(want, o) {
			return false
		}
		_ = s.DelRoute(o) // its user may have done so already
		return true
	})
	for _, rt := range want {
		// One that is there already is its user's own, and stays.
		if !slices.Contains(r.routes, rt) && s.AddRoute(rt) == nil {
			r.routes = append(r.routes, rt)
		}
	}
	r.setMTU(l.MTU)
	old := r.Status()
	if !old.Bound {
		r.reachLinkLocal()
	}
	r.set(func(s *Status) { s.Lease, s.Bound = l, true })
	r.retire(now)
	if r.store != nil {
		if err := r.store.save(time.Now(), now, &l, r.ll.last); err != nil {
			r.trouble(err)
		}
	}
	if !old.Bound || !sameContents(&old.Lease, &l) {
		r.tell(l, true)
	}
}

// sameContents reports whether two leases say the same but for their times.
func sameContents(a, b *Lease) bool {
	return a.Addr == b.Addr && a.Domain == b.Domain && a.MTU == b.MTU && a.Portal == b.Portal && slices.Equal(a.Routers, b.Routers) &&
		slices.Equal(a.Routes, b.Routes) && slices.Equal(a.DNS, b.DNS) && slices.Equal(a.NTP, b.NTP) && slices.Equal(a.Search, b.Search)
}

func (r *Runner) tell(l Lease, have bool) {
	if r.opt.Changed != nil {
		r.opt.Changed(l, have)
	}
}

func (r *Runner) setMTU(n int) {
	if n < leastMTU || n > r.nic.MTU() {
		n = 0
	}
	_ = r.nic.SetMTU4(n) // in range
}

// routes returns what a lease says about the way out: option 121 if it is
// there, and then only that (RFC 3442), else the routes of option 33 and the
// first router.
func routes(l *Lease) (list []stack.Route) {
	for _, rt := range l.Routes {
		gw := rt.Gateway
		if gw.IsUnspecified() {
			gw = netip.Addr{} // RFC 3442: on the link
		}
		list = append(list, stack.Route{Dst: rt.Dst, Gateway: gw})
	}
	if len(l.Routers) > 0 {
		list = append(list, stack.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: l.Routers[0]})
	}
	return list
}

// drop takes address and routes away, and tells the sockets of the address.
func (r *Runner) drop() {
	s := r.Status()
	addr := s.Lease.Addr
	switch {
	case r.pending != nil:
		addr = r.pending.Addr
	case !s.Bound:
		return
	}
	r.pending, r.claim = nil, 0
	for _, rt := range r.routes {
		_ = r.nic.Stack().DelRoute(rt)
	}
	r.routes = nil
	_ = r.nic.LoseAddr(addr.Addr()) // a conflict has taken it already
	r.setMTU(0)
	if s.Bound {
		r.set(func(s *Status) { s.Bound = false })
		r.tell(s.Lease, false)
	}
}

// forget removes the file of a lease that is gone.
func (r *Runner) forget() {
	if r.store != nil {
		if err := r.store.remove(r.ll.last); err != nil {
			r.trouble(fmt.Errorf("lease file: %w", err))
		}
	}
}

// leave is the end that Close wants.
func (r *Runner) leave(now mono.Time) {
	if r.store == nil {
		r.client.Release(now)
		r.send(now)
	}
	r.drop()
	r.dropLinkLocal()
	r.end()
}

// end lets go of the socket.
func (r *Runner) end() {
	r.udp.Waiters().Remove(&r.waiter)
	r.udp.Close()
	if r.ll.route.Interface != nil {
		_ = r.nic.Stack().DelRoute(r.ll.route)
	}
	r.ended = true
}
