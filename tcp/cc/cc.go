// Package cc is congestion control: how many bytes a sender may have in flight,
// and how fast to let them go. A Controller hears what the connection learns
// and answers with a window; which bytes are lost, and which to send, is
// decided elsewhere.
//
//	controller     window          by what        slow start          pacing
//	Reno           reno.go         loss           HyStart++           no
//	CUBIC          cubic.go        loss, time     HyStart++           no
//	BBR            bbr*.go         measured rate  its own             yes
//
// Reno and CUBIC share window.go (what every window of RFC 5681 does) and
// hystart.go (RFC 9406). A new controller is a file here and a line in
// registry.go.
//
// A Controller never inflates its window while a loss is repaired. The
// connection counts what has left the network (selectively acknowledged, or
// told by a duplicate ACK) as no longer in flight instead, which lets the same
// segments out as the inflation of RFC 5681 §3.2 step 4 (Linux does so too).
package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// MaxWindow bounds every window: TCP's largest (RFC 7323 §2.3). As a threshold
// it means that there is none (yet).
const MaxWindow = 1 << 30

// Phase is what the connection is repairing.
type Phase uint8

// The phases.
const (
	Open       Phase = iota // nothing
	Recovery                // a loss that ACKs told of (RFC 6675, RFC 6582)
	AfterTimer              // what was in flight when the retransmission timer expired
)

// Ack is what one acknowledgment says. It is told after everything that
// follows from the ACK: losses, the beginning or the end of a recovery.
type Ack struct {
	Now       mono.Time
	Acked     int // bytes by which it advanced sndUna
	Delivered int // bytes that it was the first to say arrived, by SACK or without
	CE        int // bytes that met congestion by its account (RFC 3168, RFC 9768)
	// PriorInFlight and InFlight are the bytes in the network before and
	// after it, Unacked is sndNxt-sndUna after it.
	PriorInFlight, InFlight, Unacked int
	RTT, MinRTT, SRTT                time.Duration // measured by it; least of late; smoothed; 0: none
	// Phase is that in which it arrived, or that which it began: the ACK that
	// ends a recovery still belongs to it.
	Phase Phase
	// CwndLimited says that the congestion window, not the application, the
	// peer's window or pacing, held the sender back in the window of data that
	// is being acknowledged, and Used how much was in flight at most when it
	// did not. A window that was not used has not been tested.
	CwndLimited bool
	Used        int
	// Reorders says that the path is known to reorder: then what SACK tells of
	// opens the window as well as what is acknowledged. Departs from RFC 5681
	// §3.1, which knows only the latter, as Linux does (tcp_may_raise_cwnd):
	// else a path that reorders all the time would slow the growth down.
	Reorders bool
	// Rate is for controllers that implement Sampler.
	Rate Rate
}

// Rate is a delivery rate sample: how much arrived from when the last segment
// of those that this ACK is for was sent until now. Totals are of the connection,
// in bytes.
type Rate struct {
	Valid      bool          // there is a sample: the fields below Total mean something
	Total      uint64        // delivered so far
	Prior      uint64        // delivered when that segment was sent
	Delivered  int           // Total - Prior
	Interval   time.Duration // in which that happened; 0: too short to be a rate
	TxInFlight int           // in flight when that segment had been sent
	Lost       int           // taken for lost since then
	// AppLimited says that the application sent too little to show what the
	// path can do.
	AppLimited bool
}

// Lost is a stretch of text that is taken for lost.
type Lost struct {
	Now        mono.Time
	Bytes      int
	Total      uint64 // delivered so far
	TxInFlight int    // in flight when it had been sent; 0: not known
	Since      int    // bytes lost since it was sent, itself included
	AppLimited bool   // as in Rate
	Adjoins    bool   // it follows another one without a gap
}

// Start is the state of a connection that a Controller is to take over.
type Start struct {
	Now            mono.Time
	Cwnd, Ssthresh int // of its predecessor; 0: there is none
	Phase          Phase
	SRTT, MinRTT   time.Duration // 0: not measured
	SACK           bool          // the peer tells of each segment
	Seed           uint64        // for random choices
}

// Controller is one connection's congestion control. It has no lock and no
// clock. Sizes are in bytes.
type Controller interface {
	// Name is what TCP_CONGESTION calls it.
	Name() string
	// Start is called once, when the handshake is done or when it replaces
	// another Controller. Nothing else but OnSynLoss, SetMSS, Window and Ssthresh
	// is called before.
	Start(Start)
	// OnAck takes an ACK that says that something arrived or was lost, in
	// every phase.
	OnAck(Ack)
	// OnLoss begins fast recovery. inFlight is FlightSize: what was sent and
	// not cumulatively acknowledged. Calls until OnRecoveryExit are ignored,
	// so that a window of data is punished once.
	OnLoss(now mono.Time, inFlight int)
	// OnECN takes the news that a router marked a packet instead of dropping
	// it (RFC 3168 §6.1.2, RFC 8511). The caller sees to it that this happens
	// once per window of data; during a recovery it is ignored.
	OnECN(now mono.Time, inFlight int)
	// OnRecoveryExit says that all data sent before the last OnLoss or
	// OnTimeout is acknowledged.
	OnRecoveryExit(now mono.Time)
	// OnTimeout takes an expiry of the retransmission timer.
	OnTimeout(now mono.Time, inFlight int)
	// Undo says that the last OnLoss or OnTimeout was for nothing: the data
	// was only late (RFC 4015 §3). It ends the recovery, if that has not ended
	// yet (a D-SACK may tell later), and restores the window.
	//
	// What is restored is the window before the reduction that did not follow
	// another one for the same data: before the fast recovery in which the
	// timer expired; before the first of several time-outs without progress;
	// but not before an earlier one, if data was acknowledged since: that one
	// was called for.
	Undo(now mono.Time)
	// OnIdle says that nothing is in flight and that data is about to be
	// sent, idle after the last was. rto is the retransmission time-out, by
	// which pauses are measured; 0: the window is to stay as it is.
	OnIdle(now mono.Time, idle, rto time.Duration)
	// OnUnused says that for a retransmission time-out the window was never
	// full; at most used bytes were in flight.
	OnUnused(now mono.Time, used int)
	// OnSynLoss says, before any data is sent, that the SYN or SYN-ACK was
	// retransmitted more than once: the window begins with one segment
	// (RFC 5681 §3.1; once alone is no reason, RFC 6928 §2 and Linux).
	OnSynLoss(now mono.Time)
	// SetMSS changes the segment size, after path MTU discovery.
	SetMSS(mss int)
	// Window returns how many bytes may be in flight, and the pacing rate in
	// bytes per second; 0: not paced.
	Window() (cwnd int, pacing int64)
	// Ssthresh returns the slow start threshold, to which proportional rate
	// reduction leads; MaxWindow if there is none, and then Window holds in
	// fast recovery as well.
	Ssthresh() int
}

// Sampler is a Controller that wants delivery rate samples. A connection whose
// Controller is none keeps no account of them.
type Sampler interface {
	Controller
	// OnLost takes each stretch that is taken for lost, before the OnLoss and
	// the OnAck that follow from it.
	OnLost(Lost)
}

// New makes the Controller of a new connection with segments of mss bytes.
type New func(mss int) Controller

// InitialWindow returns the window of a new connection (RFC 6928 §2).
func InitialWindow(mss int) int {
	return min(10*mss, max(2*mss, 14600))
}

// Quantum is how many bytes leave at once at a pacing rate of rate bytes per
// second: a millisecond's worth, so that a timer need not run for each segment
// and segmentation offload has something to do, at least two segments and at
// most what fits one super-frame (Linux's sk_pacing_shift and
// tcp_min_tso_segs; BBR.send_quantum).
func Quantum(rate int64, mss int) int {
	return int(min(max(rate>>10, int64(2*mss)), maxQuantum))
}

const maxQuantum = 64 << 10
