package neigh

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what becomes of a neighbour that stopped answering. RFC 4861
// §7.3.3 gives it up after three questions by unicast, within 3 s, which a short
// outage of the link outlasts. RFC 7048 §3 has patience: frames go on to the
// address that is known, while the neighbour is asked by multicast, further and
// further apart. Others are tried at once all the same: the host is told
// Unreachable when the patience begins.

// maxBackoff is MAX_RETRANS_TIMER times RetransTimer, and backoff
// BACKOFF_MULTIPLE of RFC 7048 §3.
const (
	backoff    = 3
	maxBackoff = 60 * time.Second
)

// beginPatience enters the state UNREACHABLE: unicast questions were in vain.
func (c *Cache) beginPatience(e *entry, now mono.Time) {
	c.enter(e, now, Unreachable)
	c.solicit(e)
}

// goOn asks once more, or gives up.
func (c *Cache) goOn(e *entry, now mono.Time) {
	if e.probes >= c.cfg.Patience {
		c.giveUp(e, now)
		return
	}
	wait := c.cfg.RetransTimer
	for n := 0; n < e.probes && wait < maxBackoff; n++ {
		wait *= backoff
	}
	c.timers.set(e, now.Add(min(wait, max(maxBackoff, c.cfg.RetransTimer))))
	c.solicit(e)
}

// giveUp forgets the link-layer address (RFC 4861 §7.3.3 deletes the entry).
// The next packet asks by multicast at once: the neighbour may have a new one.
func (c *Cache) giveUp(e *entry, now mono.Time) {
	c.enter(e, now, Failed)
	e.mac, e.isRouter = [6]byte{}, false
}
