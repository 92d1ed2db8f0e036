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
// RFC 7739 §5.3).
type identifiers struct {
	counter [1024]atomic.Uint32
}

func (t *identifiers) next(s *Stack, src, dst netip.Addr, proto uint8) uint32 {
	h := uint32(tcp.PortHash(s.secret, src, netip.AddrPortFrom(dst, uint16(proto)), 0))
	return h + t.counter[h%uint32(len(t.counter))].Add(1)
}
