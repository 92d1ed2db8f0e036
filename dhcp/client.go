package dhcp

// The client's state machine (RFC 2131 §4.4, figure 5). It owns when to send
// which message and which answers to believe; the fields of what it sends are
// in Output. After each call of Start, Input, Expire, Release or Decline the
// runner sends what Output gives and sleeps until Deadline.
//
//	INIT -> SELECTING -> REQUESTING -> BOUND -> RENEWING -> REBINDING
//	 ^      DISCOVER      REQUEST |     ^  T1     |   T2      |    |
//	 |                            |     +---------+-----------+    | lease over
//	 +-------------- NAK ---------+--------- ACK ------------------+
//
// An address held before is asked for again by INIT-REBOOT: a REQUEST from
// INIT, answered in REBOOTING.

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
)

// Config says who the client is.
type Config struct {
	MAC      ether.Addr
	Hostname string // sent to the server; may be empty
	// ClientID identifies the client (RFC 2132 §9.14). Default: 1, the
	// hardware type, and the MAC address.
	ClientID []byte
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
	Rebooting               // sent REQUEST for an address held before
	Bound                   // has a lease
	Renewing                // has a lease, asks its server to extend it
	Rebinding               // has a lease, asks any server to extend it
)

var stateNames = [...]string{"stopped", "init", "selecting", "requesting", "rebooting", "bound", "renewing", "rebinding"}

func (s State) String() string { return stateNames[s] }

// Event is what the runner has to do something about.
type Event uint8

// The events.
const (
	EventNone    Event = iota
	EventBound         // there is a lease: check its address, then use it
	EventRenewed       // the lease was extended; all but its address may differ
	EventLost          // the lease expired or was refused: its address must go
)

var eventNames = [...]string{"none", "bound", "renewed", "lost"}

func (e Event) String() string { return eventNames[e] }

const (
	// requestTries and rebootTries are the transmissions of a REQUEST before
	// the client begins anew: 60 s (the example of RFC 2131 §3.1, 5) for an
	// offer, 12 s for an old address, which another network will not answer.
	requestTries = 4
	rebootTries  = 2
	// declineWait follows a DECLINE (RFC 2131 §3.1, 5).
	declineWait = 10 * time.Second
	// minRenewal is the least time between two requests to extend a lease
	// (RFC 2131 §4.4.5).
	minRenewal = 60 * time.Second
	// maxMessage is told to servers as what the client can receive.
	maxMessage = 1500
)

// parameters are the options asked for. RFC 3442 wants the classless routes
// before the routers.
var parameters = []byte{OptSubnetMask, OptRoutes, OptRouters, OptDNS, OptDomainName, OptMTU, OptBroadcast,
	OptNTP, OptLeaseTime, OptServerID, OptT1, OptT2, OptDomainSearch}

// Client is a DHCP client for one interface. It is not safe for concurrent
// use.
type Client struct {
	cfg   Config
	state State
	// lease is the one held if leased, else the one to give back while
	// pending is Release or Decline.
	lease  Lease
	leased bool

	wanted netip.Addr // address offered, or to ask for
	server netip.Addr // whose offer is being requested
	xid    uint32
	begun  mono.Time   // when this attempt began, for secs
	secs   uint16      // of the last DISCOVER
	tries  int         // transmissions in this state but the first
	naks   int         // in a row
	sent   mono.Time   // when the last REQUEST left
	typ    MessageType // what Output is to send, 0: nothing

	retry          mono.Time // next transmission
	t1, t2, expiry mono.Time // of the lease; unset for an infinite one
	buf            []byte
}

// NewClient returns a stopped client.
func NewClient(c Config) *Client {
	if len(c.ClientID) == 0 {
		c.ClientID = append([]byte{htypeEthernet}, c.MAC[:]...)
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

// Start begins at once, whatever went on before: a lease held is dropped and
// asked for again by INIT-REBOOT, as when the interface may have moved to
// another network.
//
// Departs from RFC 2131 §4.4.1, which wants a random delay of 1 to 10 s first,
// as the clients of Linux do: that was for a building full of machines after a
// power cut.
func (c *Client) Start(now mono.Time) {
	c.wanted, c.naks = c.cfg.Requested, 0
	reboot := c.cfg.Reboot
	if c.leased {
		c.wanted, reboot = c.lease.Addr.Addr(), true
	}
	c.leased = false
	if reboot && isHost(c.wanted) {
		c.begin(now, Rebooting, Request)
		return
	}
	c.discover(now)
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
	case Stopped:
		return 0
	case Bound:
		return c.t1
	case Renewing:
		return mono.Earliest(c.retry, c.t2)
	case Rebinding:
		return mono.Earliest(c.retry, c.expiry)
	}
	return c.retry
}

// Expire runs the timers due at now.
func (c *Client) Expire(now mono.Time) Event {
	if c.leased {
		return c.expireLease(now)
	}
	if c.state == Stopped || !c.retry.Due(now) {
		return EventNone
	}
	c.tries++
	switch {
	case c.state == Init, c.state == Requesting && c.tries >= requestTries, c.state == Rebooting && c.tries >= rebootTries:
		c.discover(now)
	case c.state == Selecting:
		c.typ = Discover
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
	case c.t2.Due(now) && c.state != Rebinding:
		c.extend(now, Rebinding)
	case c.t1.Due(now) && c.state == Bound:
		c.extend(now, Renewing)
	case c.state != Bound && c.retry.Due(now):
		c.extend(now, c.state)
	}
	return EventNone
}

// extend asks for a longer lease. Each request is a transaction of its own, so
// that an answer tells which one the new lease counts from.
func (c *Client) extend(now mono.Time, s State) {
	if c.state == Bound {
		c.begun = now
	}
	c.state, c.typ, c.xid = s, Request, c.cfg.Rand.Uint32()
	end := c.t2
	if s == Rebinding {
		end = c.expiry
	}
	// Half of the time left, at least a minute; the last request is left to
	// what comes at the end of that time.
	c.retry = now.Add(max(end.Sub(now)/2, minRenewal))
	if c.retry >= end {
		c.retry = 0
	}
}

// Input handles a UDP payload received on the client port; b is borrowed.
// DropNone says that the message was used.
func (c *Client) Input(now mono.Time, b []byte) (Event, Drop) {
	m, d := ParseMessage(b)
	switch {
	case d != DropNone:
		return EventNone, d
	case m.Op != OpReply:
		return EventNone, DropOp
	case m.XID != c.xid:
		return EventNone, DropXID
	case m.CHAddr != c.cfg.MAC:
		return EventNone, DropMAC
	case m.Options.Has(OptClientID) && !slices.Equal(m.Options.Get(OptClientID), c.cfg.ClientID):
		// RFC 6842 §3: servers return it, and it MUST be ours.
		return EventNone, DropClientID
	}
	switch m.Options.Type() {
	case Offer:
		return EventNone, c.inputOffer(now, m)
	case ACK:
		return c.inputACK(now, m)
	case NAK:
		return c.inputNAK(now, m)
	}
	return EventNone, DropType
}

// inputOffer takes the first offer that can be used at once, as dhclient does;
// a client may wait for others (RFC 2131 §4.4.1).
func (c *Client) inputOffer(now mono.Time, m *Message) Drop {
	if c.state != Selecting {
		return DropState
	}
	l, d := newLease(m)
	if d != DropNone {
		return d
	}
	c.wanted, c.server = l.Addr.Addr(), l.Server
	c.ask(now, Requesting, Request)
	return DropNone
}

// asked reports whether a REQUEST is under way, of which address, and of
// which server if only one may answer.
func (c *Client) asked() (addr, server netip.Addr, ok bool) {
	switch c.state {
	case Requesting:
		return c.wanted, c.server, true
	case Rebooting:
		return c.wanted, netip.Addr{}, true
	case Renewing:
		return c.lease.Addr.Addr(), c.lease.Server, true
	case Rebinding:
		return c.lease.Addr.Addr(), netip.Addr{}, true
	}
	return netip.Addr{}, netip.Addr{}, false
}

func (c *Client) inputACK(now mono.Time, m *Message) (Event, Drop) {
	addr, server, ok := c.asked()
	if !ok {
		return EventNone, DropState
	}
	l, d := newLease(m)
	switch {
	case d != DropNone:
		return EventNone, d
	case server.IsValid() && l.Server != server:
		return EventNone, DropServer
	case l.Addr.Addr() != addr:
		return EventNone, DropAddress
	}
	e := EventBound
	if c.leased {
		e = EventRenewed
	}
	// RFC 2131 §4.4.1: the lease counts from the sending of the request.
	l.Acquired = c.sent
	c.lease, c.leased = l, true
	c.state, c.typ, c.naks = Bound, 0, 0
	c.retry, c.t1, c.t2, c.expiry = 0, 0, 0, 0
	if l.Lease != Infinite {
		// §4.4.5: some fuzz keeps clients from renewing in step.
		c.t1 = c.sent.Add(l.T1 - c.spread(l.T1/50))
		c.t2, c.expiry = c.sent.Add(l.T2), c.sent.Add(l.Lease)
	}
	return e, DropNone
}

// inputNAK begins anew (RFC 2131 §3.1, 4): at once the first time, later and
// later when NAKs are all that comes.
func (c *Client) inputNAK(now mono.Time, m *Message) (Event, Drop) {
	_, server, ok := c.asked()
	if !ok {
		return EventNone, DropState
	}
	if s := m.Options.Addr(OptServerID); !s.IsValid() || server.IsValid() && s != server {
		return EventNone, DropServer
	}
	e := EventNone
	if c.leased {
		e = EventLost
	}
	c.leased, c.wanted, c.typ = false, netip.Addr{}, 0
	if c.naks++; c.naks == 1 {
		c.discover(now)
	} else {
		c.pause(now, c.backoff(c.naks-2))
	}
	return e, DropNone
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
// The lease is gone; the client begins anew after 10 s.
func (c *Client) Decline(now mono.Time) {
	if !c.leased {
		return
	}
	c.leased, c.wanted = false, netip.Addr{}
	c.typ, c.xid = Decline, c.cfg.Rand.Uint32()
	c.pause(now, declineWait)
}

// Output returns the message to send, if there is one: to dst, from the source
// address src and ClientPort. 0.0.0.0 as src means that the interface has no
// address yet. b is good until the next call.
func (c *Client) Output(now mono.Time) (b []byte, dst netip.AddrPort, src netip.Addr, ok bool) {
	if c.typ == 0 {
		return nil, dst, src, false
	}
	m := Message{Op: OpRequest, XID: c.xid, CHAddr: c.cfg.MAC}
	m.Options.Set(OptMessageType, byte(c.typ))
	m.Options.Set(OptClientID, c.cfg.ClientID...)
	to, src := netip.AddrFrom4([4]byte{255, 255, 255, 255}), netip.IPv4Unspecified()

	// The fields of RFC 2131 table 5.
	switch c.typ {
	case Discover, Request:
		// Replies come before there is an address: have them broadcast.
		m.Broadcast = !c.leased
		m.Secs = uint16(min(now.Sub(c.begun)/time.Second, 0xffff))
		switch {
		case c.state == Selecting:
			c.secs = m.Secs
		case c.state == Requesting:
			m.Secs = c.secs // §4.4.1: the same as in the DISCOVER
			m.Options.SetAddr(OptServerID, c.server)
		case c.leased:
			m.CIAddr, src = c.lease.Addr.Addr(), c.lease.Addr.Addr()
			if c.state == Renewing {
				to = c.lease.Server
			}
		}
		if !c.leased && isHost(c.wanted) {
			m.Options.SetAddr(OptRequestedIP, c.wanted)
		}
		if c.typ == Request {
			c.sent = now
		}
		m.Options.Set(OptMaxMessageSize, maxMessage>>8, maxMessage&0xff)
		m.Options.Set(OptParameters, parameters...)
		if c.cfg.Hostname != "" {
			m.Options.Set(OptHostName, []byte(c.cfg.Hostname)...)
		}
	case Decline:
		m.Options.SetAddr(OptRequestedIP, c.lease.Addr.Addr())
		m.Options.SetAddr(OptServerID, c.lease.Server)
	case Release:
		m.CIAddr, src, to = c.lease.Addr.Addr(), c.lease.Addr.Addr(), c.lease.Server
		m.Options.SetAddr(OptServerID, c.lease.Server)
	}
	c.typ = 0
	c.buf = m.Append(c.buf[:0])
	return c.buf, netip.AddrPortFrom(to, ServerPort), src, true
}
