package tcp

import "sync/atomic"

// This file owns the names of what TCP counts besides segments, bytes and
// drops. Each connection keeps those that tell of itself; all are added up over
// every connection that was given the same Totals.

// Counter names something that happens in a connection. Its String is the
// counter of Linux's nstat (TcpExt), spelled as tapstack's counters are.
type Counter uint8

// What happens. The first group is kept by each connection as well.
const (
	CountRetransSegs  Counter = iota // segments sent again, for whatever reason
	CountSACKRecovery                // fast recoveries begun by SACK blocks (RFC 8985, RFC 6675)
	CountRenoRecovery                // fast recoveries begun by three duplicate ACKs (RFC 5681 §3.2)
	CountTimeouts                    // expiries of the retransmission timer, SYN included
	CountSpuriousRTOs                // time-outs that F-RTO found to be spurious (RFC 5682)
	CountUndos                       // reductions of the window undone, by whatever evidence
	CountRACKLost                    // segments taken for lost by RFC 8985
	CountLossProbes                  // tail loss probes sent (RFC 8985 §7)
	CountDSACKRecv                   // D-SACKs below the ACK (RFC 2883 §4.1)
	CountDSACKOfoRecv                // D-SACKs above it (RFC 2883 §4.2)
	CountDSACKOldSent                // D-SACKs sent of text already taken
	CountDSACKOfoSent                // D-SACKs sent of text beyond a hole
	CountSACKDiscard                 // SACK blocks that no peer should send
	CountSACKReneging                // time-outs that found text gone that the peer had reported
	CountReorder                     // arrivals out of order that SACK or timestamps told of
	CountDupAcksIn                   // duplicate ACKs (RFC 5681 §2)
	CountOfoQueue                    // segments of text that arrived beyond a hole
	CountWinProbes                   // probes of a closed window sent
	CountKeepAlives                  // keep-alives sent (RFC 9293 §3.8.4)
	CountUrgentIn                    // urgent bytes that arrived
	CountUnwantedAcks                // ACKs that answered a segment that was not wanted, challenges (RFC 5961) included
	CountAcksSkipped                 // such ACKs held back by their rate limit
	numOwnCounters

	CountFastRetrans         Counter = iota - 1 // segments sent again in fast recovery
	CountFullUndo                               // fast recoveries undone when all was acknowledged
	CountPartialUndo                            // fast recoveries undone on the way, by a timestamp (RFC 3522)
	CountDSACKUndo                              // reductions undone by D-SACKs (RFC 3708)
	CountLossUndo                               // time-outs undone
	CountSynUndo                                // SYN time-outs found spurious by a timestamp
	CountLostRetransmit                         // segments that were lost after being sent again
	CountLossProbeRecovery                      // losses that a tail loss probe repaired
	CountDSACKRecvSegs                          // segments that credible D-SACKs told of
	CountDSACKIgnoredDubious                    // D-SACKs of more than was ever sent again
	CountSlowStartRetrans                       // segments sent again after a time-out
	CountSynRetrans                             // SYNs and SYN-ACKs sent again
	CountDelayedAcks                            // ACKs sent because the delay was over
	CountPAWSOldAck                             // overtaken ACKs that PAWS lets pass in silence
	CountMTUProbesPassed                        // larger segments tried that arrived (RFC 4821)
	CountMTUProbesLost                          // those that did not
	CountAbortOnTimeout                         // connections given up
	CountAbortOnClose                           // connections reset because Close found unread text
	CountAbortOnData                            // connections reset because text arrived for nobody
	NumCounters
)

var counterNames = [NumCounters]string{
	CountRetransSegs:         "retrans-segs",
	CountSACKRecovery:        "sack-recovery",
	CountRenoRecovery:        "reno-recovery",
	CountTimeouts:            "timeouts",
	CountSpuriousRTOs:        "spurious-rtos",
	CountUndos:               "undos",
	CountFullUndo:            "full-undo",
	CountPartialUndo:         "partial-undo",
	CountDSACKUndo:           "dsack-undo",
	CountLossUndo:            "loss-undo",
	CountSynUndo:             "syn-undo",
	CountRACKLost:            "rack-lost",
	CountLostRetransmit:      "lost-retransmit",
	CountLossProbes:          "loss-probes",
	CountLossProbeRecovery:   "loss-probe-recovery",
	CountDSACKRecv:           "dsack-recv",
	CountDSACKOfoRecv:        "dsack-ofo-recv",
	CountDSACKRecvSegs:       "dsack-recv-segs",
	CountDSACKIgnoredDubious: "dsack-ignored-dubious",
	CountDSACKOldSent:        "dsack-old-sent",
	CountDSACKOfoSent:        "dsack-ofo-sent",
	CountSACKDiscard:         "sack-discard",
	CountSACKReneging:        "sack-reneging",
	CountReorder:             "reorder",
	CountDupAcksIn:           "dup-acks-in",
	CountOfoQueue:            "ofo-queue",
	CountWinProbes:           "win-probes",
	CountKeepAlives:          "keep-alives",
	CountUrgentIn:            "urgent-in",
	CountUnwantedAcks:        "unwanted-acks",
	CountAcksSkipped:         "acks-skipped",
	CountFastRetrans:         "fast-retrans",
	CountSlowStartRetrans:    "slow-start-retrans",
	CountSynRetrans:          "syn-retrans",
	CountDelayedAcks:         "delayed-acks",
	CountPAWSOldAck:          "paws-old-ack",
	CountMTUProbesPassed:     "mtu-probes-passed",
	CountMTUProbesLost:       "mtu-probes-lost",
	CountAbortOnTimeout:      "abort-on-timeout",
	CountAbortOnClose:        "abort-on-close",
	CountAbortOnData:         "abort-on-data",
}

// String returns the counter's name, such as "retrans-segs".
func (k Counter) String() string {
	if k < NumCounters {
		return counterNames[k]
	}
	return "unknown"
}

// Totals are the counters of all connections whose Config names them. They are
// added to atomically and when the thing happens, which is never as often as
// once for each segment of a stream that flows.
type Totals [NumCounters]atomic.Uint64

// Add counts n times k. A nil Totals counts nothing.
func (t *Totals) Add(k Counter, n int) {
	if t != nil {
		t[k].Add(uint64(n))
	}
}

// count notes that k happened n times.
func (c *Conn) count(k Counter, n int) {
	if k < numOwnCounters {
		c.extra().own[k] += uint32(n)
	}
	c.cfg.Totals.Add(k, n)
}

// counted returns how often k happened in this connection: one of the first
// group above.
func (c *Conn) counted(k Counter) uint64 { return uint64(c.own[k]) }
