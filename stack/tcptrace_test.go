package stack_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/trace"
)

// lossy is two hosts that trace their connections, with an echo server on the
// second and a path between that loses.
func lossy(t *testing.T, loss float64, f stack.TraceTCP) *pair {
	t.Helper()
	p := newPairOf(t, 3, stack.Config{TCP: stack.TCPConfig{Trace: f, TraceSegments: true}},
		wire.Options{MTU: 1500, Delay: 10 * time.Millisecond, Loss: loss})
	l, err := p.b.BindTCP(addrPort("0.0.0.0:7"), false, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Listen(10)
	serveEcho(t, l)
	return p
}

// What happens to all connections is added up under names of their own, and is
// what the connections say of themselves.
func TestTCPMechanismCounters(t *testing.T) {
	p := lossy(t, 0.03, nil)
	data := pattern(1 << 20)
	if got := p.echoTransfer("10.77.0.2:7", data, time.Hour); !bytes.Equal(got, data) {
		t.Fatal("other bytes came back")
	}
	a := p.a.Counters()
	for _, name := range []string{"tcp.retrans-segs", "tcp.sack-recovery", "tcp.fast-retrans", "tcp.rack-lost", "tcp.ofo-queue", "tcp.dup-acks-in"} {
		if a[name] == 0 {
			t.Errorf("%s is 0: %v", name, a)
		}
	}
	if a["tcp.retrans-segs"] < a["tcp.fast-retrans"]+a["tcp.slow-start-retrans"] || a["tcp.sack-recovery"] > a["tcp.rack-lost"] {
		t.Errorf("%v", a)
	}
	for k := range tcp.NumCounters {
		if s := k.String(); s == "" || strings.ToLower(s) != s || strings.Contains(s, " ") {
			t.Errorf("counter %d is called %q", k, s)
		}
	}
}

// A SYN-ACK that is sent again by a record counts as well.
func TestSynAckCounters(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.listen(80, 10)
	h.send(syn(false, 5000, 80, 1000, 1460))
	h.n.RunFor(4 * time.Second)
	for _, name := range []string{"tcp.syn-retrans", "tcp.timeouts", "tcp.retrans-segs"} {
		if n := h.count(name); n != 2 {
			t.Errorf("%s is %d", name, n)
		}
	}
}

// A connection that is traced is the same connection.
func TestTraceChangesNothing(t *testing.T) {
	data := pattern(1 << 20)
	run := func(f stack.TraceTCP) string {
		p := lossy(t, 0.02, f)
		p.echoTransfer("10.77.0.2:7", data, time.Hour)
		return fmt.Sprint(p.net.Now(), p.a.Counters(), p.b.Counters())
	}
	var out bytes.Buffer
	text := trace.NewText(&out)
	with := run(func(local, remote netip.AddrPort) tcp.Trace {
		switch {
		case remote == addrPort("10.77.0.2:7") && local.Addr() == netip.MustParseAddr("10.77.0.1"):
			return text.Conn("c")
		case local != addrPort("10.77.0.2:7"):
			t.Errorf("asked for %v to %v", local, remote)
		}
		return nil
	})
	if without := run(nil); with != without {
		t.Errorf("with a trace\n%s\nwithout\n%s", with, without)
	}
	for _, s := range []string{"c state       CLOSED -> SYN-SENT", "c state       SYN-SENT -> ESTABLISHED", "c phase       open -> recovery because of rack",
		"because of rack", "c sent        S 0:0(0)", "c received    S. 0:0(0) ack 1", "-> CLOSED"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("no line with %q", s)
		}
	}
}

// A listener may come and go while the connection lives.
func TestSetTrace(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	p := h.connect(h.listen(80, 10), false, 5000)
	var seen []string
	p.conn.SetTrace(func(e *tcp.TraceEvent) { seen = append(seen, e.Kind.String()+" "+e.To) }, false)
	p.input(tcp.FlagACK|tcp.FlagFIN, "")
	p.conn.SetTrace(nil, false)
	p.conn.CloseWrite()
	got := strings.Join(seen, ",")
	if !strings.HasPrefix(got, "state ESTABLISHED,") || !strings.Contains(got, "state CLOSE-WAIT") || strings.Contains(got, "LAST-ACK") {
		t.Errorf("%v", seen)
	}
}

// traced is a host whose listener's connections are traced into out.
func traced(t *testing.T, l stack.Limits) (h *testHost, out *bytes.Buffer) {
	out = new(bytes.Buffer)
	text := trace.NewText(out)
	h = newTestHost(t, stack.Config{Limits: l, TCP: stack.TCPConfig{TraceSegments: true,
		Trace: func(local, remote netip.AddrPort) tcp.Trace { return text.Conn(fmt.Sprint(remote.Port())) }}}, stack.InterfaceConfig{}).meet()
	h.answers()
	return h, out
}

// wantTrace checks that the trace has lines that contain each of want, one after
// the other.
func wantTrace(t *testing.T, out *bytes.Buffer, want ...string) {
	t.Helper()
	lines := strings.Split(out.String(), "\n")
	k := 0
	for _, line := range lines {
		if k < len(want) && strings.Contains(line, want[k]) {
			k++
		}
	}
	if k < len(want) {
		t.Errorf("no line with %q after that with %q in\n%s", want[k], want[:k], out)
	}
}

// A connection of which nothing was kept but a cookie has a trace from the
// segment on that brought it.
func TestTraceOfSynCookie(t *testing.T) {
	h, out := traced(t, stack.Limits{SynQueue: 4})
	l := h.listen(80, 5)
	h.fill(4)
	s, _ := tcpOf(h.send(fullSYN(false, 40000, 1000)))
	if out.Len() != 0 {
		t.Errorf("a trace before there is a connection: %s", out)
	}
	ack := tcp.Segment{SrcPort: 40000, DstPort: 80, Seq: 1001, Ack: s.Seq + 1, Flags: tcp.FlagACK | tcp.FlagPSH, Window: 1000}
	ack.Options = tcp.Options{HasTS: true, TSVal: 9, TSEcr: s.Options.TSVal}
	h.send(segmentOf(false, ack, []byte("hello")))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("you are welcome"))
	conn.Abort()
	wantTrace(t, out, "40000 state       CLOSED -> SYN-RECEIVED", "40000 state       SYN-RECEIVED -> ESTABLISHED",
		"40000 received    P. 1:6(5) ack 1", "40000 sent        P. 1:16(15) ack 6", "40000 state       ESTABLISHED -> CLOSED", "40000 sent        R.")
}

// One that a SYN opened with its text begins with the answer to it.
func TestTraceOfFastOpen(t *testing.T) {
	h, out := traced(t, stack.Limits{})
	l := h.fastListen(5)
	cookie := h.cookieFor(false, 4000, false)
	if out.Len() != 0 {
		t.Errorf("a trace of the request for a cookie: %s", out)
	}
	s, _ := tcpOf(h.send(fastSYN(false, 4001, 1000, "hello", cookie, false)))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("so soon"))
	h.send(segment(false, 4001, 80, 1006, uint32(s.Seq)+8, tcp.FlagACK, nil))
	conn.Abort()
	wantTrace(t, out, "4001 state       CLOSED -> SYN-RECEIVED", "4001 sent        S. 0:0(0) ack 6", "4001 sent        P. 1:8(7) ack 6",
		"4001 state       SYN-RECEIVED -> ESTABLISHED", "4001 received    . 6:6(0) ack 8", "4001 state       ESTABLISHED -> CLOSED", "4001 sent        R.")
}
