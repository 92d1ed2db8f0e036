package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	a4, b4 = netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.7")
	a6, b6 = netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::7")
)

// datagram builds a datagram from 0x1234 to 0x5678 with the length field given.
func datagram(length int, n int) []byte {
	b := make([]byte, HeaderLen+n)
	Put(b, 0x1234, 0x5678, length-HeaderLen)
	for i := range b[HeaderLen:] {
		b[HeaderLen+i] = byte(i)
	}
	return b
}

func TestParse(t *testing.T) {
	noDst, noSrc := datagram(12, 4), datagram(12, 4)
	noDst[2], noDst[3] = 0, 0
	noSrc[0], noSrc[1] = 0, 0
	tests := []struct {
		name    string
		b       []byte
		payload int
		want    Drop
	}{
		{"plain", datagram(12, 4), 4, DropNone},
		{"no payload", datagram(8, 0), 0, DropNone},
		{"bytes behind the datagram", datagram(10, 40), 2, DropNone},
		{"largest", datagram(65535, 65527), 65527, DropNone},
		{"nothing", nil, 0, DropShort},
		{"7 bytes", datagram(8, 0)[:7], 0, DropShort},
		{"length 0", datagram(0, 4), 0, DropLength},
		{"length 7", datagram(7, 4), 0, DropLength},
		{"length beyond the packet", datagram(13, 4), 0, DropLength},
		{"destination port 0", noDst, 0, DropPort},
		{"source port 0", noSrc, 4, DropNone},
	}
	for _, tt := range tests {
		h, payload, d := Parse(tt.b)
		if d != tt.want || (h == nil) != (d != DropNone) || len(payload) != tt.payload {
			t.Errorf("%s: %v with %d bytes, want %v with %d", tt.name, d, len(payload), tt.want, tt.payload)
			continue
		}
		if d == DropNone && (len(h) != h.Len() || !bytes.Equal(payload, tt.b[8:8+tt.payload])) {
			t.Errorf("%s: view of %d bytes, length %d", tt.name, len(h), h.Len())
		}
	}
	h, _, _ := Parse(datagram(12, 4))
	if h.SrcPort() != 0x1234 || h.DstPort() != 0x5678 || h.Len() != 12 || h.Checksum() != 0 {
		t.Errorf("% x", h)
	}
}

func TestChecksum(t *testing.T) {
	for _, x := range [][2]netip.Addr{{a4, b4}, {a6, b6}} {
		for n := range 70 {
			b := datagram(HeaderLen+n, n)
			SetChecksum(b, x[0], x[1])
			if !ChecksumOK(b, x[0], x[1]) {
				t.Fatalf("%v, %d bytes: own checksum refused", x, n)
			}
			if !ChecksumOK(append(b, 1, 2, 3), x[0], x[1]) {
				t.Errorf("%v, %d bytes: bytes behind the datagram were summed", x, n)
			}
			for bit := range len(b) * 8 {
				b[bit/8] ^= 1 << (bit % 8)
				if ChecksumOK(b, x[0], x[1]) {
					t.Fatalf("%v, %d bytes: bit %d changed unnoticed", x, n, bit)
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
			if ChecksumOK(b, x[0], x[0]) {
				t.Errorf("%v, %d bytes: other address accepted", x, n)
			}
		}
	}
}

// TestNoChecksum: zero means none, which IPv4 allows (RFC 768) and IPv6 does
// not (RFC 8200 §8.1).
func TestNoChecksum(t *testing.T) {
	b := datagram(12, 4)
	if !ChecksumOK(b, a4, b4) {
		t.Error("IPv4: refused")
	}
	if ChecksumOK(b, a6, b6) {
		t.Error("IPv6: accepted")
	}
}

// TestZeroSum finds data whose checksum comes out zero: it is sent as 0xffff.
func TestZeroSum(t *testing.T) {
	for _, x := range [][2]netip.Addr{{a4, b4}, {a6, b6}} {
		b := datagram(10, 2)
		clear(b[8:])
		SetChecksum(b, x[0], x[1])
		// Adding the checksum to the data makes the sum all ones.
		copy(b[8:], b[6:8])
		SetChecksum(b, x[0], x[1])
		if got := binary.BigEndian.Uint16(b[6:]); got != 0xffff {
			t.Errorf("%v: sent as %#x", x, got)
		}
		if !ChecksumOK(b, x[0], x[1]) {
			t.Errorf("%v: refused", x)
		}
	}
}

func TestChecksumOfNonsense(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 7), datagram(7, 0), datagram(9, 0), datagram(0, 8)} {
		if ChecksumOK(b, a4, b4) {
			t.Errorf("% x accepted", b)
		}
	}
}

func TestDoesNotAllocate(t *testing.T) {
	b := datagram(1480, 1472)
	if n := testing.AllocsPerRun(100, func() {
		SetChecksum(b, a6, b6)
		if h, _, d := Parse(b); d != DropNone || !ChecksumOK(h, a6, b6) {
			t.Error(d)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDropNames(t *testing.T) {
	seen := make(map[string]bool)
	for d := range NumDrops {
		if s := d.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("reason %d has the name %q", d, s)
		}
		seen[d.String()] = true
	}
	if NumDrops.String() != "unknown" || DropChecksum.Error() != "udp: bad-checksum" {
		t.Error(NumDrops.String(), DropChecksum.Error())
	}
}

// FuzzParse compares with gopacket, and changes what ChecksumOK accepts.
func FuzzParse(f *testing.F) {
	f.Add(datagram(12, 4))
	f.Add(datagram(10, 40))
	f.Add(datagram(0, 8))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		ChecksumOK(b, a4, b4)
		h, payload, d := Parse(b)
		if d != DropNone {
			return
		}
		var g layers.UDP
		if err := g.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			t.Fatalf("gopacket: %v", err)
		}
		if uint16(g.SrcPort) != h.SrcPort() || uint16(g.DstPort) != h.DstPort() || int(g.Length) != h.Len() ||
			g.Checksum != h.Checksum() || !bytes.Equal(g.Payload, payload) {
			t.Fatalf("gopacket reads % x differently: %+v", b, g)
		}
		SetChecksum(h, a6, b6)
		if h.Checksum() == 0 || !ChecksumOK(h, a6, b6) {
			t.Fatal("own checksum refused")
		}
	})
}

// FuzzPut has gopacket build the same datagram.
func FuzzPut(f *testing.F) {
	f.Add(uint16(7), uint16(9), []byte("hello"), false)
	f.Add(uint16(0), uint16(65535), []byte{}, true)
	f.Fuzz(func(t *testing.T, src, dst uint16, payload []byte, six bool) {
		if len(payload) > 1<<12 {
			return
		}
		b := append(make([]byte, HeaderLen), payload...)
		Put(b, src, dst, len(payload))
		var ip gopacket.NetworkLayer = &layers.IPv4{Protocol: layers.IPProtocolUDP, SrcIP: a4.AsSlice(), DstIP: b4.AsSlice()}
		if six {
			SetChecksum(b, a6, b6)
			ip = &layers.IPv6{NextHeader: layers.IPProtocolUDP, SrcIP: a6.AsSlice(), DstIP: b6.AsSlice()}
		} else {
			SetChecksum(b, a4, b4)
		}
		g := layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
		if err := g.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&g, gopacket.Payload(payload)); err != nil {
			t.Fatal(err)
		}
		want := buf.Bytes()
		if want[6] == 0 && want[7] == 0 {
			want[6], want[7] = 0xff, 0xff // gopacket leaves a zero sum
		}
		if !bytes.Equal(b, want) {
			t.Fatalf("% x\ngopacket: % x", b[:8], want[:8])
		}
	})
}
