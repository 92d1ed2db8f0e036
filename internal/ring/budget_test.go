package ring

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/tapstack/tapstack/internal/budget"
)

// TestBudget: memory is charged by capacity, growth is refused near the limit
// with a smaller size in its place, and the first MinCap is never refused.
func TestBudget(t *testing.T) {
	b := budget.New(80<<10, nil) // growth ends at 70 KB
	var r, s, u Ring
	for _, x := range []*Ring{&r, &s, &u} {
		x.Init(1<<20, b)
	}
	if n := r.Write(make([]byte, 30_000)); n != 30_000 || b.Used() != 32<<10 {
		t.Fatalf("wrote %d, %d charged", n, b.Used())
	}
	// 128 KB and 64 KB do not fit beside it, 32 KB do.
	if n := s.Write(make([]byte, 100_000)); n != 32<<10 || b.Used() != 64<<10 {
		t.Fatalf("wrote %d, %d charged", n, b.Used())
	}
	if s.Free() != 0 || s.Write([]byte("x")) != 0 || s.Len() != 32<<10 {
		t.Fatalf("full by the budget: Free %d, Len %d", s.Free(), s.Len())
	}
	if r.Free() != 32<<10-30_000 || r.Write(make([]byte, 5000)) != 32<<10-30_000 {
		t.Fatalf("the rest of the memory: Free %d", r.Free())
	}
	if b.Charge(1 << 20); u.Free() == 0 || u.Write(make([]byte, 5000)) != MinCap || u.Free() != 0 {
		t.Fatalf("first memory beyond the limit: Len %d Free %d", u.Len(), u.Free())
	}
	b.Return(1 << 20)
	if u.Free() != 0 { // 68 KB used
		t.Fatalf("Free %d", u.Free())
	}
	r.Release()
	if n := u.Free(); n != 1<<20-MinCap {
		t.Fatalf("after a release: Free %d", n)
	}
	s.Discard(20_000)
	if s.Fit(); s.Cap() != 16<<10 || b.Used() != 20<<10 || s.Len() != 32<<10-20_000 {
		t.Fatalf("Fit: Cap %d, %d charged", s.Cap(), b.Used())
	}
	s.Release()
	u.Discard(MinCap)
	u.Shrink()
	if b.Used() != 0 || u.Budget() != b || u.Limit() != 1<<20 {
		t.Fatalf("%d charged for nothing", b.Used())
	}
}

// TestFitAndForget: what was written ahead can be dropped, and what is left
// moves into less memory.
func TestFitAndForget(t *testing.T) {
	var r Ring
	r.SetLimit(1 << 20)
	r.Write(make([]byte, 4000))
	r.Write([]byte("kept"))
	r.Discard(4000) // the bytes lie at the end of the memory and wrap
	r.WriteAt(500_000, []byte("far"))
	if r.Ahead() != 500_000+3-4 {
		t.Fatalf("Ahead %d", r.Ahead())
	}
	if r.Fit(); r.Cap() != 512<<10 {
		t.Fatalf("Fit with bytes ahead: Cap %d", r.Cap())
	}
	r.Forget()
	if r.Fit(); r.Cap() != MinCap || r.Ahead() != 0 {
		t.Fatalf("Cap %d, Ahead %d", r.Cap(), r.Ahead())
	}
	if a, b := r.Peek(0, 10); string(joined(a, b)) != "kept" {
		t.Fatalf("%q", joined(a, b))
	}
	if r.Commit(1); r.Len() != 4 {
		t.Fatal("forgotten bytes were committed")
	}
	r.Discard(4)
	if r.Fit(); r.Cap() != 0 {
		t.Fatalf("an empty ring keeps %d", r.Cap())
	}
}

// TestBudgetAgainstModel does random things to several rings under one budget:
// each holds what it took, and the charge is the sum of their memory.
func TestBudgetAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b := budget.New(64<<10, nil)
		var rings [6]Ring
		var want [6][]byte
		for i := range rings {
			rings[i].Init(100_000, b)
		}
		for n := range 500 {
			i := rng.IntN(len(rings))
			r := &rings[i]
			switch rng.IntN(8) {
			case 0, 1, 2:
				p := bytes.Repeat([]byte{byte(n)}, 1+rng.IntN(20_000))
				free := r.Free()
				k := r.Write(p)
				if k > free || free > 0 && k == 0 {
					t.Fatalf("Free %d, Write took %d", free, k)
				}
				want[i] = append(want[i], p[:k]...)
			case 3:
				off, p := r.Len()+rng.IntN(9000), make([]byte, 1+rng.IntN(3000))
				had := r.Reserve(off + len(p))
				if k := r.WriteAt(off, p); k != max(0, had-off) {
					t.Fatalf("Reserve %d for %d+%d, WriteAt took %d", had, off, len(p), k)
				}
			case 4, 5:
				k := rng.IntN(20_000)
				r.Discard(k)
				want[i] = want[i][min(k, len(want[i])):]
			case 6:
				r.Forget()
				r.Fit()
			case 7:
				r.Shrink()
			}
			sum := 0
			for j := range rings {
				sum += rings[j].Cap()
			}
			if int64(sum) != b.Used() || sum > 56<<10+len(rings)*MinCap {
				t.Fatalf("%d held, %d charged", sum, b.Used())
			}
			if x, y := r.Peek(0, r.Len()); !bytes.Equal(joined(x, y), want[i]) {
				t.Fatal("content differs")
			}
		}
	}
}
