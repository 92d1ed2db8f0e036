package ether

import (
	"net/netip"
	"testing"
)

func TestMulticastMapping(t *testing.T) {
	for ip, want := range map[string]string{
		"224.0.0.1":         "01:00:5e:00:00:01",
		"239.255.255.250":   "01:00:5e:7f:ff:fa",
		"ff02::1":           "33:33:00:00:00:01",
		"ff02::1:ff28:9c5a": "33:33:ff:28:9c:5a",
	} {
		if got := Multicast(netip.MustParseAddr(ip)).String(); got != want {
			t.Errorf("%s: got %s want %s", ip, got, want)
		}
	}
}

func TestEUI64(t *testing.T) {
	// RFC 2464 §4's worked example.
	a, err := ParseAddr("34:56:78:9a:bc:de")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := EUI64(a), [8]byte{0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde}; got != want {
		t.Errorf("got %x want %x", got, want)
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	b := make([]byte, HeaderLen)
	dst, src := Addr{1, 2, 3, 4, 5, 6}, Addr{2, 0, 0, 0, 0, 7}
	Put(b, dst, src, TypeARP)
	h, ok := Parse(b)
	if !ok || h.Dst() != dst || h.Src() != src || h.Type() != TypeARP {
		t.Fatalf("round trip: %x", b)
	}
	if _, ok := Parse(b[:13]); ok {
		t.Fatal("13 bytes parsed")
	}
	if !dst.IsGroup() || src.IsGroup() || !Broadcast.IsGroup() {
		t.Fatal("IsGroup")
	}
	if _, err := ParseAddr("nonsense"); err == nil {
		t.Fatal("nonsense parsed")
	}
}
