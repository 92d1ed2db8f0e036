package ipv4

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/frag"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// datagram builds a packet of n bytes of data in a buffer, front at the header.
func datagram(f Fields, n int) *pkt.Buf {
	f.PayloadLen = n
	p := pkt.Get(f.HeaderLen() + n)
	f.Put(p.Append(f.HeaderLen()))
	for i, b := 0, p.Append(n); i < n; i++ {
		b[i] = byte(i*5 + i>>8)
	}
	return p
}

// join gives fragments to a reassembly table as a receiver does and returns
// the datagram.
func join(t *testing.T, tab *frag.Table, fragments []*pkt.Buf) *pkt.Buf {
	t.Helper()
	var whole *pkt.Buf
	for i, p := range fragments {
		h, d := Parse(p.Bytes())
		if d != DropNone {
			t.Fatalf("fragment %d: %v", i, d)
		}
		if len(fragments) == 1 && !h.IsFragment() {
			return p
		}
		p.Pull(h.Len())
		k := frag.Key{Src: h.Src(), Dst: h.Dst(), ID: uint32(h.ID()), Proto: h.Protocol()}
		w, fd := tab.Add(1, k, p, h.Len(), h.Offset(), h.MF())
		if fd != frag.DropNone {
			t.Fatalf("fragment %d: %v", i, fd)
		}
		if w != nil {
			whole = w
		}
	}
	if whole == nil {
		t.Fatal("no datagram")
	}
	Reassembled(whole)
	return whole
}

func split(p *pkt.Buf, mtu int) (fragments []*pkt.Buf) {
	Fragment(p, mtu, func(q *pkt.Buf) { fragments = append(fragments, q) })
	return fragments
}

// roundTrip fragments and reassembles, and compares.
func roundTrip(t *testing.T, tab *frag.Table, f Fields, n, mtu int) {
	t.Helper()
	p := datagram(f, n)
	want := bytes.Clone(p.Bytes())
	fragments := split(p, mtu)
	if (len(want) <= mtu) != (len(fragments) == 1) {
		t.Fatalf("%d bytes, MTU %d: %d fragments", len(want), mtu, len(fragments))
	}
	for i, q := range fragments {
		h, d := Parse(q.Bytes())
		if d != DropNone {
			t.Fatalf("fragment %d: %v", i, d)
		}
		last := i == len(fragments)-1
		if q.Len() > mtu || !last && q.Len()+8 <= mtu || h.TotalLen() != q.Len() || h.MF() == last {
			t.Fatalf("fragment %d of %d: %d bytes of MTU %d, MF %v", i, len(fragments), q.Len(), mtu, h.MF())
		}
		if !bytes.Equal(q.Network(), q.Bytes()) {
			t.Fatal("network header not marked")
		}
		q.Push(14 + 4 + 12) // room for the link layer: panics if there is none
		q.Pull(14 + 4 + 12)
	}
	whole := join(t, tab, fragments)
	defer whole.Put()
	if !bytes.Equal(whole.Bytes(), want) {
		t.Fatalf("%d bytes with MTU %d came back different", len(want), mtu)
	}
}

func TestRoundTripAtAllMTUs(t *testing.T) {
	tab := frag.New(frag.Config{MaxFragments: 1000})
	plain := Fields{TTL: 64, Protocol: ProtoUDP, Src: hostA, Dst: hostB, ID: 77}
	options := plain
	// Options that are all copied, so that the datagram comes back equal.
	options.Options = []byte{OptRouterAlert, 4, 0, 0, 0x99, 6, 1, 2, 3, 4, 1, 1}
	for mtu := MinMTU; mtu <= 1600; mtu++ {
		roundTrip(t, tab, plain, 1500+mtu%41, mtu)
		roundTrip(t, tab, options, 900, mtu)
	}
	for _, mtu := range []int{296, 576, 1280, 1492, 1500, 9000, 65534} {
		for _, n := range []int{0, 1, 7, 8, mtu - 21, mtu - 20, mtu - 19, 65515} {
			if n <= 65515 {
				roundTrip(t, tab, plain, n, mtu)
			}
		}
	}
	if tab.Len() != 0 || tab.Bytes() != 0 {
		t.Errorf("%d datagrams left", tab.Len())
	}
}

// TestFragmentOfFragment: a packet cut twice on its way (RFC 791 §3.2 keeps the
// offset and, in the last piece, the flag).
func TestFragmentOfFragment(t *testing.T) {
	p := datagram(Fields{TTL: 9, Protocol: ProtoUDP, Src: hostA, Dst: hostB, ID: 5}, 4000)
	want := bytes.Clone(p.Bytes())
	var fragments []*pkt.Buf
	for _, q := range split(p, 1500) {
		fragments = append(fragments, split(q, 576)...)
	}
	if len(fragments) != 3+3+2 {
		t.Fatalf("%d fragments", len(fragments))
	}
	whole := join(t, frag.New(frag.Config{}), fragments)
	defer whole.Put()
	if !bytes.Equal(whole.Bytes(), want) {
		t.Fatal("came back different")
	}
}

// TestFragmentOptions: the first fragment has all options, the others those
// that are marked for copying.
func TestFragmentOptions(t *testing.T) {
	f := Fields{TTL: 9, Src: hostA, Dst: hostB, Options: []byte{
		OptRecordRoute, 7, 4, 0, 0, 0, 0, OptNop, OptRouterAlert, 4, 0, 0, OptNop, 0x82, 3, 9, OptEnd, 0, 0, 0}}
	fragments := split(datagram(f, 200), MinMTU)
	for i, q := range fragments {
		h, d := Parse(q.Bytes())
		want := []byte{OptRouterAlert, 4, 0, 0, 0x82, 3, 9, 0}
		if i == 0 {
			want = f.Options
		}
		if d != DropNone || !bytes.Equal(h.Options(), want) {
			t.Errorf("fragment %d: %v, options % x", i, d, h.Options())
		}
		q.Put()
	}
	if len(fragments) < 5 {
		t.Errorf("%d fragments", len(fragments))
	}
}

func TestMTUBelowMinimum(t *testing.T) {
	for _, mtu := range []int{-1, 0, 20, 28, 67} {
		f := Fields{Src: hostA, Dst: hostB, Options: bytes.Repeat([]byte{OptNop}, 40)}
		for i, q := range split(datagram(f, 100), mtu) {
			if q.Len() > MinMTU {
				t.Errorf("MTU %d: fragment %d has %d bytes", mtu, i, q.Len())
			}
			q.Put()
		}
	}
}

// TestPartialChecksum: a UDP checksum that the device was to complete is
// complete before the datagram is cut.
func TestPartialChecksum(t *testing.T) {
	for _, length := range []int{2000, 2001} {
		p := datagram(Fields{TTL: 64, Protocol: ProtoUDP, Src: hostA, Dst: hostB}, length)
		pseudo := csum.Pseudo(hostA, hostB, ProtoUDP, length)
		b := p.Bytes()
		binary.BigEndian.PutUint16(b[26:], pseudo)
		p.Csum, p.GSO.CsumStart, p.GSO.CsumOffset = pkt.CsumPartial, 20, 6
		fragments := split(p, 1500)
		for _, q := range fragments {
			if q.Csum != pkt.CsumNone {
				t.Errorf("a fragment is left to the device: %v", q.Csum)
			}
		}
		whole := join(t, frag.New(frag.Config{}), fragments)
		if got := csum.Sum(whole.Bytes()[20:], pseudo); got != 0xffff {
			t.Errorf("%d bytes sum to %#x", length, got)
		}
		whole.Put()
	}
}

func TestFragmentDoesNotAllocate(t *testing.T) {
	skipUnderRace(t)
	f := Fields{TTL: 64, Protocol: ProtoUDP, Src: hostA, Dst: hostB, Options: RouterAlert[:]}
	n := 0
	emit := func(q *pkt.Buf) { n++; q.Put() }
	if a := testing.AllocsPerRun(100, func() { Fragment(datagram(f, 4000), 1500, emit) }); a > 0 {
		t.Errorf("%v allocations", a)
	}
	if n == 0 {
		t.Error("nothing emitted")
	}
}

// The following are packets that ended PyTCP's receive thread.

// TestPyTCPTruncatedUnknownOption: an unknown option that runs past the header,
// with no payload behind it.
func TestPyTCPTruncatedUnknownOption(t *testing.T) {
	for _, options := range [][]byte{{1, 1, 1, 255}, {1, 1, 255, 40}, {255, 255, 0, 0}, {1, 1, 255, 0}} {
		b := packet(options, set(2, 0, 24))[:24]
		if _, d := Parse(b); d != DropOptions {
			t.Errorf("% x: %v", options, d)
		}
	}
}

// TestPyTCPShortPayload: protocol 6 with less than a TCP header is a fine IP
// packet; TCP refuses it.
func TestPyTCPShortPayload(t *testing.T) {
	for n := range 20 {
		f := Fields{TTL: 64, Protocol: ProtoTCP, Src: hostA, Dst: hostB, PayloadLen: n}
		b := make([]byte, 20+n)
		f.Put(b)
		if h, d := Parse(b); d != DropNone || h.TotalLen()-h.Len() != n {
			t.Errorf("%d bytes: %v", n, d)
		}
	}
}

// fragments is a list of (offset, length, MF) sent as packets of one datagram.
type cut struct {
	offset, n int
	mf        bool
}

func receive(t *testing.T, tab *frag.Table, now mono.Time, c cut) (*pkt.Buf, frag.Drop) {
	t.Helper()
	p := datagram(Fields{TTL: 64, Protocol: ProtoUDP, ID: 3, Src: hostA, Dst: hostB, Offset: c.offset, MF: c.mf}, c.n)
	h, d := Parse(p.Bytes())
	if d != DropNone {
		t.Fatal(d)
	}
	p.MarkNetwork()
	p.Pull(h.Len())
	return tab.Add(now, frag.Key{Src: h.Src(), Dst: h.Dst(), ID: uint32(h.ID()), Proto: h.Protocol()}, p, h.Len(), h.Offset(), h.MF())
}

func TestPyTCPOverlappingFragments(t *testing.T) {
	for _, cuts := range [][]cut{
		{{0, 1480, true}, {1472, 1480, true}, {2952, 100, false}},
		{{0, 1480, true}, {8, 16, true}, {1480, 100, false}},
		{{1480, 100, false}, {0, 1488, true}},
		{{0, 24, true}, {0, 16, true}, {16, 24, false}},
	} {
		tab := frag.New(frag.Config{})
		for _, c := range cuts {
			if p, _ := receive(t, tab, 1, c); p != nil {
				t.Errorf("%v: delivered", cuts)
				p.Put()
			}
		}
		if tab.Bytes() != 0 {
			t.Errorf("%v: %d bytes held", cuts, tab.Bytes())
		}
	}
}

func TestPyTCPPingOfDeath(t *testing.T) {
	tab := frag.New(frag.Config{})
	for at := 0; at < 65528; at += 1480 {
		n := min(1480, 65528-at)
		_, d := receive(t, tab, 1, cut{at, n, true})
		want := frag.DropNone
		if 20+at+n > MaxLen {
			want = frag.DropTooLong
		}
		if d != want {
			t.Errorf("at %d: %v, want %v", at, d, want)
		}
	}
	if p, d := receive(t, tab, 1, cut{65528, 1000, false}); p != nil || d != frag.DropTooLong {
		t.Errorf("the last: %v %v", p, d)
	}
	tab.Flush()
}

// TestPyTCPFragmentsExpire: orphans were never purged.
func TestPyTCPFragmentsExpire(t *testing.T) {
	tab := frag.New(frag.Config{})
	receive(t, tab, 1, cut{0, 1480, true})
	n := 0
	tab.Expire(tab.Deadline(), func(*pkt.Buf, int) { n++ })
	if n != 1 || tab.Len() != 0 {
		t.Errorf("%d timeouts, %d datagrams left", n, tab.Len())
	}
}

// TestPyTCPIdentificationWraps: the 65536th fragmented datagram.
func TestPyTCPIdentificationWraps(t *testing.T) {
	tab := frag.New(frag.Config{})
	id := uint16(65533)
	for range 6 {
		roundTrip(t, tab, Fields{ID: id, TTL: 64, Src: hostA, Dst: hostB}, 100, MinMTU)
		id++
	}
}
