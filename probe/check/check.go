// Package check asks whether a service answers: it looks a name up, connects
// to one address after the other until one accepts, sends what there is to be
// sent, reads an answer, and says which of these steps failed and why. It runs
// over any socket.System, a stack's or the host's.
//
// The words, fields and rules are those of pyminitcp, whose JSON Result.JSON
// writes; what a userspace stack and the kernel's own records tell beyond that
// is in the fields that follow.
//
// This file owns a check from the name to the verdict; talk.go what is said
// once there is a connection.
package check

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// The defaults of a Request's fields that are zero.
const (
	DefaultTimeout   = 3 * time.Second
	DefaultReadBytes = 1024
)

// MaxReadBytes is the most that a Request may ask to read.
const MaxReadBytes = 1 << 20

// Request says what to check and how. The zero value of a field is its
// default.
type Request struct {
	Host string // a name, or an IPv4 or IPv6 address without brackets
	Port uint16
	UDP  bool // instead of TCP
	// Timeout bounds each step by itself: the look-up, and for each address
	// the handshake, the sending, TLS, and the reading. 0 is DefaultTimeout.
	Timeout time.Duration

	// Payload is sent once there is a connection. Over UDP it is the datagram,
	// an empty one by default: without one nothing would answer.
	Payload []byte
	// Banner reads an answer; Require fails the check if none comes. Over UDP
	// an answer is always required, and Banner only returns its contents.
	Banner, Require bool
	ReadBytes       int // the most to read; 0 is DefaultReadBytes
	// Expect is what the answer has to match; it implies Banner and Require,
	// and the answer is read on until it does.
	Expect *regexp.Regexp

	// TLS, if it is not nil, is spoken before anything is sent or read, and
	// Service knows what the port speaks; see those types.
	TLS     *TLS
	Service *Service
}

func (q *Request) timeout() time.Duration { return cmp.Or(q.Timeout, DefaultTimeout) }
func (q *Request) readBytes() int         { return min(cmp.Or(q.ReadBytes, DefaultReadBytes), MaxReadBytes) }
func (q *Request) reads() bool            { return q.Banner || q.Require || q.Expect != nil }
func (q *Request) requires() bool         { return q.Require || q.Expect != nil }

// Phase is a step of a check.
type Phase string

// The phases. PhaseTLS is only of checks that ask for TLS.
const (
	PhaseNone    Phase = ""
	PhaseResolve Phase = "resolve"
	PhaseConnect Phase = "connect"
	PhaseSend    Phase = "send"
	PhaseRecv    Phase = "recv"
	PhaseTLS     Phase = "tls"
)

// Result is what a check came to.
type Result struct {
	OK bool
	// Total is how long all of it took; Lookup the name, and Connect the
	// handshake with the address that accepted.
	Total, Lookup, Connect time.Duration
	// Addr is the address that accepted, or over UDP answered; not valid when
	// none did. Scope is the index of its zone's interface, for IPv6.
	Addr  netip.AddrPort
	Scope int
	// Failure is why OK is false; zero if it is true.
	Failure
	// Answer is what was read; nil: nothing was asked for, or came.
	Answer []byte

	// Host, Port and Network ("tcp", "udp") are the request's.
	Host    string
	Port    uint16
	Network string
	// Verdict sums up; Reason says it in a sentence.
	Verdict Verdict
	Reason  string
	// Attempts are the addresses that were tried, in this order.
	Attempts []Attempt
	// Match is what of Answer Request.Expect matched.
	Match []byte
	// Service and Summary are its name and what it says of itself.
	Service, Summary string
	TLS              *TLSReport // nil: not asked for, or not got to
}

// Failure is the step that failed and why. The zero value is none.
type Failure struct {
	Phase Phase
	Text  string
	// Errno is the operating system's number, or one of getaddrinfo, which are
	// negative; 0: no call failed, as when a banner does not come.
	Errno int
	// ErrnoName and OSError are its name and text.
	ErrnoName, OSError string
}

// Attempt is one address and what became of it.
type Attempt struct {
	Addr netip.AddrPort
	// Took is until the handshake, or over UDP the answer, came or was given up.
	Took time.Duration
	Failure
	Verdict Verdict
	// Handshake is what the connection tells of itself; nil over UDP.
	Handshake *Handshake
	// Report is the ICMP error that ended it; nil: none did.
	Report *Report
}

// check is one Request under way.
type check struct {
	net   socket.System
	q     *Request
	r     *Result
	start time.Time
}

// Check does what q asks for over n. It returns when that is done, or ctx
// ends.
func Check(ctx context.Context, n socket.System, q Request) *Result {
	c := &check{net: n, q: &q, start: time.Now(), r: &Result{Host: q.Host, Port: q.Port, Network: "tcp"}}
	if q.UDP {
		c.r.Network = "udp"
	}
	if q.Service != nil {
		c.r.Service = q.Service.Name
	}
	c.run(ctx)
	c.r.Total = time.Since(c.start)
	c.r.OK = c.r.Phase == PhaseNone
	c.judge()
	return c.r
}

func (c *check) run(ctx context.Context) {
	addrs, err := c.lookup(ctx)
	c.r.Lookup = time.Since(c.start)
	if err != nil {
		c.r.Failure = lookupFailure(err)
		return
	}
	for _, ip := range addrs {
		a := netip.AddrPortFrom(ip, c.q.Port)
		try := c.tcp
		if c.q.UDP {
			try = c.udp
		}
		c.r.Attempts = append(c.r.Attempts, Attempt{Addr: a})
		at := &c.r.Attempts[len(c.r.Attempts)-1]
		accepted := try(ctx, at)
		c.r.Failure = at.Failure
		if accepted {
			c.r.Addr, c.r.Scope = a, c.scope(ip)
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// lookup returns at least one address, in the resolver's order.
func (c *check) lookup(ctx context.Context) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(c.q.Host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.q.timeout())
	defer cancel()
	addrs, err := c.net.LookupNetIP(ctx, "ip", c.q.Host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no such host", Name: c.q.Host, IsNotFound: true}
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// scope is what Python calls scope_id: the index of an address' zone.
func (c *check) scope(a netip.Addr) int {
	if a.Zone() == "" {
		return 0
	}
	if list, err := c.net.Interfaces(); err == nil {
		for _, i := range list {
			if i.Name == a.Zone() {
				return i.Index
			}
		}
	}
	n, _ := strconv.Atoi(a.Zone()) // the kernel takes an index for a zone, too
	return n
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return socket.AF_INET
	}
	return socket.AF_INET6
}

// tcp tries one address, and reports whether it accepted. What comes after the
// handshake is about the service, which the other addresses are likely to be
// the same one of; so the first that accepts decides.
func (c *check) tcp(ctx context.Context, at *Attempt) (accepted bool) {
	begin := time.Now()
	s, err := c.net.Socket(domain(at.Addr.Addr()), socket.SOCK_STREAM, 0)
	if err != nil {
		at.Failure = connectFailure(err)
		return false
	}
	w := watch(s)
	limited, cancel := context.WithTimeout(ctx, c.q.timeout())
	err = s.Connect(limited, at.Addr)
	cancel()
	at.Took = time.Since(begin)
	if err != nil {
		at.Failure = connectFailure(err)
		w.finish(at, s)
		s.Close()
		return false
	}
	w.connected()
	c.r.Connect = at.Took
	at.Failure = c.talk(ctx, newConn(s, c.r.Network, at.Addr))
	w.finish(at, s)
	if at.Phase != PhaseNone {
		// What the peer has not taken yet it need not get.
		if l, ok := s.(interface{ SetLinger(sec int) error }); ok {
			l.SetLinger(0)
		}
	}
	s.Close()
	return true
}

// udp tries one address: a datagram there, and one back. The socket is
// connected, so that only the address that was asked can answer, and an ICMP
// error comes as an errno at once.
func (c *check) udp(ctx context.Context, at *Attempt) (answered bool) {
	begin := time.Now()
	defer func() { at.Took = time.Since(begin) }()
	s, err := c.net.Socket(domain(at.Addr.Addr()), socket.SOCK_DGRAM, 0)
	if err != nil {
		at.Failure = connectFailure(err)
		return false
	}
	defer s.Close()
	w := watch(s)
	defer func() { w.finish(at, s) }()
	if err := s.Connect(ctx, at.Addr); err != nil {
		at.Failure = connectFailure(err)
		return false
	}
	s.SetDeadline(begin.Add(c.q.timeout())) // before what may end it sooner
	stop := context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if v := c.q.Service; v != nil && v.stamp != nil {
		c.q.Payload = v.stamp(c.q.Payload)
	}
	if _, err := s.Send(c.q.Payload, 0); err != nil {
		at.Failure = ioFailure(PhaseSend, c.orCancelled(ctx, err))
		return false
	}
	b := make([]byte, c.q.readBytes())
	n, err := s.Recv(b, 0)
	if err != nil {
		at.Failure = ioFailure(PhaseRecv, c.orCancelled(ctx, err))
		return false
	}
	if c.q.Banner || c.q.Expect != nil || c.q.Service != nil {
		c.r.Answer = b[:n]
	}
	at.Failure = c.examine(b[:n])
	return true
}

// isTimeout reports that a call ended because its time was up.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// errnoOf returns the errno in an error.
func errnoOf(err error) (syscall.Errno, bool) { return errors.AsType[syscall.Errno](err) }
