package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what the sender makes of accurate ECN feedback (RFC 9768): how
// many packets and bytes met congestion since the last ACK, although the ACE
// field has three bits and ACKs get lost, and whether it can be believed.

// readFirstOption takes the option of the first segment from the peer, if it
// has one. Counters do not begin at zero, so that zero comes from a box on the
// path (§3.2.3.2.4). Without it options count as unavailable until one comes
// (§3.2.3.2.3).
func (a *accurate) readFirstOption(o *AccECN) {
	if !o.Present || a.optSeen {
		return
	}
	a.optSeen = true
	for i := range o.fields() {
		if o.Mark(i) != CE && o.Bytes[i] == 0 {
			a.optIgnore = true
		}
	}
}

// readOption takes the counters of bytes (A.1). It returns how many more met
// congestion, and whether that is known.
func (a *accurate) readOption(o *AccECN, bytesOut uint64) (marked int, ok bool) {
	if !o.Present || a.optIgnore {
		return 0, false
	}
	if !a.optSeen {
		a.optIgnore = bytesOut >= lateOption
		if a.readFirstOption(o); a.optIgnore {
			return 0, false
		}
	}
	for i := range o.fields() {
		n := &a.sentBytes[o.Mark(i)]
		d := (o.Bytes[i] - uint32(*n)) & accECNMask
		if d >= 1<<23 {
			continue // it went back: something older that was overtaken
		}
		*n += uint64(d)
		if o.Mark(i) == CE {
			marked = int(d)
		}
	}
	return marked, true
}

// overtaken reports that a later ACK came before s, so that its counters are
// old: it acknowledges nothing, and its timestamp is not news either (A.1).
func (a *accurate) overtaken(o *Options, delivered int) bool {
	if o.HasTS && o.TSEcr == a.optTS {
		a.repeats = 0
	}
	later := o.HasTS && tsBefore(a.tsval, o.TSVal)
	if later || a.tsval == 0 {
		a.tsval = o.TSVal
	}
	return delivered <= 0 && !later
}

// accurateFeedback reads the counters of an ACK by which delivered bytes are
// known to have arrived, and returns how many bytes met congestion since the
// last one, at least by estimate.
func (c *Conn) accurateFeedback(now mono.Time, s *Segment, delivered int) int {
	e, a := c.ecn, c.ecn.acc
	if a.testing && a.testSeq.Less(c.sndUna) {
		a.testing = false
	}
	if a.overtaken(&s.Options, delivered) {
		return 0
	}
	packets := uint32((delivered + c.mss - 1) / c.mss)
	a.observe(packets)

	ace := s.Flags.ace()
	d := (uint32(ace) - a.sentCEP) & 7
	if !a.heard {
		a.heard = true
		if ace == 0 && d > packets {
			// §3.2.2.4: so many marks there cannot have been.
			e.flags |= ecnMute | ecnDeaf
		}
	}
	bytes, known := a.readOption(&s.Options.AccECN, c.stat.bytesOut)
	if e.flags&ecnMute == 0 { // else there is hardly anything to be marked
		d = a.safest(d, packets, bytes, known, c.mss)
	}
	a.sentCEP += d
	e.deliveredCE += uint64(d)
	if a.contradicts(packets, bytes, known) {
		e.flags |= ecnMute
	}
	if !known {
		bytes = int(d) * c.mss // A.3
	}
	a.delivered += delivered
	a.marked += bytes
	if d == 0 && bytes == 0 || e.flags&ecnDeaf != 0 {
		return 0
	}
	return max(bytes, 1)
}

// observe learns how many packets an ACK is for usually.
func (a *accurate) observe(packets uint32) {
	switch {
	case packets == 0:
	case a.usual == 0:
		a.usual = packets << usualBits
	default:
		a.usual = (a.usual*63 + packets<<usualBits) / 64
	}
}

// safest is how many packets met congestion if the ACE field grew by d and
// packets were acknowledged: more than d if it may have gone round because ACKs
// were lost (§3.2.2.5.2, A.2). Where ACKs are few anyway that would be assumed
// too often. What the option says of bytes is better evidence.
func (a *accurate) safest(d, packets uint32, bytes int, known bool, mss int) uint32 {
	if packets <= 7 {
		return d
	}
	safe := d
	if packets > d {
		safe = packets - (packets-d)&7
	}
	switch {
	case known && bytes <= mss*int(d) && bytes < int(safe)*mss/2:
		return d
	case !known && a.usual > usualPackets:
		return d
	}
	return safe
}

// contradicts reports that bytes met congestion of which the ACE field knows
// nothing, although it cannot have gone round: somebody changes one of them
// (§3.2.3.2.5).
func (a *accurate) contradicts(packets uint32, bytes int, known bool) bool {
	a.optAcked += int(packets)
	if !known {
		return false
	}
	bad := bytes > 0 && a.sentCEP == a.optCEP && a.optAcked < 8
	a.optCEP, a.optAcked = a.sentCEP, 0
	return bad
}

// roundMarked notes that a window was reduced. When all of the first windows
// met congestion from end to end, it is rather the path that marks everything,
// and loss has to tell instead (§3.2.2.3).
func (c *Conn) roundMarked() {
	e, a := c.ecn, c.ecn.acc
	if a == nil || a.rounds >= allMarked {
		return
	}
	if a.rounds++; a.rounds == allMarked && a.marked >= a.delivered {
		e.flags |= ecnMute | ecnDeaf
	}
}
