package probe_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack/simnet"
)

// told are the findings as "TTL>TTL kind text".
func told(r *probe.TraceResult) (list []string) {
	for _, f := range r.Findings() {
		list = append(list, string(rune('0'+f.After))+">"+string(rune('0'+f.TTL))+" "+f.Kind.String()+": "+f.String())
	}
	return list
}

// TestFindings: bleached, clamped, translated and marked, each named at the
// first hop that shows it.
func TestFindings(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		tos := func(f func(old byte) byte) func(b []byte) {
			return func(b []byte) {
				if b[0]>>4 == 4 {
					b[1] = f(b[1])
					simnet.SetIPChecksum(b)
				} else {
					v := f(b[0]<<4 | b[1]>>4)
					b[0], b[1] = 0x60|v>>4, v<<4|b[1]&15
				}
			}
		}
		mss := func(to uint16) func(b []byte) {
			return func(b []byte) {
				at := 20
				var src, dst netip.Addr
				if b[0]>>4 == 6 {
					at, src, dst = 40, netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
				} else {
					src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
				}
				if len(b) > at+24 && b[at+20] == 2 {
					if binary.BigEndian.PutUint16(b[at+22:], to); to == 0 {
						b[at+20], b[at+21], b[at+22], b[at+23] = 1, 1, 1, 1
					}
					fixTCP(b[at:], src, dst)
				}
			}
		}
		limit := "1460"
		if dst.Is6() {
			limit = "1440"
		}
		for _, c := range []struct {
			name  string
			proto probe.Proto
			f     func(b []byte)
			want  []string
		}{
			{"nothing", probe.TCP, func([]byte) {}, nil},
			{"bleach", probe.UDP, tos(func(o byte) byte { return o & 3 }), []string{"2>3 dscp: DSCP bleached from 46"}},
			{"remark", probe.UDP, tos(func(o byte) byte { return o&3 | 8<<2 }), []string{"2>3 dscp: DSCP changed from 46 to 8"}},
			{"both", probe.ICMP, tos(func(byte) byte { return 0 }), []string{"2>3 dscp: DSCP bleached from 46", "2>3 ecn: ECN changed from ECT(0) to Not-ECT"}},
			{"mark", probe.UDP, tos(func(o byte) byte { return o | 3 }), []string{"2>3 congestion: ECN marked: congestion"}},
			{"clamp", probe.TCP, mss(1300), []string{"2>3 mss: MSS clamped from " + limit + " to 1300"}},
			{"strip", probe.TCP, mss(0), []string{"2>3 mss: MSS " + limit + " taken out"}},
		} {
			w := newWorld(t, 4, probe.Options{})
			w.listen(80)
			w.routers[1].Mangle = func(b []byte, back bool) []byte {
				if !back {
					c.f(b)
				}
				return b
			}
			r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Proto: c.proto, TOS: 46<<2 | 2}, Cycles: 2})
			if got := told(&r); !r.Reached() || !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, %q", c.name, r.End, got)
			}
		}
	})
}

// TestFindingDF: a router that clears DF.
func TestFindingDF(t *testing.T) {
	w := newWorld(t, 3, probe.Options{})
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if !back {
			b[6] &^= 0x40
			simnet.SetIPChecksum(b)
		}
		return b
	}
	r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4), DF: true}, Cycles: 1})
	if got := told(&r); !slices.Equal(got, []string{"1>2 df: DF cleared"}) {
		t.Errorf("%q", got)
	}
}

// translate makes the first router an address translator.
func (w *world) translate() {
	inside, outside := addr("10.0.0.1"), addr("10.1.0.100")
	w.routers[0].RouteSegment("10.1.0.100/32")
	for i, r := range w.routers[1:] {
		r.Route("10.1.0.100/32", w.routers[i])
	}
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if !back {
			simnet.Translate(b, inside, outside)
			return b
		}
		if b[9] == icmp.Proto4 && len(b) >= 48 && (b[20] == icmp.TypeTimeExceeded4 || b[20] == icmp.TypeUnreachable4) {
			inner := b[28:]
			copy(inner[12:16], inside.AsSlice())
			simnet.SetIPChecksum(inner)
			icmp.SetChecksum4(b[20:])
		}
		simnet.Translate(b, outside, inside)
		return b
	}
}

// TestFindingNAT: a whole trace through an address translator, which is named.
func TestFindingNAT(t *testing.T) {
	for _, proto := range []probe.Proto{probe.UDP, probe.TCP} {
		w := newWorld(t, 4, probe.Options{})
		w.listen(80)
		w.translate()
		r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4), Proto: proto}, Cycles: 3})
		want := []string{"1>2 nat: address translation"}
		if proto == probe.TCP {
			// It clamps as well, and its checksum shows both.
			there := w.routers[0].Mangle
			w.routers[0].Mangle = func(b []byte, back bool) []byte {
				b = there(b, back)
				if !back && len(b) > 44 && b[40] == 2 {
					binary.BigEndian.PutUint16(b[42:], 1200)
					fixTCP(b[20:], netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])))
				}
				return b
			}
			r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4), Proto: proto}, Cycles: 1})
			if got := told(&r); !slices.Equal(got, []string{"1>2 mss: MSS clamped from 1460 to 1200", want[0]}) {
				t.Errorf("clamped and translated: %q", got)
			}
			w.routers[0].Mangle = there
		}
		if got := told(&r); !r.Reached() || len(r.Hops) != 5 || !slices.Equal(got, want) {
			t.Errorf("%v: %v, %d hops, %q", proto, r.End, len(r.Hops), got)
		}
	}
}

// TestFindingLimited: a router that limits its errors is told apart from one that
// loses packets.
func TestFindingLimited(t *testing.T) {
	w := newWorld(t, 4, probe.Options{})
	w.routers[1].Limit = 2
	q := probe.TraceRequest{Request: probe.Request{Dst: addr(far4)}, Cycles: 40, Interval: 100 * time.Millisecond}
	r := w.trace(q)
	if got := told(&r); !slices.Equal(got, []string{"0>2 limited: limits its errors: at most 0.0% are lost there"}) {
		t.Errorf("%q, loss %v", got, r.Hops[1].Loss())
	}
	// The second loses one in three, and the third is limited besides.
	w = newWorld(t, 4, probe.Options{})
	w.routers[2].Limit = 2
	n := 0
	w.routers[1].Mangle = func(b []byte, back bool) []byte {
		if n++; !back && w.Rand().IntN(3) == 0 {
			return nil
		}
		return b
	}
	r = w.trace(q)
	var limited []int
	for _, f := range r.Findings() {
		if f.Kind == probe.FindLimited {
			limited = append(limited, f.TTL)
			if f.Through < 15 || f.Through > 50 {
				t.Errorf("at most %v%% lost", f.Through)
			}
		}
	}
	if !slices.Equal(limited, []int{3}) || r.Hops[3].Loss() < 15 || r.Hops[1].Loss() != 0 {
		t.Errorf("limited %v, loss %v %v %v %v", limited, r.Hops[1].Loss(), r.Hops[2].Loss(), r.Hops[3].Loss(), r.Hops[4].Loss())
	}
}

// TestFindingBack: answers that come by a longer way are told apart.
func TestFindingBack(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		w := newWorld(t, 4, probe.Options{})
		r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst}, Cycles: 1})
		for i, h := range r.Hops {
			if x, _ := h.Most(); x.Back() != i+1 {
				t.Errorf("hop %d: %d hops back", i+1, x.Back())
			}
		}
		if len(r.Findings()) != 0 {
			t.Errorf("%q", told(&r))
		}
		// From the third router on packets go back by two others.
		var way []*simnet.Router
		for i := range 2 {
			way = append(way, w.Router("10.3.0."+string(rune('1'+i)), "fd03::"+string(rune('1'+i))))
		}
		way[0].Connect(way[1], line, 1500)
		way[1].Connect(w.routers[1], line, 1500)
		w.routers[2].Connect(way[0], line, 1500)
		for _, p := range []string{"10.0.0.0/25", "fd00::/65"} {
			w.routers[2].Route(p, way[0])
			way[0].Route(p, way[1])
			way[1].Route(p, w.routers[1])
		}
		r = w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst}, Cycles: 1})
		if got := told(&r); !r.Reached() || !slices.Equal(got, []string{"0>3 asymmetric: the way back is 5 hops"}) {
			t.Errorf("%v %q", r.End, got)
		}
	})
	for ttl, want := range map[uint8]int{0: 0, 64: 1, 60: 5, 65: 64, 128: 1, 120: 9, 255: 1, 240: 16} {
		if h := (probe.Host{ReplyTTL: ttl}); h.Back() != want {
			t.Errorf("TTL %d: %d hops, want %d", ttl, h.Back(), want)
		}
	}
}

// TestLoop: who is in it.
func TestLoop(t *testing.T) {
	w := newWorld(t, 5, probe.Options{})
	w.routers[3].Route("8.0.0.0/8", w.routers[2])
	r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4), Timeout: time.Second}, Cycles: 1})
	var names []string
	for _, a := range r.Loop() {
		names = append(names, a.String())
	}
	if got := strings.Join(names, " "); r.End != probe.EndLoop || got != "10.1.0.3 10.1.0.4 10.1.0.3" {
		t.Errorf("%v: %s", r.End, got)
	}
}
