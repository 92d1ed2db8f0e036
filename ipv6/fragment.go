package ipv6

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/pkt"
)

// This file owns the cutting of a packet into fragments and the two repairs a
// header needs after reassembly (RFC 8200 §4.5). The reassembly itself is in
// internal/frag, which both IP versions share.

// fragHeaderLen is the length of a fragment header in bytes.
const fragHeaderLen = 8

// Fragment takes p, a whole packet, and gives emit, which takes them, packets
// of at most mtu bytes that carry it; a packet that fits is passed on as it is.
// mtu below MinMTU counts as MinMTU. Hop limit, traffic class and flow label
// are the same in all fragments. Hop-by-hop and routing headers at the front of
// p are repeated in each fragment; everything behind them is cut. The upper
// layer's checksum is already complete. DropHeaderLimit: the repeated headers
// leave no room for data, nothing was sent.
//
//	fixed | per-fragment headers | fragmentable part .................. |
//	fixed | per-fragment headers | fragment header | 1st 8n bytes |
//	fixed | per-fragment headers | fragment header | 2nd 8n bytes |  ...
func Fragment(p *pkt.Buf, id uint32, mtu int, emit func(*pkt.Buf)) Drop {
	mtu = max(mtu, MinMTU)
	if p.Len() <= mtu {
		emit(p)
		return DropNone
	}
	defer p.Put()
	b := p.Bytes()
	front, next, nextAt := perFragment(b)
	step := (mtu - front - fragHeaderLen) &^ 7
	if step <= 0 {
		return DropHeaderLimit
	}
	data := b[front:]
	for at := 0; at < len(data); at += step {
		part := data[at:min(at+step, len(data))]
		f := pkt.Get(front + fragHeaderLen + len(part))
		copy(f.Append(front), b)
		putFragHeader(f.Append(fragHeaderLen), next, at, at+len(part) < len(data), id)
		copy(f.Append(len(part)), part)
		out := f.Bytes()
		out[nextAt] = ProtoFragment
		setPayloadLen(out)
		f.MarkNetwork()
		emit(f)
	}
	return DropNone
}

// perFragment returns the length of the headers that each fragment repeats, the
// protocol behind them, and the offset of the byte that names it.
// Destination options are among them in front of a routing header (RFC 8200 §4.5).
func perFragment(b []byte) (front int, next uint8, nextAt int) {
	front, next, nextAt = HeaderLen, b[6], 6
	for proto, at := next, front; proto == ProtoHopByHop || proto == ProtoRouting || proto == ProtoDestOpts; {
		size := extSize(b[at:], proto)
		if size == 0 {
			break
		}
		repeated := proto != ProtoDestOpts
		proto, at = b[at], at+size
		if repeated {
			next, nextAt, front = proto, at-size, at
		}
	}
	return front, next, nextAt
}

// putFragHeader writes a fragment header; offset is a multiple of 8.
func putFragHeader(b []byte, next uint8, offset int, more bool, id uint32) {
	word := uint16(offset)
	if more {
		word |= 1
	}
	b[0], b[1] = next, 0
	binary.BigEndian.PutUint16(b[2:], word)
	binary.BigEndian.PutUint32(b[4:], id)
}

func setPayloadLen(b []byte) {
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-HeaderLen))
}

// RestoreFragment undoes PatchNextHeader in b, a fragment whose fragment header
// lies at hdr, so that an error about it quotes what was received.
func RestoreFragment(b []byte, hdr int) {
	at := 6
	for off := HeaderLen; off < hdr && off+1 < len(b); {
		at = off
		off += 8 + 8*int(b[off+1])
	}
	b[at] = ProtoFragment
}

// PatchNextHeader makes the header in front of the fragment header that Walk
// found in b name next instead, usually c.Proto: the fragment header is about
// to be left out.
func PatchNextHeader(b []byte, c Chain, next uint8) { b[c.NextHeaderAt] = next }

// Reassembled sets the payload length of p, the headers in front of the
// fragment header and the joined data. It refuses a packet that is too long,
// which happens when the first fragment has more per-fragment headers than the
// others (RFC 8200 §4.5).
func Reassembled(p *pkt.Buf) Drop {
	if p.Len()-HeaderLen > MaxPayload {
		return DropFragRange
	}
	setPayloadLen(p.Bytes())
	return DropNone
}
