package ring

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func content(r *Ring) []byte {
	a, b := r.Peek(0, r.Len())
	return append(append([]byte(nil), a...), b...)
}

func TestLoan(t *testing.T) {
	for _, c := range []struct {
		name  string
		while func(r *Ring)
		ok    bool
		want  string
	}{
		{"nothing happens", func(r *Ring) {}, true, "onetwo"},
		{"bytes leave", func(r *Ring) { r.Discard(2) }, true, "etwo"},
		{"all leave", func(r *Ring) { r.Discard(3) }, true, "two"},
		{"others write", func(r *Ring) { r.Write([]byte("2")) }, false, "one2"},
		{"memory is given back", func(r *Ring) { r.Discard(3); r.Shrink() }, false, ""},
		{"memory is needed", func(r *Ring) { r.Discard(2); r.Fit() }, true, "etwo"},
		{"it grows", func(r *Ring) { r.Reserve(3 * MinCap) }, false, "one"},
		{"the ring is released", func(r *Ring) { r.Release() }, false, ""},
		{"others borrow", func(r *Ring) {
			if l := r.Lend(1); l.B != nil {
				t.Error("lent twice")
			}
		}, true, "onetwo"},
	} {
		var r Ring
		r.Init(8*MinCap, nil)
		r.Write([]byte("one"))
		l := r.Lend(10)
		if len(l.B) != 10 {
			t.Fatalf("%s: lent %d bytes", c.name, len(l.B))
		}
		c.while(&r)
		copy(l.B, "two")
		if ok := r.Settle(l, 3); ok != c.ok || string(content(&r)) != c.want {
			t.Errorf("%s: %v, %q, want %v, %q", c.name, ok, content(&r), c.ok, c.want)
		}
	}
}

// TestLoanRandom compares a ring that lends with a slice, whatever else is done
// with it meanwhile.
func TestLoanRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var r Ring
	r.Init(3*MinCap, nil)
	var want []byte
	next := byte(0)
	fill := func(b []byte) {
		for i := range b {
			b[i] = next
			next++
		}
	}
	settled, broken := 0, 0
	for range 20000 {
		l := r.Lend(rnd.IntN(2 * MinCap))
		fill(l.B)
		for range rnd.IntN(3) {
			switch rnd.IntN(8) {
			case 0:
				b := make([]byte, rnd.IntN(MinCap))
				fill(b)
				want = append(want, b[:r.Write(b)]...)
			case 1:
				r.Fit()
			case 2:
				r.Shrink()
			default:
				n := rnd.IntN(r.Len() + 1)
				r.Discard(n)
				want = want[n:]
			}
		}
		n := rnd.IntN(len(l.B) + 1)
		if r.Settle(l, n) {
			settled++
			want = append(want, l.B[:n]...)
		} else if l.B != nil {
			broken++
			want = append(want, l.B[:r.Write(l.B[:n])]...)
		}
		if !bytes.Equal(content(&r), want) {
			t.Fatalf("after %d and %d: %d bytes are not the %d written", settled, broken, r.Len(), len(want))
		}
	}
	if settled < 1000 || broken < 1000 {
		t.Errorf("%d settled, %d broken", settled, broken)
	}
}
