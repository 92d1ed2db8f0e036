// Package neigh is the neighbour cache of one interface and family: which
// link-layer address an on-link IP address has, and how sure we are of it.
// ARP and IPv6 neighbour discovery drive the same cache; it implements
// neighbour unreachability detection (RFC 4861 §7, appendix C), which Linux
// applies to ARP too. It owns the frames that wait for an address, and no
// bytes of any protocol: its Host builds the solicitations.
//
//	          Output                       answered
//	(none) ------------> INCOMPLETE --------------------> REACHABLE
//	   |                     | 3 x asked by multicast      |    ^
//	   | heard of            v                  not heard  |    | answered, or
//	   |                  FAILED                 for 30 s  |    | confirmed from
//	   |                     ^                             v    | above
//	   +---------------------|-------------------------> STALE  |
//	                         | 3 x asked by unicast        | Output
//	                       PROBE <--------- DELAY <--------+    |
//	                         |     5 s        |                 |
//	                         +----------------+-----------------+
//
// What others may make it do is bounded: the table has MaxEntries, what waits
// has QueueTotalBytes, a neighbour is asked once per RetransTimer, and no
// neighbour's silence delays another.
package neigh

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// State is the reachability of one neighbour (RFC 4861 §7.3.2).
type State uint8

// The states. Failed and Static are Linux's NUD_FAILED and NUD_PERMANENT; the
// RFC has no entry where this cache has a Failed one.
const (
	None        State = iota // no entry
	Incomplete               // asked, no answer yet; frames wait
	Reachable                // known to have answered lately
	Stale                    // not known to be reachable; believed until used
	Delay                    // used while stale; an upper layer may yet confirm it
	Probe                    // being asked by unicast
	Failed                   // did not answer
	Static                   // configured: never asked, never replaced, never evicted
	Unreachable              // did not answer by unicast; asked by multicast while frames still go there (RFC 7048)
)

var stateNames = [...]string{"none", "incomplete", "reachable", "stale", "delay", "probe", "failed", "static", "unreachable"}

func (s State) String() string { return stateNames[s] }

// Config bounds the cache and sets its timers. A field that is zero or less
// takes the default.
type Config struct {
	// MaxEntries is the size of the table, which never grows beyond it: the
	// least useful entry makes place. Default 1024, Linux's gc_thresh3.
	MaxEntries int
	// QueueFrames and QueueBytes bound what waits for one neighbour. Default
	// 64 frames and 212992 bytes (Linux's unres_qlen_bytes); bytes are those
	// of memory, as Linux counts truesize, and one buffer always fits.
	QueueFrames, QueueBytes int
	// QueueTotalBytes bounds what waits for all neighbours. Default 4 MiB.
	QueueTotalBytes int

	// RetransTimer lies between two questions to one neighbour, at least
	// 100 ms (as Linux). Default 1 s.
	RetransTimer time.Duration
	// MaxMulticastSolicit and MaxUnicastSolicit are how often a neighbour is
	// asked for its address, and whether it still has it. Default 3 each.
	MaxMulticastSolicit, MaxUnicastSolicit int
	// Patience is how often a neighbour that stopped answering is asked by
	// multicast before it is given up (RFC 7048), further and further apart.
	// Default 0, as Linux's mcast_resolicit.
	Patience int
	// BaseReachable is how long an answer is good for, spread by half either
	// way (RFC 4861 §6.3.2). Default 30 s.
	BaseReachable time.Duration
	// DelayFirstProbe is the time given to upper layers to confirm a stale
	// neighbour before it is asked. Default 5 s.
	DelayFirstProbe time.Duration
	// StaleTimeout is how long an unused stale or failed entry is kept.
	// Default 60 s, Linux's gc_stale_time.
	StaleTimeout time.Duration
	// FailedHold is how long after a neighbour gave no address frames to it
	// are refused without asking again. Default 1 s; negative: not at all,
	// which is what Linux does.
	FailedHold time.Duration
	// FlapHold protects a newly learnt address from being overridden by
	// another answer, so that of several answers to one question the first
	// counts. Default 0; Linux uses 1 s for ARP (locktime).
	FlapHold time.Duration

	// Changed is told of every record that was made, changed its state or its
	// link-layer address, or is gone; from is the state it was in before. It
	// must not call the cache. nil: nobody wants to know.
	Changed func(e Entry, from State, gone bool)
}

// The range of the timers that SetTimers accepts, so that a router
// advertisement can neither make a host flood its link nor stop it asking.
const (
	minTimer     = 100 * time.Millisecond // Linux's floor for both
	maxRetrans   = time.Minute
	maxReachable = time.Hour // MaxReachableTime: RFC 4861 §6.2.1
)

func (c *Config) setDefaults() {
	count := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	span := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	count(&c.MaxEntries, 1024)
	count(&c.QueueFrames, 64)
	count(&c.QueueBytes, 212992)
	count(&c.QueueTotalBytes, 4<<20)
	c.QueueBytes = max(c.QueueBytes, pkt.LargeSlab)
	c.QueueTotalBytes = max(c.QueueTotalBytes, c.QueueBytes)

	span(&c.RetransTimer, time.Second)
	count(&c.MaxMulticastSolicit, 3)
	count(&c.MaxUnicastSolicit, 3)
	span(&c.BaseReachable, 30*time.Second)
	span(&c.DelayFirstProbe, 5*time.Second)
	span(&c.StaleTimeout, 60*time.Second)
	if c.FailedHold == 0 {
		c.FailedHold = time.Second
	}
	c.RetransTimer = max(c.RetransTimer, minTimer)
}

// Host is what the cache needs of its interface. It is called from inside the
// cache's methods and must not call the cache.
type Host interface {
	// Solicit sends an ARP request or neighbour solicitation for target: to
	// the link-layer address to if unicast, else by broadcast or multicast.
	// waits is the frame that waits for the answer, the latest of them, nil
	// where none does.
	Solicit(target netip.Addr, to [6]byte, unicast bool, waits *pkt.Buf)
	// Resolved takes the frames, in the order they came, and their slice:
	// they go to mac now.
	Resolved(mac [6]byte, queued []*pkt.Buf)
	// Failed takes the frames, in the order they came, and their slice:
	// target cannot be reached and their senders are to get EHOSTUNREACH.
	// There may be none.
	Failed(target netip.Addr, queued []*pkt.Buf)
	// Unreachable says that a neighbour whose address was known stopped
	// answering: another router may be tried (RFC 4861 §7.3.3).
	Unreachable(target netip.Addr)
}

// Result is what became of a frame given to Output.
type Result uint8

// The results.
const (
	// Send: the caller sends it now to the address returned; not taken.
	Send Result = iota
	// Queued: taken; it waits for the address.
	Queued
	// Full: taken; it waits, and older frames were dropped to make place
	// (RFC 1122 §2.3.2.2).
	Full
	// Refused: not taken. The neighbour failed to answer a moment ago, its
	// address is none a neighbour can have, or the table is full of static
	// entries: EHOSTUNREACH.
	Refused
)

// Entry is a copy of one neighbour's record.
type Entry struct {
	Addr     netip.Addr
	MAC      [6]byte // zero while unknown
	State    State
	Since    mono.Time // when the state was entered
	Probes   int       // questions asked in this state without an answer
	Queued   int       // frames waiting
	IsRouter bool      // IPv6: it says that it forwards
}

// Stats counts what happened since the cache was made.
type Stats struct {
	Solicits    uint64 // questions asked
	Resolved    uint64 // neighbours whose address was found
	Failed      uint64 // neighbours that gave no address
	Unreachable uint64 // neighbours that had an address and stopped answering
	QueueDrops  uint64 // frames dropped from a full queue
	Evictions   uint64 // entries dropped from a full table
	Refused     uint64 // frames not taken, and entries not made for want of place
	BadAddress  uint64 // statements of an impossible link-layer or IP address
}

// Cache is the neighbours of one interface and family. It is not safe for
// concurrent use. Zones of IPv6 addresses are ignored: all are on this link.
type Cache struct {
	cfg  Config
	host Host
	rnd  *rand.Rand

	table map[netip.Addr]*entry
	// ranks holds every entry in the order of eviction: rank by rank, and
	// the least recently used first.
	ranks [numRanks]list
	// waiting holds the entries with frames, the longest waiting first.
	waiting     list
	queuedBytes int
	free        *entry // entries for reuse, chained by links[byRank].next
	timers      heap

	reachable      time.Duration // BaseReachable with its random factor
	reachableUntil mono.Time     // when to draw a new factor
	now            mono.Time     // of the last call that had one
	stats          Stats
}

// New returns an empty cache. rnd is used for the spread of the reachable time
// alone.
func New(c Config, h Host, rnd *rand.Rand) *Cache {
	c.setDefaults()
	return &Cache{cfg: c, host: h, rnd: rnd, table: make(map[netip.Addr]*entry), waiting: list{id: byWait}}
}

// SetTimers sets the base reachable time and the retransmission timer, as
// router advertisements do (RFC 4861 §6.3.4); zero leaves one as it is. Values
// are held to 100 ms to 1 h and 100 ms to 1 min. Running timers are not
// changed.
func (c *Cache) SetTimers(reachable, retrans time.Duration) {
	if reachable > 0 {
		reachable = min(max(reachable, minTimer), maxReachable)
		// The factor is drawn anew only for a new value: advertisements that
		// repeat it do not matter (RFC 4861 §6.3.4).
		if reachable != c.cfg.BaseReachable {
			c.cfg.BaseReachable, c.reachableUntil = reachable, 0
		}
	}
	if retrans > 0 {
		c.cfg.RetransTimer = min(max(retrans, minTimer), maxRetrans)
	}
}

// Bytes returns the memory of the frames that wait.
func (c *Cache) Bytes() int { return c.queuedBytes }

// Stats returns the counters.
func (c *Cache) Stats() Stats { return c.stats }
