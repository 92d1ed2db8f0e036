package icmp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"

	"github.com/tapstack/tapstack/internal/csum"
)

// structure puts the header of RFC 4884 §7 in front of objects.
func structure(objects ...[]byte) []byte {
	b := append([]byte{2 << 4, 0, 0, 0}, bytes.Join(objects, nil)...)
	binary.BigEndian.PutUint16(b[2:], csum.Checksum(b, 0))
	return b
}

func object(class, typ uint8, data ...byte) []byte {
	b := []byte{0, 0, class, typ}
	b = append(b, data...)
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b
}

// errorWith is a message about a packet of n bytes, which says so if said is set.
func errorWith(v6 bool, n, said int, ext []byte) Message {
	m := Message{Type: TypeTimeExceeded4, Body: append(make([]byte, n), ext...)}
	m.Rest[1] = uint8(said / 4)
	if v6 {
		m.Type, m.Rest = TypeTimeExceeded6, [4]byte{uint8(said / 8)}
	}
	return m
}

func TestSplitQuote(t *testing.T) {
	labels := object(1, 1, 0x00, 0x06, 0x43, 0x01, 0xff, 0xff, 0xf0, 0xff) // 100, class 1, last, TTL 1; 1048575, class 0, not last, TTL 255
	want := []MPLSLabel{{100, 1, true, 1}, {0xfffff, 0, false, 255}}
	name := append([]byte{8}, "eth0\x00\x00\x00"...)
	info := object(2, 0x0f, append(append([]byte{0, 0, 0, 7, 0, 1, 0, 0, 192, 0, 2, 1}, name...), 0, 0, 5, 220)...)
	iface := []InterfaceInfo{{Role: RoleIncoming, Index: 7, Addr: netip.MustParseAddr("192.0.2.1"), Name: "eth0", MTU: 1500}}
	all := structure(object(9, 1, 1, 2, 3), labels, info)
	broken := bytes.Clone(all)
	broken[9]++
	for _, c := range []struct {
		name    string
		n, said int
		ext     []byte
		quote   int
		bad     ExtensionError
		labels  bool
		iface   bool
	}{
		{"none", 60, 0, nil, 60, ExtensionNone, false, false},
		{"length 128", 128, 128, all, 128, ExtensionNone, true, true},
		{"length 160", 160, 160, all, 160, ExtensionNone, true, true},
		{"length 64", 64, 64, all, 64, ExtensionNone, true, true},
		{"legacy", 128, 0, all, 128, ExtensionNone, true, true},
		{"legacy without a checksum", 128, 0, []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0, 1}, 140, ExtensionNone, false, false},
		{"legacy damaged", 128, 0, broken, 128 + len(all), ExtensionNone, false, false},
		{"no checksum", 128, 128, append([]byte{0x20, 0, 0, 0}, labels...), 128, ExtensionNone, true, false},
		{"damaged", 128, 128, broken, 128, ExtensionChecksum, false, false},
		{"version 3", 128, 128, append([]byte{0x30}, all[1:]...), 128, ExtensionVersion, false, false},
		{"beyond the message", 60, 128, nil, 60, ExtensionLength, false, false},
		{"short", 128, 128, []byte{0x20, 0}, 128, ExtensionObject, false, false},
		{"object beyond the end", 128, 128, structure(labels, []byte{0, 99, 1, 1}), 128, ExtensionObject, true, false},
		{"object of no length", 128, 128, structure(labels, []byte{0, 0, 1, 1}), 128, ExtensionObject, true, false},
		{"half a label", 128, 128, structure(object(1, 1, 0, 0, 0)), 128, ExtensionObject, false, false},
		{"name too long", 128, 128, structure(object(2, 2, 12, 'a', 'b', 'c')), 128, ExtensionObject, false, false},
		{"address of no family", 128, 128, structure(object(2, 4, 0, 9, 0, 0, 1, 2, 3, 4)), 128, ExtensionObject, false, false},
	} {
		for _, v6 := range []bool{false, true} {
			q, x, bad := SplitQuote(errorWith(v6, c.n, c.said, c.ext), v6)
			if len(q) != c.quote || bad != c.bad {
				t.Errorf("%s: quote of %d bytes, %v", c.name, len(q), bad)
			}
			if got := x.MPLS; c.labels != reflect.DeepEqual(got, want) {
				t.Errorf("%s: labels %v", c.name, got)
			}
			if got := x.Interfaces; c.iface != reflect.DeepEqual(got, iface) {
				t.Errorf("%s: interfaces %v", c.name, got)
			}
		}
	}
	// What is kept is bounded, however much a message says.
	var many [][]byte
	for range maxObjects + 1 {
		many = append(many, object(9, 9))
	}
	many = append(many, object(1, 1, make([]byte, 4*(maxLabels+1))...))
	if _, x, bad := SplitQuote(errorWith(false, 128, 128, structure(many...)), false); len(x.Others) != maxObjects || bad != ExtensionObject {
		t.Errorf("%d objects kept: %v", len(x.Others), bad)
	}
	if _, x, bad := SplitQuote(errorWith(false, 128, 128, structure(many[len(many)-1])), false); len(x.MPLS) != maxLabels || bad != ExtensionObject {
		t.Errorf("%d labels kept: %v", len(x.MPLS), bad)
	}
	// Messages that have no length field have no extensions either.
	m := errorWith(true, 128, 0, all)
	m.Type = TypeTooBig6
	if q, x, _ := SplitQuote(m, true); len(q) != len(m.Body) || x.MPLS != nil {
		t.Error("a structure in packet too big")
	}
}

// FuzzSplitQuote: nothing is read beyond the message, and what is kept is bounded.
func FuzzSplitQuote(f *testing.F) {
	f.Add(uint8(11), uint8(32), append(make([]byte, 128), structure(object(1, 1, 0, 0, 1, 1), object(2, 0x4f, 0, 0, 0, 1))...))
	f.Add(uint8(3), uint8(0), append(make([]byte, 128), structure(object(2, 6, 0, 2, 0, 0))...))
	f.Fuzz(func(t *testing.T, typ, length uint8, body []byte) {
		for _, v6 := range []bool{false, true} {
			m := Message{Type: typ, Rest: [4]byte{length, length}, Body: body}
			q, x, _ := SplitQuote(m, v6)
			if len(q) > len(body) || len(x.MPLS) > maxLabels || len(x.Interfaces)+len(x.Others) > maxObjects {
				t.Errorf("%d bytes of %d, %d labels, %d interfaces, %d others", len(q), len(body), len(x.MPLS), len(x.Interfaces), len(x.Others))
			}
		}
	})
}
