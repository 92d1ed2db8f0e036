package exporter

// This file owns the modules that send packets of their own making over a
// stack: echo requests, the search for the path MTU, and traces.

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/probe"
)

// packets looks the target up and has its first address probed.
func (e *Exporter) packets(ctx context.Context, s *sheet, q *request) (ok bool, text string) {
	m := q.module
	begin := time.Now()
	addrs, err := e.addresses(ctx, m, q.target.host)
	lookup := time.Since(begin)
	s.lookup(lookup)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		failed(s, "resolve", "")
		return false, err.Error()
	}
	s.address(addrs[0])
	r := probe.Request{Dst: addrs[0], Src: m.source, Proto: m.proto, DstPort: uint16(m.Port), TTL: uint8(m.TTL), TOS: uint8(m.TOS), DF: m.DF}
	begin = time.Now()
	_, err = e.o.Prober.Path(&r)
	setup := time.Since(begin)
	if err != nil {
		failed(s, "connect", errnoName(err))
		return false, err.Error()
	}
	switch m.Prober {
	case ProberMTU:
		return e.mtu(ctx, s, m, r)
	case ProberTrace:
		return e.trace(ctx, s, m, r)
	}
	return e.ping(ctx, s, m, r, lookup, setup)
}

func errnoName(err error) string {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(e)
	}
	return ""
}

// left is the time until ctx ends.
func left(ctx context.Context) time.Duration {
	end, _ := ctx.Deadline()
	return max(time.Until(end), time.Millisecond)
}

// defaultInterval is between echo requests.
const defaultInterval = 200 * time.Millisecond

func (e *Exporter) ping(ctx context.Context, s *sheet, m *Module, r probe.Request, lookup, setup time.Duration) (bool, string) {
	q := probe.PingRequest{Request: r, Count: max(m.Count, 1), Data: cmp.Or(m.Size, 56), Interval: cmp.Or(time.Duration(m.Interval), defaultInterval)}
	q.Timeout = left(ctx)
	var mu sync.Mutex
	hops, fault := 0, ""
	got := e.o.Prober.Ping(ctx, q, func(x probe.PingPacket) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case x.Outstanding:
		case x.Kind == probe.Reply:
			hops = int(x.ReplyTTL)
		case x.Kind != probe.NoReply:
			typ, code, from := "", "", ""
			if x.ICMP {
				typ, code = strconv.Itoa(int(x.ICMPType)), strconv.Itoa(int(x.ICMPCode))
			}
			if x.From.IsValid() {
				from = x.From.String()
			}
			if fault == "" {
				s.set("tapstack_probe_failure_info", "The step that failed, its error, and the ICMP error that said so", 1,
					"phase", "recv", "errno", errnoName(x.Err), "icmp_from", from, "icmp_type", typ, "icmp_code", code)
			}
			fault = textf("%v from %s, type %s code %s", x.Kind, from, typ, code)
		}
	})
	mu.Lock()
	defer mu.Unlock()
	st := &got.Stats
	for _, p := range []struct {
		phase string
		took  time.Duration
	}{{"resolve", lookup}, {"setup", setup}, {"rtt", st.Avg()}} {
		s.seconds("probe_icmp_duration_seconds", "How long each part took; rtt is the mean where several requests are sent", p.took, "phase", p.phase)
	}
	if got.Received > 0 {
		s.set("probe_icmp_reply_hop_limit", "Hop limit or TTL of the last answer", float64(hops))
		s.set("tapstack_probe_reply_hops", "Routers on the way back, if the answer began with 32, 64, 128 or 255", float64(routers(hops)))
		for _, p := range []struct {
			name string
			v    time.Duration
		}{{"min", st.Best}, {"avg", st.Avg()}, {"max", st.Wrst}, {"mdev", st.Dev()}, {"p95", st.Percentile(95)}} {
			s.seconds("tapstack_probe_icmp_rtt_seconds", "Figures of the round trips", p.v, "stat", p.name)
		}
		s.seconds("tapstack_probe_icmp_jitter_seconds", "Mean difference of successive round trips", st.JitterAvg())
	}
	for _, c := range []struct {
		what string
		n    int
	}{{"sent", got.Sent}, {"received", got.Received}, {"duplicate", got.Duplicates}, {"late", got.Late}, {"corrupt", got.Corrupt}, {"error", got.Errors}} {
		s.set("tapstack_probe_icmp_packets", "What became of the requests", float64(c.n), "what", c.what)
	}
	if got.Sent > 0 {
		s.set("tapstack_probe_icmp_loss_ratio", "Share of the requests that were not answered", float64(max(got.Lost(), 0))/float64(got.Sent))
	}
	text := textf("%d sent, %d received, rtt min/avg/max %v/%v/%v", got.Sent, got.Received, st.Best, st.Avg(), st.Wrst)
	if fault != "" {
		text += "; " + fault
	}
	return got.Received > 0, text
}

// routers is how many a packet has passed that began with one of the values that
// hosts use.
func routers(ttl int) int {
	for _, begin := range []int{32, 64, 128, 255} {
		if ttl <= begin {
			return begin - ttl
		}
	}
	return 0
}

func (e *Exporter) mtu(ctx context.Context, s *sheet, m *Module, r probe.Request) (bool, string) {
	q := probe.MTURequest{Request: r, Tries: m.Count}
	// A size that vanishes is tried several times, and there may be ten such.
	q.Timeout = min(max(left(ctx)/20, 50*time.Millisecond), time.Second)
	got := e.o.Prober.MTU(ctx, q)
	over := ctx.Err() != nil
	s.set("tapstack_probe_path_mtu_bytes", "Largest packet that was answered, 0: none was", float64(got.MTU))
	s.truth("tapstack_probe_path_mtu_black_hole", "Whether larger packets vanish without anybody saying so", got.BlackHole)
	s.truth("tapstack_probe_path_mtu_complete", "Whether the search came to its end in time", !over)
	s.set("tapstack_probe_path_mtu_routers", "Routers that refused a size", float64(len(got.Hops)))
	if got.Err != nil {
		failed(s, "send", errnoName(got.Err))
	}
	return got.MTU > 0 && !over, textf("%+v", got)
}

func (e *Exporter) trace(ctx context.Context, s *sheet, m *Module, r probe.Request) (bool, string) {
	r.Size = m.Size
	q := probe.TraceRequest{Request: r, Cycles: max(m.Count, 1), Interval: cmp.Or(time.Duration(m.Interval), defaultInterval)}
	q.Timeout = left(ctx)
	q.Grace = min(time.Second, q.Timeout/2)
	got := e.o.Prober.Trace(ctx, q, nil)
	s.truth("tapstack_probe_reached", "Whether the destination answered", got.Reached())
	s.set("tapstack_probe_trace_end_info", "Why the trace goes no further", 1, "end", got.End.String())
	s.set("tapstack_probe_hops", "Hops that the trace has, to the destination where that was reached", float64(len(got.Hops)))
	var text strings.Builder
	for i := range got.Hops {
		h := &got.Hops[i]
		who := ""
		if n := len(h.Hosts); n > 0 {
			who = h.Hosts[0].Addr.String()
		}
		n := strconv.Itoa(h.TTL)
		s.set("tapstack_probe_hop_loss_ratio", "Share of the probes with this TTL that nobody answered", h.Loss()/100, "hop", n, "address", who)
		if h.Stats.Count > 0 {
			s.seconds("tapstack_probe_hop_rtt_seconds", "Mean round trip to the hop", h.Stats.Avg(), "hop", n, "address", who)
		}
		text.WriteString(textf("%2d %-40s %5.1f%% %v\n", h.TTL, cmp.Or(who, "???"), h.Loss(), h.Stats.Avg()))
	}
	if got.Err != nil {
		failed(s, "send", errnoName(got.Err))
	}
	return got.Reached(), text.String() + got.End.String()
}
