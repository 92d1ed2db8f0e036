package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// minPathMTU4 is Linux's ip_rt_min_pmtu: no router is believed that asks for
// less, against attackers who want tiny packets. RFC 791 would allow 68.
const minPathMTU4 = 552

// pathMTUs remembers the path MTU of destinations that reported a smaller one
// (RFC 1191, RFC 8201), for pathMTUAge each; one table for both families.
type pathMTUs struct {
	any  atomic.Int32 // entries, so that the usual case costs one load
	mu   sync.Mutex   // guards m
	m    map[netip.Addr]pathMTUEntry
	most int
}

type pathMTUEntry struct {
	mtu   int
	until mono.Time
}

func (t *pathMTUs) init(most int) { t.m, t.most = make(map[netip.Addr]pathMTUEntry), most }

// get returns the path MTU to dst and until when it holds, 0 when none is
// known.
func (t *pathMTUs) get(now mono.Time, dst netip.Addr) (mtu int, until mono.Time) {
	if t.any.Load() == 0 {
		return 0, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.m[dst]
	if ok && e.until <= now {
		delete(t.m, dst)
		t.any.Store(int32(len(t.m)))
		return 0, 0
	}
	return e.mtu, e.until
}

// lower records a path MTU and reports whether that says anything new; one
// that is larger than what is known is ignored (RFC 8201 §4: never increased
// by a packet too big).
func (t *pathMTUs) lower(now mono.Time, dst netip.Addr, mtu int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.m[dst]; ok && e.until > now && e.mtu <= mtu {
		return false
	}
	if len(t.m) >= t.most {
		var oldest netip.Addr
		var when mono.Time
		for a, e := range t.m {
			if when == 0 || e.until < when {
				oldest, when = a, e.until
			}
		}
		delete(t.m, oldest)
	}
	t.m[dst] = pathMTUEntry{mtu, now.Add(pathMTUAge)}
	t.any.Store(int32(len(t.m)))
	return true
}

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
