package ipv6

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
)

var (
	hostA   = netip.MustParseAddr("fe80::a")
	hostB   = netip.MustParseAddr("fe80::b")
	globalA = netip.MustParseAddr("2001:db8::a")
	nobody  = netip.IPv6Unspecified()
	mac     = ether.Addr{0x02, 0, 0, 0, 0, 0x07}
)

// packet builds a packet from payload with the given first next header.
func packet(src, dst netip.Addr, next uint8, payload []byte) []byte {
	b := make([]byte, HeaderLen, HeaderLen+len(payload))
	f := Fields{NextHeader: next, HopLimit: 64, Src: src, Dst: dst, PayloadLen: len(payload)}
	f.Put(b)
	return append(b, payload...)
}

func TestHeaderRoundTrip(t *testing.T) {
	b := make([]byte, HeaderLen+5)
	want := Fields{TrafficClass: 0xb9, FlowLabel: 0xabcde, NextHeader: ProtoTCP, HopLimit: 63, Src: hostA, Dst: globalA, PayloadLen: 5}
	want.Put(b)
	h, d := Parse(b)
	if d != DropNone {
		t.Fatal(d)
	}
	got := Fields{h.TrafficClass(), h.FlowLabel(), h.NextHeader(), h.HopLimit(), h.Src(), h.Dst(), h.PayloadLen()}
	if got != want {
		t.Fatalf("got %+v want %+v", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
		want Drop
	}{
		{"as it is", func(b []byte) []byte { return b }, DropNone},
		{"padding behind", func(b []byte) []byte { return append(b, 0, 0, 0) }, DropNone},
		{"39 bytes", func(b []byte) []byte { return b[:39] }, DropShort},
		{"empty", func(b []byte) []byte { return nil }, DropShort},
		{"version 4", func(b []byte) []byte { b[0] = 0x45; return b }, DropVersion},
		{"version 0", func(b []byte) []byte { b[0] = 0; return b }, DropVersion},
		{"length too large", func(b []byte) []byte { b[5]++; return b }, DropLength},
		{"jumbogram", func(b []byte) []byte { b[5], b[6] = 0, ProtoHopByHop; return b }, DropJumbo},
		{"no payload", func(b []byte) []byte { b[5], b[6] = 0, ProtoNone; return b[:40] }, DropNone},
		{"multicast source", func(b []byte) []byte { b[8], b[9] = 0xff, 0x02; return b }, DropSource},
		{"unspecified source", func(b []byte) []byte { clear(b[8:24]); return b }, DropNone},
		{"unspecified destination", func(b []byte) []byte { clear(b[24:40]); return b }, DropDestination},
		{"reserved multicast scope", func(b []byte) []byte { b[24], b[25] = 0xff, 0x10; return b }, DropDestination},
		{"link multicast", func(b []byte) []byte { b[24], b[25] = 0xff, 0x02; return b }, DropNone},
	} {
		if _, d := Parse(c.edit(packet(hostA, hostB, ProtoUDP, make([]byte, 8)))); d != c.want {
			t.Errorf("%s: got %v want %v", c.name, d, c.want)
		}
	}
}

func TestDropNames(t *testing.T) {
	seen := map[string]bool{}
	for d := range NumDrops {
		n := d.String()
		if n == "" || n == "unknown" || seen[n] || strings.ContainsAny(n, " _") {
			t.Errorf("reason %d is called %q", d, n)
		}
		seen[n] = true
	}
	if NumDrops.String() != "unknown" || DropVersion.Error() != "ipv6: bad-version" {
		t.Error("names of unknown reasons or errors")
	}
}

func TestAddresses(t *testing.T) {
	m := ether.Addr{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}
	for _, c := range []struct{ got, want string }{
		{SolicitedNode(netip.MustParseAddr("4037::01:800:200e:8c6c")).String(), "ff02::1:ff0e:8c6c"}, // RFC 4291 §2.7.1
		{LinkLocal(m).String(), "fe80::3656:78ff:fe9a:bcde"},                                         // RFC 2464 §5
		{WithIID(netip.MustParsePrefix("2001:db8:1:2:3::/64"), InterfaceID(m)).String(), "2001:db8:1:2:3656:78ff:fe9a:bcde"},
	} {
		if c.got != c.want {
			t.Errorf("got %s want %s", c.got, c.want)
		}
	}
	if !IsSolicitedNode(SolicitedNode(hostA)) || IsSolicitedNode(AllNodes) {
		t.Error("IsSolicitedNode")
	}
}

// jumbo is a TCP super-frame with n bytes of payload behind a jumbo header, as
// Linux before 7.0 makes it.
func jumbo(n int, edits ...func(b []byte)) []byte {
	b := packet(hostA, hostB, ProtoHopByHop, make([]byte, JumboLen+n))
	b[4], b[5] = 0, 0
	copy(b[HeaderLen:], []byte{ProtoTCP, 0, 0xc2, 4, byte((n + 8) >> 24), byte((n + 8) >> 16), byte((n + 8) >> 8), byte(n + 8)})
	for _, edit := range edits {
		edit(b)
	}
	return b
}

// TestStripJumbo: that header goes, and nothing that only resembles it.
func TestStripJumbo(t *testing.T) {
	b := jumbo(66000)
	b[HeaderLen+JumboLen] = 0xab
	if _, d := Parse(b); d != DropJumbo {
		t.Errorf("as an ordinary packet: %v", d)
	}
	if !StripJumbo(b) {
		t.Fatal("not taken out")
	}
	b = b[JumboLen:]
	h, n, d := ParseSuper(b)
	if d != DropNone || n != 66000 || h.NextHeader() != ProtoTCP || h.Src() != hostA || h.Dst() != hostB || h.HopLimit() != 64 || b[HeaderLen] != 0xab {
		t.Errorf("%d bytes of %d from %v to %v, %v", n, h.NextHeader(), h.Src(), h.Dst(), d)
	}
	at := func(i int, v byte) func([]byte) { return func(b []byte) { b[i] = v } }
	for what, b := range map[string][]byte{
		"short":          jumbo(60000),
		"empty":          nil,
		"with a length":  jumbo(66000, at(5, 1)),
		"UDP":            jumbo(66000, at(HeaderLen, ProtoUDP)),
		"longer header":  jumbo(66000, at(HeaderLen+1, 1)),
		"another option": jumbo(66000, at(HeaderLen+2, 5)),
		"its length":     jumbo(66000, at(HeaderLen+3, 2)),
		"another size":   jumbo(66000, at(HeaderLen+7, 0)),
		"no extension":   jumbo(66000, at(6, ProtoTCP)),
		"IPv4":           jumbo(66000, at(0, 0x45)),
	} {
		if StripJumbo(b) {
			t.Errorf("%s: taken out", what)
		}
	}
}

// TestParseSuper: only a TCP super-frame may leave its length open.
func TestParseSuper(t *testing.T) {
	for _, c := range []struct {
		what    string
		proto   uint8
		payload int
		length  int // as the header says
		n       int
		want    Drop
	}{
		{"its length", ProtoTCP, 100, 100, 100, DropNone},
		{"padding", ProtoTCP, 100, 90, 90, DropNone},
		{"length 0", ProtoTCP, 66000, 0, 66000, DropNone},
		{"UDP of length 0", ProtoUDP, 100, 0, 0, DropNone}, // nothing follows, says the header
		{"jumbogram", ProtoHopByHop, 66000, 0, 0, DropJumbo},
		{"too long", ProtoTCP, 100, 101, 0, DropLength},
	} {
		b := packet(hostA, hostB, c.proto, make([]byte, c.payload))
		binary.BigEndian.PutUint16(b[4:], uint16(c.length))
		if _, n, d := ParseSuper(b); n != c.n || d != c.want {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.what, n, d, c.n, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(packet(hostA, hostB, ProtoUDP, make([]byte, 8)))
	f.Add(packet(hostA, AllNodes, ProtoHopByHop, hbh(ProtoNone)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, d := Parse(b)
		if d != DropNone {
			return
		}
		if len(b) < HeaderLen+h.PayloadLen() {
			t.Fatalf("%d bytes accepted with payload length %d", len(b), h.PayloadLen())
		}
		again := make([]byte, HeaderLen)
		fields := Fields{h.TrafficClass(), h.FlowLabel(), h.NextHeader(), h.HopLimit(), h.Src(), h.Dst(), h.PayloadLen()}
		fields.Put(again)
		if string(again) != string(h) {
			t.Fatalf("written back:\n%x\n%x", again, []byte(h))
		}
		var g layers.IPv6
		if g.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
			return // gopacket looks into a hop-by-hop header as well
		}
		src, _ := netip.AddrFromSlice(g.SrcIP)
		dst, _ := netip.AddrFromSlice(g.DstIP)
		theirs := Fields{g.TrafficClass, g.FlowLabel, uint8(g.NextHeader), g.HopLimit, src, dst, int(g.Length)}
		if theirs != fields {
			t.Fatalf("gopacket %+v, we %+v", theirs, fields)
		}
	})
}
