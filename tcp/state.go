package tcp

// This file owns the names of the eleven states of RFC 9293 §3.3.2 and the
// edges between them. The tests of what a segment means live in input.go;
// here is only where each happening leads.

// State is a state of the connection (RFC 9293 §3.3.2).
type State uint8

// The states of RFC 9293 §3.3.2, figure 5.
const (
	Closed State = iota
	Listen
	SynSent
	SynReceived
	Established
	FinWait1
	FinWait2
	CloseWait
	Closing
	LastAck
	TimeWait
	numStates
)

var stateNames = [numStates]string{
	"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "FIN-WAIT-1",
	"FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT",
}

// String returns the RFC's spelling, such as "FIN-WAIT-1".
func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return "unknown"
}

// Synchronized reports whether both sides know each other's sequence numbers:
// ESTABLISHED and everything after it (RFC 9293 §3.5.2).
func (s State) Synchronized() bool { return s >= Established && s <= TimeWait }

// event is a happening that may move a connection to another state.
type event uint8

const (
	evSyn     event = iota // a SYN without ACK arrived
	evSynAck               // a SYN that acknowledges ours arrived
	evAckSyn               // our SYN was acknowledged
	evFin                  // the peer's FIN arrived in order
	evAckFin               // our FIN was acknowledged
	evClose                // the user said it has no more to send
	evReset                // RST, abort or time-out: the connection fails
	evTimeout              // the 2 MSL or the orphan's FIN-WAIT-2 timer ran out
	numEvents
)

// edges is figure 5 of RFC 9293 §3.3.2. A missing entry (zero) means that the
// event does not change the state; to reach CLOSED is spelled toClosed.
var edges = [numStates][numEvents]State{
	SynSent: {
		evSyn:    SynReceived, // §3.10.7.3, fourth: simultaneous open
		evSynAck: Established, // §3.10.7.3, fourth
		evClose:  toClosed,    // §3.10.4: delete the TCB
		evReset:  toClosed,    // §3.10.7.3, second
	},
	SynReceived: {
		evAckSyn: Established, // §3.10.7.4, fifth
		// §3.10.4: CLOSE waits until ESTABLISHED; no edge.
		evReset: toClosed, // §3.10.7.4, second
	},
	Established: {
		evFin:   CloseWait, // §3.10.7.4, eighth
		evClose: FinWait1,  // §3.10.4
		evReset: toClosed,
	},
	FinWait1: {
		evAckFin: FinWait2, // §3.10.7.4, fifth
		evFin:    Closing,  // §3.10.7.4, eighth; with our FIN acknowledged evAckFin came first
		evReset:  toClosed,
	},
	FinWait2: {
		evFin:     TimeWait, // §3.10.7.4, eighth
		evTimeout: toClosed, // Linux: an orphan waits tcp_fin_timeout for the peer's FIN
		evReset:   toClosed,
	},
	CloseWait: {
		evClose: LastAck, // §3.10.4 (RFC 793 errata: LAST-ACK, not CLOSING)
		evReset: toClosed,
	},
	Closing: {
		evAckFin: TimeWait, // §3.10.7.4, fifth
		evReset:  toClosed,
	},
	LastAck: {
		evAckFin: toClosed, // §3.10.7.4, fifth
		evReset:  toClosed,
	},
	TimeWait: {
		evTimeout: toClosed, // §3.10.8
		evReset:   toClosed,
	},
}

// toClosed marks an edge to CLOSED, whose own number means "no edge".
const toClosed = numStates

// next returns the state that ev leads to from s.
func next(s State, ev event) State {
	switch to := edges[s][ev]; to {
	case 0:
		return s
	case toClosed:
		return Closed
	default:
		return to
	}
}
