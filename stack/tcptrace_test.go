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
