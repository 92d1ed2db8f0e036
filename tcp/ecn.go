package tcp

import (
	"fmt"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns Explicit Congestion Notification of RFC 3168: what the two
// handshake segments agree to, which packets carry ECT, how the receiver of a
// mark echoes it, and what the echo does to the sender. The counting kind of
// feedback of RFC 9768, which uses the same three flags, is in accecn.go.
//
//	sender                    router                     receiver
//	new text, ECT(0) -------> queue grows: CE ---------> the mark
//	window reduced   <------- ACK with ECE, every one <--'
//	next new text, CWR -----------------------------> no ECE any more

// Codepoint is the ECN field of the IP header (RFC 3168 §5).
type Codepoint uint8

// The codepoints. ECT says that the transport understands marks; we send
// ECT(0) only (RFC 8311 §4.1: ECT(1) is for experiments).
const (
	NotECT Codepoint = iota
	ECT1
	ECT0
	CE // congestion experienced
)

// ECN says what a host does about ECN, as Linux's sysctl tcp_ecn, whose number
// each value has in its comment. A host always falls back to what its peer
// understands.
type ECN uint8

// The choices. The default is Linux's.
const (
	// ECNPassive accepts RFC 3168 when the peer asks and does not ask itself (2).
	ECNPassive ECN = iota
	// ECNOff neither asks nor accepts (0).
	ECNOff
	// ECNOn asks for RFC 3168 and accepts it (1).
	ECNOn
	// ECNAccuratePassive accepts what the peer asks for, RFC 9768 included,
	// and does not ask itself (5).
	ECNAccuratePassive
	// ECNAccurate asks for RFC 9768 and accepts both (3).
	ECNAccurate
	numECN
)

var ecnNames = [numECN]string{"passive", "off", "on", "accecn-passive", "accecn"}

// String returns the name that ParseECN reads.
func (e ECN) String() string {
	if e < numECN {
		return ecnNames[e]
	}
	return "unknown"
}

// ParseECN reads "off", "passive", "on", "accecn-passive" or "accecn".
func ParseECN(s string) (ECN, error) {
	for i, n := range ecnNames {
		if s == n {
			return ECN(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of off, passive, on, accecn-passive, accecn", s)
}

func (e ECN) accurate() bool { return e == ECNAccurate || e == ECNAccuratePassive }

// Feedback is how the receiver of marks tells the sender: what the handshake
// agreed to.
type Feedback uint8

// The kinds of feedback.
const (
	FeedbackNone     Feedback = iota
	FeedbackClassic           // RFC 3168: one sign for each window
	FeedbackAccurate          // RFC 9768: counters
)

// String returns "none", "classic" or "accurate".
func (f Feedback) String() string {
	return [...]string{"none", "classic", "accurate"}[min(f, FeedbackAccurate)]
}

// ecnBits are the flags that ECN uses in any of its meanings; with SYN clear
// and accurate feedback they are the ACE field, AE its highest bit.
const (
	ecnBits  = FlagAE | FlagCWR | FlagECE
	aceShift = 6
)

// ace reads the flags as the ACE field (RFC 9768 §3.2.2).
func (f Flags) ace() uint8 { return uint8(f & ecnBits >> aceShift) }

// aceFlags writes an ACE field as flags.
func aceFlags(n uint8) Flags { return Flags(n) << aceShift & ecnBits }

// ecnState is what a connection knows of ECN; one without ECN has none.
type ecnState struct {
	feedback Feedback
	flags    ecnFlags
	syn      synECN    // the peer's SYN, which we answer in SYN-RECEIVED
	cwrTo    seq.Num   // with ecnReducing: until something beyond it is acknowledged
	acc      *accurate // with FeedbackAccurate

	receivedCE  uint64 // segments that arrived marked
	deliveredCE uint64 // segments of ours that did, by the peer's account
	reductions  uint64 // of the window because of marks
}

type ecnFlags uint8

const (
	ecnEcho        ecnFlags = 1 << iota // a mark arrived: ECE until CWR comes
	ecnCWR                              // the window was reduced: the next new text says so
	ecnSeen                             // the peer does send ECT
	ecnMute                             // we do not, as the path or the handshake was odd
	ecnDeaf                             // feedback is not believed
	ecnReducing                         // a reduction because of a mark is under way
	ecnHandshake                        // the segment just arriving says how our SYN/ACK arrived, and nothing else
	ecnHandshakeCE                      // our SYN or SYN/ACK was marked
)

func (e *ecnState) has(f ecnFlags) bool { return e != nil && e.flags&f != 0 }

// ask is the flags of a SYN that is sent for the tries-th time, from 0 on.
//
// RFC 3168 §6.1.1.1 and RFC 9768 §3.1.4.1: some boxes drop what they do not
// know, so that after one such SYN, or two with accurate ECN, plain ones
// follow (Linux's tcp_ecn_fallback).
func (e ECN) ask(tries int) Flags {
	switch {
	case e == ECNOn && tries < 1:
		return FlagECE | FlagCWR
	case e == ECNAccurate && tries < 2:
		return ecnBits
	}
	return 0
}

// accept is what a SYN leads to (RFC 9768 §3.1.2, table 2, third block, and
// §3.1.3).
func (e ECN) accept(syn *Segment) Feedback {
	asked := syn.Flags & ecnBits
	switch {
	case asked == 0 || e == ECNOff:
		return FeedbackNone
	case asked == FlagECE|FlagCWR && syn.ECN != NotECT:
		// RFC 3168 §6.1.1: "A host MUST NOT set ECT on SYN". As Linux does:
		// somebody on the path uses these bits for something else.
		return FeedbackNone
	case asked == FlagECE|FlagCWR:
		return FeedbackClassic
	case e.accurate():
		return FeedbackAccurate // combinations that are yet to be defined as well
	case asked == ecnBits:
		return FeedbackClassic
	}
	return FeedbackNone
}

// agreed is what a SYN/ACK with these flags agrees to, if the SYN had asked
// with those (RFC 3168 §6.1.1; RFC 9768 §3.1.2, table 2, and §3.1.3).
func agreed(asked, flags Flags) Feedback {
	flags &= ecnBits
	switch asked {
	case FlagECE | FlagCWR:
		if flags&(FlagECE|FlagCWR) == FlagECE {
			return FeedbackClassic
		}
	case ecnBits:
		switch flags {
		case 0, ecnBits: // ecnBits: it only reflects ours
		case FlagECE:
			return FeedbackClassic
		default:
			return FeedbackAccurate
		}
	}
	return FeedbackNone
}

// synAckFlags is the answer to a SYN that led to f and arrived marked mark.
func (f Feedback) synAckFlags(mark Codepoint) Flags {
	switch f {
	case FeedbackClassic:
		return FlagECE
	case FeedbackAccurate:
		return aceFlags(handshakeACE(mark))
	}
	return 0
}

// startECN begins with the feedback agreed to. plain says that we sent a SYN
// that did not ask for it.
func (c *Conn) startECN(f Feedback, plain bool) {
	if f == FeedbackNone {
		return
	}
	c.extra().ecn = &ecnState{feedback: f}
	switch {
	case f == FeedbackAccurate:
		c.ecn.acc = newAccurate()
	case plain:
		// RFC 3168 §6.1.1: it may have been that one which the peer answered.
		c.ecn.flags |= ecnMute
	}
}

// synSentECN takes over what the peer's SYN or SYN/ACK in SYN-SENT says about
// ECN.
func (c *Conn) synSentECN(now mono.Time, s *Segment) {
	asked, plain := c.cfg.ECN.ask(0), c.cfg.ECN.ask(c.retries) == 0
	if s.Flags&FlagACK == 0 {
		// A simultaneous open: as if we had listened (RFC 9768 §3.1.2).
		c.startECN(c.cfg.ECN.accept(s), plain)
		if c.ecn != nil {
			c.ecn.syn = newSynECN(c.cfg.ECN, s)
		}
		return
	}
	c.startECN(agreed(asked, s.Flags), plain)
	if c.ecn != nil && c.ecn.acc != nil {
		c.accurateSynAck(now, s)
	}
}

// putSynECN says in our SYN or SYN/ACK, which is otherwise finished, what is to
// be said about ECN.
func (c *Conn) putSynECN(s *Segment) {
	switch e := c.ecn; {
	case c.state != SynReceived:
		s.Flags |= c.cfg.ECN.ask(c.retries)
	case e != nil:
		e.syn.synAck(s, c.retries)
		if s.Options.FastOpen.Present {
			s.Options.AccECN = AccECN{} // there is no room for both
		}
		c.muteIf(e.syn.mute)
	}
}

// synAgainECN takes the peer's SYN when it comes again in SYN-RECEIVED, and
// reports whether that can be answered.
func (c *Conn) synAgainECN(s *Segment) bool {
	e := c.ecn
	if e == nil {
		return true
	}
	ok := e.syn.again(s)
	if e.syn.feedback == FeedbackNone {
		c.ecn = nil
		return ok
	}
	c.muteIf(e.syn.mute)
	return ok
}

func (c *Conn) muteIf(on bool) {
	if on {
		c.ecn.flags |= ecnMute
	}
}

// feedbackFlags is what every segment but a SYN says about ECN.
func (c *Conn) feedbackFlags() Flags {
	switch e := c.ecn; {
	case e.acc != nil:
		return aceFlags(uint8(e.acc.cep))
	case e.flags&ecnEcho != 0:
		return FlagECE
	}
	return 0
}

// markNew gives new text its codepoint, and the sign that the window was
// reduced (RFC 3168 §6.1.2). Nothing else has either: not what is sent again,
// nor window probes, nor what carries no text (§6.1.4 to §6.1.6).
func (c *Conn) markNew(s *Segment) {
	e := c.ecn
	if e == nil || s.PayloadLen() == 0 {
		return
	}
	if e.flags&ecnMute == 0 {
		s.ECN = ECT0
	}
	if e.acc != nil {
		e.acc.testedByText(s)
	}
	if e.flags&ecnCWR != 0 {
		e.flags &^= ecnCWR
		s.Flags |= FlagCWR
	}
}

// inputMark takes the codepoint of an acceptable segment, after its text
// (RFC 3168 §6.1.3). What is outside of the window did not come so far, so that
// nobody can slow the peer down by guesses (§6.1.5).
func (c *Conn) inputMark(now mono.Time, s *Segment) {
	e := c.ecn
	e.flags &^= ecnHandshake
	segs := max(s.Segs, 1)
	if s.ECN == CE {
		e.receivedCE += uint64(segs)
	}
	switch {
	case e.acc != nil:
		c.accurateMark(s, segs)
		return
	case s.Len() == 0 || c.state == TimeWait:
		return
	}
	if s.Flags&FlagCWR != 0 {
		// As Linux: the peer's window may be down to one segment, which
		// should not wait for a companion.
		e.flags &^= ecnEcho
		c.ackOnce()
	}
	switch {
	case s.PayloadLen() == 0:
	case s.ECN == CE:
		if e.flags&ecnEcho == 0 {
			e.flags |= ecnEcho
			c.markQuick()
		}
		e.flags |= ecnSeen
	case s.ECN != NotECT:
		e.flags |= ecnSeen
	case e.flags&ecnSeen != 0:
		c.markQuick() // as Linux: text that is not ECT was sent again
	}
}

// markQuick acknowledges this segment and the next at once.
func (c *Conn) markQuick() {
	c.quick = max(c.quick, 2)
	c.pingpong = false
	c.ackOnce()
}

// inputFeedback takes what an ACK says about marks, after everything else that
// it says. acked is by how much it advanced sndUna, delivered how much arrived by
// its account, flight what was in flight before it. It returns how many bytes
// met congestion.
func (c *Conn) inputFeedback(now mono.Time, s *Segment, acked, delivered, flight int) (marked int) {
	e := c.ecn
	if e.flags&ecnReducing != 0 && e.cwrTo.Less(c.sndUna) {
		c.endReduction(now)
	}
	switch {
	case s.Flags&FlagSYN != 0, e.flags&ecnHandshake != 0:
	case e.acc != nil:
		if marked = c.accurateFeedback(now, s, delivered); marked > 0 {
			c.congested(now, flight)
		}
	case s.Flags&FlagECE != 0:
		// Linux's delivered_ce: nobody knows which of them it was.
		marked = delivered
		e.deliveredCE += uint64((delivered + c.mss - 1) / c.mss)
		c.congested(now, flight)
	}
	if e.flags&ecnReducing != 0 {
		c.prrAck(delivered, acked > 0)
		c.kick = true
	}
	return marked
}

// congested reduces the window because of a mark, once for each window of data
// (RFC 3168 §6.1.2), and spreads the reduction over a round trip as after a loss
// (Linux's state CWR). If a loss is being repaired the window was reduced
// already.
//
// Departs from §6.1.2, as Linux does: a window of one segment is not halved by
// waiting for the retransmission timer.
func (c *Conn) congested(now mono.Time, flight int) {
	e := c.ecn
	switch {
	case c.state == Closed || c.state == TimeWait:
	case c.phase != phaseOpen:
		c.extra().undo.marked = true
	case e.flags&ecnReducing == 0:
		e.reductions++
		c.undoNever()
		c.traceMark()
		c.roundMarked()
		e.flags |= ecnReducing
		e.cwrTo = c.sndNxt
		c.cc.OnECN(now, flight+int(c.prr.due))
		c.windowReduced()
		c.prrBegin()
	}
}

// endReduction ends what congested began: the peer has heard of it, as
// something beyond what was in flight then is acknowledged.
func (c *Conn) endReduction(now mono.Time) {
	c.ecn.flags &^= ecnReducing
	c.kick = true
}

// reducing reports that the window is on its way down because of a mark. A loss
// meanwhile takes this reduction over instead of beginning another one. A
// controller without a threshold has its own ways.
func (c *Conn) reducing() bool { return c.ecn.has(ecnReducing) && c.cc.Ssthresh() < cc.MaxWindow }

// windowReduced notes that the peer is to be told of a reduction, for whatever
// reason (RFC 3168 §6.1.2).
func (c *Conn) windowReduced() {
	if e := c.ecn; e != nil && e.feedback == FeedbackClassic {
		e.flags |= ecnCWR
	}
}

// windowRestored takes that back when the reduction was for nothing (Linux).
func (c *Conn) windowRestored() {
	if c.ecn != nil {
		c.ecn.flags &^= ecnCWR
	}
}

// info fills in what Info says of ECN.
func (e *ecnState) info(i *Info) {
	if e == nil {
		return
	}
	i.ECN, i.ECT, i.ECNSeen = e.feedback, e.flags&ecnMute == 0, e.flags&ecnSeen != 0
	i.ECNReductions, i.ReceivedCE, i.DeliveredCE = e.reductions, e.receivedCE, e.deliveredCE
	if a := e.acc; a != nil {
		marks := func(b *[numMarks]uint64) Marks {
			return Marks{ECT0: b[ECT0] - initBytes, ECT1: b[ECT1] - initBytes, CE: b[CE]}
		}
		i.ReceivedMarks, i.DeliveredMarks = marks(&a.bytes), marks(&a.sentBytes)
		i.ECNSeen = i.ReceivedMarks != Marks{}
		i.AccECNIn, i.AccECNIgnored = a.optSeen, a.optIgnore
	}
}
