// Package gso does for devices without segmentation offload what others do
// themselves: it cuts a super-frame into the frames that go on the wire (Cut),
// and merges the frames of one TCP flow that arrive together into one (Merger).
// It knows just enough of IP, TCP and UDP to give each piece its own headers.
package gso

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
)

const (
	protoTCP = 6
	protoUDP = 17

	flagFIN = 0x01
	flagPSH = 0x08
	flagCWR = 0x80
)

// layout is where things are in a frame, counted from its network header.
type layout struct {
	v4      bool
	l4, hdr int // transport header, payload
	csum    int // checksum field, from the transport header
}

// inspect finds the headers of an IP packet without options beyond IPv4's and
// without IPv6 extension headers, which is what a stack sends; ok is false for
// anything else.
func inspect(b []byte) (l layout, ok bool) {
	proto := byte(0)
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		l.v4, l.l4, proto = true, int(b[0]&15)*4, b[9]
	case len(b) >= 40 && b[0]>>4 == 6:
		l.l4, proto = 40, b[6]
	default:
		return l, false
	}
	switch {
	case proto == protoTCP && len(b) >= l.l4+20:
		l.hdr, l.csum = l.l4+int(b[l.l4+12]>>4)*4, 16
		ok = l.hdr >= l.l4+20
	case proto == protoUDP && len(b) >= l.l4+8:
		l.hdr, l.csum, ok = l.l4+8, 6, true
	}
	return l, ok && len(b) >= l.hdr && l.l4 >= 20
}

// Cut makes of p, a super-frame that starts at its Ethernet header with the
// network header marked, frames of at most p.GSO.SegSize bytes of payload with
// headers of their own and finished checksums, and gives them to emit, which
// takes them, in order. It borrows p, and copies each byte of payload once,
// those that p has borrowed from where they are. Headers that are not
// understood make nothing, and false is returned.
func Cut(p *pkt.Buf, emit func(*pkt.Buf)) bool {
	b, size := p.Network(), int(p.GSO.SegSize)
	l, ok := inspect(b)
	if !ok || size == 0 {
		return false
	}
	link := p.Len() - len(b)
	head := p.Bytes()[:link+l.hdr]
	src := source{b[l.hdr:]}
	src[1], src[2] = p.Borrowed()
	left := src.len()
	for at, n := 0, 0; left > 0 || n == 0; at, n = at+size, n+1 {
		part := min(size, left)
		left -= part
		q := pkt.Get(len(head) + part)
		copy(q.Append(len(head)), head)
		src.read(q.Append(part))
		q.Pull(link)
		q.MarkNetwork()
		l.fix(q.Network(), at, n, left == 0)
		q.Push(link)
		q.At, q.Group = p.At, p.Group
		emit(q)
	}
	return true
}

// source is what is left of a payload that lies in up to three pieces.
type source [3][]byte

func (s *source) len() int { return len(s[0]) + len(s[1]) + len(s[2]) }

// read fills b, for which there is enough.
func (s *source) read(b []byte) {
	for i := range s {
		n := copy(b, s[i])
		b, s[i] = b[n:], s[i][n:]
	}
}

// fix gives the nth piece, whose payload began at byte at, headers of its own.
func (l *layout) fix(b []byte, at, n int, last bool) {
	var pseudo uint16
	if l.v4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+uint16(n))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], csum.Checksum(b[:l.l4], 0))
		pseudo = csum.Sum(b[12:20], uint16(b[9]))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		pseudo = csum.Sum(b[8:40], uint16(b[6]))
	}
	t := b[l.l4:]
	pseudo = csum.Add(pseudo, uint16(len(t)))
	if l.csum == 16 {
		binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(at))
		if n > 0 {
			t[13] &^= flagCWR // RFC 3168 §6.1.2: on the first segment only
		}
		if !last {
			t[13] &^= flagFIN | flagPSH
		}
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	t[l.csum], t[l.csum+1] = 0, 0
	sum := csum.Checksum(t, pseudo)
	if sum == 0 && l.csum == 6 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(t[l.csum:], sum)
}
