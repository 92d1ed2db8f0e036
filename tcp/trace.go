package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the event trace: what a connection tells of itself to who
// wants to watch, in the manner of qlog. Without a listener it costs one branch
// where something happens. Package tcp/trace writes what it tells.

// Trace hears what happens in a connection (SetTrace), in order, during the calls of the
// connection's owner. The event is only valid during the call, and the
// connection must not be called from it.
type Trace func(e *TraceEvent)

// TraceKind says what a TraceEvent is about.
type TraceKind uint8

// The kinds, and which fields of TraceEvent they set besides Time and Kind.
const (
	TraceState      TraceKind = iota // From, To: the state of RFC 9293 changed
	TracePhase                       // From, To, Reason: the repair of losses began, ended or was undone
	TraceMark                        // the window is reduced because of marks (RFC 3168)
	TraceLost                        // Seq, End, Reason: taken for lost
	TraceRetransmit                  // Seq, End, Reason: sent again
	TraceProbe                       // Seq, End: new text as a tail loss probe
	TraceRTT                         // RTT: one measurement
	TraceMetrics                     // Metrics: some of them changed
	TraceTimer                       // Reason: a timer expired
	TraceSent                        // Segment; its payload may be that of many segments
	TraceReceived                    // Segment; Reason: why it, or some of it, was not used, or "none"
	TraceICMP                        // From, Type, Code, Reason: an ICMP error about a segment of ours was believed
)

var traceKindNames = [...]string{"state", "phase", "mark", "lost", "retransmit", "probe", "rtt", "metrics", "timer", "sent", "received", "icmp"}

// String returns the kind's name in lower case.
func (k TraceKind) String() string { return traceKindNames[k] }

// TraceEvent is something that happened. Numbers of our own stream count from
// our SYN, whose number is 0; those of segments are as on the wire.
type TraceEvent struct {
	Time     mono.Time
	Kind     TraceKind
	From, To string
	Reason   string
	Seq, End uint32
	RTT      time.Duration
	Metrics  TraceMetricSet
	Segment  *Segment
	// ISS and IRS are the initial numbers of the two streams, to make those
	// of a segment relative. IRS is 0 until the peer's SYN has come.
	ISS, IRS seq.Num
	// Of an ICMP error: From is the address that sent it, empty for this host
	// itself, whose packet found no neighbour; Reason what it means to a socket.
	Type, Code uint8
}

// TraceMetricSet is what congestion control and loss recovery go by. Sizes are in
// bytes.
type TraceMetricSet struct {
	Cwnd, Ssthresh   int           // congestion window, slow start threshold
	InFlight         int           // pipe of RFC 6675 §4
	SACKed, Lost     int           // of what is not acknowledged
	SndWnd           int           // the peer's window
	SRTT, RTTVar     time.Duration // RFC 6298
	MinRTT, RTO      time.Duration
	ReorderingWindow time.Duration // RFC 8985 §6.2, step 4; 0: three segments count instead
}

// why is a reason to send something again.
type why uint8

const (
	whyNone     why = iota
	whyRACK         // RFC 8985: something sent later has arrived
	whyDupAcks      // RFC 5681 §3.2: three duplicate ACKs
	whyPartial      // RFC 6582 §3.2: a partial ACK
	whyRTO          // RFC 6298 §5: the retransmission timer
	whyProbe        // RFC 8985 §7: the tail loss probe
	whyMTU          // RFC 1191: too large for the path
	whySYN          // the SYN's or SYN-ACK's own timer
	whyRepaired     // the end of a repair: all has arrived
	whyUndo         // the end of one that was for nothing
)

var whyNames = [...]string{"none", "rack", "duplicate-acks", "partial-ack", "rto", "tail-loss-probe", "path-mtu", "syn", "repaired", "spurious"}

var phaseNames = [...]string{phaseOpen: "open", phaseFast: "recovery", phaseLoss: "loss"}

var timerNames = [numTimers]string{
	timerReorder: "reordering", timerProbe: "tail-loss-probe", timerRexmit: "retransmission", timerPace: "pacing",
	timerPersist: "persist", timerDelAck: "delayed-ack", timerOrphan: "orphan", timerKeep: "keep-alive",
}

// tracer is the listener and what it has been told last.
type tracer struct {
	f        Trace
	segments bool
	now      mono.Time
	told     TraceMetricSet
}

// SetTrace makes f hear of what happens from now on, beginning with the state;
// nil ends it. segments says that it wants each segment, in and out, as well.
func (c *Conn) SetTrace(now mono.Time, f Trace, segments bool) {
	if c.tr != nil {
		c.tr = nil
	}
	if f != nil {
		c.extra().tr = &tracer{f: f, segments: segments, now: now}
		c.tell(&TraceEvent{Kind: TraceState, From: Closed.String(), To: c.state.String()})
	}
}

// tell passes e on.
func (c *Conn) tell(e *TraceEvent) {
	e.Time, e.ISS, e.IRS = c.tr.now, c.iss, c.irs
	c.tr.f(e)
}

// traceAt notes the time of the call that begins.
func (c *Conn) traceAt(now mono.Time) {
	if c.tr != nil {
		c.tr.now = now
	}
}

// setState moves to state s.
func (c *Conn) setState(s State) {
	if c.tr != nil && s != c.state {
		c.tell(&TraceEvent{Kind: TraceState, From: c.state.String(), To: s.String()})
	}
	c.state = s
}

// setPhase moves the repair of losses to p.
func (c *Conn) setPhase(p phase, w why) {
	if c.tr != nil && p != c.phase {
		c.tell(&TraceEvent{Kind: TracePhase, From: phaseNames[c.phase], To: phaseNames[p], Reason: whyNames[w]})
	}
	c.phase = p
}

// traceMark tells that the window is about to be reduced because of a mark.
func (c *Conn) traceMark() {
	if c.tr != nil {
		c.tell(&TraceEvent{Kind: TraceMark})
	}
}

// lostBecause remembers why something between at and end was taken for lost.
func (c *Conn) lostBecause(w why, at, end seq.Num) {
	c.why = w
	c.traceRange(TraceLost, w, at, end)
}

// traceRange tells something of the numbers from at to end.
func (c *Conn) traceRange(k TraceKind, w why, at, end seq.Num) {
	if c.tr != nil {
		c.tell(&TraceEvent{Kind: k, Reason: whyNames[w], Seq: uint32(at - c.iss), End: uint32(end - c.iss)})
	}
}

// traceTimer tells that timer i expired.
func (c *Conn) traceTimer(i int) {
	if c.tr != nil {
		c.tell(&TraceEvent{Kind: TraceTimer, Reason: timerNames[i]})
	}
}

// traceRTT tells of a measurement.
func (c *Conn) traceRTT(d time.Duration) {
	if c.tr != nil {
		c.tell(&TraceEvent{Kind: TraceRTT, RTT: d})
	}
}

// traceSegment tells of a segment if that is wanted.
func (c *Conn) traceSegment(k TraceKind, s *Segment, d Drop) {
	if c.tr != nil && c.tr.segments {
		its := *s // a copy, so that s need not live on the heap
		e := &TraceEvent{Kind: k, Segment: &its}
		if k == TraceReceived {
			e.Reason = d.String()
		}
		c.tell(e)
	}
}

// traceMetrics tells of the metrics if they have changed since it did last.
func (c *Conn) traceMetrics() {
	if c.tr == nil || c.cc == nil {
		return
	}
	m := TraceMetricSet{Cwnd: c.cwnd(), Ssthresh: c.cc.Ssthresh(), SndWnd: c.sndWnd,
		SRTT: c.rtt.srtt, RTTVar: c.rtt.rttvar, MinRTT: c.rack.minRTT, RTO: c.rto(), ReorderingWindow: c.reoWindow()}
	if c.state.Synchronized() && c.state != TimeWait {
		m.InFlight, m.SACKed, m.Lost = c.pipe(), c.board.sacked, c.board.lost
	}
	if m != c.tr.told {
		c.tr.told = m
		c.tell(&TraceEvent{Kind: TraceMetrics, Metrics: m})
	}
}

// Traced reports that somebody listens.
func (c *Conn) Traced() bool { return c.tr != nil }

// TraceICMP tells of an ICMP error that is about to take effect. The fields are
// those of TraceEvent.
func (c *Conn) TraceICMP(now mono.Time, from string, typ, code uint8, reason string) {
	if c.tr != nil {
		c.traceAt(now)
		c.tell(&TraceEvent{Kind: TraceICMP, From: from, Type: typ, Code: code, Reason: reason})
	}
}
