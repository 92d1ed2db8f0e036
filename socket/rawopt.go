package socket

// This file owns setsockopt(2) and getsockopt(2) with bytes, as the kernel has
// them: those of the tables of ints, and the options whose value is a struct,
// most of which are about multicast groups. Structs have the layout of a 64-bit
// Linux, in the machine's byte order.

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// rawOption is an option whose value is not an int: how it is set, and how it
// is read, which returns the value. Either may be nil.
type rawOption struct {
	set func(f *FD, b []byte) error
	get func(f *FD) ([]byte, error)
	// room reports whether n bytes do to read it in; nil: any number does, and
	// gets the beginning.
	room func(f *FD, n int) bool
	// stream: a stream has it, though its level is not SOL_SOCKET.
	stream bool
	// fill is get for what is asked for in the buffer that it puts the answer in.
	fill func(f *FD, b []byte) (int, error)
}

// exactly and atLeast are what rawOption.room may be.
func exactly(size int) func(*FD, int) bool { return func(_ *FD, n int) bool { return n == size } }
func atLeast(size int) func(*FD, int) bool { return func(_ *FD, n int) bool { return n >= size } }

// rawOptions is the table of them.
var rawOptions = map[name]rawOption{
	{SOL_SOCKET, SO_LINGER}: {set: (*FD).setLingerRaw, get: (*FD).lingerRaw},

	{IPPROTO_IP, IP_MULTICAST_IF}:           {set: (*FD).setGroupInterface4, get: (*FD).groupInterface4},
	{IPPROTO_IP, IP_ADD_MEMBERSHIP}:         {set: func(f *FD, b []byte) error { return f.membership4(b, true) }},
	{IPPROTO_IP, IP_DROP_MEMBERSHIP}:        {set: func(f *FD, b []byte) error { return f.membership4(b, false) }},
	{IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP}:  source4(stack.AddSource),
	{IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP}: source4(stack.DropSource),
	{IPPROTO_IP, IP_BLOCK_SOURCE}:           source4(stack.BlockSource),
	{IPPROTO_IP, IP_UNBLOCK_SOURCE}:         source4(stack.UnblockSource),
	{IPPROTO_IPV6, IPV6_JOIN_GROUP}:         {set: func(f *FD, b []byte) error { return f.membership6(b, true) }},
	{IPPROTO_IPV6, IPV6_LEAVE_GROUP}:        {set: func(f *FD, b []byte) error { return f.membership6(b, false) }},
}

func init() {
	for _, level := range []int{IPPROTO_IP, IPPROTO_IPV6} {
		group := func(join bool) rawOption {
			return rawOption{set: func(f *FD, b []byte) error { return f.groupReq(level, b, join) }}
		}
		source := func(how stack.SourceChange) rawOption {
			return rawOption{set: func(f *FD, b []byte) error { return f.groupSourceReq(level, b, how) }}
		}
		rawOptions[name{level, MCAST_JOIN_GROUP}] = group(true)
		rawOptions[name{level, MCAST_LEAVE_GROUP}] = group(false)
		rawOptions[name{level, MCAST_JOIN_SOURCE_GROUP}] = source(stack.AddSource)
		rawOptions[name{level, MCAST_LEAVE_SOURCE_GROUP}] = source(stack.DropSource)
		rawOptions[name{level, MCAST_BLOCK_SOURCE}] = source(stack.BlockSource)
		rawOptions[name{level, MCAST_UNBLOCK_SOURCE}] = source(stack.UnblockSource)
	}
}

// raw finds an option whose value is a struct.
func (f *FD) raw(level, opt int) (o rawOption, ok bool) {
	o, ok = rawOptions[name{level, opt}]
	if (level == SOL_RAW || level == SOL_ICMPV6) && (f.typ != SOCK_RAW || f.domain == AF_INET6 != (level == SOL_ICMPV6)) {
		return rawOption{}, false
	}
	if level == SOL_TCP {
		return o, ok && f.typ == SOCK_STREAM
	}
	if ok && o.stream && f.typ == SOCK_STREAM {
		return o, level != IPPROTO_IPV6 || f.domain == AF_INET6
	}
	if !ok || level != SOL_SOCKET && (f.dgram == nil && f.packet == nil || level == SOL_PACKET != (f.packet != nil)) || level == IPPROTO_IPV6 && f.domain != AF_INET6 {
		return rawOption{}, false
	}
	return o, true
}

// mayNotBeEmpty are the options of IPPROTO_IP that need a byte at least.
var mayNotBeEmpty = map[int]bool{IP_MULTICAST_TTL: true, IP_MULTICAST_LOOP: true, IP_MULTICAST_ALL: true, IP_FREEBIND: true, IP_TRANSPARENT: true}

// Setsockopt is setsockopt(2). Errors beside those of SetsockoptInt: EINVAL for
// a value that is too short.
func (f *FD) Setsockopt(level, opt int, value []byte) error {
	if o, ok := f.raw(level, opt); ok && o.set != nil {
		if f.closed.Load() {
			return net.ErrClosed
		}
		return o.set(f, value)
	}
	v := 0
	switch {
	case len(value) >= 4:
		v = int(int32(binary.NativeEndian.Uint32(value)))
	case level == IPPROTO_IP && len(value) > 0:
		v = int(value[0]) // for programs of other systems
	case level == IPPROTO_IP && !mayNotBeEmpty[opt], level == IPPROTO_IPV6 && (opt == IPV6_DONTFRAG || opt == IPV6_AUTOFLOWLABEL):
		// Linux takes what is not there for 0.
	case level == SOL_SOCKET || level == SOL_UDP && f.isUDP():
		return syscall.EINVAL
	default:
		if _, err := f.option(level, opt); err != nil {
			return err
		}
		return syscall.EINVAL
	}
	return f.SetsockoptInt(level, opt, v)
}

// Getsockopt is getsockopt(2): it returns how much of value it has filled.
func (f *FD) Getsockopt(level, opt int, value []byte) (int, error) {
	o, ok := f.raw(level, opt)
	if ok && o.fill != nil {
		if f.closed.Load() {
			return 0, net.ErrClosed
		}
		return o.fill(f, value)
	}
	if ok && o.get != nil {
		if f.closed.Load() {
			return 0, net.ErrClosed
		}
		if o.room != nil && !o.room(f, len(value)) {
			return 0, syscall.EINVAL
		}
		b, err := o.get(f)
		if err != nil {
			return 0, err
		}
		return copy(value, b), nil
	}
	v, err := f.GetsockoptInt(level, opt)
	if err != nil {
		return 0, err
	}
	if level == IPPROTO_IP && len(value) > 0 && len(value) < 4 && v >= 0 && v <= 255 {
		value[0] = byte(v)
		return 1, nil
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(int32(v)))
	return copy(value, b[:]), nil
}

// setLingerRaw takes a struct linger.
func (f *FD) setLingerRaw(b []byte) error {
	if len(b) < 8 {
		return syscall.EINVAL
	}
	if binary.NativeEndian.Uint32(b) == 0 {
		return f.SetLinger(-1)
	}
	return f.SetLinger(int(int32(binary.NativeEndian.Uint32(b[4:])) & 0x7fffffff))
}

func (f *FD) lingerRaw() ([]byte, error) {
	sec, err := f.Linger()
	b := make([]byte, 8)
	if sec >= 0 {
		binary.NativeEndian.PutUint32(b, 1)
		binary.NativeEndian.PutUint32(b[4:], uint32(sec))
	}
	return b, err
}

// mreq reads a struct ip_mreqn, or an ip_mreq, which has no number of an
// interface. ENODEV: there is no such.
func (f *FD) mreq(b []byte) (m stack.Membership, err error) {
	if len(b) < 8 {
		return m, syscall.EINVAL
	}
	m.Group, m.Local = netip.AddrFrom4([4]byte(b[:4])), netip.AddrFrom4([4]byte(b[4:8]))
	if len(b) >= 12 {
		m.Interface, err = f.interfaceOf(b[8:])
	}
	return m, err
}

// interfaceOf reads the number of an interface, of which 0 is none.
func (f *FD) interfaceOf(b []byte) (*stack.Interface, error) {
	n := int(int32(binary.NativeEndian.Uint32(b)))
	if n == 0 {
		return nil, nil
	}
	i := f.stack.InterfaceByIndex(n)
	if i == nil {
		return nil, syscall.ENODEV
	}
	return i, nil
}

func (f *FD) membership4(b []byte, join bool) error {
	m, err := f.mreq(b)
	return f.changeGroup(m, err, join)
}

// changeGroup joins or leaves. That a group is none comes before that the
// interface is not there, on which nothing can have been joined.
func (f *FD) changeGroup(m stack.Membership, err error, join bool) error {
	switch {
	case err == syscall.ENODEV && !m.Group.IsMulticast() && (join || m.Group.Is6()):
		return syscall.EINVAL
	case err == syscall.ENODEV && !join:
		return syscall.EADDRNOTAVAIL
	case err != nil:
		return err
	case join:
		return ofStack(f.dgram.Join(m))
	}
	return ofStack(f.dgram.Leave(m))
}

// membership6 takes a struct ipv6_mreq.
func (f *FD) membership6(b []byte, join bool) error {
	if len(b) < 20 {
		return syscall.EINVAL
	}
	m := stack.Membership{Group: netip.AddrFrom16([16]byte(b[:16]))}
	var err error
	m.Interface, err = f.interfaceOf(b[16:])
	if m.Group.Is4In6() {
		return syscall.EINVAL // Linux: not a group of IPv6
	}
	return f.changeGroup(m, err, join)
}

// source4 takes a struct ip_mreq_source.
func source4(how stack.SourceChange) rawOption {
	return rawOption{set: func(f *FD, b []byte) error {
		if len(b) != 12 {
			return syscall.EINVAL
		}
		m := stack.Membership{Group: netip.AddrFrom4([4]byte(b[:4])), Local: netip.AddrFrom4([4]byte(b[4:8]))}
		return ofStack(f.dgram.ChangeSource(m, netip.AddrFrom4([4]byte(b[8:12])), how))
	}}
}

// Where a struct group_req and a group_source_req have their addresses, and how
// long they are.
const (
	groupAt     = 8
	sourceAt    = 136
	groupLen    = 136
	groupSrcLen = 264
)

// group reads the interface and the group of both structs.
func (f *FD) group(level int, b []byte) (m stack.Membership, err error) {
	a, ok := getSockaddr(b[groupAt:])
	if !ok || a.Addr().Is4() != (level == IPPROTO_IP) {
		return m, syscall.EADDRNOTAVAIL
	}
	m.Group = a.Addr()
	m.Interface, err = f.interfaceOf(b)
	return m, err
}

func (f *FD) groupReq(level int, b []byte, join bool) error {
	if len(b) < groupLen {
		return syscall.EINVAL
	}
	m, err := f.group(level, b)
	if err == syscall.EADDRNOTAVAIL && level == IPPROTO_IP {
		err = syscall.EINVAL // so Linux calls it for IPv4 alone
	}
	return f.changeGroup(m, err, join)
}

func (f *FD) groupSourceReq(level int, b []byte, how stack.SourceChange) error {
	if len(b) < groupSrcLen {
		return syscall.EINVAL
	}
	m, err := f.group(level, b)
	src, ok := getSockaddr(b[sourceAt:])
	if !ok || src.Addr().Is4() != (level == IPPROTO_IP) {
		err = syscall.EADDRNOTAVAIL
	}
	switch {
	case err == syscall.ENODEV && !m.Group.IsMulticast():
		return syscall.EINVAL
	case err != nil:
		return err
	}
	return ofStack(f.dgram.ChangeSource(m, src.Addr(), how))
}

// setGroupInterface4 takes a struct in_addr, ip_mreq or ip_mreqn.
func (f *FD) setGroupInterface4(b []byte) error {
	var src, index []byte
	switch {
	case len(b) >= 12:
		src, index = b[4:8], b[8:12]
	case len(b) >= 8:
		src = b[4:8]
	case len(b) >= 4:
		src = b[:4]
	default:
		return syscall.EINVAL
	}
	a := netip.AddrFrom4([4]byte(src))
	var i *stack.Interface
	if index != nil {
		var err error
		if i, err = f.interfaceOf(index); err != nil {
			return syscall.EADDRNOTAVAIL
		}
	}
	if i == nil && !a.IsUnspecified() {
		if i = f.stack.InterfaceOf(a); i == nil {
			return syscall.EADDRNOTAVAIL
		}
	}
	return f.dgram.SetGroupInterface(false, i, a)
}

func (f *FD) groupInterface4() ([]byte, error) {
	_, a := f.dgram.GroupInterface(false)
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	return a.AsSlice(), nil
}

func (f *FD) setGroupInterface6(v int) error {
	if f.dgram == nil {
		return syscall.ENOPROTOOPT
	}
	var i *stack.Interface
	if v != 0 {
		if i = f.stack.InterfaceByIndex(v); i == nil {
			return syscall.ENODEV
		}
	}
	return f.dgram.SetGroupInterface(true, i, netip.Addr{})
}

func (f *FD) groupInterface6() (int, error) {
	if f.dgram == nil {
		return 0, syscall.ENOPROTOOPT
	}
	if i, _ := f.dgram.GroupInterface(true); i != nil {
		return i.Index(), nil
	}
	return 0, nil
}
