package stack

import (
	"maps"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/ipv6"
)

var (
	allSystems    = netip.AddrFrom4([4]byte{224, 0, 0, 1})
	allSystemsMAC = ether.Multicast(allSystems)
	allNodesMAC   = ether.Multicast(ipv6.AllNodes)
)

// groupSet is the multicast receive filter of an interface: the groups with
// the sources that are heard, and their MAC addresses. Immutable.
type groupSet struct {
	ip  map[netip.Addr]mcast.Filter
	mac map[ether.Addr]bool
}

// JoinGroup receives the multicast group g on this interface, from all sources,
// and tells the link's routers (IGMP, MLD). Joins are counted. Errors: EINVAL
// when g is no group, ENOBUFS above mcast.MaxGroups.
func (i *Interface) JoinGroup(g netip.Addr) error {
	if !g.IsMulticast() {
		return syscall.EINVAL
	}
	i.enter(i.stack.clock.Now())
	defer i.leave()
	return i.joinLocked(g.WithZone(""))
}

// LeaveGroup undoes one JoinGroup; EADDRNOTAVAIL when there was none.
func (i *Interface) LeaveGroup(g netip.Addr) error {
	i.enter(i.stack.clock.Now())
	defer i.leave()
	return i.leaveGroupLocked(g.WithZone(""))
}

func (i *Interface) joinLocked(g netip.Addr) error {
	return i.listenLocked(g, mcast.Filter{}, mcast.Everyone)
}

func (i *Interface) leaveGroupLocked(g netip.Addr) error {
	return i.listenLocked(g, mcast.Everyone, mcast.Filter{})
}

// listen changes what a socket hears of a group, whose lock the caller may
// hold. Errors are those of mcast.(*Machine).Listen.
func (i *Interface) listen(g netip.Addr, old, new mcast.Filter) error {
	i.enter(i.stack.clock.Now())
	defer i.leaveBusy()
	return i.listenLocked(g, old, new)
}

func (i *Interface) listenLocked(g netip.Addr, old, new mcast.Filter) error {
	m := i.members[family(g)]
	if err := m.Listen(i.now, g, old, new); err != nil {
		return err
	}
	set := &groupSet{ip: maps.Clone(i.groups.Load().ip), mac: make(map[ether.Addr]bool)}
	if set.ip == nil {
		set.ip = make(map[netip.Addr]mcast.Filter)
	}
	if f, ok := m.Filter(g); ok {
		set.ip[g] = f
	} else {
		delete(set.ip, g)
	}
	for ip := range set.ip {
		set.mac[ether.Multicast(ip)] = true
	}
	i.groups.Store(set)
	return nil
}

// wantsGroup is the multicast filter of a network card: broadcast, the groups
// of all hosts, and those that we joined. It goes by MAC address, which many
// groups share, so IP looks again with member.
func (i *Interface) wantsGroup(dst ether.Addr) bool {
	switch dst {
	case ether.Broadcast, allSystemsMAC:
		return true
	case allNodesMAC:
		return !i.noIPv6()
	}
	return i.groups.Load().mac[dst]
}

// member reports whether packets from src to the group are for us. As on Linux
// the filter that all listeners make together holds for those too who have not
// joined, and 0.0.0.0 and :: pass it.
func (i *Interface) member(g, src netip.Addr) bool {
	if g == allSystems || g == ipv6.AllNodes || g == interfaceLocalAllNodes {
		return true
	}
	f, ok := i.groups.Load().ip[g]
	return ok && (len(f.Sources) == 0 || src.IsUnspecified() || f.Passes(src))
}

// interfaceLocalAllNodes is ff01::1 (RFC 4291 §2.7.1).
var interfaceLocalAllNodes = netip.MustParseAddr("ff01::1")
