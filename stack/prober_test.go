package stack_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/udp"
)

// heard keeps what a prober is told.
type heard struct {
	inputs []stack.ProbeInput
	expiry []mono.Time
	closed int
}

func (h *heard) ProbeInput(in stack.ProbeInput) {
	in.Network, in.Message = slices.Clone(in.Network), slices.Clone(in.Message)
	in.Quote.Header, in.Quote.Transport = slices.Clone(in.Quote.Header), slices.Clone(in.Quote.Transport)
	h.inputs = append(h.inputs, in)
}
func (h *heard) ProbeExpire(now mono.Time) { h.expiry = append(h.expiry, now) }
func (h *heard) ProbeClosed()              { h.closed++ }

const delay = 3 * time.Millisecond

// proberNet is a prober on 10.0.0.1 and fd00::1, 3 ms away from 10.0.0.2 and fd00::2.
func proberNet(t *testing.T) (n *simnet.Net, a, b *stack.Stack, p *stack.Prober, h *heard) {
	n = simnet.New(1)
	seg := n.Segment(wire.Options{MTU: 1500, Delay: delay})
	a, _ = n.Host(seg, stack.Config{}, nil, "10.0.0.1/24", "fd00::1/64")
	b, _ = n.Host(seg, stack.Config{}, nil, "10.0.0.2/24", "fd00::2/64")
	t.Cleanup(func() { n.RunFor(time.Minute); a.Close(); b.Close(); n.RunFor(time.Second) })
	h = new(heard)
	p, err := a.NewProber(h)
	if err != nil {
		t.Fatal(err)
	}
	return n, a, b, p, h
}

func route(t *testing.T, p *stack.Prober, dst string) stack.ProbeRoute {
	t.Helper()
	r, err := p.Route(netip.MustParseAddr(dst), netip.Addr{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// port reserves one.
func port(t *testing.T, p *stack.Prober, proto uint8) uint16 {
	t.Helper()
	n, err := p.ReservePort(proto, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func send(t *testing.T, p *stack.Prober, r *stack.ProbeRoute, h stack.ProbeHeader, message []byte) {
	t.Helper()
	if err := p.Send(r, &h, message); err != nil {
		t.Fatal(err)
	}
}

// echo is a request under id, for the route.
func echo(r *stack.ProbeRoute, id uint16, data string) []byte {
	b := append(make([]byte, 8), data...)
	binary.BigEndian.PutUint16(b[4:], id)
	if r.Dst().Is4() {
		b[0] = icmp.TypeEcho4
		icmp.SetChecksum4(b)
	} else {
		b[0] = icmp.TypeEcho6
		icmp.SetChecksum6(b, r.Src(), r.Dst())
	}
	return b
}

func probeSyn(r *stack.ProbeRoute, from, to uint16, seq uint32) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13] = 5<<4, 2
	binary.BigEndian.PutUint16(b[14:], 1000)
	binary.BigEndian.PutUint16(b[16:], csum.Checksum(b, csum.Pseudo(r.Src(), r.Dst(), 6, len(b))))
	return b
}

func TestProberAnswers(t *testing.T) {
	for _, dst := range []string{"10.0.0.2", "fd00::2"} {
		n, a, _, p, h := proberNet(t)
		r := route(t, p, dst)
		icmpProto := uint8(icmp.Proto4)
		if r.Dst().Is6() {
			icmpProto = icmp.Proto6
		}
		// The neighbour is found first, so that the times below are of one trip.
		id := port(t, p, icmpProto)
		send(t, p, &r, stack.ProbeHeader{Protocol: icmpProto}, echo(&r, id, "first"))
		n.RunFor(time.Second)
		h.inputs = nil
		round := func(what string, header stack.ProbeHeader, message []byte) stack.ProbeInput {
			t.Helper()
			sent := n.Now()
			send(t, p, &r, header, message)
			n.RunFor(time.Second)
			if len(h.inputs) != 1 {
				t.Fatalf("%s to %s: %d answers", what, dst, len(h.inputs))
			}
			in := h.inputs[0]
			h.inputs = nil
			if in.At.Sub(sent) != 2*delay || in.From != r.Dst() || in.To != r.Src() {
				t.Errorf("%s: %v to %v after %v", what, in.From, in.To, in.At.Sub(sent))
			}
			return in
		}
		if in := round("echo", stack.ProbeHeader{Protocol: icmpProto}, echo(&r, id, "hello")); in.Quoted || string(in.Message[8:]) != "hello" || in.TTL != 64 {
			t.Errorf("echo: %+v", in)
		}
		from := port(t, p, 17)
		b := make([]byte, udp.HeaderLen+5)
		udp.Put(b, from, 4444, 5)
		udp.SetChecksum(b, r.Src(), r.Dst())
		header := stack.ProbeHeader{Protocol: 17, TTL: 9, TOS: 0x28, DF: true, ID: 0x1234, FlowLabel: 0xabcde}
		in := round("UDP", header, b)
		q := in.Quote.Header
		if !in.Quoted || in.Quote.Src != r.Src() || string(in.Quote.Transport[:8]) != string(b[:8]) {
			t.Errorf("UDP: %+v", in)
		}
		if r.Dst().Is4() {
			if q[1] != 0x28 || q[8] != 9 || binary.BigEndian.Uint16(q[4:]) != 0x1234 || q[6] != 0x40 {
				t.Errorf("sent with header % x", q)
			}
		} else if binary.BigEndian.Uint32(q) != 6<<28|0x28<<20|0xabcde || q[7] != 9 {
			t.Errorf("sent with header % x", q)
		}
		from = port(t, p, 6)
		if in := round("TCP", stack.ProbeHeader{Protocol: 6}, probeSyn(&r, from, 81, 7)); in.Message[13] != 0x14 || binary.BigEndian.Uint32(in.Message[8:]) != 8 {
			t.Errorf("TCP: % x", in.Message)
		}
		from = port(t, p, 132)
		b = make([]byte, 12)
		binary.BigEndian.PutUint16(b, from)
		if in := round("SCTP", stack.ProbeHeader{Protocol: 132}, b); !in.Quoted || in.Quote.Protocol != 132 {
			t.Errorf("SCTP: %+v", in)
		}
		c := a.Counters()
		if c["probe.output"] != 5 || c["probe.input"] != 3 || c["probe.error-in"] != 2 {
			t.Errorf("counters: %v", c)
		}
	}
}

// TestProberIsAskedLast: what no prober has a port for is answered as ever.
func TestProberIsAskedLast(t *testing.T) {
	n, a, b, p, h := proberNet(t)
	h2 := new(heard)
	p2, err := b.NewProber(h2)
	if err != nil {
		t.Fatal(err)
	}
	r := route(t, p2, "10.0.0.1")
	mine, theirs := port(t, p2, 6), port(t, p, 6)
	send(t, p2, &r, stack.ProbeHeader{Protocol: 6}, probeSyn(&r, mine, theirs, 1)) // to the prober's
	send(t, p2, &r, stack.ProbeHeader{Protocol: 6}, probeSyn(&r, mine, theirs+1, 1))
	n.RunFor(time.Second)
	if len(h.inputs) != 1 || len(h2.inputs) != 1 || h2.inputs[0].Message[13] != 0x14 || binary.BigEndian.Uint16(h2.inputs[0].Message) != theirs+1 {
		t.Errorf("%d and %d", len(h.inputs), len(h2.inputs))
	}
	p.Close()
	send(t, p2, &r, stack.ProbeHeader{Protocol: 6}, probeSyn(&r, mine, theirs, 1))
	n.RunFor(time.Second)
	if len(h.inputs) != 1 || len(h2.inputs) != 2 {
		t.Errorf("after Close: %d and %d", len(h.inputs), len(h2.inputs))
	}
	if got := a.Counters()["tcp.drop.no-connection"]; got != 2 {
		t.Errorf("refused %d segments", got)
	}
}

// TestProberPorts: nobody gets a port that another has.
func TestProberPorts(t *testing.T) {
	_, a, _, p, _ := proberNet(t)
	other, err := a.NewProber(new(heard))
	if err != nil {
		t.Fatal(err)
	}
	local := netip.MustParseAddrPort("10.0.0.1:0")
	for _, c := range []struct {
		name  string
		proto uint8
		bind  func(uint16) (func(), error)
	}{
		{"UDP", 17, func(port uint16) (func(), error) {
			d, _ := a.NewUDP(false)
			return d.Close, d.Bind(netip.AddrPortFrom(local.Addr(), port))
		}},
		{"echo", 1, func(port uint16) (func(), error) {
			d, _ := a.NewPing()
			return d.Close, d.Bind(netip.AddrPortFrom(local.Addr(), port))
		}},
		{"listener", 6, func(port uint16) (func(), error) {
			l, err := a.BindTCP(netip.AddrPortFrom(local.Addr(), port), false, true)
			if err != nil {
				return nil, err
			}
			return l.Close, nil
		}},
		{"connection", 6, func(port uint16) (func(), error) {
			c, err := a.DialTCP(netip.AddrPortFrom(local.Addr(), port), netip.MustParseAddrPort("10.0.0.2:80"))
			if err != nil {
				return nil, err
			}
			return c.Abort, nil
		}},
		{"SCTP", 132, func(port uint16) (func(), error) {
			_, err := other.ReservePort(132, port)
			return func() { other.ReleasePort(132, port) }, err
		}},
	} {
		free, err := p.ReservePort(c.proto, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.bind(free); err != syscall.EADDRINUSE && err != syscall.EADDRNOTAVAIL {
			t.Errorf("%s bound a prober's port: %v", c.name, err)
		}
		if _, err := other.ReservePort(c.proto, free); err != syscall.EADDRINUSE {
			t.Errorf("%s: a second prober: %v", c.name, err)
		}
		p.ReleasePort(c.proto, free)
		unbind, err := c.bind(free)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, err := p.ReservePort(c.proto, free); err != syscall.EADDRINUSE {
			t.Errorf("%s: a prober took the port: %v", c.name, err)
		}
		unbind()
		if _, err := p.ReservePort(c.proto, free); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := p.ReservePort(99, 0); err != syscall.EPROTONOSUPPORT {
		t.Error(err)
	}
	if entries, _ := a.Table(); entries != 0 {
		t.Errorf("%d entries left in the table of connections", entries)
	}
}

func TestProberSizes(t *testing.T) {
	n, _, _, p, h := proberNet(t)
	id := port(t, p, 1)
	r := route(t, p, "10.0.0.2")
	data := string(make([]byte, 3000))
	send(t, p, &r, stack.ProbeHeader{Protocol: 1, ID: 5}, echo(&r, id, data)) // in fragments
	n.RunFor(time.Second)
	if len(h.inputs) != 1 || len(h.inputs[0].Message) != 3008 {
		t.Fatalf("%d answers", len(h.inputs))
	}
	if err := p.Send(&r, &stack.ProbeHeader{Protocol: 1, DF: true}, echo(&r, id, data[:1473])); err != syscall.EMSGSIZE {
		t.Errorf("1501 bytes with DF: %v", err)
	}
	if err := p.Send(&r, &stack.ProbeHeader{Protocol: 1}, make([]byte, 65516)); err != syscall.EMSGSIZE {
		t.Errorf("65536 bytes: %v", err)
	}
	// What is known of the path goes for packets that may be in fragments only.
	p.LearnPathMTU(r.Dst(), 1300)
	if r = route(t, p, "10.0.0.2"); r.MTU() != 1300 || r.LinkMTU() != 1500 {
		t.Errorf("MTU %d, the link's %d", r.MTU(), r.LinkMTU())
	}
	send(t, p, &r, stack.ProbeHeader{Protocol: 1, DF: true}, echo(&r, id, data[:1472]))
	n.RunFor(time.Second)
	if len(h.inputs) != 2 {
		t.Error("1500 bytes with DF did not get through")
	}
}

// TestProberNoNeighbour: what did not leave comes back.
func TestProberNoNeighbour(t *testing.T) {
	for _, dst := range []string{"10.0.0.9", "fd00::9"} {
		n, _, _, p, h := proberNet(t)
		r := route(t, p, dst)
		from := port(t, p, 6)
		sent := probeSyn(&r, from, 80, 99)
		send(t, p, &r, stack.ProbeHeader{Protocol: 6}, sent)
		n.RunFor(10 * time.Second)
		if len(h.inputs) != 1 || h.inputs[0].Err != syscall.EHOSTUNREACH || string(h.inputs[0].Quote.Transport) != string(sent) {
			t.Errorf("%s: %+v", dst, h.inputs)
		}
	}
}

func TestProberTimerAndClose(t *testing.T) {
	n, a, _, p, h := proberNet(t)
	at := n.Now().Add(time.Second)
	p.Arm(at)
	n.RunFor(2 * time.Second)
	if len(h.expiry) != 1 || h.expiry[0] != at {
		t.Errorf("expired at %v", h.expiry)
	}
	a.Close()
	if h.closed != 1 {
		t.Errorf("told %d times that the stack is closed", h.closed)
	}
	p.Close()
	if _, err := a.NewProber(h); err != syscall.ENETDOWN {
		t.Error(err)
	}
}

// TestProberAllocs: a probe that is sent is no garbage of the stack's.
func TestProberAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	n, _, _, p, _ := proberNet(t)
	r := route(t, p, "10.0.0.2")
	id := port(t, p, 1)
	request := echo(&r, id, "hello")
	header := stack.ProbeHeader{Protocol: 1}
	send(t, p, &r, header, request)
	n.RunFor(time.Second)
	if got := testing.AllocsPerRun(100, func() { send(t, p, &r, header, request) }); got > 2 {
		t.Errorf("%v allocations to send", got) // of the simulated wire
	}
}

// TestProberBesideRaw: a raw socket of the same protocol takes nothing from it.
func TestProberBesideRaw(t *testing.T) {
	n, a, _, p, h := proberNet(t)
	for _, proto := range []uint8{1, 17, 132} {
		d, err := a.NewRaw(proto, false)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		r := route(t, p, "10.0.0.2")
		from := port(t, p, proto)
		b := make([]byte, 12)
		binary.BigEndian.PutUint16(b, from)
		switch proto {
		case 1:
			b = echo(&r, from, "hello")
		case 17:
			udp.Put(b, from, 4444, 4)
			udp.SetChecksum(b, r.Src(), r.Dst())
		}
		h.inputs = nil
		send(t, p, &r, stack.ProbeHeader{Protocol: proto}, b)
		n.RunFor(time.Second)
		if len(h.inputs) != 1 || h.inputs[0].Quoted != (proto != 1) {
			t.Errorf("protocol %d: %d answers", proto, len(h.inputs))
		}
	}
}

// polledDevice has frames to be asked for.
type polledDevice struct {
	injector
	waiting [][]byte
	asked   func() // in the middle of Poll, if set
}

func (d *polledDevice) Poll(_, most int, deliver func(*pkt.Buf)) {
	if d.asked != nil {
		d.asked()
	}
	for n := 0; n < most && len(d.waiting) > 0; n++ {
		p := pkt.From(d.waiting[0])
		d.waiting = d.waiting[1:]
		deliver(p)
	}
}

// TestProberPoll: frames are taken from devices that can be asked, a batch at a
// time, and not by two at once.
func TestProberPoll(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	d := &polledDevice{injector: injector{mtu: 1500}}
	mac := ether.Addr{2, 0, 0, 0, 1, 7}
	if _, err := h.s.AddInterface(stack.InterfaceConfig{Name: "eth1", Device: d, MAC: mac, NoDAD: true}); err != nil {
		t.Fatal(err)
	}
	p, err := h.s.NewProber(new(heard))
	if err != nil {
		t.Fatal(err)
	}
	const n = ether.MaxBatch + 3
	for i := range n {
		d.waiting = append(d.waiting, withMAC(mac, echo4(1, uint16(i), nil, nil)))
	}
	d.asked = p.Poll // it meets itself
	p.Poll()
	if len(d.waiting) != 3 {
		t.Errorf("%d frames are left", len(d.waiting))
	}
	p.Poll()
	h.n.RunFor(0)
	if len(d.waiting) != 0 {
		t.Errorf("%d frames are left", len(d.waiting))
	}
	if got := len(h.d.take()); got != n {
		t.Errorf("%d echo requests were answered, of %d", got, n)
	}
	p.Close()
}
