package tcp

import (
	"fmt"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/seq"
)

// This file tries every combination of the nine flags in every state, with
// numbers before, in and after what is expected, against an oracle that knows
// nothing but the text of RFC 9293 §3.10.7 and RFC 5961. LISTEN and CLOSED are
// tables of package stack and are tried there.

// reply is what may come back at once.
type reply int

const (
	silence  reply = iota
	anAck          // <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>
	aReset         // <SEQ=SEG.ACK><CTL=RST>
	aSynAck        // <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>
	maybeAck       // an ACK, now or with what follows
)

func (r reply) String() string {
	return [...]string{"silence", "ACK", "RST", "SYN-ACK", "perhaps an ACK"}[r]
}

// tcb is what the oracle knows of a connection: RFC 9293 §3.3.1.
type tcb struct {
	state          State
	iss, una, nxt  seq.Num
	irs, rcv, edge seq.Num // RCV.NXT, and RCV.NXT+RCV.WND
	oldest         seq.Num // RFC 5961 §5.2
	passive        bool    // came from LISTEN
}

// oracle returns what has to follow, in the words of RFC 9293 §3.10.7.3 and .4.
func (b tcb) oracle(s *Segment) (State, reply) {
	rst, syn, ack, fin := s.Flags&FlagRST != 0, s.Flags&FlagSYN != 0, s.Flags&FlagACK != 0, s.Flags&FlagFIN != 0
	text := s.PayloadLen()
	if b.state == SynSent {
		switch {
		case ack && (s.Ack.LessEq(b.iss) || b.nxt.Less(s.Ack)):
			if rst {
				return SynSent, silence
			}
			return SynSent, aReset
		case rst && ack:
			return Closed, silence
		case rst:
			return SynSent, silence
		case syn && ack && fin:
			return CloseWait, anAck
		case syn && ack:
			return Established, anAck
		case syn:
			return SynReceived, aSynAck
		}
		return SynSent, silence
	}
	at := s.Seq
	if b.state == SynReceived && syn && !rst && at == b.irs {
		// Linux, where the RFC's first check would only acknowledge: the
		// peer's SYN again wants our SYN-ACK again; with an ACK it counts as
		// the third segment (figure 7).
		if !ack {
			return b.state, aSynAck
		}
		if !b.passive {
			syn = false
			at++
		}
	}
	if b.state == TimeWait && syn && !rst && !ack && !fin && b.rcv.Less(at) {
		return Closed, silence // MAY-2: reopened
	}
	// First, check sequence number.
	n := text
	if syn {
		n++
	}
	if fin {
		n++
	}
	var ok bool
	if n == 0 {
		// The edge itself: Linux, but no RST there.
		ok = b.rcv.LessEq(at) && at.LessEq(b.edge) && !(rst && at == b.edge && b.edge != b.rcv)
	} else {
		last := at.Add(n - 1)
		ok = b.rcv.LessEq(at) && at.Less(b.edge) || b.rcv.LessEq(last) && last.Less(b.edge)
	}
	if !ok {
		departed := b.state == CloseWait || b.state == LastAck || b.state == Closing
		if rst && departed && at == b.rcv-1 {
			return Closed, silence // Linux
		}
		if rst {
			return b.state, silence
		}
		return b.state, anAck
	}
	// Second, check the RST bit (RFC 5961 §3.2).
	if rst && s.Seq == b.rcv && b.state == SynReceived && b.passive {
		return Listen, silence
	}
	if rst && s.Seq == b.rcv {
		return Closed, silence
	}
	if rst {
		return b.state, anAck
	}
	// Fourth, check the SYN bit (RFC 5961 §4.2).
	if syn && b.state == SynReceived && b.passive {
		return Listen, silence
	}
	if syn {
		return b.state, anAck
	}
	// Fifth, check the ACK field.
	if !ack {
		return b.state, silence
	}
	to := b.state
	switch b.state {
	case SynReceived:
		if s.Ack.LessEq(b.una) || b.nxt.Less(s.Ack) {
			return b.state, aReset
		}
		to = Established
	default:
		if b.nxt.Less(s.Ack) || s.Ack.Less(b.oldest) && b.state != TimeWait {
			return b.state, anAck
		}
		finAcked := s.Ack == b.nxt
		switch {
		case b.state == FinWait1 && finAcked:
			to = FinWait2
		case b.state == Closing && finAcked:
			to = TimeWait
		case b.state == LastAck && finAcked:
			return Closed, silence
		}
	}
	// Seventh, process the segment text; eighth, check the FIN bit.
	switch to {
	case Established, FinWait1, FinWait2:
		end := at.Add(text)
		switch {
		case fin && at.LessEq(b.rcv) && end.Less(b.edge):
			next := map[State]State{Established: CloseWait, FinWait1: Closing, FinWait2: TimeWait}
			return next[to], anAck
		case fin && b.rcv.Less(at), text > 0 && b.rcv.Less(at):
			return to, anAck // beyond a hole: RFC 5681 §4.2
		case n > 0:
			return to, maybeAck
		}
		return to, silence
	}
	if b.state == TimeWait && (n > 0 || at != b.rcv) {
		return to, anAck // Linux: to whatever does not have the next number
	}
	return to, silence
}

// TestEveryFlagInEveryState is the table.
func TestEveryFlagInEveryState(t *testing.T) {
	const open = "connect\n> S 0:0(0)\n< S. 0:0(0) ack 1 win 1000\n> . 1:1(0) ack 1\nwrite 20\n> P. 1:21(20) ack 1\n< . 1:1(0) ack 11 win 1000\n"
	for name, script := range map[string]string{
		"SYN-SENT":                   "connect\n> S 0:0(0)",
		"SYN-RECEIVED, passive":      "listen\n< S 0:0(0) win 1000\n> S. 0:0(0) ack 1",
		"SYN-RECEIVED, simultaneous": "connect\n> S 0:0(0)\n< S 0:0(0) win 1000\n> S. 0:0(0) ack 1",
		"ESTABLISHED":                open,
		"FIN-WAIT-1":                 open + "shutdown\n> F. 21:21(0) ack 1",
		"FIN-WAIT-2":                 open + "shutdown\n> F. 21:21(0) ack 1\n< . 1:1(0) ack 22 win 1000",
		"CLOSE-WAIT":                 open + "< F. 1:1(0) ack 11 win 1000\n> . 21:21(0) ack 2",
		"CLOSING":                    open + "shutdown\n> F. 21:21(0) ack 1\n< F. 1:1(0) ack 11 win 1000\n> . 22:22(0) ack 2",
		"LAST-ACK":                   open + "< F. 1:1(0) ack 11 win 1000\n> . 21:21(0) ack 2\nshutdown\n> F. 21:21(0) ack 2",
		"TIME-WAIT":                  open + "shutdown\n> F. 21:21(0) ack 1\n< F. 1:1(0) ack 22 win 1000\n> . 22:22(0) ack 2\ntimewait",
	} {
		t.Run(name, func(t *testing.T) {
			script := "config rcvbuf=2000 iss=4294967290 peer=4294967000\n" + script
			for flags := range Flags(flagMask + 1) {
				ats, acks, texts := []int{-1, 0, 7, 2000, 2010}, []int{-5000, -1, 0, 1}, []int{0, 5}
				if flags&^(FlagSYN|FlagFIN|FlagRST|FlagACK) != 0 {
					ats, acks, texts = []int{0, 7}, []int{0, 1}, []int{5} // the others should not matter
				}
				for _, at := range ats {
					for _, ack := range acks {
						for _, text := range texts {
							tryFlags(t, run(t, script), flags, at, ack, text)
						}
					}
				}
			}
		})
	}
}

// tcbOf reads the variables of whatever stands for the connection.
func (tr *trace) tcbOf() (b tcb) {
	switch {
	case tr.tw != nil:
		w := tr.tw
		b = tcb{state: TimeWait, una: w.sndNxt, nxt: w.sndNxt, rcv: w.rcvNxt, edge: w.rcvNxt.Add(int(w.window) << w.rcvWScale)}
	case tr.req != nil:
		r := tr.req
		b = tcb{state: SynReceived, passive: true, iss: r.iss, una: r.iss, nxt: r.iss + 1, irs: r.irs, rcv: r.irs + 1, edge: r.irs + 1 + 2000}
	default:
		c := tr.c
		b = tcb{state: c.state, iss: c.iss, una: c.sndUna, nxt: c.sndNxt, irs: c.irs, rcv: c.rcvNxt, edge: c.rcvAdv,
			oldest: c.sndUna.Add(-min(int(c.maxSndWnd), int(c.stat.bytesAcked)+1))}
	}
	return b
}

// tryFlags inputs one segment: at is its place from RCV.NXT on, ack from
// SND.NXT.
func tryFlags(t *testing.T, tr *trace, flags Flags, at, ack, text int) {
	t.Helper()
	b := tr.tcbOf()
	s := &Segment{SrcPort: 2, DstPort: 1, Flags: flags, Seq: b.rcv.Add(at), Ack: b.nxt.Add(ack), Window: 1000}
	if b.state == SynSent {
		s.Seq = seq.Num(at)
	}
	s.Payload[0] = make([]byte, text)
	// Enough time for another answer, and none for the timers.
	tr.now = tr.now.Add(600 * time.Microsecond)
	wantState, wantReply := b.oracle(s)

	var got reply
	var out, said Segment
	state := wantState
	fail := func(f string, a ...any) {
		t.Helper()
		t.Fatalf("%v: %v at RCV.NXT%+d ack SND.NXT%+d, %d bytes: %s; the oracle wants %v and %v",
			b.state, flags, at, ack, text, fmt.Sprintf(f, a...), wantState, wantReply)
	}
	answered := func(ok bool) bool {
		if !ok {
			return false
		}
		if got != silence {
			fail("a second answer: %v", &out)
		}
		said = out
		switch out.Flags & (FlagSYN | FlagACK | FlagRST | FlagFIN) {
		case FlagACK:
			got = anAck
		case FlagSYN | FlagACK:
			got = aSynAck
		case FlagRST:
			got = aReset
		default:
			fail("answered by %v", &out)
		}
		return true
	}
	switch {
	case tr.tw != nil:
		v, _ := tr.tw.Input(tr.now, s)
		state = TimeWait
		if v == VerdictRemove || v == VerdictReuse {
			state = Closed
		}
		for answered(tr.tw.Output(tr.now, &out)) {
		}
	case tr.req != nil:
		v, _ := tr.req.Input(tr.now, s)
		state = SynReceived
		switch v {
		case VerdictRemove:
			state = Listen
		case VerdictReset:
			answered(ResetFor(s, &out))
		case VerdictEstablish:
			c := tr.req.Conn(&tr.cfg, tr.now)
			c.Input(tr.now, s)
			state = c.State()
			for answered(c.Output(tr.now, &out, 0)) {
			}
		}
		for v != VerdictEstablish && answered(tr.req.Output(tr.now, &out)) {
		}
	default:
		tr.c.Input(tr.now, s)
		state = tr.c.State()
		if err := tr.c.invariants(); err != nil {
			fail("%v", err)
		}
		for answered(tr.c.Output(tr.now, &out, 0)) {
		}
		if err := tr.c.settled(); err != nil {
			fail("%v", err)
		}
	}
	if state != wantState {
		fail("state %v", state)
	}
	if got != wantReply && !(wantReply == maybeAck && (got == silence || got == anAck)) {
		fail("%v", got)
	}
	switch got {
	case aReset:
		if said.Seq != s.Ack {
			fail("reset with number %d", said.Seq)
		}
	case anAck:
		if b.state == SynSent {
			break
		}
		if said.Seq != b.nxt || said.Ack.Less(b.rcv) || b.rcv.Add(text+1).Less(said.Ack) {
			fail("acknowledged by %v", &said)
		}
	}
}
