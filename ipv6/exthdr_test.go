package ipv6

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/pkt"
)

// ext builds an extension header of the option kind from body, which follows
// the two first bytes; it is filled up to 8 bytes with zeros (Pad1).
func ext(next uint8, body ...byte) []byte {
	b := append([]byte{next, 0}, body...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	b[1] = uint8(len(b)/8 - 1)
	return b
}

func hbh(next uint8, body ...byte) []byte { return ext(next, body...) }

func routing(next, typ, left uint8) []byte { return ext(next, typ, left) }

func frag(next uint8, offset int, more bool, id uint32) []byte {
	b := make([]byte, fragHeaderLen)
	putFragHeader(b, next, offset, more, id)
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var udp = make([]byte, 8)

func TestWalkFindsTheUpperLayer(t *testing.T) {
	// RFC 8200 §4.1's recommended order, and any other order but with
	// hop-by-hop first.
	for _, c := range []struct {
		name    string
		first   uint8
		payload []byte
		want    Chain
	}{
		{"none", ProtoUDP, udp, Chain{Proto: ProtoUDP, Offset: 40, ProtoAt: 6}},
		{"no next header", ProtoNone, nil, Chain{Proto: ProtoNone, Offset: 40, ProtoAt: 6}},
		{"hop-by-hop", ProtoHopByHop, join(hbh(ProtoUDP), udp), Chain{Proto: ProtoUDP, Offset: 48, ProtoAt: 40}},
		{"router alert", ProtoHopByHop, join(hbh(ProtoUDP, 5, 2, 0, 0, 1, 0), udp), Chain{Proto: ProtoUDP, Offset: 48, ProtoAt: 40, RouterAlert: true}},
		{"router alert as destination option is unknown, and skipped", ProtoDestOpts, join(ext(ProtoUDP, 5, 2, 0, 0, 1, 0), udp), Chain{Proto: ProtoUDP, Offset: 48, ProtoAt: 40}},
		{"recommended order", ProtoHopByHop,
			join(hbh(ProtoDestOpts), ext(ProtoRouting), routing(ProtoFragment, 0, 0), frag(ProtoDestOpts, 0, false, 1), ext(ProtoUDP), udp),
			Chain{Proto: ProtoUDP, Offset: 80, ProtoAt: 72, Atomic: true, FragHeaderAt: 64}},
		{"other order", ProtoRouting, join(routing(ProtoDestOpts, 3, 0), ext(ProtoDestOpts), ext(ProtoUDP), udp), Chain{Proto: ProtoUDP, Offset: 64, ProtoAt: 56}},
		{"authentication header ends it", ProtoAH, udp, Chain{Proto: ProtoAH, Offset: 40, ProtoAt: 6}},
		{"later fragment", ProtoFragment, join(frag(ProtoTCP, 1480, true, 7), udp),
			Chain{Proto: ProtoTCP, Offset: 48, ProtoAt: 40, HasFrag: true, FragOffset: 1480, FragMore: true, FragID: 7, FragHeaderAt: 40, NextHeaderAt: 6}},
		{"last fragment of any length", ProtoHopByHop, join(hbh(ProtoFragment), frag(ProtoTCP, 8, false, 7), []byte{1, 2, 3}),
			Chain{Proto: ProtoTCP, Offset: 56, ProtoAt: 48, HasFrag: true, FragOffset: 8, FragID: 7, FragHeaderAt: 48, NextHeaderAt: 40}},
		{"first fragment stops before its options", ProtoFragment, join(frag(ProtoDestOpts, 0, true, 7), ext(ProtoUDP, 0x80, 0), udp),
			Chain{Proto: ProtoDestOpts, Offset: 48, ProtoAt: 40, HasFrag: true, FragMore: true, FragID: 7, FragHeaderAt: 40, NextHeaderAt: 6}},
		{"reserved bits of a fragment header", ProtoFragment, join([]byte{ProtoUDP, 0xff, 0, 6, 0, 0, 0, 1}, udp), Chain{Proto: ProtoUDP, Offset: 48, ProtoAt: 40, Atomic: true, FragHeaderAt: 40}},
	} {
		b := packet(hostA, hostB, c.first, c.payload)
		got, pr, d := Walk(append(b, "padding"...))
		if d != DropNone || pr != (Problem{}) || got != c.want {
			t.Errorf("%s: drop %v, problem %+v\n got %+v\nwant %+v", c.name, d, pr, got, c.want)
		}
	}
}

func TestWalkRefuses(t *testing.T) {
	report := func(code uint8, at uint32) Problem { return Problem{Report: true, Code: code, Pointer: at} }
	big := make([]byte, 1000)
	for _, c := range []struct {
		name    string
		first   uint8
		payload []byte
		want    Drop
		pr      Problem
	}{
		{"hop-by-hop twice", ProtoHopByHop, join(hbh(ProtoHopByHop), hbh(ProtoUDP), udp), DropHeaderOrder, report(1, 40)},
		{"hop-by-hop after destination options", ProtoDestOpts, join(ext(ProtoHopByHop), hbh(ProtoUDP), udp), DropHeaderOrder, report(1, 40)},
		{"hop-by-hop after an atomic fragment", ProtoFragment, join(frag(ProtoHopByHop, 0, false, 1), hbh(ProtoUDP), udp), DropHeaderOrder, report(1, 40)},
		{"header missing", ProtoDestOpts, nil, DropHeaderChain, Problem{}},
		{"header cut", ProtoDestOpts, make([]byte, 7), DropHeaderChain, Problem{}},
		{"header longer than the packet", ProtoDestOpts, []byte{ProtoUDP, 1, 0, 0, 0, 0, 0, 0}, DropHeaderChain, Problem{}},
		{"fragment header cut", ProtoFragment, []byte{ProtoUDP, 0, 0, 0}, DropHeaderChain, report(0, 40)},
		{"two fragment headers", ProtoFragment, join(frag(ProtoFragment, 0, false, 1), frag(ProtoUDP, 0, false, 2), udp), DropHeaderOrder, report(0, 48)},
		{"option without length", ProtoDestOpts, []byte{ProtoUDP, 0, 1, 3, 0, 0, 0, 0x1e}, DropOption, Problem{}},
		{"option longer than the header", ProtoDestOpts, join(ext(ProtoUDP, 0x1e, 5, 0, 0, 0, 0), udp), DropOption, Problem{}},
		{"router alert of length 0", ProtoHopByHop, join(hbh(ProtoUDP, 5, 0), udp), DropOption, Problem{}},
		{"padding with content", ProtoDestOpts, join(ext(ProtoUDP, 1, 4, 0, 0, 1, 0), udp), DropOption, Problem{}},
		{"8 bytes of padding", ProtoDestOpts, join(ext(ProtoUDP, 1, 6, 0, 0, 0, 0, 0, 0, 0x1e, 4, 0, 0, 0, 0), udp), DropOptionLimit, Problem{}},
		{"8 bytes of Pad1", ProtoDestOpts, join(ext(ProtoUDP, 0, 0, 0, 0, 0, 0, 0, 0, 0x1e, 4, 0, 0, 0, 0), udp), DropOptionLimit, Problem{}},
		{"8 options", ProtoDestOpts, join(ext(ProtoUDP, bytes.Repeat([]byte{0x1e, 0}, 8)...), udp), DropNone, Problem{}},
		{"9 options", ProtoDestOpts, join(ext(ProtoUDP, bytes.Repeat([]byte{0x1e, 0}, 9)...), udp), DropOptionLimit, Problem{}},
		{"jumbo payload option", ProtoHopByHop, join(hbh(ProtoUDP, 0xc2, 4, 0, 1, 0, 0), udp), DropJumbo, report(0, 42)},
		{"jumbo payload option of a small packet", ProtoHopByHop, join(hbh(ProtoUDP, 0xc2, 4, 0, 0, 0xff, 0xff), udp), DropJumbo, report(0, 44)},
		{"jumbo payload option, not aligned", ProtoHopByHop, join(hbh(ProtoUDP, 1, 0, 0xc2, 4, 0, 1, 0, 0), udp), DropOption, Problem{}},
		{"jumbo payload option of 2 bytes", ProtoHopByHop, join(hbh(ProtoUDP, 0xc2, 2, 0, 1), udp), DropOption, Problem{}},
		{"jumbo payload for the destination", ProtoDestOpts, join(ext(ProtoUDP, 0xc2, 4, 0, 1, 0, 0), udp), DropOptionAction, report(2, 42)},
		{"routing type 0 to go on", ProtoRouting, join(routing(ProtoUDP, 0, 1), udp), DropRouting, report(0, 42)},
		{"unknown routing type to go on", ProtoDestOpts, join(ext(ProtoRouting), routing(ProtoUDP, 77, 2), udp), DropRouting, report(0, 50)},
		{"fragment of 9 bytes with more to come", ProtoFragment, join(frag(ProtoUDP, 0, true, 1), make([]byte, 9)), DropFragLength, report(0, 4)},
		{"fragment ends at 65535", ProtoFragment, join(frag(ProtoUDP, 65528, false, 1), big[:7]), DropNone, Problem{}},
		{"fragment ends at 65536", ProtoFragment, join(frag(ProtoUDP, 65528, false, 1), big[:8]), DropFragRange, report(0, 42)},
		{"ping of death", ProtoDestOpts, join(ext(ProtoFragment), frag(ProtoUDP, 65528, false, 1), big), DropFragRange, report(0, 50)},
		{"first fragment without upper layer", ProtoFragment, join(frag(ProtoDestOpts, 0, true, 1), ext(ProtoUDP)), DropFragHeaders, report(3, 0)},
		{"first fragment cuts the chain", ProtoFragment, join(frag(ProtoDestOpts, 0, true, 1), []byte{ProtoUDP, 1, 0, 0, 0, 0, 0, 0}), DropFragHeaders, report(3, 0)},
		{"first fragment cuts the TCP header", ProtoFragment, join(frag(ProtoTCP, 0, true, 1), big[:16]), DropFragHeaders, report(3, 0)},
		{"first fragment with a TCP header", ProtoFragment, join(frag(ProtoTCP, 0, true, 1), big[:24]), DropNone, Problem{}},
		{"first fragment is empty", ProtoFragment, frag(ProtoUDP, 0, true, 1), DropFragHeaders, report(3, 0)},
	} {
		_, pr, d := Walk(packet(hostA, hostB, c.first, c.payload))
		if d != c.want || pr != c.pr {
			t.Errorf("%s: got %v %+v, want %v %+v", c.name, d, pr, c.want, c.pr)
		}
	}
}

func TestHeaderLimits(t *testing.T) {
	unknown := func(n int) []byte { return join(ext(ProtoUDP, bytes.Repeat([]byte{0x1e, 0}, n)...), udp) }
	for _, c := range []struct {
		name    string
		l       HeaderLimits
		first   uint8
		payload []byte
		want    Drop
	}{
		{"nothing set", HeaderLimits{}, ProtoDestOpts, unknown(8), DropNone},
		{"20 allowed", HeaderLimits{DestinationOptions: 20}, ProtoDestOpts, unknown(20), DropNone},
		{"21 of 20", HeaderLimits{DestinationOptions: 20}, ProtoDestOpts, unknown(21), DropOptionLimit},
		{"the other header's", HeaderLimits{DestinationOptions: 20}, ProtoHopByHop, unknown(9), DropOptionLimit},
		{"hop by hop", HeaderLimits{HopOptions: 9}, ProtoHopByHop, unknown(9), DropNone},
		{"none that is unknown", HeaderLimits{HopOptions: -8}, ProtoHopByHop, unknown(1), DropOptionLimit},
		{"but padding", HeaderLimits{HopOptions: -8}, ProtoHopByHop, join(hbh(ProtoUDP), udp), DropNone},
		{"and what is known", HeaderLimits{HopOptions: -8}, ProtoHopByHop, join(hbh(ProtoUDP, 5, 2, 0, 0), udp), DropNone},
		{"16 bytes", HeaderLimits{DestinationLength: 16}, ProtoDestOpts, unknown(7), DropNone},
		{"24 bytes of 16", HeaderLimits{DestinationLength: 16}, ProtoDestOpts, unknown(8), DropOptionLimit},
		{"24 bytes of 16, hop by hop", HeaderLimits{HopLength: 16}, ProtoHopByHop, unknown(8), DropOptionLimit},
	} {
		if _, pr, d := c.l.Walk(packet(hostA, hostB, c.first, c.payload)); d != c.want || pr != (Problem{}) {
			t.Errorf("%s: %v %+v", c.name, d, pr)
		}
	}
}

// A group is no place for a routing header, as for Linux.
func TestRoutingToGroup(t *testing.T) {
	for left := range byte(2) {
		if _, pr, d := Walk(packet(hostA, AllNodes, ProtoRouting, join(routing(ProtoUDP, 77, left), udp))); d != DropRouting || pr != (Problem{}) {
			t.Errorf("%d left: %v %+v", left, d, pr)
		}
	}
}

// The two highest bits of an unknown option say what to do (RFC 8200 §4.2).
func TestOptionActions(t *testing.T) {
	for _, first := range []uint8{ProtoHopByHop, ProtoDestOpts} {
		for _, c := range []struct {
			typ  uint8
			drop Drop
			pr   Problem
		}{
			{0x1e, DropNone, Problem{}},
			{0x5e, DropOptionAction, Problem{}},
			{0x9e, DropOptionAction, Problem{Report: true, Code: 2, Pointer: 44, EvenIfMulticast: true}},
			{0xde, DropOptionAction, Problem{Report: true, Code: 2, Pointer: 44}},
		} {
			b := packet(hostA, AllNodes, first, join(ext(ProtoUDP, 1, 0, c.typ, 0, 0, 0), udp))
			if _, pr, d := Walk(b); d != c.drop || pr != c.pr {
				t.Errorf("next header %d, option %#x: %v %+v", first, c.typ, d, pr)
			}
		}
	}
}

func TestWalkIsBounded(t *testing.T) {
	chain := func(n int) []byte {
		var b []byte
		for i := range n {
			next := uint8(ProtoDestOpts)
			if i == n-1 {
				next = ProtoUDP
			}
			b = append(b, ext(next)...)
		}
		return packet(hostA, hostB, ProtoDestOpts, append(b, udp...))
	}
	// RFC 8200 §4.1 wants any number of destination options headers; 128 is
	// what the known conformance testers send.
	if c, _, d := Walk(chain(128)); d != DropNone || c.Proto != ProtoUDP {
		t.Errorf("128 headers: %v", d)
	}
	if _, _, d := Walk(chain(MaxHeaders)); d != DropNone {
		t.Errorf("%d headers: %v", MaxHeaders, d)
	}
	if _, _, d := Walk(chain(MaxHeaders + 1)); d != DropHeaderLimit {
		t.Errorf("%d headers: %v", MaxHeaders+1, d)
	}
	if _, _, _, ok := Skip(chain(MaxHeaders + 1)); ok {
		t.Error("Skip has no limit")
	}
}

func TestSkipReadsQuotations(t *testing.T) {
	whole := packet(hostA, hostB, ProtoHopByHop, join(hbh(ProtoDestOpts, 0xff), ext(ProtoTCP), make([]byte, 20)))
	for n := HeaderLen; n <= len(whole); n++ {
		proto, at, _, ok := Skip(whole[:n])
		if want := n >= 56; ok != want || ok && (proto != ProtoTCP || at != 56) {
			t.Errorf("%d bytes: %d at %d, %v", n, proto, at, ok)
		}
	}
	if proto, at, off, ok := Skip(packet(hostA, hostB, ProtoFragment, frag(ProtoUDP, 800, true, 1))); !ok || proto != ProtoUDP || at != 48 || off != 800 {
		t.Errorf("fragment: %d at %d, offset %d, %v", proto, at, off, ok)
	}
}

func TestFragmentCutsAndKeepsTheHeader(t *testing.T) {
	before := pkt.Live()
	for _, front := range [][]byte{nil, hbh(ProtoRouting, 5, 2, 0, 0)} {
		first := uint8(ProtoUDP)
		headers := front
		if front != nil {
			first = ProtoHopByHop
			headers = join(front, routing(ProtoUDP, 4, 0))
		}
		for _, size := range []int{1240, 1241, 3000, 65535 - len(headers)} {
			for _, mtu := range []int{0, 1280, 1500, 9000} {
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i * 7 >> 3)
				}
				b := packet(hostA, hostB, first, join(headers, data))
				b[0], b[1], b[7] = 0x6a, 0xb5, 33
				var joined []byte
				n := 0
				d := Fragment(pkt.From(b), 0xdeadbeef, mtu, func(p *pkt.Buf) {
					defer p.Put()
					n++
					f := p.Bytes()
					if len(f) > max(mtu, MinMTU) {
						t.Fatalf("fragment of %d bytes with MTU %d", len(f), mtu)
					}
					h, d := Parse(f)
					if d != DropNone || HeaderLen+h.PayloadLen() != len(f) {
						t.Fatalf("fragment %d: %v, payload length %d of %d", n, d, h.PayloadLen(), len(f))
					}
					if !bytes.Equal(h[:4], b[:4]) || !bytes.Equal(h[7:], b[7:40]) {
						t.Fatalf("fragment %d: header changed: %x", n, []byte(h))
					}
					c, _, d := Walk(f)
					if d != DropNone {
						t.Fatalf("fragment %d: %v", n, d)
					}
					if !c.HasFrag { // fits
						if n != 1 || !bytes.Equal(f, b) {
							t.Fatalf("%d bytes, MTU %d: not passed on as it is", len(b), mtu)
						}
						joined = f[len(f)-len(data):]
						return
					}
					if c.FragID != 0xdeadbeef || c.FragOffset != len(joined) || c.FragHeaderAt != HeaderLen+len(headers) || c.Proto != ProtoUDP {
						t.Fatalf("fragment %d: %+v with %d joined", n, c, len(joined))
					}
					joined = append(joined, f[c.Offset:]...)
					if c.FragMore == (len(joined) == len(data)) {
						t.Fatalf("fragment %d: more is %v", n, c.FragMore)
					}
					// The repairs restore the original front.
					whole := pkt.Get(MaxPayload + HeaderLen)
					copy(whole.Append(c.FragHeaderAt), f)
					copy(whole.Append(len(data)), data)
					PatchNextHeader(whole.Bytes(), c, c.Proto)
					if d := Reassembled(whole); d != DropNone || !bytes.Equal(whole.Bytes(), b) {
						t.Fatalf("fragment %d: reassembled differs, %v", n, d)
					}
					whole.Put()
				})
				if d != DropNone || !bytes.Equal(joined, data) {
					t.Fatalf("%d bytes, MTU %d: %v, %d came out", size, mtu, d, len(joined))
				}
			}
		}
	}
	if pkt.Live() != before {
		t.Errorf("%d buffers leaked", pkt.Live()-before)
	}
}

func TestFragmentRefusesHeadersThatFillAPacket(t *testing.T) {
	before := pkt.Live()
	front := hbh(ProtoUDP, make([]byte, 1300)...)
	d := Fragment(pkt.From(packet(hostA, hostB, ProtoHopByHop, join(front, udp))), 1, 1280, func(*pkt.Buf) { t.Error("emitted") })
	if d != DropHeaderLimit || pkt.Live() != before {
		t.Errorf("%v, %d buffers", d, pkt.Live()-before)
	}
}

func TestReassembledRefusesTooMuch(t *testing.T) {
	p := pkt.Get(HeaderLen + MaxPayload + 1)
	defer p.Put()
	p.Append(HeaderLen + MaxPayload + 1)
	if d := Reassembled(p); d != DropFragRange {
		t.Error(d)
	}
}

func TestWalkDoesNotAllocate(t *testing.T) {
	b := packet(hostA, hostB, ProtoHopByHop, join(hbh(ProtoDestOpts, 5, 2, 0, 0), ext(ProtoUDP), udp))
	if n := testing.AllocsPerRun(100, func() {
		if _, d := Parse(b); d != DropNone {
			panic(d)
		}
		if _, _, d := Walk(b); d != DropNone {
			panic(d)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(uint8(ProtoHopByHop), join(hbh(ProtoDestOpts, 5, 2, 0, 0), ext(ProtoFragment, 0xc2), frag(ProtoUDP, 0, false, 1), udp))
	f.Add(uint8(ProtoFragment), join(frag(ProtoTCP, 0, true, 1), make([]byte, 24)))
	f.Add(uint8(ProtoRouting), join(routing(ProtoDestOpts, 0, 0), ext(ProtoUDP, 1, 2, 0, 0), udp))
	f.Fuzz(func(t *testing.T, first uint8, payload []byte) {
		if len(payload) > MaxPayload {
			return
		}
		b := packet(hostA, hostB, first, payload)
		if _, d := Parse(b); d != DropNone {
			return
		}
		c, pr, d := Walk(b)
		proto, at, fragOffset, ok := Skip(b)
		if c.Offset < HeaderLen || c.Offset > len(b) || c.ProtoAt >= len(b) || b[c.ProtoAt] != c.Proto {
			t.Fatalf("%+v of %d bytes", c, len(b))
		}
		if pr.Report && (d == DropNone || int(pr.Pointer) >= len(b)) {
			t.Fatalf("%v with problem %+v", d, pr)
		}
		if d != DropNone {
			return
		}
		if c.HasFrag {
			if b[c.NextHeaderAt] != ProtoFragment || c.FragHeaderAt+fragHeaderLen != c.Offset || c.FragOffset == 0 && !c.FragMore {
				t.Fatalf("%+v", c)
			}
			return
		}
		if !ok || fragOffset != 0 || proto != c.Proto || at != c.Offset {
			t.Fatalf("Walk found %+v, Skip %d at %d (%v)", c, proto, at, ok)
		}
		compareChain(t, b, c)
	})
}

// compareChain lets gopacket walk the same packet, as far as it can: it knows
// no ESP, and looks at most of the upper layers itself.
func compareChain(t *testing.T, b []byte, c Chain) {
	g := gopacket.NewPacket(b, layers.LayerTypeIPv6, gopacket.DecodeOptions{NoCopy: true, DecodeStreamsAsDatagrams: true})
	next, at := -1, 0
	for _, l := range g.Layers() {
		switch l := l.(type) {
		case *layers.IPv6:
			next, at = int(l.NextHeader), HeaderLen
			if l.HopByHop != nil {
				next, at = int(l.HopByHop.NextHeader), at+l.HopByHop.ActualLength
			}
		case *layers.IPv6Destination:
			next, at = int(l.NextHeader), at+l.ActualLength
		case *layers.IPv6Routing:
			next, at = int(l.NextHeader), at+l.ActualLength
		case *layers.IPv6Fragment:
			return // gopacket never looks behind a fragment header
		case *gopacket.DecodeFailure:
			if at != c.Offset {
				return
			}
		}
		if at == c.Offset {
			break
		}
	}
	if at > c.Offset || at == c.Offset && next != int(c.Proto) {
		t.Fatalf("gopacket found %d at %d, Walk %d at %d: %s", next, at, c.Proto, c.Offset, fmt.Sprintf("%x", b))
	}
}

// TestPerFragment: what each fragment repeats ends with the last hop-by-hop or
// routing header; destination options in front of that are part of it, those behind
// are not (RFC 8200 §4.5).
func TestPerFragment(t *testing.T) {
	for _, c := range []struct {
		chain []uint8 // headers of 8 bytes, a routing one of 24
		front int
		next  uint8
	}{
		{[]uint8{ProtoTCP}, 40, ProtoTCP},
		{[]uint8{ProtoDestOpts, ProtoTCP}, 40, ProtoDestOpts},
		{[]uint8{ProtoHopByHop, ProtoDestOpts, ProtoTCP}, 48, ProtoDestOpts},
		{[]uint8{ProtoDestOpts, ProtoRouting, ProtoTCP}, 72, ProtoTCP},
		{[]uint8{ProtoHopByHop, ProtoDestOpts, ProtoRouting, ProtoDestOpts, ProtoTCP}, 80, ProtoDestOpts},
	} {
		b := make([]byte, HeaderLen)
		b[6] = c.chain[0]
		for i, p := range c.chain[:len(c.chain)-1] {
			h := make([]byte, 8)
			if p == ProtoRouting {
				h = make([]byte, 24)
				h[1] = 2
			}
			h[0] = c.chain[i+1]
			b = append(b, h...)
		}
		front, next, at := perFragment(append(b, make([]byte, 40)...))
		if front != c.front || next != c.next || b[at] != next {
			t.Errorf("%v: %d bytes, then %d, named at %d; want %d, %d", c.chain, front, next, at, c.front, c.next)
		}
	}
}
