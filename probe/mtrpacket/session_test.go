package mtrpacket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// world is a session in virtual time, and two routers of 1 ms to a far host.
type world struct {
	*simnet.Net
	near    *stack.Stack
	routers [2]*simnet.Router
	x       *Session
	replies []string
}

func newWorld(t *testing.T, o Options) *world {
	w := &world{Net: simnet.New(3)}
	left, right := w.Segment(wire.Options{MTU: 1500}), w.Segment(wire.Options{MTU: 1500})
	near, _ := w.Host(left, stack.Config{}, nil, "10.0.0.1/24", "fd00::1/64")
	w.near = near
	far, _ := w.Host(right, stack.Config{}, nil, "8.8.8.8/24", "2001:db8:8::8/64")
	a, b := w.Router("10.1.0.1", "fd01::1"), w.Router("10.1.0.2", "fd01::2")
	w.routers = [2]*simnet.Router{a, b}
	gates := []*stack.Stack{a.Attach(left, "10.0.0.254/24", "fd00::fe/64"), b.Attach(right, "8.8.8.254/24", "2001:db8:8::fe/64")}
	a.Connect(b, time.Millisecond, 1500)
	a.Route("0.0.0.0/0", b)
	a.Route("::/0", b)
	b.Route("10.0.0.0/24", a)
	b.Route("fd00::/64", a)
	for s, gw := range map[*stack.Stack][2]string{near: {"10.0.0.254", "fd00::fe"}, far: {"8.8.8.254", "2001:db8:8::fe"}} {
		for i, dst := range []string{"0.0.0.0/0", "::/0"} {
			if err := s.AddRoute(stack.Route{Dst: netip.MustParsePrefix(dst), Gateway: netip.MustParseAddr(gw[i])}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var err error
	if w.x, err = New(near, o, func(b []byte) { w.replies = append(w.replies, string(b)) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.x.Close()
		for _, s := range append(gates, near, far) {
			s.Close()
		}
		w.RunFor(time.Second)
	})
	return w
}

// say writes commands and returns the replies once every probe has one.
func (w *world) say(t *testing.T, commands ...string) string {
	t.Helper()
	w.replies = nil
	_, _ = w.x.Write([]byte(strings.Join(commands, "\n") + "\n")) // never fails
	if !w.Until(time.Minute, func() bool { return w.x.Pending() == 0 }) {
		t.Fatalf("%d probes without a reply after a minute", w.x.Pending())
	}
	return strings.Join(w.replies, "")
}

func TestSession(t *testing.T) {
	w := newWorld(t, Options{})
	w.say(t, "1 send-probe ip-4 8.8.8.8", "1 send-probe ip-6 2001:db8:8::8") // neighbours are found
	const hop1, hop2 = "ttl-expired ip-4 10.1.0.1 round-trip-time 0\n", "ttl-expired ip-4 10.1.0.2 round-trip-time 2000\n"
	const reached, reached6 = "reply ip-4 8.8.8.8 round-trip-time 2000\n", "reply ip-6 2001:db8:8::8 round-trip-time 2000\n"
	for _, c := range [][2]string{
		{"13 argle-bargle", "13 unknown-command\n"},
		{"malformed", "0 command-parse-error\n"},
		{"", "0 command-parse-error\n"},
		{"5 check-support", "5 invalid-argument\n"},
		{"5 check-support feature version feature sctp", "5 feature-support support 0.95\n"},
		{"5 check-support feature sctp\r", "5 feature-support support ok\n"},
		{"5 check-support feature mark", "5 feature-support support no\n"},
		{"22 send-probe", "22 invalid-argument reason ip-version-not-supported\n"},
		{"23 send-probe ip-4 str-value", "23 invalid-argument\n"},
		{strings.Repeat("x", 4095) + "1 y", "0 command-buffer-overflow\n1 unknown-command\n"},
		{"1 send-probe ip-4 8.8.8.8", "1 " + reached},
		{"1 send-probe ip-6 2001:db8:8::8 ttl 64", "1 " + reached6},
		{"1 send-probe ip-6 2001:db8:8::8 ttl 2", "1 ttl-expired ip-6 fd01::2 round-trip-time 2000\n"},
		{"1 send-probe ip-4 127.0.0.1", "1 reply ip-4 127.0.0.1 round-trip-time 0\n"},
		{"1 send-probe ip-6 ::1 protocol sctp port 164", "1 reply ip-6 ::1 round-trip-time 0\n"},
		{"1 send-probe ip-4 8.8.8.8 size 4000", "1 " + reached},
		{"1 send-probe ip-4 127.255.255.255 timeout 60", "1 invalid-argument\n"},
		{"1 send-probe ip-4 10.0.0.255 local-ip-4 10.0.0.1", "1 permission-denied\n"},
		{"1 send-probe ip-4 255.255.255.255 protocol udp", "1 invalid-argument\n"},
		{"1 send-probe ip-4 8.8.8.8 timeout 0", "1 no-reply\n"},
		{"1 send-probe ip-4 8.8.8.8 ttl 1\n2 send-probe ip-4 8.8.8.8 ttl 2", "1 " + hop1 + "2 " + hop2},
		{"2 send-probe ip-4 8.8.8.8 ttl 2\n1 send-probe ip-4 8.8.8.8 ttl 1", "1 " + hop1 + "2 " + hop2},
		{"1 send-probe ip-4 8.8.8.8 local-ip-4 10.0.0.1", "1 " + reached},
		{"1 send-probe ip-4 8.8.8.8 local-ip-4 10.0.0.2", "1 address-not-available\n"},
		{"1 send-probe ip-4 8.8.8.8 local-device nosuch", "1 unexpected-error errno 19\n"},
	} {
		if got := w.say(t, c[0]); got != c[1] {
			t.Errorf("%s\n%q, want\n%q", c[0], got, c[1])
		}
	}
	for _, proto := range []string{"udp", "udp port 990", "udp local-port 1991", "udp port 990 local-port 1991", "tcp", "tcp port 164", "sctp", "sctp port 9"} {
		if got := w.say(t, "1 send-probe ip-4 8.8.8.8 protocol "+proto, "2 send-probe ttl 1 ip-4 8.8.8.8 protocol "+proto, "3 send-probe ip-6 2001:db8:8::8 protocol "+proto); got != "2 "+hop1+"1 "+reached+"3 "+reached6 {
			t.Errorf("%s: %s", proto, got)
		}
	}
	// Its neighbour does not answer, so it answers itself.
	if got := w.say(t, "1 send-probe ip-4 10.0.0.99"); !strings.HasPrefix(got, "1 no-route-host ip-4 10.0.0.1 round-trip-time ") {
		t.Error(got)
	}
	w.routers[1].Refuse = true
	w.routers[1].Silent = false
	if got := w.say(t, "1 send-probe ip-4 9.9.9.9"); !strings.HasPrefix(got, "1 no-route-host ip-4 10.1.0.2 round-trip-time 2000") {
		t.Error(got)
	}
	object := []byte{0, 12, 1, 1}
	for i := range 2 {
		object = binary.BigEndian.AppendUint32(object, uint32(100+i)<<12|5<<9|uint32(i)<<8|7)
	}
	w.routers[0].Objects, w.routers[0].Length = object, 160
	if got := w.say(t, "1 send-probe ip-4 8.8.8.8 ttl 1 size 200"); got != "1 ttl-expired ip-4 10.1.0.1 round-trip-time 0 mpls 100,5,0,7,101,5,1,7\n" {
		t.Error(got)
	}
}

// TestWire: what a router sees of the packets.
func TestWire(t *testing.T) {
	w := newWorld(t, Options{})
	var seen [][]byte
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if !back && b[0]>>4 == 4 {
			seen = append(seen, bytes.Clone(b))
		}
		return b
	}
	u16 := binary.BigEndian.Uint16
	w.say(t, "1 send-probe ip-4 8.8.8.8 size 512 bit-pattern 44 tos 62", "2 send-probe ip-4 8.8.8.8 protocol udp", "3 send-probe ip-4 8.8.8.8 protocol udp port 53",
		"4 send-probe ip-4 8.8.8.8 protocol tcp", "5 send-probe ip-4 8.8.8.8 protocol sctp port 7")
	if len(seen) < 5 {
		t.Fatalf("%d packets", len(seen))
	}
	for i, c := range []struct {
		at   int
		want uint16
	}{{26, 33000}, {22, 33001}, {20, 33002}, {20, 33003}, {20, 33004}} {
		if got := u16(seen[i][c.at:]); got != c.want {
			t.Errorf("sequence number of packet %d: %d, want %d", i, got, c.want)
		}
	}
	if e := seen[0]; len(e) != 512 || u16(e[2:]) != 512 || e[1] != 62 || e[8] != 254 || !bytes.Equal(e[28:], bytes.Repeat([]byte{44}, 484)) {
		t.Errorf("%x", e)
	}
	if len(seen[1]) != 64 || u16(seen[2][22:]) != 53 || u16(seen[3][22:]) != 80 || u16(seen[4][22:]) != 7 {
		t.Errorf("%x", seen[1:])
	}
	// After the last comes the first.
	w.x.next = 65535
	seen = nil
	w.say(t, "1 send-probe ip-4 8.8.8.8", "1 send-probe ip-4 8.8.8.8")
	if len(seen) != 2 || u16(seen[0][26:]) != 65535 || u16(seen[1][26:]) != 33000 {
		t.Errorf("%x", seen)
	}
}

// TestExhausted: more than the limit are refused, and only as long as the others
// are under way; a sequence number in use is passed over.
func TestExhausted(t *testing.T) {
	w := newWorld(t, Options{InFlight: 3})
	w.routers[0].Mangle = func([]byte, bool) []byte { return nil }
	one := "1 send-probe ip-4 8.8.8.8 timeout 1"
	if got := w.say(t, one, one, one, one); got != "1 probes-exhausted\n1 no-reply\n1 no-reply\n1 no-reply\n" {
		t.Error(got)
	}
	if got := w.say(t, one); got != "1 no-reply\n" {
		t.Error(got)
	}
	_, _ = w.x.Write([]byte(one + "\n"))
	w.x.next--
	if got := w.say(t, one); got != "1 no-reply\n1 no-reply\n" {
		t.Error(got)
	}
}

// TestLocalIP: the host's addresses stand for the stack's.
func TestLocalIP(t *testing.T) {
	asked := 0
	w := newWorld(t, Options{Host: func(a netip.Addr) bool { asked++; return a == netip.MustParseAddr("192.0.2.1") }})
	w.say(t, "1 send-probe ip-4 8.8.8.8")
	for range 3 {
		if got := w.say(t, "1 send-probe ip-4 8.8.8.8 local-ip-4 192.0.2.1"); got != "1 reply ip-4 8.8.8.8 round-trip-time 2000\n" {
			t.Error(got)
		}
	}
	if asked != 1 {
		t.Errorf("the host was asked %d times", asked)
	}
	if got := w.say(t, "1 send-probe ip-4 8.8.8.8 local-ip-4 192.0.2.2"); got != "1 address-not-available\n" {
		t.Error(got)
	}
}

// chunks is a writer that keeps its writes apart.
type chunks struct {
	list []string
	err  error
}

func (c *chunks) Write(b []byte) (int, error) {
	c.list = append(c.list, string(b))
	return len(b), c.err
}

// TestServe: with real time and goroutines, but without a network.
func TestServe(t *testing.T) {
	s := stack.New(stack.Config{})
	defer s.Close()
	var in strings.Builder
	const n = 3000
	for i := range n {
		fmt.Fprintf(&in, "%d send-probe ip-4 127.0.0.1\n%d check-support feature icmp\n", i, -i)
	}
	var c chunks
	if err := Serve(s, strings.NewReader(in.String()+"unfinished"), &c, Options{InFlight: 4}); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, w := range c.list {
		if len(w) > pipeBuf || !strings.HasSuffix(w, "\n") {
			t.Fatalf("a write of %d bytes that ends with %q", len(w), w[max(0, len(w)-9):])
		}
		for l := range strings.Lines(w) {
			f := strings.Fields(l)
			seen[f[1]]++
		}
	}
	if seen["feature-support"] != n || seen["reply"]+seen["probes-exhausted"] != n || seen["reply"] == 0 || len(seen) > 3 {
		t.Error(seen)
	}
	// The replies to commands that came together leave together.
	c.list = nil
	if err := Serve(s, strings.NewReader(strings.Repeat("7 check-support feature icmp\n", 100)), &c, Options{}); err != nil || len(c.list) != 1 || strings.Count(c.list[0], "\n") != 100 {
		t.Errorf("%v, %q", err, c.list)
	}
	if err := Serve(s, strings.NewReader("1 x\n"), &chunks{err: io.ErrClosedPipe}, Options{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	pr, pw := io.Pipe()
	pw.CloseWithError(io.ErrUnexpectedEOF)
	if err := Serve(s, pr, &c, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}
