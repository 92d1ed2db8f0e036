package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// events has one of each kind, a millisecond apart.
func events() []*tcp.TraceEvent {
	out := &tcp.Segment{Seq: 1000 + 5, Ack: 2000 + 7, Flags: tcp.FlagACK | tcp.FlagPSH, Window: 50,
		Payload: [2][]byte{make([]byte, 10), make([]byte, 5)}, Options: tcp.Options{HasTS: true, TSVal: 3, TSEcr: 4}}
	in := &tcp.Segment{Seq: 2000 + 7, Ack: 1000 + 5, Flags: tcp.FlagACK, Window: 60, Options: tcp.Options{NumSACK: 1}}
	in.Options.SACK[0] = tcp.SACKBlock{Left: 1000 + 10, Right: 1000 + 20}
	list := []*tcp.TraceEvent{
		{Kind: tcp.TraceState, From: "SYN-SENT", To: "ESTABLISHED"},
		{Kind: tcp.TracePhase, From: "open", To: "recovery", Reason: "rack"},
		{Kind: tcp.TraceLost, Seq: 1, End: 1461, Reason: "rack"},
		{Kind: tcp.TraceRetransmit, Seq: 1, End: 1461, Reason: "rto"},
		{Kind: tcp.TraceProbe, Seq: 1461, End: 1462, Reason: "tail-loss-probe"},
		{Kind: tcp.TraceRTT, RTT: 12345678 * time.Nanosecond},
		{Kind: tcp.TraceMetrics, Metrics: tcp.TraceMetricSet{Cwnd: 10, Ssthresh: 20, SRTT: 5 * time.Millisecond}},
		{Kind: tcp.TraceMetrics, Metrics: tcp.TraceMetricSet{Cwnd: 11, Ssthresh: 20, SRTT: 5 * time.Millisecond, Lost: 4, RTO: time.Second}},
		{Kind: tcp.TraceTimer, Reason: "reordering"},
		{Kind: tcp.TraceSent, Segment: out},
		{Kind: tcp.TraceReceived, Segment: in, Reason: "none"},
		{Kind: tcp.TraceReceived, Segment: in, Reason: "paws"},
		{Kind: tcp.TraceMark},
		{Kind: tcp.TraceICMP, From: "192.0.2.1", Type: 3, Code: 13, Reason: "no route to host"},
		{Kind: tcp.TraceICMP, Type: 3, Code: 1, Reason: "no route to host"},
	}
	for i, e := range list {
		e.Time = mono.Time(time.Second).Add(time.Duration(i) * time.Millisecond)
		e.ISS, e.IRS = 1000, 2000
	}
	return list
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	text := NewText(&out)
	f := text.Conn("")
	for _, e := range events() {
		f(e)
	}
	want := `   0.000000 state       SYN-SENT -> ESTABLISHED
   0.001000 phase       open -> recovery because of rack
   0.002000 lost        1:1461 by rack
   0.003000 retransmit  1:1461 (1460) because of rto
   0.004000 probe       1461:1462 (1) of the tail, with new text
   0.005000 rtt         12.346ms
   0.006000 metrics     cwnd 10 ssthresh 20 srtt 5ms
   0.007000 metrics     cwnd 11 lost 4 rto 1s
   0.008000 timer       reordering
   0.009000 sent        P. 5:20(15) ack 7 win 50 <TS val 3 ecr 4>
   0.010000 received    . 7:7(0) ack 5 win 60 <sack 10:20>
   0.011000 received    . 7:7(0) ack 5 win 60 <sack 10:20> dropped: paws
   0.012000 mark        reduces the window
   0.013000 icmp        type 3 code 13 from 192.0.2.1: no route to host
   0.014000 icmp        type 3 code 1 from this host: no route to host
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Only what has changed is told, for each connection by itself.
func TestTextTellsChanges(t *testing.T) {
	var out bytes.Buffer
	text := NewText(&out)
	a, b := text.Conn("a"), text.Conn("b")
	for _, f := range []tcp.Trace{a, b} {
		f(&tcp.TraceEvent{Time: 1, Kind: tcp.TraceMetrics, Metrics: tcp.TraceMetricSet{Cwnd: 1, Lost: 2}})
	}
	a(&tcp.TraceEvent{Time: 1, Kind: tcp.TraceMetrics, Metrics: tcp.TraceMetricSet{Cwnd: 1}})
	want := "   0.000000 a metrics     cwnd 1 lost 2\n   0.000000 b metrics     cwnd 1 lost 2\n   0.000000 a metrics     lost 0\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// broken fails after some bytes, and counts its closings.
type broken struct {
	left, closed int
}

var errBroken = errors.New("broken")

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func (b *broken) Close() error { b.closed++; return nil }

func TestWriterFails(t *testing.T) {
	b := &broken{left: 100}
	text := NewText(b)
	for range 3 {
		for _, e := range events() {
			text.Conn("")(e)
		}
	}
	if text.Err() != errBroken {
		t.Error(text.Err())
	}
	b = &broken{left: 5000}
	q := NewQlog(b, "")
	for range 100 {
		for _, e := range events() {
			q.Event(e)
		}
	}
	for range 2 {
		if err := q.Close(); err != errBroken || b.closed != 1 {
			t.Errorf("%v; closed %d times", err, b.closed)
		}
	}
	q.Event(events()[0])
}

// What Qlog writes is a sequence of JSON texts, each event in order.
func TestQlog(t *testing.T) {
	var out bytes.Buffer
	q := NewQlog(&out, "a title")
	for _, e := range events() {
		q.Event(e)
	}
	if out.Len() != 0 {
		t.Error("not buffered")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	records := strings.Split(out.String(), "\x1e")
	if records[0] != "" {
		t.Errorf("begins with %q", records[0])
	}
	records = records[1:]
	type record struct {
		Format, Title string
		Time          float64
		Name          string
		Data          map[string]any
	}
	parse := func(s string) (r record) {
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(s), &m); err != nil || !strings.HasSuffix(s, "\n") {
			t.Fatalf("%q: %v", s, err)
		}
		for name, p := range map[string]any{"qlog_format": &r.Format, "title": &r.Title, "time": &r.Time, "name": &r.Name, "data": &r.Data} {
			if m[name] != nil {
				if err := json.Unmarshal(m[name], p); err != nil {
					t.Fatal(err)
				}
			}
		}
		return r
	}
	if r := parse(records[0]); r.Format != "JSON-SEQ" || r.Title != "a title" {
		t.Errorf("%+v", r)
	}
	want := []struct {
		name string
		data map[string]any
	}{
		{"tcp:state_updated", map[string]any{"old": "SYN-SENT", "new": "ESTABLISHED"}},
		{"recovery:congestion_state_updated", map[string]any{"old": "open", "new": "recovery", "trigger": "rack"}},
		{"recovery:packet_lost", map[string]any{"first": 1.0, "last": 1460.0, "length": 1460.0, "trigger": "rack"}},
		{"tcp:retransmitted", map[string]any{"first": 1.0, "last": 1460.0, "length": 1460.0, "trigger": "rto"}},
		{"tcp:probed", map[string]any{"first": 1461.0, "last": 1461.0, "length": 1.0, "trigger": "tail-loss-probe"}},
		{"tcp:rtt_measured", map[string]any{"latest_rtt": 12.345}},
		{"recovery:metrics_updated", map[string]any{"congestion_window": 10.0, "ssthresh": 20.0, "smoothed_rtt": 5.0}},
		{"recovery:metrics_updated", map[string]any{"congestion_window": 11.0, "bytes_lost": 4.0, "rto": 1000.0}},
		{"recovery:loss_timer_updated", map[string]any{"event_type": "expired", "timer_type": "reordering"}},
		{"transport:packet_sent", map[string]any{"seq": 5.0, "length": 15.0, "ack": 7.0, "flags": "P.", "window": 50.0, "ts_val": 3.0, "ts_ecr": 4.0}},
		{"transport:packet_received", map[string]any{"seq": 7.0, "length": 0.0, "ack": 5.0, "flags": ".", "window": 60.0, "sack": []any{[]any{10.0, 20.0}}}},
		{"transport:packet_dropped", map[string]any{"seq": 7.0, "length": 0.0, "ack": 5.0, "flags": ".", "window": 60.0, "sack": []any{[]any{10.0, 20.0}}, "trigger": "paws"}},
		{"recovery:congestion_marked", map[string]any{}},
		{"tcp:icmp_received", map[string]any{"from": "192.0.2.1", "type": 3.0, "code": 13.0, "trigger": "no route to host"}},
		{"tcp:icmp_received", map[string]any{"from": "", "type": 3.0, "code": 1.0, "trigger": "no route to host"}},
	}
	if len(records) != 1+len(want) {
		t.Fatalf("%d records", len(records))
	}
	for i, w := range want {
		r := parse(records[1+i])
		if r.Time != float64(i) || r.Name != w.name || !reflect.DeepEqual(r.Data, w.data) {
			t.Errorf("%d: %+v, want %+v", i, r, w)
		}
	}
}

// The connection's end closes the file.
func TestQlogEnds(t *testing.T) {
	b := &broken{left: 1 << 20}
	q := NewQlog(b, "")
	q.Event(&tcp.TraceEvent{Kind: tcp.TraceState, From: tcp.Closed.String(), To: tcp.SynSent.String()})
	if b.closed != 0 {
		t.Error("closed at the start")
	}
	q.Event(&tcp.TraceEvent{Kind: tcp.TraceState, From: tcp.SynSent.String(), To: tcp.Closed.String()})
	if b.closed != 1 || q.Close() != nil || b.closed != 1 {
		t.Errorf("closed %d times", b.closed)
	}
}

// Every metric of the core is told, by both writers.
func TestEveryMetric(t *testing.T) {
	var m tcp.TraceMetricSet
	v := reflect.ValueOf(&m).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(time.Second) + int64(i)*int64(time.Millisecond))
	}
	told := 0
	forMetrics(&tcp.TraceEvent{Metrics: m}, new(tcp.TraceMetricSet), func(name string, _ any) {
		told++
		if qlogNames[name] == "" {
			t.Errorf("%s has no name in qlog", name)
		}
	})
	if told != v.NumField() || told != len(qlogNames) {
		t.Errorf("%d of %d metrics are told, %d have names", told, v.NumField(), len(qlogNames))
	}
}
