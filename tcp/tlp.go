package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the tail loss probe of RFC 8985 §7. When the last segments of
// a flight are lost nothing that arrives tells of it. After two round trips
// one more segment goes out, and the answer to it does, long before the
// retransmission timer would have emptied the window.

const (
	// maxAckDelay is how long the peer may hold back the ACK of a lone
	// segment: TLP.max_ack_delay of RFC 8985 §7.2, WCDelAckT.
	maxAckDelay = 200 * time.Millisecond
	// probeSlack is added to two round trips, which may be shorter than any
	// timer resolves (two ticks in Linux).
	probeSlack = 2 * rtoClock
)

// tailProbe is the variables of RFC 8985 §5.3 that belong to the probe.
type tailProbe struct {
	due    bool    // Output is to send it
	out    bool    // it was sent, and
	resent bool    // TLP.is_retrans: it was not new text, and its loss would be news
	end    seq.Num // TLP.end_seq: everything up to here was in flight then
	flight int32   // bytes in flight then
}

// armProbe starts the probe's timer or stops it (RFC 8985 §7.2): one probe for
// each tail, when no other timer would find the loss.
//
// Departs from RFC 8985 §7.2, which probes only while nothing is known to be
// missing: fast recovery has a tail as well. Where a peer answers many segments
// by one ACK, as Linux does beyond a hole, nothing else follows when that one
// or the repeated segment is lost. RFC 6675 §4 (4) has a rescue of that kind.
func (c *Conn) armProbe(now mono.Time) {
	c.timers[timerProbe] = 0
	flight := c.sndNxt.Sub(c.sndUna)
	switch {
	case !c.sackOK, c.state < Established, flight == 0, c.probe.out, c.probe.due, c.timers[timerReorder] != 0:
		return
	case c.phase == phaseLoss, c.board.reneged(): // the retransmission timer's business
		return
	}
	d := initialRTO
	if c.rtt.srtt != 0 {
		d = 2*c.rtt.srtt + probeSlack
		if flight <= c.mss {
			d += maxAckDelay
		}
	}
	at, rexmit := now.Add(d), c.timers[timerRexmit]
	if rexmit != 0 && rexmit <= at {
		if c.phase == phaseFast {
			return
		}
		at = rexmit // in its place
	}
	c.timers[timerProbe] = at
}

// expireProbe asks for the probe, and gives its answer the time of a
// retransmission time-out (RFC 8985 §7.3).
func (c *Conn) expireProbe(now mono.Time) {
	c.probe.due = true
	c.timers[timerRexmit] = now.Add(c.rto())
}

// outputTailProbe sends the probe: new text if there is some, else the last
// segment again (RFC 8985 §7.3), or the first if the peer has the last. None
// of them asks the congestion window.
func (c *Conn) outputTailProbe(now mono.Time, s *Segment, mss int) {
	resent := !c.outputNew(now, s, mss, mss)
	c.probe.due = false
	if resent {
		start, end := c.board.lastSegment(mss)
		if c.board.sackedLast() {
			start, end = c.sndUna, seq.Min(c.sndUna.Add(mss), c.sndNxt)
		}
		c.sendAgain(now, s, c.recordStart(start, end), end, mss, whyProbe)
	} else {
		c.traceRange(TraceProbe, whyProbe, s.Seq, s.End())
	}
	// In recovery the congestion control already knows what the probe may repair.
	c.probe = tailProbe{out: true, end: c.sndNxt, resent: resent && c.phase == phaseOpen, flight: int32(c.sndNxt.Sub(c.sndUna))}
	c.timers[timerProbe] = 0
	c.count(CountLossProbes, 1)
}

// probeAcked is TLP_process_ack of RFC 8985 §7.4: if a probe that repeated
// something arrived and the original did not, a loss was repaired without
// anybody noticing, and the congestion control has to know.
func (c *Conn) probeAcked(now mono.Time, ack seq.Num, dup bool, dsack SACKBlock) {
	p := &c.probe
	if !p.out || ack.Less(p.end) {
		return
	}
	switch {
	case !p.resent: // an ordinary ACK
	case dsack != SACKBlock{} && dsack.Right == p.end: // both arrived
	case dup && dsack == SACKBlock{}: // a duplicate ACK: both arrived
	case p.end.Less(ack):
		c.count(CountLossProbeRecovery, 1)
		c.undoNever()
		if !c.reducing() {
			c.cc.OnLoss(now, int(p.flight))
			c.cc.OnRecoveryExit(now)
			c.windowReduced()
		}
	default:
		return // the next ACK tells whether there were two
	}
	p.out = false
}
