package neigh

// The state machine of RFC 4861 appendix C: what is heard, confirmed or not
// heard in time, and the state it leads to. Where the appendix is terser than
// §7.2.5, the section decides, as it does in Linux.

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// reachableRedraw is how often the reachable time gets a new random factor;
// RFC 4861 §6.3.4 wants a few hours at most, Linux does it every 5 minutes.
const reachableRedraw = 5 * time.Minute

// Solicited handles src's own statement of its link-layer address in an ARP
// request, a neighbour or router solicitation, a router advertisement, or
// (for its target) a redirect: it says what the address is, not that frames to
// it arrive, so the entry becomes Stale at best (RFC 4861 §7.2.3). With create
// an entry is made where there is none, but none in use is evicted for it: a
// flood of statements cannot push out the neighbours we talk to.
func (c *Cache) Solicited(now mono.Time, src netip.Addr, mac [6]byte, create bool) {
	c.now = now
	src = src.WithZone("")
	if !validMAC(mac) || !usable(src) {
		c.stats.BadAddress++
		return
	}
	e := c.table[src]
	if e == nil || e.state == Failed {
		if !create {
			return
		}
		if e == nil {
			if e = c.create(src, rankStale); e == nil {
				c.stats.Refused++
				return
			}
		}
	}
	switch {
	case e.state == Static:
		return
	case e.known() && e.mac == mac:
		// Appendix C: the same address as cached changes nothing.
		return
	}
	// Appendix C: no entry, Incomplete, or another address than cached.
	c.record(e, now, mac)
	c.enter(e, now, Stale)
	c.release(e)
}

// Advertised handles a neighbour advertisement or ARP reply for target
// (RFC 4861 §7.2.5). hasMAC tells whether it names a link-layer address;
// solicited, override and router are its flags: an ARP reply to us is
// solicited and overrides, a gratuitous one only overrides. It never makes an
// entry. The result tells that the neighbour was a router and no longer is:
// it leaves the default router list.
func (c *Cache) Advertised(now mono.Time, target netip.Addr, mac [6]byte, hasMAC, solicited, override, router bool) (left bool) {
	c.now = now
	if hasMAC && !validMAC(mac) {
		c.stats.BadAddress++
		return false
	}
	e := c.table[target.WithZone("")]
	if e == nil || e.state == Failed || e.state == Static {
		return false
	}
	if e.state == Incomplete {
		left, e.isRouter = e.isRouter && !router, router
		if !hasMAC {
			// An Ethernet needs an address; without one only IsRouter counts.
			return left
		}
		c.record(e, now, mac)
		if solicited {
			c.enter(e, now, Reachable)
		} else {
			c.enter(e, now, Stale)
		}
		c.release(e)
		return left
	}

	differs := hasMAC && mac != e.mac
	switch {
	case differs && now.Sub(e.learned) < c.cfg.FlapHold:
		// Departs from RFC 4861, as Linux does for ARP: the first of
		// several answers wins.
		return false
	case differs && !override:
		// §7.2.5, I: doubt it if it is believed, else ignore.
		if e.state == Reachable {
			c.enter(e, now, Stale)
		}
		return false
	}
	// §7.2.5, II: override, or the same address, or none named.
	if differs {
		c.record(e, now, mac)
	}
	switch {
	case solicited:
		c.enter(e, now, Reachable)
	case differs:
		c.enter(e, now, Stale)
	}
	left, e.isRouter = e.isRouter && !router, router
	return left
}

// SetRouter notes from a router advertisement (true) or router solicitation
// (false) of addr whether it is a router (RFC 4861 §6.3.4, §6.2.6).
func (c *Cache) SetRouter(addr netip.Addr, router bool) {
	if e := c.table[addr.WithZone("")]; e != nil {
		e.isRouter = router
	}
}

// Confirm says that an upper layer knows dst to receive our packets, such as
// by an acknowledgement of new data (RFC 4861 §7.3.1). It is cheap enough to
// be called for each.
func (c *Cache) Confirm(now mono.Time, dst netip.Addr) {
	c.now = now
	e := c.table[dst.WithZone("")]
	if e == nil {
		return
	}
	switch e.state {
	case Reachable, Stale, Delay, Probe, Unreachable:
		c.enter(e, now, Reachable)
	}
}

// Doubt says that an upper layer has sent to dst, or by it, and hears nothing
// (RFC 1122 §3.3.1.4): it is asked now, not only when the time has passed for
// which it would be believed.
func (c *Cache) Doubt(now mono.Time, dst netip.Addr) {
	c.now = now
	e := c.table[dst.WithZone("")]
	if e == nil {
		return
	}
	switch e.state {
	case Reachable, Stale, Delay:
		c.enter(e, now, Probe)
		c.solicit(e)
	}
}

// validMAC tells whether one station can have the address: no group address,
// which would turn a unicast into a flood (RFC 1812 §3.3.2), and not zero.
func validMAC(mac [6]byte) bool { return mac[0]&1 == 0 && mac != [6]byte{} }

// record notes e's link-layer address.
func (c *Cache) record(e *entry, now mono.Time, mac [6]byte) {
	if e.mac != mac {
		e.mac, e.learned = mac, now
	}
}

// enter moves e to state s, with its rank and timer.
func (c *Cache) enter(e *entry, now mono.Time, s State) {
	if e.state != None {
		c.ranks[rankOf[e.state]].remove(e)
	}
	c.ranks[rankOf[s]].pushBack(e)
	if e.state == Incomplete && s != Failed {
		c.stats.Resolved++
	}
	from := e.state
	if from != s {
		e.state, e.since = s, now
	}
	e.probes = 0
	e.hold = 0
	if c.cfg.Changed != nil && (from != s || e.learned == now) {
		c.cfg.Changed(e.copy(), from, false)
	}
	switch s {
	case Incomplete, Probe, Unreachable:
		c.timers.set(e, now.Add(c.cfg.RetransTimer))
	case Reachable:
		c.timers.set(e, now.Add(c.reachableTime(now)))
	case Delay:
		c.timers.set(e, now.Add(c.cfg.DelayFirstProbe))
	case Stale, Failed:
		c.timers.set(e, now.Add(c.cfg.StaleTimeout))
	case Static:
		c.timers.stop(e)
	}
}

// reachableTime is the base spread by a factor of 0.5 to 1.5
// (RFC 4861 §6.3.2), the same for all neighbours until it is drawn again.
func (c *Cache) reachableTime(now mono.Time) time.Duration {
	if c.reachableUntil <= now {
		base := c.cfg.BaseReachable
		c.reachable = base/2 + time.Duration(c.rnd.Int64N(int64(base)+1))
		c.reachableUntil = now.Add(reachableRedraw)
	}
	return c.reachable
}

// release sends what waited for e, whose address is now known. To a stale
// neighbour that is a first packet like any (RFC 4861 §7.3.3).
func (c *Cache) release(e *entry) {
	if q := c.takeQueue(e); len(q) > 0 {
		c.use(e, c.now)
		c.host.Resolved(e.mac, q)
	}
}

// solicit asks e once more: by multicast for its address, by unicast whether
// it still has it.
func (c *Cache) solicit(e *entry) {
	e.probes++
	c.stats.Solicits++
	var waits *pkt.Buf
	if n := len(e.queue); n > 0 {
		waits = e.queue[n-1]
	}
	c.host.Solicit(e.addr, e.mac, e.state == Probe, waits)
}

// Deadline returns when Expire is needed next; it may turn out to be too
// early, and Expire then only sets the true time.
func (c *Cache) Deadline() mono.Time { return c.timers.first() }

// Expire runs the timers due at now.
func (c *Cache) Expire(now mono.Time) {
	c.now = now
	for {
		e := c.timers.due(now)
		if e == nil {
			return
		}
		c.expire(e, now)
	}
}

// expire ends e's timer. Each branch sets it anew, later than now, or removes
// it, so Expire ends.
func (c *Cache) expire(e *entry, now mono.Time) {
	switch e.state {
	case Incomplete:
		if e.probes < c.cfg.MaxMulticastSolicit {
			c.timers.set(e, now.Add(c.cfg.RetransTimer))
			c.solicit(e)
			return
		}
		// RFC 4861 §7.2.2: the packets that wait get an ICMP error.
		c.stats.Failed++
		addr, queued := e.addr, c.takeQueue(e)
		c.enter(e, now, Failed)
		e.isRouter = false
		if c.cfg.FailedHold > 0 {
			e.hold = now.Add(c.cfg.FailedHold)
		}
		c.host.Failed(addr, queued)
	case Reachable:
		c.enter(e, now, Stale)
	case Delay:
		c.enter(e, now, Probe)
		c.solicit(e)
	case Probe:
		if e.probes < c.cfg.MaxUnicastSolicit {
			c.timers.set(e, now.Add(c.cfg.RetransTimer))
			c.solicit(e)
			return
		}
		c.stats.Unreachable++
		if c.cfg.Patience > 0 {
			c.beginPatience(e, now)
		} else {
			c.giveUp(e, now)
		}
		c.host.Unreachable(e.addr)
	case Unreachable:
		c.goOn(e, now)
	case Stale, Failed:
		c.remove(e)
	}
}
