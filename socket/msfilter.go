package socket

// This file owns the options that set and read the whole source filter of a
// group (RFC 3678 §4.2, §5.2.1): IP_MSFILTER with a struct ip_msfilter, and
// MCAST_MSFILTER with a struct group_filter, of either family. Both are read
// with the group in the buffer that the answer is put in.

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// The options, and the modes in both structs: from the sources alone, or from
// all but them.
const (
	IP_MSFILTER    = 41 // struct ip_msfilter
	MCAST_MSFILTER = 48 // struct group_filter

	MCAST_EXCLUDE = 0
	MCAST_INCLUDE = 1
)

// Where the structs have what.
const (
	msLocal   = 4 // ip_msfilter: the address of the interface, after the group
	msMode    = 8
	msCount   = 12
	msSources = 16
	msSource  = 4

	gfGroup   = 8 // group_filter: after the number of the interface
	gfMode    = 136
	gfCount   = 140
	gfSources = 144
	gfSource  = 128
)

// filterMax is the longest filter that is looked at: Linux's optmem_max.
const filterMax = 128 << 10

func init() {
	rawOptions[name{IPPROTO_IP, IP_MSFILTER}] = rawOption{set: (*FD).setFilter4, fill: (*FD).filter4}
	for _, level := range []int{IPPROTO_IP, IPPROTO_IPV6} {
		rawOptions[name{level, MCAST_MSFILTER}] = rawOption{
			set:  func(f *FD, b []byte) error { return f.setGroupFilter(level, b) },
			fill: func(f *FD, b []byte) (int, error) { return f.groupFilter(level, b) },
		}
	}
}

// countSources reads how many sources a filter says that it has. ENOBUFS: more
// than there may be; EINVAL: more than there are.
func countSources(b []byte, countAt, first, each int, v6 bool) (int, error) {
	switch n := binary.NativeEndian.Uint32(b[countAt:]); {
	case len(b) > filterMax, n > uint32(stack.MaxSources(v6)):
		return 0, syscall.ENOBUFS
	case len(b) < first+int(n)*each:
		return 0, syscall.EINVAL
	default:
		return int(n), nil
	}
}

// setSources checks the mode, after the group as Linux does.
func (f *FD) setSources(m stack.Membership, mode uint32, sources []netip.Addr) error {
	if !isGroup(m.Group) || mode != MCAST_INCLUDE && mode != MCAST_EXCLUDE {
		return syscall.EINVAL
	}
	return ofStack(f.dgram.SetSources(m, mode == MCAST_INCLUDE, sources))
}

// isGroup: of no mapped one, as on Linux, since netip takes those for groups as
// well.
func isGroup(a netip.Addr) bool { return a.IsMulticast() && !a.Is4In6() }

func mode(include bool) uint32 {
	if include {
		return MCAST_INCLUDE
	}
	return MCAST_EXCLUDE
}

func (f *FD) setFilter4(b []byte) error {
	if len(b) < msSources {
		return syscall.EINVAL
	}
	n, err := countSources(b, msCount, msSources, msSource, false)
	if err != nil {
		return err
	}
	sources := make([]netip.Addr, n)
	for i := range sources {
		sources[i] = netip.AddrFrom4([4]byte(b[msSources+i*msSource:]))
	}
	return f.setSources(ipFilterGroup(b), binary.NativeEndian.Uint32(b[msMode:]), sources)
}

// ipFilterGroup is the group and the interface of a struct ip_msfilter.
func ipFilterGroup(b []byte) stack.Membership {
	return stack.Membership{Group: netip.AddrFrom4([4]byte(b)), Local: netip.AddrFrom4([4]byte(b[msLocal:]))}
}

// filter4 answers with as many sources as there is room for, according to the
// number in the buffer, and says how many there are.
func (f *FD) filter4(b []byte) (int, error) {
	if len(b) < msSources {
		return 0, syscall.EINVAL
	}
	include, sources, err := f.dgram.Sources(ipFilterGroup(b))
	if err != nil {
		return 0, ofStack(err)
	}
	n := min(len(sources), int(binary.NativeEndian.Uint32(b[msCount:])), (len(b)-msSources)/msSource)
	binary.NativeEndian.PutUint32(b[msMode:], mode(include))
	binary.NativeEndian.PutUint32(b[msCount:], uint32(len(sources)))
	for i, a := range sources[:n] {
		ip := a.As4()
		copy(b[msSources+i*msSource:], ip[:])
	}
	return msSources + n*msSource, nil
}

func (f *FD) setGroupFilter(level int, b []byte) error {
	if len(b) < gfSources {
		return syscall.EINVAL
	}
	v6 := level == IPPROTO_IPV6
	n, err := countSources(b, gfCount, gfSources, gfSource, v6)
	if err != nil {
		return err
	}
	m, err := f.group(level, b)
	if v6 && err == syscall.EADDRNOTAVAIL {
		return syscall.EINVAL // Linux takes whatever stands there for an address
	}
	sources := make([]netip.Addr, n)
	for i := range sources {
		a, ok := getSockaddr(b[gfSources+i*gfSource:])
		if !ok || a.Addr().Is4() == v6 {
			return syscall.EADDRNOTAVAIL
		}
		sources[i] = a.Addr()
	}
	fmode := binary.NativeEndian.Uint32(b[gfMode:])
	if err == syscall.ENODEV && (!isGroup(m.Group) || fmode > MCAST_INCLUDE) {
		return syscall.EINVAL
	}
	if err != nil {
		return err
	}
	return f.setSources(m, fmode, sources)
}

// groupFilter is filter4 with a struct group_filter. An interface that is not
// there, or not named, is one on which the socket is no member.
func (f *FD) groupFilter(level int, b []byte) (int, error) {
	if len(b) < gfSources {
		return 0, syscall.EINVAL
	}
	m, err := f.group(level, b)
	switch {
	case err == syscall.EADDRNOTAVAIL && level == IPPROTO_IP:
		return 0, syscall.EINVAL
	case err == syscall.EADDRNOTAVAIL:
		return 0, err
	case !isGroup(m.Group):
		return 0, syscall.EINVAL
	case err != nil || m.Interface == nil:
		return 0, syscall.EADDRNOTAVAIL
	}
	include, sources, err := f.dgram.Sources(m)
	if err != nil {
		return 0, ofStack(err)
	}
	n := min(len(sources), int(binary.NativeEndian.Uint32(b[gfCount:])), (len(b)-gfSources)/gfSource)
	binary.NativeEndian.PutUint32(b[gfMode:], mode(include))
	binary.NativeEndian.PutUint32(b[gfCount:], uint32(len(sources)))
	for i, a := range sources[:n] {
		s := b[gfSources+i*gfSource:][:gfSource]
		clear(s)
		putSockaddr(s, netip.AddrPortFrom(a, 0), 0)
	}
	return gfSources + n*gfSource, nil
}
