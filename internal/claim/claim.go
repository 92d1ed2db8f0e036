// Package claim takes possession of an address: it asks the link whether
// anybody has it, waits, assigns, announces, and afterwards defends it. IPv4
// address conflict detection (RFC 5227) and IPv6 duplicate address detection
// (RFC 4862 §5.4) are the same machine with different constants. What a probe
// looks like, and what counts as a conflict, is the caller's.
package claim

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// Params are the constants of a claim.
//
//	Start                                      Assigned
//	  |  delay   | spacing |  spacing |   Wait    |  interval  |
//	  +----------+---------+----------+-----------+------------+--->
//	           probe     probe      probe     announce     announce
type Params struct {
	InitialDelay time.Duration // before the first probe: random, 0 to this
	Probes       int           // how many; 0: the address is assigned at once
	ProbeMin     time.Duration // between two probes: random, ProbeMin to ProbeMax
	ProbeMax     time.Duration
	Wait         time.Duration // from the last probe to the assignment

	Announces        int // how many announcements follow, the first at once
	AnnounceInterval time.Duration

	// DefendInterval is how long after one conflict a second one costs the
	// address. 0: conflicts over an assigned address are ignored.
	DefendInterval time.Duration
	// Keep is RFC 5227 §2.4 (c): the address is defended at most once in a
	// DefendInterval, but never given up.
	Keep bool
}

// ACD has the constants of RFC 5227 §1.1.
var ACD = Params{
	InitialDelay:     1 * time.Second, // PROBE_WAIT
	Probes:           3,               // PROBE_NUM
	ProbeMin:         1 * time.Second, // PROBE_MIN
	ProbeMax:         2 * time.Second, // PROBE_MAX
	Wait:             2 * time.Second, // ANNOUNCE_WAIT
	Announces:        2,               // ANNOUNCE_NUM
	AnnounceInterval: 2 * time.Second, // ANNOUNCE_INTERVAL
	DefendInterval:   10 * time.Second,
}

// DAD has the constants of RFC 4862 §5.1 and RFC 4861 §10: one neighbour
// solicitation, and RetransTimer to object to it. The random delay of RFC 4862
// §5.4.2 is for interfaces that start in step with others after a power
// failure or an advertisement; set InitialDelay to a second for those. There is
// no defence: an assigned address answers solicitations, which is all that
// RFC 4862 asks.
var DAD = Params{
	Probes:   1, // DupAddrDetectTransmits
	ProbeMin: 1 * time.Second,
	ProbeMax: 1 * time.Second,
	Wait:     1 * time.Second, // RetransTimer
}

// NoProbe takes the address without asking, as Linux does with IPv4 ones. It is
// still announced, so that caches which know an older owner are corrected, and
// kept whatever others say: without probing nobody has agreed to it anyway.
var NoProbe = Params{
	Announces:        ACD.Announces,
	AnnounceInterval: ACD.AnnounceInterval,
	DefendInterval:   ACD.DefendInterval,
	Keep:             true,
}

// State is how far a claim has come.
type State uint8

// The states.
const (
	StateIdle      State = iota // not started
	StateProbing                // tentative: the address must not be used
	StateAssigned               // it is ours
	StateDuplicate              // it is another host's, or became so
)

var stateNames = [...]string{"idle", "probing", "assigned", "duplicate"}

func (s State) String() string { return stateNames[s] }

// Action is what the caller is to do.
type Action uint8

// The actions.
const (
	None     Action = iota
	Probe           // send an ARP probe or a neighbour solicitation for DAD
	Assigned        // the address may be used from now on
	Announce        // send an announcement
	Defend          // another host used the address: send one announcement
	Failed          // another host has the address: do not use it
	Lost            // another host insists on the address: cease using it
)

var actionNames = [...]string{"none", "probe", "assigned", "announce", "defend", "failed", "lost"}

func (a Action) String() string { return actionNames[a] }

// Claim is the claim of one address.
type Claim struct {
	addr netip.Addr
	p    Params
	rnd  *rand.Rand

	state    State
	toProbe  int       // probes still to send
	toTell   int       // announcements still to send
	again    int       // how often it may still wait once more
	deadline mono.Time // of the next step; 0: none
	conflict mono.Time // when the last one was defended against; 0: never
}

// New returns a claim that has not started. rnd may be nil when p leaves
// nothing to chance.
func New(addr netip.Addr, p Params, rnd *rand.Rand) *Claim {
	return &Claim{addr: addr, p: p, rnd: rnd}
}

// Addr returns the address claimed.
func (c *Claim) Addr() netip.Addr { return c.addr }

// State returns how far the claim has come.
func (c *Claim) State() State { return c.state }

// Probes reports whether the claim asks before the address is assigned.
func (c *Claim) Probes() bool { return c.p.Probes > 0 }

// Pending reports whether the address was not assigned yet.
func (c *Claim) Pending() bool { return c.state == StateProbing }

// Deadline returns when Expire is to be called, or 0 for never.
func (c *Claim) Deadline() mono.Time { return c.deadline }

// Start begins the claim, or begins it anew after a failure or when the link
// came back (RFC 5227 §2.1). Until Expire answers Assigned the address must not
// be used. The first step may be due at once: look at Deadline.
func (c *Claim) Start(now mono.Time) {
	c.state = StateProbing
	c.toProbe, c.toTell, c.again = c.p.Probes, c.p.Announces, maxAgain
	c.conflict = 0
	c.deadline = now
	if c.toProbe > 0 {
		c.deadline = now.Add(c.between(0, c.p.InitialDelay))
	}
}

// Sent says that the probe which Expire asked for has left at now. The host may
// have stood still since that call, and the answer has its time from here on.
func (c *Claim) Sent(now mono.Time) {
	if c.state == StateProbing && c.toProbe == 0 && c.deadline != 0 {
		c.deadline = max(c.deadline, now.Add(c.p.Wait))
	}
}

// A host that stood still for a while, because it was stopped, suspended or has
// much else to do, finds the end of the waiting and the answers that came
// meanwhile at the same moment, in no order. So when the end is noticed later
// than a part of the waiting it waits once more, for what lies unread to be
// read; but not for ever where it is always late.
const (
	latePart = 8
	maxAgain = 3
)

// Expire takes the step that is due at now and returns what it asks for. The
// next one may be due at the same instant (the first announcement comes with
// the assignment), so that it is called
//
//	for c.Deadline().Due(now) {
//		act(c.Expire(now))
//	}
//
// Called early it does nothing.
func (c *Claim) Expire(now mono.Time) Action {
	if !c.deadline.Due(now) {
		return None
	}
	switch {
	case c.state == StateProbing && c.toProbe > 0:
		c.toProbe--
		if c.toProbe > 0 {
			c.deadline = now.Add(c.between(c.p.ProbeMin, c.p.ProbeMax))
		} else {
			c.deadline = now.Add(c.p.Wait)
		}
		return Probe
	case c.state == StateProbing && c.p.Probes > 0 && c.again > 0 && now.Sub(c.deadline) > c.p.Wait/latePart:
		c.again--
		c.deadline = now.Add(c.p.Wait)
		return None
	case c.state == StateProbing:
		c.state = StateAssigned
		c.deadline = 0
		if c.toTell > 0 {
			c.deadline = now
		}
		return Assigned
	}
	// Only an assigned address has a deadline left: its announcements.
	c.toTell--
	c.deadline = 0
	if c.toTell > 0 {
		c.deadline = now.Add(c.p.AnnounceInterval)
	}
	return Announce
}

// Conflict reports that another host uses the address, or probes for it while
// we do, and returns what that asks for.
func (c *Claim) Conflict(now mono.Time) Action {
	switch {
	case c.state == StateProbing && c.p.Probes == 0 && c.p.Keep:
		// In use since Start, although its first step is still due.
		return None
	case c.state == StateProbing:
		// RFC 5227 §2.1.1, RFC 4862 §5.4.4 and §5.4.5. Before the first
		// probe has left it is just as true.
		c.giveUp()
		return Failed
	case c.state != StateAssigned || c.p.DefendInterval == 0:
		return None
	case c.conflict == 0 || now.Sub(c.conflict) >= c.p.DefendInterval:
		// RFC 5227 §2.4 (b): the first conflict in a while may be a stray;
		// say once more whose the address is.
		c.conflict = now
		return Defend
	case c.p.Keep:
		// RFC 5227 §2.4 (c): more announcements would only start a quarrel.
		return None
	}
	// RFC 5227 §2.4 (b): the other host means it.
	c.giveUp()
	return Lost
}

func (c *Claim) giveUp() {
	c.state, c.deadline = StateDuplicate, 0
}

// between returns a random duration from lo to hi, both included.
func (c *Claim) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(c.rnd.Int64N(int64(hi-lo)+1))
}
