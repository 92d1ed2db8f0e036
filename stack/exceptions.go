package stack

// This file owns what routers have told us of single destinations, against what
// the routes say: the path to one carries less than the link (RFC 1191, RFC
// 8201), or begins at another router of the link (RFC 1122 §3.2.2.2, RFC 4861
// §8). One table serves both families and both statements, as Linux's next hop
// exceptions do. Each has an age, and the table a size.

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv6"
)

// minPathMTU4 is Linux's ip_rt_min_pmtu: no router is believed that asks for
// less, against attackers who want tiny packets. RFC 791 would allow 68. A path
// that does carry less gets packets of this size without DF.
const minPathMTU4 = 552

// pathMTUAge is how long a learnt path MTU is believed before the path is
// tried at full size again (RFC 1191 §6.3, RFC 8201 §5.2: 10 minutes).
const pathMTUAge = 10 * time.Minute

// redirectAge is how long a router is believed that another one is nearer to a
// destination, Linux's ip_rt_gc_timeout.
const redirectAge = 5 * time.Minute

// exceptions remembers what is true of single destinations only.
type exceptions struct {
	any  atomic.Int32 // entries, so that the usual case costs one load
	mu   sync.Mutex   // guards m
	m    map[netip.Addr]exception
	most int
}

// exception is what is known of a destination. A statement whose instant is 0
// or has come does not hold.
type exception struct {
	mtu      int
	tiny     bool // the path was said to carry less than mtu
	mtuUntil mono.Time

	// The destination is reached by gateway where the routes say from.
	gateway, from netip.Addr
	iface         *Interface
	gatewayUntil  mono.Time
}

func (t *exceptions) init(most int) { t.m, t.most = make(map[netip.Addr]exception), most }

// until is when the last statement ends.
func (e *exception) until() mono.Time { return max(e.mtuUntil, e.gatewayUntil) }

// apply changes a route by what is known of its destination.
func (t *exceptions) apply(now mono.Time, r *route) {
	if t.any.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.m[r.dst]
	if !ok {
		return
	}
	if e.until() <= now {
		delete(t.m, r.dst)
		t.any.Store(int32(len(t.m)))
		return
	}
	if e.gatewayUntil > now && r.nextHop == e.from && r.iface == e.iface {
		r.nextHop, r.until = e.gateway, e.gatewayUntil
	}
	if !r.lock && e.mtuUntil > now && (e.mtu < r.mtu || e.tiny) {
		r.mtu, r.tiny = min(e.mtu, r.mtu), e.tiny
		r.until = mono.Earliest(r.until, e.mtuUntil)
	}
}

// lower records a path MTU and reports whether that says anything new; one
// that is larger than what is known is ignored (RFC 8201 §4: never increased
// by a packet too big).
func (t *exceptions) lower(now mono.Time, dst netip.Addr, mtu int, tiny bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.m[dst]
	if e.mtuUntil > now && e.mtu <= mtu && (e.tiny || !tiny) {
		return false
	}
	e.mtu, e.tiny, e.mtuUntil = mtu, tiny, now.Add(pathMTUAge)
	t.putLocked(dst, e)
	return true
}

// redirect records that dst is reached by gateway instead of from, and reports
// whether that is new.
func (t *exceptions) redirect(now mono.Time, dst, from, gateway netip.Addr, i *Interface) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.m[dst]
	fresh := e.gatewayUntil <= now || e.gateway != gateway || e.from != from || e.iface != i
	e.gateway, e.from, e.iface, e.gatewayUntil = gateway, from, i, now.Add(redirectAge)
	t.putLocked(dst, e)
	return fresh
}

// putLocked stores an exception; in a full table that which would end first
// makes place.
func (t *exceptions) putLocked(dst netip.Addr, e exception) {
	if _, ok := t.m[dst]; !ok && len(t.m) >= t.most {
		var oldest netip.Addr
		var when mono.Time
		for a, x := range t.m {
			if u := x.until(); when == 0 || u < when || u == when && a.Less(oldest) {
				oldest, when = a, u
			}
		}
		delete(t.m, oldest)
	}
	t.m[dst] = e
	t.any.Store(int32(len(t.m)))
}

// gatewayGone forgets the redirects to a router that does not answer any more,
// or with the zero Addr all of an interface, and reports whether there were any.
func (t *exceptions) gatewayGone(gateway netip.Addr, i *Interface) (any bool) {
	if t.any.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for dst, e := range t.m {
		if e.iface != i || gateway.IsValid() && e.gateway != gateway {
			continue
		}
		any = true
		e.gateway, e.from, e.iface, e.gatewayUntil = netip.Addr{}, netip.Addr{}, nil, 0
		if t.m[dst] = e; e.mtuUntil == 0 {
			delete(t.m, dst)
		}
	}
	t.any.Store(int32(len(t.m)))
	return any
}

// learnPathMTU believes that packets to dst may have no more than mtu bytes.
func (s *Stack) learnPathMTU(now mono.Time, dst netip.Addr, mtu int) {
	mtu, tiny := pathMTU(dst.Is6(), mtu)
	if s.exceptions.lower(now, dst, mtu, tiny) {
		s.refreshRoutes()
	}
}

// refreshRoutes makes everybody who keeps a route look again. Strangers can bring
// it about, so it copies no more than the head of the configuration, however many
// addresses and routes there are.
func (s *Stack) refreshRoutes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *s.cfg.Load()
	c.gen++
	s.cfg.Store(&c)
}

// pathMTU returns the MTU that is believed of one that is reported, 0 from old
// routers: at least 1280 for IPv6 (RFC 8201 §4) and minPathMTU4 for IPv4. tiny
// says that the path may carry less than that.
func pathMTU(v6 bool, reported int) (mtu int, tiny bool) {
	if v6 {
		return max(reported, ipv6.MinMTU), false
	}
	return max(reported, minPathMTU4), reported < minPathMTU4
}
