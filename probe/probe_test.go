package probe_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

func eachFamily(t *testing.T, f func(t *testing.T, dst netip.Addr, router func(i int) netip.Addr)) {
	t.Run("IPv4", func(t *testing.T) {
		f(t, addr(far4), func(i int) netip.Addr { return addr(fmt.Sprintf("10.1.0.%d", i)) })
	})
	t.Run("IPv6", func(t *testing.T) {
		f(t, addr(far6), func(i int) netip.Addr { return addr(fmt.Sprintf("fd01::%d", i)) })
	})
}

// listen accepts connections on a port of the far host and answers datagrams to it.
func (w *world) listen(port uint16) *stack.TCPListener {
	l, err := w.far.BindTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), port), false, false)
	if err == nil {
		err = l.Listen(10)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := w.far.NewUDP(true)
	if err == nil {
		err = d.Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	d.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn, F: func(stack.Ready) {
		b := make([]byte, 2000)
		if _, _, from, err := d.RecvFrom(b); err == nil {
			d.SendTo([]byte("answer"), from)
		}
	}})
	w.t.Cleanup(func() { l.Close(); d.Close() })
	return l
}

func TestKinds(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		w := newWorld(t, 3, probe.Options{})
		l := w.listen(80)
		for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
			for ttl := uint8(1); ttl <= 3; ttl++ {
				r := w.ask(probe.Request{Dst: dst, Proto: proto, TTL: ttl})
				if r.Kind != probe.TTLExpired || r.From != router(int(ttl)) || r.RTT != 2*time.Duration(ttl-1)*line {
					t.Errorf("%v, TTL %d: %v from %v after %v (%v)", proto, ttl, r.Kind, r.From, r.RTT, r.Err)
				}
				if r.Quoted == nil || len(r.Quoted.Changes) > 0 || r.Quoted.TTL != 1 {
					t.Errorf("%v, TTL %d: quoted %+v", proto, ttl, r.Quoted)
				}
			}
			r := w.ask(probe.Request{Dst: dst, Proto: proto})
			if r.Kind != probe.Reply || r.From != dst || r.RTT != 4*line || !r.Success() || r.CorruptAt != -1 || r.ReplyTTL != 61 {
				t.Errorf("%v: %v from %v after %v, TTL %d", proto, r.Kind, r.From, r.RTT, r.ReplyTTL)
			}
			if proto == probe.TCP && (r.TCP == nil || !r.TCP.SynAck || r.TCP.MSS == 0 || !r.TCP.SACK || !r.TCP.Timestamps || r.TCP.WindowScale < 0) {
				t.Errorf("SYN-ACK: %+v", r.TCP)
			}
		}
		r := w.ask(probe.Request{Dst: dst, Proto: probe.TCP, DstPort: 81})
		if r.Kind != probe.Reply || r.TCP == nil || !r.TCP.Reset || r.RTT != 4*line {
			t.Errorf("closed port: %+v", r)
		}
		if r := w.ask(probe.Request{Dst: dst, Proto: probe.UDP, DstPort: 80}); r.Kind != probe.Reply || string(r.Data) != "answer" || r.ICMP {
			t.Errorf("UDP to an open port: %+v", r)
		}
		w.RunFor(time.Second)
		if _, err := l.Accept(); err == nil {
			t.Error("a probe was accepted: no reset came in time")
		}
		if r := w.ask(probe.Request{Dst: dst, Proto: probe.TCP, Connect: true}); r.Kind != probe.Reply {
			t.Errorf("connect: %v", r.Kind)
		}
		w.RunFor(time.Second)
		if c := w.far.Counters(); c["tcp.passive-open"] != 2 {
			t.Errorf("%d connections opened", c["tcp.passive-open"])
		}
		// A host that is not there: nobody answers, and its router says nothing.
		gone := addr("8.8.8.9")
		if dst.Is6() {
			gone = addr("2001:db8:8::9")
		}
		start := w.Now()
		if r := w.ask(probe.Request{Dst: gone, Timeout: 3 * time.Second}); r.Kind != probe.NoReply || w.Now().Sub(start) != 3*time.Second {
			t.Errorf("nobody: %v after %v", r.Kind, w.Now().Sub(start))
		}
		// A neighbour that is not there.
		gone = addr("10.0.0.77")
		if dst.Is6() {
			gone = addr("fd00::77")
		}
		if r := w.ask(probe.Request{Dst: gone}); r.Kind != probe.NoRouteHost || r.Err == nil || w.near.InterfaceOf(r.From) == nil {
			t.Errorf("no neighbour: %v from %v: %v", r.Kind, r.From, r.Err)
		}
		if n := w.p.InFlight(); n != 0 {
			t.Errorf("%d probes are still in the table", n)
		}
	})
}

func TestNothingIsSent(t *testing.T) {
	w := newWorld(t, 1, probe.Options{InFlight: 3})
	dst := addr(far4)
	for _, c := range []struct {
		want probe.Kind
		q    probe.Request
	}{
		{probe.InvalidArgument, probe.Request{}},
		{probe.InvalidArgument, probe.Request{Dst: dst, Src: addr("fd00::1")}},
		{probe.InvalidArgument, probe.Request{Dst: dst, Proto: 9}},
		{probe.InvalidArgument, probe.Request{Dst: dst, Device: "eth9"}},
		{probe.AddressNotAvailable, probe.Request{Dst: dst, Src: addr("10.0.0.2")}},
		{probe.MessageSize, probe.Request{Dst: dst, Size: 1501, DF: true}},
		{probe.MessageSize, probe.Request{Dst: dst, Size: 70000}},
	} {
		if r := w.ask(c.q); r.Kind != c.want || r.Err == nil {
			t.Errorf("%+v: %v, %v", c.q, r.Kind, r.Err)
		}
	}
	same := probe.Request{Dst: addr("8.8.8.9"), EchoID: 77, EchoSeq: 1}
	for i, want := range []probe.Kind{probe.NoReply, probe.AddressInUse} {
		if i == 0 {
			w.p.Send(same, func(r probe.Result) {
				if r.Kind != want {
					t.Errorf("first: %v", r.Kind)
				}
			})
		} else if r := w.ask(same); r.Kind != want {
			t.Errorf("a second of the same identity: %v", r.Kind)
		}
	}
	d, err := w.near.NewUDP(false)
	if err == nil {
		err = d.Bind(netip.MustParseAddrPort("10.0.0.1:5353"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if r := w.ask(probe.Request{Dst: dst, Proto: probe.UDP, SrcPort: 5353}); r.Kind != probe.AddressInUse {
		t.Errorf("the port of a socket: %v", r.Kind)
	}
	for range 2 {
		w.p.Send(probe.Request{Dst: addr("8.8.8.9")}, func(probe.Result) {})
	}
	if r := w.ask(probe.Request{Dst: dst}); r.Kind != probe.ProbesExhausted {
		t.Errorf("one too many: %v", r.Kind)
	}
	w.RunFor(time.Minute)
}

// TestSize: the size is that of the packet, as the first router quotes it.
func TestSize(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		w := newWorld(t, 2, probe.Options{})
		for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
			least := map[probe.Proto]int{probe.ICMP: 28, probe.UDP: 28, probe.TCP: 60, probe.SCTP: 52}[proto]
			if dst.Is6() {
				least += 20
			}
			for _, c := range [][2]int{{1, least}, {64, max(64, least)}, {100, 100}, {512, 512}} {
				r := w.ask(probe.Request{Dst: dst, Proto: proto, Size: c[0], TTL: 1, Pattern: 0x5a})
				if r.Quoted == nil || r.Quoted.Bytes != c[1] {
					t.Errorf("%v of %d bytes: %+v", proto, c[0], r.Quoted)
				}
			}
		}
		if r := w.ask(probe.Request{Dst: dst, Size: 1500, DF: true}); r.Kind != probe.Reply {
			t.Errorf("1500 bytes: %v", r.Kind)
		}
	})
}

// TestThousands: 10000 SYNs at once, each with a port of its own, and as many
// echo requests of one identifier.
func TestThousands(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	const each = 10000
	got := map[probe.Kind]int{}
	slow := 0
	for range each {
		for _, proto := range []probe.Proto{probe.TCP, probe.ICMP} {
			w.p.Send(probe.Request{Dst: addr(far4), Proto: proto, DstPort: 81, Timeout: 3 * time.Second}, func(r probe.Result) {
				got[r.Kind]++
				if r.RTT != 2*line {
					slow++
				}
			})
		}
	}
	if w.p.InFlight() != 2*each {
		t.Errorf("%d under way", w.p.InFlight())
	}
	w.RunFor(4 * time.Second)
	if got[probe.Reply] != 2*each || slow != 0 || w.p.InFlight() != 0 {
		t.Errorf("%v, %d with another round trip time", got, slow)
	}
}

// TestLostSYN: a SYN that is lost is a loss. Sent again, the round trip is of the
// transmission that was answered.
func TestLostSYN(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	w.listen(80)
	lose := 0
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if lose > 0 && !back {
			lose--
			return nil
		}
		return b
	}
	lose = 1
	if r := w.ask(probe.Request{Dst: addr(far4), Proto: probe.TCP, Timeout: 4 * time.Second}); r.Kind != probe.NoReply || r.Transmissions != 1 {
		t.Errorf("one SYN: %v of %d", r.Kind, r.Transmissions)
	}
	lose = 2
	r := w.ask(probe.Request{Dst: addr(far4), Proto: probe.TCP, Retries: 5})
	if r.Kind != probe.Reply || r.RTT != 2*line || r.Transmissions != 3 || r.Answered != 3 || !slices.Equal(r.Sent, []time.Duration{0, time.Second, 3 * time.Second}) {
		t.Errorf("%v after %v, %d of %d", r.Kind, r.RTT, r.Answered, r.Transmissions)
	}
	// The first is late, not lost: its timestamp says so.
	first := true
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if back || !first {
			return b
		}
		first = false
		w.After(1500*time.Millisecond, func() { w.routers[1].Mangle = nil; w.routers[0].Inject(b) })
		return nil
	}
	w.routers[1].Mangle = func(b []byte, back bool) []byte { return nil } // the second is lost
	r = w.ask(probe.Request{Dst: addr(far4), Proto: probe.TCP, Retries: 5})
	if r.Kind != probe.Reply || r.Answered != 1 || r.Transmissions != 2 || r.RTT != 1500*time.Millisecond+2*line {
		t.Errorf("%v after %v, %d of %d", r.Kind, r.RTT, r.Answered, r.Transmissions)
	}
}

// TestWatch: what comes after the result is told apart.
func TestWatch(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	again := []time.Duration{0, 3 * time.Second}
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if !back {
			return b
		}
		for _, d := range again {
			w.After(d, func() { w.routers[0].Inject(b) })
		}
		return nil
	}
	var list []probe.Result
	q := probe.Request{Dst: addr(far4), Timeout: time.Second, Watch: 10 * time.Second}
	w.p.Send(q, func(r probe.Result) { list = append(list, r) })
	w.RunFor(time.Minute)
	if len(list) != 2 || list[0].Kind != probe.Reply || list[0].Duplicate || list[1].Kind != probe.Reply || !list[1].Duplicate {
		t.Errorf("%+v", list)
	}
	list, again = nil, []time.Duration{2 * time.Second}
	w.p.Send(q, func(r probe.Result) { list = append(list, r) })
	w.RunFor(time.Minute)
	if len(list) != 2 || list[0].Kind != probe.NoReply || list[1].Kind != probe.Reply || !list[1].Late || list[1].RTT != 2*time.Second+2*line {
		t.Errorf("%+v", list)
	}
	if w.p.InFlight() != 0 {
		t.Error("still in the table")
	}
}

// TestQuotes: what is changed on the way is seen in what the next router quotes.
func TestQuotes(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		w := newWorld(t, 3, probe.Options{})
		w.routers[0].Mangle = func(b []byte, back bool) []byte {
			if back {
				return b
			}
			at := 20
			if b[0]>>4 == 4 {
				b[1] = 0
				simnet.SetIPChecksum(b)
			} else {
				b[0], b[1] = 0x60, b[1]&0x0f
				at = 40
			}
			if len(b) >= at+24 && b[at+20] == 2 {
				binary.BigEndian.PutUint16(b[at+22:], 1360)
			}
			return b
		}
		mss := uint32(1460)
		if dst.Is6() {
			mss = 1440
		}
		for _, proto := range []probe.Proto{probe.TCP, probe.UDP} {
			q := probe.Request{Dst: dst, Proto: proto, TTL: 1, TOS: 0xb9, Pattern: 7}
			if r := w.ask(q); len(r.Quoted.Changes) != 0 {
				t.Errorf("first hop: %v", r.Quoted.Changes)
			}
			q.TTL = 2
			want := []probe.Change{{Field: "tos", Sent: 0xb9}}
			if proto == probe.TCP {
				want = append(want, probe.Change{Field: "tcp-mss", Sent: mss, Quoted: 1360})
			}
			if r := w.ask(q); r.Kind != probe.TTLExpired || !reflect.DeepEqual(r.Quoted.Changes, want) {
				t.Errorf("%v, second hop: %v, %v", proto, r.Kind, r.Quoted)
			}
		}
		// Eight bytes behind the header are what old routers quote.
		w.routers[2].Quote = 28
		if dst.Is6() {
			w.routers[2].Quote = 48
		}
		for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
			if r := w.ask(probe.Request{Dst: dst, Proto: proto, TTL: 3}); r.Kind != probe.TTLExpired || r.From != router(3) {
				t.Errorf("%v with a short quote: %v", proto, r.Kind)
			}
		}
		w.routers[2].Quote--
		if r := w.ask(probe.Request{Dst: dst, TTL: 3, Timeout: time.Second}); r.Kind != probe.NoReply {
			t.Errorf("seven bytes quoted: %v", r.Kind)
		}
	})
}

// TestExtensions: labels are found where the message says, and without its saying.
func TestExtensions(t *testing.T) {
	labels := []byte{0, 12, 1, 1, 0x00, 0x06, 0x42, 0x01, 0x00, 0x06, 0x55, 0x01}
	want := []icmp.MPLSLabel{{Label: 100, TC: 1, TTL: 1}, {Label: 101, TC: 2, Bottom: true, TTL: 1}}
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		w := newWorld(t, 2, probe.Options{})
		w.routers[1].Objects = append([]byte{0, 8, 2, 0x48, 0, 0, 0, 3}, labels...)
		for _, length := range []int{0, 64, 128, 160, 256} {
			w.routers[1].Length = length
			for _, size := range []int{64, 512} {
				r := w.ask(probe.Request{Dst: dst, Proto: probe.UDP, TTL: 2, Size: size})
				if r.Kind != probe.TTLExpired || !reflect.DeepEqual(r.Extensions.MPLS, want) || len(r.Extensions.Interfaces) != 1 || r.BadExtensions != icmp.ExtensionNone {
					t.Errorf("length %d, size %d: %v, %+v, %v", length, size, r.Kind, r.Extensions, r.BadExtensions)
				}
				if len(r.Quoted.Changes) > 0 {
					t.Errorf("length %d, size %d: what follows the quote is taken for it: %v", length, size, r.Quoted.Changes)
				}
			}
		}
	})
}

// TestNAT: an address translator that restores the addresses in quotes, but not
// the checksum, is seen, and the answers are still ours.
func TestNAT(t *testing.T) {
	w := newWorld(t, 3, probe.Options{})
	inside, outside := addr("10.0.0.1"), addr("10.1.0.100")
	w.routers[0].RouteSegment("10.1.0.100/32")
	w.routers[1].Route("10.1.0.100/32", w.routers[0])
	w.routers[2].Route("10.1.0.100/32", w.routers[1])
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if !back {
			simnet.Translate(b, inside, outside)
			return b
		}
		if b[9] == icmp.Proto4 && len(b) > 48 && (b[20] == icmp.TypeTimeExceeded4 || b[20] == icmp.TypeUnreachable4) {
			inner := b[28:]
			copy(inner[12:16], inside.AsSlice())
			simnet.SetIPChecksum(inner)
			icmp.SetChecksum4(b[20:])
		}
		simnet.Translate(b, outside, inside)
		return b
	}
	for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
		r := w.ask(probe.Request{Dst: addr(far4), Proto: proto, TTL: 2, Timeout: time.Second})
		if r.Kind != probe.TTLExpired {
			t.Errorf("%v: %v %v", proto, r.Kind, w.p.Counters())
			continue
		}
		field := map[probe.Proto]string{probe.UDP: "udp-checksum", probe.TCP: "tcp-checksum"}[proto]
		if _, ok := r.Quoted.Changed(field); ok != (field != "") {
			t.Errorf("%v: %v", proto, r.Quoted.Changes)
		}
		if r := w.ask(probe.Request{Dst: addr(far4), Proto: proto, DstPort: 81, Timeout: time.Second}); r.Kind != probe.Reply {
			t.Errorf("%v to the host: %v", proto, r.Kind)
		}
	}
}
