package stack

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/tcp"
)

// This file owns the local ports: who holds which, who may hold one that is
// held, and which of several gets a packet. The rules are Linux's, and differ
// between TCP, where what is accepted and what is in TIME-WAIT hold the port
// too (portconns.go), and UDP.

// Sharing is what the holder of a port says of others who want the same.
type Sharing uint8

// The bits of Sharing.
const (
	ShareAddr     Sharing = 1 << iota // SO_REUSEADDR: UDP shares it; TCP unless somebody listens
	SharePort                         // SO_REUSEPORT: all who say so share it, and take turns by the hash of the peer
	shareListener                     // Listen was called
	ShareForce                        // TCP_REPAIR: it takes the port whoever has it
)

// holder is what an endpoint that holds a port has for it. All of it may be
// changed while others look.
type holder struct {
	sharing atomic.Uint32
	dev     atomic.Pointer[Interface]  // SO_BINDTODEVICE
	only    atomic.Pointer[netip.Addr] // of a wildcard: the address of the connection; nil: all
}

// SetSharing says what others may hold the same port (SO_REUSEADDR,
// SO_REUSEPORT). It counts when they bind, and when somebody listens.
func (h *holder) SetSharing(s Sharing) {
	for {
		old := h.sharing.Load()
		if h.sharing.CompareAndSwap(old, uint32(s)&^uint32(shareListener)|old&uint32(shareListener)) {
			return
		}
	}
}

// hold is what a holder has: an address, unspecified for all of its family,
// of one interface if dev is not nil. both says that the IPv6 wildcard includes
// IPv4.
type hold struct {
	addr    netip.Addr
	both    bool
	dev     *Interface
	sharing Sharing
}

func (h *holder) hold(a netip.Addr, both bool) hold {
	if only := h.only.Load(); only != nil {
		a, both = *only, false
	}
	return hold{a, both, h.dev.Load(), Sharing(h.sharing.Load())}
}

// Narrow leaves all addresses but one to others, as Linux does once a socket
// that was bound to any has connected; the zero Addr takes that back.
func (h *holder) Narrow(a netip.Addr) {
	h.only.Store(nil)
	if a.IsValid() {
		a = a.WithZone("")
		h.only.Store(&a)
	}
}

// bound is an endpoint that holds a local port.
type bound interface {
	comparable
	holds() hold
}

// bindings is the table of ports held, of one protocol.
type bindings[E bound] struct {
	table int          // where probers have the same ports (probeports.go)
	mu    sync.RWMutex // guards m
	m     map[uint16][]E
}

func (t *bindings[E]) init(table int) { t.table, t.m = table, make(map[uint16][]E) }

// meets reports whether there are packets for both.
func (a *hold) meets(b *hold) bool {
	if a.dev != nil && b.dev != nil && a.dev != b.dev {
		return false
	}
	x, y := a.addr, b.addr
	if x.Is4() == y.Is4() {
		return x == y || x.IsUnspecified() || y.IsUnspecified()
	}
	return x.Is6() && x.IsUnspecified() && a.both || y.Is6() && y.IsUnspecified() && b.both
}

// conflicts reports whether a may not be held because b is. For TCP reuse says
// whether SO_REUSEADDR of both is enough, which it is not for a port that the
// stack chooses.
func (a *hold) conflicts(b *hold, stream, reuse bool) bool {
	if !a.meets(b) {
		return false
	}
	all := a.sharing & b.sharing
	switch {
	case !stream:
		return all&(ShareAddr|SharePort) == 0
	case all&ShareAddr != 0 && b.sharing&shareListener == 0:
		return !reuse
	}
	return all&SharePort == 0
}

// add binds e to port; port 0 picks a free ephemeral one, starting at an
// offset that outsiders cannot guess (RFC 6056). EADDRINUSE.
func (t *bindings[E]) add(s *Stack, e E, port uint16) (uint16, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if port != 0 {
		if t.takenLocked(s, e, port, true) {
			return 0, syscall.EADDRINUSE
		}
		t.m[port] = append(t.m[port], e)
		return port, nil
	}
	_, stream := any(e).(*TCPListener)
	free := func(port uint16) bool {
		return len(t.m[port]) == 0 && !(stream && s.tcp.conns.any(port)) && s.proberOf(t.table, port) == nil
	}
	port, ok := s.localPorts.forSocket(s.randUint32(), stream, free)
	if !ok && stream {
		// None that nobody uses: one whose users are not in the way.
		port, ok = s.localPorts.forSocket(s.randUint32(), stream, func(port uint16) bool { return !t.takenLocked(s, e, port, false) })
	}
	if !ok {
		return 0, syscall.EADDRINUSE
	}
	t.m[port] = append(t.m[port], e)
	return port, nil
}

// taken reports whether e, which holds port, could not bind it now. Linux looks
// again when a socket begins to listen, for SO_REUSEADDR may have let others in.
func (t *bindings[E]) taken(s *Stack, e E, port uint16) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.takenLocked(s, e, port, true)
}

func (t *bindings[E]) takenLocked(s *Stack, e E, port uint16, reuse bool) bool {
	a := e.holds()
	if a.sharing&ShareForce != 0 {
		return false
	}
	_, stream := any(e).(*TCPListener)
	for _, o := range t.m[port] {
		if b := o.holds(); o != e && a.conflicts(&b, stream, reuse) {
			return true
		}
	}
	return stream && s.tcp.portTaken(&a, port, reuse) || s.proberOf(t.table, port) != nil
}

// held reports whether anybody holds the port.
func (t *bindings[E]) held(port uint16) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.m[port]) > 0
}

func (t *bindings[E]) remove(e E, port uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.m[port]
	for i, o := range list {
		if o == e {
			// A new slice: lookups may still be reading the old one.
			t.m[port] = append(append([]E(nil), list[:i]...), list[i+1:]...)
			break
		}
	}
	if len(t.m[port]) == 0 {
		delete(t.m, port)
	}
}

// on returns the endpoints that hold a port; the slice is not changed later.
func (t *bindings[E]) on(port uint16) []E {
	t.mu.RLock()
	list := t.m[port]
	t.mu.RUnlock()
	return list
}

// all returns the endpoints in the order of their ports.
func (t *bindings[E]) all() (list []E) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, port := range slices.Sorted(maps.Keys(t.m)) {
		list = append(list, t.m[port]...)
	}
	return list
}

// balanced returns which of those who hold the same as e by SO_REUSEPORT is to have
// what comes from the peer with this hash; fits excludes some.
func balanced[E bound](list []E, e E, hash uint32, fits func(E) bool) E {
	c := e.holds()
	if c.sharing&SharePort == 0 {
		return e
	}
	n := 0
	for _, o := range list {
		if o == e || o.holds() == c && fits(o) {
			n++
		}
	}
	k := int(uint64(hash) * uint64(n) >> 32)
	for _, o := range list {
		if o == e || o.holds() == c && fits(o) {
			if k == 0 {
				return o
			}
			k--
		}
	}
	return e // somebody has just changed or left
}

// peerHash is what balanced needs to know of a peer.
func (s *Stack) peerHash(local, remote netip.AddrPort) uint32 {
	return uint32(tcp.PortHash(s.secret, local.Addr(), remote, uint32(local.Port())))
}

// accepts scores how well an endpoint bound to a fits a packet to dst: 0 not
// at all, more the more specific.
func accepts(a netip.Addr, both bool, dst netip.Addr) int {
	switch {
	case a == dst:
		return 3
	case a.IsUnspecified() && a.Is4() == dst.Is4():
		return 2
	case a.IsUnspecified() && both:
		return 1
	}
	return 0
}
