package tcp

// Drop says why a segment went no further. It covers the whole of TCP, from
// the header's structure to the connection's rules, so that one array of
// counters explains every segment that was received and had no effect.
// DropNone is success; every other value is an error.
type Drop uint8

const (
	// DropNone: the segment was used.
	DropNone Drop = iota
	// DropShort: fewer bytes than a header, or than the header says it has.
	DropShort
	// DropBadDataOffset: a data offset below 5 words (RFC 9293 §3.1).
	DropBadDataOffset
	// DropBadChecksum: counted by the caller of Parse, who knows the
	// addresses of the pseudo-header.
	DropBadChecksum
	// DropBadFlags: a combination that no state accepts, such as none of
	// SYN, RST and ACK, or SYN with FIN.
	DropBadFlags
	// DropPortZero: source port 0, which is reserved (RFC 6335 §6), and no RST.
	DropPortZero
	// DropGroupDestination: sent to a multicast or broadcast address
	// (RFC 9293 §3.9.2.3, MUST-57).
	DropGroupDestination
	// DropNoConnection: no connection and no listener for it.
	DropNoConnection
	// DropOutOfWindow: no part of it lies in the receive window.
	DropOutOfWindow
	// DropBadAck: it acknowledges what was never sent.
	DropBadAck
	// DropOldAck: its acknowledgment is too old to be of this connection
	// (RFC 5961 §5.2).
	DropOldAck
	// DropPAWS: its timestamp is older than the last one (RFC 7323 §5.3).
	DropPAWS
	// DropSynInWindow: a SYN on a synchronized connection (RFC 5961 §4.2).
	DropSynInWindow
	// DropRstOutOfWindow: a RST whose number is not the one expected
	// (RFC 5961 §3.2).
	DropRstOutOfWindow
	// DropRstTimeWait: a RST in TIME-WAIT, with RFC 1337.
	DropRstTimeWait
	// DropListenOverflow: the listener's queue of connections is full.
	DropListenOverflow
	// DropSynQueueFull: the listener's queue of half-open connections is full.
	DropSynQueueFull
	// DropSynPruned: a half-open connection given up early, because its SYN-ACK
	// was not answered and the queue fills up, or cannot arrive.
	DropSynPruned
	// DropReassemblyFull: too many gaps before it, or no room for it.
	DropReassemblyFull
	// DropMemory: a limit on memory was reached.
	DropMemory
	// DropClosed: data for a connection whose reader is gone.
	DropClosed
	// DropDeferAccept: the empty ACK of a handshake whose listener wants text
	// with it (TCP_DEFER_ACCEPT).
	DropDeferAccept
	// DropFiltered: a packet filter of the socket refused it (SO_ATTACH_FILTER).
	DropFiltered
	// DropRepair: the connection is in repair mode, and takes nothing.
	DropRepair
	// NumDrops is the number of values above.
	NumDrops
)

var dropNames = [NumDrops]string{
	DropNone:             "none",
	DropShort:            "short",
	DropBadDataOffset:    "bad-data-offset",
	DropBadChecksum:      "bad-checksum",
	DropBadFlags:         "bad-flags",
	DropPortZero:         "port-zero",
	DropGroupDestination: "group-destination",
	DropNoConnection:     "no-connection",
	DropOutOfWindow:      "out-of-window",
	DropBadAck:           "bad-ack",
	DropOldAck:           "old-ack",
	DropPAWS:             "paws",
	DropSynInWindow:      "syn-in-window",
	DropRstOutOfWindow:   "rst-out-of-window",
	DropRstTimeWait:      "rst-time-wait",
	DropListenOverflow:   "listen-overflow",
	DropSynQueueFull:     "syn-queue-full",
	DropSynPruned:        "syn-pruned",
	DropReassemblyFull:   "reassembly-full",
	DropMemory:           "memory",
	DropClosed:           "closed",
	DropDeferAccept:      "defer-accept",
	DropRepair:           "repair",
	DropFiltered:         "filtered",
}

// String returns the reason's name as counters and captures show it.
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Error makes a Drop an error.
func (d Drop) Error() string { return "tcp: segment dropped: " + d.String() }
