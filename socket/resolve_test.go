package socket_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// dnsServer answers from a table, over UDP and TCP, on one address of a host.
type dnsServer struct {
	// records are "A 10.0.0.1", "AAAA fd77::1", "PTR host." or "CNAME other." by name.
	// A name that is missing does not exist; "FAIL" is a server failure.
	records map[string][]string
	// mangle, if it is not nil, may change an answer over UDP, or drop it.
	mangle func(*dnsmessage.Message) bool

	mu    sync.Mutex
	asked []string // as "udp A name."
}

func (d *dnsServer) serve(t *testing.T, n *socket.Network, addr string) {
	t.Helper()
	pc, err := n.ListenPacket("udp", addr)
	must(t, err)
	ln, err := n.Listen("tcp", addr)
	must(t, err)
	t.Cleanup(func() { pc.Close(); ln.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			k, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if m := d.answer("udp", b[:k]); m != nil {
				out, _ := m.Pack()
				pc.WriteTo(out, from)
			}
		}
	}()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			var length [2]byte
			io.ReadFull(c, length[:])
			b := make([]byte, binary.BigEndian.Uint16(length[:]))
			io.ReadFull(c, b)
			out, _ := d.answer("tcp", b).Pack()
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			c.Close()
		}
	}()
}

func (d *dnsServer) answer(network string, query []byte) *dnsmessage.Message {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	d.mu.Lock()
	d.asked = append(d.asked, fmt.Sprintf("%s %s %s", network, strings.TrimPrefix(q.Type.String(), "Type"), q.Name))
	d.mu.Unlock()
	m.Response = true
	name := q.Name.String()
	for {
		list, ok := d.records[name]
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
		}
		name = ""
		for _, r := range list {
			typ, value, _ := strings.Cut(r, " ")
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
			switch {
			case typ == "FAIL":
				m.RCode = dnsmessage.RCodeServerFailure
			case typ == "CNAME":
				name = value
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(value)}})
				q.Name = dnsmessage.MustNewName(value)
			case typ == "A" && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: netip.MustParseAddr(value).As4()}})
			case typ == "PTR" && q.Type == dnsmessage.TypePTR:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(value)}})
			case typ == "AAAA" && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(value).As16()}})
			}
		}
		if name == "" {
			break
		}
	}
	if network == "udp" && d.mangle != nil && !d.mangle(&m) {
		return nil
	}
	return &m
}

var dnsRecords = map[string][]string{
	"both.example.":   {"A 10.77.0.2", "AAAA fd77::2"},
	"four.example.":   {"A 10.77.0.2"},
	"alias.example.":  {"CNAME middle.example."},
	"middle.example.": {"CNAME four.example."},
	"loop.example.":   {"A 10.77.0.2"},
	"empty.example.":  {},
	"broken.example.": {"FAIL"},
	"far.example.":    {"A 192.0.2.1", "A 10.77.0.2"},
}

func TestDNS(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		d := &dnsServer{records: dnsRecords}
		d.serve(t, p.nb, ":53")
		if _, err := p.na.LookupNetIP(bg, "ip", "both.example"); err == nil || err.Error() != "lookup both.example: no DNS server is known" {
			t.Errorf("without a server: %v", err)
		}
		p.na.SetDNS(netip.MustParseAddr("10.77.0.2"))
		for _, c := range []struct{ network, name, want string }{
			{"ip", "both.example", "[10.77.0.2 fd77::2]"}, // RFC 6724 §2.1: fc00::/7 has the lower precedence
			{"ip4", "both.example", "[10.77.0.2]"},
			{"ip6", "both.example.", "[fd77::2]"},
			{"ip", "alias.example", "[10.77.0.2]"},
			{"ip6", "four.example", "lookup four.example: no such host"},
			{"ip", "empty.example", "lookup empty.example: no such host"},
			{"ip", "missing.example", "lookup missing.example: no such host"},
			{"ip", "broken.example", "lookup broken.example on 10.77.0.2:53: server misbehaving"},
			{"ip", strings.Repeat("long.", 60), "lookup " + strings.Repeat("long.", 60) + ": no such host"},
			{"ip", "localhost", "[::1 127.0.0.1]"},
			{"ip", "a.LOCALHOST.", "[::1 127.0.0.1]"},
			{"ip", "10.0.0.9", "[10.0.0.9]"},
		} {
			addrs, err := p.na.LookupNetIP(bg, c.network, c.name)
			got := fmt.Sprint(addrs)
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s %s: %s, want %s", c.network, c.name, got, c.want)
			}
		}
		l, err := p.nb.Listen("tcp", ":80")
		must(t, err)
		defer l.Close()
		for network, want := range map[string]string{"tcp4": "10.77.0.2:80", "tcp6": "[fd77::2]:80"} {
			c, err := p.na.Dial(network, "both.example:80")
			must(t, err)
			if c.RemoteAddr().String() != want {
				t.Errorf("%s: %v", network, c.RemoteAddr())
			}
			c.Close()
		}
		_, err = p.na.Dial("tcp", "missing.example:80")
		var e *net.DNSError
		if !errors.As(err, &e) || !e.IsNotFound || err.Error() != "dial tcp: lookup missing.example: no such host" {
			t.Errorf("%v", err)
		}
	})
}

// TestDNSSearch: what is asked, and in which order.
func TestDNSSearch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		srv := &dnsServer{records: dnsRecords}
		srv.serve(t, p.nb, ":5353")
		d := &socket.DNS{Net: p.na, Servers: []netip.AddrPort{ap("10.77.0.2:5353")}, Search: []string{"lab", "example."}}
		for name, want := range map[string]string{
			"four":         "four.lab. four.example.",
			"four.example": "four.example.",
			"a.b":          "a.b. a.b.lab. a.b.example.",
			"a.b.":         "a.b.",
			"none":         "none.lab. none.example. none.",
		} {
			srv.asked = nil
			d.LookupNetIP(bg, "ip4", name)
			if got := strings.ReplaceAll(strings.Join(srv.asked, " "), "udp A ", ""); got != want {
				t.Errorf("%s: asked %s, want %s", name, got, want)
			}
		}
	})
}

// TestDNSServers: the next server is asked when one does not answer or cannot,
// TCP when the answer is too long, and what is no answer is not taken for one.
func TestDNSServers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		good := &dnsServer{records: dnsRecords}
		good.serve(t, p.nb, ":53")
		failing := &dnsServer{records: map[string][]string{"four.example.": {"FAIL"}}}
		failing.serve(t, p.nb, ":54")
		long := &dnsServer{records: dnsRecords, mangle: func(m *dnsmessage.Message) bool {
			m.Truncated, m.Answers = true, nil
			return true
		}}
		long.serve(t, p.nb, ":55")
		forged := &dnsServer{records: dnsRecords, mangle: func(m *dnsmessage.Message) bool { m.ID++; return true }}
		forged.serve(t, p.nb, ":56")
		other := &dnsServer{records: dnsRecords, mangle: func(m *dnsmessage.Message) bool {
			m.Questions[0].Name = dnsmessage.MustNewName("else.example.")
			return true
		}}
		other.serve(t, p.nb, ":57")
		silent := ap("10.77.0.2:58")
		pc, err := p.nb.ListenPacket("udp", ":58")
		must(t, err)
		defer pc.Close()
		for _, c := range []struct {
			name    string
			servers []netip.AddrPort
			want    string
			took    time.Duration
		}{
			{"refused, then good", []netip.AddrPort{ap("10.77.0.2:9"), ap("10.77.0.2:53")}, "[10.77.0.2]", 0},
			{"failing, then good", []netip.AddrPort{ap("10.77.0.2:54"), ap("10.77.0.2:53")}, "[10.77.0.2]", 0},
			{"truncated", []netip.AddrPort{ap("10.77.0.2:55")}, "[10.77.0.2]", 0},
			{"silent, then good", []netip.AddrPort{silent, ap("10.77.0.2:53")}, "[10.77.0.2]", 5 * time.Second},
			{"another identifier", []netip.AddrPort{ap("10.77.0.2:56")}, "lookup four.example on 10.77.0.2:56: i/o timeout", 10 * time.Second},
			{"another question", []netip.AddrPort{ap("10.77.0.2:57")}, "lookup four.example on 10.77.0.2:57: i/o timeout", 10 * time.Second},
			{"silent", []netip.AddrPort{silent}, "lookup four.example on 10.77.0.2:58: i/o timeout", 10 * time.Second},
		} {
			d := &socket.DNS{Net: p.na, Servers: c.servers}
			begin := time.Now()
			addrs, err := d.LookupNetIP(bg, "ip4", "four.example")
			got := fmt.Sprint(addrs)
			if err != nil {
				got = err.Error()
			}
			if took := time.Since(begin); got != c.want || took.Truncate(time.Second) != c.took {
				t.Errorf("%s: %s after %v, want %s after %v", c.name, got, took, c.want, c.took)
			}
		}
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		dialer := socket.Dialer{Net: p.na, Resolver: &socket.DNS{Net: p.na, Servers: []netip.AddrPort{silent}}}
		_, err = dialer.DialContext(ctx, "tcp", "four.example:80")
		if err == nil || err.Error() != "dial tcp: i/o timeout" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no time for an answer: %v", err)
		}
	})
}

func FuzzDNSAnswer(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("four.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{q}, Answers: []dnsmessage.Resource{
		{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.CNAMEResource{CNAME: q.Name}}}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { socket.ParseDNS(b, 7, q) })
}

// fixedNames is a Resolver with one answer.
type fixedNames []string

func (r fixedNames) LookupNetIP(context.Context, string, string) (addrs []netip.Addr, _ error) {
	for _, a := range r {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

// silence loses what a host sends by TCP over these families.
func silence(port *wire.Port, families ...int) {
	port.SetImpairment(wire.Impairment{Drop: func(frame []byte) bool {
		v4 := frame[12] == 0x08 && frame[13] == 0x00 && frame[23] == 6
		v6 := frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == 6
		return v4 && slices.Contains(families, 4) || v6 && slices.Contains(families, 6)
	}})
}

// TestFallback: with an address that does not answer, one of the other family is
// tried beside it after 250 ms; when it refuses, at once; with a negative delay
// only after it has failed.
func TestFallback(t *testing.T) {
	const v4, v6, ms = "10.77.0.2:80", "[fd77::2]:80", time.Millisecond
	for _, c := range []struct {
		name   string
		listen string
		silent []int
		dialer socket.Dialer
		peer   string
		err    string
		took   time.Duration
	}{
		{name: "the first answers", listen: "tcp", peer: v4},
		{name: "the first is silent", listen: "tcp", silent: []int{4}, peer: v6, took: 250 * ms},
		{name: "another delay", listen: "tcp", silent: []int{4}, dialer: socket.Dialer{FallbackDelay: time.Second}, peer: v6, took: time.Second},
		{name: "the first refuses", listen: "tcp6", peer: v6},
		{name: "only the first listens", listen: "tcp4", peer: v4},
		{name: "all refuse", err: "dial tcp 10.77.0.2:80: connect: connection refused"},
		{name: "all are silent", listen: "tcp", silent: []int{4, 6}, dialer: socket.Dialer{Timeout: time.Second},
			err: "dial tcp 10.77.0.2:80: i/o timeout", took: time.Second},
		{name: "one after the other", listen: "tcp", silent: []int{4}, dialer: socket.Dialer{FallbackDelay: -1, Timeout: 10 * time.Second},
			peer: v6, took: 5 * time.Second},
		{name: "a deadline", listen: "tcp", silent: []int{4, 6}, dialer: socket.Dialer{FallbackDelay: -1, Timeout: 3 * time.Second},
			err: "dial tcp 10.77.0.2:80: i/o timeout", took: 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				if c.listen != "" {
					l, err := p.nb.Listen(c.listen, ":80")
					must(t, err)
					defer l.Close()
				}
				silence(p.pa, c.silent...)
				d := c.dialer
				d.Net, d.Resolver = p.na, fixedNames{"fd77::2", "10.77.0.2"}
				begin := time.Now()
				conn, err := d.DialContext(bg, "tcp", "name.example:80")
				took := time.Since(begin)
				peer, text := "", ""
				if err != nil {
					text = err.Error()
				} else {
					peer = conn.RemoteAddr().String()
					defer conn.Close()
				}
				if peer != c.peer || text != c.err || took.Truncate(50*ms) != c.took {
					t.Errorf("%s%s after %v, want %s%s after %v", peer, text, took, c.peer, c.err, c.took)
				}
			})
		})
	}
}

func TestDialerFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		lc := socket.ListenConfig{Net: p.nb}
		var seen []string
		note := func(network, address string, fd *socket.FD) error {
			seen = append(seen, network+" "+address)
			return fd.SetsockoptInt(socket.IPPROTO_IP, socket.IP_TTL, 7)
		}
		lc.Control = note
		l, err := lc.Listen(bg, "tcp", ":80")
		must(t, err)
		defer l.Close()
		d := socket.Dialer{Net: p.na, Control: note, LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 77, 0, 1), Port: 4000}}
		c, err := d.Dial("tcp", "10.77.0.2:80")
		must(t, err)
		defer c.Close()
		if c.LocalAddr().String() != "10.77.0.1:4000" {
			t.Errorf("dialled from %v", c.LocalAddr())
		}
		if v, err := c.(*socket.Conn).FD().GetsockoptInt(socket.IPPROTO_IP, socket.IP_TTL); v != 7 || err != nil {
			t.Errorf("TTL %d, %v", v, err)
		}
		if want := []string{"tcp6 :80", "tcp4 10.77.0.2:80"}; !slices.Equal(seen, want) {
			t.Errorf("Control saw %q, want %q", seen, want)
		}
		no := errors.New("no")
		d.Control = func(string, string, *socket.FD) error { return no }
		if _, err = d.Dial("tcp", "10.77.0.2:80"); !errors.Is(err, no) || err.Error() != "dial tcp 10.77.0.1:4000->10.77.0.2:80: no" {
			t.Errorf("%v", err)
		}
		lc.Control = d.Control
		if _, err = lc.ListenPacket(bg, "udp", ":80"); !errors.Is(err, no) || err.Error() != "listen udp :80: no" {
			t.Errorf("%v", err)
		}
		for local, want := range map[net.Addr]string{
			&net.UDPAddr{}:                          "dial tcp: address :0: mismatched local address type",
			&net.TCPAddr{IP: net.IPv6loopback}:      "dial tcp: address [::1]:0: no suitable address found",
			&net.UnixAddr{Name: "/x", Net: "unix"}:  "dial tcp: address /x: mismatched local address type",
			&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}: "dial tcp 10.0.0.1:0->10.77.0.2:80: bind: cannot assign requested address",
		} {
			d := socket.Dialer{Net: p.na, LocalAddr: local}
			if _, err := d.Dial("tcp", "10.77.0.2:80"); err == nil || err.Error() != want {
				t.Errorf("from %v: %v, want %s", local, err, want)
			}
		}
	})
}

// TestInterfaces: what a program is told of the stack's interfaces.
func TestInterfaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		list, err := p.na.Interfaces()
		must(t, err)
		var got []string
		for _, i := range list {
			addrs, _ := i.Addrs()
			got = append(got, fmt.Sprintf("%d %s %d %s %v %v", i.Index, i.Name, i.MTU, i.HardwareAddr, i.Flags, addrs))
		}
		want := []string{
			"1 lo 65535  up|loopback|running [127.0.0.1/8 ::1/128]",
			"2 eth0 1500 02:00:00:00:00:01 up|broadcast|multicast|running [fe80::ff:fe00:1/64 10.77.0.1/24 fd77::1/64]",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if addrs, err := p.na.InterfaceAddrs(); len(addrs) != 5 || err != nil {
			t.Errorf("%v, %v", addrs, err)
		}
		if i, err := p.na.InterfaceByName("eth0"); err != nil || i.Index != 2 {
			t.Errorf("%v, %v", i, err)
		}
		if _, err := p.na.InterfaceByName("eth1"); err == nil {
			t.Error("there is no eth1")
		}
	})
}
