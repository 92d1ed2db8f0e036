package dhcp6

// The client's state machine (RFC 8415 §18.2). It owns when to send which
// message; input.go owns which answers to believe and what follows from them,
// output.go what is in a message, retrans.go when it is sent again. After each
// call of Start, Inform, Input, Expire, Release or Decline the runner sends what
// Output gives and sleeps until Deadline.
//
//	SOLICITING -> REQUESTING -> BOUND -> RENEWING -> REBINDING
//	 ^    | rapid commit          ^  T1     |   T2      |    |
//	 |    +-----------------------+---------+-----------+    | leases over
//	 +------- not on the link ---- CONFIRMING                |
//	 +-------------------------------------------------------+
//
// A host that has its addresses by other means asks for the rest, in INFORMING,
// and again from INFORMED when that is old.

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// Config says who the client is and what it wants.
type Config struct {
	DUID []byte // of the host: see Identify. Required.
	IAID uint32 // of the interface, the same at each start (RFC 8415 §12)
	// NoRapidCommit does without an exchange of two messages (§5.1). By default
	// servers may use it; most have to be told to.
	NoRapidCommit bool
	// Delegate is the length of a prefix to ask for, for a router's links
	// (§6.3); 0 asks for none.
	Delegate int
	// Hostname is the name, or its first label, to be put into DNS (RFC 4704);
	// empty sends none.
	Hostname string
	// Previous is what was held before on this network and may still be. It is
	// verified, and until then not used.
	Previous Lease
	// Rand draws transaction identifiers and spreads the timers. Required.
	Rand *rand.Rand
}

// State is what the client is doing.
type State uint8

// The states.
const (
	Stopped    State = iota // not started, or released
	Soliciting              // looks for servers
	Requesting              // asks one of them for leases
	Confirming              // asks whether addresses are right for the link
	Verifying               // asks the same for prefixes, by REBIND
	Bound                   // has leases
	Renewing                // asks its server to extend them
	Rebinding               // asks any server to extend them
	Declining               // tells that addresses are in use
	Releasing               // gives leases back
	Informing               // asks for all but leases
	Informed                // knows it
)

var stateNames = [...]string{"stopped", "soliciting", "requesting", "confirming", "verifying", "bound", "renewing", "rebinding", "declining",
	"releasing", "informing", "informed"}

func (s State) String() string { return stateNames[s] }

// Event is what the runner has to do something about.
type Event uint8

// The events.
const (
	EventNone     Event = iota
	EventLease          // Lease is new, extended, or has lost some of its parts
	EventLost           // nothing is left of the lease
	EventInformed       // Parameters are new
)

var eventNames = [...]string{"none", "lease", "lost", "informed"}

func (e Event) String() string { return eventNames[e] }

const (
	// maxDeclines is the number of addresses found in use, in a row, after which
	// the next is only asked for after conflictWait, as in DHCPv4.
	maxDeclines  = 10
	conflictWait = 60 * time.Second
	// maxAdverts bounds the advertisements that are compared.
	maxAdverts = 16
)

// Client is a DHCPv6 client for one interface. It is not safe for concurrent use.
type Client struct {
	cfg   Config
	state State
	// lease is held if leased; used says that it may be, which is not so of one
	// from before that nobody has confirmed.
	lease        Lease
	leased, used bool
	looked       mono.Time // when the lifetimes were looked at
	t1, t2       mono.Time // 0: never

	params  Lease // what servers told without a lease
	informs bool
	refresh mono.Time // when params are old, 0: never

	x       exchange
	xid     uint32
	typ     MessageType // of the exchange
	pending bool        // Output is to send it
	adverts []advert
	server  []byte         // which is asked
	wanted  []netip.Prefix // addresses in the message: to ask for, decline or release
	wantedP []netip.Prefix // prefixes, likewise

	solMaxRT, infMaxRT time.Duration
	declines           int // in a row
	rate               bucket
	buf                []byte
}

// advert is an advertisement.
type advert struct {
	server     []byte
	preference uint8
	addrs      []netip.Prefix
	prefixes   []netip.Prefix
}

// NewClient returns a stopped client.
func NewClient(c Config) *Client {
	return &Client{cfg: c, solMaxRT: solMaxRT, infMaxRT: infMaxRT}
}

// State returns what the client is doing.
func (c *Client) State() State { return c.state }

// Lease returns the lease held.
func (c *Client) Lease() (Lease, bool) {
	if !c.leased || !c.used {
		return Lease{}, false
	}
	return c.lease, true
}

// Parameters returns what servers told without a lease.
func (c *Client) Parameters() (Lease, bool) { return c.params, c.informs }

// Start begins to obtain leases. Those that are held, or were before, are
// verified (RFC 8415 §18.2.12): the interface may have come to another network.
// They go on until they are refused or over.
func (c *Client) Start(now mono.Time) Event {
	if p := &c.cfg.Previous; !c.leased && (len(p.Addrs) > 0 || len(p.Prefixes) > 0) {
		c.lease, c.leased, c.used, c.looked = *p, true, false, now
		c.t1, c.t2 = after(p.Acquired, p.T1), after(p.Acquired, p.T2)
		c.cfg.Previous = Lease{}
	}
	e := c.age(now)
	switch {
	case !c.leased:
		c.discover(now, 0)
	case len(c.lease.Prefixes) > 0:
		c.ask(now, Verifying, Rebind, exchange{irt: cnfTimeout, mrt: cnfMaxRT, mrd: cnfMaxRD}, c.delay(cnfMaxDelay))
	default:
		c.ask(now, Confirming, Confirm, exchange{irt: cnfTimeout, mrt: cnfMaxRT, mrd: cnfMaxRD}, c.delay(cnfMaxDelay))
	}
	return e
}

// Inform asks for everything but leases (RFC 8415 §18.2.6), and again when it is
// old.
func (c *Client) Inform(now mono.Time) {
	c.leased = false
	c.ask(now, Informing, InformationRequest, exchange{irt: infTimeout, mrt: c.infMaxRT}, c.delay(infMaxDelay))
}

// discover looks for servers (§18.2.1), after wait and what keeps hosts from
// doing so in step.
func (c *Client) discover(now mono.Time, wait time.Duration) {
	c.adverts = nil
	c.wanted, c.wantedP = prefixes(c.lease.Addrs), prefixes(c.lease.Prefixes)
	if !c.leased {
		c.lease, c.used = Lease{}, false
	}
	c.ask(now, Soliciting, Solicit, exchange{irt: solTimeout, mrt: c.solMaxRT, positive: true}, wait+c.delay(solMaxDelay))
}

// request asks the best of the servers that have answered, or looks for others
// (§18.2.2).
func (c *Client) request(now mono.Time) {
	if len(c.adverts) == 0 {
		c.discover(now, 0)
		return
	}
	best := 0
	for i := range c.adverts {
		if c.adverts[i].better(&c.adverts[best]) {
			best = i
		}
	}
	a := c.adverts[best]
	c.adverts = slices.Delete(c.adverts, best, best+1)
	c.server, c.wanted, c.wantedP = a.server, a.addrs, a.prefixes
	c.ask(now, Requesting, Request, exchange{irt: reqTimeout, mrt: reqMaxRT, mrc: reqMaxRC}, 0)
}

// better compares advertisements (§18.2.9): first by preference, then by how
// much of what was asked for they have. Of equal ones the first is taken.
func (a *advert) better(b *advert) bool {
	if a.preference != b.preference {
		return a.preference > b.preference
	}
	return a.kinds() > b.kinds()
}

func (a *advert) kinds() int { return min(len(a.addrs), 1) + min(len(a.prefixes), 1) }

// ask begins an exchange.
func (c *Client) ask(now mono.Time, s State, t MessageType, x exchange, wait time.Duration) {
	c.state, c.typ, c.x = s, t, x
	c.xid = uint32(c.cfg.Rand.Uint64N(maxXID))
	c.pending = wait == 0
	c.x.next = now.Add(wait)
}

// delay is a random time up to d.
func (c *Client) delay(d time.Duration) time.Duration {
	return time.Duration(c.cfg.Rand.Int64N(int64(d))) + 1
}

// rest ends an exchange.
func (c *Client) rest(s State) {
	c.state, c.typ, c.x, c.pending = s, 0, exchange{}, false
}

// resume goes on with the leases held where the time says.
func (c *Client) resume(now mono.Time) Event {
	e := EventNone
	if !c.used {
		c.used, e = true, EventLease
	}
	switch {
	case c.t2.Due(now):
		// Until all leases are over, which age finds (§18.2.5).
		c.wanted, c.wantedP = prefixes(c.lease.Addrs), prefixes(c.lease.Prefixes)
		c.ask(now, Rebinding, Rebind, exchange{irt: rebTimeout, mrt: rebMaxRT}, 0)
	case c.t1.Due(now):
		// Until T2 (§18.2.4), which Expire finds.
		c.ask(now, Renewing, Renew, exchange{irt: renTimeout, mrt: renMaxRT}, 0)
	default:
		c.rest(Bound)
	}
	return e
}

// Deadline returns when Expire is needed next, 0 for never.
func (c *Client) Deadline() mono.Time {
	d := c.x.next
	switch c.state {
	case Stopped:
		return 0
	case Bound:
		d = mono.Earliest(c.t1, c.t2)
	case Renewing:
		d = mono.Earliest(d, c.t2)
	case Informed:
		d = c.refresh
	}
	if c.leased {
		d = mono.Earliest(d, mono.Earliest(ends(c.looked, c.lease.Addrs), ends(c.looked, c.lease.Prefixes)))
	}
	return d
}

// Expire runs the timers due at now.
func (c *Client) Expire(now mono.Time) Event {
	held := c.leased
	e := c.age(now)
	switch {
	case held && !c.leased && c.state != Declining:
		c.discover(now, 0)
	case c.state == Bound && (c.t1.Due(now) || c.t2.Due(now)), c.state == Renewing && c.t2.Due(now):
		c.resume(now)
	case c.state == Informed && c.refresh.Due(now):
		c.Inform(now)
	case !c.x.next.Due(now):
	case c.state == Soliciting && len(c.adverts) > 0:
		c.request(now) // §18.2.1: the time to collect is over
	case c.x.sent > 0 && c.x.failed(now):
		if f := c.fail(now); f != EventNone {
			return f
		}
	default:
		c.pending = true
	}
	return e
}

// fail goes on when nobody has answered.
func (c *Client) fail(now mono.Time) Event {
	switch c.state {
	case Requesting:
		c.request(now)
	case Confirming, Verifying:
		// §18.2.3: what is held is used on, or again.
		return c.resume(now)
	case Declining:
		return c.declined(now)
	case Releasing:
		c.rest(Stopped)
	}
	return EventNone
}

// age takes away what is no longer valid.
func (c *Client) age(now mono.Time) Event {
	if !c.leased {
		return EventNone
	}
	addrs, a := over(now, c.looked, c.lease.Addrs)
	delegated, p := over(now, c.looked, c.lease.Prefixes)
	c.looked = now
	if !a && !p {
		return EventNone
	}
	used := c.used
	if len(addrs) == 0 && len(delegated) == 0 {
		c.leased, c.used = false, false // what it was may be had again
	} else {
		c.lease.Addrs, c.lease.Prefixes = addrs, delegated
	}
	switch {
	case !used:
		return EventNone
	case !c.leased:
		return EventLost
	}
	return EventLease
}

// Release gives everything back and stops the client (RFC 8415 §18.2.7). The
// addresses must be gone before what Output gives is sent.
func (c *Client) Release(now mono.Time) {
	if !c.leased {
		c.rest(Stopped)
		return
	}
	c.leased, c.used = false, false
	c.server, c.wanted, c.wantedP = c.lease.Server, prefixes(c.lease.Addrs), prefixes(c.lease.Prefixes)
	c.ask(now, Releasing, Release, exchange{irt: relTimeout, mrc: relMaxRC}, 0)
}

// Decline tells the server that another host uses an address (RFC 8415 §18.2.8).
// The rest of the lease stays; when nothing is left the client begins anew.
func (c *Client) Decline(now mono.Time, a netip.Addr) {
	p := netip.PrefixFrom(a, 128)
	i := slices.IndexFunc(c.lease.Addrs, func(g Granted) bool { return g.Prefix == p })
	if !c.leased || i < 0 {
		return
	}
	c.lease.Addrs = slices.Delete(slices.Clone(c.lease.Addrs), i, i+1)
	c.leased = len(c.lease.Addrs) > 0 || len(c.lease.Prefixes) > 0
	if c.state != Declining {
		c.wanted = nil
		c.declines++
	}
	c.server, c.wanted, c.wantedP = c.lease.Server, append(c.wanted, p), nil
	c.ask(now, Declining, Decline, exchange{irt: decTimeout, mrc: decMaxRC}, 0)
}

// declined goes on after a Decline, answered or not.
func (c *Client) declined(now mono.Time) Event {
	switch {
	case c.leased:
		return c.resume(now)
	case c.declines >= maxDeclines:
		c.lease = Lease{}
		c.discover(now, conflictWait)
	default:
		c.lease = Lease{}
		c.discover(now, 0)
	}
	return EventNone
}

// Keep tells that an address was found free, so that a later conflict is the
// first of its kind again.
func (c *Client) Keep() { c.declines = 0 }
