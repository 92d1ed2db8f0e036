package exporter

// This file owns the modules that make a connection or send a datagram: a
// check, and what of its result is a metric.

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tapstack/tapstack/probe/check"
	"github.com/tapstack/tapstack/socket"
)

// addresses looks a target's name up and keeps those of the preferred family.
func (e *Exporter) addresses(ctx context.Context, m *Module, host string) ([]netip.Addr, error) {
	// An address is its own; the network is asked all the same, which may want
	// to know whom is probed.
	list, err := e.o.Net.LookupNetIP(ctx, "ip", host)
	for i := range list {
		list[i] = list[i].Unmap()
	}
	if _, literal := netip.ParseAddr(host); literal == nil || m.IPProtocol == "" {
		return list, err
	}
	preferred := slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return a.Is4() != (m.IPProtocol == "ip4") })
	if len(preferred) > 0 || !m.fallback() {
		return preferred, err
	}
	return list, err
}

// resolved is a network that knows one name, or why it has no address.
type resolved struct {
	socket.System
	addrs []netip.Addr
	err   error
}

// LookupNetIP implements socket.System.
func (r resolved) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return slices.Clone(r.addrs), r.err
}

// check makes a probe by package check.
func (e *Exporter) check(ctx context.Context, s *sheet, q *request) (ok bool, text string) {
	begin := time.Now()
	addrs, err := e.addresses(ctx, q.module, q.target.host)
	lookup := time.Since(begin)
	c := q.check()
	// Each address gets its share of the time, so that one that says nothing
	// does not keep the next from being tried.
	end, _ := ctx.Deadline()
	c.Timeout = max(time.Until(end)/time.Duration(max(len(addrs), 1)), time.Millisecond)
	r := check.Check(ctx, resolved{e.o.Net, addrs, err}, c)
	r.Lookup, r.Total = lookup, r.Total+lookup
	ok = r.OK
	if code, fine := q.module.http(s, &c, r); code && !fine {
		ok = false
	}
	q.module.dns(s, r)
	describe(s, &c, r)
	return ok, r.FullJSON()
}

// check is the request for package check.
func (q *request) check() check.Request {
	m, t := q.module, q.target
	c := check.Request{Host: t.host, Port: t.port, UDP: m.Prober == ProberUDP, Payload: m.payload, Banner: m.Banner, Require: m.Banner, Expect: m.expect, ReadBytes: m.ReadBytes}
	service := check.LookupService(m.Service)
	web := service != nil && (service.Name == "http" || service.Name == "https")
	if m.speaksTLS() || t.tls {
		c.TLS = &check.TLS{Start: m.StartTLS, Name: cmp.Or(m.TLSName, q.host), ALPN: m.ALPN, Roots: m.roots, Insecure: m.Insecure,
			Valid: time.Duration(m.ValidDays) * 24 * time.Hour}
	}
	if path := cmp.Or(t.path, m.Path); web && (path != "" || q.host != "") {
		c.Payload = head(path, cmp.Or(q.host, t.host), t.port, c.TLS != nil)
	}
	if service != nil {
		service.Apply(&c)
	}
	return c
}

// head is a request for the header of a page.
func head(path, host string, port uint16, tls bool) []byte {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + a.WithZone("").String() + "]"
	}
	if usual := map[bool]uint16{false: 80, true: 443}[tls]; port != usual {
		host += ":" + strconv.Itoa(int(port))
	}
	return []byte("HEAD " + cmp.Or(path, "/") + " HTTP/1.0\r\nHost: " + host + "\r\nUser-Agent: tapstack\r\n\r\n")
}

// http are the metrics of an answer over HTTP. is: the module is for that; ok:
// the status is one that the module takes.
func (m *Module) http(s *sheet, c *check.Request, r *check.Result) (is, ok bool) {
	if m.Service != "http" && m.Service != "https" || m.StartTLS != "" {
		return false, false
	}
	line, _, _ := strings.Cut(string(r.Answer), "\r\n")
	version, rest, _ := strings.Cut(line, " ")
	word, _, _ := strings.Cut(rest, " ")
	code, _ := strconv.Atoi(word)
	v, _ := strconv.ParseFloat(strings.TrimPrefix(version, "HTTP/"), 64)
	if r.Service == "" || !strings.HasPrefix(line, "HTTP/") {
		code, v = 0, 0
	}
	s.set("probe_http_status_code", "Status of the answer, 0 without one", float64(code))
	s.set("probe_http_version", "Version of HTTP that the answer is of", v)
	s.truth("probe_http_ssl", "Whether it was asked over TLS", r.TLS != nil)
	phases := []struct {
		name string
		took time.Duration
	}{{"resolve", r.Lookup}, {"connect", r.Connect}, {"tls", 0}, {"processing", 0}}
	if r.TLS != nil {
		phases[2].took = r.TLS.Took
	}
	if r.Answer != nil {
		phases[3].took = max(r.Total-r.Lookup-r.Connect-phases[2].took, 0)
	}
	for _, p := range phases {
		s.seconds("probe_http_duration_seconds", "How long each part took", p.took, "phase", p.name)
	}
	return true, m.Status == nil || slices.Contains(m.Status, code)
}

// dns are the metrics of an answer to a query.
func (m *Module) dns(s *sheet, r *check.Result) {
	b := r.Answer
	switch {
	case m.Service == "dns-tcp":
		b = b[min(len(b), 2):] // its length
	case m.Service != "dns":
		return
	}
	s.truth("probe_dns_query_succeeded", "Whether there was an answer", r.OK)
	if !r.OK || len(b) < 12 {
		return
	}
	for i, name := range []string{"answer", "authority", "additional"} {
		s.set("probe_dns_"+name+"_rrs", "Records in that section of the answer", float64(binary.BigEndian.Uint16(b[6+2*i:])))
	}
}

// verdicts are those of check, all of which are told, so that each has a series
// that does not come and go.
var verdicts = []check.Verdict{check.Open, check.Closed, check.Rejected, check.Filtered, check.NoNeighbour, check.NoRoute, check.BlackHole,
	check.Silent, check.HungUp, check.Reset, check.Mismatch, check.BadTLS, check.Unresolved, check.Cancelled, check.Failed}

// describe are the metrics of a check.
func describe(s *sheet, c *check.Request, r *check.Result) {
	s.lookup(r.Lookup)
	for _, v := range verdicts {
		s.truth("tapstack_probe_verdict", "1 for what became of the probe", v == r.Verdict, "verdict", string(v))
	}
	if c.Expect != nil {
		s.truth("probe_failed_due_to_regex", "Whether the answer was not what the module expects", r.Answer != nil && r.Match == nil)
	}
	s.seconds("tapstack_probe_connect_seconds", "Time until the address accepted that did", r.Connect)
	s.set("tapstack_probe_addresses_tried", "Addresses of the target that were tried", float64(len(r.Attempts)))
	if len(r.Attempts) > 0 {
		at := &r.Attempts[len(r.Attempts)-1]
		s.address(at.Addr.Addr())
		attempt(s, at)
	}
	if !r.OK {
		failure(s, r)
	}
	if r.TLS != nil {
		secure(s, r.TLS)
	}
}

// failure says why, in words of which there are not many.
func failure(s *sheet, r *check.Result) {
	from, typ, code := "", "", ""
	if n := len(r.Attempts); n > 0 && r.Attempts[n-1].Report != nil {
		rep := r.Attempts[n-1].Report
		if rep.From.IsValid() {
			from = rep.From.String()
		}
		typ, code = strconv.Itoa(int(rep.Type)), strconv.Itoa(int(rep.Code))
	}
	s.set("tapstack_probe_failure_info", "The step that failed, its error, and the ICMP error that said so", 1,
		"phase", string(r.Phase), "errno", r.ErrnoName, "icmp_from", from, "icmp_type", typ, "icmp_code", code)
}

// attempt are the metrics of the handshake with the last address.
func attempt(s *sheet, at *check.Attempt) {
	h := at.Handshake
	if h == nil {
		return
	}
	if h.SYNs > 0 {
		s.set("tapstack_probe_syns", "SYNs that were sent", float64(h.SYNs))
	}
	if h.Answered > 0 {
		s.set("tapstack_probe_answered_syn", "Which of them was answered, from 1", float64(h.Answered))
		s.seconds("tapstack_probe_handshake_rtt_seconds", "Time from the SYN that was answered to its answer: the path's, whatever was lost", h.RTT)
	}
	s.set("tapstack_probe_retransmissions", "Segments that were sent again, SYNs too", float64(h.Retransmits))
	s.truth("tapstack_probe_reset", "Whether the peer reset the connection", h.Reset)
	if !h.Options {
		return
	}
	s.set("tapstack_probe_handshake_info", "What the handshake agreed on", 1, "sack", strconv.FormatBool(h.SACK), "timestamps", strconv.FormatBool(h.Timestamps),
		"window_scale", strconv.FormatBool(h.WScale), "ecn", cmp.Or(h.ECN, "none"))
	for _, g := range []struct {
		name, help string
		v          int
	}{
		{"tapstack_probe_mss_bytes", "Largest payload that is sent", h.MSS},
		{"tapstack_probe_peer_mss_bytes", "What the peer announced", h.PeerMSS},
		{"tapstack_probe_peer_window_bytes", "The peer's window in its SYN-ACK", h.Window},
		{"tapstack_probe_path_mtu_bytes", "Largest packet that the path is known to carry", h.PathMTU},
	} {
		if g.v > 0 { // of the kernel's connections some are not known
			s.set(g.name, g.help, float64(g.v))
		}
	}
	if h.WScale {
		s.set("tapstack_probe_peer_window_shift", "Scale of the peer's window", float64(h.SndShift))
	}
	s.set("tapstack_probe_unacknowledged_bytes", "What was sent and never acknowledged", float64(h.Unacked))
}

// secure are the metrics of TLS.
func secure(s *sheet, t *check.TLSReport) {
	s.set("probe_tls_version_info", "Version of TLS", 1, "version", t.Version)
	s.set("probe_tls_cipher_info", "Cipher suite", 1, "cipher", t.Cipher)
	if t.Chain > 0 {
		s.set("probe_ssl_earliest_cert_expiry", "When the first of the certificates that were sent ends, in seconds of Unix time", float64(t.Earliest.Unix()))
		s.set("probe_ssl_last_chain_info", "The certificate", 1, "fingerprint_sha256", t.Fingerprint, "subject", t.Subject, "issuer", t.Issuer,
			"subjectalternative", strings.Join(t.Names, ","), "serialnumber", t.Serial)
		s.truth("tapstack_probe_certificate_valid", "Whether it is signed by somebody trusted, for this name, and not over", t.Fault == "")
	}
	if !t.ChainEnds.IsZero() {
		s.set("probe_ssl_last_chain_expiry_timestamp_seconds", "When the valid chain ends that ends last", float64(t.ChainEnds.Unix()))
	}
	s.seconds("tapstack_probe_tls_seconds", "Time that the handshake of TLS took", t.Took)
	s.set("tapstack_probe_alpn_info", "Protocol that ALPN chose", 1, "protocol", t.ALPN)
}

// failed says in words why a probe of packets could not be made.
func failed(s *sheet, phase, errno string) {
	s.set("tapstack_probe_failure_info", "The step that failed, its error, and the ICMP error that said so", 1,
		"phase", phase, "errno", errno, "icmp_from", "", "icmp_type", "", "icmp_code", "")
}

func textf(format string, a ...any) string { return fmt.Sprintf(format, a...) }
