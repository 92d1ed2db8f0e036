package trace

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// Qlog writes the events of one connection in the manner of qlog (the IETF's
// draft-ietf-quic-qlog-main-schema), as JSON text sequences (RFC 7464): each
// record is a separator, one line of JSON and a line feed. The first describes
// the trace. Times are in milliseconds since the first event, round trips too;
// sizes are in bytes.
//
// The schema is QUIC's; where TCP has the same thing it has the same name
// ("recovery:metrics_updated", "congestion_window"), what only TCP has is in
// the namespace "tcp".
type Qlog struct {
	mu    sync.Mutex // guards everything below
	w     *bufio.Writer
	c     io.Closer // nil: not ours to close
	start mono.Time
	last  tcp.TraceMetricSet
	err   error
}

// recordSeparator begins each text of a sequence (RFC 7464 §2.2).
const recordSeparator = 0x1e

// object is a JSON object; json.Marshal sorts its names.
type object = map[string]any

// NewQlog writes the trace of a connection, which title describes, to w. It is
// buffered until Close or the connection's end; if w is an io.Closer it is
// closed then.
func NewQlog(w io.Writer, title string) *Qlog {
	q := &Qlog{w: bufio.NewWriter(w)}
	q.c, _ = w.(io.Closer)
	q.put(object{
		"qlog_version": "0.3", "qlog_format": "JSON-SEQ", "title": title,
		"trace": object{
			"common_fields": object{"time_format": "relative", "reference_time": 0, "protocol_type": []string{"TCP"}},
			"vantage_point": object{"type": "unknown"},
		},
	})
	return q
}

// Event is the listener: a tcp.Trace. The connection's end closes the file.
func (q *Qlog) Event(e *tcp.TraceEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.w == nil {
		return
	}
	if q.start == 0 {
		q.start = e.Time
	}
	name, data := q.describe(e)
	q.put(object{"time": millis(e.Time.Sub(q.start)), "name": name, "data": data})
	if e.Kind == tcp.TraceState && e.To == tcp.Closed.String() {
		q.close()
	}
}

// Close writes what is buffered and returns the first error there was. Events
// that follow are ignored.
func (q *Qlog) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.close()
	return q.err
}

func (q *Qlog) close() {
	if q.w == nil {
		return
	}
	q.note(q.w.Flush())
	if q.c != nil {
		q.note(q.c.Close())
	}
	q.w = nil
}

func (q *Qlog) note(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *Qlog) put(o object) {
	b, err := json.Marshal(o)
	q.note(err)
	if q.err != nil {
		return
	}
	q.w.WriteByte(recordSeparator)
	q.w.Write(b)
	q.note(q.w.WriteByte('\n')) // errors of a bufio.Writer stay
}

// millis is how qlog counts time.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// describe returns an event's name and data.
func (q *Qlog) describe(e *tcp.TraceEvent) (string, object) {
	bytes := object{"first": e.Seq, "last": e.End - 1, "length": e.End - e.Seq, "trigger": e.Reason}
	switch e.Kind {
	case tcp.TraceState:
		return "tcp:state_updated", object{"old": e.From, "new": e.To}
	case tcp.TracePhase:
		return "recovery:congestion_state_updated", object{"old": e.From, "new": e.To, "trigger": e.Reason}
	case tcp.TraceMark:
		return "recovery:congestion_marked", object{}
	case tcp.TraceLost:
		return "recovery:packet_lost", bytes
	case tcp.TraceRetransmit:
		return "tcp:retransmitted", bytes
	case tcp.TraceProbe:
		return "tcp:probed", bytes
	case tcp.TraceRTT:
		return "tcp:rtt_measured", object{"latest_rtt": millis(e.RTT)}
	case tcp.TraceTimer:
		return "recovery:loss_timer_updated", object{"event_type": "expired", "timer_type": e.Reason}
	case tcp.TraceICMP:
		return "tcp:icmp_received", object{"from": e.From, "type": e.Type, "code": e.Code, "trigger": e.Reason}
	case tcp.TraceSent:
		return "transport:packet_sent", segment(e, uint32(e.ISS), uint32(e.IRS))
	case tcp.TraceReceived:
		data := segment(e, uint32(e.IRS), uint32(e.ISS))
		if e.Reason == tcp.DropNone.String() {
			return "transport:packet_received", data
		}
		data["trigger"] = e.Reason
		return "transport:packet_dropped", data
	}
	data := object{}
	forMetrics(e, &q.last, func(name string, value any) {
		if d, ok := value.(time.Duration); ok {
			value = millis(d)
		}
		data[qlogNames[name]] = value
	})
	return "recovery:metrics_updated", data
}

// qlogNames are the names of the schema for the metrics; those that it does not
// have are made in its style.
var qlogNames = map[string]string{
	"cwnd": "congestion_window", "ssthresh": "ssthresh", "in-flight": "bytes_in_flight", "sacked": "bytes_sacked",
	"lost": "bytes_lost", "snd-wnd": "send_window", "srtt": "smoothed_rtt", "rttvar": "rtt_variance", "min-rtt": "min_rtt",
	"rto": "rto", "reordering-window": "reordering_window",
}

// segment describes a segment with numbers that count from the SYNs.
func segment(e *tcp.TraceEvent, seq0, ack0 uint32) object {
	s := e.Segment
	o := object{"seq": uint32(s.Seq) - seq0, "length": s.PayloadLen(), "flags": s.Flags.String(), "window": s.Window}
	if s.Flags&tcp.FlagACK != 0 {
		o["ack"] = uint32(s.Ack) - ack0
	}
	if s.Options.HasTS {
		o["ts_val"], o["ts_ecr"] = s.Options.TSVal, s.Options.TSEcr
	}
	if n := s.Options.NumSACK; n > 0 {
		blocks := make([][2]uint32, n)
		for i, b := range s.Options.SACK[:n] {
			blocks[i] = [2]uint32{uint32(b.Left) - ack0, uint32(b.Right) - ack0}
		}
		o["sack"] = blocks
	}
	return o
}
