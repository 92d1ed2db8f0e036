package gso

// This file is generic receive offload. Frames that a device has handed over
// together and that are consecutive segments of one TCP connection become one
// super-frame, as a device with segmentation offload would have delivered it:
// what routes, tables and locks cost is then paid once for them all. The rules
// are those of Linux (tcp_gro_receive, inet_gro_receive and ipv6_gro_receive),
// which let nothing be merged whose parts could not be told from the whole.

import (
	"bytes"
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
)

// maxOpen is how many connections' segments wait for their successors; Linux
// has eight for each of its buckets.
const maxOpen = 8

const (
	linkLen = 14 // Ethernet II
	flagACK = 0x10
	flagECE = 0x40
)

// Merger merges the frames of one queue. The zero Merger is ready. It keeps
// frames only until Flush, which its owner calls when the device has no more
// for the moment, so that nothing waits for what may never come.
type Merger struct {
	open [maxOpen]aggregate
	n    int
	// Merged counts the frames that became part of an aggregate, Aggregates
	// what was made of them.
	Merged, Aggregates uint64
}

// aggregate is one frame that others may join, or already have joined.
type aggregate struct {
	p    *pkt.Buf
	f    tcpFrame // p's headers
	next uint32   // the sequence number that continues it
	segs int
}

// tcpFrame is where things are in a TCP frame, counted from its beginning.
type tcpFrame struct {
	v4           bool
	l4, data     int // TCP header, payload
	end          int // of the IP packet; link-layer padding may follow
	addrs, ports int // where the addresses and, right behind them, the ports are
}

// kind is what a frame is to the Merger.
type kind uint8

const (
	foreign kind = iota // not TCP
	odd                 // TCP, or perhaps, but not as it is merged
	plain               // TCP in an unfragmented packet without options
)

// classify finds the headers of a frame.
func classify(b []byte) (f tcpFrame, k kind) {
	if len(b) < linkLen+20 {
		return f, foreign
	}
	ip := b[linkLen:]
	switch {
	case b[12] == 0x08 && b[13] == 0x00:
		if ip[9] != protoTCP {
			return f, foreign
		}
		// DF alone: neither a fragment nor what may become some on its way.
		if ip[0] != 0x45 || binary.BigEndian.Uint16(ip[6:]) != 0x4000 {
			return f, odd
		}
		f = tcpFrame{v4: true, l4: linkLen + 20, addrs: linkLen + 12, end: linkLen + int(binary.BigEndian.Uint16(ip[2:]))}
	case b[12] == 0x86 && b[13] == 0xdd && len(ip) >= 40:
		switch ip[6] {
		case protoTCP:
		case 0, 43, 44, 60: // extension headers (RFC 8200 §4)
			return f, odd
		default:
			return f, foreign
		}
		if ip[0]>>4 != 6 {
			return f, odd
		}
		f = tcpFrame{l4: linkLen + 40, addrs: linkLen + 8, end: linkLen + 40 + int(binary.BigEndian.Uint16(ip[4:]))}
	default:
		return f, foreign
	}
	f.ports = f.l4
	if f.end > len(b) || f.end < f.l4+20 {
		return f, odd
	}
	f.data = f.l4 + int(b[f.l4+12]>>4)*4
	if f.data < f.l4+20 || f.data > f.end {
		return f, odd
	}
	return f, plain
}

// Add takes p, a frame that starts at its Ethernet header, and gives out, which
// takes them, the frames that are done: p itself unless it is kept, and before
// it those that were kept and must not be overtaken by it.
func (m *Merger) Add(p *pkt.Buf, out func(*pkt.Buf)) {
	b := p.Bytes()
	f, k := classify(b)
	switch k {
	case foreign:
		out(p)
		return
	case odd:
		// Whose it is was not found out, so it overtakes nobody.
		m.Flush(out)
		out(p)
		return
	}
	i := m.find(b, &f)
	flags := b[f.l4+13]
	if flags&^(flagPSH|flagECE) != flagACK || f.data == f.end || p.Csum == pkt.CsumPartial || p.GSO.Type != pkt.GSONone {
		m.give(i, out)
		out(p)
		return
	}
	if !verify(p, &f) {
		out(p) // for the stack to drop; nobody will miss it in this place
		return
	}
	if i >= 0 && m.open[i].takes(b, &f) {
		m.Merged++
		a := &m.open[i]
		full := f.end-f.data == int(a.p.GSO.SegSize)
		a.join(p, &f)
		if a.segs == 2 {
			m.Merged++
			m.Aggregates++
		}
		// A shorter segment, or one that was pushed, is the last: nothing says
		// that more follows.
		if !full || flags&flagPSH != 0 {
			m.give(i, out)
		}
		return
	}
	m.give(i, out)
	if flags&flagPSH != 0 {
		out(p)
		return
	}
	if m.n == maxOpen {
		m.give(0, out) // the oldest
	}
	m.open[m.n] = aggregate{p: p, f: f, segs: 1, next: binary.BigEndian.Uint32(b[f.l4+4:]) + uint32(f.end-f.data)}
	p.GSO.SegSize = uint16(f.end - f.data)
	m.n++
}

// Flush gives out all that was kept.
func (m *Merger) Flush(out func(*pkt.Buf)) {
	for m.n > 0 {
		m.give(0, out)
	}
}

// find returns the aggregate of the frame's connection, -1 when there is none.
func (m *Merger) find(b []byte, f *tcpFrame) int {
	key := b[f.addrs : f.ports+4]
	for i := range m.n {
		a := &m.open[i]
		if g := &a.f; g.v4 == f.v4 && bytes.Equal(a.p.Bytes()[g.addrs:g.ports+4], key) {
			return i
		}
	}
	return -1
}

// give completes the ith aggregate and gives it out; none when i is -1.
func (m *Merger) give(i int, out func(*pkt.Buf)) {
	if i < 0 {
		return
	}
	a := m.open[i]
	copy(m.open[i:m.n], m.open[i+1:m.n])
	m.n--
	m.open[m.n] = aggregate{}
	a.complete()
	out(a.p)
}

// verify checks the checksums of a frame, and marks it as one whose transport
// checksum is right.
func verify(p *pkt.Buf, f *tcpFrame) bool {
	b := p.Bytes()
	if f.v4 && csum.Sum(b[linkLen:f.l4], 0) != 0xffff {
		return false
	}
	pseudo := csum.Sum(b[f.addrs:f.l4], protoTCP)
	if p.Csum == pkt.CsumNone && csum.Sum(b[f.l4:f.end], csum.Add(pseudo, uint16(f.end-f.l4))) != 0xffff {
		return false
	}
	p.Csum = pkt.CsumValid
	return true
}

// takes reports whether the frame continues the aggregate, and differs from it
// in nothing that would be lost.
func (a *aggregate) takes(b []byte, f *tcpFrame) bool {
	h, g := a.p.Bytes(), &a.f
	n := f.end - f.data
	if n > int(a.p.GSO.SegSize) || a.len()+n > 65535 || f.data != g.data {
		return false
	}
	if !bytes.Equal(h[:linkLen], b[:linkLen]) {
		return false
	}
	x, y := h[linkLen:], b[linkLen:]
	if f.v4 {
		// Version and header length are known; type of service with its ECN
		// bits; time to live and protocol.
		if x[1] != y[1] || x[8] != y[8] {
			return false
		}
	} else if !bytes.Equal(x[:4], y[:4]) || x[7] != y[7] {
		return false
	}
	t, u := h[g.l4:g.data], b[f.l4:f.data]
	return binary.BigEndian.Uint32(u[4:]) == a.next &&
		bytes.Equal(t[8:13], u[8:13]) && // acknowledgement, data offset
		(t[13]^u[13])&^flagPSH == 0 &&
		bytes.Equal(t[14:16], u[14:16]) && // window
		bytes.Equal(t[18:], u[18:]) // urgent pointer; options, timestamps among them
}

// len is the length of the IP packet that the aggregate is by now.
func (a *aggregate) len() int {
	if a.segs == 1 {
		return a.f.end - linkLen
	}
	return a.p.Len() - linkLen
}

// join takes p, which continues the aggregate.
func (a *aggregate) join(p *pkt.Buf, f *tcpFrame) {
	if a.segs == 1 {
		// Only now does it take a large buffer.
		q := pkt.Get(pkt.MaxFrame)
		b := a.p.Bytes()[:a.f.end]
		copy(q.Append(len(b)), b)
		q.GSO, q.Csum, q.At, q.Group = a.p.GSO, a.p.Csum, a.p.At, a.p.Group
		a.p.Put()
		a.p = q
	}
	b := p.Bytes()[f.data:f.end]
	copy(a.p.Append(len(b)), b)
	a.p.Bytes()[a.f.l4+13] |= p.Bytes()[f.l4+13] & flagPSH
	a.next += uint32(len(b))
	a.segs++
	p.Put()
}

// complete makes the aggregate one packet, whose metadata say what it was.
func (a *aggregate) complete() {
	if a.segs == 1 {
		a.p.GSO.SegSize = 0
		return
	}
	b := a.p.Bytes()[linkLen:]
	if a.f.v4 {
		a.p.GSO.Type = pkt.GSOTCPv4
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], csum.Checksum(b[:20], 0))
	} else {
		a.p.GSO.Type = pkt.GSOTCPv6
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
}
