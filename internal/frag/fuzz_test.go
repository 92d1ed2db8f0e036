package frag

import (
	"math/rand/v2"
	"testing"

	"github.com/tapstack/tapstack/internal/pkt"
)

// FuzzShuffled cuts a datagram at random and delivers the pieces in random order
// with duplicates; with extra, an overlapping piece is among them.
func FuzzShuffled(f *testing.F) {
	f.Add(uint64(1), uint16(5920), false, false)
	f.Add(uint64(2), uint16(65515), false, true)
	f.Add(uint64(3), uint16(17), true, false)
	f.Add(uint64(4), uint16(9000), true, true)
	f.Add(uint64(233), uint16(62), true, true) // the odd piece is what was missing
	f.Fuzz(func(t *testing.T, seed uint64, size uint16, six, extra bool) {
		shuffled(t, seed, size, six, extra)
	})
}

func TestShuffled(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		shuffled(t, r.Uint64(), uint16(r.UintN(20000)), r.UintN(2) == 0, r.UintN(2) == 0)
	}
}

func shuffled(t *testing.T, seed uint64, size uint16, six, extra bool) {
	r := rand.New(rand.NewPCG(seed, 0))
	fam := v4
	if six {
		fam = v6
	}
	n := min(max(int(size), 9), 65515)
	data := content(n)
	units := (n + 7) / 8 // the datagram in steps of 8 bytes
	var spans []span
	for at := 0; at < units; {
		// A first piece shorter than the whole, or it would be no fragment.
		most := min(units-at, max(1, units/3))
		next := at + 1 + r.IntN(most)
		if next-at < units/100 {
			next = min(at+units/100, units) // stay below 256 pieces
		}
		spans = append(spans, span{at * 8, min(next*8, n), next == units})
		at = next
	}
	once := len(spans)
	// Fewer copies than pieces, or they would make a second datagram.
	for i := range r.IntN(min(4, once)) {
		spans = append(spans, spans[(i*7)%once])
	}
	r.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
	if extra {
		// A piece that equals none and so overlaps some.
		bad := span{0, 0, false}
		for i := 0; ; i++ {
			bad.from = r.IntN(units) * 8
			bad.to = min(bad.from+8*(1+r.IntN(units)), n&^7)
			equal := false
			for _, s := range spans {
				equal = equal || s.from == bad.from && s.to == bad.to
			}
			if !equal && bad.from < bad.to {
				break
			}
			if i == 100 {
				return // all pieces are the least there can be
			}
		}
		at := r.IntN(len(spans) + 1)
		spans = append(spans[:at:at], append([]span{bad}, spans[at:]...)...)
	}
	tab := New(Config{})
	delivered := 0
	for i, s := range spans {
		p, _ := add(tab, fam, fam.key, data, s)
		if p == nil {
			continue
		}
		wantWhole(t, fam, p, data)
		delivered++
		// The datagram may be whole before the odd piece comes, or by means of
		// it; what follows is then another datagram.
		if delivered == 1 && overlapping(spans[:i+1]) {
			t.Fatalf("delivered in spite of an overlap: %v", spans[:i+1])
		}
	}
	if !extra && delivered != 1 {
		t.Fatalf("delivered %d times", delivered)
	}
	tab.Flush()
	wantEmpty(t, tab)
}

// overlapping reports whether two of the spans overlap without being equal.
func overlapping(spans []span) bool {
	for i, a := range spans {
		for _, b := range spans[:i] {
			if a != b && a.from < b.to && b.from < a.to {
				return true
			}
		}
	}
	return false
}

// oracle is reassembly as a drawing: a map of the bytes that have come.
type oracle struct {
	from      map[int]span // which fragment each byte came with
	top, end  int
	pieces    int
	discarded bool
}

// add answers what the table must.
func (o *oracle) add(s span, maxFragments int) (complete bool, d Drop) {
	if o.discarded {
		return false, DropDiscarded
	}
	overlap, copies := false, true
	for i := s.from; i < s.to; i++ {
		was, ok := o.from[i]
		overlap = overlap || ok
		copies = copies && ok && was == s
	}
	switch {
	case copies:
		return false, DropDuplicate
	case overlap:
		d = DropOverlap
	case s.last && (o.end != 0 || o.top > s.to), !s.last && o.end != 0 && s.to > o.end:
		d = DropEnd
	case o.pieces == maxFragments:
		d = DropTooMany
	}
	if d != DropNone {
		o.discarded = true
		return false, d
	}
	for i := s.from; i < s.to; i++ {
		o.from[i] = s
	}
	o.pieces++
	o.top = max(o.top, s.to)
	if s.last {
		o.end = s.to
	}
	return o.end != 0 && len(o.from) == o.end, DropNone
}

// FuzzOracle reads fragments from script, three bytes each, and compares the
// table with the oracle at each step.
func FuzzOracle(f *testing.F) {
	f.Add([]byte{0x00, 1, 8, 0x40, 2, 5})
	f.Add([]byte{0x01, 0, 16, 0x02, 0, 16, 0x41, 2, 3, 0x42, 1, 4})
	f.Add([]byte{0x00, 0, 8, 0x00, 2, 8, 0x00, 4, 8, 0x00, 6, 8, 0x00, 8, 8, 0x00, 10, 8, 0x00, 12, 8})
	f.Fuzz(func(t *testing.T, script []byte) {
		const maxFragments = 6
		fam := v4
		data := content(4096)
		tab := New(Config{MaxFragments: maxFragments, MaxBytes: 1 << 30, MaxPerSource: 1 << 30})
		model := make(map[Key]*oracle)
		for ; len(script) >= 3; script = script[3:] {
			k := fam.from(script[0]&3, 1)
			s := span{from: int(script[1]&31) * 8, last: script[0]&0x40 != 0}
			s.to = s.from + int(script[2]&63)
			if !s.last {
				s.to = s.from + int(script[2]&7)*8
			}
			p, d := add(tab, fam, k, data, s)
			switch {
			case s.from == s.to:
				if d != DropEmpty {
					t.Fatalf("%v: %v", s, d)
				}
				continue
			case s.from == 0 && s.last:
				wantWhole(t, fam, p, data[:s.to])
				continue
			}
			o := model[k]
			if o == nil {
				o = &oracle{from: make(map[int]span)}
				model[k] = o
			}
			complete, want := o.add(s, maxFragments)
			if d != want || (p != nil) != complete {
				t.Fatalf("%v: drop %v, want %v; datagram %v, want %v", s, d, want, p != nil, complete)
			}
			if complete {
				wantWhole(t, fam, p, data[:o.end])
				delete(model, k)
			}
			bytes := 0
			for _, o := range model {
				if !o.discarded {
					bytes += o.pieces * pkt.SmallSlab
				}
			}
			if tab.Len() != len(model) || tab.Bytes() != bytes {
				t.Fatalf("%d datagrams and %d bytes, want %d and %d", tab.Len(), tab.Bytes(), len(model), bytes)
			}
		}
		tab.Flush()
		wantEmpty(t, tab)
	})
}
