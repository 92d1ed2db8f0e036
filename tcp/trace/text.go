// Package trace writes what a TCP connection tells of itself (tcp.Trace), as
// lines for the eye or as qlog for a program. It is no part of the data path:
// a connection without a listener does not know of it.
package trace

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp"
)

// Text writes one line for each event: the time since the first one in seconds,
// the connection's name if there is one, and what happened. Several connections
// may share one.
type Text struct {
	mu    sync.Mutex // guards everything below
	w     io.Writer
	start mono.Time
	buf   []byte
	err   error
}

// NewText writes to w, with one call of Write for each line.
func NewText(w io.Writer) *Text { return &Text{w: w} }

// Conn returns the listener for one connection; its lines begin with name,
// which may be empty.
func (t *Text) Conn(name string) tcp.Trace {
	if name != "" {
		name += " "
	}
	var last tcp.TraceMetricSet
	return func(e *tcp.TraceEvent) { t.event(name, e, &last) }
}

// Err returns the first error of the writer; nothing is written after it.
func (t *Text) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *Text) event(name string, e *tcp.TraceEvent, last *tcp.TraceMetricSet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	if t.start == 0 {
		t.start = e.Time
	}
	t.buf = fmt.Appendf(t.buf[:0], "%11.6f %s", e.Time.Sub(t.start).Seconds(), name)
	t.buf = append(appendEvent(t.buf, e, last), '\n')
	_, t.err = t.w.Write(t.buf)
}

// appendEvent appends what happened. Of the metrics only those are shown that
// are not as in last.
func appendEvent(b []byte, e *tcp.TraceEvent, last *tcp.TraceMetricSet) []byte {
	switch e.Kind {
	case tcp.TraceState:
		return fmt.Appendf(b, "state       %s -> %s", e.From, e.To)
	case tcp.TracePhase:
		return fmt.Appendf(b, "phase       %s -> %s because of %s", e.From, e.To, e.Reason)
	case tcp.TraceMark:
		return append(b, "mark        reduces the window"...)
	case tcp.TraceLost:
		return fmt.Appendf(b, "lost        %d:%d by %s", e.Seq, e.End, e.Reason)
	case tcp.TraceRetransmit:
		return fmt.Appendf(b, "retransmit  %d:%d (%d) because of %s", e.Seq, e.End, e.End-e.Seq, e.Reason)
	case tcp.TraceProbe:
		return fmt.Appendf(b, "probe       %d:%d (%d) of the tail, with new text", e.Seq, e.End, e.End-e.Seq)
	case tcp.TraceRTT:
		return fmt.Appendf(b, "rtt         %s", short(e.RTT))
	case tcp.TraceTimer:
		return fmt.Appendf(b, "timer       %s", e.Reason)
	case tcp.TraceSent:
		return appendSegment(append(b, "sent        "...), e.Segment, uint32(e.ISS), uint32(e.IRS))
	case tcp.TraceReceived:
		b = appendSegment(append(b, "received    "...), e.Segment, uint32(e.IRS), uint32(e.ISS))
		if e.Reason != tcp.DropNone.String() {
			b = fmt.Appendf(b, " dropped: %s", e.Reason)
		}
		return b
	case tcp.TraceICMP:
		from := e.From
		if from == "" {
			from = "this host"
		}
		return fmt.Appendf(b, "icmp        type %d code %d from %s: %s", e.Type, e.Code, from, e.Reason)
	case tcp.TraceMetrics:
		b = append(b, "metrics    "...)
		forMetrics(e, last, func(name string, value any) { b = fmt.Appendf(b, " %s %v", name, value) })
	}
	return b
}

// forMetrics calls f for each metric that differs from last, and remembers them.
// Durations are given as time.Duration, sizes as int.
func forMetrics(e *tcp.TraceEvent, last *tcp.TraceMetricSet, f func(name string, value any)) {
	m := &e.Metrics
	size := func(name string, now, was int) {
		if now != was {
			f(name, now)
		}
	}
	span := func(name string, now, was time.Duration) {
		if now != was {
			f(name, short(now))
		}
	}
	size("cwnd", m.Cwnd, last.Cwnd)
	size("ssthresh", m.Ssthresh, last.Ssthresh)
	size("in-flight", m.InFlight, last.InFlight)
	size("sacked", m.SACKed, last.SACKed)
	size("lost", m.Lost, last.Lost)
	size("snd-wnd", m.SndWnd, last.SndWnd)
	span("srtt", m.SRTT, last.SRTT)
	span("rttvar", m.RTTVar, last.RTTVar)
	span("min-rtt", m.MinRTT, last.MinRTT)
	span("rto", m.RTO, last.RTO)
	span("reordering-window", m.ReorderingWindow, last.ReorderingWindow)
	*last = *m
}

// short rounds d to what matters of it.
func short(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// appendSegment writes a segment as packetdrill does, with numbers that count
// from the SYNs: seq0 is the first of the sender's, ack0 of the receiver's.
func appendSegment(b []byte, s *tcp.Segment, seq0, ack0 uint32) []byte {
	r := *s
	r.Seq -= seq.Num(seq0)
	if r.Flags&tcp.FlagACK != 0 {
		r.Ack -= seq.Num(ack0)
	}
	for i := range r.Options.SACK[:r.Options.NumSACK] {
		r.Options.SACK[i].Left -= seq.Num(ack0)
		r.Options.SACK[i].Right -= seq.Num(ack0)
	}
	return append(b, r.String()...)
}
