package stack_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
)

// TestIdleConnectionGivesMemoryBack: a connection keeps its buffers while it
// is busy and has none some seconds later; then no timer is left either.
func TestIdleConnectionGivesMemoryBack(t *testing.T) {
	p := newPair(t, wire.Options{Delay: time.Millisecond})
	p.listenEcho(p.b, 7)
	c, err := p.a.DialTCP(addrPort("0.0.0.0:0"), addrPort("10.77.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	p.net.RunFor(time.Second)
	c.Write(pattern(5000))
	p.net.RunFor(time.Second)
	buf := make([]byte, 8000)
	if n, err := c.Read(buf); n != 5000 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if !c.Holding() {
		t.Error("a busy connection has given its buffers back")
	}
	p.net.RunFor(25 * time.Second)
	if c.Holding() {
		t.Error("an idle connection holds memory")
	}
	p.net.RunFor(5 * time.Minute) // neighbours and the like
	if n := p.a.Timers(); n != 0 {
		t.Errorf("%d timers left", n)
	}
}
