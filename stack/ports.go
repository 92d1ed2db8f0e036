package stack

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// bound is an endpoint that holds a local port.
type bound interface {
	comparable
	// bindAddr is the address the port is held on, unspecified for all of
	// its family; both says that the IPv6 wildcard includes IPv4.
	bindAddr() (a netip.Addr, both bool)
	// shares reports whether another endpoint may hold the same (SO_REUSEPORT
	// and SO_REUSEADDR on both).
	shares() bool
}

// bindings is the table of ports held, of one protocol.
type bindings[E bound] struct {
	mu sync.RWMutex // guards m
	m  map[uint16][]E
}

func (t *bindings[E]) init() { t.m = make(map[uint16][]E) }

// conflict is the kernel's rule: two endpoints clash on a port when one's
// address includes the other's and not both agreed to share.
func conflict[E bound](a, b E) bool {
	x, xBoth := a.bindAddr()
	y, yBoth := b.bindAddr()
	overlap := x == y
	if x.Is4() == y.Is4() {
		overlap = overlap || x.IsUnspecified() || y.IsUnspecified()
	} else {
		overlap = x.Is6() && x.IsUnspecified() && xBoth || y.Is6() && y.IsUnspecified() && yBoth
	}
	return overlap && !(a.shares() && b.shares())
}

// add binds e to port; port 0 picks a free ephemeral one, starting at an
// offset that outsiders cannot guess (RFC 6056). EADDRINUSE.
func (t *bindings[E]) add(s *Stack, e E, port uint16) (uint16, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if port != 0 {
		if t.takenLocked(e, port) {
			return 0, syscall.EADDRINUSE
		}
		t.m[port] = append(t.m[port], e)
		return port, nil
	}
	_, stream := any(e).(*TCPListener)
	port, ok := s.localPorts.forSocket(s.randUint32(), stream, func(port uint16) bool { return len(t.m[port]) == 0 })
	if !ok {
		return 0, syscall.EADDRINUSE
	}
	t.m[port] = append(t.m[port], e)
	return port, nil
}

func (t *bindings[E]) takenLocked(e E, port uint16) bool {
	for _, o := range t.m[port] {
		if o != e && conflict(e, o) {
			return true
		}
	}
	return false
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
