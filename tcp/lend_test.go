package tcp

import (
	"syscall"
	"testing"
	"time"
)

// TestLoan: what was read into lent room is sent as if it had been written, in
// its place, or not at all where a Write has to say why.
func TestLoan(t *testing.T) {
	for _, c := range []struct {
		what    string
		between func(p *path)
		ok      bool
		want    string
	}{
		{"nothing else", func(*path) {}, true, "lent"},
		{"a write", func(p *path) { p.a[0].Write([]byte("first ")) }, false, "first "},
		{"memory that is taken back", func(p *path) { p.a[0].Relieve() }, false, ""},
		{"sleep", func(p *path) { p.a[0].Trim(p.now.Add(time.Second)) }, false, ""},
		{"the end of writing", func(p *path) { p.a[0].CloseWrite(p.now) }, false, ""},
		{"a failure", func(p *path) { p.a[0].HardError(p.now, syscall.ENETDOWN) }, false, ""},
	} {
		p := newPath(t, 10*time.Millisecond, false, nil)
		p.back()
		l := p.a[0].Lend(100_000)
		if len(l.B) < leastLoan || p.a[0].Lend(100_000).B != nil {
			t.Fatalf("%s: lent %d, or twice", c.what, len(l.B))
		}
		copy(l.B, "lent")
		c.between(p)
		if ok := p.a[0].Settle(l, 4); ok != c.ok {
			t.Errorf("%s: settled %v", c.what, ok)
		}
		p.there(false)
		n, _ := p.a[1].Read(p.buf)
		if string(p.buf[:n]) != c.want {
			t.Errorf("%s: received %q", c.what, p.buf[:n])
		}
		if err := sharedWritten(); err != nil {
			t.Error(err)
		}
	}
}
