package stack

import (
	"maps"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
)

var (
	allSystems    = netip.AddrFrom4([4]byte{224, 0, 0, 1})
	allSystemsMAC = ether.Multicast(allSystems)
	allNodesMAC   = ether.Multicast(ipv6.AllNodes)
)

// groupSet is the multicast receive filter of an interface: the groups with
// their reference counts, and their MAC addresses. Immutable.
type groupSet struct {
	ip  map[netip.Addr]int
	mac map[ether.Addr]bool
}

// maxGroups bounds the groups of one interface.
const maxGroups = 1024

// JoinGroup receives the multicast group g on this interface and tells the
// link's routers (MLDv2 for IPv6). Joins are counted. Errors: EINVAL when g is
// no group, ENOBUFS above 1024 groups.
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
	old := i.groups.Load()
	if len(old.ip) >= maxGroups {
		return syscall.ENOBUFS
	}
	i.setGroupLocked(g, old.ip[g]+1)
	if g.Is6() && !i.loopback {
		i.mld.Join(i.now, g)
	}
	return nil
}

func (i *Interface) leaveGroupLocked(g netip.Addr) error {
	n := i.groups.Load().ip[g]
	if n == 0 {
		return syscall.EADDRNOTAVAIL
	}
	i.setGroupLocked(g, n-1)
	if g.Is6() && !i.loopback {
		i.mld.Leave(i.now, g)
	}
	return nil
}

func (i *Interface) setGroupLocked(g netip.Addr, n int) {
	set := &groupSet{ip: maps.Clone(i.groups.Load().ip), mac: make(map[ether.Addr]bool)}
	if set.ip == nil {
		set.ip = make(map[netip.Addr]int)
	}
	if n == 0 {
		delete(set.ip, g)
	} else {
		set.ip[g] = n
	}
	for ip := range set.ip {
		set.mac[ether.Multicast(ip)] = true
	}
	i.groups.Store(set)
}

// wantsGroup is the multicast filter of a network card: broadcast, the groups
// of all hosts, and those that we joined. It goes by MAC address, which many
// groups share, so IP looks again with member.
func (i *Interface) wantsGroup(dst ether.Addr) bool {
	switch dst {
	case ether.Broadcast, allSystemsMAC:
		return true
	case allNodesMAC:
		return !i.noIPv6
	}
	return i.groups.Load().mac[dst]
}

// member reports whether packets to the group are for us.
func (i *Interface) member(g netip.Addr) bool {
	return g == allSystems || g == ipv6.AllNodes || g == interfaceLocalAllNodes || i.groups.Load().ip[g] > 0
}

// interfaceLocalAllNodes is ff01::1 (RFC 4291 §2.7.1).
var interfaceLocalAllNodes = netip.MustParseAddr("ff01::1")
