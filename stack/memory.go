package stack

import (
	"time"
	"unsafe"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns the memory budget of a stack (Limits.Memory): what is charged
// to it, and what happens when three quarters of it are used. What the marks
// mean is in package budget, what a connection does about them in tcp/memory.go.
//
//	charged                                       as
//	buffers of connections                        capacity, by ring.Ring
//	lists of ranges, out of order or in flight    capacity, by tcp.Conn
//	what only connections in use need             its size, by tcp.Conn
//	connections and records in the table          the constants below
//	datagrams and frames waiting in sockets       their slabs, once for all who share one
//	fragments; frames waiting for a neighbour     slabs, by Interface.chargeLocked
//	packets on the loopback interface             slabs
//
// Not charged is what traffic cannot make grow (interfaces, routes, listeners)
// or only to a small fixed bound (path MTUs, neighbours), what applications
// allocate themselves, and what waits in pools to be used again.

// What an entry of the connection table costs, its place in the table, the
// congestion control and the allocator's rounding included: see TestCosts, which
// weighs them. A connection's is that of an idle one.
const (
	connCost     = int(unsafe.Sizeof(TCPConn{})+unsafe.Sizeof(tcp.Conn{})) + 128
	halfOpenCost = 216
	timeWaitCost = 160
)

// reliefInterval is how often memory is collected from connections while it is
// short.
const reliefInterval = time.Second

// pressed is called when use rises to three quarters of the budget. The caller
// may hold any lock, so the work is left to a timer.
func (s *Stack) pressed() {
	s.stats.Memory.Pressure.inc()
	s.timers.Arm(&s.relief, s.clock.Now())
}

// relieve takes from every connection what it can do without, again and again
// until memory is no longer short. What it does to one does not depend on the
// others, so that their order does not matter.
func (s *Stack) relieve(now mono.Time) {
	if !s.memory.Pressure() {
		return
	}
	s.stats.Memory.Relief.inc()
	var list []*TCPConn
	for i := range s.tcp.shards {
		list = s.tcp.shards[i].conns(list[:0])
		for _, c := range list {
			c.mu.Lock()
			if !c.removed && c.core != nil {
				c.core.Relieve()
			}
			c.mu.Unlock()
		}
	}
	s.timers.Arm(&s.relief, now.Add(reliefInterval))
}

// Memory returns how much of its budget the stack uses, and the budget, in
// bytes.
func (s *Stack) Memory() (used, limit int64) { return s.memory.Used(), s.memory.Limit() }

// chargeLocked brings what is charged for fragments and waiting frames up to
// date.
func (i *Interface) chargeLocked() {
	n := 0
	for f := range i.neigh {
		n += i.neigh[f].Bytes() + i.frags[f].Bytes()
	}
	if n != i.charged {
		i.stack.memory.Charge(n - i.charged)
		i.charged = n
	}
}
