package socket

// This file owns AF_PACKET sockets (packet(7)): whole frames with SOCK_RAW, or
// with SOCK_DGRAM packets without their link-layer header. Their addresses are
// of another kind than all others, so the calls that have one are methods of
// their own; Send, Recv, Close, deadlines and options are those of every FD.

import (
	"encoding/binary"
	"math"
	"net"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// The names and numbers of packet sockets, as Linux has them.
const (
	AF_PACKET  = 17
	SOL_PACKET = 263

	PACKET_ADD_MEMBERSHIP  = 1 // a struct: see AddPacketMembership
	PACKET_DROP_MEMBERSHIP = 2
	PACKET_STATISTICS      = 6 // a struct: see PacketStatistics
	PACKET_IGNORE_OUTGOING = 23

	PACKET_MR_MULTICAST = 0
	PACKET_MR_PROMISC   = 1
	PACKET_MR_ALLMULTI  = 2
	PACKET_MR_UNICAST   = 3

	PACKET_HOST      = 0
	PACKET_BROADCAST = 1
	PACKET_MULTICAST = 2
	PACKET_OTHERHOST = 3
	PACKET_OUTGOING  = 4

	ETH_P_ALL   = 0x0003
	ETH_P_802_3 = 0x0001
	ETH_P_802_2 = 0x0004
	ETH_P_IP    = 0x0800
	ETH_P_ARP   = 0x0806
	ETH_P_8021Q = 0x8100
	ETH_P_IPV6  = 0x86dd

	ARPHRD_ETHER    = 1
	ARPHRD_LOOPBACK = 772
)

// packetOptions is what SetsockoptInt and GetsockoptInt know of SOL_PACKET.
var packetOptions = map[int]option{
	PACKET_IGNORE_OUTGOING: {(*FD).setIgnoreOutgoing, (*FD).ignoreOutgoing},
}

func init() {
	member := func(do func(*FD, PacketMreq) error) rawOption {
		return rawOption{set: func(f *FD, b []byte) error {
			m, err := packetMreq(b)
			if err != nil {
				return err
			}
			return do(f, m)
		}}
	}
	rawOptions[name{SOL_PACKET, PACKET_ADD_MEMBERSHIP}] = member((*FD).AddPacketMembership)
	rawOptions[name{SOL_PACKET, PACKET_DROP_MEMBERSHIP}] = member((*FD).DropPacketMembership)
	rawOptions[name{SOL_PACKET, PACKET_STATISTICS}] = rawOption{get: func(f *FD) ([]byte, error) {
		packets, drops, err := f.PacketStatistics()
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, packets), drops), err
	}}
}

// packetMreqLen is the size of struct packet_mreq: index, type, length of the
// address, and eight bytes of room for it.
const packetMreqLen = 16

func packetMreq(b []byte) (m PacketMreq, err error) {
	if len(b) < packetMreqLen || binary.NativeEndian.Uint16(b[6:]) > uint16(len(m.Addr)) {
		return m, syscall.EINVAL
	}
	m.Index, m.Type = int(int32(binary.NativeEndian.Uint32(b))), binary.NativeEndian.Uint16(b[4:])
	copy(m.Addr[:], b[8:8+binary.NativeEndian.Uint16(b[6:])])
	return m, nil
}

// Htons turns a number into network byte order, in which protocols of packet
// sockets are given, or back.
func Htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// PacketAddr is struct sockaddr_ll.
type PacketAddr struct {
	Protocol uint16  // the EtherType, in network byte order
	Index    int     // the interface's number; 0: any
	HwType   uint16  // ARPHRD_ETHER or ARPHRD_LOOPBACK; not read
	PktType  uint8   // PACKET_HOST and so on; not read
	Addr     [6]byte // of who sent a frame, or of who is to get it
}

// PacketMessage is what RecvPacket tells of a frame.
type PacketMessage struct {
	From PacketAddr
	// Size is how long it was before a filter shortened it.
	Size int
	// Segment is the payload of the frames that a super-frame stands for, 0
	// for an ordinary frame. CsumNotReady says that the checksum of its
	// transport header is not finished: the device would do that.
	Segment      int
	CsumNotReady bool
	// Time is when it arrived, or left.
	Time time.Time
}

// PacketMreq is struct packet_mreq.
type PacketMreq struct {
	Index int
	Type  uint16 // PACKET_MR_PROMISC and so on
	Addr  [6]byte
}

// newPacketFD is Socket for AF_PACKET.
func newPacketFD(s *stack.Stack, typ, proto int, nonblock bool) (*FD, error) {
	if typ != SOCK_RAW && typ != SOCK_DGRAM {
		if typ < 0 || typ > 10 {
			return nil, syscall.EINVAL
		}
		return nil, syscall.ESOCKTNOSUPPORT
	}
	p, err := s.NewPacket(typ == SOCK_DGRAM, Htons(uint16(proto)))
	if err != nil {
		return nil, err
	}
	f := newFD(s, AF_PACKET, typ, proto)
	f.packet = p
	f.async.Store(nonblock)
	return f, nil
}

// packetSocket returns the endpoint, or why a call for packet sockets cannot be.
func (f *FD) packetSocket() (*stack.PacketSocket, error) {
	switch {
	case f.closed.Load():
		return nil, net.ErrClosed
	case f.packet == nil:
		return nil, syscall.EAFNOSUPPORT
	}
	return f.packet, nil
}

// BindPacket is bind(2) of a packet socket: to the interface a.Index, 0 for all,
// and to frames of a.Protocol, where 0 changes nothing. It may be called again.
// Errors: ENODEV for an interface that does not exist, EAFNOSUPPORT for another
// kind of socket.
func (f *FD) BindPacket(a PacketAddr) error {
	p, err := f.packetSocket()
	if err != nil {
		return err
	}
	i := f.stack.InterfaceByIndex(a.Index)
	if i == nil && a.Index != 0 {
		return syscall.ENODEV
	}
	return ofStack(p.Bind(i, Htons(a.Protocol)))
}

// PacketName is getsockname(2) of a packet socket.
func (f *FD) PacketName() (PacketAddr, error) {
	p, err := f.packetSocket()
	if err != nil {
		return PacketAddr{}, err
	}
	i, t := p.Bound()
	a := PacketAddr{Protocol: Htons(t)}
	if i != nil {
		a.Index, a.HwType = i.Index(), hwType(i)
	}
	if a.HwType == ARPHRD_ETHER {
		a.Addr = i.MAC()
	}
	return a, nil
}

func hwType(i *stack.Interface) uint16 {
	if i.Index() == loopbackIndex {
		return ARPHRD_LOOPBACK
	}
	return ARPHRD_ETHER
}

// loopbackIndex is the loopback interface's number.
const loopbackIndex = 1

// RecvPacket is recvfrom(2) of a packet socket. What of a frame does not fit b
// is lost, but counted in n with MSG_TRUNC. Errors: EINVAL for flags other than
// MSG_PEEK, MSG_DONTWAIT and MSG_TRUNC; ENETDOWN, once, when the interface's
// device has failed.
func (f *FD) RecvPacket(b []byte, flags int) (n int, m PacketMessage, err error) {
	p, err := f.packetSocket()
	if err != nil {
		return 0, m, err
	}
	if flags&^(MSG_PEEK|MSG_DONTWAIT|MSG_TRUNC) != 0 {
		return 0, m, syscall.EINVAL
	}
	flags = f.asyncFlags(flags)
	ctx, end := f.read.limited(background, syscall.EAGAIN)
	defer end()
	for {
		if err := f.mayWait(ctx, &f.read); err != nil {
			return 0, m, err
		}
		n, size, info, err := p.Recv(b, flags&MSG_PEEK != 0)
		switch {
		case err == nil:
			if flags&MSG_TRUNC != 0 {
				n = size
			}
			return n, packetMessage(info), nil
		case err != syscall.EAGAIN || flags&MSG_DONTWAIT != 0:
			return 0, m, ofStack(err)
		}
		if err := f.wait(ctx, p, stack.ReadyIn, &f.read); err != nil {
			return 0, m, err
		}
	}
}

func packetMessage(i stack.FrameInfo) PacketMessage {
	return PacketMessage{
		From: PacketAddr{Protocol: Htons(uint16(i.Type)), Index: i.Interface.Index(), HwType: hwType(i.Interface),
			PktType: uint8(i.Kind), Addr: i.From},
		Size: i.Size, Segment: i.Segment, CsumNotReady: i.Partial, Time: i.Time,
	}
}

// SendPacket is sendto(2) of a packet socket: by the interface to.Index, on a
// SOCK_DGRAM socket with a header for to.Protocol and to.Addr. Send is the same
// by the interface that the socket is bound to, which a SOCK_DGRAM socket can
// only do on the loopback. Errors: ENXIO for an interface that does not exist,
// and for none; ENETDOWN; EMSGSIZE beyond the MTU; EINVAL for less than a header,
// or without an address to put into one. Flags have no effect, as on Linux.
func (f *FD) SendPacket(b []byte, flags int, to PacketAddr) (int, error) {
	if _, err := f.packetSocket(); err != nil {
		return 0, err
	}
	i := f.stack.InterfaceByIndex(to.Index)
	if i == nil {
		return 0, syscall.ENXIO
	}
	return f.sendPacket(b, i, Htons(to.Protocol), &to.Addr)
}

// sendPacket sends by an interface to an address, both nil for what the socket
// is bound to.
func (f *FD) sendPacket(b []byte, i *stack.Interface, proto uint16, dst *[6]byte) (int, error) {
	if err := f.mayWait(background, &f.write); err != nil {
		return 0, err
	}
	if i == nil {
		_, proto = f.packet.Bound()
	}
	if err := f.packet.Send(b, i, proto, dst); err != nil {
		return 0, ofStack(err)
	}
	return len(b), nil
}

// AddPacketMembership lets frames through that are not for this host
// (PACKET_ADD_MEMBERSHIP), until it is dropped as often or the socket is closed.
// ENODEV for an interface that does not exist.
func (f *FD) AddPacketMembership(m PacketMreq) error {
	p, i, err := f.member(&m)
	if err != nil {
		return err
	}
	return ofStack(p.AddMembership(i, stack.PacketMembership(m.Type), m.Addr))
}

// DropPacketMembership undoes one AddPacketMembership, if there was one
// (PACKET_DROP_MEMBERSHIP); if not it does nothing, as on Linux.
func (f *FD) DropPacketMembership(m PacketMreq) error {
	p, i, err := f.member(&m)
	if err == syscall.ENODEV {
		return nil
	}
	if err != nil {
		return err
	}
	return ofStack(p.DropMembership(i, stack.PacketMembership(m.Type), m.Addr))
}

// member checks a membership.
func (f *FD) member(m *PacketMreq) (*stack.PacketSocket, *stack.Interface, error) {
	p, err := f.packetSocket()
	if err != nil {
		return nil, nil, err
	}
	i := f.stack.InterfaceByIndex(m.Index)
	if i == nil {
		return nil, nil, syscall.ENODEV
	}
	if m.Type == PACKET_MR_PROMISC || m.Type == PACKET_MR_ALLMULTI {
		m.Addr = [6]byte{}
	}
	return p, i, nil
}

// PacketStatistics returns how many frames the filter let through since the last
// call, and how many of these were dropped for want of room (PACKET_STATISTICS).
func (f *FD) PacketStatistics() (packets, drops uint32, err error) {
	p, err := f.packetSocket()
	if err != nil {
		return 0, 0, err
	}
	st := p.Statistics()
	return st.Packets, st.Drops, nil
}

// PacketTime returns when the frame arrived or left that was read last
// (SIOCGSTAMPNS); ENOENT before the first.
func (f *FD) PacketTime() (time.Time, error) {
	p, err := f.packetSocket()
	if err != nil {
		return time.Time{}, err
	}
	t := p.LastTime()
	if t.IsZero() {
		return t, syscall.ENOENT
	}
	return t, nil
}

func (f *FD) setIgnoreOutgoing(v int) error {
	if v < 0 || v > 1 {
		return syscall.EINVAL
	}
	return ofStack(f.packet.SetIgnoreOutgoing(v == 1))
}

func (f *FD) ignoreOutgoing() (int, error) { return b2i(f.packet.IgnoreOutgoing()), nil }

// packetIoctl is Ioctl of a packet socket.
func (f *FD) packetIoctl(request int) (int, error) {
	switch request {
	case SIOCINQ:
		return f.packet.NextSize(), nil
	case SIOCOUTQ:
		return 0, nil // nothing waits here
	}
	return 0, syscall.ENOTTY
}

func (f *FD) setPacketRcvBuf(n int) {
	if n < 0 {
		n = math.MaxInt32
	}
	f.packet.SetReceiveBuffer(n)
}
