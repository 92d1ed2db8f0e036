package check

// This file owns the services that are known by name: the port, what to send,
// and what the answer has to look like. They are the rows of pyminitcp's table
// of typical probes, and those that begin with TLS.

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Service is a preset.
type Service struct {
	Name string
	Port uint16
	UDP  bool
	TLS  bool   // begins with it
	Note string // what is sent and expected, for people

	payload func(q *Request) []byte // nil: nothing is sent
	// stamp returns the payload as it is to leave now; nil: as it is.
	stamp func(payload []byte) []byte
	// complete reports that the answer has all that describe looks at; nil:
	// one read will do.
	complete func(answer []byte) bool
	// describe says what answered, or that it was something else.
	describe func(q *Request, answer []byte) (string, error)
}

// services are the presets, in the order of pyminitcp's table.
var services = []*Service{
	{Name: "ssh", Port: 22, Note: "its version", complete: sshVersion.MatchIn, describe: sshVersion.describe},
	{Name: "smtp", Port: 25, Note: "220", complete: wholeLine, describe: greeting("SMTP", "220")},
	{Name: "smtps", Port: 465, TLS: true, Note: "220 over TLS", complete: wholeLine, describe: greeting("SMTP", "220")},
	{Name: "submission", Port: 587, Note: "220", complete: wholeLine, describe: greeting("SMTP", "220")},
	{Name: "ftp", Port: 21, Note: "220", complete: wholeLine, describe: greeting("FTP", "220")},
	{Name: "ftps", Port: 990, TLS: true, Note: "220 over TLS", complete: wholeLine, describe: greeting("FTP", "220")},
	{Name: "pop3", Port: 110, Note: "+OK", complete: wholeLine, describe: greeting("POP3", "+OK")},
	{Name: "pop3s", Port: 995, TLS: true, Note: "+OK over TLS", complete: wholeLine, describe: greeting("POP3", "+OK")},
	{Name: "imap", Port: 143, Note: "* OK", complete: wholeLine, describe: greeting("IMAP", "* OK", "* PREAUTH")},
	{Name: "imaps", Port: 993, TLS: true, Note: "* OK over TLS", complete: wholeLine, describe: greeting("IMAP", "* OK", "* PREAUTH")},
	{Name: "http", Port: 80, Note: "an answer to HEAD", payload: headRequest, complete: wholeHeader, describe: describeHTTP},
	{Name: "https", Port: 443, TLS: true, Note: "an answer to HEAD over TLS", payload: headRequest, complete: wholeHeader, describe: describeHTTP},
	{Name: "redis", Port: 6379, Note: "+PONG to PING", payload: fixed("PING\r\n"), complete: wholeLine, describe: describeRedis},
	{Name: "memcached", Port: 11211, Note: "VERSION to version", payload: fixed("version\r\n"), complete: wholeLine, describe: greeting("memcached", "VERSION ")},
	{Name: "mysql", Port: 3306, Note: "its greeting", complete: wholeMySQL, describe: describeMySQL},
	{Name: "postgres", Port: 5432, Note: "an answer to SSLRequest", payload: fixed(string(postgresSSL)), describe: describePostgres},
	{Name: "dns", Port: 53, UDP: true, Note: "an answer about the root's servers", payload: dnsQuery, describe: describeDNS},
	{Name: "dns-tcp", Port: 53, Note: "the same over TCP", payload: dnsQueryTCP, complete: wholeDNS, describe: describeDNSTCP},
	{Name: "ntp", Port: 123, UDP: true, Note: "an answer with stratum and time", payload: ntpQuery, stamp: ntpStamp, describe: describeNTP},
}

// Services returns the presets.
func Services() []*Service { return services }

// LookupService returns a preset by its name; nil: there is none.
func LookupService(name string) *Service {
	for _, s := range services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Apply makes q a check of s. What q says already stays: its port, payload and
// TLS, so that a service may be asked otherwise, or on another port.
func (s *Service) Apply(q *Request) {
	banner, require := q.Banner, q.Require
	q.Service, q.UDP, q.Banner, q.Require = s, s.UDP, true, true
	if q.Port == 0 {
		q.Port = s.Port
	}
	if q.TLS == nil && s.TLS {
		q.TLS = new(TLS)
	}
	if q.TLS != nil && q.TLS.Start != "" {
		// The greeting has gone by when TLS begins: what the service says of
		// itself without being asked is not to be had any more. What the caller
		// wants to send and read then is his business.
		q.Banner, q.Require, q.Service = banner, require, nil
		return
	}
	if q.Payload == nil && s.payload != nil {
		q.Payload = s.payload(q)
	}
}

func fixed(s string) func(*Request) []byte { return func(*Request) []byte { return []byte(s) } }

func wholeLine(b []byte) bool { return bytes.IndexByte(b, '\n') >= 0 }

// firstLine is the first line as text.
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.ToValidUTF8(strings.TrimSpace(string(line)), "\uFFFD")
}

var errOther = errors.New("something else answers")

// unexpected is the error of an answer that is not the service's.
func unexpected(b []byte) error {
	line := firstLine(b)
	if len(line) > 60 {
		line = line[:60] + "..."
	}
	return fmt.Errorf("%w: %q", errOther, line)
}

// greeting is a line that begins with one of some words; what follows is what
// the service says of itself.
func greeting(protocol string, words ...string) func(*Request, []byte) (string, error) {
	return func(_ *Request, b []byte) (string, error) {
		line := firstLine(b)
		for _, w := range words {
			if rest, ok := strings.CutPrefix(line, w); ok {
				return strings.TrimSpace(protocol + ", " + strings.TrimLeft(rest, " -")), nil
			}
		}
		return "", unexpected(b)
	}
}

// sshLines is an answer of SSH: a line that begins with "SSH-", before which
// there may be others (RFC 4253 §4.2).
type sshLines struct{}

var sshVersion sshLines

func (sshLines) find(b []byte) (string, bool) {
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte("SSH-")) && wholeLine(line) {
			return firstLine(line), true
		}
	}
	return "", false
}

// MatchIn reports whether b has the line.
func (s sshLines) MatchIn(b []byte) bool {
	_, ok := s.find(b)
	return ok
}

func (s sshLines) describe(_ *Request, b []byte) (string, error) {
	line, ok := s.find(b)
	if !ok {
		return "", unexpected(b)
	}
	return line, nil
}

// headRequest is the table's, for the host that is checked.
func headRequest(q *Request) []byte {
	host := withoutZone(q.Host)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if q.Service != nil && q.Port != q.Service.Port {
		host = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(int(q.Port)))
	}
	return []byte("HEAD / HTTP/1.0\r\nHost: " + host + "\r\n\r\n")
}

func wholeHeader(b []byte) bool { return bytes.Contains(b, []byte("\r\n\r\n")) }

func describeHTTP(_ *Request, b []byte) (string, error) {
	status := firstLine(b)
	if !strings.HasPrefix(status, "HTTP/") {
		return "", unexpected(b)
	}
	for line := range bytes.Lines(b) {
		if name, value, ok := strings.Cut(firstLine(line), ":"); ok && strings.EqualFold(name, "Server") {
			return status + ", " + strings.TrimSpace(value), nil
		}
	}
	return status, nil
}

func describeRedis(_ *Request, b []byte) (string, error) {
	switch line := firstLine(b); {
	case line == "+PONG":
		return "Redis", nil
	case strings.HasPrefix(line, "-NOAUTH"):
		return "Redis, which wants a password", nil
	case strings.HasPrefix(line, "-"):
		return "", fmt.Errorf("it refuses: %s", line[1:])
	}
	return "", unexpected(b)
}

// wholeMySQL: a packet begins with its length.
func wholeMySQL(b []byte) bool {
	return len(b) >= 4 && (len(b)-4 >= int(b[0])|int(b[1])<<8|int(b[2])<<16 || b[2] != 0)
}

func describeMySQL(_ *Request, b []byte) (string, error) {
	g, err := parseMySQL(b)
	if err != nil {
		return "", err
	}
	s := "MySQL " + g.version
	if g.capabilities&mysqlSSL != 0 {
		s += ", with TLS"
	}
	return s, nil
}

func describePostgres(_ *Request, b []byte) (string, error) {
	switch {
	case len(b) == 1 && b[0] == 'S':
		return "PostgreSQL, with TLS", nil
	case len(b) == 1 && b[0] == 'N':
		return "PostgreSQL, without TLS", nil
	case b[0] == 'E':
		return "PostgreSQL, of a version before 8", nil
	}
	return "", unexpected(b)
}

// dnsQuery asks for the name servers of the root (RFC 1035 §4), which any
// server has something to say to.
func dnsQuery(*Request) []byte {
	b := make([]byte, 12, 17)
	rand.Read(b[:2])
	b[2] = 1 // recursion is desired
	b[5] = 1 // one question
	return append(b, 0, 0, 2, 0, 1)
}

func dnsQueryTCP(q *Request) []byte {
	b := dnsQuery(q)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func wholeDNS(b []byte) bool { return len(b) >= 2 && len(b)-2 >= int(binary.BigEndian.Uint16(b)) }

var rcodes = []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

func describeDNS(q *Request, b []byte) (string, error) {
	if len(b) < 12 || len(q.Payload) < 2 || !bytes.Equal(b[:2], q.Payload[:2]) || b[2]&0x80 == 0 {
		return "", errOther
	}
	code := fmt.Sprintf("code %d", b[3]&15)
	if n := int(b[3] & 15); n < len(rcodes) {
		code = rcodes[n]
	}
	return fmt.Sprintf("DNS, %s with %d answers", code, binary.BigEndian.Uint16(b[6:])), nil
}

func describeDNSTCP(q *Request, b []byte) (string, error) {
	if len(b) < 2 || len(q.Payload) < 2 {
		return "", errOther
	}
	of := *q
	of.Payload = q.Payload[2:]
	return describeDNS(&of, b[2:])
}

// ntpEpoch is 1900, of which NTP counts the seconds (RFC 5905 §6).
var ntpEpoch = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)

const ntpLen = 48

func ntpTime(t time.Time) uint64 {
	d := t.Sub(ntpEpoch)
	return uint64(d/time.Second)<<32 | uint64(d%time.Second)<<32/uint64(time.Second)
}

func fromNTP(n uint64) time.Time {
	s := ntpEpoch.Add(time.Duration(n>>32) * time.Second)
	return s.Add(time.Duration((n & 0xffffffff) * uint64(time.Second) >> 32))
}

// ntpQuery is a client's packet (RFC 5905 §7.3) with nothing in it yet.
func ntpQuery(*Request) []byte {
	b := make([]byte, ntpLen)
	b[0] = 4<<3 | 3 // version 4, mode client
	return b
}

// ntpStamp puts in the time of sending, by which the answer is known.
func ntpStamp(payload []byte) []byte {
	if len(payload) < ntpLen {
		return payload
	}
	b := bytes.Clone(payload)
	binary.BigEndian.PutUint64(b[40:], ntpTime(time.Now()))
	return b
}

// ntpOffset is by how much the server's clock is ahead of ours (RFC 5905 §8):
// we sent and were answered by our clock, and it came there and left by the
// server's. What one way took longer than the other is half an error, so that
// the error is at most half the time under way.
func ntpOffset(sent, came, left, answered time.Time) time.Duration {
	return (came.Sub(sent) + left.Sub(answered)) / 2
}

// describeNTP believes an answer that repeats our time (RFC 5905 §8), and says
// by how much the server's differs.
func describeNTP(q *Request, b []byte) (string, error) {
	now := time.Now()
	if len(b) < ntpLen || len(q.Payload) < ntpLen || b[0]&7 != 4 || !bytes.Equal(b[24:32], q.Payload[40:48]) {
		return "", errOther
	}
	if b[1] == 0 { // RFC 5905 §7.4
		return "", fmt.Errorf("the server refuses: %q", strings.ToValidUTF8(string(bytes.TrimRight(b[12:16], "\x00")), "\uFFFD"))
	}
	sent := fromNTP(binary.BigEndian.Uint64(b[24:]))
	came, left := fromNTP(binary.BigEndian.Uint64(b[32:])), fromNTP(binary.BigEndian.Uint64(b[40:]))
	s := fmt.Sprintf("NTP, stratum %d, clock %+.3f ms", b[1], float64(ntpOffset(sent, came, left, now))/1e6)
	if b[0]>>6 == 3 {
		s += ", not synchronised"
	}
	return s, nil
}
