package frag

import (
	"bytes"
	"slices"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// datagram is one datagram in the making: pieces that do not overlap, in order.
//
//	0        1480     2960              5920     7400
//	+--------+--------+- - - - - - - - -+--------+
//	| piece  | piece  |     missing     | last   |
//	+--------+--------+- - - - - - - - -+--------+
//	                                             end, have = 4440
type datagram struct {
	key      Key
	deadline mono.Time
	pieces   []piece
	have     int   // bytes of data in pieces
	end      int   // length of the data; 0 until the last fragment came
	ecn      uint8 // set of ECN codepoints seen: bit 1<<codepoint
	// discarded: the datagram contradicted itself and is kept only to refuse
	// its other fragments.
	discarded    bool
	older, newer *datagram // neighbours in the table's order
}

// piece is one fragment: the data [start, end) of its datagram.
type piece struct {
	p          *pkt.Buf
	start, end int
	hdr        int // bytes of header in front that go into the datagram
	last       bool
}

// check refuses a fragment that is wrong in itself.
func (f *piece) check(k Key) Drop {
	switch {
	case f.start == f.end:
		// Legal at best as a superfluous last fragment; Linux refuses it too.
		return DropEmpty
	case !f.last && (f.end-f.start)%8 != 0:
		// RFC 8200 §4.5, RFC 791 §3.2. Departs from Linux, which cuts an IPv4
		// one down to a multiple of 8, and may complete its datagram with
		// others that overlap what was there. No sender makes such.
		return DropBadLength
	case f.hdr+f.end > maxLen(k):
		// RFC 8200 §4.5; for IPv4 the "ping of death".
		return DropTooLong
	}
	return DropNone
}

// maxLen returns the largest packet, header included: IPv6 does not count its
// fixed header of 40 bytes in the payload length.
func maxLen(k Key) int {
	if k.Src.Is4() {
		return 65535
	}
	return 40 + 65535
}

// place finds where in pieces a fragment belongs, or says why nowhere.
func (g *datagram) place(f *piece, maxFragments int) (at int, d Drop) {
	if g.discarded {
		return 0, DropDiscarded
	}
	at, _ = slices.BinarySearchFunc(g.pieces, f.start, func(have piece, start int) int { return have.start - start })
	n := len(g.pieces)
	if at < n && g.pieces[at].start < f.end || at > 0 && g.pieces[at-1].end > f.start {
		if at < n && g.pieces[at].same(f) {
			return 0, DropDuplicate
		}
		// RFC 5722 §3 and RFC 8200 §4.5: whichever of the two were taken,
		// somebody on the way may have taken the other. Linux does the same
		// for IPv4.
		return 0, DropOverlap
	}
	switch {
	case g.end != 0 && (f.last || f.end > g.end):
		return 0, DropEnd // a second end, or data behind the end
	case f.last && n > 0 && g.pieces[n-1].end > f.end:
		return 0, DropEnd // data behind the end came earlier
	case n >= maxFragments:
		return 0, DropTooMany
	}
	// RFC 3168 §5.3: a mark must not get lost, and a mixture of fragments that
	// can be marked with others that cannot is none that a sender makes; Linux
	// drops it.
	ecn := g.ecn | f.ecn(g.key)
	if ecn&(1<<ecnNotECT) != 0 && ecn != 1<<ecnNotECT {
		return 0, DropECN
	}
	return at, DropNone
}

// same reports an exact copy, which the network may make (RFC 8200 §4.5) and
// which is no overlap.
func (f *piece) same(o *piece) bool {
	return f.start == o.start && f.end == o.end && f.last == o.last && bytes.Equal(f.p.Bytes(), o.p.Bytes())
}

// insert adds a fragment at the place found for it.
func (g *datagram) insert(at int, f piece) {
	g.pieces = slices.Insert(g.pieces, at, f)
	g.have += f.end - f.start
	g.ecn |= f.ecn(g.key)
	if f.last {
		g.end = f.end
	}
}

// complete reports whether nothing is missing: pieces neither overlap nor
// reach beyond the end, so that it is enough to count.
func (g *datagram) complete() bool { return g.end != 0 && g.have == g.end }

// join returns the datagram, which must be complete, in a buffer of its own.
func (g *datagram) join() *pkt.Buf {
	hdr := g.pieces[0].hdr
	w := pkt.Get(hdr + g.end)
	w.MarkNetwork()
	copy(w.Append(hdr), g.pieces[0].p.Network())
	for i := range g.pieces {
		p := g.pieces[i].p
		copy(w.Append(p.Len()), p.Bytes())
		w.At = max(w.At, p.At)
		// One piece by broadcast is enough to forbid errors about the whole.
		w.Group = w.Group || p.Group
	}
	if g.ecn&(1<<ecnCE) != 0 {
		setCE(w.Bytes(), g.key)
	}
	return w
}

// release frees the pieces and returns what they cost.
func (g *datagram) release() (n int) {
	for i := range g.pieces {
		n += cost(g.pieces[i].p)
		g.pieces[i].p.Put()
	}
	clear(g.pieces)
	g.pieces, g.have = g.pieces[:0], 0
	return n
}

// ECN codepoints (RFC 3168 §5), the low bits of IPv4's type of service and
// IPv6's traffic class.
const (
	ecnNotECT = 0
	ecnCE     = 3
)

// ecn returns the codepoint of a fragment as a set of one.
func (f *piece) ecn(k Key) uint8 {
	b := f.p.Network()[1]
	if !k.Src.Is4() {
		b >>= 4 // the traffic class straddles bytes 0 and 1
	}
	return 1 << (b & 3)
}

func setCE(header []byte, k Key) {
	mark := uint8(ecnCE)
	if !k.Src.Is4() {
		mark <<= 4
	}
	header[1] |= mark
}

// large reports a buffer with a large slab.
func large(p *pkt.Buf) bool { return len(p.Room()) > pkt.SmallSlab }

// cost returns the memory that holding p takes.
func cost(p *pkt.Buf) int {
	if large(p) {
		return pkt.LargeSlab
	}
	return pkt.SmallSlab
}

// compact moves a fragment that would pin a large slab to a small one if it
// fits. It takes p.
func compact(p *pkt.Buf) *pkt.Buf {
	if !large(p) || len(p.Network()) > pkt.SmallSlab-pkt.Headroom {
		return p
	}
	hdr := len(p.Network()) - p.Len()
	c := pkt.From(p.Network())
	c.MarkNetwork()
	c.Pull(hdr)
	c.At, c.Group = p.At, p.Group
	p.Put()
	return c
}
