// Package dnsquery asks DNS servers questions of any type over a
// socket.System, and times their answers. It is for looking at servers, where
// socket.DNS is for programs that want an address: it asks exactly whom and what
// it is told to and shows all of what comes back. Messages and the way records
// are written are github.com/miekg/dns's; sockets are ours.
//
// This file owns an exchange with servers, query by query.
package dnsquery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/tapstack/tapstack/socket"
)

// Defaults of Client. DefaultSize is what gets through where 1280 bytes do, with
// room to spare.
const (
	DefaultTimeout = 5 * time.Second
	DefaultTries   = 2
	DefaultSize    = 1232
)

// maxAliases bounds how long a chain of aliases is.
const maxAliases = 16

// Client says how to ask.
type Client struct {
	Net socket.System
	// Servers are asked in this order, the next when one is silent or cannot
	// answer.
	Servers []netip.AddrPort
	// TCP asks by TCP at once; without it UDP is tried first, and TCP when the
	// answer is truncated (RFC 7766 §5), unless NoTCP.
	TCP, NoTCP bool
	// NoEDNS sends queries without an OPT record (RFC 6891); Size is the
	// datagram that it offers to take, 0: DefaultSize. DNSSEC asks for
	// signatures (RFC 3225).
	NoEDNS, DNSSEC bool
	Size           uint16
	// NoRecursion asks for what the server itself knows; Check asks not to
	// check signatures (CD).
	NoRecursion, Check bool
	Class              uint16 // 0: IN
	// Timeout is how long each server has, 0: 5 s. Tries is how often all are
	// asked over UDP, 0: twice.
	Timeout time.Duration
	Tries   int
}

// Answer is what came of a question.
type Answer struct {
	Question dns.Question
	// Msg is the answer, nil: there was none, and Err says why.
	Msg *dns.Msg
	Err error
	// Server gave it, or was asked last; TCP says how. Truncated: the answer by
	// UDP was. NoEDNS: the server did not understand the query until it had no
	// OPT record.
	Server            netip.AddrPort
	TCP               bool
	Truncated, NoEDNS bool
	Time              time.Duration // from the query that was answered to its answer
	Size              int           // of the answer in bytes
	Queries           int           // how many were sent
	Ignored           int           // messages that were no answer to the question
}

// Found reports whether there are records of the type that was asked for.
func (a *Answer) Found() bool {
	return a.Msg != nil && a.Msg.Rcode == dns.RcodeSuccess && len(a.Msg.Answer) > 0 &&
		(a.Question.Qtype == dns.TypeANY || a.Question.Qtype == dns.TypeCNAME || hasType(a.Msg.Answer, a.Question.Qtype))
}

func hasType(list []dns.RR, t uint16) bool {
	for _, rr := range list {
		if rr.Header().Rrtype == t {
			return true
		}
	}
	return false
}

// Ask asks for the records of a type that a name has, with or without the dot
// of the root, until a server says something definite: that there are, or that
// there are none.
func (c *Client) Ask(ctx context.Context, name string, qtype uint16) (a Answer) {
	class := c.Class
	if class == 0 {
		class = dns.ClassINET
	}
	a.Question = dns.Question{Name: dns.Fqdn(name), Qtype: qtype, Qclass: class}
	if _, ok := dns.IsDomainName(name); !ok {
		a.Err = fmt.Errorf("%q cannot be a name", name)
		return a
	}
	if len(c.Servers) == 0 {
		a.Err = errors.New("no DNS server is known")
		return a
	}
	tries := c.Tries
	if tries <= 0 {
		tries = DefaultTries
	}
	for range tries {
		for _, server := range c.Servers {
			next := c.askServer(ctx, server, a)
			// A server that fails says less than one that is silent later on.
			if next.Msg != nil || a.Msg == nil {
				a = next
			} else {
				a.Queries, a.Ignored = next.Queries, next.Ignored
			}
			if ctx.Err() != nil || a.Msg != nil && a.Msg.Rcode != dns.RcodeServerFailure && a.Msg.Rcode != dns.RcodeRefused {
				return a
			}
		}
		if a.Msg != nil {
			break // all that there are have answered, if badly
		}
	}
	return a
}

// askServer asks one server, with what a tells from before.
func (c *Client) askServer(ctx context.Context, server netip.AddrPort, a Answer) Answer {
	a.Msg, a.Err, a.Server, a.TCP, a.Truncated, a.NoEDNS = nil, nil, server, c.TCP, false, c.NoEDNS
	for {
		c.exchange(ctx, &a)
		switch {
		case a.Err != nil:
		case a.Msg.Truncated && !a.TCP && !c.NoTCP:
			a.TCP, a.Truncated = true, true
			continue
		case !a.NoEDNS && a.Msg.IsEdns0() == nil && (a.Msg.Rcode == dns.RcodeFormatError || a.Msg.Rcode == dns.RcodeNotImplemented):
			a.NoEDNS = true // RFC 6891 §7: it is from before
			continue
		}
		if a.NoEDNS = a.NoEDNS && !c.NoEDNS; a.Msg == nil && a.Truncated && ctx.Err() == nil {
			a.Err = fmt.Errorf("truncated by UDP, and by TCP: %w", a.Err)
		}
		return a
	}
}

func (c *Client) exchange(ctx context.Context, a *Answer) {
	a.Msg, a.Err = nil, nil
	q := new(dns.Msg)
	q.Id = dns.Id() // RFC 5452 §9.2: from the operating system's generator
	q.RecursionDesired, q.CheckingDisabled = !c.NoRecursion, c.Check
	q.Question = []dns.Question{a.Question}
	if !a.NoEDNS {
		size := c.Size
		if size == 0 {
			size = DefaultSize
		}
		q.SetEdns0(size, c.DNSSEC)
	}
	b, err := q.Pack()
	if err != nil {
		a.Err = err
		return
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	network := "udp"
	if a.TCP {
		network = "tcp"
	}
	begun := time.Now()
	a.Queries++
	conn, err := c.Net.DialContext(ctx, network, a.Server.String())
	if err != nil {
		a.Err = err
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if a.TCP {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) // RFC 1035 §4.2.2
	}
	if _, err = conn.Write(b); err == nil {
		err = c.receive(conn, q, a)
	}
	a.Time = time.Since(begun)
	if err != nil {
		a.Msg, a.Err = nil, err
	}
}

func (c *Client) receive(conn net.Conn, q *dns.Msg, a *Answer) error {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n := 0
		var err error
		if a.TCP {
			n, err = readMessage(conn, buf)
		} else {
			n, err = conn.Read(buf)
		}
		if err != nil {
			return err
		}
		m := new(dns.Msg)
		// A message that is cut off within a record is as good as one that says so.
		bad := m.Unpack(buf[:n])
		if bad != nil && !(m.Truncated && len(m.Question) == 1) || !answers(m, q) {
			if a.Ignored++; a.TCP {
				if bad == nil {
					bad = errors.New("it is to another question")
				}
				return fmt.Errorf("the answer makes no sense: %w", bad)
			}
			continue // RFC 5452 §9.1: the real one may come
		}
		a.Msg, a.Size = m, n
		return nil
	}
}

// answers reports whether m is an answer to q. Servers that do not understand
// a query may leave its question out.
func answers(m, q *dns.Msg) bool {
	if !m.Response || m.Id != q.Id || m.Opcode != q.Opcode {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeRefused || m.Rcode == dns.RcodeServerFailure
	}
	a, b := m.Question[0], q.Question[0]
	return len(m.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// readMessage reads one with its length in front.
func readMessage(r io.Reader, buf []byte) (int, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return 0, closedEarly(err)
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return 0, closedEarly(err)
	}
	return n, nil
}

func closedEarly(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("the server hung up without an answer")
	}
	return err
}

// Candidates are the names to ask for when one is written without the dot of the
// root: with fewer dots than ndots the search domains come first (resolv.conf(5)).
func Candidates(name string, search []string, ndots int) (list []string) {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	for _, s := range search {
		if s = strings.Trim(s, "."); s != "" {
			list = append(list, name+"."+s+".")
		}
	}
	if strings.Count(name, ".") >= ndots {
		return append([]string{name + "."}, list...)
	}
	return append(list, name+".")
}

// Aliases follows the CNAME records of an answer from the question's name, and
// returns the names on the way and the one that they lead to.
func Aliases(m *dns.Msg) (chain []*dns.CNAME) {
	if m == nil || len(m.Question) == 0 {
		return nil
	}
	name := m.Question[0].Name
next:
	for range maxAliases {
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, name) {
				chain, name = append(chain, c), c.Target
				continue next
			}
		}
		break
	}
	return chain
}
