package stack

// This file owns what a packet socket makes of a frame that it is shown: whether
// it wants it, how much of it, and whether there is room; and what the end of a
// device or of the stack means for all such sockets.

import (
	"slices"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// see queues a frame if the socket wants it, and reports whether it did. It
// borrows frame, which starts at its Ethernet header. v is the copy that the
// sockets share, nil as long as there is none. Called with any lock held down to
// an interface's.
func (p *PacketSocket) see(frame *pkt.Buf, v **sight, info FrameInfo, now mono.Time) bool {
	drops := &p.stack.stats.Packet.Drop
	off := 0
	if p.cooked {
		off = ether.HeaderLen
	}
	info.Size = frame.Size() - off
	n := info.Size
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if p.filter != nil {
		b := frame.Bytes()
		if frame.Size() > len(b) && !shared(p.stack, frame, v, frame.Size()) {
			drops[DropMemory].inc()
			return false
		}
		if frame.Size() > len(b) {
			b = (*v).p.Bytes()
		}
		if n = min(n, p.filter(b[off:])); n <= 0 {
			return false
		}
	}
	p.stats.Packets++
	reason := DropNone
	switch {
	case p.bytes >= p.limit:
		reason = DropQueueFull
	case !shared(p.stack, frame, v, off+n):
		reason = DropMemory
	}
	if reason != DropNone {
		p.stats.Drops++
		drops[reason].inc()
		return false
	}
	(*v).refs.Add(1)
	if p.head > 64 && p.head > len(p.queue)/2 {
		k := copy(p.queue, p.queue[p.head:])
		clear(p.queue[k:])
		p.queue, p.head = p.queue[:k], 0
	}
	info.From = ether.Header(frame.Bytes()).Src()
	info.Partial = frame.Csum == pkt.CsumPartial
	if frame.GSO.Type != pkt.GSONone {
		info.Segment = int(frame.GSO.SegSize)
	}
	if frame.At != 0 && info.Kind != FrameOutgoing {
		now = frame.At
	}
	p.queue = append(p.queue, seen{*v, off, n, info, now})
	p.bytes += n + perDatagram
	p.stack.stats.Packet.Input.inc()
	return true
}

// shared sees to it that *v has at least the first n bytes of the frame; false
// when memory does not allow it.
func shared(s *Stack, frame *pkt.Buf, v **sight, n int) bool {
	if *v != nil && (*v).p.Len() >= n {
		return true
	}
	w := newSight(s, frame, n)
	if w == nil {
		return false
	}
	(*v).release(s)
	*v = w
	return true
}

// closePackets closes all packet sockets, with the stack.
func (s *Stack) closePackets() {
	s.mu.Lock()
	list := slices.Clone(s.packets)
	s.mu.Unlock()
	for _, p := range list {
		p.Close()
	}
}

// tellPackets makes ENETDOWN pending on the packet sockets of an interface that
// is set down or whose device has failed, as Linux does. Those on all interfaces go on.
func (i *Interface) tellPackets() {
	s := i.stack
	s.mu.Lock()
	list := slices.Clone(s.packets)
	s.mu.Unlock()
	for _, p := range list {
		p.mu.Lock()
		mine := p.iface == i
		if mine {
			p.err = syscall.ENETDOWN
		}
		p.mu.Unlock()
		if mine {
			p.waiters.Wake(ReadyErr | ReadyIn)
		}
	}
}
