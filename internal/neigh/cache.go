package neigh

// The table and its queues: looking up, making, evicting and removing entries,
// and the frames that wait in them. What state an entry goes to, and when, is
// in state.go.

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// entry is one neighbour. It is in table, in the list of its state's rank, in
// waiting while it has frames, and in timers unless it is static.
type entry struct {
	addr     netip.Addr
	mac      [6]byte
	state    State
	isRouter bool
	probes   int
	since    mono.Time // when state was entered
	learned  mono.Time // when mac was recorded; for LockTime
	hold     mono.Time // Failed: until when frames are refused
	// rival is who claims to be at another address than mac while it is being
	// asked, zero: nobody; verified is when such questions last began.
	rival    [6]byte
	verified mono.Time

	queue      []*pkt.Buf
	queueBytes int

	// due is when the state's timer ends. The heap may hold an earlier time:
	// confirmations move due without touching the heap.
	due, when mono.Time
	index     int // in the heap, -1: not there

	links [2]link
}

// Ranks in the order in which a full table gives up entries: what is known to
// be of no use, what would have to be verified anyway, what may never be
// answered, and only then what is in use.
const (
	rankFailed = iota
	rankStale
	rankIncomplete
	rankActive
	rankStatic
	numRanks
)

var rankOf = [...]int{Failed: rankFailed, Stale: rankStale, Incomplete: rankIncomplete,
	Reachable: rankActive, Delay: rankActive, Probe: rankActive, Unreachable: rankActive, Static: rankStatic}

// Output decides what to do with a frame for the on-link unicast address dst,
// and starts asking for its address if need be. See Result for who owns p
// afterwards.
func (c *Cache) Output(now mono.Time, dst netip.Addr, p *pkt.Buf) (mac [6]byte, r Result) {
	c.now = now
	dst = dst.WithZone("")
	e := c.table[dst]
	if e == nil {
		if e = c.create(dst, rankActive); e == nil {
			c.stats.Refused++
			return mac, Refused
		}
	}
	switch e.state {
	case None, Failed:
		if e.hold > now {
			c.stats.Refused++
			return mac, Refused
		}
		// RFC 4861 §7.2.2: create the entry, queue, solicit.
		c.enter(e, now, Incomplete)
		r = c.enqueue(e, p)
		c.solicit(e)
		return mac, r
	case Incomplete:
		return mac, c.enqueue(e, p)
	}
	c.use(e, now)
	return e.mac, Send
}

// Answer is Output for a frame that answers what dst sent unasked. That is worth
// less than what a program of this host sends (RFC 6583 §7.1): while as many
// neighbours are looked for as in a scan of the link, none is for an answer.
func (c *Cache) Answer(now mono.Time, dst netip.Addr, p *pkt.Buf) (mac [6]byte, r Result) {
	if c.ranks[rankIncomplete].n >= c.cfg.MaxEntries/answerShare {
		if e := c.table[dst.WithZone("")]; e == nil || e.state == Failed {
			c.stats.Refused++
			return mac, Refused
		}
	}
	return c.Output(now, dst, p)
}

// answerShare is which part of the table may be looked for when an answer makes
// it search for one more.
const answerShare = 4

// Lookup returns the link-layer address of dst if frames may be sent to it
// now. Like Output it counts as a use, which starts the verification of a
// stale neighbour; unlike it it makes no entry and asks for no address.
func (c *Cache) Lookup(now mono.Time, dst netip.Addr) (mac [6]byte, ok bool) {
	c.now = now
	e := c.table[dst.WithZone("")]
	if e == nil || !e.known() {
		return mac, false
	}
	c.use(e, now)
	return e.mac, true
}

// Knows reports whether there is an entry for dst that did not fail.
func (c *Cache) Knows(dst netip.Addr) bool {
	e := c.table[dst.WithZone("")]
	return e != nil && e.state != Failed
}

// known reports whether frames may be sent to e.mac.
func (e *entry) known() bool {
	switch e.state {
	case None, Incomplete, Failed:
		return false
	}
	return true
}

// use notes that a frame goes to e.
func (c *Cache) use(e *entry, now mono.Time) {
	if e.state == Stale {
		// RFC 4861 §7.3.3: the first packet to a stale neighbour.
		c.enter(e, now, Delay)
		return
	}
	c.ranks[rankOf[e.state]].moveToBack(e)
}

// usable reports whether ip can be a neighbour's address at all.
func usable(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsMulticast() && !ip.IsUnspecified()
}

// create makes the entry of addr, in state None, or returns nil. A full table
// gives up entries up to the rank upTo.
func (c *Cache) create(addr netip.Addr, upTo int) *entry {
	if !usable(addr) {
		return nil
	}
	if len(c.table) >= c.cfg.MaxEntries && !c.evict(upTo) {
		return nil
	}
	e := c.free
	if e == nil {
		e = new(entry)
	} else {
		c.free = e.links[byRank].next
	}
	*e = entry{addr: addr, index: -1}
	c.table[addr] = e
	return e
}

// evict removes the least useful entry of at most rank upTo.
func (c *Cache) evict(upTo int) bool {
	for rank := 0; rank <= upTo; rank++ {
		if e := c.ranks[rank].first; e != nil {
			c.stats.Evictions++
			c.remove(e)
			return true
		}
	}
	return false
}

// remove forgets e; frames that wait in it fail.
func (c *Cache) remove(e *entry) {
	if c.cfg.Changed != nil {
		c.cfg.Changed(e.copy(), e.state, true)
	}
	addr, queued := e.addr, c.takeQueue(e)
	delete(c.table, addr)
	c.ranks[rankOf[e.state]].remove(e)
	c.timers.stop(e)
	*e = entry{index: -1}
	e.links[byRank].next, c.free = c.free, e
	if len(queued) > 0 {
		c.host.Failed(addr, queued)
	}
}

// enqueue makes p wait in e, which is Incomplete. Where there is no place the
// oldest frames go: of e itself for its own bounds (RFC 1122 §2.3.2.2: the
// latest packet SHOULD be saved), of the longest waiting neighbour for the
// bound of the cache, since that is the one least likely to answer.
func (c *Cache) enqueue(e *entry, p *pkt.Buf) Result {
	r, need := Queued, cost(p)
	for len(e.queue) >= c.cfg.QueueFrames || e.queueBytes+need > c.cfg.QueueBytes {
		c.dropOldest(e)
		r = Full
	}
	for c.queuedBytes+need > c.cfg.QueueTotalBytes {
		c.dropOldest(c.waiting.first)
		r = Full
	}
	if len(e.queue) == 0 {
		c.waiting.pushBack(e)
	}
	e.queue = append(e.queue, p)
	e.queueBytes += need
	c.queuedBytes += need
	return r
}

// cost is the memory that p holds on to.
func cost(p *pkt.Buf) int { return len(p.Room()) }

// dropOldest drops the first frame of e, which has one.
func (c *Cache) dropOldest(e *entry) {
	p := e.queue[0]
	n := copy(e.queue, e.queue[1:])
	e.queue[n] = nil
	e.queue = e.queue[:n]
	e.queueBytes -= cost(p)
	c.queuedBytes -= cost(p)
	if n == 0 {
		c.waiting.remove(e)
	}
	c.stats.QueueDrops++
	p.Put()
}

// takeQueue empties e's queue and returns the frames.
func (c *Cache) takeQueue(e *entry) []*pkt.Buf {
	q := e.queue
	if len(q) > 0 {
		c.waiting.remove(e)
	}
	c.queuedBytes -= e.queueBytes
	e.queue, e.queueBytes = nil, 0
	return q
}

// Flush forgets every neighbour but the static ones, as when the link went
// down or another network may be at its end; all waiting frames fail.
func (c *Cache) Flush(now mono.Time) {
	c.now = now
	for rank := range rankStatic {
		for c.ranks[rank].first != nil {
			c.remove(c.ranks[rank].first)
		}
	}
}

// Clear forgets every neighbour, the static ones too, as when the interface goes.
func (c *Cache) Clear(now mono.Time) {
	c.Flush(now)
	for c.ranks[rankStatic].first != nil {
		c.remove(c.ranks[rankStatic].first)
	}
}

// SetStatic pins dst to mac and sends what waits for it. It reports false if
// the table has no place or an address is impossible.
func (c *Cache) SetStatic(dst netip.Addr, mac [6]byte) bool {
	dst = dst.WithZone("")
	if !validMAC(mac) {
		return false
	}
	e := c.table[dst]
	if e == nil {
		if e = c.create(dst, rankActive); e == nil {
			return false
		}
	}
	c.record(e, c.now, mac)
	c.enter(e, c.now, Static)
	c.release(e)
	return true
}

// Delete forgets dst, static or not, and reports whether it was known. Frames
// that wait for it fail.
func (c *Cache) Delete(dst netip.Addr) bool {
	e := c.table[dst.WithZone("")]
	if e != nil {
		c.remove(e)
	}
	return e != nil
}

// Entries returns a copy of all records, sorted by address.
func (c *Cache) Entries() []Entry {
	all := make([]Entry, 0, len(c.table))
	for _, e := range c.table {
		all = append(all, e.copy())
	}
	slices.SortFunc(all, func(a, b Entry) int { return a.Addr.Compare(b.Addr) })
	return all
}

// copy returns what others may know of e.
func (e *entry) copy() Entry {
	return Entry{Addr: e.addr, MAC: e.mac, State: e.state, Since: e.since, Probes: e.probes, Queued: len(e.queue), IsRouter: e.isRouter}
}
