package stack_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

// TestLendingDoesNotKeepAwake: an idle connection of which somebody holds lent
// room for long, or that was asked to send nothing, gives its memory back as any
// other; what was read into the room meanwhile is written.
func TestLendingDoesNotKeepAwake(t *testing.T) {
	p := newPairAt(t, 1, stack.Config{}, wire.Options{Delay: time.Millisecond}, []string{"10.77.0.1/24"}, []string{"10.77.0.2/24"})
	w := p.crowd(1)
	c := w.out[0]
	used := func() int64 {
		n, _ := p.a.Memory()
		return n
	}
	p.net.RunFor(time.Minute)
	idle := used()

	c.Write(nil)
	p.net.RunFor(time.Minute)
	if n := used(); n != idle {
		t.Errorf("%d bytes charged after an empty write, %d before", n, idle)
	}

	room := c.Lend(64 << 10)
	if room.B == nil || used() <= idle {
		t.Fatalf("%d bytes lent, %d charged, %d before", len(room.B), used(), idle)
	}
	p.net.RunFor(time.Minute)
	if n := used(); n != idle {
		t.Errorf("%d bytes charged while room is lent, %d before", n, idle)
	}
	text := []byte("late")
	copy(room.B, text)
	if !c.Settle(room, len(text)) {
		c.Write(room.B[:len(text)])
	}
	p.net.RunFor(time.Second)
	got := make([]byte, 10)
	if n, err := w.in[0].Read(got); !bytes.Equal(got[:n], text) {
		t.Errorf("received %q, %v", got[:n], err)
	}
	w.end()
}
