package dhcp

// The client's state machine (RFC 2131 §4.4, figure 5). It owns when to send
// which message; input.go owns which answers to believe, output.go the fields
// of what is sent. After each call of Start, Inform, Input, Expire, Release or
// Decline the runner sends what Output gives and sleeps until Deadline.
//
//	INIT -> SELECTING -> REQUESTING -> BOUND -> RENEWING -> REBINDING
//	 ^      DISCOVER      REQUEST |     ^  T1     |   T2      |    |
//	 |                            |     +---------+-----------+    | lease over
//	 +-------------- NAK ---------+--------- ACK ------------------+
//
// An address held before is asked for again by INIT-REBOOT: a REQUEST from
// INIT, answered in REBOOTING. So is one that is still held when the link was
// away: the lease goes on while it is verified. A client whose address is its
// user's own asks for the rest by INFORM, in INFORMING, and then waits in
// INFORMED for a FORCERENEW.

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
)

// Config says who the client is.
type Config struct {
	MAC      ether.Addr
	Hostname string // sent to the server; may be empty
	// ClientID identifies the client (RFC 2132 §9.14), in 2 to 255 bytes.
	// Default: that of RFC 4361 §6.1, made of the MAC address.
	ClientID []byte
	// VendorClass says what kind of client this is (option 60); may be empty.
	VendorClass string
	// AutoConfigure tells servers that the host will give itself a link-local
	// address when it gets none of theirs, and lets them forbid it (RFC 2563).
	AutoConfigure bool
	// Rand draws transaction identifiers and spreads the timers. Required.
	Rand *rand.Rand
	// Requested is an address to ask for, if valid: politely in the first
	// DISCOVER, or with Reboot as one the client has held before on this
	// network, which saves a round trip if the server agrees.
	Requested netip.Addr
	Reboot    bool
}

// State is where the client is in figure 5 of RFC 2131.
type State uint8

// The states.
const (
	Stopped    State = iota // not started, or released
	Init                    // waiting before it begins again
	Selecting               // sent DISCOVER
	Requesting              // sent REQUEST for an offer
	Informing               // sent INFORM
	Informed                // knows what servers tell a host with an address
	Rebooting               // sent REQUEST for an address held before, or still
	Bound                   // has a lease
	Renewing                // has a lease, asks its server to extend it
	Rebinding               // has a lease, asks any server to extend it
)

var stateNames = [...]string{"stopped", "init", "selecting", "requesting", "informing", "informed", "rebooting", "bound", "renewing", "rebinding"}

func (s State) String() string { return stateNames[s] }

// Event is what the runner has to do something about.
type Event uint8

// The events.
const (
	EventNone     Event = iota
	EventBound          // there is a lease: check its address, then use it
	EventRenewed        // the lease was extended; all but its address may differ
	EventLost           // the lease expired or was refused: its address must go
	EventInformed       // Parameters has what a server answered to INFORM
)

var eventNames = [...]string{"none", "bound", "renewed", "lost", "informed"}

func (e Event) String() string { return eventNames[e] }

const (
	// requestTries and rebootTries are the transmissions of a REQUEST before
	// the client begins anew: 60 s (the example of RFC 2131 §3.1, 5) for an
	// offer, 12 s for an old address, which another network will not answer.
	requestTries = 4
	rebootTries  = 2
	// declineWait follows a DECLINE (RFC 2131 §3.1, 5), and from the
	// maxDeclines-th in a row on conflictWait does (RFC 5227 §2.1.1's
	// MAX_CONFLICTS and RATE_LIMIT_INTERVAL).
	declineWait  = 10 * time.Second
	maxDeclines  = 10
	conflictWait = 60 * time.Second
	// minRenewal is the least time between two requests to extend a lease
	// (RFC 2131 §4.4.5).
	minRenewal = 60 * time.Second
	// maxMessage is told to servers as what the client can receive.
	maxMessage = 1500
)

// parameters are the options asked for. RFC 3442 wants the classless routes
// before the routers.
var parameters = []byte{OptSubnetMask, OptRoutes, OptRouters, OptStaticRoutes, OptDNS, OptDomainName, OptMTU, OptBroadcast,
	OptNTP, OptLeaseTime, OptServerID, OptT1, OptT2, OptCaptivePortal, OptDomainSearch}

// Client is a DHCP client for one interface. It is not safe for concurrent
// use.
type Client struct {
	cfg   Config
	state State
	// lease is the one held if leased, else the one to give back while
	// pending is Release or Decline.
	lease  Lease
	leased bool
	params Lease // the answer to INFORM
	key    renewKey
	// auto is what servers said of link-local addresses: 0, or 1 + the value of
	// the option (RFC 2563 §2).
	auto byte

	wanted   netip.Addr // address offered, or to ask for
	server   netip.Addr // whose offer is being requested
	xid      uint32
	begun    mono.Time   // when this attempt began, for secs
	secs     uint16      // of the last DISCOVER
	tries    int         // transmissions in this state but the first
	naks     int         // in a row
	declines int         // in a row
	sent     mono.Time   // when the last REQUEST left
	typ      MessageType // what Output is to send, 0: nothing

	retry          mono.Time // next transmission
	t1, t2, expiry mono.Time // of the lease; unset for an infinite one
	buf            []byte
}

// NewClient returns a stopped client.
func NewClient(c Config) *Client {
	if len(c.ClientID) == 0 {
		c.ClientID = defaultID(c.MAC)
	}
	return &Client{cfg: c}
}

// State returns where the client is.
func (c *Client) State() State { return c.state }

// Lease returns the lease held.
func (c *Client) Lease() (Lease, bool) {
	if !c.leased {
		return Lease{}, false
	}
	return c.lease, true
}

// Parameters returns what a server answered to INFORM.
func (c *Client) Parameters() (Lease, bool) { return c.params, c.state == Informed }

// MayAutoConfigure reports whether no server has forbidden that the host gives
// itself a link-local address (RFC 2563 §2).
func (c *Client) MayAutoConfigure() bool { return c.auto != 1 }

// Start begins at once, whatever went on before. A lease held is verified by
// INIT-REBOOT, as the interface may have come to another network (RFC 2131
// §3.7), and goes on until it is refused or over.
//
// Departs from RFC 2131 §4.4.1, which wants a random delay of 1 to 10 s first,
// as the clients of Linux do: that was for a building full of machines after a
// power cut.
func (c *Client) Start(now mono.Time) {
	c.wanted, c.naks, c.declines, c.auto = c.cfg.Requested, 0, 0, 0
	reboot := c.cfg.Reboot
	if c.leased {
		c.wanted, reboot = c.lease.Addr.Addr(), true
	}
	if reboot && isHost(c.wanted) {
		c.begin(now, Rebooting, Request)
		return
	}
	c.discover(now)
}

// Inform asks for everything but an address, which the host has by other means
// (RFC 2131 §3.4): addr.
func (c *Client) Inform(now mono.Time, addr netip.Addr) {
	c.wanted, c.leased = addr, false
	c.begin(now, Informing, Inform)
}

func (c *Client) discover(now mono.Time) { c.begin(now, Selecting, Discover) }

// begin starts a transaction.
func (c *Client) begin(now mono.Time, s State, t MessageType) {
	c.begun, c.xid = now, c.cfg.Rand.Uint32()
	c.ask(now, s, t)
}

// ask sends the first message of a state.
func (c *Client) ask(now mono.Time, s State, t MessageType) {
	c.state, c.typ, c.tries = s, t, 0
	c.retry = now.Add(c.backoff(0))
}

// backoff is the wait after transmission n: 4, 8, 16, 32, then always 64 s,
// each with up to a second more or less (RFC 2131 §4.1).
func (c *Client) backoff(n int) time.Duration {
	return 4*time.Second<<min(n, 4) + c.spread(2*time.Second) - time.Second
}

// spread returns a random duration of at most d.
func (c *Client) spread(d time.Duration) time.Duration {
	return time.Duration(c.cfg.Rand.Int64N(int64(d) + 1))
}

// pause waits in INIT before beginning anew.
func (c *Client) pause(now mono.Time, d time.Duration) {
	c.state, c.retry = Init, now.Add(d)
}

// Deadline returns when Expire is needed next, 0 for never.
func (c *Client) Deadline() mono.Time {
	switch c.state {
	case Stopped, Informed:
		return 0
	case Bound:
		return c.t1
	case Renewing:
		return mono.Earliest(c.retry, c.t2)
	case Rebinding:
		return mono.Earliest(c.retry, c.expiry)
	case Rebooting:
		if c.leased {
			return mono.Earliest(c.retry, c.expiry)
		}
	}
	return c.retry
}

// Expire runs the timers due at now.
func (c *Client) Expire(now mono.Time) Event {
	if c.leased {
		return c.expireLease(now)
	}
	if c.Deadline() == 0 || !c.retry.Due(now) {
		return EventNone
	}
	c.tries++
	switch {
	case c.state == Init, c.state == Requesting && c.tries >= requestTries, c.state == Rebooting && c.tries >= rebootTries:
		c.discover(now)
	case c.state == Selecting:
		c.typ = Discover
		c.retry = now.Add(c.backoff(c.tries))
	case c.state == Informing:
		c.typ = Inform
		c.retry = now.Add(c.backoff(c.tries))
	default:
		c.typ = Request
		c.retry = now.Add(c.backoff(c.tries))
	}
	return EventNone
}

// expireLease runs the timers of a lease (RFC 2131 §4.4.5).
func (c *Client) expireLease(now mono.Time) Event {
	switch {
	case c.expiry.Due(now):
		// The address must not be used any more, but may be had again.
		c.leased, c.wanted = false, c.lease.Addr.Addr()
		c.discover(now)
		return EventLost
	case c.state == Rebooting:
		c.verifyAgain(now)
	case c.t2.Due(now) && c.state != Rebinding:
		c.extend(now, Rebinding)
	case c.t1.Due(now) && c.state == Bound:
		c.extend(now, Renewing)
	case c.state != Bound && c.retry.Due(now):
		c.extend(now, c.state)
	}
	return EventNone
}

// verifyAgain goes on when nobody answers who could say whether a lease is still
// good. RFC 2131 §3.7 lets the client keep it: a server that is away, or a link
// that is slow to come up, must not cost it connections.
func (c *Client) verifyAgain(now mono.Time) {
	switch {
	case !c.retry.Due(now):
	case c.tries+1 < rebootTries:
		c.tries++
		c.typ, c.retry = Request, now.Add(c.backoff(c.tries))
	default:
		// Where it would be had the link not been away.
		c.state, c.retry = Bound, 0
		c.expireLease(now)
	}
}

// extend asks for a longer lease. Each request is a transaction of its own, so
// that an answer tells which one the new lease counts from.
func (c *Client) extend(now mono.Time, s State) {
	if c.state == Bound {
		c.begun, c.tries = now, 0
	}
	c.state, c.typ, c.xid = s, Request, c.cfg.Rand.Uint32()
	end := c.t2
	if s == Rebinding {
		end = c.expiry
	}
	if end == 0 {
		// An infinite lease is only renewed because its server said so (RFC 3203).
		c.retry = now.Add(minRenewal << min(c.tries, 6))
		c.tries++
		return
	}
	// Half of the time left, at least a minute; the last request is left to
	// what comes at the end of that time.
	c.retry = now.Add(max(end.Sub(now)/2, minRenewal))
	if c.retry >= end {
		c.retry = 0
	}
}

// Release gives the lease back and stops the client. The address must stay
// until what Output gives has been sent.
func (c *Client) Release(now mono.Time) {
	c.state, c.retry, c.typ = Stopped, 0, 0
	if c.leased {
		c.leased, c.typ, c.xid = false, Release, c.cfg.Rand.Uint32()
	}
}

// Decline tells the server that another host uses the address of the lease.
// The lease is gone; the client begins anew after 10 s, and after 10 such in a
// row a minute.
func (c *Client) Decline(now mono.Time) {
	if !c.leased {
		return
	}
	c.leased, c.wanted = false, netip.Addr{}
	c.typ, c.xid = Decline, c.cfg.Rand.Uint32()
	wait := declineWait
	if c.declines++; c.declines >= maxDeclines {
		wait = conflictWait
	}
	c.pause(now, wait)
}

// Keep tells that the address of the lease was found free, so that a later
// conflict is the first of its kind again.
func (c *Client) Keep() { c.declines = 0 }
