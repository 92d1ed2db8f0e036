package check

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// after says something when it has heard a request.
func after(request, answer string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, len(request))
		if _, err := io.ReadFull(c, b); err == nil && string(b) == request {
			io.WriteString(c, answer)
		}
		io.Copy(io.Discard, c)
		c.Close()
	}
}

// head answers a HEAD request for the host and port that it came to.
func head(answer string) func(net.Conn) {
	return func(c net.Conn) { after("HEAD / HTTP/1.0\r\nHost: "+c.LocalAddr().String()+"\r\n\r\n", answer)(c) }
}

func portText(n uint16) string { return strconv.Itoa(int(n)) }

// pause makes what follows another segment, in the time of a bubble. Over the
// kernel's sockets nothing is waited for: both may come at once there.
func pause(c net.Conn) {
	if _, ok := c.(*socket.Conn); ok {
		time.Sleep(time.Millisecond)
	}
}

// pieces says an answer in two segments.
func pieces(a, b string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, a)
		pause(c)
		io.WriteString(c, b)
		io.Copy(io.Discard, c)
		c.Close()
	}
}

func ntpAnswer(b []byte, stratum byte, reference string, ahead time.Duration) []byte {
	out := make([]byte, ntpLen)
	out[0], out[1] = 4<<3|4, stratum
	copy(out[12:], reference)
	copy(out[24:], b[40:48])
	binary.BigEndian.PutUint64(out[32:], ntpTime(time.Now().Add(ahead)))
	binary.BigEndian.PutUint64(out[40:], ntpTime(time.Now().Add(ahead)))
	return out
}

func dnsAnswer(b []byte, rcode byte) []byte {
	out := bytes.Clone(b)
	out[2], out[3] = out[2]|0x80, rcode
	out[7] = 13
	return out
}

// TestServices: what each preset asks for and makes of the answers. A text is
// the summary, or after "!" what the failure says.
func TestServices(t *testing.T) {
	const mysql = "\x4a\x00\x00\x00\x0a5.5.5-10.11\x00\x01\x00\x00\x00abcdefgh\x00\xfe\xff\x2d\x02\x00"
	whole := mysql + strings.Repeat("x", 0x4a+4-len(mysql))
	for _, tc := range []struct {
		service string
		server  func(net.Conn)
		packets func([]byte) []byte
		want    string
	}{
		{"ssh", pieces("SSH-2.0-Open", "SSH_9.2\r\n"), nil, "SSH-2.0-OpenSSH_9.2"},
		{"ssh", pieces("welcome\r\n", "SSH-2.0-x\r\n"), nil, "SSH-2.0-x"},
		{"ssh", after("", "220 ftp\r\n"), nil, `!Not an answer of ssh: something else answers: "220 ftp"`},
		{"smtp", after("", "220 mail.example ESMTP\r\n"), nil, "SMTP, mail.example ESMTP"},
		{"smtp", after("", "554 go away\r\n"), nil, `!Not an answer of smtp: something else answers: "554 go away"`},
		{"ftp", after("", "220-hello\r\n220 there\r\n"), nil, "FTP, hello"},
		{"pop3", after("", "+OK ready\r\n"), nil, "POP3, ready"},
		{"imap", after("", "* OK [CAPABILITY IMAP4rev1] ready\r\n"), nil, "IMAP, [CAPABILITY IMAP4rev1] ready"},
		{"http", head("HTTP/1.1 404 Not Found\r\nserver: nginx/1.22\r\n\r\n"), nil, "HTTP/1.1 404 Not Found, nginx/1.22"},
		{"http", head("ICY 200 OK\r\n\r\n"), nil, `!Not an answer of http: something else answers: "ICY 200 OK"`},
		{"redis", after("PING\r\n", "+PONG\r\n"), nil, "Redis"},
		{"redis", after("PING\r\n", "-NOAUTH Authentication required.\r\n"), nil, "Redis, which wants a password"},
		{"redis", after("PING\r\n", "-DENIED protected\r\n"), nil, "!Not an answer of redis: it refuses: DENIED protected"},
		{"memcached", after("version\r\n", "VERSION 1.6.18\r\n"), nil, "memcached, 1.6.18"},
		{"mysql", pieces(whole[:10], whole[10:]), nil, "MySQL 5.5.5-10.11, with TLS"},
		{"mysql", after("", "\x10\x00\x00\x00\xff\x69\x04Host blocked."), nil, "!Not an answer of mysql: the server refuses: Host blocked."},
		{"mysql", after("", "SSH-2.0-x\r\n"), nil, "!Not an answer of mysql: no greeting of MySQL"},
		{"postgres", after(string(postgresSSL), "S"), nil, "PostgreSQL, with TLS"},
		{"postgres", after(string(postgresSSL), "N"), nil, "PostgreSQL, without TLS"},
		{"dns", nil, func(b []byte) []byte { return dnsAnswer(b, 0) }, "DNS, NOERROR with 13 answers"},
		{"dns", nil, func(b []byte) []byte { return dnsAnswer(b, 5) }, "DNS, REFUSED with 13 answers"},
		{"dns", nil, func(b []byte) []byte { return b }, "!Not an answer of dns: something else answers"},
		{"dns", nil, func(b []byte) []byte { return append([]byte{b[0] + 1}, dnsAnswer(b, 0)[1:]...) }, "!Not an answer of dns: something else answers"},
		{"ntp", nil, func(b []byte) []byte { return ntpAnswer(b, 2, "", 250*time.Millisecond) }, "NTP, stratum 2, clock +250.000 ms"},
		{"ntp", nil, func(b []byte) []byte { return ntpAnswer(b, 0, "RATE", 0) }, `!Not an answer of ntp: the server refuses: "RATE"`},
		{"ntp", nil, func(b []byte) []byte { return ntpAnswer(make([]byte, 48), 2, "", 0) }, "!Not an answer of ntp: something else answers"},
	} {
		t.Run(tc.service+" "+tc.want, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pair) {
				s := LookupService(tc.service)
				q := Request{Host: "10.77.0.2", ReadBytes: 200}
				if tc.packets != nil {
					q.Port = servePacket(t, p.nb, q.Host, tc.packets)
				} else {
					q.Port = serve(t, p.nb, q.Host, tc.server)
				}
				s.Apply(&q)
				Check(t.Context(), p.na, Request{Host: q.Host, Port: 4}) // whoever is asked knows the other's address
				r := Check(t.Context(), p.na, q)
				want, failed := strings.CutPrefix(tc.want, "!")
				got := r.Summary
				if failed {
					got = r.Text
				}
				if r.OK == failed || got != want {
					t.Errorf("%s: %q, %+v; %s", r.Verdict, r.Summary, r.Failure, r.Reason)
				}
				if r.Service != tc.service || failed && r.Verdict != Mismatch || !failed && !strings.Contains(r.Reason, want) {
					t.Errorf("%s, %s: %s", r.Service, r.Verdict, r.Reason)
				}
			})
		})
	}
}

// TestNTPOffset: the difference of the clocks from the four times, and what is
// left of it when the ways are not equally long.
func TestNTPOffset(t *testing.T) {
	zero := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		ahead             time.Duration // the server's clock
		there, held, back time.Duration
		want              time.Duration
	}{
		{0, 0, 0, 0, 0},
		{250 * time.Millisecond, time.Millisecond, time.Second, time.Millisecond, 250 * time.Millisecond},
		{-3 * time.Hour, 20 * time.Millisecond, 0, 20 * time.Millisecond, -3 * time.Hour},
		{0, time.Millisecond, 5 * time.Millisecond, 5190 * time.Microsecond, -2095 * time.Microsecond},
		{time.Second, 4 * time.Second, 0, 0, 3 * time.Second},
		{time.Second, 0, 0, 4 * time.Second, -time.Second},
		{-time.Second, 4 * time.Second, time.Minute, 0, time.Second},
	} {
		came := zero.Add(tc.there)
		left := came.Add(tc.held)
		got := ntpOffset(zero, came.Add(tc.ahead), left.Add(tc.ahead), left.Add(tc.back))
		if got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
		if wrong := (got - tc.ahead).Abs(); wrong > (tc.there+tc.back)/2 {
			t.Errorf("%+v: wrong by %v", tc, wrong)
		}
	}
	// And through the format of RFC 5905 §6, which is exact to a nanosecond.
	for _, at := range []time.Time{zero, zero.Add(123456789), zero.Add(-time.Nanosecond), time.Date(2036, 2, 7, 6, 28, 15, 0, time.UTC)} {
		if d := fromNTP(ntpTime(at)).Sub(at).Abs(); d > time.Nanosecond {
			t.Errorf("%v: %v off", at, d)
		}
	}
}

// TestServiceTable: the rows of pyminitcp's table are there, with its ports and
// payloads, and a request keeps what it says itself.
func TestServiceTable(t *testing.T) {
	ports := map[string]uint16{"ssh": 22, "smtp": 25, "smtps": 465, "ftp": 21, "pop3": 110, "imap": 143, "http": 80, "https": 443,
		"redis": 6379, "memcached": 11211, "mysql": 3306, "postgres": 5432, "dns": 53, "ntp": 123}
	for name, port := range ports {
		if s := LookupService(name); s == nil || s.Port != port || s.Note == "" || s.UDP != (name == "dns" || name == "ntp") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if LookupService("gopher") != nil {
		t.Error("there is gopher")
	}
	q := Request{Host: "www.example"}
	LookupService("http").Apply(&q)
	if string(q.Payload) != "HEAD / HTTP/1.0\r\nHost: www.example\r\n\r\n" || q.Port != 80 || !q.Require {
		t.Errorf("%+v", q)
	}
	q = Request{Host: "fe80::1%eth0"}
	LookupService("https").Apply(&q)
	if string(q.Payload) != "HEAD / HTTP/1.0\r\nHost: [fe80::1]\r\n\r\n" || q.TLS == nil {
		t.Errorf("%q", q.Payload)
	}
	mine := &TLS{Name: "x"}
	q = Request{Port: 8443, Payload: []byte("GET /"), TLS: mine}
	LookupService("https").Apply(&q)
	if q.Port != 8443 || string(q.Payload) != "GET /" || q.TLS != mine {
		t.Errorf("%+v", q)
	}
}

func TestReadTargets(t *testing.T) {
	list, err := ReadTargets(strings.NewReader(`
# a comment
10.77.0.1 22
fd77::1 ssh   # another
mail.example smtp 2525
mail.example 2525 smtp
`), Request{Timeout: time.Second})
	must(t, err)
	var got []string
	for _, q := range list {
		name := ""
		if q.Service != nil {
			name = q.Service.Name
		}
		got = append(got, net.JoinHostPort(q.Host, portText(q.Port))+" "+name)
		if q.Timeout != time.Second || q.Banner != (name != "") {
			t.Errorf("%+v", q)
		}
	}
	if want := []string{"10.77.0.1:22 ", "[fd77::1]:22 ssh", "mail.example:2525 smtp", "mail.example:2525 smtp"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for text, want := range map[string]string{
		"a 22\n\nb gopher": `line 3: "gopher" is neither a port nor a service`,
		"a 70000":          `line 1: "70000" is neither a port nor a service`,
		"a":                "line 1: no port",
		"a 0":              `line 1: "0" is neither a port nor a service`,
	} {
		if _, err := ReadTargets(strings.NewReader(text), Request{}); err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestParseHex: as bytes.fromhex of Python 3.
func TestParseHex(t *testing.T) {
	for text, want := range map[string]string{"": "", "50494e470d0a": "PING\r\n", "61 62\t63": "abc", " 61\n": "a", "4A4b": "JK"} {
		if b, err := ParseHex(text); err != nil || string(b) != want {
			t.Errorf("%q: %q, %v", text, b, err)
		}
	}
	for _, text := range []string{"6", "0x61", "61:62", "6 1", "zz", "61\u00a062"} {
		if b, err := ParseHex(text); err == nil || err.Error() != "Invalid hex payload" {
			t.Errorf("%q: %q, %v", text, b, err)
		}
	}
}

// FuzzAnswer: whatever a server says, each service makes something of it
// without falling over, and what is printed of it is text.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"SSH-2.0-x\r\n", "220-\r\n220 x\r\n", "\x4a\x00\x00\x00\x0a5.5\x00", "\xff\xff\xff", "\x00\x05hello", "HTTP/1.1 200\r\nServer:\r\n\r\n", "* OK"} {
		f.Add([]byte(s), uint8(0))
	}
	f.Fuzz(func(t *testing.T, answer []byte, n uint8) {
		s := services[int(n)%len(services)]
		q := Request{Host: "10.77.0.2"}
		s.Apply(&q)
		c := &check{q: &q, r: &Result{Host: q.Host, Port: q.Port}}
		if len(answer) > 0 && c.complete(answer) {
			c.r.Answer = answer
			c.r.Failure = c.examine(answer)
		}
		for _, text := range []string{c.r.JSON(), c.r.FullJSON(), c.r.Line(true)} {
			for _, b := range []byte(text) {
				if b >= 0x80 {
					t.Fatalf("not ASCII: %q", text)
				}
			}
		}
		rw := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(answer), io.Discard}
		for _, name := range StartTLS() {
			starters[name](&rw)
		}
	})
}

// TestApplyStartTLS: within TLS that is begun in a protocol nothing is sent and read
// that the caller has not asked for, and what he has is.
func TestApplyStartTLS(t *testing.T) {
	smtp := LookupService("smtp")
	q := Request{TLS: &TLS{Start: "smtp"}}
	if smtp.Apply(&q); q.Banner || q.Require || q.Payload != nil || q.Service != nil || q.Port != 25 {
		t.Errorf("%+v", q)
	}
	q = Request{TLS: &TLS{Start: "smtp"}, Payload: []byte("EHLO me\r\n"), Banner: true, Require: true}
	if smtp.Apply(&q); !q.Banner || !q.Require || string(q.Payload) != "EHLO me\r\n" || q.Service != nil {
		t.Errorf("what was asked for: %+v", q)
	}
}
