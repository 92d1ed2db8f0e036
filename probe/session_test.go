package probe_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack/simnet"
)

// ping runs one to its end.
func (w *world) ping(q probe.PingRequest, on func(probe.PingPacket)) probe.PingResult {
	w.t.Helper()
	var r probe.PingResult
	done := false
	w.p.StartPing(q, on, func(x probe.PingResult) { r, done = x, true })
	if !w.Until(time.Hour, func() bool { return done }) {
		w.t.Fatal("ping has no end")
	}
	return r
}

func (w *world) trace(q probe.TraceRequest) probe.TraceResult {
	w.t.Helper()
	var r probe.TraceResult
	done := false
	w.p.StartTrace(q, nil, func(x probe.TraceResult) { r, done = x, true })
	if !w.Until(time.Hour, func() bool { return done }) {
		w.t.Fatal("trace has no end")
	}
	return r
}

func TestPing(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		w := newWorld(t, 2, probe.Options{})
		q := probe.PingRequest{Request: probe.Request{Dst: dst}, Count: 5, Data: 56}
		start := w.Now()
		var seqs []int
		r := w.ping(q, func(x probe.PingPacket) {
			if x.Kind == probe.Reply && x.ReplySize == 64 {
				seqs = append(seqs, x.Seq)
			}
		})
		if r.Sent != 5 || r.Received != 5 || r.Stats.Best != 2*line || r.Stats.Dev() != 0 || !slices.Equal(seqs, []int{1, 2, 3, 4, 5}) {
			t.Errorf("%+v, %v", r, seqs)
		}
		if d := w.Now().Sub(start); d != 4*time.Second+2*line || r.Elapsed != d {
			t.Errorf("took %v, says %v", d, r.Elapsed)
		}

		// One is lost, one is damaged, one comes twice, one late.
		n := 0
		w.routers[0].Mangle = func(b []byte, back bool) []byte {
			if !back {
				return b
			}
			switch n++; n {
			case 1:
				return nil
			case 4:
				b[len(b)-1] ^= 1
				fixEcho(b)
			case 3:
				w.routers[0].Inject(slices.Clone(b))
			case 2:
				w.After(1500*time.Millisecond, func() { w.routers[0].Inject(b) })
				return nil
			}
			return b
		}
		q.Timeout = time.Second
		outstanding := []int{}
		var damaged int
		r = w.ping(q, func(x probe.PingPacket) {
			if x.Outstanding {
				outstanding = append(outstanding, x.Seq)
			} else if x.CorruptAt >= 0 {
				damaged = x.CorruptAt
			}
		})
		if r.Sent != 5 || r.Received != 4 || r.Lost() != 1 || r.Duplicates != 1 || r.Late != 1 || r.Corrupt != 1 || damaged != 55 {
			t.Errorf("%+v, damage at %d", r, damaged)
		}
		if !slices.Equal(outstanding, []int{1, 2}) {
			t.Errorf("outstanding %v", outstanding)
		}

		// TTL 1: errors, no replies.
		w.routers[0].Mangle = nil
		q.TTL = 1
		r = w.ping(q, func(x probe.PingPacket) {
			if x.Kind == probe.TTLExpired && x.From != router(1) {
				t.Errorf("from %v", x.From)
			}
		})
		if r.Received != 0 || r.Errors != 5 {
			t.Errorf("TTL 1: %+v", r)
		}
	})
}

// fixEcho makes an echo reply's checksum right again.
func fixEcho(b []byte) {
	if b[0]>>4 == 4 {
		simnet.SetICMPChecksum(b[20:], netip.Addr{}, netip.Addr{})
	} else {
		simnet.SetICMPChecksum(b[40:], netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])))
	}
}

func TestPingPaces(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	q := probe.PingRequest{Request: probe.Request{Dst: addr(far4)}, Count: 1000, Flood: true}
	start := w.Now()
	if r := w.ping(q, nil); r.Received != 1000 || w.Now().Sub(start) > 1000*2*line+time.Second {
		t.Errorf("flood: %d in %v", r.Received, w.Now().Sub(start))
	}
	var sizes []int
	w.ping(probe.PingRequest{Request: probe.Request{Dst: addr(far4)}, Count: 5, Data: 10, DataTo: 30, DataStep: 10}, func(x probe.PingPacket) { sizes = append(sizes, x.ReplySize-8) })
	if !slices.Equal(sizes, []int{10, 20, 30, 10, 20}) {
		t.Errorf("sweep: %v", sizes)
	}
	start = w.Now()
	if r := w.ping(probe.PingRequest{Request: probe.Request{Dst: addr(far4)}, Deadline: 3500 * time.Millisecond}, nil); r.Sent != 4 || w.Now().Sub(start) != 3500*time.Millisecond {
		t.Errorf("deadline: %d in %v", r.Sent, w.Now().Sub(start))
	}
	// Nobody there: the last is waited for as long as was said.
	start = w.Now()
	if r := w.ping(probe.PingRequest{Request: probe.Request{Dst: addr("8.8.8.9"), Timeout: 4 * time.Second}, Count: 2}, nil); r.Lost() != 2 || w.Now().Sub(start) != 5*time.Second {
		t.Errorf("nobody: %d in %v", r.Lost(), w.Now().Sub(start))
	}
	q = probe.PingRequest{Request: probe.Request{Dst: addr("192.0.2.1"), Src: addr("192.0.2.2")}, Count: 2}
	if r := w.ping(q, nil); r.Err == nil || r.Received != 0 {
		t.Errorf("from a foreign address: %+v", r)
	}
	w.ping(probe.PingRequest{Request: probe.Request{Dst: addr(far4), DF: true}, Data: 2000, Count: 1}, func(x probe.PingPacket) {
		if x.Kind != probe.MessageSize {
			t.Errorf("2000 bytes with DF: %v", x.Kind)
		}
	})
}

func TestStats(t *testing.T) {
	var s probe.Stats
	for _, ms := range []int{10, 20, 30, 40} {
		s.Add(time.Duration(ms) * time.Millisecond)
	}
	for _, c := range []struct {
		name string
		got  time.Duration
		want string
	}{
		{"avg", s.Avg(), "25ms"}, {"mdev", s.Dev(), "11.18034ms"}, {"stdev", s.SampleDev(), "12.909944ms"},
		{"gmean", s.GMean(), "22.133638ms"}, {"jitter", s.JitterAvg(), "10ms"}, {"p50", s.Percentile(50), "20ms"},
		{"p95", s.Percentile(95), "40ms"}, {"p0", s.Percentile(0), "10ms"},
	} {
		if c.got.String() != c.want {
			t.Errorf("%s is %v, want %s", c.name, c.got, c.want)
		}
	}
	if z := (&probe.Stats{}); z.Avg() != 0 || z.Dev() != 0 || z.Percentile(50) != 0 || z.GMean() != 0 {
		t.Error("figures of nothing")
	}
}

func TestTrace(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
			w := newWorld(t, 5, probe.Options{})
			w.listen(80)
			w.routers[2].Silent = true
			r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Proto: proto}, Cycles: 3})
			if !r.Reached() || len(r.Hops) != 6 || r.Err != nil {
				t.Fatalf("%v: %v with %d hops, %v", proto, r.End, len(r.Hops), r.Err)
			}
			for i, h := range r.Hops {
				want := router(i + 1)
				if i == 5 {
					want = dst
				}
				if i == 2 {
					if len(h.Hosts) != 0 || h.Loss() != 100 || h.Sent != 3 {
						t.Errorf("%v, the silent hop: %+v", proto, h)
					}
					continue
				}
				if len(h.Hosts) != 1 || h.Hosts[0].Addr != want || h.Sent != 3 || h.Loss() != 0 || h.Stats.Avg() != 2*time.Duration(min(i, 4))*line {
					t.Errorf("%v, hop %d: %+v", proto, i+1, h)
				}
			}
		}
	})
}

func TestTraceEnds(t *testing.T) {
	dst := addr(far4)
	for _, c := range []struct {
		name string
		how  func(w *world)
		want probe.EndReason
		hops int
	}{
		{"a loop", func(w *world) { w.routers[2].Route("8.0.0.0/8", w.routers[1]) }, probe.EndLoop, 30},
		{"silence", func(w *world) {
			for _, r := range w.routers[2:] {
				r.Silent = true
			}
			w.routers[2].Route("8.0.0.0/8")
		}, probe.EndSilent, 14},
		{"no route", func(w *world) { w.routers[2].Refuse = true; w.routers[2].Route("8.0.0.0/8") }, probe.EndUnreachable, 4},
	} {
		w := newWorld(t, 4, probe.Options{})
		c.how(w)
		r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Timeout: 2 * time.Second}, Cycles: 1})
		if r.End != c.want || len(r.Hops) != c.hops {
			t.Errorf("%s: %v after %d hops", c.name, r.End, len(r.Hops))
		}
	}
	w := newWorld(t, 4, probe.Options{})
	if r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst}, MaxTTL: 3, FirstTTL: 2}); r.End != probe.EndMaxTTL || len(r.Hops) != 2 || r.Hops[0].TTL != 2 {
		t.Errorf("from TTL 2 to 3: %+v", r)
	}
	if r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Src: addr("10.9.9.9")}}); r.End != probe.EndFailed || r.Err == nil {
		t.Errorf("foreign source: %+v", r)
	}
}

// TestRateLimit: a router that sends few errors loses nothing of what goes
// through it, and the loss is seen at its hop only.
func TestRateLimit(t *testing.T) {
	w := newWorld(t, 3, probe.Options{})
	w.routers[1].Limit = 1
	r := w.trace(probe.TraceRequest{Request: probe.Request{Dst: addr(far4)}, Cycles: 10, Interval: 100 * time.Millisecond})
	if l := r.Hops[1].Loss(); l < 50 || r.Hops[0].Loss() != 0 || r.Hops[2].Loss() != 0 || r.Hops[3].Loss() != 0 {
		t.Errorf("loss %v, %v, %v, %v", r.Hops[0].Loss(), l, r.Hops[2].Loss(), r.Hops[3].Loss())
	}
}

// diamond puts n routers in parallel between the first and the last of w.
func (w *world) diamond(n int) {
	first, last := w.routers[0], w.routers[len(w.routers)-1]
	var middle []*simnet.Router
	for i := range n {
		m := w.Router(fmt.Sprintf("10.2.0.%d", i+1), fmt.Sprintf("fd02::%d", i+1))
		first.Connect(m, line, 1500)
		m.Connect(last, line, 1500)
		for _, p := range []string{"10.0.0.0/24", "fd00::/64"} {
			m.Route(p, first)
		}
		for _, p := range []string{"8.0.0.0/8", "2001:db8::/32"} {
			m.Route(p, last)
		}
		middle = append(middle, m)
	}
	first.Route("8.0.0.0/8", middle...)
	first.Route("2001:db8::/32", middle...)
	w.routers = append(w.routers, middle...)
}

// TestPaths: 16 ways are found; a trace of one flow sees one of them.
func TestPaths(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		for _, proto := range []probe.Proto{probe.ICMP, probe.UDP, probe.TCP} {
			w := newWorld(t, 2, probe.Options{})
			w.diamond(16)
			var r probe.PathsResult
			done := false
			w.p.StartPaths(probe.PathsRequest{Request: probe.Request{Dst: dst, Proto: proto, DstPort: 81}}, func(x probe.PathsResult) { r, done = x, true })
			if !w.Until(time.Hour, func() bool { return done }) {
				t.Fatal("no end")
			}
			count := map[int]int{}
			for _, n := range r.Nodes {
				if n.Addr.IsValid() {
					count[n.TTL]++
				}
			}
			if r.Width != 16 || count[1] != 1 || count[2] != 16 || count[3] != 1 || !r.Reached || !r.Complete {
				t.Errorf("%v: width %d, %v, %d probes, reached %v, complete %v, %v", proto, r.Width, count, r.Probes, r.Reached, r.Complete, r.Err)
			}
			if n := len(r.Edges); n < 32 {
				t.Errorf("%v: %d edges", proto, n)
			}
			tr := w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Proto: proto, DstPort: 81}, Cycles: 5})
			if len(tr.Hops) != 4 || len(tr.Hops[1].Hosts) != 1 || !tr.Reached() {
				t.Errorf("%v: a trace sees %+v", proto, tr.Hops)
			}
			tr = w.trace(probe.TraceRequest{Request: probe.Request{Dst: dst, Proto: proto, DstPort: 81}, Cycles: 20, Classic: true})
			if len(tr.Hops) != 4 || len(tr.Hops[1].Hosts) < 5 {
				t.Errorf("%v: a classic trace sees %+v", proto, tr.Hops)
			}
		}
	})
}

// TestPathsSilent: what does not answer is gone through, and flows are few.
func TestPathsSilent(t *testing.T) {
	w := newWorld(t, 4, probe.Options{})
	w.routers[1].Silent = true
	var r probe.PathsResult
	done := false
	w.p.StartPaths(probe.PathsRequest{Request: probe.Request{Dst: addr(far4)}}, func(x probe.PathsResult) { r, done = x, true })
	w.Until(time.Hour, func() bool { return done })
	if !r.Reached || !r.Complete || r.Width != 1 || len(r.Nodes) != 5 || r.Nodes[1].Addr.IsValid() {
		t.Errorf("%+v", r)
	}
	done = false
	w.diamond(8)
	w.p.StartPaths(probe.PathsRequest{Request: probe.Request{Dst: addr(far4)}, MaxFlows: 5}, func(x probe.PathsResult) { r, done = x, true })
	w.Until(time.Hour, func() bool { return done })
	if r.Complete {
		t.Error("complete with 5 flows for 8 ways")
	}
}

// TestFlows: the stopping points that are published for 95 %.
func TestFlows(t *testing.T) {
	for k, want := range []int{6, 6, 11, 16, 21, 27, 33, 38, 44, 51, 57, 63, 70, 76, 83, 90, 96} {
		if got := probe.Flows(k, 0.95); got != want {
			t.Errorf("%d next routers: %d flows, want %d", k, got, want)
		}
	}
}

func TestMTU(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		for _, proto := range []probe.Proto{probe.ICMP, probe.UDP} {
			w := newWorld(t, 4, probe.Options{})
			mtu := func() (r probe.MTUResult) {
				done := false
				w.p.StartMTU(probe.MTURequest{Request: probe.Request{Dst: dst, Proto: proto, DstPort: 81, Timeout: time.Second}}, func(x probe.MTUResult) { r, done = x, true })
				if !w.Until(time.Hour, func() bool { return done }) {
					t.Fatal("no end")
				}
				return r
			}
			if r := mtu(); r.MTU != 1500 || r.Probes != 1 || len(r.Hops) != 0 {
				t.Errorf("a good path: %+v", r)
			}
			w.routers[0].SetMTU(w.routers[1], 1420)
			w.routers[2].SetMTU(w.routers[3], 1313)
			r := mtu()
			if r.MTU != 1313 || len(r.Hops) != 2 || r.Hops[0] != (probe.MTUHop{Addr: router(1), Size: 1500, MTU: 1420}) || r.Hops[1].MTU != 1313 || r.Hops[1].Addr != router(3) || r.BlackHole {
				t.Errorf("%+v", r)
			}
			w.routers[2].BlackHole = true
			if r := mtu(); r.MTU != 1313 || len(r.Hops) != 1 || !r.BlackHole {
				t.Errorf("a black hole: %+v", r)
			}
			w.routers[3].Mangle = func([]byte, bool) []byte { return nil }
			if r := mtu(); r.MTU != 0 || r.BlackHole {
				t.Errorf("nobody: %+v", r)
			}
		}
	})
}

// TestClose: whoever waits is told.
func TestClose(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	ended := 0
	gone := probe.Request{Dst: addr("8.8.8.9")}
	w.p.StartPing(probe.PingRequest{Request: gone}, nil, func(r probe.PingResult) { ended++ })
	w.p.StartTrace(probe.TraceRequest{Request: gone}, nil, func(probe.TraceResult) { ended++ })
	w.p.StartPaths(probe.PathsRequest{Request: gone}, func(probe.PathsResult) { ended++ })
	w.p.StartMTU(probe.MTURequest{Request: gone}, func(probe.MTUResult) { ended++ })
	w.p.Send(gone, func(r probe.Result) {
		if ended++; r.Kind != probe.Closed {
			t.Errorf("%v", r.Kind)
		}
	})
	w.RunFor(100 * time.Millisecond)
	w.near.Close()
	if ended != 5 {
		t.Errorf("%d of 5 were told", ended)
	}
	if r := w.ask(gone); r.Kind != probe.Closed {
		t.Errorf("afterwards: %v", r.Kind)
	}
}
