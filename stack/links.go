package stack

// This file owns the interfaces as a user controls them: added and removed
// while the stack runs, listed, and the neighbours that each of them knows.

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/neigh"
)

// Link is what is known of an interface.
type Link struct {
	Interface *Interface
	Name      string
	Index     int // see Interface.Index
	MAC       ether.Addr
	MTU       int  // bytes of the largest IP packet
	Loopback  bool // the stack's own
	Up        bool // not set down, and the device has not failed and was not removed
	Carrier   bool // the device has a link
}

// String formats a link for a log.
func (l Link) String() string {
	state := "up"
	switch {
	case !l.Up:
		state = "down"
	case !l.Carrier:
		state = "up no-carrier"
	}
	return fmt.Sprintf("%d: %s %v mtu %d %s", l.Index, l.Name, l.MAC, l.MTU, state)
}

// Links is the control of the interfaces.
type Links struct{ s *Stack }

// Links returns the control of the interfaces.
func (s *Stack) Links() Links { return Links{s} }

// Add attaches a device: it is AddInterface.
func (l Links) Add(c InterfaceConfig) (*Interface, error) { return l.s.AddInterface(c) }

// List returns all interfaces in the order they were added, loopback first.
func (l Links) List() []Link {
	var list []Link
	for _, i := range l.s.cfg.Load().ifaces {
		list = append(list, i.linkInfo())
	}
	return list
}

// Named returns the interface with a name, or nil.
func (l Links) Named(name string) *Interface { return l.s.cfg.Load().named(name) }

// Of returns what is known of an interface.
func (l Links) Of(i *Interface) Link { return i.linkInfo() }

func (i *Interface) linkInfo() Link {
	return Link{Interface: i, Name: i.name, Index: int(i.index), MAC: i.MAC(), MTU: i.MTU(), Loopback: i.loopback, Up: !i.isDead(), Carrier: !i.noCarrier()}
}

func (i *Interface) isDown() bool {
	select {
	case <-i.gone:
		return true
	default:
		return false
	}
}

// Remove detaches an interface and closes its device, with its addresses and
// routes. Connections from its addresses end with EADDRNOTAVAIL; who sends by
// it gets ENODEV or ENETDOWN. It returns when nothing of the interface runs any
// more, and so may not be called from a Waiter's function. Errors: EINVAL for
// loopback, ENODEV for one that is not there, the device's own.
func (l Links) Remove(i *Interface) error {
	s := l.s
	if i == s.lo {
		return fmt.Errorf("interface %s: %w", i.name, syscall.EINVAL)
	}
	var gone []*address
	var claimants []*claimant // of those, nil where there is none
	if err := s.update(func(c *config) error {
		if s.closed.Load() {
			return net.ErrClosed
		}
		at := slices.Index(c.ifaces, i)
		if at < 0 {
			return fmt.Errorf("interface %s: %w", i.name, syscall.ENODEV)
		}
		i.markDown()
		c.ifaces = slices.Delete(c.ifaces, at, at+1)
		c.addrs = slices.DeleteFunc(c.addrs, func(a *address) bool {
			if a.iface == i {
				gone = append(gone, a)
			}
			return a.iface == i
		})
		c.routes = slices.DeleteFunc(c.routes, func(r Route) bool { return r.Interface == i })
		for _, a := range gone {
			c.routesWithout(a.addr(), i)
			claimants = append(claimants, i.takeClaimant(a.addr()))
		}
		// Now, so that a Watch hears of them before the interface has gone.
		i.enter(s.clock.Now())
		for _, n := range i.neigh {
			n.Clear(i.now)
		}
		i.leaveBusy()
		return nil
	}); err != nil {
		return err
	}
	s.exceptions.gatewayGone(netip.Addr{}, i)
	i.linkDown()
	for _, a := range gone {
		if !s.cfg.Load().byAddrAny(a.addr()) {
			s.tcp.addressGone(a.addr())
		}
	}
	s.timers.Stop(&i.timer)
	err := i.close()
	i.readers.Wait()
	i.release()
	for n, a := range gone {
		i.tellGone(claimants[n], a.addr(), AddrRemoved)
	}
	return err
}

// NeighbourState is how sure we are of a neighbour (RFC 4861 §7.3.2). Its
// String is as `ip neigh` has it, in small letters.
type NeighbourState = neigh.State

// The states. The zero value is none.
const (
	NeighbourIncomplete = neigh.Incomplete
	NeighbourReachable  = neigh.Reachable
	NeighbourStale      = neigh.Stale
	NeighbourDelay      = neigh.Delay
	NeighbourProbe      = neigh.Probe
	NeighbourFailed     = neigh.Failed
	// NeighbourUnreachable is one that does not answer, with InterfaceConfig.Patience.
	NeighbourUnreachable = neigh.Unreachable
	NeighbourStatic      = neigh.Static
)

// Neighbour is what an interface knows of a host on its link.
type Neighbour struct {
	Interface *Interface
	Addr      netip.Addr
	MAC       ether.Addr // zero while unknown
	State     NeighbourState
	Router    bool          // of IPv6: it says that it forwards
	Age       time.Duration // since the state was entered
}

// String formats a neighbour as `ip neigh` does.
func (n Neighbour) String() string {
	s := fmt.Sprintf("%v dev %s", n.Addr, n.Interface.name)
	if !n.MAC.IsZero() {
		s += " lladdr " + n.MAC.String()
	}
	if n.Router {
		s += " router"
	}
	return s + " " + n.State.String()
}

// Neighbours is the control of the neighbour caches, of ARP and neighbour
// discovery alike.
type Neighbours struct{ s *Stack }

// Neighbours returns the control of the neighbour caches.
func (s *Stack) Neighbours() Neighbours { return Neighbours{s} }

// List returns the neighbours of all interfaces, in order of their addresses.
func (n Neighbours) List() []Neighbour {
	var list []Neighbour
	for _, i := range n.s.cfg.Load().ifaces {
		now := n.s.clock.Now()
		i.mu.Lock()
		for _, c := range i.neigh {
			for _, e := range c.Entries() {
				x := i.neighbour(e)
				x.Age = now.Sub(e.Since)
				list = append(list, x)
			}
		}
		i.mu.Unlock()
	}
	return list
}

func (i *Interface) neighbour(e neigh.Entry) Neighbour {
	return Neighbour{Interface: i, Addr: e.Addr, MAC: ether.Addr(e.MAC), State: e.State, Router: e.IsRouter}
}

// Set pins a neighbour's link-layer address: it is never asked for, and never
// overridden. EINVAL for an address that no neighbour can have, ENOSPC when the
// cache has no place, ENODEV for loopback and for an interface that was removed,
// EOPNOTSUPP on a link between two.
func (n Neighbours) Set(i *Interface, a netip.Addr, mac ether.Addr) error {
	switch {
	case i.loopback || !slices.Contains(n.s.cfg.Load().ifaces, i):
		return fmt.Errorf("neighbour %v: %w", a, syscall.ENODEV)
	case i.ptp:
		return i.noNeighbours(a)
	case !a.IsValid() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || mac.IsZero() || mac.IsGroup() ||
		n.s.cfg.Load().isBroadcast(a, i):
		return fmt.Errorf("neighbour %v at %v: %w", a, mac, syscall.EINVAL)
	}
	i.enter(n.s.clock.Now())
	defer i.leave()
	if !i.neigh[family(a)].SetStatic(a, mac) {
		return fmt.Errorf("neighbour %v: %w", a, syscall.ENOSPC)
	}
	return nil
}

// Remove forgets a neighbour, static or not; what waits for it fails. ENOENT
// when it is not known, EOPNOTSUPP on a link between two.
func (n Neighbours) Remove(i *Interface, a netip.Addr) error {
	if i.ptp {
		return i.noNeighbours(a)
	}
	i.enter(n.s.clock.Now())
	defer i.leave()
	if a.IsValid() && i.neigh[family(a)].Delete(a) {
		return nil
	}
	return fmt.Errorf("neighbour %v: %w", a, syscall.ENOENT)
}

// noNeighbours is the error of a link without link-layer addresses.
func (i *Interface) noNeighbours(a netip.Addr) error {
	return fmt.Errorf("neighbour %v: %s is a link between two and has none: %w", a, i.name, syscall.EOPNOTSUPP)
}

// Flush forgets the neighbours of an interface that are not static.
func (n Neighbours) Flush(i *Interface) {
	now := n.s.clock.Now()
	i.enter(now)
	defer i.leave()
	for _, c := range i.neigh {
		c.Flush(now)
	}
}

// neighbourChanged is told by the caches, with Interface.mu held.
func (i *Interface) neighbourChanged(e neigh.Entry, from NeighbourState, gone bool) {
	i.gatewayChanged(e, gone)
	if !i.stack.watches.wants(NeighbourChange) {
		return
	}
	op := Changed
	switch {
	case gone:
		op = Removed
	case from == 0:
		op = Added
	}
	i.stack.watches.tell(Change{Kind: NeighbourChange, Op: op, Neighbour: i.neighbour(e)})
}
