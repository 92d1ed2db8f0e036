package tcp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// watched plays a script and returns what the connection tells from the moment
// it is open, without metrics.
func watched(t *testing.T, open, script string) (told []string) {
	t.Helper()
	tr := run(t, open)
	tr.c.SetTrace(tr.now, func(e *TraceEvent) {
		switch e.Kind {
		case TraceState:
			told = append(told, e.From+" > "+e.To)
		case TracePhase:
			told = append(told, fmt.Sprintf("%s > %s: %s", e.From, e.To, e.Reason))
		case TraceLost, TraceRetransmit, TraceProbe:
			told = append(told, fmt.Sprintf("%v %d:%d: %s", e.Kind, e.Seq, e.End, e.Reason))
		case TraceTimer:
			told = append(told, "timer "+e.Reason)
		case TraceRTT:
			told = append(told, "rtt "+e.RTT.String())
		}
	}, false)
	tr.play(script)
	return told
}

// Everything that is sent again is told with its reason.
func TestTraceReasons(t *testing.T) {
	for _, c := range []struct{ name, open, script, want string }{
		{"RACK and a spurious repair", openedTS + ten, `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:4001>
			> . 1:1001(1000) ack 1
			+10ms < . 1:1(0) ack 10001 <nop,nop,TS val 5110 ecr 200>
		`, `CLOSED > ESTABLISHED; rtt 100ms; lost 1:1001: rack; open > recovery: rack; retransmit 1:1001: rack; rtt 110ms; recovery > open: spurious`},
		{"the reordering timer", openedSACK + ten, `
			+100ms < . 1:1(0) ack 1 <sack 1001:3001>
			+25ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 10001
		`, `CLOSED > ESTABLISHED; rtt 100ms; timer reordering; lost 1:1001: rack; open > recovery: rack; retransmit 1:1001: rack; recovery > open: repaired`},
		{"probe and time-out", openedSACK + ten, `
			+202ms > P. 9001:10001(1000) ack 1
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 10001
		`, `CLOSED > ESTABLISHED; timer tail-loss-probe; retransmit 9001:10001: tail-loss-probe; timer retransmission; open > loss: rto; lost 1:10001: rto; retransmit 1:1001: rto; rtt 602ms; loss > open: spurious`},
		{"probe with new text", openedSACK + `write 20000
			` + expectRun(">", ".", 1, 1000, 10, "ack 1"), `
			+202ms > . 10001:11001(1000) ack 1
			+100ms < . 1:1(0) ack 11001
			` + expectRun(">", ".", 11001, 1000, 8, "ack 1") + `
			> P. 19001:20001(1000) ack 1
		`, `CLOSED > ESTABLISHED; timer tail-loss-probe; probe 10001:11001: tail-loss-probe; rtt 302ms`},
		{"duplicate and partial ACKs", opened + `write 7300
			` + expectRun(">", ".", 1, 1460, 4, "ack 1") + `
			> P. 5841:7301(1460) ack 1
			`, `
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			> . 1:1461(1460) ack 1
			< . 1:1(0) ack 2921
			> . 2921:4381(1460) ack 1
			< . 1:1(0) ack 7301
		`, `CLOSED > ESTABLISHED; open > recovery: duplicate-acks; lost 1:1461: duplicate-acks; retransmit 1:1461: duplicate-acks; lost 2921:4381: partial-ack; retransmit 2921:4381: partial-ack; recovery > open: repaired`},
		{"the path's MTU", opened + `write 1460
			> P. 1:1461(1460) ack 1
			`, `
			mtu 1000 at 1
			> . 1:961(960) ack 1
			> P. 961:1461(500) ack 1
			< . 1:1(0) ack 1461
		`, `CLOSED > ESTABLISHED; open > loss: path-mtu; lost 1:1461: path-mtu; retransmit 1:961: path-mtu; retransmit 961:1461: path-mtu; loss > open: repaired`},
		{"the SYN", `
			connect
			> S 0:0(0)
			`, `
			+1s > S 0:0(0)
			+100ms < S. 0:0(0) ack 1
			> . 1:1(0) ack 1
			shutdown
			> F. 1:1(0) ack 1
			< F. 1:1(0) ack 2
			> . 2:2(0) ack 2
		`, `CLOSED > SYN-SENT; timer retransmission; retransmit 0:1: syn; SYN-SENT > ESTABLISHED; ESTABLISHED > FIN-WAIT-1; FIN-WAIT-1 > FIN-WAIT-2; FIN-WAIT-2 > TIME-WAIT`},
	} {
		told := watched(t, c.open, c.script)
		// The ACK clock without SACK is not this test's matter.
		told = slices.DeleteFunc(told, func(s string) bool { return strings.HasPrefix(s, "rtt 1ns") })
		if got := strings.Join(told, "; "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// The metrics are told when they change, after everything that changed them.
func TestTraceMetrics(t *testing.T) {
	tr := run(t, openedSACK+ten)
	var last TraceMetricSet
	n := 0
	tr.c.SetTrace(tr.now, func(e *TraceEvent) {
		if e.Kind == TraceMetrics {
			if n++; e.Metrics == last {
				t.Errorf("nothing new: %+v", last)
			}
			last = e.Metrics
		}
	}, false)
	tr.play("+100ms < . 1:1(0) ack 4001 <sack 5001:9001>\n> . 4001:5001(1000) ack 1")
	i := tr.c.Info()
	want := TraceMetricSet{Cwnd: i.Cwnd, Ssthresh: i.Ssthresh, InFlight: i.InFlight, SACKed: i.SACKed, Lost: i.Lost, SndWnd: i.SndWnd,
		SRTT: i.RTT, RTTVar: i.RTTVar, MinRTT: i.MinRTT, RTO: i.RTO}
	if last != want || n != 2 {
		t.Errorf("told %d times, last %+v, want %+v", n, last, want)
	}
}

// A segment that is told of may be kept, except for its payload.
func TestTraceSegments(t *testing.T) {
	tr := run(t, openedSACK)
	var told []string
	tr.c.SetTrace(tr.now, func(e *TraceEvent) {
		if e.Segment != nil {
			told = append(told, fmt.Sprintf("%v %v %s", e.Kind, e.Segment, e.Reason))
		}
	}, true)
	tr.play(`
		write 10
		> P. 1:11(10) ack 1
		+100ms < . 1:1(0) ack 11
		< . 1:1(0) ack 99
		drop bad-ack
		> . 11:11(0) ack 1
	`)
	want := []string{"sent P. 1:11(10) ack 1 win 65535 ", "received . 1:1(0) ack 11 win 65535 none",
		"received . 1:1(0) ack 99 win 65535 bad-ack", "sent . 11:11(0) ack 1 win 65535 "}
	if !slices.Equal(told, want) {
		t.Errorf("%q", told)
	}
	tr.c.SetTrace(tr.now, nil, false)
	tr.play("write 10\n> P. 11:21(10) ack 1")
	if len(told) != len(want) {
		t.Error("told after the end")
	}
}

// What holds the sender back is timed, each for itself.
func TestLimitClocks(t *testing.T) {
	tr := run(t, `
		config sndbuf=3000
		connect
		> S 0:0(0)
		+100ms < S. 0:0(0) ack 1 win 2000 <mss 1000,sackOK>
		> . 1:1(0) ack 1
		+1s
		write 1000
		> P. 1:1001(1000) ack 1
		+100ms < . 1:1(0) ack 1001 win 2000
		+1s
		write 3000
		> . 1001:2001(1000) ack 1
		> P. 2001:3001(1000) ack 1
		+100ms < . 1:1(0) ack 3001 win 2000
		> P. 3001:4001(1000) ack 1
		+50ms
		write 3000 = 2000
		> . 4001:5001(1000) ack 1
	`)
	at := func(busy, rwnd, sndbuf time.Duration) {
		t.Helper()
		if i := tr.c.InfoAt(tr.now); i.BusyTime != busy || i.RwndLimited != rwnd || i.SndbufLimited != sndbuf {
			t.Errorf("busy %v, rwnd %v, sndbuf %v; want %v %v %v", i.BusyTime, i.RwndLimited, i.SndbufLimited, busy, rwnd, sndbuf)
		}
	}
	// 100 ms for the first, 100 with a window of two segments for three, 50 for the last.
	at(250*ms, 100*ms, 0)
	// The peer's window is full, and one segment waits for it.
	tr.play("+10ms")
	at(260*ms, 110*ms, 0)
	// It opens: all is sent, but the writer has more than fits the buffer.
	tr.play(`
		< . 1:1(0) ack 3001 win 9000
		> P. 5001:6001(1000) ack 1
		+30ms
	`)
	at(290*ms, 110*ms, 30*ms)
	tr.play("< . 1:1(0) ack 6001 win 9000\n+10s")
	at(290*ms, 110*ms, 30*ms)
}

// Time-outs in a row are one episode, which ends with progress.
func TestTimeoutEpisodes(t *testing.T) {
	tr := run(t, openedSACK+`
		write 1000
		> P. 1:1001(1000) ack 1
		+300ms > P. 1:1001(1000) ack 1 // a probe
		+300ms > P. 1:1001(1000) ack 1
		+600ms > P. 1:1001(1000) ack 1
		+100ms < . 1:1(0) ack 1001
		write 1000
		> P. 1001:2001(1000) ack 1
	`)
	if i := tr.c.InfoAt(tr.now); i.Timeouts != 2 || i.TimeoutEpisodes != 1 || i.TimeoutTime != 700*ms || i.BytesResent != 3000 ||
		i.Delivered != 2 || i.LastAckIn != 0 || i.DataSegsOut != 5 {
		t.Errorf("%+v", i)
	}
}
