package stack

import (
	"net/netip"

	"github.com/tapstack/tapstack/tcp"
)

// What tests may see of a stack's insides.

// Table returns the number of entries in the connection table, and how many of
// them are TIME-WAIT records.
func (s *Stack) Table() (entries, timeWait int) { return int(s.tcp.size.Load()), s.tcp.wait.len() }

// Generation returns how often the configuration has changed, after which each
// connection looks for its route again.
func (s *Stack) Generation() uint64 { return s.cfg.Load().gen }

// Timers returns the number of timers queued.
func (s *Stack) Timers() int { return s.timers.Len() }

// Holding reports whether a connection's empty buffers still have memory.
func (c *TCPConn) Holding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Holding()
}

// TryPorts looks for a local port as DialTCP does.
func (s *Stack) TryPorts(local netip.Addr, remote netip.AddrPort, try func(port uint16) error) error {
	return s.forConnection(s.clock.Now(), local, remote, try)
}

// LearnFastOpen gives the stack a cookie of a server.
func (s *Stack) LearnFastOpen(local, remote netip.AddrPort) {
	s.fast.learn(s.clock.Now(), fourTuple{local, remote}, tcp.FastOpenTried{Asked: true}, tcp.FastOpenOption{Present: true, Len: 8}, 1400)
}

// RingMemory returns the memory of all connections' buffers.
func (s *Stack) RingMemory() (n int) {
	for i := range s.tcp.shards {
		for _, c := range s.tcp.shards[i].conns(nil) {
			c.mu.Lock()
			n += c.core.Memory()
			c.mu.Unlock()
		}
	}
	return n
}

// Claims returns the number of addresses that the interface claims.
func (i *Interface) Claims() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.claims)
}

// WireHeaders is how a packet of proto to final begins, which of its headers is
// first, and where it is sent.
func WireHeaders(o HeaderOptions, final netip.Addr, proto uint8) (wire []byte, next uint8, via netip.Addr) {
	if o.headers == nil {
		return nil, proto, final
	}
	wire, next = o.headers.put(nil, final, proto)
	return wire, next, o.headers.via(final)
}

// SynOptions returns how many half-open connections have options to answer with.
func (s *Stack) SynOptions() int { return int(s.tcp.synOptions.n.Load()) }
