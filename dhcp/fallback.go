package dhcp

// This file owns the last resort: a link-local address (RFC 3927) while no
// server gives the interface one. Which address it is, and how often another may
// be tried, is package linklocal's; the interface claims and defends it.

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/linklocal"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

const (
	// fallbackAfter is how long servers are asked before: the third DISCOVER
	// is due then (RFC 2131 §4.1).
	fallbackAfter = 12 * time.Second
	// retireCheck is the time between two looks whether connections still use a
	// link-local address that a lease has replaced.
	retireCheck = 30 * time.Second
)

// fallback is where the runner is with a link-local address.
type fallback struct {
	on     bool
	choose *linklocal.Chooser
	route  stack.Route // to 169.254/16; without interface: not there

	due   mono.Time // of the next move, 0: none
	claim int       // the latest; 0: none under way
	addr  netip.Prefix
	used  bool // addr may be used
	old   bool // addr stays only for the connections that it has
	last  netip.Addr
}

func (f *fallback) deadline() mono.Time { return f.due }

// search notes that servers are being asked, from now on.
func (f *fallback) search(now mono.Time) {
	if f.on && !f.addr.IsValid() {
		f.due = now.Add(fallbackAfter)
	}
	if f.on && f.old {
		f.due = now // the address is there; it is preferred again
	}
}

func (f *fallback) stop() { f.due = 0 }

// fallBack makes the move that is due.
func (r *Runner) fallBack(now mono.Time) {
	f := &r.ll
	if !f.due.Due(now) {
		return
	}
	f.due = 0
	leased := r.pending != nil || r.Status().Bound
	switch {
	case leased && !f.addr.IsValid():
	case leased && f.old:
		// RFC 3927 §1.9: communication under way goes on.
		if r.nic.Stack().AddrInUse(f.addr.Addr()) {
			f.due = now.Add(retireCheck)
			return
		}
		r.dropLinkLocal()
	case !leased && f.old:
		f.old = false
		r.nic.DeprecateAddr(f.addr.Addr(), false)
		r.set(func(s *Status) { s.LinkLocal = f.addr })
	case !leased && !f.addr.IsValid() && r.client.MayAutoConfigure():
		r.claimLinkLocal(now)
	}
}

// claimLinkLocal claims the address whose turn it is, or waits for the time
// when it may be.
func (r *Runner) claimLinkLocal(now mono.Time) {
	f := &r.ll
	if next := f.choose.Next(); next > now {
		f.due = next
		return
	}
	f.addr = f.choose.Addr()
	if r.claimAddr(f.addr, true) != nil { // the interface has it already, or has no room
		f.conflict(now)
	}
}

// conflict has another address tried.
func (f *fallback) conflict(now mono.Time) {
	f.addr, f.used, f.old, f.claim = netip.Prefix{}, false, false, 0
	f.choose.Conflict(now)
	f.due = max(now, f.choose.Next())
}

// judgeLinkLocal acts on what became of a link-local address.
func (r *Runner) judgeLinkLocal(now mono.Time, e stack.AddrEvent) {
	f := &r.ll
	switch e {
	case stack.AddrUsable:
		f.used = true
		f.last = f.addr.Addr()
		f.choose.Kept(now)
		if r.Status().Bound {
			r.retire(now) // a lease was faster
			return
		}
		r.set(func(s *Status) { s.LinkLocal = f.addr })
		if r.store != nil {
			if err := r.store.remember(f.last); err != nil {
				r.trouble(err)
			}
		}
	case stack.AddrConflict:
		r.set(func(s *Status) { s.LinkLocal = netip.Prefix{} })
		f.conflict(now)
	case stack.AddrRemoved: // its user does not want it
		r.set(func(s *Status) { s.LinkLocal = netip.Prefix{} })
		f.addr, f.used, f.old, f.claim, f.on = netip.Prefix{}, false, false, 0, false
	}
}

// retire has new connections made from the lease's address (RFC 3927 §1.9); the
// link-local one goes when nobody uses it any more.
func (r *Runner) retire(now mono.Time) {
	f := &r.ll
	switch {
	case !f.addr.IsValid():
		f.due = 0
	case !f.used: // still being probed
		r.dropLinkLocal()
	case !f.old:
		f.old, f.due = true, now
		r.nic.DeprecateAddr(f.addr.Addr(), true)
		r.set(func(s *Status) { s.LinkLocal = netip.Prefix{} })
	}
}

// dropLinkLocal takes the address away.
func (r *Runner) dropLinkLocal() {
	f := &r.ll
	if !f.addr.IsValid() {
		return
	}
	addr := f.addr.Addr()
	f.addr, f.used, f.old, f.claim, f.due = netip.Prefix{}, false, false, 0, 0
	_ = r.nic.DelAddr(addr)
	r.set(func(s *Status) { s.LinkLocal = netip.Prefix{} })
}
