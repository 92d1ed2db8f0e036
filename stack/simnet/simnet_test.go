package simnet_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// TestOrder: events run in the order of their instants, equal ones in the
// order in which they were given, those in the past at once.
func TestOrder(t *testing.T) {
	n := simnet.New(1)
	start := n.Now()
	var ran []string
	note := func(s string) func() {
		return func() { ran = append(ran, fmt.Sprint(s, n.Now().Sub(start).Milliseconds())) }
	}
	n.After(2*time.Millisecond, note("c"))
	n.After(time.Millisecond, note("a"))
	n.After(time.Millisecond, func() {
		note("b")()
		n.At(start, note("past"))
		n.After(time.Millisecond, note("d"))
	})
	n.RunFor(5 * time.Millisecond)
	if want := []string{"a1", "b1", "past1", "c2", "d2"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if got := n.Now().Sub(start); got != 5*time.Millisecond {
		t.Errorf("RunFor ended after %v", got)
	}
	if n.Step() {
		t.Error("an event is left")
	}
}

// TestUntil stops as soon as the condition holds, or when time is up.
func TestUntil(t *testing.T) {
	n := simnet.New(1)
	start := n.Now()
	count := 0
	var tick func()
	tick = func() { count++; n.After(time.Second, tick) }
	n.After(time.Second, tick)
	if !n.Until(time.Minute, func() bool { return count == 3 }) || n.Now().Sub(start) != 3*time.Second {
		t.Errorf("%d ticks after %v", count, n.Now().Sub(start))
	}
	if n.Until(10*time.Second, func() bool { return false }) || count != 13 {
		t.Errorf("%d ticks when time was up", count)
	}
}

// TestCancelledIsNoEvent: what was cancelled does not let later things happen
// before their time.
func TestCancelledIsNoEvent(t *testing.T) {
	n := simnet.New(1)
	start, c, ran := n.Now(), n.Clock(), false
	n.After(time.Hour, func() { ran = true })
	cancel := func() {
		c.Wake(n.Now().Add(time.Second), func() { t.Error("cancelled, and called") })
		c.Wake(0, nil)
	}
	cancel()
	if n.RunFor(2 * time.Second); ran || n.Now().Sub(start) != 2*time.Second {
		t.Errorf("RunFor went on to %v", n.Now().Sub(start))
	}
	cancel()
	if n.Until(2*time.Second, func() bool { return ran }) || n.Now().Sub(start) != 2*time.Second {
		t.Errorf("Until went on to %v", n.Now().Sub(start))
	}
}

// TestWake: each handle has one pending call, which a new one replaces and
// zero cancels; handles do not disturb each other.
func TestWake(t *testing.T) {
	n := simnet.New(1)
	a, b := n.Clock(), n.Clock()
	var ran []string
	at := func(d time.Duration) mono.Time { return n.Now().Add(d) }
	a.Wake(at(1*time.Second), func() { ran = append(ran, "replaced") })
	a.Wake(at(3*time.Second), func() { ran = append(ran, "a") })
	b.Wake(at(2*time.Second), func() {
		ran = append(ran, "b")
		b.Wake(at(2*time.Second), func() { ran = append(ran, "b again") })
	})
	n.RunFor(10 * time.Second)
	a.Wake(at(time.Second), func() { ran = append(ran, "cancelled") })
	a.Wake(0, nil)
	a.Wake(0, nil)
	n.RunFor(10 * time.Second)
	if want := []string{"b", "a", "b again"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	// Never from inside Wake, even when the time has passed.
	called := false
	a.Wake(n.Now()-1, func() { called = true })
	if called {
		t.Error("called from inside Wake")
	}
	n.RunFor(0)
	if !called || a.Now() != n.Now() {
		t.Error("not called")
	}
}

// TestHosts: names, addresses and seeds follow from the order of the calls.
func TestHosts(t *testing.T) {
	run := func(seed uint64) (list []string) {
		before := pkt.Live()
		n := simnet.New(seed)
		seg := n.Segment(wire.Options{Delay: time.Millisecond, Loss: 0.2})
		defer seg.Close()
		wrapped := 0
		wrap := func(d ether.Device) ether.Device { wrapped++; return d }
		a, ia := n.Host(seg, stack.Config{}, wrap, "10.0.0.1/24")
		b, ib := n.Host(seg, stack.Config{}, nil, "10.0.0.2/24", "fd00::2/64")
		list = append(list, ia.MAC().String(), ib.MAC().String(), fmt.Sprint(ia.Addrs(), ib.Addrs(), wrapped))
		list = append(list, fmt.Sprint(a.RandUint64(), b.RandUint64(), n.Rand().Uint64()))
		n.RunFor(time.Minute)
		list = append(list, fmt.Sprint(a.Counters(), b.Counters()))
		a.Close()
		b.Close()
		if live := pkt.Live(); live != before {
			t.Errorf("%d buffers leaked", live-before)
		}
		return list
	}
	a, b, c := run(1), run(1), run(2)
	if !slices.Equal(a, b) {
		t.Errorf("equal seeds: %v and %v", a, b)
	}
	if a[3] == c[3] {
		t.Error("another seed makes no difference")
	}
	if want := []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "[fe80::ff:fe00:1/64 10.0.0.1/24] [fe80::ff:fe00:2/64 10.0.0.2/24 fd00::2/64] 1"}; !slices.Equal(a[:3], want) {
		t.Errorf("hosts %q, want %q", a[:3], want)
	}
}

// TestImpossibleHost: a mistake in a test is found at once.
func TestImpossibleHost(t *testing.T) {
	n := simnet.New(1)
	seg := n.Segment(wire.Options{})
	defer seg.Close()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	n.Host(seg, stack.Config{}, nil, "224.0.0.1/4")
}
