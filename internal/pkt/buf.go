// Package pkt is the frame buffer that travels through the stack: one
// contiguous slab with headroom in front, pooled, and with exactly one owner.
//
// Ownership words are fixed. A function whose comment says it "takes p" ends
// the caller's right to use p; every other function borrows it. There are no
// reference counts: the two places that would share a frame (retransmission,
// multicast fan-out) copy instead, because TCP keeps bytes in rings rather
// than packets.
package pkt

import (
	"sync"
	"sync/atomic"

	"github.com/tapstack/tapstack/internal/mono"
)

// Headroom lies in front of the data of every fresh buffer: 12 bytes virtio
// header, 14 Ethernet, 4 VLAN, 60 IP, 60 TCP, and slack to 160.
const Headroom = 160

// Slab sizes of the two classes, headroom included. The large one holds any
// frame the kernel may hand over through the virtio-net header.
const (
	SmallSlab = 2048 + Headroom
	LargeSlab = 68 << 10
)

// MaxFrame is the largest number of data bytes one buffer can hold.
const MaxFrame = LargeSlab - Headroom

// GSOType says how a super-frame is to be cut into wire frames.
type GSOType uint8

// The segmentation types of the virtio-net header.
const (
	GSONone GSOType = iota
	GSOTCPv4
	GSOTCPv6
	GSOUDP
)

// GSO is the segmentation and checksum metadata of a super-frame. Offsets are
// counted from the start of the network header.
type GSO struct {
	Type       GSOType
	SegSize    uint16 // payload bytes of one wire segment
	HdrLen     uint16 // network and transport header together
	CsumStart  uint16 // where the transport checksum begins to sum
	CsumOffset uint16 // from CsumStart to the checksum field
}

// Csum says what is known of the transport checksum.
type Csum uint8

const (
	// CsumNone: to be verified on input; complete on output.
	CsumNone Csum = iota
	// CsumPartial: the field holds only the pseudo-header's sum. On output
	// the device completes it; on input the frame never left this host.
	CsumPartial
	// CsumValid: verified by the device.
	CsumValid
)

// Buf is one frame. The valid bytes are slab[head:tail]; layers are remembered
// as offsets into the slab, so they survive Push and Pull.
type Buf struct {
	slab       []byte
	head, tail int
	l3, l4     int // 0: not set

	GSO  GSO
	Csum Csum
	// Group marks a frame that arrived by link-layer multicast or broadcast:
	// RFC 1122 §3.2.2 forbids ICMP errors about it, TCP ignores it.
	Group bool
	// Looped marks the copy for this host of a multicast that it sent itself, by
	// the interface with the index In.
	Looped bool
	In     int32
	// At is when the frame arrived. A device may leave it 0: to look at the
	// clock for each frame costs more than some frames do, and the stack does
	// so once for those that come together.
	At mono.Time

	// more is payload that follows the slab's bytes and belongs to somebody
	// else: see Borrow.
	more [2][]byte

	large bool
	freed bool
}

var (
	smallPool = sync.Pool{New: func() any { return &Buf{slab: make([]byte, SmallSlab)} }}
	largePool = sync.Pool{New: func() any { return &Buf{slab: make([]byte, LargeSlab), large: true} }}
	live      atomic.Int64
)

// Live returns how many buffers are out of the pools: the leak counter.
func Live() int64 { return live.Load() }

// Get returns an empty buffer with Headroom in front that can hold size bytes
// of data. size above MaxFrame is a programming error and panics.
func Get(size int) *Buf {
	var b *Buf
	switch {
	case size <= SmallSlab-Headroom:
		b = smallPool.Get().(*Buf)
	case size <= MaxFrame:
		b = largePool.Get().(*Buf)
	default:
		panic("pkt: frame larger than MaxFrame")
	}
	live.Add(1)
	*b = Buf{slab: b.slab, large: b.large, head: Headroom, tail: Headroom}
	return b
}

// From returns a buffer that holds a copy of data.
func From(data []byte) *Buf {
	b := Get(len(data))
	copy(b.Append(len(data)), data)
	return b
}

// Put gives the buffer back to its pool. The caller must own it; giving it
// back twice panics.
func (b *Buf) Put() {
	if b.freed {
		panic("pkt: buffer freed twice")
	}
	b.freed = true
	live.Add(-1)
	if b.large {
		largePool.Put(b)
	} else {
		smallPool.Put(b)
	}
}

// Clone returns an independent copy with the same bytes, offsets and metadata.
func (b *Buf) Clone() *Buf {
	c := Get(b.tail - Headroom + b.Size() - b.Len())
	slab := c.slab
	large := c.large
	*c = *b
	c.slab, c.large, c.freed = slab, large, false
	from := b.head
	for _, mark := range [2]int{b.l3, b.l4} {
		if mark != 0 && mark < from {
			from = mark // headers that were pulled come along
		}
	}
	copy(c.slab[from:b.tail], b.slab[from:b.tail])
	return c.Whole()
}

// Bytes returns the valid bytes; the slice is good until the buffer is freed.
func (b *Buf) Bytes() []byte { return b.slab[b.head:b.tail] }

// Len returns the number of valid bytes.
func (b *Buf) Len() int { return b.tail - b.head }

// Room returns the whole writable tail of the slab, for a device to read into;
// follow it with SetLen.
func (b *Buf) Room() []byte { return b.slab[b.head:] }

// SetLen sets the number of valid bytes after filling Room.
func (b *Buf) SetLen(n int) { b.tail = b.head + n }

// Push makes room for an n-byte header in front of the data and returns it.
func (b *Buf) Push(n int) []byte {
	b.head -= n
	return b.slab[b.head : b.head+n : b.head+n]
}

// Pull strips n bytes from the front and returns them.
func (b *Buf) Pull(n int) []byte {
	h := b.slab[b.head : b.head+n : b.head+n]
	b.head += n
	return h
}

// Append extends the data by n bytes and returns them, not cleared.
func (b *Buf) Append(n int) []byte {
	t := b.tail
	b.tail += n
	return b.slab[t:b.tail:b.tail]
}

// Trim cuts the data to its first n bytes (link-layer padding).
func (b *Buf) Trim(n int) {
	if n < b.Len() {
		b.tail = b.head + n
	}
}

// Borrow lets the frame go on behind its own bytes with those of a and b, which
// are not copied: parts of a connection's send ring. They stay what they are
// only until the call that the frame is passed to returns, so whoever keeps the
// frame longer makes it Whole first. Len, Bytes, Network and Transport do not
// see them; Size does.
func (b *Buf) Borrow(x, y []byte) { b.more = [2][]byte{x, y} }

// Borrowed returns what Borrow was given.
func (b *Buf) Borrowed() (x, y []byte) { return b.more[0], b.more[1] }

// Size is the length of the frame, borrowed bytes included.
func (b *Buf) Size() int { return b.Len() + len(b.more[0]) + len(b.more[1]) }

// Whole takes b and returns a frame of the same bytes that borrows nothing:
// mostly b itself.
func (b *Buf) Whole() *Buf {
	n := len(b.more[0]) + len(b.more[1])
	if n == 0 {
		return b
	}
	c := b
	if b.tail+n > len(b.slab) {
		c = Get(b.tail - Headroom + n)
		slab, large := c.slab, c.large
		*c = *b
		c.slab, c.large = slab, large
		copy(c.slab[:b.tail], b.slab[:b.tail])
		b.more = [2][]byte{}
		defer b.Put()
	}
	x, y := c.more[0], c.more[1]
	c.more = [2][]byte{}
	copy(c.Append(len(x)), x)
	copy(c.Append(len(y)), y)
	return c
}

// MarkNetwork remembers the current front as the network header.
func (b *Buf) MarkNetwork() { b.l3 = b.head }

// MarkTransport remembers the current front as the transport header.
func (b *Buf) MarkTransport() { b.l4 = b.head }

// Network returns the bytes from the network header on.
func (b *Buf) Network() []byte { return b.slab[b.l3:b.tail] }

// Transport returns the bytes from the transport header on.
func (b *Buf) Transport() []byte { return b.slab[b.l4:b.tail] }

// Rewind moves the front back to the network header.
func (b *Buf) Rewind() { b.head = b.l3 }
