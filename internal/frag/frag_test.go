package frag

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
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

const (
	second = mono.Time(time.Second)
	start  = 1000 * second
)

// family is how the two kinds of headers differ to the tests.
type family struct {
	name    string
	key     Key
	hdr     int // length of the header that is kept
	between int // of what lies between it and the data: IPv6's fragment header
}

var families = []family{
	{"IPv4", Key{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 7, 17}, 20, 0},
	{"IPv6", Key{Src: netip.MustParseAddr("fd77::1"), Dst: netip.MustParseAddr("fd77::2"), ID: 7}, 40, 8},
}

var v4, v6 = families[0], families[1]

// from returns the family's key with another source and identification.
func (f family) from(src byte, id uint32) Key {
	k := f.key
	b := k.Src.AsSlice()
	b[len(b)-1] = src
	k.Src, _ = netip.AddrFromSlice(b)
	k.ID = id
	return k
}

// header returns bytes that can be told apart by offset.
func (f family) header(offset int) []byte {
	h := make([]byte, f.hdr+f.between)
	h[0] = 4 << 4
	if f.hdr == 40 {
		h[0] = 6 << 4
	}
	h[2], h[3] = byte(offset>>8), byte(offset)
	return h
}

// packet builds a fragment as a table wants it, in a slab of the size given.
func (f family) packet(offset int, data []byte, slab int) *pkt.Buf {
	p := pkt.Get(slab)
	h := f.header(offset)
	copy(p.Append(len(h)), h)
	copy(p.Append(len(data)), data)
	p.MarkNetwork()
	p.Pull(len(h))
	return p
}

// content is the datagram that the tests cut up.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// span is a range of data and whether it is the last.
type span struct {
	from, to int
	last     bool
}

func (s span) of(f family, data []byte) *pkt.Buf {
	return f.packet(s.from, data[s.from:s.to], f.hdr+f.between+s.to-s.from)
}

// add gives span s of data to the table.
func add(t *Table, f family, k Key, data []byte, s span) (*pkt.Buf, Drop) {
	return t.Add(start, k, s.of(f, data), f.hdr, s.from, !s.last)
}

// wantWhole checks a finished datagram and frees it.
func wantWhole(t *testing.T, f family, p *pkt.Buf, data []byte) {
	t.Helper()
	if p == nil {
		t.Fatal("no datagram")
	}
	defer p.Put()
	want := append(f.header(0)[:f.hdr:f.hdr], data...)
	if !bytes.Equal(p.Bytes(), want) || !bytes.Equal(p.Network(), want) {
		t.Fatalf("datagram of %d bytes differs from the %d sent", p.Len(), len(want))
	}
}

func wantEmpty(t *testing.T, tab *Table) {
	t.Helper()
	if tab.Len() != 0 || tab.Bytes() != 0 || tab.Deadline() != 0 || len(tab.byKey) != 0 || len(tab.source) != 0 {
		t.Fatalf("table not empty: %d datagrams, %d bytes, deadline %v, %d keys, %d sources",
			tab.Len(), tab.Bytes(), tab.Deadline(), len(tab.byKey), len(tab.source))
	}
}

func TestOrders(t *testing.T) {
	data := content(4*1480 + 333)
	for _, f := range families {
		for _, order := range []string{"01234", "43210", "12043", "1202103341", "40404040123", "0000123344", "3142300"} {
			t.Run(f.name+" "+order, func(t *testing.T) {
				tab := New(Config{})
				seen := make(map[rune]bool)
				for i, c := range order {
					from := int(c-'0') * 1480
					to := min(from+1480, len(data))
					p, d := add(tab, f, f.key, data, span{from, to, to == len(data)})
					wantDrop := DropNone
					if seen[c] {
						wantDrop = DropDuplicate
					}
					seen[c] = true
					if d != wantDrop {
						t.Fatalf("fragment %d (%c): drop %v, want %v", i, c, d, wantDrop)
					}
					if len(seen) == 5 {
						wantWhole(t, f, p, data)
						wantEmpty(t, tab)
						return
					}
					if p != nil {
						t.Fatalf("datagram after fragment %d of %s", i, order)
					}
				}
				t.Fatal("no datagram")
			})
		}
	}
}

// permute calls f with every order of 0..n-1.
func permute(n int, f func([]int)) {
	order := make([]int, 0, n)
	var rec func(used int)
	rec = func(used int) {
		if len(order) == n {
			f(order)
			return
		}
		for i := range n {
			if used&(1<<i) == 0 {
				order = append(order, i)
				rec(used | 1<<i)
				order = order[:len(order)-1]
			}
		}
	}
	rec(0)
}

// TestAllen puts fragments A and B in each of the thirteen relations that two
// intervals can have, and delivers them with what is missing to a whole
// datagram in all orders.
func TestAllen(t *testing.T) {
	const size = 256
	a := span{64, 128, false}
	tests := []struct {
		relation string
		b        span
		good     bool
	}{
		{"A before B", span{136, 192, false}, true},
		{"A after B", span{16, 56, false}, true},
		{"A meets B", span{128, 192, false}, true},
		{"A met by B", span{16, 64, false}, true},
		{"A equals B", span{64, 128, false}, true},
		{"A overlaps B", span{96, 192, false}, false},
		{"A overlapped by B", span{16, 96, false}, false},
		{"A starts B", span{64, 192, false}, false},
		{"A started by B", span{64, 96, false}, false},
		{"A during B", span{16, 192, false}, false},
		{"A contains B", span{72, 120, false}, false},
		{"A finishes B", span{16, 128, false}, false},
		{"A finished by B", span{96, 128, false}, false},
	}
	data := content(size)
	for _, f := range families {
		for _, tt := range tests {
			t.Run(f.name+" "+tt.relation, func(t *testing.T) {
				spans := []span{a, tt.b}
				lo, hi := a, tt.b
				if hi.from < lo.from {
					lo, hi = hi, lo
				}
				if lo.to < hi.from {
					spans = append(spans, span{lo.to, hi.from, false})
				}
				spans = append(spans, span{0, lo.from, false}, span{max(lo.to, hi.to), size, true})
				permute(len(spans), func(order []int) {
					tab := New(Config{})
					var got *pkt.Buf
					seenA, seenB := false, false
					for _, i := range order {
						// The datagram may be complete before its duplicate
						// comes, which then starts another.
						p, _ := add(tab, f, f.key, data, spans[i])
						seenA, seenB = seenA || i == 0, seenB || i == 1
						if p != nil && !tt.good && !(seenA && seenB) {
							// So it may before the overlapping piece comes,
							// if it lies within another.
							wantWhole(t, f, p, data)
							continue
						}
						if p != nil && got != nil {
							t.Fatalf("order %v: two datagrams", order)
						}
						if p != nil {
							got = p
						}
					}
					if tt.good {
						wantWhole(t, f, got, data)
					} else if got != nil {
						t.Fatalf("order %v: overlapping fragments gave a datagram", order)
					} else if tab.Len() != 1 {
						t.Fatalf("order %v: %d datagrams after an overlap", order, tab.Len())
					}
					tab.Flush()
					wantEmpty(t, tab)
				})
			})
		}
	}
}

// step is one fragment and what is to become of it.
type step struct {
	s    span
	want Drop
}

func TestContradictions(t *testing.T) {
	tests := []struct {
		name  string
		steps []step
	}{
		{"teardrop", []step{{span{0, 40, false}, DropNone}, {span{24, 28, true}, DropOverlap}}},
		{"teardrop, reversed", []step{{span{24, 28, true}, DropNone}, {span{0, 40, false}, DropOverlap}}},
		{"two ends, the later longer", []step{{span{8, 16, true}, DropNone}, {span{24, 32, true}, DropEnd}}},
		{"two ends, the later shorter", []step{{span{24, 32, true}, DropNone}, {span{8, 16, true}, DropEnd}}},
		{"data behind the end", []step{{span{8, 16, true}, DropNone}, {span{16, 24, false}, DropEnd}}},
		{"end before data", []step{{span{32, 40, false}, DropNone}, {span{8, 16, true}, DropEnd}}},
		{"same range, last and not", []step{{span{8, 16, false}, DropNone}, {span{8, 16, true}, DropOverlap}}},
		{"same range, not and last", []step{{span{8, 16, true}, DropNone}, {span{8, 16, false}, DropOverlap}}},
	}
	data := content(4096)
	for _, f := range families {
		for _, tt := range tests {
			t.Run(f.name+" "+tt.name, func(t *testing.T) {
				tab := New(Config{})
				for i, s := range tt.steps {
					if p, d := add(tab, f, f.key, data, s.s); p != nil || d != s.want {
						t.Fatalf("step %d: got %v %v, want drop %v", i, p, d, s.want)
					}
				}
				// RFC 5722: the other fragments are refused as well, until the
				// timeout counted from the first.
				if tab.Bytes() != 0 {
					t.Fatalf("a discarded datagram holds %d bytes", tab.Bytes())
				}
				for _, s := range []span{{0, 8, false}, {8, 4096, true}} {
					if p, d := add(tab, f, f.key, data, s); p != nil || d != DropDiscarded {
						t.Fatalf("got %v %v, want %v", p, d, DropDiscarded)
					}
				}
				tab.Expire(tab.Deadline(), func(*pkt.Buf, int) { t.Error("time exceeded for a discarded datagram") })
				wantEmpty(t, tab)
				// The identification is usable again.
				add(tab, f, f.key, data, span{0, 8, false})
				p, _ := add(tab, f, f.key, data, span{8, 4096, true})
				wantWhole(t, f, p, data)
			})
		}
	}
}

func TestSameRangeOtherBytes(t *testing.T) {
	tab := New(Config{})
	add(tab, v4, v4.key, content(64), span{0, 64, false})
	if p, d := add(tab, v4, v4.key, make([]byte, 64), span{0, 64, false}); p != nil || d != DropOverlap {
		t.Fatalf("got %v %v, want %v", p, d, DropOverlap)
	}
	tab.Flush()
}

func TestRefusedAlone(t *testing.T) {
	data := content(70000)
	tests := []struct {
		name string
		f    family
		s    span
		want Drop
	}{
		{"empty", v4, span{8, 8, false}, DropEmpty},
		{"empty last", v6, span{8, 8, true}, DropEmpty},
		{"empty whole", v6, span{0, 0, true}, DropEmpty},
		{"no multiple of 8", v4, span{0, 36, false}, DropBadLength},
		{"no multiple of 8", v6, span{0, 1001, false}, DropBadLength},
		{"ping of death", v4, span{65528, 66500, true}, DropTooLong},
		{"ping of death, not last", v4, span{65512, 65520, false}, DropTooLong},
		{"one byte too long", v4, span{65512, 65516, true}, DropTooLong},
		{"ping of death", v6, span{65528, 66500, true}, DropTooLong},
		{"one byte too long", v6, span{65528, 65536, true}, DropTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.f.name+" "+tt.name, func(t *testing.T) {
			tab := New(Config{})
			if p, d := add(tab, tt.f, tt.f.key, data, tt.s); p != nil || d != tt.want {
				t.Fatalf("got %v %v, want %v", p, d, tt.want)
			}
			wantEmpty(t, tab)
		})
	}
}

// TestLargestDatagram joins 65535 bytes, of which IPv4 counts the header in.
func TestLargestDatagram(t *testing.T) {
	for _, f := range families {
		size := 65535
		if f.hdr == 20 {
			size -= f.hdr
		}
		data := content(size)
		tab := New(Config{})
		var whole *pkt.Buf
		for at := 0; at < size; at += 1480 {
			end := min(at+1480, size)
			p, d := add(tab, f, f.key, data, span{at, end, end == size})
			if d != DropNone {
				t.Fatalf("%s at %d: %v", f.name, at, d)
			}
			if p != nil {
				whole = p
			}
		}
		wantWhole(t, f, whole, data)
		wantEmpty(t, tab)
	}
}

// TestLongFirstHeader has a first fragment with more header than the others,
// which makes the datagram too long only when it is put together.
func TestLongFirstHeader(t *testing.T) {
	tab := New(Config{})
	data := content(65515)
	add(tab, v4, v4.key, data, span{32000, 65515, true})
	p := pkt.Get(60 + 32000)
	copy(p.Append(60), make([]byte, 60))
	copy(p.Append(32000), data)
	p.MarkNetwork()
	p.Pull(60)
	if w, d := tab.Add(start, v4.key, p, 60, 0, true); w != nil || d != DropTooLong {
		t.Fatalf("got %v %v, want %v", w, d, DropTooLong)
	}
	tab.Flush()
	wantEmpty(t, tab)
}

// TestAtomic: RFC 6946 keeps a fragment that is a whole datagram apart from
// others of the same identification.
func TestAtomic(t *testing.T) {
	for _, f := range families {
		tab := New(Config{})
		data := content(1000)
		add(tab, f, f.key, data, span{0, 512, false})
		p, d := add(tab, f, f.key, data[:100], span{0, 100, true})
		if d != DropNone {
			t.Fatalf("%s: %v", f.name, d)
		}
		wantWhole(t, f, p, data[:100])
		p, _ = add(tab, f, f.key, data, span{512, 1000, true})
		wantWhole(t, f, p, data)
		wantEmpty(t, tab)
	}
}

// TestKeysApart interleaves datagrams that differ in one part of the key.
func TestKeysApart(t *testing.T) {
	data := content(64)
	for _, f := range families {
		keys := []Key{f.key, f.key, f.key, f.key, f.key}
		keys[1].ID++
		keys[2].Proto++
		keys[3] = f.from(9, f.key.ID)
		keys[4].Dst = keys[3].Src
		tab := New(Config{})
		for i, k := range keys {
			if p, d := add(tab, f, k, data[i:], span{0, 32, false}); p != nil || d != DropNone {
				t.Fatalf("%s %d: %v %v", f.name, i, p, d)
			}
		}
		for i, k := range keys {
			mine := append(bytes.Clone(data[i:i+32]), data[32:]...)
			p, _ := add(tab, f, k, data, span{32, 64, true})
			wantWhole(t, f, p, mine)
		}
		wantEmpty(t, tab)
	}
}

// TestMarks follows the ECN codepoints of two fragments into the datagram
// (RFC 3168 §5.3).
func TestMarks(t *testing.T) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	tests := []struct {
		a, b, want uint8
		drop       Drop
	}{
		{notECT, notECT, notECT, DropNone},
		{ect0, ect0, ect0, DropNone},
		{ect1, ect1, ect1, DropNone},
		{ce, ce, ce, DropNone},
		{ect0, ce, ce, DropNone},
		{ce, ect0, ce, DropNone},
		{ect1, ce, ce, DropNone},
		{ect0, ect1, ect0, DropNone},
		{notECT, ce, 0, DropECN},
		{ce, notECT, 0, DropECN},
		{ect0, notECT, 0, DropECN},
	}
	data := content(64)
	for _, f := range families {
		shift := 0
		if f.hdr == 40 {
			shift = 4
		}
		for _, tt := range tests {
			tab := New(Config{})
			first, second := span{0, 32, false}.of(f, data), span{32, 64, true}.of(f, data)
			first.Network()[1] |= tt.a << shift
			second.Network()[1] |= tt.b << shift
			tab.Add(start, f.key, first, f.hdr, 0, true)
			p, d := tab.Add(start, f.key, second, f.hdr, 32, false)
			if d != tt.drop || (p == nil) != (d != DropNone) {
				t.Errorf("%s %v: drop %v", f.name, tt, d)
			}
			if p != nil {
				if got := p.Bytes()[1] >> shift & 3; got != tt.want {
					t.Errorf("%s %v: mark %d", f.name, tt, got)
				}
				p.Put()
			}
			tab.Flush()
		}
	}
}

func TestGroupAndTimeOfWhole(t *testing.T) {
	tab := New(Config{})
	data := content(64)
	first, second := span{0, 32, false}.of(v4, data), span{32, 64, true}.of(v4, data)
	first.Group, first.At, second.At = true, 5, 9
	tab.Add(start, v4.key, first, 20, 0, true)
	p, _ := tab.Add(start, v4.key, second, 20, 32, false)
	if !p.Group || p.At != 9 {
		t.Errorf("group %v at %d, want true 9", p.Group, p.At)
	}
	p.Put()
}
