package probe_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/probe"
)

// extended is a time exceeded message about a packet, with that length of the
// quote (in words) named and objects behind 128 bytes of it.
func extended(quote []byte, words uint8, objects []byte) []byte {
	body := append(slices.Clone(quote), make([]byte, max(128-len(quote), 0))...)[:128]
	x := append([]byte{2 << 4, 0, 0, 0}, objects...)
	binary.BigEndian.PutUint16(x[2:], csum.Checksum(x, 0))
	b := append(make([]byte, 8), append(body, x...)...)
	b[0], b[5] = icmp.TypeTimeExceeded4, words
	icmp.SetChecksum4(b)
	return b
}

// object is one with a length that may lie.
func object(length int, class, typ byte, data ...byte) []byte {
	return append([]byte{byte(length >> 8), byte(length), class, typ}, data...)
}

// TestExtensionBombs: extensions that are too many, too long, empty or a lie are
// bounded, and the error that carries them is still an answer; what is wrong with
// them is said.
func TestExtensionBombs(t *testing.T) {
	label := []byte{0, 6, 0x42, 1}
	for name, c := range map[string]struct {
		objects []byte
		words   uint8
		bad     bool
	}{
		"300 labels in one":         {object(4+300*4, 1, 1, bytes.Repeat(label, 300)...), 32, true},
		"300 objects with a label":  {bytes.Repeat(object(8, 1, 1, label...), 160), 32, true},
		"300 empty objects":         {bytes.Repeat(object(4, 9, 9), 300), 32, true},
		"objects of no length":      {bytes.Repeat(object(0, 1, 1), 300), 32, true},
		"an object longer than all": {object(0xffff, 1, 1, label...), 32, true},
		"three bytes of a label":    {object(7, 1, 1, 0, 6, 0x42), 32, true},
		"half a header":             {[]byte{0, 8}, 32, true},
		"an interface without end":  {object(8, 2, 0x4f, 0xff, 0xff, 0xff, 0xff), 32, true},
		"a name of 255 bytes":       {object(8, 2, 2, 255, 'a', 'b', 'c'), 32, true},
		"a length beyond it":        {object(8, 1, 1, label...), 255, true},
		"a length of one word":      {object(8, 1, 1, label...), 1, true},
		"no length, as old ones":    {object(8, 1, 1, label...), 0, false},
	} {
		w := newWorld(t, 1, probe.Options{})
		packets := w.silence()
		var got []probe.Result
		w.p.Send(probe.Request{Dst: addr(far4), Proto: probe.UDP, Size: 200, Timeout: time.Hour}, func(r probe.Result) { got = append(got, r) })
		w.RunFor(time.Millisecond)
		w.inject(addr("10.1.0.1"), icmp.Proto4, extended((*packets)[0], c.words, c.objects))
		if c.words == 1 {
			// Four bytes are quoted by its own word: of no packet at all.
			if len(got) != 0 {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		if len(got) != 1 || got[0].Kind != probe.TTLExpired {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		x := got[0].Extensions
		if len(x.MPLS) > 256 || len(x.Interfaces)+len(x.Others) > 64 {
			t.Errorf("%s: %d labels, %d interfaces, %d others", name, len(x.MPLS), len(x.Interfaces), len(x.Others))
		}
		if bad := got[0].BadExtensions != icmp.ExtensionNone; bad != c.bad {
			t.Errorf("%s: %v", name, got[0].BadExtensions)
		}
	}
}

// TestQuotedLengths: a quote that says another length than the packet had, in
// both families, is of another packet.
func TestQuotedLengths(t *testing.T) {
	for _, dst := range []netip.Addr{addr(far4), addr(far6)} {
		for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
			w := newWorld(t, 1, probe.Options{})
			packets := w.silence()
			got := 0
			w.p.Send(probe.Request{Dst: dst, Proto: proto, Size: 120, Timeout: time.Hour}, func(r probe.Result) { got++ })
			w.RunFor(time.Millisecond)
			b := (*packets)[0]
			at, from, next := 2, addr("10.1.0.1"), uint8(icmp.Proto4)
			if dst.Is6() {
				at, from, next = 4, addr("fd01::1"), icmp.Proto6
			}
			send := func(quote []byte) {
				m := expired(quote)
				if dst.Is6() {
					m[0] = icmp.TypeTimeExceeded6
					icmp.SetChecksum6(m, from, addr("fd00::1"))
				}
				w.inject(from, next, m)
			}
			right := binary.BigEndian.Uint16(b[at:])
			for _, n := range []uint16{0, 1, right - 1, right + 1, right ^ 0x8000, 0xffff} {
				c := slices.Clone(b)
				binary.BigEndian.PutUint16(c[at:], n)
				send(c)
				if got != 0 {
					t.Fatalf("%v to %v: %d bytes for %d accepted", proto, dst, n, right)
				}
			}
			for n := range len(b) - 80 {
				send(b[:n][:min(n, 27)]) // less than eight bytes behind the header
			}
			if got != 0 {
				t.Errorf("%v to %v: a truncated quote accepted", proto, dst)
			}
			if send(b); got != 1 {
				t.Errorf("%v to %v: the true one is not accepted: %v", proto, dst, w.p.Counters())
			}
		}
	}
}

// TestManyRouters: whoever answers from ever new addresses is remembered as far
// as the bound of a hop.
func TestManyRouters(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	n := 0
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if n++; back {
			w.routers[1].Addr4 = addr(fmt.Sprintf("10.9.%d.%d", n>>8&255, n&255))
		}
		return b
	}
	r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4)}, Cycles: 400, Interval: 10 * time.Millisecond})
	if h := r.Hops[1]; len(h.Hosts) != 128 || h.Received != 400 {
		t.Errorf("%d hosts of %d answers", len(h.Hosts), h.Received)
	}
}

// TestTraceLabels: a whole trace through routers that add labels behind quotes of
// odd lengths, named and not.
func TestTraceLabels(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		w := newWorld(t, 5, probe.Options{})
		w.listen(81)
		for i, length := range []int{0, 136, 64, 256, 128} {
			w.routers[i].Length = length
			w.routers[i].Objects = []byte{0, 8, 1, 1, 0, byte(i), 0x41, 1}
		}
		for _, proto := range []probe.Proto{probe.ICMP, probe.UDP, probe.TCP} {
			r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Proto: proto, Size: 100, DstPort: 81}, Cycles: 2})
			if !r.Reached() || len(r.Hops) != 6 {
				t.Fatalf("%v: %v", proto, r.End)
			}
			for i, h := range r.Hops[:5] {
				want := icmp.MPLSLabel{Label: uint32(i<<4 | 4), TC: 0, Bottom: true, TTL: 1}
				if x, _ := h.Most(); len(x.Extensions.MPLS) != 1 || x.Extensions.MPLS[0] != want || len(x.Changes) != 0 {
					t.Errorf("%v, hop %d: %+v, %v", proto, i+1, x.Extensions.MPLS, x.Changes)
				}
			}
		}
	})
}

// FuzzWithin throws segments and errors at a host that probes within a
// connection: what is accepted has the number of the probe in it, and nothing ends
// the connection but what may.
func FuzzWithin(f *testing.F) {
	f.Add(uint8(1), []byte{11, 0, 0, 0, 0, 0, 0, 0, 0x45})
	f.Add(uint8(6), make([]byte, 32))
	f.Fuzz(func(t *testing.T, proto uint8, message []byte) {
		if len(message) > 1400 {
			return
		}
		w := newWorld(t, 1, probe.Options{})
		near, _ := w.connect(addr(far4), w.listen(80), 80)
		if err := w.p.Adopt(near); err != nil {
			t.Fatal(err)
		}
		sent := w.silence()
		w.p.Send(probe.Request{Proto: probe.TCP, Within: near, Timeout: time.Hour}, func(r probe.Result) {
			// Its number, or that of the byte behind it, is quoted or reported.
			if b := (*sent)[0]; r.Kind != probe.Closed && !bytes.Contains(message, b[24:28]) && !bytes.Contains(message, b[4:6]) {
				t.Errorf("%v from % x", r.Kind, message)
			}
		})
		w.RunFor(time.Millisecond)
		m := slices.Clone(message)
		switch {
		case proto == icmp.Proto4 && len(m) >= 8:
			icmp.SetChecksum4(m)
		case proto == 6 && len(m) >= 20:
			// Of the connection, whatever else it says.
			b := (*sent)[0]
			copy(m, []byte{b[22], b[23], b[20], b[21]})
			fixTCP(m, addr(far4), addr("10.0.0.1"))
		}
		w.inject(addr(far4), proto, m)
	})
}
