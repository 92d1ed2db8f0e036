package vnet

import (
	"encoding/binary"
	"testing"

	"github.com/tapstack/tapstack/internal/pkt"
)

func TestRoundTrip(t *testing.T) {
	for _, g := range []pkt.GSO{
		{Type: pkt.GSOTCPv4, SegSize: 1448, HdrLen: 52, CsumStart: 20, CsumOffset: 16},
		{Type: pkt.GSOTCPv6, SegSize: 1428, HdrLen: 72, CsumStart: 40, CsumOffset: 16},
		{Type: pkt.GSOUDP, SegSize: 1200, HdrLen: 28, CsumStart: 20, CsumOffset: 6},
		{CsumStart: 20, CsumOffset: 6},
	} {
		b := pkt.From(make([]byte, 200))
		b.GSO, b.Csum = g, pkt.CsumPartial
		var h [Len]byte
		Put(h[:], b)
		c := pkt.From(make([]byte, 200))
		Parse(h[:], c)
		g.HdrLen = 0 // never trusted
		if c.GSO != g || c.Csum != pkt.CsumPartial {
			t.Errorf("%+v came back as %+v, %v", g, c.GSO, c.Csum)
		}
		b.Put()
		c.Put()
	}
}

// A super-frame whose segment has CWR says so, and is read like any other.
func TestECN(t *testing.T) {
	for _, c := range []struct {
		kind  pkt.GSOType
		flags byte
		want  byte
	}{
		{pkt.GSOTCPv4, 0x10, 1}, {pkt.GSOTCPv4, 0x90, 0x81}, {pkt.GSOTCPv4, 0x50, 1},
		{pkt.GSOTCPv6, 0x90, 0x84}, {pkt.GSOUDP, 0x90, 5}, {pkt.GSONone, 0x90, 0},
	} {
		b := pkt.From(make([]byte, 200))
		b.GSO, b.Csum = pkt.GSO{Type: c.kind, SegSize: 100, CsumStart: 20, CsumOffset: 16}, pkt.CsumPartial
		b.Bytes()[14+20+13] = c.flags
		var h [Len]byte
		Put(h[:], b)
		if h[1] != c.want {
			t.Errorf("%v with flags %#x: type %#x, want %#x", c.kind, c.flags, h[1], c.want)
		}
		d := pkt.From(make([]byte, 200))
		if Parse(h[:], d); d.GSO.Type != c.kind {
			t.Errorf("%#x read as %v", h[1], d.GSO.Type)
		}
		b.Put()
		d.Put()
	}
}

func TestFinishedFrameHasAnEmptyHeader(t *testing.T) {
	b := pkt.From(make([]byte, 60))
	defer b.Put()
	h := [Len]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	Put(h[:], b)
	if h != [Len]byte{} {
		t.Errorf("header %x", h)
	}
}

// FuzzParse: whatever the header says, the checksum it names lies inside the
// frame.
func FuzzParse(f *testing.F) {
	f.Add([]byte{1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0}, 100)
	f.Add([]byte{1, 1, 66, 0, 0xa8, 5, 0xff, 0xff, 0xff, 0xff}, 100)
	f.Fuzz(func(t *testing.T, h []byte, n int) {
		if len(h) < Len || n < 0 || n > 2000 {
			return
		}
		b := pkt.From(make([]byte, n))
		defer b.Put()
		Parse(h, b)
		if b.Csum == pkt.CsumPartial && 14+int(b.GSO.CsumStart)+int(b.GSO.CsumOffset)+2 > n {
			t.Errorf("checksum at %d+%d of %d bytes", b.GSO.CsumStart, b.GSO.CsumOffset, n)
		}
	})
}

// Nothing that a header or its lack may say does harm.
func TestHeaderIsNotTrusted(t *testing.T) {
	for _, h := range [][]byte{
		{1, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		{1, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{1, 0, 0, 0, 0, 0, 59, 0, 0, 0},
	} {
		b := pkt.From(make([]byte, 60))
		Parse(h, b)
		if b.Csum == pkt.CsumPartial {
			t.Errorf("%x: checksum at %d+%d of 60 bytes", h, b.GSO.CsumStart, b.GSO.CsumOffset)
		}
		b.Put()
	}
}

// The header length is a hint that Linux gets wrong; whatever it is, nothing
// follows from it.
func TestHeaderLengthMeansNothing(t *testing.T) {
	var want pkt.GSO
	for i, n := range []uint16{0, 1, 13, 54, 66, 200, 0xffff} {
		b := pkt.From(make([]byte, 200))
		h := [Len]byte{1, 1, 0, 0, 0xa8, 5, 34, 0, 16, 0}
		binary.NativeEndian.PutUint16(h[2:], n)
		Parse(h[:], b)
		if i == 0 {
			want = b.GSO
		}
		if b.GSO != want || b.Len() != 200 || want.SegSize == 0 {
			t.Errorf("a header length of %d: %+v, not %+v", n, b.GSO, want)
		}
		b.Put()
	}
}

// Of a TCP super-frame with CWR the device is told, as only its first segment
// may keep that.
func TestCWR(t *testing.T) {
	for _, c := range []struct {
		kind  pkt.GSOType
		flags byte
		want  byte
	}{
		{pkt.GSOTCPv4, 0x90, 1 | 0x80}, {pkt.GSOTCPv4, 0x10, 1}, {pkt.GSOTCPv6, 0x90, 4 | 0x80}, {pkt.GSOUDP, 0x90, 5},
	} {
		b := pkt.From(make([]byte, 200))
		b.Csum, b.GSO = pkt.CsumPartial, pkt.GSO{Type: c.kind, SegSize: 100, HdrLen: 40, CsumStart: 20, CsumOffset: 16}
		b.Bytes()[14+20+13] = c.flags
		var h [Len]byte
		Put(h[:], b)
		if h[1] != c.want {
			t.Errorf("%+v: type %#x", c, h[1])
		}
		c := pkt.From(make([]byte, 200))
		Parse(h[:], c)
		if c.GSO.Type != b.GSO.Type {
			t.Errorf("came back as %v", c.GSO.Type)
		}
		b.Put()
		c.Put()
	}
}
