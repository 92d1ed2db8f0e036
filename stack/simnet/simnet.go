// Package simnet runs networks of stacks in virtual time, on one goroutine:
// hosts on in-memory segments with seeded delay, rate, loss and reordering.
// Equal seeds give equal runs, frame by frame, however slow the machine, and
// an hour of idle time costs nothing. Applications are callbacks: a
// stack.Waiter, or a function given to At.
package simnet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// Net is a simulated network and its clock. It is not safe for concurrent
// use: everything happens inside Run, RunFor and Until.
type Net struct {
	// Offload makes hosts segment and merge in software, as they do outside of
	// simulations. Without it each frame is what TCP decided on, neither a
	// piece nor a part, which is what most simulations look at.
	Offload bool

	now    mono.Time
	events events
	order  uint64
	rnd    *rand.Rand
	hosts  int
	macs   map[netip.Addr]ether.Addr // of the hosts, for routers
}

// New returns an empty network at the instant of one second.
func New(seed uint64) *Net {
	return &Net{now: mono.Time(time.Second), rnd: rand.New(rand.NewPCG(seed, 0x73696d)), macs: make(map[netip.Addr]ether.Addr)}
}

// Now returns the virtual instant.
func (n *Net) Now() mono.Time { return n.now }

// Rand is the network's seeded generator, for applications.
func (n *Net) Rand() *rand.Rand { return n.rnd }

// Clock returns a new handle on the virtual clock; each owner needs its own.
func (n *Net) Clock() mono.Clock { return &clock{net: n} }

// At runs f at the instant t, or at once when that has passed.
func (n *Net) At(t mono.Time, f func()) { n.schedule(max(t, n.now), f) }

// After runs f when d has gone by.
func (n *Net) After(d time.Duration, f func()) { n.At(n.now.Add(d), f) }

func (n *Net) schedule(t mono.Time, f func()) *event {
	n.order++
	e := &event{when: t, order: n.order, f: f}
	heap.Push(&n.events, e)
	return e
}

// next returns the instant of the next event, and whether there is one. It
// forgets those that were cancelled.
func (n *Net) next() (mono.Time, bool) {
	for n.events.Len() > 0 {
		if n.events[0].f != nil {
			return n.events[0].when, true
		}
		heap.Pop(&n.events)
	}
	return 0, false
}

// Step runs the next event and reports whether there was one.
func (n *Net) Step() bool {
	when, ok := n.next()
	if !ok {
		return false
	}
	e := heap.Pop(&n.events).(*event)
	n.now = max(n.now, when)
	f := e.f
	e.f = nil
	f()
	return true
}

// RunFor lets d go by.
func (n *Net) RunFor(d time.Duration) {
	end := n.now.Add(d)
	for {
		if when, ok := n.next(); !ok || when > end {
			break
		}
		n.Step()
	}
	n.now = end
}

// Until runs until done is true, for at most d, and returns done().
func (n *Net) Until(d time.Duration, done func() bool) bool {
	end := n.now.Add(d)
	for !done() {
		if when, ok := n.next(); !ok || when > end {
			return false
		}
		n.Step()
	}
	return true
}

// Segment makes an Ethernet segment on the virtual clock.
func (n *Net) Segment(o wire.Options) *wire.Segment {
	if o.Seed == 0 {
		o.Seed = n.rnd.Uint64() | 1
	}
	return wire.New(n.Clock(), o)
}

// Host makes a stack with one interface on the segment, with the MAC address
// 02:00:00:00:00:NN in the order of the calls, without duplicate address
// detection. wrap, unless nil, decorates its device.
func (n *Net) Host(seg *wire.Segment, c stack.Config, wrap func(ether.Device) ether.Device, addrs ...string) (*stack.Stack, *stack.Interface) {
	n.hosts++
	c.Clock = n.Clock()
	c.Seed = n.rnd.Uint64() | 1
	mac := ether.Addr{2, 0, 0, 0, byte(n.hosts >> 8), byte(n.hosts)}
	s := stack.New(c)
	var dev ether.Device = seg.Attach(fmt.Sprintf("host%d", n.hosts), mac)
	if wrap != nil {
		dev = wrap(dev)
	}
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: dev, MAC: mac, NoDAD: true, IID: ipv6.IIDEUI64, Plain: !n.Offload})
	for _, a := range addrs {
		if err == nil {
			err = i.AddAddr(netip.MustParsePrefix(a))
			n.macs[netip.MustParsePrefix(a).Addr()] = mac
		}
	}
	if err != nil {
		panic(err) // a mistake in the test that builds the network
	}
	return s, i
}

// event is something to do at an instant; f nil means cancelled.
type event struct {
	when  mono.Time
	order uint64
	f     func()
}

type events []*event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].when < h[j].when || h[i].when == h[j].when && h[i].order < h[j].order
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// clock is one owner's handle.
type clock struct {
	net     *Net
	pending *event
}

// Now implements mono.Clock.
func (c *clock) Now() mono.Time { return c.net.now }

// Wake implements mono.Clock.
func (c *clock) Wake(t mono.Time, f func()) {
	if c.pending != nil {
		c.pending.f = nil
		c.pending = nil
	}
	if t != 0 {
		c.pending = c.net.schedule(max(t, c.net.now), f)
	}
}
