package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns SYN-RECEIVED of a passive open. A listener keeps a record of
// some hundred bytes for each SYN instead of a connection, so that a flood of
// them costs little; the connection is made when the peer's ACK proves it real.

// Verdict is what a record wants done after a segment or a time-out.
type Verdict uint8

// The verdicts.
const (
	VerdictDrop      Verdict = iota // nothing more to do
	VerdictReply                    // call Output
	VerdictEstablish                // make the connection with Conn and feed it this segment
	VerdictRemove                   // forget the record
	VerdictReset                    // answer the segment with ResetFor, keep the record
	VerdictRefuse                   // answer the segment with ResetFor, forget the record
	VerdictReuse                    // TIME-WAIT only: forget the record, treat the SYN as new
)

// SynRequest is a passive open that waits for the third segment of the
// handshake (RFC 9293 §3.10.7.2 and the SYN-RECEIVED parts of §3.10.7.4).
type SynRequest struct {
	deadline    mono.Time // next SYN-ACK
	sentAt      mono.Time // first SYN-ACK, for the round trip
	oowAckAt    briefly   // challengeInterval runs from here
	rto, maxRTO uint32    // ms

	iss, irs           seq.Num
	tsOffset, tsRecent uint32

	localPort, remotePort uint16
	mss, peerMSS          uint16 // ours to announce; the peer's as announced, 0 if not
	window                uint16 // of the SYN-ACK: not scaled (RFC 7323 §2.2)
	rcvWScale, peerWScale uint8
	retries, maxRetries   uint8
	deferAccept           uint8  // so many SYN-ACKs go before an empty ACK will do
	adv, peerUTO          uint16 // RFC 5482: what to announce, 0 for nothing; what the peer announced
	wsOK, tsOK, sackOK    bool
	acked                 bool // an empty ACK came
	resent                bool // the SYN-ACK, for whatever reason
	reply                 synReply
	ecn                   synECN
}

// synReply is what a record's Output is to send.
type synReply uint8

const (
	replyNone synReply = iota
	replySynAck
	replyAck
)

// NewSynRequest answers a SYN to a listener (RFC 9293 §3.10.7.2, third). The
// SYN-ACK comes out of Output. Text in the SYN is not kept; the peer sends it
// again.
func NewSynRequest(cfg *Config, now mono.Time, syn *Segment) *SynRequest {
	r := new(SynRequest)
	r.Init(cfg, now, syn)
	return r
}

// Init is NewSynRequest for a record that is part of something else.
func (r *SynRequest) Init(cfg *Config, now mono.Time, syn *Segment) {
	f := *cfg
	f.fill()
	o := f.agreeable(&syn.Options)
	adv := uint16(0)
	if f.Knobs.uto {
		adv = f.Knobs.adv(f.MinRTO, f.MaxRTO, f.Retries)
	}
	*r = SynRequest{
		ecn: newSynECN(f.ECN, syn),
		rto: milliseconds(f.InitialRTO), maxRTO: milliseconds(f.MaxRTO),
		iss: f.ISS, irs: syn.Seq,
		tsOffset: f.TSOffset, tsRecent: o.TSVal,
		window: uint16(synWindow(f.firstWindow())), rcvWScale: windowScale(f.largestWindow()),
		localPort: f.LocalPort, remotePort: f.RemotePort,
		mss: uint16(min(f.MSS, 65535)), peerMSS: o.MSS,
		peerWScale:  uint8(max(o.WScale, 0)),
		maxRetries:  uint8(min(orDefault(int(f.Knobs.synCount), f.SynAckRetries), 255)),
		deferAccept: f.Knobs.deferAccept, adv: adv, peerUTO: o.UserTimeout,
		wsOK: o.HasWScale, tsOK: o.HasTS, sackOK: o.SACKPermitted,
		reply: replySynAck,
	}
}

// Input checks a segment for the half-open connection, in the order of RFC
// 9293 §3.10.7.4. With VerdictEstablish the segment is acceptable in full and
// to be fed to the connection.
func (r *SynRequest) Input(now mono.Time, s *Segment) (Verdict, Drop) {
	rst, syn := s.Flags&FlagRST != 0, s.Flags&FlagSYN != 0
	if syn && !rst && s.Flags&FlagACK == 0 && s.Seq == r.irs {
		// The SYN again: the SYN-ACK was lost (Linux answers with another one
		// where the RFC's first check would send a bare ACK). The answers
		// that time-outs send are not held back by it.
		if !r.ecn.again(s) {
			return VerdictRefuse, DropBadFlags
		}
		if r.mayAnswer(now) {
			r.reply = replySynAck
			return VerdictReply, DropNone
		}
		return VerdictDrop, DropNone
	}
	// RFC 7323 §5.3, R1.
	if r.tsOK && s.Options.HasTS && !rst && tsBefore(s.Options.TSVal, r.tsRecent) {
		return r.answer(now), DropPAWS
	}
	// RFC 9293 §3.10.7.4, first. The window is that of the SYN-ACK.
	rcvNxt := r.irs + 1
	edge := rcvNxt.Add(int(r.window))
	if n := s.Len(); n == 0 && !(rcvNxt.LessEq(s.Seq) && s.Seq.LessEq(edge)) || rst && s.Seq == edge ||
		n > 0 && !(s.Seq.Less(edge) && rcvNxt.Less(s.Seq.Add(n))) {
		if rst {
			return VerdictDrop, DropOutOfWindow
		}
		return r.answer(now), DropOutOfWindow
	}
	// RFC 9293 §3.10.7.4, second, with RFC 5961 §3.2: back to LISTEN.
	if rst {
		if s.Seq != rcvNxt {
			return r.answer(now), DropRstOutOfWindow
		}
		return VerdictRemove, DropNone
	}
	// RFC 9293 §3.10.7.4, fourth: "If the connection was initiated with a
	// passive OPEN, then return this connection to the LISTEN state".
	if syn {
		return VerdictRemove, DropSynInWindow
	}
	// RFC 9293 §3.10.7.4, fifth.
	if s.Flags&FlagACK == 0 {
		return VerdictDrop, DropBadFlags
	}
	if s.Ack != r.iss+1 {
		return VerdictReset, DropBadAck
	}
	if r.retries < r.deferAccept && s.End() == rcvNxt {
		// Linux's TCP_DEFER_ACCEPT: the client has nothing to say yet, so that
		// nobody needs a connection. It will speak, or acknowledge the SYN-ACK
		// that goes when the time is over.
		r.acked = true
		return VerdictDrop, DropDeferAccept
	}
	return VerdictEstablish, DropNone
}

// answer asks for an ACK, at a limited rate.
func (r *SynRequest) answer(now mono.Time) Verdict {
	if !r.mayAnswer(now) {
		return VerdictDrop
	}
	if r.reply == replyNone {
		r.reply = replyAck
	}
	return VerdictReply
}

// mayAnswer is the rate limit of answers to unwanted segments.
func (r *SynRequest) mayAnswer(now mono.Time) bool {
	return r.oowAckAt.mayAgain(now)
}

// Output builds the SYN-ACK or ACK that is due, or returns false.
func (r *SynRequest) Output(now mono.Time, s *Segment) bool {
	reply := r.reply
	if reply == replyNone {
		return false
	}
	r.reply = replyNone
	*s = Segment{SrcPort: r.localPort, DstPort: r.remotePort}
	s.Seq, s.Ack, s.Flags = r.iss, r.irs+1, FlagSYN|FlagACK
	s.Window = r.window
	o := &s.Options
	if r.tsOK {
		o.HasTS, o.TSVal, o.TSEcr = true, tsNow(now, r.tsOffset), r.tsRecent
	}
	if reply == replyAck {
		s.Seq, s.Flags = r.iss+1, FlagACK|r.ecn.ackFlags()
		if r.wsOK {
			s.Window >>= r.rcvWScale
		}
		return true
	}
	// An answer offers only what the peer offered.
	o.MSS = r.mss
	o.SACKPermitted = r.sackOK
	if r.wsOK {
		o.HasWScale, o.WScale = true, int8(r.rcvWScale)
	}
	r.ecn.synAck(s, int(r.retries))
	o.UserTimeout = r.adv
	if r.deadline == 0 {
		r.sentAt = now
		r.deadline = now.Add(r.length())
	} else {
		r.resent = true
	}
	return true
}

// Expire tells the record that its deadline may have passed: VerdictReply when
// the SYN-ACK is to be sent again, VerdictRemove when that was done often
// enough.
func (r *SynRequest) Expire(now mono.Time) Verdict {
	if !r.deadline.Due(now) {
		return VerdictDrop
	}
	// Linux (syn_ack_recalc): a client that has acknowledged may think until
	// the deferring is over, and is not asked again before.
	if r.retries >= r.maxRetries && (!r.acked || r.retries >= r.deferAccept) {
		return VerdictRemove
	}
	ask := !r.acked || r.retries+1 >= r.deferAccept
	r.retries++
	r.rto = min(2*r.rto, r.maxRTO)
	r.deadline = now.Add(r.length())
	if !ask {
		return VerdictDrop
	}
	r.reply = replySynAck
	return VerdictReply
}

// ISS returns the number of the SYN-ACK.
func (r *SynRequest) ISS() seq.Num { return r.iss }

// length is the present time-out.
func (r *SynRequest) length() time.Duration { return time.Duration(r.rto) * time.Millisecond }

// Retries returns how often the SYN-ACK was sent again because of a time-out.
func (r *SynRequest) Retries() int { return int(r.retries) }

// MaxRetries returns how often it is sent again at most.
func (r *SynRequest) MaxRetries() int { return int(r.maxRetries) }

// Deadline returns when Expire is to be called, 0 before the first Output.
func (r *SynRequest) Deadline() mono.Time { return r.deadline }

// Conn makes the connection, in SYN-RECEIVED and to be fed the segment that
// Input answered with VerdictEstablish. cfg is that of NewSynRequest.
func (r *SynRequest) Conn(cfg *Config, now mono.Time) *Conn {
	f := *cfg
	f.ISS, f.TSOffset = r.iss, r.tsOffset
	f.LocalPort, f.RemotePort = r.localPort, r.remotePort
	c := newConn(&f)
	c.state = SynReceived
	c.rcvWScale = r.rcvWScale
	c.start(r.irs)
	c.rcvAdv = c.rcvNxt.Add(int(r.window))
	c.negotiate(now, &Options{
		MSS:       r.peerMSS,
		HasWScale: r.wsOK, WScale: int8(r.peerWScale),
		SACKPermitted: r.sackOK,
		HasTS:         r.tsOK, TSVal: r.tsRecent,
		UserTimeout: r.peerUTO,
	})
	r.ecn.start(c, int(r.retries))
	c.retries = int(r.retries)
	c.timers[timerRexmit] = r.deadline
	c.stat.segsIn, c.stat.segsOut = 1, 1+uint32(r.retries)
	if r.retries > 0 {
		c.extra().own[CountRetransSegs] = uint32(r.retries)
	}
	c.rttTiming, c.rttAt = r.sentAt != 0 && !r.resent, r.sentAt // Karn's rule
	return c
}
