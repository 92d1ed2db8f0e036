package stack

// This file owns which multicast groups a socket is a member of, and from
// which sources it hears them (RFC 3376 §3.1, RFC 3678). The interface hears
// what its sockets want together, and tells the routers; who of them gets a
// datagram is decided here.

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/internal/mcast"
)

// The most groups of one socket and sources of one group: Linux's
// igmp_max_memberships and igmp_max_msf; for IPv6, which has no such limit
// there but memory, its mld_max_msf.
const (
	maxMemberships4 = 20
	maxMemberships6 = 256
	maxSources4     = 10
	maxSources6     = 64
)

// Membership names a group and where it is joined: on Interface, or on that
// which has the address Local, or else on that which packets to the group leave
// by.
type Membership struct {
	Group     netip.Addr
	Interface *Interface
	Local     netip.Addr
}

// membership is a group that a socket has joined.
type membership struct {
	Membership
	in      *Interface
	include bool // sources are those that are heard; without it those that are not
	sources []netip.Addr
}

// filter is what the interface is told that the socket wants.
func (x *membership) filter() mcast.Filter {
	return mcast.Filter{Exclude: !x.include, Sources: x.sources}
}

// interfaceFor finds the interface that m means; nil when there is none.
func (d *Datagram) interfaceFor(m Membership) *Interface {
	c := d.stack.cfg.Load()
	switch {
	case m.Interface != nil && !slices.Contains(c.ifaces, m.Interface):
		return nil // it was removed
	case m.Interface != nil:
		return m.Interface
	case m.Group.Is4() && m.Local.IsValid() && !m.Local.IsUnspecified():
		return d.stack.InterfaceOf(m.Local)
	}
	if m, err := c.lookup(m.Group, netip.Addr{}, nil); err == nil {
		return m.iface
	}
	return c.multicastInterface(m.Group, netip.Addr{})
}

// findLocked returns the place of a membership, or -1. A join that says no
// interface meets that on any interface with IPv6, where Linux does so.
func (d *Datagram) findLocked(g netip.Addr, in *Interface) int {
	return slices.IndexFunc(d.groups, func(x membership) bool {
		return x.Group == g && (x.in == in || in == nil)
	})
}

// Join makes the socket a member of a group (IP_ADD_MEMBERSHIP,
// IPV6_JOIN_GROUP, MCAST_JOIN_GROUP). Errors: EINVAL when it is not a group,
// ENODEV without such an interface, EADDRINUSE when it is a member, ENOBUFS
// with too many.
func (d *Datagram) Join(m Membership) error { return d.join(m, false) }

func (d *Datagram) join(m Membership, include bool) error {
	m.Group = m.Group.WithZone("")
	if !isGroup(m.Group) {
		return syscall.EINVAL
	}
	in, already, most := d.interfaceFor(m), m.Interface, maxMemberships6
	if m.Group.Is4() {
		if in == nil {
			return syscall.ENODEV
		}
		already, most = in, maxMemberships4
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, x := range d.groups {
		if x.Group.Is4() == m.Group.Is4() {
			n++
		}
	}
	switch {
	case d.closed:
		return syscall.EBADF
	case d.findLocked(m.Group, already) >= 0:
		return syscall.EADDRINUSE
	case in == nil:
		return syscall.ENODEV
	case n >= most:
		return syscall.ENOBUFS
	}
	x := membership{Membership: m, in: in, include: include}
	if err := in.listen(m.Group, mcast.Filter{}, x.filter()); err != nil {
		return err
	}
	d.groups = append(d.groups, x)
	return nil
}

// isGroup reports whether a socket may be a member of a: of no mapped group, as on
// Linux, since netip takes those for groups as well.
func isGroup(a netip.Addr) bool { return a.IsMulticast() && !a.Is4In6() }

// Leave ends a membership. EADDRNOTAVAIL when there is none.
func (d *Datagram) Leave(m Membership) error {
	m.Group = m.Group.WithZone("")
	in := m.Interface
	if m.Group.Is4() {
		named := in != nil || m.Local.IsValid() && !m.Local.IsUnspecified()
		if !named && d.interfaceFor(m) == nil {
			return syscall.ENODEV
		}
		if m.Local.IsValid() && in == nil {
			in = d.stack.InterfaceOf(m.Local) // as Linux: whatever it was joined by
		}
	} else if !isGroup(m.Group) {
		return syscall.EINVAL
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.IndexFunc(d.groups, func(x membership) bool {
		switch {
		case x.Group != m.Group:
			return false
		case in != nil:
			return x.in == in
		case m.Local.IsValid() && !m.Local.IsUnspecified():
			return x.Local == m.Local
		}
		return true
	})
	if at < 0 {
		return syscall.EADDRNOTAVAIL
	}
	x := d.groups[at]
	d.groups = slices.Delete(d.groups, at, at+1)
	return x.in.listen(x.Group, x.filter(), mcast.Filter{})
}

// SourceChange is what ChangeSource does to the sources of a group.
type SourceChange uint8

// The changes: IP_ADD_SOURCE_MEMBERSHIP, which joins if need be,
// IP_DROP_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE and IP_UNBLOCK_SOURCE.
const (
	AddSource SourceChange = iota
	DropSource
	BlockSource
	UnblockSource
)

// ChangeSource changes from whom the socket hears a group. Errors beside those
// of Join: EINVAL for a socket that is no member, and for a list of the other
// kind; EADDRNOTAVAIL for a source that is in the list already, or not in it
// that should be; ENOBUFS with too many.
func (d *Datagram) ChangeSource(m Membership, source netip.Addr, how SourceChange) error {
	m.Group, source = m.Group.WithZone(""), source.WithZone("")
	include, add := how == AddSource || how == DropSource, how == AddSource || how == BlockSource
	if how == AddSource {
		if err := d.join(m, true); err != nil && err != syscall.EADDRINUSE {
			return err
		}
	}
	if !isGroup(m.Group) {
		return syscall.EINVAL
	}
	in := d.interfaceFor(m)
	if in == nil {
		return syscall.ENODEV
	}
	most := maxSources6
	if m.Group.Is4() {
		most = maxSources4
	} else {
		in = m.Interface
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.findLocked(m.Group, in)
	if at < 0 {
		return syscall.EINVAL
	}
	x := d.groups[at]
	x.sources = slices.Clone(x.sources)
	err := x.change(source, include, add, most) // which may change the kind all the same
	if err := x.in.listen(m.Group, d.groups[at].filter(), x.filter()); err != nil {
		return err
	}
	d.groups[at] = x
	if err == nil && x.filter().Empty() { // RFC 3376 §3.1: to hear nobody is not to be a member
		d.groups = slices.Delete(d.groups, at, at+1)
	}
	return err
}

// change adds a source to the list or takes it out. An empty list may change
// its kind.
func (x *membership) change(source netip.Addr, include, add bool, most int) error {
	if x.include != include {
		if len(x.sources) > 0 {
			return syscall.EINVAL
		}
		x.include = include
	}
	at := slices.Index(x.sources, source)
	switch {
	case add && len(x.sources) >= most:
		return syscall.ENOBUFS
	case add == (at >= 0):
		return syscall.EADDRNOTAVAIL
	case add:
		x.sources = append(x.sources, source)
	default:
		x.sources = slices.Delete(x.sources, at, at+1)
	}
	return nil
}

// hears reports whether the socket wants what src sends to a group. As on
// Linux one that has not joined it does, unless IP_MULTICAST_ALL is off.
func (d *Datagram) hears(group, src netip.Addr, in *Interface) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.findLocked(group, in)
	if at < 0 {
		return d.sets.forFamily(group, DatagramAll, DatagramAll6) != 0
	}
	x := &d.groups[at]
	return x.include == slices.Contains(x.sources, src)
}

// SetGroupInterface chooses the interface that what goes to groups leaves by,
// and for IPv4 the address it comes from, if that is not unspecified
// (IP_MULTICAST_IF, IPV6_MULTICAST_IF); nil leaves it to the route.
func (d *Datagram) SetGroupInterface(v6 bool, i *Interface, src netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i != nil && d.oif != nil && i != d.oif {
		return syscall.EINVAL
	}
	if v6 {
		d.group6 = i
		return nil
	}
	d.group4, d.groupSrc = i, src
	return nil
}

// GroupInterface returns what SetGroupInterface has set.
func (d *Datagram) GroupInterface(v6 bool) (*Interface, netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v6 {
		return d.group6, netip.Addr{}
	}
	return d.group4, d.groupSrc
}
