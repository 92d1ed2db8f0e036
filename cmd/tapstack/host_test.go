package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tapstack/tapstack/internal/lab"
)

// nameServer is a dnsmasq on port 53 of the lab's kernel host.
func nameServer(t *testing.T, l *lab.Lab) {
	t.Helper()
	c := exec.Command(lab.RequireProgram(t, "dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--listen-address=10.77.0.1,fd77::1", "--bind-interfaces", "--no-resolv", "--no-hosts",
		"--user=", "--pid-file=", "--local=/example/", "--local=/in-addr.arpa/", "--local=/ip6.arpa/", "--edns-packet-max=1232", "--auth-ttl=60",
		"--host-record=www.example,10.77.0.80,fd77::80", "--host-record=only4.example,10.77.0.81", "--host-record=xn--bcher-kva.example,10.77.0.82",
		"--cname=alias.example,www.example", "--mx-host=example,mail.example,20", "--mx-host=example,backup.example,5", "--host-record=example,10.77.0.1",
		"--txt-record=text.example,hello \"world\",second", "--srv-host=_ldap._tcp.example,www.example,389,1,2", "--ptr-record=ptr.example,target.example",
		"--naptr-record=naptr.example,10,100,u,E2U+sip,!^.*$!sip:x@example!", "--caa-record=example,0,issue,ca.example",
		"--dns-rr=example,257,000569737375656c65", "--dns-rr=raw.example,65280,010203",
		"--txt-record=long.example"+strings.Repeat(","+strings.Repeat("x", 200), 12))
	var log strings.Builder
	c.Stdout, c.Stderr = &log, &log
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() { _ = c.Process.Kill(); <-ended })
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := l.DialKernel(t.Context(), "tcp", "10.77.0.1:53")
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("dnsmasq: %v\n%s", err, &log)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("dnsmasq does not listen")
		}
	}
}

// TestHostCommand asks dnsmasq, from a stack and from the host's sockets.
func TestHostCommand(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		nameServer(t, l)
		link := filepath.Join(t.TempDir(), "host")
		if err := os.Symlink(os.Args[0], link); err != nil {
			t.Fatal(err)
		}
		device := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false", "TAPSTACK_DNS=10.77.0.1")
		as := map[string]func(args ...string) *exec.Cmd{
			"stack": func(args ...string) *exec.Cmd { return tapstack(t, device, append([]string{"host"}, args...)...) },
			"host": func(args ...string) *exec.Cmd {
				c := tapstack(t, nil, append([]string{"--server", "10.77.0.1"}, args...)...)
				c.Path, c.Args[0] = link, link
				return c
			},
		}
		for name, program := range as {
			for _, tc := range []struct {
				args   string
				status int
				out    string // the whole of it; with a * at an end, that part
			}{
				{"www.example", 0, "www.example has address 10.77.0.80\nwww.example has IPv6 address fd77::80\n"},
				{"alias.example", 0, "alias.example is an alias for www.example.\nwww.example has address 10.77.0.80\nwww.example has IPv6 address fd77::80\n"},
				{"--no-search example", 0, "example has address 10.77.0.1\nexample mail is handled by 5 backup.example.\nexample mail is handled by 20 mail.example.\n"},
				{"www --search other.example,example", 0, "www.example has address 10.77.0.80\nwww.example has IPv6 address fd77::80\n"},
				{"www.example -t aaaa", 0, "www.example has IPv6 address fd77::80\n"},
				{"www.example A", 0, "www.example has address 10.77.0.80\n"},
				{"www.example fd77::1 -t A", 0, "www.example has address 10.77.0.80\n"},
				{"bücher.example A", 0, "xn--bcher-kva.example has address 10.77.0.82\n"},
				{"text.example TXT", 0, `text.example descriptive text "hello \"world\"" "second"` + "\n"},
				{"-t SRV _ldap._tcp.example", 0, "_ldap._tcp.example has SRV record 1 2 389 www.example.\n|_ldap._tcp.example has SRV record 1 389 2 www.example.\n|*389 www.example.\n"},
				{"-t NAPTR naptr.example", 0, "*has NAPTR record 10 100 \"u\" \"E2U+sip\" \"!^.*$!sip:x@example!\" .\n"},
				{"-t CAA --no-search example", 0, "*has CAA record 0 issue \"ca.example\"\n*"},
				{"-t TYPE65280 raw.example", 0, "raw.example has TYPE65280 record \\# 3 010203\n"},
				{"-t CNAME alias.example", 0, "alias.example is an alias for www.example.\n"},
				{"10.77.0.80", 0, "80.0.77.10.in-addr.arpa domain name pointer www.example.\n"},
				{"fd77::80", 0, "*ip6.arpa domain name pointer www.example.\n"},
				{"-t PTR ptr.example", 0, "ptr.example domain name pointer target.example.\n"},
				{"-T www.example A", 0, "www.example has address 10.77.0.80\n"},
				{"-v www.example A", 0, "*opcode: QUERY, status: NOERROR*"},
				{"-v long.example TXT", 0, "*by TCP, as the answer by UDP was truncated\n*"},
				{"-v -T long.example TXT", 0, "*by TCP\n*"},
				{"only4.example AAAA", 1, "only4.example has no AAAA record\n"},
				{"nobody.example", 1, "Host nobody.example not found: 3(NXDOMAIN)\n"},
				{"10.77.0.99", 1, "Host 99.0.77.10.in-addr.arpa not found: 3(NXDOMAIN)\n"},
				{"elsewhere.test A", 1, "Host elsewhere.test not found: 5(REFUSED)\n"},
				{"--server 10.77.0.1:4 -R 1 www.example", 0, "www.example has address 10.77.0.80\n*"}, // the next server
			} {
				args := strings.Fields(tc.args)
				if strings.Contains(tc.args, ":4") && name == "stack" {
					args = append(args, "--server", "10.77.0.1") // --server stands for --dns
				} else if strings.Contains(tc.args, ":4") {
					args = args[:0]
					args = append(args, "--server", "10.77.0.1:4", "-R", "1", "www.example")
				}
				status, out, errs := checked(t, l, program(args...))
				ok := false
				for _, want := range strings.Split(tc.out, "|") {
					begin, end := strings.HasPrefix(want, "*"), strings.HasSuffix(want, "*")
					switch w := strings.Trim(want, "*"); {
					case begin && end:
						ok = ok || strings.Contains(out, w)
					case begin:
						ok = ok || strings.HasSuffix(out, w)
					case end:
						ok = ok || strings.HasPrefix(out, w)
					default:
						ok = ok || out == want
					}
				}
				if status != tc.status || !ok || errs != "" {
					t.Errorf("%s %s: status %d\n%s%s", name, tc.args, status, out, errs)
				}
			}
			var r hostReport
			status, out, _ := checked(t, l, program("--json", "-D", "long.example", "TXT"))
			if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || !r.Found || len(r.Queries) != 1 {
				t.Fatalf("%s: status %d, %v\n%s", name, status, err, out)
			}
			if q := r.Queries[0]; q.Protocol != "tcp" || !q.Truncated || q.Sent != 2 || q.Rcode != "NOERROR" || len(q.Answer) != 1 || q.Answer[0].Type != "TXT" || q.Size < 2400 ||
				!strings.HasPrefix(q.Answer[0].Data, `"xxx`) || q.Time <= 0 || q.Server != "10.77.0.1:53" || q.Question != "long.example." {
				t.Errorf("%s: %+v", name, q)
			}
			if status, out, _ := checked(t, l, program("--json", "--ignore-truncation", "long.example", "TXT")); !strings.Contains(out, `"tc"`) || status != 1 {
				t.Errorf("%s: status %d, %s", name, status, out)
			}
		}
	})
}

// TestHostServers: servers that a script plays.
func TestHostServers(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		device := attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false")
		pack := func(m *dns.Msg) []byte {
			b, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			return b
		}
		answer := func(q *dns.Msg, data string) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A " + data)
			if err != nil {
				t.Error(err)
			}
			m.Answer = []dns.RR{rr}
			return m
		}
		rcode := func(q *dns.Msg, code int) []byte { return pack(new(dns.Msg).SetRcode(q, code)) }
		// serve answers datagrams, and by TCP, by what f returns.
		serve := func(f func(q *dns.Msg, tcp bool, n int) [][]byte) (server string) {
			t.Helper()
			pc, err := l.ListenPacketKernel("udp", "10.77.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln, err := l.ListenKernel("tcp", pc.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { pc.Close(); ln.Close() })
			go func() {
				b := make([]byte, 4096)
				for n := 0; ; n++ {
					k, from, err := pc.ReadFrom(b)
					if err != nil {
						return
					}
					q := new(dns.Msg)
					if q.Unpack(b[:k]) == nil {
						for _, m := range f(q, false, n) {
							_, _ = pc.WriteTo(m, from)
						}
					}
				}
			}()
			go func() {
				for n := 0; ; n++ {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					var length [2]byte
					_, _ = io.ReadFull(c, length[:])
					b := make([]byte, binary.BigEndian.Uint16(length[:]))
					_, _ = io.ReadFull(c, b)
					q := new(dns.Msg)
					if q.Unpack(b) == nil {
						for _, m := range f(q, true, n) {
							_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
						}
					}
					c.Close()
				}
			}()
			return pc.LocalAddr().String()
		}
		good := serve(func(q *dns.Msg, tcp bool, n int) [][]byte { return [][]byte{pack(answer(q, "192.0.2.1"))} })
		silent := serve(func(*dns.Msg, bool, int) [][]byte { return nil })
		for _, tc := range []struct {
			what string
			f    func(q *dns.Msg, tcp bool, n int) [][]byte
			args []string
			ok   func(q hostQuery) bool
		}{
			{"forged answers before the real one", func(q *dns.Msg, tcp bool, n int) [][]byte {
				id, name, kind := answer(q, "192.0.2.66"), answer(q, "192.0.2.66"), answer(q, "192.0.2.66")
				id.Id++
				name.Question[0].Name = "other.test."
				kind.Question[0].Qtype = dns.TypeTXT
				query := q.Copy()
				return [][]byte{pack(id), pack(name), pack(kind), pack(query), []byte("short"), pack(answer(q, "192.0.2.1"))}
			}, nil, func(q hostQuery) bool {
				return q.Ignored == 5 && len(q.Answer) == 1 && q.Answer[0].Data == "192.0.2.1" && q.Sent == 1
			}},
			{"a server from before EDNS", func(q *dns.Msg, tcp bool, n int) [][]byte {
				if q.IsEdns0() != nil {
					return [][]byte{rcode(q, dns.RcodeFormatError)}
				}
				return [][]byte{pack(answer(q, "192.0.2.1"))}
			}, nil, func(q hostQuery) bool { return q.Sent == 2 && q.Rcode == "NOERROR" && !q.EDNS }},
			{"one that fails, and the next", func(q *dns.Msg, tcp bool, n int) [][]byte { return [][]byte{rcode(q, dns.RcodeServerFailure)} },
				[]string{"--server", good}, func(q hostQuery) bool { return q.Rcode == "NOERROR" && q.Server == good && q.Sent == 2 }},
			{"one that fails, and a silent one", func(q *dns.Msg, tcp bool, n int) [][]byte { return [][]byte{rcode(q, dns.RcodeServerFailure)} },
				[]string{"--server", silent}, func(q hostQuery) bool { return q.Rcode == "SERVFAIL" && q.Server != silent }},
			{"a lost query", func(q *dns.Msg, tcp bool, n int) [][]byte {
				if n == 0 {
					return nil
				}
				return [][]byte{pack(answer(q, "192.0.2.1"))}
			}, nil, func(q hostQuery) bool { return q.Sent == 2 && q.Time < 300 }},
			{"truncated, and TCP that hangs up", func(q *dns.Msg, tcp bool, n int) [][]byte {
				m := new(dns.Msg).SetReply(q)
				if m.Truncated = true; tcp {
					return nil
				}
				return [][]byte{pack(m)}
			}, []string{"-R", "1"}, func(q hostQuery) bool { return strings.Contains(q.Error, "hung up") && q.Truncated }},
			{"a wrong answer by TCP", func(q *dns.Msg, tcp bool, n int) [][]byte {
				m := answer(q, "192.0.2.1")
				m.Id++
				return [][]byte{pack(m)}
			}, []string{"-T", "-R", "1"}, func(q hostQuery) bool { return strings.Contains(q.Error, "makes no sense") }},
			{"aliases that go round", func(q *dns.Msg, tcp bool, n int) [][]byte {
				m := new(dns.Msg).SetReply(q)
				for _, s := range []string{"a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME a.test."} {
					rr, _ := dns.NewRR(s)
					m.Answer = append(m.Answer, rr)
				}
				return [][]byte{pack(m)}
			}, nil, func(q hostQuery) bool { return len(q.Answer) == 2 }},
		} {
			var status int
			var out, errs string
			var err error
			if !persist(func() bool { // a busy server is a silent one
				var r hostReport
				args := append([]string{"host", "--json", "-W", "0.4", "a.test", "A", "--server", serve(tc.f)}, tc.args...)
				status, out, errs = checked(t, l, tapstack(t, device, args...))
				err = json.Unmarshal([]byte(out), &r)
				return err == nil && len(r.Queries) == 1 && tc.ok(r.Queries[0]) && errs == "" && (status == 0) == r.Found
			}) {
				t.Errorf("%s: status %d, %v\n%s%s", tc.what, status, err, out, errs)
			}
		}
		status, out, _ := checked(t, l, tapstack(t, device, "host", "-W", "0.2", "-R", "1", "a.test", "--server", silent))
		if status != 1 || !strings.HasPrefix(out, ";; no answer from "+silent) {
			t.Errorf("silence: status %d, %s", status, out)
		}
	})
}

func TestHostCommandLines(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"host": "want NAME", "host a b c": "want NAME", "host -t NONSENSE a": "no such type", "host -t AXFR a": "no type of records to ask for",
		"host -c XX a": "no such class", "host -4 -6 a": "exclude each other", "host a..b": "cannot be a name", "host --net host --server 127.0.0.1:x a": "no port",
		"host --bufsize 100 a": "want a number", "host -W 0 a": "want more than 0",
	} {
		out, err := tapstack(t, nil, strings.Fields(args)...).CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%s: status %d, %s", args, status, out)
		}
	}
}
