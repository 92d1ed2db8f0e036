package stack

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what a "packet too big" about an echo reply is held against.
// No socket sent the reply, so there is none to ask whether it was ours; Linux
// believes every such error, and with it whoever wants small packets. Here a
// few of the last large replies are remembered, to whom and with which
// identifier and sequence number, as RFC 5927 §7.2 asks of TCP.

const (
	// echoesKept is how many replies are remembered.
	echoesKept = 16
	// echoesFor is how long an error about one may take.
	echoesFor = 10 * time.Second
	// echoesFrom is the size, with the IP header, from which replies are
	// remembered: below no router may refuse them, or is believed.
	echoesFrom = minPathMTU4
)

// echoes are the last large echo replies.
type echoes struct {
	mu   sync.Mutex // guards what is below
	last [echoesKept]struct {
		dst   netip.Addr
		ident [4]byte // identifier and sequence number
		at    mono.Time
	}
	next int
}

// sent remembers a reply of size bytes in all; m is its ICMP message.
func (e *echoes) sent(now mono.Time, dst netip.Addr, m []byte, size int) {
	if size <= echoesFrom {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &e.last[e.next%echoesKept]
	x.dst, x.ident, x.at = dst.WithZone(""), [4]byte(m[4:8]), now
	e.next++
}

// quoted reports whether m, the start of an ICMP message to dst that an error
// quotes, is a reply that was sent not long ago.
func (e *echoes) quoted(now mono.Time, dst netip.Addr, m []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.last {
		x := &e.last[i]
		if x.dst == dst.WithZone("") && binary.BigEndian.Uint32(m[4:]) == binary.BigEndian.Uint32(x.ident[:]) && now.Sub(x.at) <= echoesFor {
			return true
		}
	}
	return false
}
