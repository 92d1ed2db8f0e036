package stack_test

import (
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

// TestIdleGoroutines: a stack with a device that is read, with addresses, a
// listener and a datagram socket, has at most three goroutines.
func TestIdleGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment := wire.New(nil, wire.Options{Pull: true})
		defer segment.Close()
		dev := segment.Attach("a", [6]byte{})
		before := runtime.NumGoroutine()
		s := stack.New(stack.Config{Seed: 1})
		defer s.Close()
		i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: dev, SLAAC: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{"10.77.0.7/24", "fd77::7/64"} {
			if err := i.AddAddr(netip.MustParsePrefix(a)); err != nil {
				t.Fatal(err)
			}
		}
		if err := i.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := s.BindTCP(addrPort("[::]:7"), false, false)
		if err != nil || l.Listen(8) != nil {
			t.Fatal(err)
		}
		newUDP(t, s)
		time.Sleep(time.Minute)
		synctest.Wait()
		// One of an earlier test may have ended meanwhile, so there is no least.
		if n := runtime.NumGoroutine() - before; n > 3 {
			t.Errorf("%d goroutines", n)
		}
	})
}

// TestIdleUsesNoCPU: once all is said, an hour goes by without a timer and
// without a frame, with neighbours known and a connection open.
func TestIdleUsesNoCPU(t *testing.T) {
	p := newPair(t, wire.Options{})
	p.listenEcho(p.b, 7)
	c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	p.net.RunFor(2 * time.Minute) // until the neighbours are taken for granted
	if a, b := p.a.Timers(), p.b.Timers(); a != 0 || b != 0 {
		t.Errorf("%d and %d timers", a, b)
	}
	before := p.a.Counters()["ether.output"] + p.b.Counters()["ether.output"]
	p.net.RunFor(time.Hour)
	if after := p.a.Counters()["ether.output"] + p.b.Counters()["ether.output"]; after != before {
		t.Errorf("%d frames in an idle hour", after-before)
	}
	c.Close()
	p.net.RunFor(2 * time.Minute)
}
