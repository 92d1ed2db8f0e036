package examples_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

func TestSOCKS5(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "curl")
	body := pattern(5e6)
	four, six := pages(t, l, "10.77.0.1:0", body), pages(t, l, "[fd77::1]:0", body)
	p := start(t, l, 0, "socks5")
	p.waitFor("listening on")
	for _, proxy := range []string{"--socks5", "--socks5-hostname"} {
		throughProxy(t, l, four, "10.77.0.7", body, proxy, "127.0.0.1:1080")
		throughProxy(t, l, six, "fd77::7", body, proxy, "127.0.0.1:1080")
	}
	// What SOCKS says of each error, as curl reports it.
	for _, c := range []struct{ url, code string }{
		{"http://10.77.0.1:1/", "(5)"},          // nobody listens
		{"http://10.77.0.99/", "(4)"},           // no such host
		{"http://192.0.2.1/", "(3)"},            // no route
		{"http://name.example.invalid/", "(4)"}, // nobody to ask
		{"http://localhost:1/", "(5)"},          // the stack's own
	} {
		out, err := run(t, l, "curl", "-sS", "--socks5-hostname", "127.0.0.1:1080", c.url)
		if status(err) != 97 || !strings.Contains(out, c.code) {
			t.Errorf("%s: %v, %q, want %s", c.url, err, out, c.code)
		}
	}
	h := newHand(t, l, "10.77.0.1:0")
	h.halves(t, "10.77.0.7", func() *net.TCPConn {
		c := dial(t, l, "127.0.0.1:1080")
		at := h.ln.Addr().(*net.TCPAddr).AddrPort()
		ask(t, c, 1, at)
		return c
	})
}

func TestSOCKS5Password(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "curl")
	body := pattern(1000)
	four := pages(t, l, "10.77.0.1:0", body)
	p := start(t, l, 0, "socks5", "--user", "ann:secret", "--listen", "[::1]:1081")
	p.waitFor("listening on")
	throughProxy(t, l, four, "10.77.0.7", body, "--socks5", "[::1]:1081", "-U", "ann:secret")
	for _, wrong := range [][]string{{}, {"-U", "ann:secret2"}, {"-U", "ben:secret"}} {
		out, err := run(t, l, append([]string{"curl", "-sS", "--socks5", "[::1]:1081", four + "/body"}, wrong...)...)
		if status(err) != 97 {
			t.Errorf("%v: %v, %q", wrong, err, out)
		}
	}
}

// TestSOCKS5Names: names are asked for through the stack too, for streams and
// for datagrams.
func TestSOCKS5Names(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	lab.RequireProgram(t, "curl")
	spawn(t, l, lab.RequireProgram(t, "dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
		"--listen-address=10.77.0.1", "--bind-interfaces", "--host-record=page.test,10.77.0.1").waitFor("started")
	page := pages(t, l, "10.77.0.1:0", nil)
	_, at, _ := net.SplitHostPort(strings.TrimPrefix(page, "http://"))
	p := start(t, l, 0, "socks5", "--dns", "10.77.0.1")
	p.waitFor("listening on")
	if got := must(t, l, "curl", "-sS", "--socks5-hostname", "127.0.0.1:1080", "http://page.test:"+at+"/who"); !strings.HasPrefix(got, "from 10.77.0.7\nfor page.test:") {
		t.Errorf("%q", got)
	}
	out, err := run(t, l, "curl", "-sS", "--socks5-hostname", "127.0.0.1:1080", "http://none.test/")
	if status(err) != 97 || !strings.Contains(out, "(4)") {
		t.Errorf("%v, %q", err, out)
	}
	relay := ask(t, dial(t, l, "127.0.0.1:1080"), 3, netip.MustParseAddrPort("0.0.0.0:0"))
	server := udp(t, l, "10.77.0.1:0")
	head := fmt.Sprintf("\x00\x00\x00\x03%cpage.test", len("page.test"))
	port := server.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	mine := udp(t, l, "127.0.0.1:0")
	for _, text := range []string{"first", "second"} { // when the name is known
		send(t, mine, append(binary.BigEndian.AppendUint16([]byte(head), port), text...), relay)
		buf := make([]byte, 100)
		if n, _, err := server.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != text {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
}

// ask sends a SOCKS request for an address and returns the address of the
// answer, which has to be yes.
func ask(t *testing.T, c net.Conn, command byte, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	if got := talk(t, c, []byte{5, 1, 0}, 2); !bytes.Equal(got, []byte{5, 0}) {
		t.Fatalf("method: %x", got)
	}
	got := talk(t, c, socksAddr([]byte{5, command, 0}, to), 4)
	if got[1] != 0 {
		t.Fatalf("answer: %x", got)
	}
	n := 4
	if got[3] == 4 {
		n = 16
	}
	rest := talk(t, c, nil, n+2)
	a, _ := netip.AddrFromSlice(rest[:n])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(rest[n:]))
}

// talk sends a message and returns the n bytes of the answer.
func talk(t *testing.T, c net.Conn, message []byte, n int) []byte {
	t.Helper()
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func socksAddr(b []byte, a netip.AddrPort) []byte {
	kind := byte(1)
	if a.Addr().Is6() {
		kind = 4
	}
	return binary.BigEndian.AppendUint16(append(append(b, kind), a.Addr().AsSlice()...), a.Port())
}

// TestSOCKS5Answers: refusals that curl does not provoke, told whole although
// the client has sent more than was read.
func TestSOCKS5Answers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	p := start(t, l, 0, "socks5")
	p.waitFor("listening on")
	more := strings.Repeat("x", 100)
	for _, c := range []struct{ send, want string }{
		{"\x05\x01\x02" + more, "\x05\xff"}, // no method that will do
		{"\x05\x01\x00\x05\x02\x00\x01\x0a\x4d\x00\x01\x00\x50" + more, "\x05\x00\x05\x07\x00\x01" + strings.Repeat("\x00", 6)}, // BIND
		{"\x05\x01\x00\x05\x01\x00\x02" + more, "\x05\x00\x05\x08\x00\x01" + strings.Repeat("\x00", 6)},                         // no such type
		{"\x05\x01\x00\x05\x01\x00\x03\x03a:b\x00\x50" + more, "\x05\x00\x05\x04\x00\x01" + strings.Repeat("\x00", 6)},
		{"\x05\x01\x00\x05\x01\x00\x01\x0a\x4d\x00\x01\x00\x01" + more, "\x05\x00\x05\x05\x00\x01" + strings.Repeat("\x00", 6)},
	} {
		conn := dial(t, l, "127.0.0.1:1080")
		if _, err := io.WriteString(conn, c.send); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != c.want {
			t.Errorf("%q: %q, %v, want %q", c.send[:7], got, err, c.want)
		}
	}
	conn := dial(t, l, "127.0.0.1:1080")
	if got := talk(t, conn, []byte("GET / HTTP/1.1\r\n\r\n"), 0); len(got) != 0 {
		t.Error(got)
	}
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("not SOCKS: %q", got)
	}
}

// TestSOCKS5UDP sends datagrams by a client of ours: to both families, from
// the stack's addresses; what is not for the association is dropped.
func TestSOCKS5UDP(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	p := start(t, l, 0, "socks5")
	p.waitFor("listening on")
	c := dial(t, l, "127.0.0.1:1080")
	relay := ask(t, c, 3, netip.MustParseAddrPort("0.0.0.0:0"))
	if relay.Addr() != netip.MustParseAddr("127.0.0.1") || relay.Port() == 0 {
		t.Fatalf("the association is at %v", relay)
	}
	mine, others := udp(t, l, "127.0.0.1:0"), udp(t, l, "127.0.0.1:0")
	buf := make([]byte, 70000)
	for _, at := range []string{"10.77.0.1:0", "[fd77::1]:0"} {
		server := udp(t, l, at)
		to := server.LocalAddr().(*net.UDPAddr).AddrPort()
		for _, size := range []int{0, 1, 1400, 20000, 60000} {
			data := pattern(size)
			send(t, mine, socksAddr([]byte{0, 0, 1}, to), relay) // a fragment: dropped
			send(t, mine, []byte{0, 0, 0}, relay)                // too short
			send(t, mine, append(socksAddr([]byte{0, 0, 0}, to), data...), relay)
			n, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil || !bytes.Equal(buf[:n], data) || from.Addr() != netip.MustParseAddr(map[bool]string{true: "10.77.0.7", false: "fd77::7"}[to.Addr().Is4()]) {
				t.Fatalf("the server has %d bytes of %d from %v, %v", n, size, from, err)
			}
			// Nobody else sends in the client's name: the server hears "last"
			// and not this.
			send(t, others, append(socksAddr([]byte{0, 0, 0}, to), "intruder"...), relay)
			send(t, mine, append(socksAddr([]byte{0, 0, 0}, to), "last"...), relay)
			if n, _, err := server.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != "last" {
				t.Fatalf("the server has %q, %v", buf[:n], err)
			}
			send(t, server, data, from)
			head := socksAddr([]byte{0, 0, 0}, to)
			n, _, err = mine.ReadFromUDPAddrPort(buf)
			if err != nil || !bytes.Equal(buf[:n], append(head, data...)) {
				t.Fatalf("the client has %d bytes of %d, %v", n, size+len(head), err)
			}
		}
	}
	// A name that nobody knows costs the datagram and nothing else.
	name := fmt.Sprintf("\x00\x00\x00\x03%cname.invalid\x00\x07x", len("name.invalid"))
	send(t, mine, []byte(name), relay)
	p.waitFor("datagram to name.invalid:7: ")
	// The association ends with its connection.
	c.Close()
	eventually(t, "the end of the association", func() bool {
		if _, err := mine.WriteToUDPAddrPort([]byte{0}, relay); err != nil {
			return false
		}
		again, err := listenUDP(l, relay.String())
		if err == nil {
			again.Close()
		}
		return err == nil
	})
}

func listenUDP(l *lab.Lab, address string) (*net.UDPConn, error) {
	c, err := l.ListenPacketKernel("udp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), c.SetDeadline(time.Now().Add(patience))
}

// udp is a socket of the kernel's side.
func udp(t *testing.T, l *lab.Lab, address string) *net.UDPConn {
	t.Helper()
	c, err := listenUDP(l, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c *net.UDPConn, b []byte, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}
