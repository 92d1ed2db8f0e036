package check

// This file owns the verdict: what a check's failure, the segments and the ICMP
// errors come to.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
)

// Verdict is what became of a check, in a word.
type Verdict string

// The verdicts.
const (
	Open        Verdict = "open"         // it accepted, and all that was asked for came
	Closed      Verdict = "closed"       // the host answers that nobody listens there
	Rejected    Verdict = "rejected"     // a router or a firewall answers that it does not let us through
	Filtered    Verdict = "filtered"     // nothing answers; over UDP that may be a service that does not care for what was sent
	NoNeighbour Verdict = "no-neighbour" // the next hop does not answer ARP or neighbour discovery
	NoRoute     Verdict = "no-route"     // this host has no way there
	BlackHole   Verdict = "black-hole"   // it accepted, and then nothing that was sent arrived
	Silent      Verdict = "silent"       // it accepted and says nothing
	HungUp      Verdict = "hung-up"      // it accepted and ended the connection
	Reset       Verdict = "reset"        // it accepted and reset the connection
	Mismatch    Verdict = "mismatch"     // it answers, but not what was expected
	BadTLS      Verdict = "tls"          // TLS, or the certificate, failed
	Unresolved  Verdict = "unresolved"   // the name has no address, or nobody could say
	Cancelled   Verdict = "cancelled"    // the check was ended from outside
	Failed      Verdict = "failed"       // this host could not try
)

var errNoInfo = errors.New("no connection")

// judge gives each attempt and the whole their verdicts.
func (c *check) judge() {
	r := c.r
	for i := range r.Attempts {
		at := &r.Attempts[i]
		c.ownReport(at)
		at.Verdict = c.verdict(at)
	}
	if len(r.Attempts) == 0 {
		r.Verdict, r.Reason = Unresolved, fmt.Sprintf("%s: %s", r.Host, r.OSError)
		if r.Text == textCancelled {
			r.Verdict, r.Reason = Cancelled, "the check was ended"
		}
		return
	}
	last := &r.Attempts[len(r.Attempts)-1]
	r.Verdict = last.Verdict
	r.Reason = c.reason(last)
	if n := len(r.Attempts); n > 1 && !r.OK {
		r.Reason += fmt.Sprintf("; the last of %d addresses", n)
	}
}

// ownReport recognises an ICMP error that the host made itself: it comes from an
// address of its own.
func (c *check) ownReport(at *Attempt) {
	if at.Report == nil || !at.Report.From.IsValid() || at.Report.From == at.Addr.Addr() {
		return
	}
	addrs, _ := c.net.InterfaceAddrs() // none: it is somebody else's
	if slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == at.Report.From
	}) {
		at.Report.From = netip.Addr{}
	}
}

func (c *check) verdict(at *Attempt) Verdict {
	switch {
	case at.Phase == PhaseNone:
		return Open
	case at.Text == textCancelled:
		return Cancelled
	case c.q.UDP || at.Phase == PhaseConnect:
		return c.unreached(at)
	case at.Phase == PhaseTLS && at.Errno == 0 && at.Text != textClosed && !at.Handshake.lost():
		return BadTLS
	}
	return c.broken(at)
}

// unreached is the verdict on an address that did not accept, or over UDP
// answer.
func (c *check) unreached(at *Attempt) Verdict {
	e, rep := syscall.Errno(max(at.Errno, 0)), at.Report
	switch {
	case at.Text != "" && at.Phase == PhaseRecv && at.Errno == 0:
		return Mismatch // over UDP: something came
	case e == syscall.ETIMEDOUT:
		return Filtered
	case rep != nil && !rep.From.IsValid() && e == syscall.EHOSTUNREACH:
		return NoNeighbour
	case rep != nil && c.q.UDP && e == syscall.ECONNREFUSED && rep.From == at.Addr.Addr().WithZone(""):
		return Closed
	case rep != nil && rep.From.IsValid():
		// Also a host that answers a SYN with an ICMP error: one where nobody
		// listens answers with a reset (RFC 9293 §3.10.7.1), so this is its
		// firewall.
		return Rejected
	case e == syscall.ECONNREFUSED:
		return Closed
	case e == syscall.ENETUNREACH, e == syscall.EHOSTUNREACH, e == syscall.EACCES:
		return NoRoute
	case e == syscall.ECONNRESET:
		return Closed
	}
	return Failed
}

// lost reports that nothing came, and something which was sent has not been
// acknowledged, though it was sent again. Or more SYN-ACKs came than SYNs were
// sent: then our ACK is what does not arrive.
func (h *Handshake) lost() bool {
	return h != nil && h.Received == 0 && (h.Unacked > 0 && h.Retransmits > h.SYNs-1 || h.SYNACKs > h.SYNs)
}

// broken is the verdict on a connection that came to be and was no use.
func (c *check) broken(at *Attempt) Verdict {
	e, h := syscall.Errno(max(at.Errno, 0)), at.Handshake
	switch {
	case at.Phase == PhaseRecv && e == 0 && at.Text != textNoBanner && at.Text != textHungUp && at.Text != textClosed:
		return Mismatch
	case e == syscall.ECONNRESET || e == syscall.EPIPE || h != nil && h.Reset:
		return Reset
	case at.Text == textHungUp || at.Text == textClosed:
		return HungUp
	case h.lost():
		return BlackHole
	case at.Text == textNoBanner || e == syscall.ETIMEDOUT:
		return Silent
	}
	return Failed
}

// reason is the verdict in words.
func (c *check) reason(at *Attempt) string {
	a, h, rep := at.Addr.String(), at.Handshake, at.Report
	switch at.Verdict {
	case Open:
		s := a + " accepts connections"
		switch {
		case c.q.UDP:
			s = a + " answers"
		case c.r.Summary == "" && c.r.TLS != nil:
			s = fmt.Sprintf("%s speaks %s", a, c.r.TLS.Version)
		}
		if c.r.Summary != "" {
			s = fmt.Sprintf("%s is %s", a, c.r.Summary)
		}
		if h != nil && h.SYNs > 1 {
			s += fmt.Sprintf("; %d of %d SYNs were lost or late", h.SYNs-1, h.SYNs)
		}
		return s
	case Closed:
		if c.q.UDP {
			return a + ": the host says that nobody listens on the port"
		}
		return a + ": the host resets the connection, nobody listens on the port"
	case Rejected:
		return fmt.Sprintf("%s: %v answers with ICMP type %d code %d (%s)", a, rep.From, rep.Type, rep.Code, rep.Name())
	case Filtered:
		if c.q.UDP {
			return a + ": no answer, the packets are dropped or the service does not care for what was sent"
		}
		s := a + ": no answer to the SYN"
		if h != nil && h.SYNs > 1 {
			s = fmt.Sprintf("%s: no answer to %d SYNs", a, h.SYNs)
		}
		return s + ", they are dropped on the way or the host is down"
	case NoNeighbour:
		return a + ": the next hop does not answer on the link"
	case NoRoute:
		return a + ": this host has no route there"
	case BlackHole:
		if h.Unacked == 0 {
			return fmt.Sprintf("%s: it accepts, but does not hear that we know: %d SYN-ACKs came", a, h.SYNACKs)
		}
		s := fmt.Sprintf("%s: the handshake was done, but %d bytes were sent %d times in vain", a, h.Unacked, 1+h.Retransmits-(h.SYNs-1))
		if h.BlackHole {
			s += ", small segments too"
		}
		return s
	case Silent:
		return a + ": it accepts and says nothing"
	case HungUp:
		return a + ": it accepts and ends the connection"
	case Reset:
		return a + ": it accepts and then resets the connection"
	}
	return a + ": " + at.Text
}

// Name is the message in words.
func (r *Report) Name() string {
	names := codeNames4
	if r.From.Is6() {
		names = codeNames6
	}
	if n, ok := names[[2]uint8{r.Type, r.Code}]; ok {
		return n
	}
	return r.What
}

// What the messages are called, by type and code.
var codeNames4 = map[[2]uint8]string{
	{icmp.TypeUnreachable4, icmp.CodeNet4}:           "network unreachable",
	{icmp.TypeUnreachable4, icmp.CodeHost4}:          "host unreachable",
	{icmp.TypeUnreachable4, icmp.CodeProtocol4}:      "protocol unreachable",
	{icmp.TypeUnreachable4, icmp.CodePort4}:          "port unreachable",
	{icmp.TypeUnreachable4, icmp.CodeNetUnknown4}:    "network unknown",
	{icmp.TypeUnreachable4, icmp.CodeHostUnknown4}:   "host unknown",
	{icmp.TypeUnreachable4, icmp.CodeHostIsolated4}:  "host isolated",
	{icmp.TypeUnreachable4, icmp.CodeNetProhibited4}: "network prohibited",
	{icmp.TypeUnreachable4, icmp.CodeHostProhibit4}:  "host prohibited",
	{icmp.TypeUnreachable4, icmp.CodeFiltered4}:      "administratively prohibited",
	{icmp.TypeTimeExceeded4, icmp.CodeHopLimit}:      "time to live exceeded",
}

var codeNames6 = map[[2]uint8]string{
	{icmp.TypeUnreachable6, icmp.CodeNoRoute6}:     "no route",
	{icmp.TypeUnreachable6, icmp.CodeProhibited6}:  "administratively prohibited",
	{icmp.TypeUnreachable6, icmp.CodeScope6}:       "beyond the scope of the source address",
	{icmp.TypeUnreachable6, icmp.CodeAddress6}:     "address unreachable",
	{icmp.TypeUnreachable6, icmp.CodePort6}:        "port unreachable",
	{icmp.TypeUnreachable6, icmp.CodePolicy6}:      "source address failed policy",
	{icmp.TypeUnreachable6, icmp.CodeRejectRoute6}: "reject route",
	{icmp.TypeTimeExceeded6, icmp.CodeHopLimit}:    "hop limit exceeded",
}
