// Package bothtest is what the tests of the runners of DHCPv4 and DHCPv6 have in
// common: a segment in virtual time, the client's host on it, and a runner that
// takes a step whenever it wants one. The servers are each test's own.
package bothtest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// Runner is a runner without a goroutine.
type Runner interface {
	// Turn does what is to be done at now, and returns when the next turn is
	// needed if nothing happens before, 0 for never, and whether it was the last.
	Turn(now mono.Time) (next mono.Time, ended bool)
	// Stop is Close without waiting: the next turn ends it.
	Stop()
}

// Sim is the network.
type Sim struct {
	*testing.T
	N     *simnet.Net
	Seg   *wire.Segment
	Host  *stack.Stack // the client's
	NIC   *stack.Interface
	Cable *wire.Port
	News  []string // what the runner's user was told

	live   int64
	runner Runner // nil: none, or ended
	turns  int    // numbers them, so that old timers do nothing
}

// New makes the segment.
func New(t *testing.T, seed uint64) *Sim {
	m := &Sim{T: t, N: simnet.New(seed), live: pkt.Live()}
	m.Seg = m.N.Segment(wire.Options{Delay: time.Millisecond})
	return m
}

// Attach adds the client's host, with an interface of this configuration.
func (m *Sim) Attach(c stack.InterfaceConfig) {
	m.Helper()
	m.Host = stack.New(stack.Config{Clock: m.N.Clock(), Seed: 9})
	m.Cable = m.Seg.Attach("client", ether.Addr{2, 0, 0, 0, 9, 9})
	c.Name, c.Device, c.MAC = "eth0", m.Cable, m.Cable.Addr()
	var err error
	if m.NIC, err = m.Host.AddInterface(c); err != nil {
		m.Fatal(err)
	}
}

// Drive gives a runner turns; Wake, which it was made with, asks for one.
func (m *Sim) Drive(r Runner) {
	m.runner = r
	m.Turn()
}

// Wake has the runner take a turn as soon as the caller has returned.
func (m *Sim) Wake() { m.N.After(0, m.Turn) }

// Turn has the runner take a turn.
func (m *Sim) Turn() {
	if m.runner == nil {
		return
	}
	m.turns++
	mine := m.turns
	next, ended := m.runner.Turn(m.N.Now())
	switch {
	case ended:
		m.runner = nil
	case next != 0:
		m.N.At(max(next, m.N.Now()), func() {
			if m.turns == mine {
				m.Turn()
			}
		})
	}
}

// Stop is the runner's Close, which takes one turn.
func (m *Sim) Stop() {
	m.Helper()
	if m.runner != nil {
		m.runner.Stop()
		m.Turn()
	}
	if m.runner != nil {
		m.Error("the runner goes on after Close")
		m.runner = nil
	}
}

// Close ends all, the servers' hosts too, and looks for what is left: buffers, and
// timers by running until nothing is due any more.
func (m *Sim) Close(servers ...*stack.Stack) {
	if m.Host != nil {
		m.Stop()
		m.N.RunFor(time.Second) // what it has sent arrives
		m.Host.Close()
	}
	for _, s := range servers {
		s.Close()
	}
	m.Seg.Close()
	if n := pkt.Live() - m.live; n != 0 {
		m.Errorf("%d buffers leaked", n)
	}
	for left := 0; m.N.Step(); left++ {
		if left > 1000 {
			m.Error("a timer is left that goes on for ever")
			return
		}
	}
}

// Serve gives a server each datagram that its socket receives.
func Serve(udp *stack.Datagram, serve func(b []byte, from netip.AddrPort)) {
	b := make([]byte, 2000)
	udp.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn, F: func(stack.Ready) {
		for {
			n, _, from, err := udp.RecvFrom(b)
			if err != nil {
				return
			}
			serve(b[:n], from)
		}
	}})
}
