package socket

// This file owns the layout of control messages (struct cmsghdr of a 64-bit
// Linux, in the machine's byte order), so that what x/sys/unix, x/net/ipv4 and
// x/net/ipv6 write and read can be given to Sendmsg and taken from Recvmsg; and
// helpers for those who want to write and read them without.

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"
)

// controlHeader is the length of a struct cmsghdr, which is also what messages
// are aligned to, together with its half.
const (
	controlHeader = 16
	controlAlign  = 8
)

// Control is one control message.
type Control struct {
	Level, Type int
	Data        []byte
}

// ControlSpace returns how many bytes a message with n bytes of data takes:
// CMSG_SPACE.
func ControlSpace(n int) int { return controlHeader + (n+controlAlign-1)&^(controlAlign-1) }

// AppendControl appends a control message to b.
func AppendControl(b []byte, level, typ int, data []byte) []byte {
	b = binary.NativeEndian.AppendUint64(b, uint64(controlHeader+len(data)))
	b = binary.NativeEndian.AppendUint32(b, uint32(level))
	b = binary.NativeEndian.AppendUint32(b, uint32(typ))
	b = append(b, data...)
	for n := len(data); n%controlAlign != 0; n++ {
		b = append(b, 0)
	}
	return b
}

// AppendControlInt appends one whose data is an int: IP_TTL, IP_TOS,
// IPV6_HOPLIMIT, IPV6_TCLASS.
func AppendControlInt(b []byte, level, typ, v int) []byte {
	var d [4]byte
	binary.NativeEndian.PutUint32(d[:], uint32(int32(v)))
	return AppendControl(b, level, typ, d[:])
}

// AppendPktInfo appends IP_PKTINFO or IPV6_PKTINFO: the address to send from,
// and the number of the interface to leave by, 0 for any.
func AppendPktInfo(b []byte, from netip.Addr, index int) []byte {
	if from.Is4() {
		var d [12]byte
		binary.NativeEndian.PutUint32(d[:], uint32(index))
		a := from.As4()
		copy(d[4:], a[:])
		return AppendControl(b, IPPROTO_IP, IP_PKTINFO, d[:])
	}
	var d [20]byte
	a := from.As16()
	copy(d[:], a[:])
	binary.NativeEndian.PutUint32(d[16:], uint32(index))
	return AppendControl(b, IPPROTO_IPV6, IPV6_PKTINFO, d[:])
}

// AppendSegmentSize appends UDP_SEGMENT: what is sent is cut into datagrams of n
// bytes.
func AppendSegmentSize(b []byte, n uint16) []byte {
	var d [2]byte
	binary.NativeEndian.PutUint16(d[:], n)
	return AppendControl(b, SOL_UDP, UDP_SEGMENT, d[:])
}

// NextControl returns the first control message in b and what follows it. more
// is false when there is none: b is empty, or too short for a header. EINVAL: a
// length that is not possible.
func NextControl(b []byte) (c Control, rest []byte, more bool, err error) {
	if len(b) < controlHeader {
		return c, nil, false, nil
	}
	n := binary.NativeEndian.Uint64(b)
	if n < controlHeader || n > uint64(len(b)) {
		return c, nil, false, syscall.EINVAL
	}
	c.Level = int(int32(binary.NativeEndian.Uint32(b[8:])))
	c.Type = int(int32(binary.NativeEndian.Uint32(b[12:])))
	c.Data = b[controlHeader:n:n]
	return c, b[min(ControlSpace(len(c.Data)), len(b)):], true, nil
}

// ControlInfo is what the control messages of a received datagram say. What
// none of them is about keeps its zero value, TTL and TOS -1.
type ControlInfo struct {
	// Dst is the address that the datagram was sent to, Local that of this host
	// which answers (IP_PKTINFO alone), Interface the number of the one that it
	// came by.
	Dst, Local netip.Addr
	Interface  int
	TTL, TOS   int            // of either family
	FlowInfo   uint32         // IPV6_FLOWINFO
	OrigDst    netip.AddrPort // IP_RECVORIGDSTADDR
	Segment    int            // UDP_GRO: length of each datagram but the last
	Time       time.Time      // SO_TIMESTAMP, SO_TIMESTAMPNS
	Lost       uint32         // SO_RXQ_OVFL: datagrams that there was no room for
	// HopOptions, DstOptions and Routing are extension headers as they came; of
	// several of a kind the last (IPV6_RECVHOPOPTS and its like).
	HopOptions, DstOptions, Routing []byte
	PathMTU                         int            // IPV6_RECVPATHMTU: what a datagram to Dst was too long for
	Err                             *ExtendedError // of MSG_ERRQUEUE
}

// ParseControl reads the control messages of a datagram. Those that it does not
// know, or that were cut short, are left out. EINVAL when b is not made of
// control messages.
func ParseControl(b []byte) (i ControlInfo, err error) {
	i.TTL, i.TOS = -1, -1
	for {
		c, rest, more, err := NextControl(b)
		if !more || err != nil {
			return i, err
		}
		i.add(c)
		b = rest
	}
}

func (i *ControlInfo) add(c Control) {
	d := c.Data
	switch (name{c.Level, c.Type}) {
	case name{IPPROTO_IP, IP_PKTINFO}:
		if len(d) >= 12 {
			i.Interface = int(binary.NativeEndian.Uint32(d))
			i.Local, i.Dst = netip.AddrFrom4([4]byte(d[4:8])), netip.AddrFrom4([4]byte(d[8:12]))
		}
	case name{IPPROTO_IPV6, IPV6_PKTINFO}:
		if len(d) >= 20 {
			i.Dst, i.Interface = netip.AddrFrom16([16]byte(d[:16])), int(binary.NativeEndian.Uint32(d[16:]))
		}
	case name{IPPROTO_IP, IP_TTL}, name{IPPROTO_IPV6, IPV6_HOPLIMIT}:
		if len(d) >= 4 {
			i.TTL = int(int32(binary.NativeEndian.Uint32(d)))
		}
	case name{IPPROTO_IP, IP_TOS}: // a byte, from the kernel
		if len(d) >= 1 {
			i.TOS = int(d[0])
		}
	case name{IPPROTO_IPV6, IPV6_TCLASS}:
		if len(d) >= 4 {
			i.TOS = int(int32(binary.NativeEndian.Uint32(d)))
		}
	case name{IPPROTO_IPV6, IPV6_FLOWINFO}:
		if len(d) >= 4 {
			i.FlowInfo = binary.BigEndian.Uint32(d)
		}
	case name{IPPROTO_IPV6, IPV6_HOPOPTS}:
		i.HopOptions = d
	case name{IPPROTO_IPV6, IPV6_DSTOPTS}:
		i.DstOptions = d
	case name{IPPROTO_IPV6, IPV6_RTHDR}:
		i.Routing = d
	case name{IPPROTO_IPV6, IPV6_PATHMTU}:
		if a, ok := getSockaddr(d); ok && len(d) >= mtuInfoLen {
			i.Dst, i.PathMTU = a.Addr(), int(binary.NativeEndian.Uint32(d[sockaddrLen6:]))
		}
	case name{IPPROTO_IP, IP_ORIGDSTADDR}, name{IPPROTO_IPV6, IPV6_ORIGDSTADDR}:
		i.OrigDst, _ = getSockaddr(d)
	case name{SOL_UDP, UDP_GRO}:
		if len(d) >= 4 {
			i.Segment = int(int32(binary.NativeEndian.Uint32(d)))
		}
	case name{SOL_SOCKET, SO_TIMESTAMP}:
		if len(d) >= 16 {
			i.Time = time.Unix(int64(binary.NativeEndian.Uint64(d)), int64(binary.NativeEndian.Uint64(d[8:]))*1000)
		}
	case name{SOL_SOCKET, SO_TIMESTAMPNS}:
		if len(d) >= 16 {
			i.Time = time.Unix(int64(binary.NativeEndian.Uint64(d)), int64(binary.NativeEndian.Uint64(d[8:])))
		}
	case name{SOL_SOCKET, SO_RXQ_OVFL}:
		if len(d) >= 4 {
			i.Lost = binary.NativeEndian.Uint32(d)
		}
	case name{IPPROTO_IP, IP_RECVERR}, name{IPPROTO_IPV6, IPV6_RECVERR}:
		if e, ok := parseExtendedError(d); ok {
			i.Err = &e
		}
	}
}

// name is the level and number of an option or a control message.
type name struct{ level, name int }

// controlWriter fills the room that a program has for control messages, as
// put_cmsg of the kernel does: what does not fit is cut off, and said to be.
type controlWriter struct {
	b   []byte
	n   int
	cut bool
}

func (w *controlWriter) put(level, typ int, data []byte) {
	room := w.b[w.n:]
	if len(room) < controlHeader {
		w.cut = true
		return
	}
	n := controlHeader + len(data)
	if n > len(room) {
		n, w.cut = len(room), true
	}
	binary.NativeEndian.PutUint64(room, uint64(n))
	binary.NativeEndian.PutUint32(room[8:], uint32(level))
	binary.NativeEndian.PutUint32(room[12:], uint32(typ))
	k := copy(room[controlHeader:n], data)
	end := min(ControlSpace(len(data)), len(room))
	clear(room[controlHeader+k : end])
	w.n += end
}

func (w *controlWriter) putInt(level, typ, v int) {
	var d [4]byte
	binary.NativeEndian.PutUint32(d[:], uint32(int32(v)))
	w.put(level, typ, d[:])
}

// Lengths of a struct sockaddr_in and a sockaddr_in6.
const (
	sockaddrLen4 = 16
	sockaddrLen6 = 28
)

// putSockaddr writes a sockaddr_in or sockaddr_in6 into b, which is zero, and
// returns its length.
func putSockaddr(b []byte, a netip.AddrPort, scope int) int {
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(b, AF_INET)
		ip := a.Addr().As4()
		copy(b[4:], ip[:])
		return sockaddrLen4
	}
	binary.NativeEndian.PutUint16(b, AF_INET6)
	ip := a.Addr().As16()
	copy(b[8:], ip[:])
	binary.NativeEndian.PutUint32(b[24:], uint32(scope))
	return sockaddrLen6
}

func getSockaddr(b []byte) (a netip.AddrPort, ok bool) {
	if len(b) < 2 {
		return a, false
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == AF_INET && len(b) >= 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), true
	case family == AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(b[2:])), true
	}
	return a, false
}
