package socket

// This file owns the control messages that Sendmsg is given.

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// sendControl reads the control messages that go with a datagram. Those of
// another family than the datagram's are left alone, as Linux does.
func (f *FD) sendControl(b []byte, v4 bool, m *stack.SendInfo) error {
	level := IPPROTO_IPV6
	if v4 {
		level = IPPROTO_IP
	}
	for {
		c, rest, more, err := NextControl(b)
		if !more || err != nil {
			return err
		}
		b = rest
		switch {
		case c.Level == SOL_UDP && f.isUDP():
			if c.Type != UDP_SEGMENT || len(c.Data) != 2 {
				return syscall.EINVAL
			}
			m.Segment = int(binary.NativeEndian.Uint16(c.Data))
		case c.Level == SOL_SOCKET:
			return syscall.EINVAL // SO_MARK and their like: nothing here goes by them
		case c.Level == level && v4:
			err = f.sendControl4(c, m)
		case c.Level == level:
			err = f.sendControl6(c, m)
		case v4 && f.domain == AF_INET6 && c.Level == IPPROTO_IPV6 && c.Type == IPV6_PKTINFO:
			if len(c.Data) < 20 || !netip.AddrFrom16([16]byte(c.Data[:16])).Is4In6() {
				return syscall.EINVAL
			}
			err = f.sendPktInfo6(c.Data, m)
			m.Source = m.Source.Unmap()
		}
		if err != nil {
			return err
		}
	}
}

func (f *FD) sendControl4(c Control, m *stack.SendInfo) error {
	v := -1
	switch len(c.Data) {
	case 4:
		v = int(int32(binary.NativeEndian.Uint32(c.Data)))
	case 1:
		if c.Type == IP_TOS {
			v = int(c.Data[0])
		}
	}
	switch {
	case c.Type == IP_TTL && v >= 1 && v <= 255:
		m.Hops = int16(v)
	case c.Type == IP_TOS && v >= 0 && v <= 255:
		m.TOS = int16(v)
	case c.Type == IP_RETOPTS:
		m.Options = c.Data
	case c.Type == IP_PKTINFO && len(c.Data) == 12:
		m.Source = netip.AddrFrom4([4]byte(c.Data[4:8]))
		err := f.leaveBy(binary.NativeEndian.Uint32(c.Data), m)
		if err != nil && !m.Source.IsUnspecified() && f.stack.InterfaceOf(m.Source) == nil {
			err = syscall.ENETUNREACH // of the two Linux finds this first
		}
		return err
	default:
		return syscall.EINVAL
	}
	return nil
}

func (f *FD) sendControl6(c Control, m *stack.SendInfo) error {
	switch c.Type {
	case IPV6_PKTINFO:
		return f.sendPktInfo6(c.Data, m)
	case IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_RTHDR, IPV6_RTHDRDSTOPTS, IPV6_FLOWINFO:
		return sendHeader6(c, m)
	}
	if len(c.Data) != 4 {
		return syscall.EINVAL
	}
	v := int(int32(binary.NativeEndian.Uint32(c.Data)))
	switch {
	case c.Type == IPV6_HOPLIMIT && v >= -1 && v <= 255:
		m.Hops = int16(v)
	case c.Type == IPV6_TCLASS && v >= -1 && v <= 255:
		m.TOS = int16(v)
	case c.Type == IPV6_USE_MIN_MTU && v >= -1 && v <= 1:
		m.MinMTU = int16(v)
	case c.Type == IPV6_DONTFRAG && (v == 0 || v == 1):
		m.DontFrag = int16(v)
	default:
		return syscall.EINVAL
	}
	return nil
}

// sendPktInfo6 reads an IPV6_PKTINFO. A source that is not ours is EINVAL, a
// link-local one needs the interface.
func (f *FD) sendPktInfo6(d []byte, m *stack.SendInfo) error {
	if len(d) < 20 {
		return syscall.EINVAL
	}
	m.Source = netip.AddrFrom16([16]byte(d[:16]))
	if err := f.leaveBy(binary.NativeEndian.Uint32(d[16:]), m); err != nil {
		return err
	}
	if m.Source.IsLinkLocalUnicast() && m.Interface == nil {
		return syscall.EINVAL
	}
	return nil
}

// leaveBy is the number of an interface in a message; 0 is any.
func (f *FD) leaveBy(index uint32, m *stack.SendInfo) error {
	if index == 0 {
		return nil
	}
	if m.Interface = f.stack.InterfaceByIndex(int(int32(index))); m.Interface == nil {
		return syscall.ENODEV
	}
	return nil
}

// streamControl checks the control messages of a stream, which knows none: those
// of SOL_SOCKET are refused, others not looked at, as on Linux.
func (f *FD) streamControl(b []byte) error {
	if f.closed.Load() {
		return net.ErrClosed
	}
	for {
		c, rest, more, err := NextControl(b)
		if !more || err != nil {
			return err
		}
		if c.Level == SOL_SOCKET {
			return syscall.EINVAL
		}
		b = rest
	}
}
