package stack

// This file owns the source filter of a group as a whole (RFC 3678 §4.2, §5.2):
// set and read with one call, where ChangeSource changes one source at a time.

import (
	"net/netip"
	"slices"
	"syscall"
)

// MaxSources is the largest number of sources of one group of a socket.
func MaxSources(v6 bool) int {
	if v6 {
		return maxSources6
	}
	return maxSources4
}

// SetSources says from whom the socket hears a group that it is a member of:
// with include from the sources alone, without it from all others. With include
// and no sources it leaves the group. Errors: EINVAL when it is not a group or
// the socket is no member, ENODEV without such an interface, ENOBUFS with too
// many sources, EADDRNOTAVAIL when it cannot leave since it is no member.
func (d *Datagram) SetSources(m Membership, include bool, sources []netip.Addr) error {
	m.Group = m.Group.WithZone("")
	if !isGroup(m.Group) || m.Group.Is6() && m.Interface == nil && !(include && len(sources) == 0) {
		return syscall.EINVAL // Linux wants IPv6's interface named
	}
	in := d.interfaceFor(m)
	switch {
	case in == nil:
		return syscall.ENODEV
	case include && len(sources) == 0:
		if m.Group.Is4() {
			m.Interface = in
		}
		return d.Leave(m)
	}
	list := make([]netip.Addr, 0, len(sources))
	for _, a := range sources {
		if a = a.WithZone(""); !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if len(list) > MaxSources(m.Group.Is6()) {
		return syscall.ENOBUFS
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.sourcesOfLocked(m, in)
	if at < 0 {
		return syscall.EINVAL
	}
	x := d.groups[at]
	x.include, x.sources = include, list
	if err := x.in.listen(m.Group, d.groups[at].filter(), x.filter()); err != nil {
		return err
	}
	d.groups[at] = x
	return nil
}

// Sources returns what SetSources and ChangeSource have made of a group. Errors:
// EINVAL when it is not one, ENODEV without such an interface, EADDRNOTAVAIL
// when the socket is no member.
func (d *Datagram) Sources(m Membership) (include bool, sources []netip.Addr, err error) {
	m.Group = m.Group.WithZone("")
	if !isGroup(m.Group) {
		return false, nil, syscall.EINVAL
	}
	in := d.interfaceFor(m)
	if in == nil {
		return false, nil, syscall.ENODEV
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.sourcesOfLocked(m, in)
	if at < 0 {
		return false, nil, syscall.EADDRNOTAVAIL
	}
	return d.groups[at].include, slices.Clone(d.groups[at].sources), nil
}

// sourcesOfLocked finds the membership that is meant, or -1. Of IPv6 the
// interface has to be named, as on Linux.
func (d *Datagram) sourcesOfLocked(m Membership, in *Interface) int {
	if m.Group.Is6() && m.Interface == nil {
		return -1
	}
	return d.findLocked(m.Group, in)
}
