package ipv4

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/internal/pkt"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if n := pkt.Live(); code == 0 && n != 0 {
		fmt.Fprintf(os.Stderr, "%d buffers leaked\n", n)
		code = 1
	}
	os.Exit(code)
}

// skipUnderRace ends a test of allocations where the race detector makes
// sync.Pool, and so pkt.Get, forget buffers at random.
func skipUnderRace(t *testing.T) {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			t.Skip("buffers are not always reused under the race detector")
		}
	}
}

var (
	hostA = netip.MustParseAddr("10.77.0.1")
	hostB = netip.MustParseAddr("10.77.0.7")
)

// packet returns a packet of ten bytes of data with the options given, and its
// header changed by each edit before the checksum is put right.
func packet(options []byte, edits ...func(b []byte)) []byte {
	f := Fields{TTL: 64, Protocol: ProtoUDP, ID: 0x1234, Src: hostA, Dst: hostB, Options: options, PayloadLen: 10}
	b := make([]byte, f.HeaderLen()+10)
	f.Put(b)
	for _, edit := range edits {
		edit(b)
	}
	if n := int(b[0]&15) * 4; n >= HeaderLen && n <= len(b) {
		putChecksum(b[:n])
	}
	return b
}

// set returns an edit of bytes from offset on.
func set(offset int, v ...byte) func([]byte) {
	return func(b []byte) { copy(b[offset:], v) }
}

func TestParse(t *testing.T) {
	src := func(a string) func([]byte) {
		x := netip.MustParseAddr(a).As4()
		return set(12, x[:]...)
	}
	tests := []struct {
		name string
		b    []byte
		want Drop
	}{
		{"plain", packet(nil), DropNone},
		{"frame padding behind it", append(packet(nil), make([]byte, 30)...), DropNone},
		{"header alone", packet(nil, set(2, 0, 20))[:20], DropNone},
		{"nothing", nil, DropShort},
		{"19 bytes", packet(nil)[:19], DropShort},
		{"version 6", packet(nil, set(0, 0x65)), DropVersion},
		{"version 0", packet(nil, set(0, 0x05)), DropVersion},
		{"IHL 4", packet(nil, set(0, 0x44)), DropHeaderLen},
		{"IHL 0", packet(nil, set(0, 0x40)), DropHeaderLen},
		{"IHL beyond the packet", packet(nil, set(0, 0x4f)), DropHeaderLen},
		{"total length 0", packet(nil, set(2, 0, 0)), DropTotalLen},
		{"total length below the header", packet(nil, set(2, 0, 19)), DropTotalLen},
		{"total length below the options", packet(make([]byte, 4), set(2, 0, 23)), DropTotalLen},
		{"cut short", packet(nil)[:29], DropTruncated},
		{"total length 65535", packet(nil, set(2, 255, 255)), DropTruncated},
		{"source 0.0.0.0", packet(nil, src("0.0.0.0")), DropNone},
		{"source loopback", packet(nil, src("127.0.0.1")), DropNone},
		{"source multicast", packet(nil, src("224.0.0.1")), DropSource},
		{"source multicast, last", packet(nil, src("239.255.255.255")), DropSource},
		{"source class E", packet(nil, src("240.0.0.1")), DropSource},
		{"source broadcast", packet(nil, src("255.255.255.255")), DropSource},
		{"source before class D", packet(nil, src("223.255.255.255")), DropNone},
		{"reserved flag", packet(nil, set(6, 0x80, 0)), DropNone},
		{"DF and MF", packet(nil, set(6, 0x60, 0)), DropNone},
		{"DF and offset", packet(nil, set(6, 0x40, 9)), DropNone},
		{"TTL 0", packet(nil, set(8, 0)), DropNone},
		{"no-operations", packet([]byte{1, 1, 1, 1}), DropNone},
		{"end, then anything", packet([]byte{0, 131, 200, 1}), DropNone},
		{"unknown option", packet([]byte{99, 4, 7, 7}), DropNone},
		{"option length 0", packet([]byte{7, 0, 0, 0}), DropOptions},
		{"option length 1", packet([]byte{7, 1, 0, 0}), DropOptions},
		{"option too long", packet([]byte{7, 5, 0, 0}), DropOptions},
		{"kind without length", packet([]byte{1, 1, 1, 7}), DropOptions},
	}
	for _, tt := range tests {
		h, d := Parse(tt.b)
		if d != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, d, tt.want)
		}
		if (h == nil) != (d != DropNone && d != DropOptions) {
			t.Errorf("%s: header %v with drop %v", tt.name, h, d)
		}
	}
}

func TestChecksumIsVerified(t *testing.T) {
	for bit := range HeaderLen * 8 {
		b := packet(nil)
		b[bit/8] ^= 1 << (bit % 8)
		if _, d := Parse(b); d == DropNone {
			t.Errorf("bit %d changed unnoticed", bit)
		}
	}
	b := packet(nil)
	b[8]--
	if _, d := Parse(b); d != DropChecksum {
		t.Errorf("changed TTL: %v", d)
	}
}

func TestFieldsComeBack(t *testing.T) {
	for _, f := range []Fields{
		{TOS: 0xb9, ID: 0xffff, DF: true, TTL: 255, Protocol: ProtoTCP, Src: hostA, Dst: hostB, PayloadLen: 1480},
		{ID: 1, MF: true, Offset: 1480, TTL: 1, Protocol: ProtoICMP, Src: hostB, Dst: AllSystems, PayloadLen: 8},
		{Offset: 65528, Protocol: 0, Src: hostA, Dst: LimitedBroadcast, PayloadLen: 1},
		{TTL: 64, Protocol: ProtoIGMP, Src: hostA, Dst: hostB, Options: RouterAlert[:], PayloadLen: 0},
		{TTL: 64, Src: hostA, Dst: hostB, Options: []byte{1}, PayloadLen: 65511},
		{TTL: 64, Src: hostA, Dst: hostB, Options: bytes.Repeat([]byte{1}, 40)},
	} {
		b := bytes.Repeat([]byte{0xee}, f.HeaderLen()+f.PayloadLen)
		f.Put(b[:f.HeaderLen()])
		h, d := Parse(b)
		if d != DropNone {
			t.Fatalf("%+v: %v", f, d)
		}
		options := append(f.Options[:len(f.Options):len(f.Options)], 0, 0, 0)[:h.Len()-HeaderLen]
		if h.Len() != f.HeaderLen() || h.TotalLen() != len(b) || h.TOS() != f.TOS || h.ID() != f.ID ||
			h.DF() != f.DF || h.MF() != f.MF || h.Offset() != f.Offset || h.TTL() != f.TTL ||
			h.Protocol() != f.Protocol || h.Src() != f.Src || h.Dst() != f.Dst || !bytes.Equal(h.Options(), options) ||
			h.IsFragment() != (f.MF || f.Offset > 0) {
			t.Errorf("%+v came back as % x", f, h)
		}
	}
}

// TestHeaderBytes is a header written by hand, its checksum a worked example
// that is found in many a text.
func TestHeaderBytes(t *testing.T) {
	f := Fields{DF: true, TTL: 64, Protocol: ProtoUDP, PayloadLen: 95,
		Src: netip.MustParseAddr("192.168.0.1"), Dst: netip.MustParseAddr("192.168.0.199")}
	b := make([]byte, 20)
	f.Put(b)
	want := []byte{0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199}
	if !bytes.Equal(b, want) {
		t.Errorf("got  % x\nwant % x", b, want)
	}
}

func TestPutDoesNotAllocate(t *testing.T) {
	f := Fields{TTL: 64, Src: hostA, Dst: hostB, Options: RouterAlert[:]}
	b := make([]byte, 24)
	if n := testing.AllocsPerRun(100, func() {
		f.Put(b)
		if h, d := Parse(b); d != DropNone || h.SourceRoute() || h.Src() != hostA {
			t.Error(d)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBroadcast(t *testing.T) {
	for _, tt := range []struct{ prefix, want string }{
		{"10.77.0.7/24", "10.77.0.255"},
		{"10.77.0.0/24", "10.77.0.255"},
		{"10.0.0.1/8", "10.255.255.255"},
		{"172.16.5.4/20", "172.16.15.255"},
		{"192.168.1.1/30", "192.168.1.3"},
		{"192.168.1.1/31", ""},
		{"192.168.1.1/32", ""},
		{"0.0.0.0/0", "255.255.255.255"},
		{"fd77::7/24", ""},
	} {
		want := netip.Addr{}
		if tt.want != "" {
			want = netip.MustParseAddr(tt.want)
		}
		if got := Broadcast(netip.MustParsePrefix(tt.prefix)); got != want {
			t.Errorf("%s: %v, want %v", tt.prefix, got, want)
		}
	}
	if got := Broadcast(netip.Prefix{}); got.IsValid() {
		t.Errorf("no prefix: %v", got)
	}
}

func TestOptions(t *testing.T) {
	type opt struct {
		kind uint8
		data []byte
	}
	tests := []struct {
		name string
		b    []byte
		want []opt
		bad  int
	}{
		{"none", nil, nil, -1},
		{"no-operations", []byte{1, 1, 1, 1}, nil, -1},
		{"end", []byte{0, 7, 7, 7}, nil, -1},
		{"several", []byte{1, 148, 4, 0, 0, 99, 3, 5, 7, 2, 0, 1}, []opt{{148, []byte{0, 0}}, {99, []byte{5}}, {7, nil}}, -1},
		{"malformed second", []byte{99, 3, 5, 7, 1, 0, 0, 0}, []opt{{99, []byte{5}}}, 3},
		{"cut second", []byte{99, 3, 5, 7}, []opt{{99, []byte{5}}}, 3},
		{"too long", []byte{1, 99, 4, 0}, nil, 1},
	}
	for _, tt := range tests {
		var got []opt
		for o := range Walk(tt.b) {
			got = append(got, opt{o.Kind, o.Data})
		}
		if !slices.EqualFunc(got, tt.want, func(a, b opt) bool { return a.kind == b.kind && bytes.Equal(a.data, b.data) }) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if got := BadOption(tt.b); got != tt.bad {
			t.Errorf("%s: bad option at %d, want %d", tt.name, got, tt.bad)
		}
	}
}

func TestSpecialOptions(t *testing.T) {
	for _, tt := range []struct {
		b             []byte
		source, alert bool
	}{
		{nil, false, false},
		{[]byte{7, 7, 4, 0, 0, 0, 0, 0}, false, false},
		{[]byte{1, 131, 7, 4, 10, 0, 0, 1}, true, false},
		{[]byte{137, 7, 4, 10, 0, 0, 1, 0}, true, false},
		{[]byte{148, 4, 0, 0}, false, true},
		{[]byte{148, 4, 0, 0, 131, 3, 4, 0}, true, true},
		{[]byte{0, 131, 3, 4}, false, false},
	} {
		h, d := Parse(packet(tt.b))
		if d != DropNone || h.SourceRoute() != tt.source || h.RouterAlert() != tt.alert {
			t.Errorf("% x: %v, source route %v, router alert %v", tt.b, d, h.SourceRoute(), h.RouterAlert())
		}
	}
}

func TestRecordRoute(t *testing.T) {
	full := []byte{7, 11, 0, 10, 0, 0, 1, 10, 0, 0, 2}
	for pointer, want := range map[byte]int{0: 0, 3: 0, 4: 0, 7: 0, 8: 1, 11: 1, 12: 2, 16: 2, 255: 2} {
		full[2] = pointer
		for o := range Walk(full) {
			got := slices.Collect(o.Route())
			if len(got) != want || want == 2 && got[1] != netip.MustParseAddr("10.0.0.2") {
				t.Errorf("pointer %d: %v", pointer, got)
			}
		}
	}
	for o := range Walk([]byte{7, 2}) {
		for a := range o.Route() {
			t.Errorf("empty option: %v", a)
		}
	}
}

func TestTimestamp(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.1")
	for _, tt := range []struct {
		b    []byte
		want []Stamp
	}{
		{[]byte{68, 12, 13, 0, 0, 0, 0, 5, 0x80, 0, 0, 6}, []Stamp{{Time: 5}, {Time: 0x80000006}}},
		{[]byte{68, 12, 9, 0, 0, 0, 0, 5, 0, 0, 0, 6}, []Stamp{{Time: 5}}},
		{[]byte{68, 12, 13, 1, 10, 0, 0, 1, 0, 0, 0, 6}, []Stamp{{a, 6}}},
		{[]byte{68, 12, 5, 3, 10, 0, 0, 1, 0, 0, 0, 0}, nil},
		{[]byte{68, 12, 255, 0xf3, 10, 0, 0, 1, 0, 0, 0, 7}, []Stamp{{a, 7}}},
		{[]byte{68, 7, 255, 0, 1, 2, 3}, nil},
		{[]byte{68, 3, 5}, nil},
	} {
		for o := range Walk(tt.b) {
			if got := slices.Collect(o.Timestamps()); !slices.Equal(got, tt.want) {
				t.Errorf("% x: %v, want %v", tt.b, got, tt.want)
			}
		}
	}
}

func TestDropNames(t *testing.T) {
	seen := make(map[string]bool)
	for d := range NumDrops {
		if s := d.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("reason %d has the name %q", d, s)
		}
		seen[d.String()] = true
	}
	if NumDrops.String() != "unknown" || DropChecksum.Error() != "ipv4: bad-checksum" {
		t.Error(NumDrops.String(), DropChecksum.Error())
	}
}

// TestParseSuper: only a TCP super-frame may leave its length open.
func TestParseSuper(t *testing.T) {
	long := func(b []byte) []byte { return append(b, make([]byte, 66000)...) }
	for _, c := range []struct {
		what string
		b    []byte
		n    int
		want Drop
	}{
		{"its length", packet(nil, set(9, ProtoTCP)), len(packet(nil)), DropNone},
		{"padding", append(packet(nil, set(9, ProtoTCP)), 0, 0), len(packet(nil)), DropNone},
		{"length 0", packet(nil, set(9, ProtoTCP), set(2, 0, 0)), len(packet(nil)), DropNone},
		{"longer than can be said", long(packet(nil, set(9, ProtoTCP), set(2, 0, 0))), len(packet(nil)) + 66000, DropNone},
		{"UDP of length 0", packet(nil, set(9, ProtoUDP), set(2, 0, 0)), 0, DropTotalLen},
		{"a length below the header", packet(nil, set(9, ProtoTCP), set(2, 0, 19)), 0, DropTotalLen},
		{"a length beyond the frame", packet(nil, set(9, ProtoTCP), set(2, 0xff, 0xff)), 0, DropTruncated},
		{"version", packet(nil, set(9, ProtoTCP), set(2, 0, 0), set(0, 0x55)), 0, DropVersion},
	} {
		h, n, d := ParseSuper(c.b)
		if d != c.want || n != c.n || (h == nil) != (d != DropNone) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", c.what, n, d, c.n, c.want)
		}
		if _, plain := Parse(c.b); (plain == DropNone) != (d == DropNone && c.b[2]|c.b[3] != 0) {
			t.Errorf("%s: as an ordinary packet %v", c.what, plain)
		}
	}
}
