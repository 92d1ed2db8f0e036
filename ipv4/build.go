package ipv4

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/internal/csum"
)

// This file owns the writing of headers, the counterpart of Parse.

// Fields is what a header is built from.
type Fields struct {
	TOS      uint8
	ID       uint16
	DF, MF   bool
	Offset   int // bytes, a multiple of 8
	TTL      uint8
	Protocol uint8
	Src, Dst netip.Addr // both IPv4
	Options  []byte     // at most 40 bytes; padded here to whole words
	// PayloadLen counts the bytes behind the header; with the header they
	// come to at most MaxLen.
	PayloadLen int
}

// HeaderLen returns the length of the header in bytes, options padded.
func (f *Fields) HeaderLen() int { return HeaderLen + (len(f.Options)+3)&^3 }

// Put writes the header with its checksum into b, which has HeaderLen bytes.
func (f *Fields) Put(b []byte) {
	n := f.HeaderLen()
	b = b[:n]
	b[0] = 4<<4 | uint8(n/4)
	b[1] = f.TOS
	binary.BigEndian.PutUint16(b[2:], uint16(n+f.PayloadLen))
	binary.BigEndian.PutUint16(b[4:], f.ID)
	frag := uint16(f.Offset / 8)
	if f.DF {
		frag |= flagDF
	}
	if f.MF {
		frag |= flagMF
	}
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = f.TTL, f.Protocol
	src, dst := f.Src.As4(), f.Dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	// RFC 791 §3.1: the padding is zero, which reads as end of options.
	clear(b[HeaderLen+copy(b[HeaderLen:], f.Options):])
	putChecksum(b)
}

// putChecksum computes the checksum of the header h.
func putChecksum(h []byte) {
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], csum.Checksum(h, 0))
}
