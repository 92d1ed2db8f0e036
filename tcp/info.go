package tcp

import (
	"time"
)

// This file owns the numbers a connection shows of itself.

// Info is a snapshot of a connection, in the manner of Linux's tcp_info.
// Windows and sizes are in bytes.
type Info struct {
	State State

	RTT, RTTVar, RTO time.Duration // RFC 6298's SRTT, RTTVAR and RTO; RTT 0: not measured
	MinRTT           time.Duration // the least of the last five minutes; 0: not measured
	Congestion       string        // name of the congestion control
	PacingRate       int64         // bytes per second; 0: not paced
	// DeliveryRate is the last delivery rate sample that the application did
	// not limit, or a higher one that it did, in bytes per second; 0 without a
	// controller that asks for samples.
	DeliveryRate        int64
	DeliveryRateLimited bool          // it did
	Cwnd, Ssthresh      int           // congestion window; slow start threshold
	InFlight            int           // estimate of what is in the network
	MSS                 int           // largest payload sent in a segment
	PeerMSS             int           // what the peer announced
	SndWnd, RcvWnd      int           // the peer's window, and ours as last announced
	SndWScale           int           // shift of the peer's window field
	RcvWScale           int           // shift of ours
	Unsent, Unacked     int           // bytes in the send buffer not yet sent; sent, not yet acknowledged
	SACKed, Lost        int           // parts of Unacked that arrived by the peer's SACK; that are lost and not yet sent again
	Unread              int           // bytes waiting for Read
	RcvBuf, SndBuf      int           // what the two buffers may hold at present
	RcvSpace            int           // most bytes read in a round trip
	RcvRTT              time.Duration // round trip as the receiver sees it; 0: not measured

	Timestamps, SACK, WScale bool // options in use
	SynData                  bool // text in the SYN was taken (RFC 7413)

	BytesIn, BytesOut, BytesAcked uint64 // in order; sent, repeats included; acknowledged
	SegmentsIn, SegmentsOut       uint64 // counted on the wire
	Retransmits                   uint64 // segments sent again
	FastRetransmits, Timeouts     uint64 // repairs begun by ACKs; by the retransmission timer
	RACKLost                      uint64 // segments taken for lost by RFC 8985
	TLPProbes                     uint64 // tail loss probes sent
	DSACKIn, DSACKOut             uint64 // reports of something that arrived twice (RFC 2883)
	SACKIgnored, Reneged          uint64 // blocks that make no sense; time-outs that found SACKed text gone
	DupAcksIn, OutOfOrderIn       uint64
	Probes                        uint64 // window probes sent
	KeepAlives                    uint64 // keep-alives sent
	UrgentIn                      uint64 // urgent bytes that arrived
	BlackHoles                    uint32 // times that segments were made small because of time-outs (RFC 4821)
	MTUProbes, MTUProbesLost      uint32 // larger segments tried since then; in vain
	ECN                           Feedback
	ECT                           bool   // new text is sent as ECN capable
	ECNReductions                 uint64 // of the congestion window because of marks
	ReceivedCE, DeliveredCE       uint64 // segments that arrived marked; segments of ours that did (classic feedback: at most)
	ReceivedMarks, DeliveredMarks Marks  // bytes of text by mark, with accurate feedback: received; ours, by the peer's options
	Challenges, AcksWithheld      uint64 // answers to unwanted segments; held back by the rate limit
}

// Marks counts bytes of text by the ECN field that they arrived with.
type Marks struct{ ECT0, ECT1, CE uint64 }

// counters are the parts of Info that only count.
type counters struct {
	segsIn, segsOut           uint64
	bytesIn, bytesOut         uint64
	bytesAcked                uint64
	retransmits               uint64
	fastRetransmits, timeouts uint64
	dupAcksIn, oooIn, probes  uint64
	challenges, acksWithheld  uint64
	rackLost, tlpProbes       uint64
	dsackIn, dsackOut         uint64
	sackIgnored, reneged      uint64
	keepAlives, urgentIn      uint64
}

// count takes a segment that goes out.
func (n *counters) count(s *Segment) {
	p := s.PayloadLen()
	n.bytesOut += uint64(p)
	if p > 0 {
		n.segsOut += uint64(segments(p, s.SegSize))
	} else {
		n.segsOut++
	}
}

// Info returns the connection's numbers.
func (c *Conn) Info() Info {
	n := &c.stat
	i := Info{
		State: c.state,
		RTT:   c.rtt.srtt, RTTVar: c.rtt.rttvar, RTO: c.rto(), MinRTT: c.rack.minRTT,
		MSS: c.mss, PeerMSS: c.peerMSS,
		SndWnd: c.sndWnd, RcvWnd: max(c.rcvAdv.Sub(c.rcvNxt), 0),
		SndWScale: int(c.sndWScale), RcvWScale: int(c.rcvWScale),
		Unread: c.rcv.Len(),
		RcvBuf: int(c.rcvBuf), SndBuf: int(c.sndBuf),
		RcvRTT: time.Duration(c.tune.rtt) * time.Microsecond, RcvSpace: int(c.tune.space),
		Timestamps: c.tsOK, SACK: c.sackOK, WScale: c.wsOK, SynData: c.synData(),
		BytesIn: n.bytesIn, BytesOut: n.bytesOut, BytesAcked: n.bytesAcked,
		SegmentsIn: n.segsIn, SegmentsOut: n.segsOut,
		Retransmits: n.retransmits, FastRetransmits: n.fastRetransmits, Timeouts: n.timeouts,
		DupAcksIn: n.dupAcksIn, OutOfOrderIn: n.oooIn, Probes: n.probes,
		Challenges: n.challenges, AcksWithheld: n.acksWithheld,
		RACKLost: n.rackLost, TLPProbes: n.tlpProbes, DSACKIn: n.dsackIn, DSACKOut: n.dsackOut,
		SACKIgnored: n.sackIgnored, Reneged: n.reneged,
		KeepAlives: n.keepAlives, UrgentIn: n.urgentIn,
	}
	c.ecn.info(&i)
	if m := c.mtu; m != nil {
		i.BlackHoles, i.MTUProbes, i.MTUProbesLost = m.holes, m.probes, m.failed
	}
	if c.cc != nil {
		i.Cwnd = c.cwnd()
		i.Ssthresh = c.cc.Ssthresh()
		_, i.PacingRate = c.cc.Window()
		i.Congestion = c.cc.Name()
	}
	if x := c.rack.rates; x != nil {
		i.DeliveryRate, i.DeliveryRateLimited = x.rate, x.rateLimited
	}
	if c.state.Synchronized() && c.state != TimeWait {
		i.InFlight = c.pipe()
		i.Unsent = c.unsent()
		i.Unacked = c.sndNxt.Sub(c.sndUna)
		i.SACKed, i.Lost = c.board.sacked, c.board.lost
	}
	return i
}
