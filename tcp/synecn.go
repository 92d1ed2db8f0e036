package tcp

// This file owns what a half-open connection knows of ECN: what the SYN asked
// for and how it arrived, and what to make of it when SYN or SYN/ACK are
// repeated, perhaps without asking (RFC 3168 §6.1.1.1, RFC 9768 §3.1.4, §3.1.5).

// synECN is a part of SynRequest.
type synECN struct {
	mode     ECN       // ours
	feedback Feedback  // agreed to
	mark     Codepoint // of the latest SYN
	mute     bool      // no ECT
	repeated bool      // the SYN came again
}

func newSynECN(mode ECN, syn *Segment) synECN {
	return synECN{mode: mode, feedback: mode.accept(syn), mark: syn.ECN}
}

// again takes the SYN when it comes again. False says that the client has asked
// for both kinds of feedback, so that nobody can know which one it uses:
// RFC 9768 §3.1.5 wants a reset.
func (e *synECN) again(syn *Segment) bool {
	e.repeated = true
	e.mark = syn.ECN
	switch asks := e.mode.accept(syn); {
	case e.feedback == FeedbackNone, asks == e.feedback:
	case asks != FeedbackNone:
		return false
	case e.feedback == FeedbackClassic:
		e.feedback = FeedbackNone // RFC 3168 §6.1.1.1, steps 3 and 4
	default:
		// Accurate feedback stays, but whether the client has it is not certain.
		e.mute = true
	}
	return true
}

// synAck says in a SYN/ACK what was agreed to; it was sent tries times already.
// A client that asks for accurate feedback gets an option with it, unless this
// is what some box on the path drops, and the last attempts go without all of
// it (RFC 9768 §3.2.3.2.2).
func (e *synECN) synAck(s *Segment, tries int) {
	if e.feedback != FeedbackAccurate {
		s.Flags |= e.feedback.synAckFlags(e.mark)
		return
	}
	if tries >= 2 {
		e.mute = true // §3.1.5: it may be this one that arrives
		return
	}
	s.Flags |= e.feedback.synAckFlags(e.mark)
	if e.option(tries) {
		s.Options.AccECN = AccECN{Present: true, Fields: maxAccECN, Bytes: [maxAccECN]uint32{initBytes, 0, initBytes}}
	}
}

func (e *synECN) option(tries int) bool { return tries == 0 && !e.repeated }

// ackFlags is what an ACK says about ECN that is no SYN/ACK.
func (e *synECN) ackFlags() Flags {
	if e.feedback == FeedbackAccurate {
		return aceFlags(initCEP)
	}
	return 0
}

// start gives c, the connection that r becomes, what it has to know.
func (e *synECN) start(c *Conn, tries int) {
	c.startECN(e.feedback, e.mute)
	if c.ecn == nil {
		return
	}
	c.ecn.syn = *e
	if a := c.ecn.acc; a != nil {
		c.muteIf(e.mute)
		// What was once too much for the path is not tried again.
		a.noOption = !e.option(tries)
	}
}
