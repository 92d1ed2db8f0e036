package neigh

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what becomes of the claim that a known neighbour is at another
// link-layer address. By RFC 826 and RFC 4861 §7.2.5 the last word counts, so
// that any station draws its neighbours' traffic to itself by saying so. With
// Config.Verify a claim is a reason for doubt and no answer: the neighbour is
// asked by unicast at the address that is known. If it answers the claim was
// false; if it is silent for as long as three questions take, the claim is
// taken, and an address that moves (a standby router, another card) is followed
// within a second. Packets go to the address that is known meanwhile.
//
// It is no cure: who answers first when nothing is known is believed, and who
// answers for a station that is silent becomes its successor.

// The questions about a claim lie closer together than others, as what is in
// doubt may be in use, and they begin at most once each verifyEvery, so that a
// flood of claims is no flood of questions.
const (
	verifySolicits = 3
	verifyRetrans  = 300 * time.Millisecond
	verifyEvery    = time.Second
)

// contested reports whether somebody claims e's address while it is asked.
func (e *entry) contested() bool { return e.rival != [6]byte{} }

// verifies reports whether a claim about e, at another address than the one
// cached, is a reason to ask. Where nobody answered already it is taken.
func (c *Cache) verifies(e *entry) bool {
	return c.cfg.Verify && e.known() && e.state != Static && e.state != Unreachable
}

// contest begins to ask e whether it is still where it was. Of several claims
// the last will count, as it would without questions.
func (c *Cache) contest(e *entry, now mono.Time, rival [6]byte) {
	c.stats.Contested++
	if e.contested() {
		e.rival = rival
		return
	}
	c.enter(e, now, Probe)
	e.rival = rival
	if wait := e.verified.Add(verifyEvery); e.verified != 0 && wait > now {
		c.timers.set(e, wait)
		return
	}
	c.question(e, now)
}

// question asks e once more about a claim.
func (c *Cache) question(e *entry, now mono.Time) {
	if e.probes == 0 {
		e.verified = now
	}
	c.timers.set(e, now.Add(verifyRetrans))
	c.solicit(e)
}

// refute notes that e has answered, so that what was claimed is not so.
func (c *Cache) refute(e *entry) {
	c.stats.Refuted++
	rival := e.rival
	e.rival = [6]byte{}
	c.host.Judged(e.addr, rival, false)
}

// decide ends the wait for an answer: another question, or the claim is taken.
func (c *Cache) decide(e *entry, now mono.Time) {
	if e.probes < verifySolicits {
		c.question(e, now)
		return
	}
	c.stats.TakenOver++
	rival := e.rival
	c.record(e, now, rival)
	c.enter(e, now, Stale)
	c.host.Judged(e.addr, rival, true)
}

// locked reports whether a claim comes too early for Config.LockTime.
func (c *Cache) locked(e *entry, now mono.Time) bool {
	return now.Sub(max(e.since, e.learned)) < c.cfg.LockTime
}

// Announced handles what a station says of itself to everybody, unasked: a
// gratuitous ARP. It is Advertised with override, but LockTime does not hold it
// up, as on Linux: it is no second answer to a question.
func (c *Cache) Announced(now mono.Time, src netip.Addr, mac [6]byte) {
	c.advertised(now, src, mac, advert{hasMAC: true, override: true, unasked: true})
}
