package ring

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// model is what a ring should be: bytes with a mark for each that was written,
// and how many may be read.
type model struct {
	b     []byte
	has   []bool
	len   int
	limit int
}

func (m *model) writeAt(off int, p []byte) int {
	if off < 0 || off >= m.limit {
		return 0
	}
	p = p[:min(len(p), m.limit-off)]
	for len(m.b) < off+len(p) {
		m.b, m.has = append(m.b, 0), append(m.has, false)
	}
	for i, c := range p {
		m.b[off+i], m.has[off+i] = c, true
	}
	return len(p)
}

// ahead returns how many bytes right after len have been written.
func (m *model) ahead() int {
	n := 0
	for m.len+n < len(m.has) && m.has[m.len+n] {
		n++
	}
	return n
}

func (m *model) discard(n int) {
	n = min(n, m.len)
	m.b, m.has, m.len = m.b[n:], m.has[n:], m.len-n
}

func joined(a, b []byte) []byte { return append(append([]byte(nil), a...), b...) }

// step does one operation, chosen by op, size and off, to both and compares.
func step(t *testing.T, r *Ring, m *model, op byte, size, off int, fill byte) {
	t.Helper()
	p := make([]byte, size)
	for i := range p {
		p[i] = fill + byte(i)
	}
	switch op % 8 {
	case 0, 1:
		got, want := r.Write(p), m.writeAt(m.len, p)
		m.len += want
		if got != want {
			t.Fatalf("Write(%d) = %d, want %d", size, got, want)
		}
	case 2:
		at := m.len + off
		if got, want := r.WriteAt(at, p), m.writeAt(at, p); got != want {
			t.Fatalf("WriteAt(%d, %d) = %d, want %d", at, size, got, want)
		}
	case 3:
		n := m.ahead()
		r.Commit(n)
		m.len += n
	case 4:
		got := p[:r.Read(p)]
		if want := m.b[:min(size, m.len)]; !bytes.Equal(got, want) {
			t.Fatalf("Read(%d): %x, want %x", size, got, want)
		}
		m.discard(size)
	case 5:
		r.Discard(size)
		m.discard(size)
	case 6:
		r.Shrink()
	case 7:
		if fill == 0 {
			m.limit = size + off
			r.SetLimit(m.limit)
		}
	}
	if r.Len() != m.len || r.Free() != max(0, m.limit-m.len) || r.Limit() != m.limit {
		t.Fatalf("Len %d Free %d Limit %d, want %d %d %d", r.Len(), r.Free(), r.Limit(), m.len, m.limit-m.len, m.limit)
	}
	if a, b := r.Peek(0, m.len+1); !bytes.Equal(joined(a, b), m.b[:m.len]) {
		t.Fatalf("content differs:\n got %x\nwant %x", joined(a, b), m.b[:m.len])
	}
	lo := min(off, m.len)
	hi := min(lo+size, m.len)
	if a, b := r.Peek(off, size); !bytes.Equal(joined(a, b), m.b[lo:hi]) {
		t.Fatalf("Peek(%d, %d): %x, want %x", off, size, joined(a, b), m.b[lo:hi])
	}
	if c := r.Cap(); c&(c-1) != 0 || (c != 0 && c < MinCap) || c < m.len {
		t.Fatalf("Cap %d with %d bytes", c, m.len)
	}
}

func TestAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		r, m := new(Ring), new(model)
		m.limit = rng.IntN(20000)
		r.SetLimit(m.limit)
		for range 200 {
			step(t, r, m, byte(rng.IntN(8)), rng.IntN(3000), rng.IntN(3000), byte(rng.IntN(40)))
		}
	}
}

func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 10, 0, 2, 20, 30, 4, 5, 0, 3, 0, 0})
	f.Add([]byte{0, 255, 0, 4, 200, 0, 0, 255, 0, 2, 255, 255, 0, 255, 0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		r, m := new(Ring), &model{limit: 9000}
		r.SetLimit(m.limit)
		for ; len(ops) >= 3 && len(m.b) <= 20000; ops = ops[3:] {
			step(t, r, m, ops[0], int(ops[1])*8, int(ops[2])*8, ops[0]>>3)
		}
	})
}

func TestStartsWithoutMemoryAndGivesItBack(t *testing.T) {
	var r Ring
	r.SetLimit(100_000)
	if r.Cap() != 0 {
		t.Fatalf("fresh: Cap %d", r.Cap())
	}
	for _, c := range []struct{ write, cap int }{{1, 4096}, {4095, 4096}, {1, 8192}, {60_000, 65536}, {60_000, 131072}} {
		r.Write(make([]byte, c.write))
		if r.Cap() != c.cap {
			t.Fatalf("Len %d: Cap %d, want %d", r.Len(), r.Cap(), c.cap)
		}
	}
	if r.Len() != 100_000 || r.Free() != 0 {
		t.Fatalf("limit not kept: Len %d", r.Len())
	}
	r.Shrink()
	if r.Cap() == 0 {
		t.Fatal("Shrink took memory in use")
	}
	r.Discard(100_000)
	r.Shrink()
	if r.Cap() != 0 || r.Limit() != 100_000 {
		t.Fatalf("after Shrink: Cap %d Limit %d", r.Cap(), r.Limit())
	}
}

func TestGrowingKeepsWhatWasWrittenAhead(t *testing.T) {
	var r Ring
	r.SetLimit(1 << 20)
	// The front lies in the middle of the memory, so that the move wraps.
	r.Write(make([]byte, 3000))
	r.Write([]byte("abc"))
	r.Discard(3000)
	r.WriteAt(2000, []byte("far ahead"))
	if r.Shrink(); r.Cap() != 4096 {
		t.Fatalf("Cap %d", r.Cap())
	}
	r.WriteAt(500_000, []byte("!"))
	r.Write(bytes.Repeat([]byte("-"), 1997))
	r.Commit(9)
	r.Discard(1990)
	if a, b := r.Peek(0, 100); string(joined(a, b)) != "----------far ahead" {
		t.Fatalf("%q", joined(a, b))
	}
	r.Discard(r.Len())
	if r.Shrink(); r.Cap() == 0 {
		t.Fatal("Shrink dropped a byte written ahead")
	}
	r.Write(make([]byte, 500_000-2009))
	r.Commit(5) // more than was written
	if a, _ := r.Peek(r.Len()-1, 10); string(a) != "!" {
		t.Fatalf("%q", a)
	}
	r.Release()
	if r.Len() != 0 || r.Cap() != 0 || r.Write([]byte("x")) != 1 {
		t.Fatal("Release")
	}
}

func TestLimits(t *testing.T) {
	var r Ring
	if r.Write([]byte("x")) != 0 || r.Cap() != 0 {
		t.Fatal("a ring without a limit took a byte")
	}
	for _, c := range []struct{ set, want int }{{-5, 0}, {0, 0}, {10, 10}, {MaxLimit + 1, MaxLimit}} {
		if r.SetLimit(c.set); r.Limit() != c.want {
			t.Errorf("SetLimit(%d): %d", c.set, r.Limit())
		}
	}
	r.SetLimit(10)
	if n := r.WriteAt(-1, []byte("x")); n != 0 {
		t.Errorf("WriteAt(-1) = %d", n)
	}
	if n := r.WriteAt(8, []byte("abc")); n != 2 {
		t.Errorf("WriteAt at the limit = %d, want 2", n)
	}
	r.Write(make([]byte, 8))
	r.SetLimit(3)
	if r.Write([]byte("x")) != 0 || r.Len() != 8 || r.Free() != 0 {
		t.Error("a lower limit does not leave the bytes alone")
	}
	r.Discard(-3)
	r.Commit(-3)
	if a, b := r.Peek(-1, 5); r.Len() != 8 || a != nil || b != nil {
		t.Error("a negative argument had an effect")
	}
}

func TestSizeClasses(t *testing.T) {
	for _, c := range []struct{ n, class int }{{1, 0}, {4096, 0}, {4097, 1}, {8192, 1}, {8193, 2}, {MaxLimit, len(pools) - 1}} {
		if got := class(c.n); got != c.class || MinCap<<got < c.n {
			t.Errorf("class(%d) = %d, want %d", c.n, got, c.class)
		}
	}
}

func TestNoAllocationInSteadyState(t *testing.T) {
	var r Ring
	r.SetLimit(64 << 10)
	p := make([]byte, 5000)
	r.Write(p)
	n := testing.AllocsPerRun(100, func() {
		r.Write(p)
		r.WriteAt(r.Len()+3000, p)
		r.Peek(0, 6000)
		r.Read(p)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
