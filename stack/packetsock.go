package stack

// This file owns packet sockets (packet(7)): a program's view of the frames of
// an interface, those that arrive and those that leave, and a way to send
// frames of its own. How frames get here is in tap.go and packetqueue.go, how they leave in
// packetsend.go.

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
)

// PacketSocket receives and sends whole frames, or, cooked, packets without
// their link-layer header. No method blocks.
type PacketSocket struct {
	stack  *Stack
	cooked bool

	mu      sync.Mutex // guards everything below; comes after Interface.mu
	proto   ether.Type // 0: nothing is received
	iface   *Interface // nil: all
	quiet   bool
	members []member
	filter  Filter
	queue   []seen
	head    int
	bytes   int
	limit   int // no frame is queued once bytes are as many
	stats   PacketStatistics
	last    mono.Time // when the frame arrived that was read last
	err     syscall.Errno
	closed  bool

	waiters WaitQueue
}

// seen is a frame in a receive queue: n bytes of what is shared, from off on.
type seen struct {
	v      *sight
	off, n int
	info   FrameInfo
	at     mono.Time
}

// FrameInfo is what is known of a received frame beside its bytes.
type FrameInfo struct {
	Interface *Interface
	Kind      FrameKind
	// Type is the EtherType. For a frame with a length in its place it is that
	// length, if the frame leaves, else Ether802_3 or Ether802_2.
	Type ether.Type
	// From is the link-layer source.
	From ether.Addr
	// Size is how long it was before a filter shortened it.
	Size int
	// Segment is the payload of the frames that a super-frame stands for, 0
	// for an ordinary frame; Partial says that the transport checksum is not
	// finished, because the frame has yet to leave or never did.
	Segment int
	Partial bool
	// Time is when the frame arrived or left.
	Time time.Time
}

// PacketStatistics is what a packet socket counts (PACKET_STATISTICS): frames
// that passed the filter, and those of them for which there was no room.
type PacketStatistics struct{ Packets, Drops uint32 }

// PacketMembership is what AddMembership asks for, with the numbers of packet(7).
type PacketMembership uint16

// The memberships.
const (
	MemberMulticast    PacketMembership = iota // one group
	MemberPromisc                              // every frame on the segment
	MemberAllMulticast                         // every group
	MemberUnicast                              // another station's address
)

type member struct {
	iface *Interface
	kind  PacketMembership
	addr  ether.Addr
}

// NewPacket makes a packet socket for frames of one type on all interfaces,
// EtherAll for any type; a socket with type 0 receives nothing before Bind.
// cooked leaves the link-layer header out.
func (s *Stack) NewPacket(cooked bool, proto uint16) (*PacketSocket, error) {
	p := &PacketSocket{stack: s, cooked: cooked, proto: ether.Type(proto), limit: s.limits.DatagramReceive}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	s.packets = append(s.packets, p)
	s.retapLocked()
	return p, nil
}

// change alters the socket and tells the data path.
func (p *PacketSocket) change(f func() error) error {
	s := p.stack
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mu.Lock()
	err := error(syscall.EBADF)
	if !p.closed {
		err = f()
	}
	p.mu.Unlock()
	if err == nil {
		s.retapLocked()
	}
	return err
}

// Bind narrows the socket to an interface, nil for all, and a type, 0 for the
// one it has. It may be called again; frames that wait are left. Errors: ENETDOWN
// is pending after binding to an interface that is set down or whose device has failed.
func (p *PacketSocket) Bind(i *Interface, proto uint16) error {
	err := p.change(func() error {
		p.iface = i
		if proto != 0 {
			p.proto = ether.Type(proto)
		}
		if i != nil && i.isDead() {
			p.err = syscall.ENETDOWN
		}
		return nil
	})
	if err == nil && i != nil && i.isDead() {
		p.waiters.Wake(ReadyErr)
	}
	return err
}

// Bound returns what Bind or NewPacket set.
func (p *PacketSocket) Bound() (*Interface, uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.iface, uint16(p.proto)
}

// SetIgnoreOutgoing keeps frames that leave from the socket
// (PACKET_IGNORE_OUTGOING).
func (p *PacketSocket) SetIgnoreOutgoing(on bool) error {
	return p.change(func() error { p.quiet = on; return nil })
}

// IgnoreOutgoing returns what SetIgnoreOutgoing set.
func (p *PacketSocket) IgnoreOutgoing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quiet
}

// AddMembership makes an interface pass on, to all packet sockets, frames that
// are not for this host (PACKET_ADD_MEMBERSHIP), until the socket drops it as
// often or is closed. addr is for MemberMulticast and MemberUnicast. A kind that
// does not exist does nothing, as on Linux.
func (p *PacketSocket) AddMembership(i *Interface, kind PacketMembership, addr ether.Addr) error {
	if kind > MemberUnicast {
		return nil
	}
	return p.change(func() error {
		if len(p.members) >= maxMembers {
			return syscall.ENOBUFS
		}
		p.members = append(p.members, member{i, kind, addr})
		return nil
	})
}

// maxMembers bounds the memberships of a socket.
const maxMembers = 1024

// DropMembership undoes one AddMembership; without one it does nothing, as on
// Linux.
func (p *PacketSocket) DropMembership(i *Interface, kind PacketMembership, addr ether.Addr) error {
	return p.change(func() error {
		if n := slices.Index(p.members, member{i, kind, addr}); n >= 0 {
			p.members = slices.Delete(p.members, n, n+1)
		}
		return nil
	})
}

// SetFilter lets f decide what is received, and how much of it; nil is all.
func (p *PacketSocket) SetFilter(f Filter) {
	p.mu.Lock()
	p.filter = f
	p.mu.Unlock()
}

// SetReceiveBuffer sets how many bytes of frames may wait, as that of Datagram.
func (p *PacketSocket) SetReceiveBuffer(n int) {
	p.mu.Lock()
	p.limit = min(max(n, 1152), p.stack.limits.DatagramReceive)
	p.mu.Unlock()
}

// ReceiveBuffer returns how many bytes of frames may wait.
func (p *PacketSocket) ReceiveBuffer() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// Statistics returns what was counted since the last call.
func (p *PacketSocket) Statistics() PacketStatistics {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.stats
	p.stats = PacketStatistics{}
	return st
}

// Recv takes the oldest frame, or with peek looks at it: n bytes of it fit into
// b, of size in all. A pending error comes before it. EAGAIN when there is none.
func (p *PacketSocket) Recv(b []byte, peek bool) (n, size int, info FrameInfo, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.err; e != 0 {
		p.err = 0
		return 0, 0, info, e
	}
	if p.head == len(p.queue) {
		if p.closed {
			return 0, 0, info, syscall.EBADF
		}
		return 0, 0, info, syscall.EAGAIN
	}
	m := &p.queue[p.head]
	n, size, info = copy(b, m.v.p.Bytes()[m.off:m.off+m.n]), m.n, m.info
	info.Time = p.stack.wall(m.at)
	p.last = m.at
	if !peek {
		p.popLocked()
	}
	return n, size, info, nil
}

func (p *PacketSocket) popLocked() {
	m := &p.queue[p.head]
	p.bytes -= m.n + perDatagram
	m.v.release(p.stack)
	*m = seen{}
	if p.head++; p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	}
}

// LastTime returns when the frame arrived or left that was read last, the zero
// Time if none was (SIOCGSTAMP).
func (p *PacketSocket) LastTime() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		return time.Time{}
	}
	return p.stack.wall(p.last)
}

// NextSize returns the size of the oldest frame, 0 without one.
func (p *PacketSocket) NextSize() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.head == len(p.queue) {
		return 0
	}
	return p.queue[p.head].n
}

// TakeError returns and clears the pending error (SO_ERROR).
func (p *PacketSocket) TakeError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.err; e != 0 {
		p.err = 0
		return e
	}
	return nil
}

// PutError makes an error pending again that a call has returned.
func (p *PacketSocket) PutError(e syscall.Errno) {
	p.mu.Lock()
	p.err = e
	p.mu.Unlock()
	p.waiters.Wake(ReadyErr)
}

// Ready returns what could be done without waiting; sending always can.
func (p *PacketSocket) Ready() Ready {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := ReadyOut
	if p.head < len(p.queue) {
		r |= ReadyIn
	}
	if p.err != 0 {
		r |= ReadyErr
	}
	if p.closed {
		r |= ReadyHup | ReadyIn
	}
	return r
}

// Waiters is where to wait for frames.
func (p *PacketSocket) Waiters() *WaitQueue { return &p.waiters }

// Close drops what was not read, and the socket's memberships.
func (p *PacketSocket) Close() {
	s := p.stack
	s.mu.Lock()
	s.packets = slices.DeleteFunc(s.packets, func(o *PacketSocket) bool { return o == p })
	s.retapLocked()
	s.mu.Unlock()
	p.mu.Lock()
	p.closed = true
	for p.head < len(p.queue) {
		p.popLocked()
	}
	p.queue = nil
	p.mu.Unlock()
	p.waiters.Wake(ReadyIn | ReadyOut | ReadyHup)
}
