package check

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// keys are the fields of pyminitcp's JSON, in its order.
var keys = []string{"status", "resp_time", "error", "family", "sockaddr", "namelookup_time", "connect_time",
	"phase", "errno_code", "errno_name", "os_error", "banner"}

// fields reads a result's JSON as Python would, and checks that the keys are
// the twelve, in order, and that times are numbers that make sense.
func fields(t *testing.T, r *Result) map[string]any {
	t.Helper()
	text := r.JSON()
	dec := json.NewDecoder(strings.NewReader(text))
	var got []string
	for depth := 0; ; {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		must(t, err)
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			continue
		}
		if name, ok := tok.(string); ok && depth == 1 && len(got) < len(keys) && name == keys[len(got)] {
			got = append(got, name)
		}
	}
	m := make(map[string]any)
	must(t, json.Unmarshal([]byte(text), &m))
	if !slices.Equal(got, keys) || len(m) != len(keys) {
		t.Errorf("fields %v of\n%s", got, text)
	}
	for _, k := range []string{"resp_time", "namelookup_time", "connect_time"} {
		if d, ok := m[k].(float64); !ok || d < 0 || d > 100 {
			t.Errorf("%s is %v", k, m[k])
		}
		delete(m, k)
	}
	return m
}

// same compares fields that are not times.
func same(t *testing.T, r *Result, want map[string]any) {
	t.Helper()
	all := map[string]any{"status": 0.0, "error": "", "family": nil, "sockaddr": nil, "phase": nil,
		"errno_code": nil, "errno_name": nil, "os_error": nil, "banner": nil}
	for k, v := range want {
		all[k] = v
	}
	if got := fields(t, r); !reflect.DeepEqual(got, all) {
		t.Errorf("got\n%v\nwant\n%v", got, all)
	}
}

func sockaddr(host string, port uint16) any {
	if strings.Contains(host, ":") {
		return []any{host, float64(port), 0.0, 0.0}
	}
	return []any{host, float64(port)}
}

func family(host string) string {
	if strings.Contains(host, ":") {
		return "AF_INET6"
	}
	return "AF_INET"
}

// TestSeed: each thing a server can do, as the fields of pyminitcp, on two
// stacks and on the kernel.
func TestSeed(t *testing.T) {
	say := func(s string) func(net.Conn) {
		return func(c net.Conn) { io.WriteString(c, s); io.Copy(io.Discard, c); c.Close() }
	}
	reset := func(c net.Conn) {
		b := make([]byte, 1)
		io.ReadFull(c, b)
		c.(interface{ SetLinger(int) error }).SetLinger(0)
		c.Close()
	}
	for _, tc := range []struct {
		name    string
		server  func(net.Conn)
		q       Request
		want    map[string]any // status, error, phase, errno..., banner
		refused bool           // nobody is told to connect: family and sockaddr are null
		verdict Verdict
	}{
		{name: "open", server: say(""), want: map[string]any{"status": 1.0}, verdict: Open},
		{name: "banner", server: say("220 mail ready\r\n"), q: Request{Banner: true, Require: true},
			want: map[string]any{"status": 1.0, "banner": "220 mail ready"}, verdict: Open},
		{name: "banner unasked", server: say("220 mail ready\r\n"), want: map[string]any{"status": 1.0}, verdict: Open},
		{name: "silent", server: say(""), q: Request{Banner: true}, want: map[string]any{"status": 1.0}, verdict: Open},
		{name: "silent, required", server: say(""), q: Request{Banner: true, Require: true},
			want: map[string]any{"phase": "recv", "error": "Timed out waiting for banner"}, verdict: Silent},
		{name: "hangs up", server: func(c net.Conn) { c.Close() }, q: Request{Banner: true, Require: true},
			want: map[string]any{"phase": "recv", "error": "Connection closed before banner"}, verdict: HungUp},
		{name: "hangs up, not required", server: func(c net.Conn) { c.Close() }, q: Request{Banner: true},
			want: map[string]any{"status": 1.0}, verdict: Open},
		{name: "resets", server: reset, q: Request{Banner: true, Require: true, Payload: []byte("x")},
			want: map[string]any{"phase": "recv", "error": "OS/socket error: [Errno 104] Connection reset by peer",
				"errno_code": 104.0, "errno_name": "ECONNRESET", "os_error": "Connection reset by peer"}, verdict: Reset},
		{name: "echo", server: func(c net.Conn) { io.Copy(c, c); c.Close() }, q: Request{Banner: true, Require: true, Payload: []byte("PING\r\n")},
			want: map[string]any{"status": 1.0, "banner": "PING"}, verdict: Open},
		{name: "binary", server: say("\xff\x00J\n5.5\n"), q: Request{Banner: true},
			want: map[string]any{"status": 1.0, "banner": "\ufffd\x00J\n5.5"}, verdict: Open},
		{name: "few bytes", server: say("a long greeting"), q: Request{Banner: true, ReadBytes: 6},
			want: map[string]any{"status": 1.0, "banner": "a long"}, verdict: Open},
		{name: "expected", server: func(c net.Conn) {
			io.WriteString(c, "wait")
			pause(c)
			io.WriteString(c, " ready 7")
			io.Copy(io.Discard, c)
			c.Close()
		}, q: Request{Expect: regexp.MustCompile(`ready \d`)}, want: map[string]any{"status": 1.0, "banner": "wait ready 7"}, verdict: Open},
		{name: "unexpected", server: func(c net.Conn) { io.WriteString(c, "no"); c.Close() }, q: Request{Expect: regexp.MustCompile(`ready \d`)},
			want: map[string]any{"phase": "recv", "error": `The answer does not match ready \d`, "banner": "no"}, verdict: Mismatch},
		{name: "closed", refused: true, want: map[string]any{"phase": "connect", "error": "Port is unreachable: Connection refused",
			"errno_code": 111.0, "errno_name": "ECONNREFUSED", "os_error": "Connection refused"}, verdict: Closed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w world) {
				q := tc.q
				q.Host, q.Port, q.Timeout = w.host, 4, w.wait
				want := map[string]any{}
				for k, v := range tc.want {
					want[k] = v
				}
				if !tc.refused {
					q.Port = serve(t, w.on, w.host, tc.server)
					want["family"], want["sockaddr"] = family(w.host), sockaddr(w.host, q.Port)
				}
				r := w.check(q)
				same(t, r, want)
				if r.Verdict != tc.verdict || r.Reason == "" {
					t.Errorf("%s: %s", r.Verdict, r.Reason)
				}
				if r.OK != (r.Connect > 0) && !tc.refused && r.Connect == 0 {
					t.Errorf("connect time %v", r.Connect)
				}
			})
		})
	}
}

// TestSeedUDP is the same for datagrams: an answer is expected, and a port that
// is closed is known after one round trip.
func TestSeedUDP(t *testing.T) {
	for _, tc := range []struct {
		name    string
		server  func([]byte) []byte
		q       Request
		want    map[string]any
		verdict Verdict
	}{
		{"answers", func(b []byte) []byte { return append([]byte("got "), b...) }, Request{Payload: []byte("x")}, map[string]any{"status": 1.0}, Open},
		{"answers the empty datagram", func(b []byte) []byte { return []byte{byte('0' + len(b))} }, Request{Banner: true},
			map[string]any{"status": 1.0, "banner": "0"}, Open},
		{"unexpected", func([]byte) []byte { return []byte("no") }, Request{Expect: regexp.MustCompile("yes")},
			map[string]any{"phase": "recv", "error": "The answer does not match yes", "banner": "no"}, Mismatch},
		{"silent", func([]byte) []byte { return nil }, Request{}, map[string]any{"phase": "recv", "error": "Connection timed out",
			"errno_code": 110.0, "errno_name": "ETIMEDOUT", "os_error": "Connection timed out"}, Filtered},
		{"closed", nil, Request{}, map[string]any{"phase": "recv", "error": "OS/socket error: [Errno 111] Connection refused",
			"errno_code": 111.0, "errno_name": "ECONNREFUSED", "os_error": "Connection refused"}, Closed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w world) {
				q := tc.q
				q.UDP, q.Host, q.Port, q.Timeout = true, w.host, 4, w.wait
				want := map[string]any{}
				for k, v := range tc.want {
					want[k] = v
				}
				if tc.server != nil {
					q.Port = servePacket(t, w.on, w.host, tc.server)
				}
				if tc.verdict == Open || tc.verdict == Mismatch {
					want["family"], want["sockaddr"] = family(w.host), sockaddr(w.host, q.Port)
				}
				r := w.check(q)
				same(t, r, want)
				if r.Verdict != tc.verdict || r.Connect != 0 {
					t.Errorf("%s: %s, connected in %v", r.Verdict, r.Reason, r.Connect)
				}
				// Virtual time: ARP or ND, and one round trip.
				if tc.verdict == Closed && w.name == "stack" && r.Total > 4*delay {
					t.Errorf("closed after %v", r.Total)
				}
			})
		})
	}
}

// TestResolve: names that do not exist, that nobody can resolve, and a look-up
// that takes too long.
func TestResolve(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		again := map[string]any{"phase": "resolve", "error": "Address-related error: [Errno -3] Temporary failure in name resolution",
			"errno_code": -3.0, "errno_name": "EAI_AGAIN", "os_error": "Temporary failure in name resolution"}
		r := Check(t.Context(), p.na, Request{Host: "a.example", Port: 80})
		same(t, r, again)
		p.na.Resolver = names{}
		r = Check(t.Context(), p.na, Request{Host: "a.example", Port: 80})
		same(t, r, map[string]any{"phase": "resolve", "error": "Address-related error: [Errno -2] Name or service not known",
			"errno_code": -2.0, "errno_name": "EAI_NONAME", "os_error": "Name or service not known"})
		if r.Verdict != Unresolved || !strings.Contains(strings.ToLower(r.Text), "not known") {
			t.Errorf("%s, %s", r.Verdict, r.Text)
		}
		p.na.Resolver = slow{}
		r = Check(t.Context(), p.na, Request{Host: "a.example", Port: 80, Timeout: 2 * time.Second})
		same(t, r, again)
		if r.Lookup != 2*time.Second || r.Total != r.Lookup {
			t.Errorf("%v, %v", r.Lookup, r.Total)
		}
	})
}

// slow is a resolver that does not answer.
type slow struct{ socket.Resolver }

func (slow) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestEachAddress: addresses are tried in the resolver's order, each with the
// whole time; the first that accepts counts, or else the last.
func TestEachAddress(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		port := serve(t, p.nb, "fd77::2", func(c net.Conn) { io.WriteString(c, "hi"); c.Close() })
		// RFC 6724 §2.1: unique local addresses come after IPv4's.
		p.na.Resolver = names{"good.example": {"fd77::2", "10.77.0.99", "10.77.0.2"}, "bad.example": {"10.77.0.99", "fd77::2"}}
		q := Request{Host: "good.example", Port: port, Timeout: 2 * time.Second, Banner: true, Require: true}
		r := Check(t.Context(), p.na, q)
		same(t, r, map[string]any{"status": 1.0, "family": "AF_INET6", "sockaddr": sockaddr("fd77::2", port), "banner": "hi"})
		verdicts := map[string]Verdict{"10.77.0.99": Filtered, "10.77.0.2": Closed, "fd77::2": Open}
		var sum time.Duration
		for i, at := range r.Attempts {
			if at.Verdict != verdicts[at.Addr.Addr().String()] || (i == 2) != (at.Verdict == Open) || (at.Verdict == Filtered) != (at.Took == q.Timeout) {
				t.Errorf("attempt %d at %v: %s after %v", i, at.Addr, at.Verdict, at.Took)
			}
			sum += at.Took
		}
		if n := len(r.Attempts); n != 3 || r.Connect != r.Attempts[2].Took || r.Connect > 4*delay || r.Total < sum {
			t.Errorf("%d attempts, connected in %v of %v", n, r.Connect, r.Total)
		}
		q.Host, q.Port = "bad.example", 4
		r = Check(t.Context(), p.na, q)
		same(t, r, map[string]any{"phase": "connect", "error": "Port is unreachable: Connection refused",
			"errno_code": 111.0, "errno_name": "ECONNREFUSED", "os_error": "Connection refused"})
		if r.Verdict != Closed || len(r.Attempts) != 2 || !strings.Contains(r.Reason, "the last of 2 addresses") {
			t.Errorf("%s, %+v", r.Reason, r.Attempts)
		}
	})
}

// TestSend: a peer that does not read, so that what is to be sent is never
// taken, fails the check in that phase.
func TestSend(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		end := make(chan struct{})
		port := serve(t, p.nb, "10.77.0.2", func(c net.Conn) { <-end; c.Close() })
		r := Check(t.Context(), p.na, Request{Host: "10.77.0.2", Port: port, Payload: make([]byte, 64<<20), Timeout: 5 * time.Second})
		same(t, r, map[string]any{"phase": "send", "error": "Connection timed out", "errno_code": 110.0, "errno_name": "ETIMEDOUT",
			"os_error": "Connection timed out", "family": "AF_INET", "sockaddr": sockaddr("10.77.0.2", port)})
		if h := r.Attempts[0].Handshake; r.Verdict != Silent || h.Sent == 0 || h.Acked == 0 || r.Total < 5*time.Second || r.Total > 6*time.Second {
			t.Errorf("%s, %+v after %v", r.Verdict, h, r.Total)
		}
		close(end)
	})
}

// TestScope: a link-local address has its interface's number as the fourth part
// of its socket address, and no zone in the first.
func TestScope(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		port := serve(t, p.nb, "fd77::2", echo)
		list, err := p.nb.InterfaceAddrs()
		must(t, err)
		host := ""
		for _, a := range list {
			if x := netip.MustParsePrefix(a.String()).Addr(); x.Is6() && x.IsLinkLocalUnicast() {
				host = x.WithZone("").String()
			}
		}
		l, err := p.nb.Listen("tcp", net.JoinHostPort(host+"%eth0", portText(port+1)))
		must(t, err)
		defer l.Close()
		r := Check(t.Context(), p.na, Request{Host: host + "%eth0", Port: port + 1})
		// Loopback is the first interface.
		same(t, r, map[string]any{"status": 1.0, "family": "AF_INET6", "sockaddr": []any{host, float64(port + 1), 0.0, 2.0}})
	})
}

// TestCancel: a check ends with its context, in whatever it is.
func TestCancel(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		port := serve(t, p.nb, "10.77.0.2", func(c net.Conn) { io.Copy(io.Discard, c); c.Close() })
		udp := servePacket(t, p.nb, "10.77.0.2", func([]byte) []byte { return nil })
		for _, q := range []Request{
			{Host: "10.77.0.2", Port: port, Banner: true, Require: true},
			{Host: "10.77.0.77", Port: port},
			{Host: "10.77.0.2", Port: udp, UDP: true},
			{Host: "10.77.0.2", Port: port, TLS: &TLS{}},
		} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, nil)
			q.Timeout = time.Minute
			r := Check(ctx, p.na, q)
			cancel()
			if r.OK || r.Total < time.Second || r.Total > time.Second+time.Millisecond {
				t.Errorf("%+v: %v after %v", q, r.Failure, r.Total)
			}
			ctx, cancel = context.WithCancel(t.Context())
			cancel()
			r = Check(ctx, p.na, q)
			if r.OK || r.Verdict != Cancelled || r.Total > 10*time.Millisecond {
				t.Errorf("%+v: %v, %v after %v", q, r.Verdict, r.Failure, r.Total)
			}
			// In the middle of it.
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			r = Check(ctx, p.na, q)
			if r.OK || r.Verdict != Cancelled || r.Total > time.Second+time.Millisecond {
				t.Errorf("%+v, ended after a second: %v, %v after %v", q, r.Verdict, r.Failure, r.Total)
			}
		}
	})
}
