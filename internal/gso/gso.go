// Package gso cuts a super-frame into the frames that go on the wire, for
// devices that do not (RFC 9293 §3.7, generic segmentation offload). It knows
// just enough of IP, TCP and UDP to give each piece its own headers.
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

// Complete finishes the checksum of a frame that is CsumPartial. Frames whose
// headers are not understood are left alone, and false returned.
func Complete(p *pkt.Buf) bool {
	if p.Csum != pkt.CsumPartial {
		return true
	}
	b := p.Network()
	start, field := int(p.GSO.CsumStart), int(p.GSO.CsumStart)+int(p.GSO.CsumOffset)
	if start >= len(b) || field+2 > len(b) {
		return false
	}
	sum := ^csum.Sum(b[start:], 0) // the field holds the pseudo-header's sum
	if sum == 0 && p.GSO.CsumOffset == 6 {
		sum = 0xffff // UDP: zero would say "none" (RFC 768)
	}
	binary.BigEndian.PutUint16(b[field:], sum)
	p.Csum = pkt.CsumNone
	return true
}

// Segment takes p, a frame that starts at its Ethernet header with the network
// header marked, and gives emit, which takes them, frames of at most
// p.GSO.SegSize bytes of payload with finished checksums. A frame that needs
// no cutting is completed and passed on; one whose headers are not understood
// is dropped, and false returned.
func Segment(p *pkt.Buf, emit func(*pkt.Buf)) bool {
	if p.GSO.Type == pkt.GSONone || p.GSO.SegSize == 0 {
		ok := Complete(p)
		if !ok {
			p.Put()
			return false
		}
		emit(p)
		return true
	}
	b := p.Network()
	l, ok := inspect(b)
	if !ok {
		p.Put()
		return false
	}
	link := p.Bytes()[:p.Len()-len(b)]
	payload, size := b[l.hdr:], int(p.GSO.SegSize)
	for at, n := 0, 0; at < len(payload) || n == 0; at, n = at+size, n+1 {
		part := payload[at:min(at+size, len(payload))]
		q := pkt.Get(len(link) + l.hdr + len(part))
		copy(q.Append(len(link)), link)
		q.Pull(len(link))
		q.MarkNetwork()
		copy(q.Append(l.hdr), b[:l.hdr])
		copy(q.Append(len(part)), part)
		l.fix(q.Network(), at, n, at+size >= len(payload))
		q.Push(len(link))
		q.At, q.Group = p.At, p.Group
		emit(q)
	}
	p.Put()
	return true
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
