package stack

// This file owns how packet sockets get to see frames. Those that want any are
// in an immutable list behind an atomic pointer, which is nil as long as there
// are none: then a frame that arrives, and a batch that leaves, costs one load.
// A frame is copied once, however many sockets keep it. What they see is what
// Linux shows: aggregates and super-frames whole, but cut where the stack cuts
// them for the device; checksums as unfinished as they are handed over.

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// FrameKind says where a frame was going, with the numbers of packet(7).
type FrameKind uint8

// The kinds.
const (
	FrameHost      FrameKind = iota // to us
	FrameBroadcast                  // to all
	FrameMulticast                  // to a group
	FrameOther                      // to another station
	FrameOutgoing                   // from us
)

// The types that a packet socket may be bound to beside EtherTypes, with
// Linux's numbers.
const (
	EtherAll   ether.Type = 0x0003 // every frame, also those that leave
	Ether802_3 ether.Type = 0x0001 // a length instead of a type, Novell's raw form
	Ether802_2 ether.Type = 0x0004 // a length instead of a type, LLC follows
)

// tap is a packet socket as the data path sees it.
type tap struct {
	sock  *PacketSocket
	proto ether.Type
	iface *Interface // nil: all
	quiet bool       // frames that leave are not wanted
}

// taps are those that want frames. Immutable.
type taps struct {
	list  []tap
	modes map[*Interface]*rxMode
}

// rxMode is what sockets want to see of an interface beyond what is for us.
type rxMode struct {
	promisc, groups bool
	addrs           []ether.Addr
}

// accepts reports whether a frame to dst, which is not for this host, is
// wanted.
func (m *rxMode) accepts(dst ether.Addr) bool {
	return m != nil && (m.promisc || m.groups && dst.IsGroup() || slices.Contains(m.addrs, dst))
}

// sight is the copy of a frame that all sockets share who keep it.
type sight struct {
	p    *pkt.Buf
	refs atomic.Int32
}

var sightPool = sync.Pool{New: func() any { return new(sight) }}

// newSight copies the first n bytes of a frame; nil when there is no memory
// left for it. The caller holds one reference.
func newSight(s *Stack, frame *pkt.Buf, n int) *sight {
	if !s.memory.Take(pkt.Memory(n)) {
		return nil
	}
	v := sightPool.Get().(*sight)
	v.p = pkt.Get(n)
	x, y := frame.Borrowed()
	for _, b := range [3][]byte{frame.Bytes(), x, y} {
		k := min(len(b), n)
		copy(v.p.Append(k), b)
		n -= k
	}
	v.refs.Store(1)
	return v
}

// release gives a reference back.
func (v *sight) release(s *Stack) {
	if v == nil || v.refs.Add(-1) > 0 {
		return
	}
	s.memory.Return(v.p.Memory())
	v.p.Put()
	v.p = nil
	sightPool.Put(v)
}

// frameType is what a frame that has arrived carries: its EtherType, or for one
// with a length in its place Linux's number for what that means.
func frameType(frame []byte) ether.Type {
	t := ether.Header(frame[:ether.HeaderLen]).Type()
	switch {
	case t >= ether.MinType:
		return t
	case len(frame) >= ether.HeaderLen+2 && binary.BigEndian.Uint16(frame[ether.HeaderLen:]) == 0xffff:
		return Ether802_3
	}
	return Ether802_2
}

// arrived shows a frame to those who want it; the caller holds no lock. Like a
// network card, and unlike Linux's virtual ones, an interface passes on what is
// for other stations, or for groups that nobody joined, only when a socket has
// asked for it.
func (t *taps) arrived(i *Interface, now mono.Time, p *pkt.Buf) {
	dst := ether.Header(p.Bytes()).Dst()
	kind := FrameHost
	switch {
	case i.loopback || i.ptp || dst == i.mac:
	case dst == ether.Broadcast:
		kind = FrameBroadcast
	case dst.IsGroup():
		kind = FrameMulticast
		if !i.wantsGroup(dst) && !t.modes[i].accepts(dst) {
			return
		}
	default:
		kind = FrameOther
		if !t.modes[i].accepts(dst) {
			return
		}
	}
	var v *sight
	typ := frameType(p.Bytes())
	for k := range t.list {
		x := &t.list[k]
		if x.iface != nil && x.iface != i || x.proto != typ && x.proto != EtherAll {
			continue
		}
		if x.sock.see(p, &v, FrameInfo{Interface: i, Kind: kind, Type: typ}, now) {
			x.sock.waiters.Wake(ReadyIn)
		}
	}
	v.release(i.stack)
}

// leaving shows frames that are about to leave to those who want it, except the
// one that sends them. The caller may hold any lock down to the interface's,
// so who waits is woken by a timer.
func (t *taps) leaving(i *Interface, from *PacketSocket, frames ...*pkt.Buf) {
	now, wake := i.stack.clock.Now(), false
	for _, p := range frames {
		if p.Len() < ether.HeaderLen {
			continue
		}
		var v *sight
		typ := ether.Header(p.Bytes()).Type()
		for k := range t.list {
			x := &t.list[k]
			if x.iface != nil && x.iface != i || x.proto != EtherAll || x.quiet || x.sock == from {
				continue
			}
			if x.sock.see(p, &v, FrameInfo{Interface: i, Kind: FrameOutgoing, Type: typ}, now) {
				wake = wake || x.sock.waiters.n.Load() > 0
			}
		}
		v.release(i.stack)
	}
	if wake {
		i.stack.timers.Arm(&i.stack.tapWake, now)
	}
}

// wakeTaps wakes those who wait for frames that left.
func (s *Stack) wakeTaps(mono.Time) {
	t := s.taps.Load()
	if t == nil {
		return
	}
	for k := range t.list {
		if x := t.list[k].sock; x.Ready()&ReadyIn != 0 {
			x.waiters.Wake(ReadyIn)
		}
	}
}

// tapLoop shows a packet on the loopback interface, which has no link layer:
// the header is all zeros, as Linux's is. It borrows p, which starts at its
// network header.
func (s *Stack) tapLoop(t *taps, now mono.Time, p *pkt.Buf, out bool, from *PacketSocket) {
	typ := ether.TypeIPv6
	if p.Bytes()[0]>>4 == 4 {
		typ = ether.TypeIPv4
	}
	ether.Put(p.Push(ether.HeaderLen), ether.Addr{}, ether.Addr{}, typ)
	if out {
		t.leaving(s.lo, from, p)
	} else {
		t.arrived(s.lo, now, p)
	}
	p.Pull(ether.HeaderLen)
}

// retapLocked makes the list again, after a packet socket has changed. Stack.mu
// is held.
func (s *Stack) retapLocked() {
	t := &taps{modes: make(map[*Interface]*rxMode)}
	for _, x := range s.packets {
		x.mu.Lock()
		if x.proto != 0 {
			t.list = append(t.list, tap{x, x.proto, x.iface, x.quiet})
		}
		for _, m := range x.members {
			r := t.modes[m.iface]
			if r == nil {
				r = new(rxMode)
				t.modes[m.iface] = r
			}
			switch m.kind {
			case MemberPromisc:
				r.promisc = true
			case MemberAllMulticast:
				r.groups = true
			default:
				r.addrs = append(r.addrs, m.addr)
			}
		}
		x.mu.Unlock()
	}
	if len(t.list) == 0 {
		t = nil
	}
	s.taps.Store(t)
}
