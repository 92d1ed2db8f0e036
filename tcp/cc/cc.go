// Package cc is congestion control: how many bytes a sender may have in
// flight. A Controller hears what the connection learns and answers with a
// window; which bytes are lost, and which to send, is decided elsewhere.
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

// Ack is what one acknowledgment that advanced sndUna says.
type Ack struct {
	Now mono.Time
	// Acked is how many bytes it newly acknowledged.
	Acked int
	// InFlight is how many bytes were in flight before it.
	InFlight int
	// RTT is the round trip it measured; 0: none.
	RTT time.Duration
	// CwndLimited says that the congestion window, not the application or
	// the peer's window, held the sender back in this flight. A window that
	// was not used has not been tested and does not grow (as RFC 9438 §5.8
	// has it for CUBIC, and Linux for all).
	CwndLimited bool
}

// Controller is one connection's congestion control. It has no lock and no
// clock. Sizes are in bytes.
type Controller interface {
	// OnAck takes an ACK of new data, in every phase.
	OnAck(Ack)
	// OnLoss begins fast recovery. inFlight is FlightSize: what was sent and
	// not cumulatively acknowledged. Calls until OnRecoveryExit are ignored,
	// so that a window of data is punished once.
	OnLoss(now mono.Time, inFlight int)
	// OnRecoveryExit says that all data sent before the last OnLoss or
	// OnTimeout is acknowledged.
	OnRecoveryExit(now mono.Time)
	// OnTimeout takes an expiry of the retransmission timer.
	OnTimeout(now mono.Time, inFlight int)
	// Undo says that the last OnLoss or OnTimeout was for nothing: the data
	// was only late. It ends the recovery and restores the window.
	Undo(now mono.Time)
	// OnIdle says that nothing was sent for idle, which is longer than the
	// retransmission timeout, and that data is about to be.
	OnIdle(now mono.Time, idle time.Duration)
	// OnSynLoss says, before any data is sent, that the SYN or SYN-ACK was
	// retransmitted more than once: the window begins with one segment
	// (RFC 5681 §3.1; once alone is no reason, RFC 6928 §2 and Linux).
	OnSynLoss(now mono.Time)
	// SetMSS changes the segment size, after path MTU discovery.
	SetMSS(mss int)
	// Window returns how many bytes may be in flight, and the pacing rate in
	// bytes per second; 0: not paced.
	Window() (cwnd int, pacing int64)
	// Ssthresh returns the slow start threshold.
	Ssthresh() int
}

// InitialWindow returns the window of a new connection (RFC 6928 §2).
func InitialWindow(mss int) int {
	return min(10*mss, max(2*mss, 14600))
}
