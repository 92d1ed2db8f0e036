package dhcp6

// This file owns what a runner does when something has happened: it begins what
// routers advise, and makes the interface follow the client. Each address is
// claimed first, with duplicate address detection (RFC 8415 §18.2.10.1); the
// verdict comes as an event of its own.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// linkLocal returns the address that everything is sent from; not valid while
// there is none.
func (r *Runner) linkLocal() netip.Addr {
	for _, p := range r.nic.Addrs() {
		if a := p.Addr(); a.Is6() && a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// deadline is when the next step is needed if nothing happens before. Without a
// link-local address nothing can be done but let go of what is over.
func (r *Runner) deadline() mono.Time {
	d := r.client.Deadline()
	if r.mode == Auto {
		d = r.alone
	}
	return d
}

// step does all that is to be done at now.
func (r *Runner) step(now mono.Time) {
	if r.ended {
		return
	}
	o := r.loop.Orders()
	for _, v := range o.Verdicts {
		r.judge(now, v)
	}
	if !r.receive(now) {
		r.end()
		return
	}
	if o.Stop {
		r.leave(now)
		return
	}
	r.linkUp = r.linkUp || o.LinkUp
	r.begin(now)
	if r.client.Deadline().Due(now) {
		r.apply(now, r.client.Expire(now))
	}
	r.send(now)
	r.loop.Note(func(s *Status) { s.State = r.client.State() })
}

// begin starts what is to be asked for, or anew after the link was away, once
// there is an address to ask from.
func (r *Runner) begin(now mono.Time) {
	mode := r.opt.Mode
	if mode == Auto {
		mode = r.advised(now)
	}
	switch {
	case mode == Auto || mode == r.mode && !r.linkUp, !r.linkLocal().IsValid():
		return
	case mode == Stateful:
		r.apply(now, r.client.Start(now))
	default:
		r.client.Inform(now)
	}
	r.mode, r.linkUp = mode, false
}

// advised is what routers have the host do (RFC 4862 §5.5.3). It grows, but does
// not shrink.
func (r *Runner) advised(now mono.Time) Mode {
	a := r.opt.Advice()
	switch {
	case a.Managed || r.mode == Stateful:
		return Stateful
	case a.Other || r.mode == Stateless:
		return Stateless
	case a.Router:
		r.alone, r.tired = 0, false // one that knows of no DHCPv6
	case r.tired || r.alone.Due(now):
		r.alone, r.tired = 0, true
		return Stateful
	}
	return Auto
}

// receive gives the client what has come. False: the socket was closed with its
// stack.
func (r *Runner) receive(now mono.Time) bool {
	return r.loop.Receive(r.udp, r.buf, func(b []byte, from *stack.Arrival) {
		event, drop := r.client.Input(now, b, from.To.WithZone(""))
		r.loop.Count(int(drop))
		r.apply(now, event)
		// Before the next message: it may be about what this one asked for.
		r.send(now)
	})
}

// send gives the client's messages to the network. One that cannot be sent is as
// good as lost: the client tries again.
func (r *Runner) send(now mono.Time) {
	for {
		b, ok := r.client.Output(now)
		if !ok {
			return
		}
		m := stack.NewSendInfo()
		m.Source, m.Interface = r.linkLocal(), r.nic
		if m.Source.IsValid() {
			_ = r.udp.SendMsg(b, netip.AddrPortFrom(AllServers, ServerPort), &m)
		}
	}
}

// apply makes the interface follow the client.
func (r *Runner) apply(now mono.Time, e Event) {
	switch e {
	case EventLease, EventLost:
		r.follow(now)
		if r.store != nil {
			r.keep(now, e)
		}
	case EventInformed:
		l, _ := r.client.Parameters()
		r.publish(l, false, true)
	}
}

// keep has the lease file say what is held.
func (r *Runner) keep(now mono.Time, e Event) {
	var err error
	if l, ok := r.client.Lease(); ok && e == EventLease {
		err = r.store.save(time.Now(), now, &l)
	} else {
		err = r.store.remove()
	}
	if err != nil {
		r.trouble(err)
	}
}

// follow gives the interface the addresses of the lease, and only those. One that
// it cannot have is declined as if it were in use: there is nothing else to do
// with it.
func (r *Runner) follow(now mono.Time) {
	l, _ := r.client.Lease()
	r.claims = slices.DeleteFunc(r.claims, func(c claimed) bool {
		gone := !slices.ContainsFunc(l.Addrs, func(g Granted) bool { return g.Prefix.Addr() == c.addr })
		if gone {
			_ = r.nic.LoseAddr(c.addr) // a conflict has taken it already
		}
		return gone
	})
	for _, g := range l.Addrs {
		a := g.Prefix.Addr()
		i := slices.IndexFunc(r.claims, func(c claimed) bool { return c.addr == a })
		if i < 0 {
			r.numbers++
			i = len(r.claims)
			// A prefix of its own length: nothing says what is on the link (RFC 5942
			// §4).
			if err := r.loop.Claim(r.nic, g.Prefix, false, r.numbers); err != nil {
				r.client.Decline(now, a)
				continue
			}
			r.claims = append(r.claims, claimed{addr: a, number: r.numbers})
		}
		r.nic.SetLifetimes(a, g.Preferred, g.Valid)
		if c, old := &r.claims[i], g.Preferred.Due(now); c.old != old {
			c.old = old
			r.nic.DeprecateAddr(a, old)
		}
	}
	r.show()
}

// show publishes the lease once it can be made use of.
func (r *Runner) show() {
	l, ok := r.client.Lease()
	usable := slices.ContainsFunc(r.claims, func(c claimed) bool { return c.usable })
	switch {
	case ok && (usable || len(l.Addrs) == 0):
		r.publish(l, true, false)
	case r.Status().Bound:
		was := r.Status().Lease
		r.loop.Set(func(s *Status) { s.Bound = false })
		r.tell(was, false)
	}
}

// publish says what there is, and tells of what is new.
func (r *Runner) publish(l Lease, bound, informed bool) {
	was := r.Status()
	r.loop.Set(func(s *Status) { s.Lease, s.Bound, s.Informed = l, bound, informed })
	if bound != was.Bound || informed != was.Informed || !sameContents(&was.Lease, &l) {
		r.tell(l, true)
	}
}

// sameContents reports whether two leases say the same but for their times.
func sameContents(a, b *Lease) bool {
	return slices.Equal(prefixes(a.Addrs), prefixes(b.Addrs)) && slices.Equal(prefixes(a.Prefixes), prefixes(b.Prefixes)) &&
		slices.Equal(a.DNS, b.DNS) && slices.Equal(a.Search, b.Search) && slices.Equal(a.NTP, b.NTP) && slices.Equal(a.SNTP, b.SNTP) &&
		a.FQDN == b.FQDN && a.Portal == b.Portal
}

// judge acts on what became of an address.
func (r *Runner) judge(now mono.Time, v both.Verdict) {
	i := slices.IndexFunc(r.claims, func(c claimed) bool { return c.number == v.Claim })
	if i < 0 {
		return // of an address that is gone
	}
	a := r.claims[i].addr
	switch v.Event {
	case stack.AddrUsable:
		r.claims[i].usable = true
		r.client.Keep()
		r.show()
		return
	case stack.AddrConflict:
		// In use by another host (RFC 8415 §18.2.8, RFC 4862 §5.4.5).
		r.claims = slices.Delete(r.claims, i, i+1)
		r.client.Decline(now, a)
	default:
		// Its user wants to be rid of it.
		r.claims = slices.Delete(r.claims, i, i+1)
		r.client.Release(now)
	}
	r.apply(now, EventLease)
}

// leave is the end that Close wants. RFC 8415 §18.2.7: addresses are not used any
// more once the message has left.
func (r *Runner) leave(now mono.Time) {
	for _, c := range r.claims {
		_ = r.nic.LoseAddr(c.addr)
	}
	r.claims = nil
	if r.store == nil {
		r.client.Release(now)
		r.send(now)
	}
	if s := r.Status(); s.Bound {
		r.loop.Set(func(s *Status) { s.Bound = false })
		r.tell(s.Lease, false)
	}
	r.end()
}

// end lets go of the socket and the interface.
func (r *Runner) end() {
	r.udp.Waiters().Remove(&r.waiter)
	r.unobserve()
	r.udp.Close()
	r.ended = true
}
