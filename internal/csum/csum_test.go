package csum

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// reference is RFC 1071 §4.1 written down literally.
func reference(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for len(b) > 1 {
		sum += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func same(a, b uint16) bool { return a == b || (a == 0 || a == 0xffff) && (b == 0 || b == 0xffff) }

func TestSumMatchesTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 0; n < 2000; n++ {
		b := make([]byte, n%130+n/20)
		for i := range b {
			b[i] = byte(r.Uint32())
			if n%3 == 0 {
				b[i] = 0xff
			}
		}
		init := uint16(r.Uint32())
		if got, want := Sum(b, init), reference(b, init); !same(got, want) {
			t.Fatalf("len %d: got %#x want %#x", len(b), got, want)
		}
	}
}

// The vectors of the PyTCP 2.7 test list (facts, not code).
func TestKnownChecksums(t *testing.T) {
	fill := func(n int, v byte) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = v
		}
		return b
	}
	for _, c := range []struct {
		b    []byte
		want uint16
	}{{fill(1500, 0xff), 0x0000}, {fill(1500, 0), 0xffff}, {fill(9999, 0x07), 0xbec5}} {
		if got := Checksum(c.b, 0); got != c.want {
			t.Errorf("len %d: got %#x want %#x", len(c.b), got, c.want)
		}
	}
}

func TestPseudo(t *testing.T) {
	a4, b4 := netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("255.255.255.255")
	h := append(a4.AsSlice(), b4.AsSlice()...)
	h = append(h, 0, 17, 0xff, 0xff)
	if got, want := Pseudo(a4, b4, 17, 0xffff), reference(h, 0); got != want {
		t.Errorf("v4: got %#x want %#x", got, want)
	}
	a6, b6 := netip.MustParseAddr("fd77::1"), netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
	h = append(a6.AsSlice(), b6.AsSlice()...)
	h = append(h, 0, 1, 0x23, 0x45, 0, 0, 0, 6)
	if got, want := Pseudo(a6, b6, 6, 0x12345), reference(h, 0); got != want {
		t.Errorf("v6: got %#x want %#x", got, want)
	}
}

func BenchmarkSum1500(b *testing.B) {
	buf := make([]byte, 1500)
	b.SetBytes(1500)
	for b.Loop() {
		Sum(buf, 0)
	}
}
