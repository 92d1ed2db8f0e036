package stack_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// FuzzHeaderOptions sets any bytes as headers and options. What is taken is read
// again, and makes a packet that the walk over headers finds TCP in, and whose end
// is the peer.
func FuzzHeaderOptions(f *testing.F) {
	opt := []byte{0, 0, 0x1e, 4, 1, 2, 3, 4}
	f.Add(opt, opt, append([]byte{0, 2, 2, 1}, make([]byte, 20)...), opt, []byte{7, 7, 4, 0, 0, 0, 0})
	f.Add(opt, []byte{}, append([]byte{0, 4, 4, 1, 1}, make([]byte, 35)...), opt, []byte{1, 148, 4, 0, 0})
	f.Add([]byte{}, opt, append([]byte{0, 5, 4, 1, 1}, append(make([]byte, 35), 4, 6, 0, 0, 0, 0, 0, 0)...), []byte{}, []byte{68, 8, 9, 0x10, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, hop, before, routing, dst, opts []byte) {
		var o stack.HeaderOptions
		n := 0
		for k, b := range [][]byte{hop, before, routing, dst} {
			k := stack.HeaderKind(k)
			h, err := stack.ParseOptionsHeader(b)
			if err == nil && (len(h)%8 != 0 || len(h) > len(b) || stack.MayRoute(h) && len(h) != 24) {
				t.Fatalf("%x of %x", h, b)
			}
			if o.SetHeader(k, b) != nil {
				continue
			}
			if got := o.Header(k); len(b) > 0 && (err != nil || !bytes.Equal(got, h)) || len(b) == 0 && got != nil {
				t.Fatalf("set %x, have %x", b, got)
			}
			if k != stack.HeaderBeforeRouting {
				n += len(h)
			}
		}
		with := o.Header(stack.HeaderRouting)
		if with != nil {
			n += len(o.Header(stack.HeaderBeforeRouting))
		}
		final := netip.MustParseAddr("2001:db8::7")
		wire, next, via := stack.WireHeaders(o, final, ipv4.ProtoTCP)
		if len(wire) != n || (via == final) != (with == nil) && with == nil {
			t.Fatalf("%d bytes by way of %v, want %d: %x", len(wire), via, n, wire)
		}
		p := make([]byte, ipv6.HeaderLen)
		(&ipv6.Fields{NextHeader: next, HopLimit: 1, Src: final, Dst: via, PayloadLen: len(wire) + 20}).Put(p)
		p = append(append(p, wire...), make([]byte, 20)...)
		if proto, at, _, ok := ipv6.Skip(p); !ok || proto != ipv4.ProtoTCP || at != ipv6.HeaderLen+n {
			t.Fatalf("%d at %d of %x", proto, at, p)
		}
		if with != nil && with[3] > 0 && ipv6.FinalDestination(p) != final {
			t.Fatalf("ends at %v: %x", ipv6.FinalDestination(p), p)
		}
		for i := range p {
			if i >= ipv6.HeaderLen {
				ipv6.FinalDestination(p[:i]) // a quote may be cut anywhere
			}
		}
		if o.SetIPOptions(opts) == nil {
			if got := o.IPOptions(); len(got)%4 != 0 || len(got) > 40 || !bytes.HasPrefix(got, opts) {
				t.Fatalf("set %x, have %x", opts, got)
			}
		}
	})
}
