package tcp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/internal/ring"
	"github.com/tapstack/tapstack/internal/seq"
)

// streamByte is byte i of the stream that the tests send.
func streamByte(i int) byte { return byte(i*7 + i>>8) }

// rcvModel is the receiving half of a connection over a reassembly, next to a
// map of the bytes that says what it should hold. Positions count from the
// start of the stream, which has the sequence number base.
type rcvModel struct {
	t    *testing.T
	q    reassembly
	ring ring.Ring
	base seq.Num
	next int         // rcvNxt
	read int         // what the reader has taken
	have map[int]int // out-of-order bytes, and when each was last received
	now  int
}

func newRcvModel(t *testing.T, base seq.Num, limit int) *rcvModel {
	m := &rcvModel{t: t, base: base, have: map[int]int{}}
	m.ring.SetLimit(limit)
	return m
}

// byteRun is a maximal run of bytes in have.
type byteRun struct{ start, end, changed int }

func (m *rcvModel) runs() []byteRun {
	var out []byteRun
	for i, at := range m.have {
		out = append(out, byteRun{i, i + 1, at})
	}
	slices.SortFunc(out, func(a, b byteRun) int { return a.start - b.start })
	n := 0
	for _, r := range out {
		if n > 0 && out[n-1].end == r.start {
			out[n-1].end, out[n-1].changed = r.end, max(out[n-1].changed, r.changed)
			continue
		}
		out[n] = r
		n++
	}
	return out[:n]
}

func (m *rcvModel) block(start, end int) SACKBlock {
	return SACKBlock{m.base.Add(start), m.base.Add(end)}
}

// receive gives the bytes [start, end) of the stream to both.
func (m *rcvModel) receive(start, end int) {
	m.t.Helper()
	m.now++
	data := make([]byte, end-start)
	for i := range data {
		data[i] = streamByte(start + i)
	}
	dsack, dup, ok := m.q.add(&m.ring, m.base.Add(start), data, m.base.Add(m.next))

	// What should have happened.
	limit := m.read + m.ring.Limit()
	wantDup := SACKBlock{}
	old := func(i int) bool { _, ok := m.have[i]; return ok || i < m.next }
	for i := start; i < min(end, max(limit, m.next)); i++ {
		if old(i) {
			j := i
			for j < end && (j < limit || j < m.next) && old(j) {
				j++
			}
			wantDup = m.block(i, j)
			break
		}
	}
	wantOK := max(start, m.next) >= end || max(start, m.next) < limit
	before := map[int]int{}
	for i, at := range m.have {
		before[i] = at
	}
	for i := max(start, m.next); i < min(end, limit); i++ {
		m.have[i] = m.now
	}
	if runs := m.runs(); len(runs) > maxRanges {
		last := runs[len(runs)-1]
		if last.changed == m.now {
			m.have, wantOK = before, false
		} else {
			for i := last.start; i < last.end; i++ {
				delete(m.have, i)
			}
		}
	}
	if dup != (wantDup != SACKBlock{}) || dsack != wantDup || ok != wantOK {
		m.t.Fatalf("add [%d,%d) at %d: dsack %v %v ok %v, want %v %v", start, end, m.next, dsack, dup, ok, wantDup, wantOK)
	}

	n := m.q.pop(m.base.Add(m.next))
	m.ring.Commit(n)
	want := 0
	for {
		if _, ok := m.have[m.next]; !ok {
			break
		}
		delete(m.have, m.next)
		m.next++
		want++
	}
	if n != want {
		m.t.Fatalf("after [%d,%d): pop gives %d, want %d", start, end, n, want)
	}
	m.check()
}

// take reads up to n bytes.
func (m *rcvModel) take(n int) {
	m.t.Helper()
	p := make([]byte, n)
	for i, c := range p[:m.ring.Read(p)] {
		if c != streamByte(m.read+i) {
			m.t.Fatalf("byte %d is %#x, want %#x", m.read+i, c, streamByte(m.read+i))
		}
	}
	m.read += min(n, m.next-m.read)
	m.check()
}

func (m *rcvModel) check() {
	m.t.Helper()
	if m.ring.Len() != m.next-m.read || m.q.bytes() != len(m.have) || m.q.empty() != (len(m.have) == 0) {
		m.t.Fatalf("%d readable %d held, want %d %d", m.ring.Len(), m.q.bytes(), m.next-m.read, len(m.have))
	}
	runs := m.runs()
	if len(runs) != len(m.q.ranges) {
		m.t.Fatalf("%d ranges, want %d", len(m.q.ranges), len(runs))
	}
	for i, r := range m.q.ranges {
		if got, want := (SACKBlock{r.start, r.end}), m.block(runs[i].start, runs[i].end); got != want {
			m.t.Fatalf("range %d: %v, want %v", i, got, want)
		}
	}
	slices.SortFunc(runs, func(a, b byteRun) int { return b.changed - a.changed })
	var got [4]SACKBlock
	n := m.q.blocks(got[:])
	if n != min(len(runs), len(got)) {
		m.t.Fatalf("%d blocks, want %d", n, min(len(runs), len(got)))
	}
	for i := range n {
		if want := m.block(runs[i].start, runs[i].end); got[i] != want {
			m.t.Fatalf("block %d: %v, want %v", i, got[i], want)
		}
	}
}

func TestReassemblyAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, base := range []seq.Num{0, 0xffffff00, 0x7fffff80} {
		for range 5 {
			m := newRcvModel(t, base, 200+rng.IntN(400))
			for range 150 {
				start := max(0, m.next+rng.IntN(500)-100)
				m.receive(start, start+rng.IntN(60))
				if rng.IntN(3) == 0 {
					m.take(rng.IntN(200))
				}
			}
			// Everything that is missing arrives.
			for m.next < 1500 {
				m.receive(m.next, m.next+50)
				m.take(100)
			}
		}
	}
}

func FuzzReassembly(f *testing.F) {
	f.Add(uint32(0xfffffff0), []byte{10, 5, 30, 5, 12, 20, 0, 10, 200, 1})
	f.Add(uint32(0), []byte{100, 1, 102, 1, 104, 1, 103, 1, 101, 1, 64, 40})
	f.Fuzz(func(t *testing.T, base uint32, ops []byte) {
		m := newRcvModel(t, seq.Num(base), 300)
		for ops = ops[:min(len(ops), 400)]; len(ops) >= 2; ops = ops[2:] {
			if ops[1] >= 240 {
				m.take(int(ops[0]))
				continue
			}
			start := max(0, m.next+int(ops[0])*2-64)
			m.receive(start, start+int(ops[1]))
		}
	})
}

// The example of RFC 2018 §4: 8 segments of 500 bytes from 5000 on. The values
// are those of the document's tables.
func TestReassemblyRFC2018Examples(t *testing.T) {
	for _, c := range []struct {
		name     string
		received []int // segments, counted from 0
		want     []string
	}{
		{"case 2: the first is lost", []int{1, 2, 3}, []string{"5500-6000", "5500-6500", "5500-7000"}},
		{"case 3: the 2nd, 4th, 6th and 8th are lost", []int{0, 2, 4, 6},
			[]string{"", "6000-6500", "7000-7500 6000-6500", "8000-8500 7000-7500 6000-6500"}},
		{"case 3, then the 4th arrives, then the 2nd", []int{0, 2, 4, 6, 3, 1},
			[]string{"", "6000-6500", "7000-7500 6000-6500", "8000-8500 7000-7500 6000-6500",
				"6000-7500 8000-8500", "8000-8500"}},
	} {
		var q reassembly
		var r ring.Ring
		r.SetLimit(10_000)
		rcvNxt := seq.Num(5000)
		for i, n := range c.received {
			q.add(&r, seq.Num(5000+500*n), make([]byte, 500), rcvNxt)
			k := q.pop(rcvNxt)
			r.Commit(k)
			rcvNxt = rcvNxt.Add(k)
			var b [4]SACKBlock
			got := ""
			for j, s := range b[:q.blocks(b[:])] {
				if j > 0 {
					got += " "
				}
				got += fmt.Sprintf("%d-%d", s.Left, s.Right)
			}
			if got != c.want[i] {
				t.Errorf("%s, after %d: %q, want %q", c.name, i, got, c.want[i])
			}
		}
	}
}

// The examples of RFC 2883 §4: what a duplicate reports.
func TestReassemblyDSACK(t *testing.T) {
	type seg struct{ start, end int }
	for _, c := range []struct {
		name  string
		first []seg
		then  seg
		want  string // "" for no duplicate
	}{
		{"new", []seg{{4000, 4500}}, seg{4500, 5000}, ""},
		{"touching from below", []seg{{4000, 4500}}, seg{3800, 4000}, ""},
		{"§4.1.1 all of it below rcvNxt", nil, seg{500, 1000}, "500-1000"},
		{"§4.1.3 all of it in a range", []seg{{4000, 5500}}, seg{4500, 5000}, "4500-5000"},
		{"§4.2.1 part of it below rcvNxt", nil, seg{500, 1500}, "500-1000"},
		{"§4.2.2 its front in a range", []seg{{1500, 2000}}, seg{1500, 2500}, "1500-2000"},
		{"its end in a range", []seg{{1500, 2000}}, seg{1200, 1700}, "1500-1700"},
		{"§4.2.3 two parts: the first", []seg{{1500, 2000}, {2500, 3000}}, seg{1500, 3000}, "1500-2000"},
		{"it covers a range", []seg{{1500, 2000}}, seg{1200, 2200}, "1500-2000"},
		{"empty", []seg{{1500, 2000}}, seg{1600, 1600}, ""},
		{"empty and old", nil, seg{600, 600}, ""},
	} {
		var q reassembly
		var r ring.Ring
		r.SetLimit(10_000)
		for _, s := range c.first {
			q.add(&r, seq.Num(s.start), make([]byte, s.end-s.start), 1000)
		}
		b, dup, ok := q.add(&r, seq.Num(c.then.start), make([]byte, c.then.end-c.then.start), 1000)
		got := ""
		if dup {
			got = fmt.Sprintf("%d-%d", b.Left, b.Right)
		}
		if got != c.want || !ok {
			t.Errorf("%s: %q ok %v, want %q", c.name, got, ok, c.want)
		}
	}
}

// Segments of one byte, each before a gap of one: all is kept below the limit,
// and what is missing yields everything at once.
func TestReassemblyOneByteSegments(t *testing.T) {
	m := newRcvModel(t, 0xffffff38, 4096)
	for i := range 400 {
		m.receive(1+2*i, 2+2*i)
	}
	for i := range 400 {
		m.receive(2*i, 2*i+1)
	}
	if m.next != 800 || !m.q.empty() {
		t.Fatalf("rcvNxt %d, %d bytes held", m.next, m.q.bytes())
	}
	m.take(800)
	if m.read != 800 {
		t.Fatalf("read %d", m.read)
	}
}

func TestReassemblyLimits(t *testing.T) {
	m := newRcvModel(t, 100, 4096)
	// From the far end to the near: each new range evicts the farthest.
	for i := 2*maxRanges + 100; i > 0; i -= 2 {
		m.receive(i, i+1)
		if len(m.q.ranges) > maxRanges {
			t.Fatalf("%d ranges", len(m.q.ranges))
		}
	}
	if got := m.q.ranges[0].start; got != 102 || len(m.q.ranges) != maxRanges {
		t.Fatalf("%d ranges from %d", len(m.q.ranges), got)
	}
	// A farther one is refused; one that extends a range is not.
	m.receive(3000, 3001)
	m.receive(2*maxRanges+1, 2*maxRanges+2)
	// Beyond the ring there is no room, however few the ranges.
	m = newRcvModel(t, 100, 4096)
	m.receive(4096, 4097)
	m.receive(5000, 6000)
	m.receive(4000, 5000)
	if m.q.bytes() != 96 {
		t.Fatalf("%d bytes held", m.q.bytes())
	}
	m.receive(0, 4000)
	m.receive(4096, 4100) // full
	if m.ring.Len() != 4096 {
		t.Fatalf("%d bytes readable", m.ring.Len())
	}
	m.q.reset()
	if m.q.bytes() != 0 || !m.q.empty() {
		t.Fatal("reset")
	}
}

// What is held already is not replaced by a later copy with other bytes.
func TestReassemblyFirstCopyCounts(t *testing.T) {
	var q reassembly
	var r ring.Ring
	r.SetLimit(4096)
	q.add(&r, 2, []byte("CD"), 0)
	q.add(&r, 6, []byte("GH"), 0)
	q.add(&r, 0, []byte("abcdefghij"), 0)
	r.Commit(q.pop(0))
	p := make([]byte, 20)
	if got := string(p[:r.Read(p)]); got != "abCDefGHij" {
		t.Errorf("%q", got)
	}
}

func TestReassemblyDoesNotAllocateInSteadyState(t *testing.T) {
	var q reassembly
	var r ring.Ring
	r.SetLimit(65536)
	data := make([]byte, 1000)
	rcvNxt := seq.Num(0xffffff00)
	p := make([]byte, 4000)
	cycle := func() {
		for _, i := range []int{3, 1, 2, 0} {
			q.add(&r, rcvNxt.Add(1000*i), data, rcvNxt)
		}
		n := q.pop(rcvNxt)
		r.Commit(n)
		rcvNxt = rcvNxt.Add(n)
		r.Read(p)
	}
	cycle()
	if n := testing.AllocsPerRun(50, cycle); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if r.Len() != 0 || !q.empty() {
		t.Errorf("%d bytes left, %d held", r.Len(), q.bytes())
	}
}
