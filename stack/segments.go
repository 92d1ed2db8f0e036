package stack

// This file owns datagrams that travel together, as Linux's UDP_SEGMENT and
// UDP_GRO have it: one call sends many of one size to one peer, and one call
// receives what came so. Below, they are one packet: cut by the device, by the
// kernel behind it, or by the stack just above it. Their boundaries are kept,
// and each is a datagram of its own for everyone who did not ask.

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/udp"
)

// MaxSegments is the most datagrams that one call sends: Linux's
// UDP_MAX_SEGMENTS since 6.9.
const MaxSegments = 128

// maxTogether is the most datagrams that waited one by one and are received at
// once: Linux's UDP_GRO_CNT_MAX.
const maxTogether = 64

// SetSegmentSize makes SendTo send datagrams of n bytes of payload, the last
// perhaps shorter (UDP_SEGMENT); 0 sends one again. EINVAL for a size that no
// datagram has.
func (d *Datagram) SetSegmentSize(n int) error {
	if n < 0 || n > 65535 {
		return syscall.EINVAL
	}
	d.mu.Lock()
	d.segSize = n
	d.mu.Unlock()
	return nil
}

// SegmentSize returns what SetSegmentSize has set.
func (d *Datagram) SegmentSize() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.segSize
}

// ReceiveSegments returns what SetReceiveSegments has set.
func (d *Datagram) ReceiveSegments() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.together
}

// SetReceiveSegments lets RecvFrom and RecvSegments return several datagrams of
// one peer and size at once (UDP_GRO).
func (d *Datagram) SetReceiveSegments(on bool) {
	d.mu.Lock()
	d.together = on
	d.mu.Unlock()
}

// SendSegments is SendTo in datagrams of size bytes, of which the last may be
// shorter, and at most MaxSegments. Errors beside those of SendTo: EINVAL for a
// size of less than 1 and for too many; EMSGSIZE when one would not fit the
// path's MTU, for they are never fragmented, and when all together would not
// be a datagram's payload.
func (d *Datagram) SendSegments(b []byte, size int, to netip.AddrPort) error {
	if size <= 0 || size > 65535 {
		return syscall.EINVAL
	}
	m := NewSendInfo()
	m.Segment = size
	return d.SendMsg(b, to, &m)
}

// checkSegments says whether n bytes can be sent in datagrams of size bytes.
func checkSegments(r *route, n, size int) error {
	switch {
	case r.headerLen()+udp.HeaderLen+min(n, size) > r.mtu:
		return syscall.EMSGSIZE
	case n > size*MaxSegments:
		return syscall.EINVAL
	}
	return nil
}

// newSegments is the packet, from its UDP header on, for more than one
// datagram. Where it can it borrows b.
func newSegments(r *route, sport, dport uint16, b []byte, size int) *pkt.Buf {
	i := r.iface
	var p *pkt.Buf
	var h []byte
	n := udp.HeaderLen + len(b)
	if !i.loopback && (i.cutUDP || i.caps.Gather && i.caps.TxCsum) {
		p = pkt.Get(udp.HeaderLen)
		h = p.Append(udp.HeaderLen)
		p.Borrow(b, nil)
	} else {
		p = pkt.Get(n)
		h = p.Append(n)
		copy(h[udp.HeaderLen:], b)
	}
	udp.Put(h, sport, dport, len(b))
	p.GSO = pkt.GSO{Type: pkt.GSOUDP, SegSize: uint16(size), HdrLen: uint16(r.headerLen() + udp.HeaderLen),
		CsumStart: uint16(r.headerLen()), CsumOffset: udp.ChecksumOffset}
	if !i.cutUDP {
		// The device completes for each what the pseudo-header begins.
		p.Csum = pkt.CsumPartial
		udp.SetPartial(h, csum.Pseudo(r.src, r.dst, ipv4.ProtoUDP, n))
	}
	return p
}

// segmentSize is the size of the datagrams in a received packet with n bytes of
// payload, 0 when it is one.
func segmentSize(p *pkt.Buf, n int) int {
	if size := int(p.GSO.SegSize); p.GSO.Type == pkt.GSOUDP && n > size {
		return size
	}
	return 0
}

// datagrams is how many n bytes are.
func datagrams(n, size int) int {
	switch {
	case size == 0:
		return 1
	case n == 0:
		return 0
	}
	return (n + size - 1) / size
}

// fitting cuts off the datagrams for which room is too small, and says how
// many that are.
func fitting(payload []byte, size, room int) (fits []byte, lost int) {
	all := datagrams(len(payload), size)
	if keep := max(room, 0) / (size + perDatagram); keep < all {
		rest := payload[min(keep*size, len(payload)):]
		// The last one may be so short that it fits after all.
		if keep < all-1 || keep*(size+perDatagram)+len(rest)+perDatagram > room {
			return payload[:keep*size], all - keep
		}
	}
	return payload, 0
}

// popLocked takes the oldest entry out of the queue; its buffer is the caller's.
func (d *Datagram) popLocked() {
	m := &d.queue[d.head]
	d.bytes -= m.p.Len() + len(m.opts) + perDatagram*datagrams(m.p.Len(), m.size)
	d.stack.memory.Return(m.p.Memory() + len(m.opts))
	*m = received{}
	if d.head++; d.head == len(d.queue) {
		d.queue, d.head = d.queue[:0], 0
	}
}

// takeOneLocked takes one datagram of the several that the oldest entry is.
func (d *Datagram) takeOneLocked(b []byte) (n, size int) {
	m := &d.queue[d.head]
	p := m.p
	size = min(m.size, p.Len())
	n = copy(b, p.Bytes()[:size])
	if size == p.Len() {
		d.popLocked()
		p.Put()
		return n, size
	}
	p.Pull(size)
	d.bytes -= size + perDatagram
	return n, size
}

// joinLocked appends to a datagram of n bytes in b those behind it in the queue
// that are of the same peer and as long, the last perhaps shorter.
func (d *Datagram) joinLocked(b []byte, n int, first *received) (all, seg int) {
	all = n
	for range maxTogether - 1 {
		if d.head == len(d.queue) {
			break
		}
		m := d.queue[d.head]
		k := m.p.Len()
		if m.size > 0 || k == 0 || k > n || all+k > len(b) || m.from != first.from || m.to != first.to ||
			m.in != first.in || m.hops != first.hops || m.tos != first.tos {
			break
		}
		all += copy(b[all:], m.p.Bytes())
		seg = n
		d.popLocked()
		m.p.Put()
		if k < n {
			break
		}
	}
	return all, seg
}
