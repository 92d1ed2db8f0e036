package stack

// This file owns the identification numbers of IP packets that may become
// fragments (RFC 6864, RFC 7739).

import (
	"net/netip"
	"sync/atomic"

	"github.com/tapstack/tapstack/tcp"
)

// identifiers hands out the identification numbers of fragments. A table of
// counters chosen by a keyed hash of the addresses, as Linux does: numbers to
// one destination do not repeat soon and tell others nothing (RFC 6864,
// RFC 7739 §5.3). Destinations that share a counter could count each other's
// packets; therefore one that was not used for some time goes on by a random
// number of up to one for each millisecond.
type identifiers struct {
	counter [1024]atomic.Uint32
	used    [1024]atomic.Uint32 // when, in milliseconds
}

func (t *identifiers) next(s *Stack, src, dst netip.Addr, proto uint8) uint32 {
	h := uint32(tcp.PortHash(s.secret, src, netip.AddrPortFrom(dst, uint16(proto)), 0))
	n := h % uint32(len(t.counter))
	step := uint32(1)
	now := uint32(s.clock.Now() / 1e6)
	if old := t.used[n].Load(); now != old && t.used[n].CompareAndSwap(old, now) {
		step += s.randUint32() % (now - old)
	}
	return h + t.counter[n].Add(step)
}
