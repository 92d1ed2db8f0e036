package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns accurate ECN feedback, RFC 9768: instead of one sign for each
// window the receiver counts the marks and repeats the lowest bits of its
// counters in all that it sends. Packets that met congestion are counted in the
// three flags (the ACE field), bytes of each mark in an option, where there is
// room and the path lets it through. Names in the style of r.cep and s.ceb are
// the RFC's counters of receiver and sender (§3.2).
//
// The path is distrusted: marks that the handshake should not have met, fields
// that arrive as zero and options that vanish each switch off what they make
// doubtful (§3.2.2.3, §3.2.2.4, §3.2.3.2), as little as possible: ECT, belief in
// the feedback, reading options, or sending them. The counting of what arrives
// never stops.

// accurate is the state of accurate feedback.
type accurate struct {
	// As receiver.
	cep     uint32           // r.cep
	bytes   [numMarks]uint64 // r.e1b, r.e0b, r.ceb by codepoint
	changed uint8            // of which text has arrived ever: bits by codepoint
	fresh   uint8            // the same, since the last option was sent
	pending uint8            // marked packets since the last ACK was sent
	lastCE  bool             // the last packet was marked

	demand    uint8 // segments that are to carry an option anyway, to test the path
	handshake bool  // the next ACK says how the SYN/ACK arrived (§3.2.2.1):
	synAck    Codepoint
	bare      bool    // the next ACK is for ACKs and has no SACK blocks (§3.2.2.5.1)
	noOption  bool    // segments with the option get lost
	withOpt   bool    // the last segment sent had one
	repeats   uint8   // times that the peer sent again what those acknowledged
	optTS     uint32  // timestamp of the last one with an option
	testing   bool    // text was sent with an option that nobody asked for,
	testSeq   seq.Num // here

	// As sender.
	sentCEP   uint32           // s.cep
	sentBytes [numMarks]uint64 // s.e1b, s.e0b, s.ceb
	optSeen   bool             // options do arrive
	optIgnore bool             // but make no sense
	heard     bool             // the ACE field of an established connection was read
	tsval     uint32           // timestamp of the latest ACK
	usual     uint32           // packets that an ACK is for, moving average with 6 bits of fraction
	optCEP    uint32           // sentCEP at the last option
	optAcked  int              // packets acknowledged since then

	// How much of what was delivered at first met congestion.
	rounds            uint8
	delivered, marked int
}

const (
	numMarks = CE + 1

	// Initial counters (§3.2.1), so that zero is recognised as wrong.
	initCEP   = 5
	initBytes = 1 // of both ECT

	// usualPackets is how many packets an ACK may be for on average before
	// several in one no longer mean that ACKs got lost (A.2.1; Linux's value),
	// in the unit of accurate.usual.
	usualPackets = 4 << usualBits
	usualBits    = 6

	// allMarked is how many rounds at the start of a connection may be marked
	// from end to end before that is taken for a broken path (§3.2.2.3).
	allMarked = 4
	// maxRepeats is how many ACKs with the option may seem lost before one is
	// known to have arrived.
	maxRepeats = 3
	// lateOption is after how much text the first option comes too late: its
	// counters may have wrapped (half of their range; Linux).
	lateOption = 1 << 23
)

func newAccurate() *accurate {
	a := &accurate{cep: initCEP, sentCEP: initCEP, optCEP: initCEP}
	a.bytes[ECT0], a.bytes[ECT1] = initBytes, initBytes
	a.sentBytes = a.bytes
	return a
}

// handshakeACE encodes how a SYN or SYN/ACK arrived (tables 2 and 3).
func handshakeACE(mark Codepoint) uint8 {
	return [numMarks]uint8{NotECT: 0b010, ECT1: 0b011, ECT0: 0b100, CE: 0b110}[mark&3]
}

// accurateSynAck takes the SYN/ACK that agreed to accurate feedback: how it
// arrived, and how our SYN did.
func (c *Conn) accurateSynAck(now mono.Time, s *Segment) {
	a := c.ecn.acc
	a.synAckArrived(s.ECN)
	a.handshake = true
	c.ackOnce()  // at once, whatever the user wants of ACKs
	a.demand = 2 // §3.2.3.2.1: on this ACK, and as it may get lost on the first text
	a.readFirstOption(&s.Options.AccECN)
	c.handshakeMark(now, s.Flags.ace())
}

// synAckArrived notes how a SYN/ACK arrived. A mark counts once, however many
// come (§3.2.2.2).
func (a *accurate) synAckArrived(mark Codepoint) {
	a.synAck = mark
	if mark == CE && a.cep == initCEP && !a.lastCE {
		a.cep++
		a.lastCE = true
	}
}

// accurateSynAckAgain answers the SYN/ACK when it comes again because the ACK of
// the first was lost, and reports whether it is that (§3.2.2.1).
func (c *Conn) accurateSynAckAgain(now mono.Time, s *Segment) bool {
	if c.state < Established || s.Flags&(FlagSYN|FlagACK|FlagRST) != FlagSYN|FlagACK || s.Seq != c.irs || s.Ack != c.iss+1 ||
		c.cfg.ECN != ECNAccurate || agreed(ecnBits, s.Flags) != FeedbackAccurate {
		return false
	}
	c.ecn.acc.synAckArrived(s.ECN)
	owed := c.owedAcks
	c.challenge(now)
	if c.owedAcks > owed {
		c.ecn.acc.handshake, c.ecn.acc.bare = true, true
	}
	return true
}

// accurateAckOfSyn takes the ACK that ends SYN-RECEIVED, which says how our
// SYN/ACK arrived, unless it has something else to say (§3.2.2.1, table 4).
func (c *Conn) accurateAckOfSyn(now mono.Time, s *Segment) {
	e, a := c.ecn, c.ecn.acc
	e.flags |= ecnHandshake
	ace := s.Flags.ace()
	a.readFirstOption(&s.Options.AccECN)
	switch {
	case ace == 0:
		// The peer does not use accurate feedback after all, or somebody
		// cleared the flags.
		e.flags |= ecnMute | ecnDeaf
	case s.Len() == 0 && s.Options.NumSACK == 0:
		if ace == handshakeACE(CE) {
			a.sentCEP++
		}
		c.handshakeMark(now, ace)
	default:
		if d := (uint32(ace) - a.sentCEP) & 7; d > 0 {
			a.sentCEP += d
			c.handshakeMark(now, handshakeACE(CE))
		}
	}
}

// handshakeMark draws the conclusions from how our SYN or SYN/ACK arrived, which
// left as Not-ECT (§3.2.2.3). Values that are not defined say nothing (§3.1.3,
// table 4). A mark is to be answered even so: the router that made it may be
// another one than the one that made the packet ECT.
func (c *Conn) handshakeMark(now mono.Time, ace uint8) {
	switch ace {
	case handshakeACE(CE):
		c.ecn.deliveredCE++
		c.ecn.reductions++
		c.ecn.flags |= ecnHandshakeCE // when there is a controller to be told
		fallthrough
	case handshakeACE(ECT0), handshakeACE(ECT1):
		c.ecn.flags |= ecnMute
	}
}

// accurateMark counts an acceptable packet that arrived, and answers at once
// where the three bits of the ACE field might not suffice otherwise
// (§3.2.2.5.1).
func (c *Conn) accurateMark(s *Segment, segs int) {
	a, n := c.ecn.acc, s.PayloadLen()
	marked := s.ECN == CE
	if marked {
		a.cep += uint32(segs)
		a.pending = uint8(min(int(a.pending)+segs, 255))
	}
	if n > 0 && s.ECN != NotECT {
		a.bytes[s.ECN&3] += uint64(n)
		a.changed |= 1 << (s.ECN & 3)
		a.fresh |= 1 << (s.ECN & 3)
		c.kick = true // segments are smaller with the option: one may fit now
	}
	if c.state == TimeWait {
		c.tw.ecn = c.feedbackFlags()
		return
	}
	began := marked && !a.lastCE
	a.lastCE = marked
	owed := c.lastAckSent.Less(c.rcvNxt)
	switch {
	case n > 0 && began, a.pending >= 2 && owed:
		c.ackOnce()
	case a.pending >= 3:
		// ACKs of ACKs, if ever a peer sends them as ECT: they must not look
		// like duplicates, nor begin a dialogue.
		a.bare = c.owedAcks == 0
		c.ackOnce()
	}
}

// accurateSent notes that a segment goes out with the counters, and with the
// option o if it is present.
func (c *Conn) accurateSent(o *Options) {
	a := c.ecn.acc
	a.pending = 0
	a.bare, a.handshake = false, false
	if a.withOpt = o.AccECN.Present; a.withOpt {
		a.fresh = 0
		a.optTS = o.TSVal
		a.demand -= min(a.demand, 1)
	}
}

// outputHandshakeAck sends the ACK of a SYN/ACK, before any text so that nothing
// else is in it (§3.2.2.1).
func (c *Conn) outputHandshakeAck(now mono.Time, s *Segment) bool {
	a := c.ecn.acc
	a.handshake, a.bare = false, true
	c.outputAck(now, s)
	s.Flags = s.Flags&^ecnBits | aceFlags(handshakeACE(a.synAck))
	return true
}

// handshakeAckDue reports that the next segment is to say how the SYN/ACK
// arrived.
func (c *Conn) handshakeAckDue() bool {
	return c.ecn != nil && c.ecn.acc != nil && c.ecn.acc.handshake && c.owedAcks > 0
}

// wholeFrames reports that a segment must not be larger than what fits a frame,
// because whoever cuts it would clear the CWR flag of all pieces but the first,
// as RFC 3168 wants, which here is a bit of the ACE field (§3.3.4).
func (c *Conn) wholeFrames() bool {
	return c.ecn != nil && c.ecn.acc != nil && aceFlags(uint8(c.ecn.acc.cep))&FlagCWR != 0
}

// optionSpace shares the space for options of the next segment: how many SACK
// blocks it carries, and how many fields of the AccECN option, -1 for none of
// it. The option takes precedence as long as two blocks fit beside it
// (§3.2.3.3).
func (c *Conn) optionSpace() (blocks, fields int) {
	blocks = c.sackRoom()
	if c.ecn == nil || c.ecn.acc == nil {
		return blocks, -1
	}
	a := c.ecn.acc
	if a.bare {
		blocks = 0
	}
	if a.noOption || a.demand == 0 && a.fresh == 0 {
		return blocks, -1
	}
	room := maxOptions
	if c.tsOK {
		room -= tsOptionLen
	}
	if c.uto.due {
		room -= lenUserTimeout
	}
	all := a.fieldsFor(a.changed)
	if a.demand > 0 {
		all = maxAccECN
	}
	for _, fields := range [2]int{all, a.fieldsFor(a.fresh)} {
		left := (room - accECNLen(fields) - 4) / lenSACKBlock
		if left >= min(blocks, 2) {
			return min(blocks, left), fields
		}
	}
	return blocks, -1
}

// ect1First reports which order of the option's fields is the shorter one.
func (a *accurate) ect1First() bool { return a.changed&(1<<ECT0|1<<ECT1) == 1<<ECT1 }

// fieldsFor returns how many fields the option needs to tell of the codepoints
// in set.
func (a *accurate) fieldsFor(set uint8) int {
	first, last := ECT0, ECT1
	if a.ect1First() {
		first, last = last, first
	}
	switch {
	case set&(1<<last) != 0:
		return 3
	case set&(1<<CE) != 0:
		return 2
	case set&(1<<first) != 0:
		return 1
	}
	return 0
}

// option writes the option with so many fields (§3.2.3.1).
func (a *accurate) option(o *AccECN, fields int) {
	*o = AccECN{Present: true, ECT1: a.ect1First(), Fields: int8(fields)}
	for i := range fields {
		o.Bytes[i] = uint32(a.bytes[o.Mark(i)]) & accECNMask
	}
}

// testedByText notes new text whose option has nothing to report.
func (a *accurate) testedByText(s *Segment) {
	if s.Options.AccECN.Present && a.changed == 0 {
		a.testing, a.testSeq = true, s.Seq
	}
}

// sentAgainWithOption notes that text which had an option only as a test was
// sent again: what passes is then not put at risk any more (§3.2.3.2.2).
func (c *Conn) sentAgainWithOption(at seq.Num) {
	if a := c.ecn.acc; a != nil && a.testing && at == a.testSeq {
		a.testing, a.noOption = false, true
	}
}

// accurateRepeat notes text that came again although it was acknowledged. If
// that happens again and again, ACKs do not get through because of the option
// (§3.2.3.2.2). One whose timestamp the peer echoes did.
func (c *Conn) accurateRepeat() {
	a := c.ecn.acc
	if a == nil || !a.withOpt {
		return
	}
	if a.repeats++; a.repeats >= maxRepeats {
		a.noOption = true
	}
}
