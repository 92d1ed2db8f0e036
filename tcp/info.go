package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the numbers a connection shows of itself.

// CAState is where loss recovery and congestion control stand, with Linux's
// names and numbers.
type CAState uint8

// The states.
const (
	CAOpen     CAState = iota // nothing unusual
	CADisorder                // something arrived out of order or may be lost
	CACWR                     // the window is being reduced for another reason than loss
	CARecovery                // fast recovery
	CALoss                    // after a retransmission time-out
)

// String returns the state's name in Linux's lower case.
func (s CAState) String() string {
	return [...]string{"open", "disorder", "cwr", "recovery", "loss"}[s]
}

// Info is a snapshot of a connection: everything that Linux's tcp_info has, and
// a little more. Windows and sizes are in bytes, Linux's in segments where
// package socket encodes them.
type Info struct {
	State   State
	CAState CAState

	RTT, RTTVar, RTO time.Duration // RFC 6298's SRTT, RTTVAR and RTO; RTT 0: not measured
	MinRTT           time.Duration // the least of the last five minutes; 0: not measured
	Congestion       string        // name of the congestion control
	PacingRate       int64         // bytes per second; 0: not paced
	// DeliveryRate is the last delivery rate sample that the application did
	// not limit, or a higher one that it did, in bytes per second; 0 without a
	// controller that asks for samples.
	DeliveryRate        int64
	DeliveryRateLimited bool // it did
	Cwnd, Ssthresh      int  // congestion window; slow start threshold
	InFlight            int  // estimate of what is in the network
	MSS                 int  // largest payload sent in a segment
	PeerMSS             int  // what the peer announced
	AdvMSS              int  // what we announced
	RcvMSS              int  // the peer's segment size as observed
	PathMTU             int
	SndWnd, RcvWnd      int           // the peer's window, and ours as last announced
	RcvSsthresh         int           // the largest window we would offer now
	SndWScale           int           // shift of the peer's window field
	RcvWScale           int           // shift of ours
	Unsent, Unacked     int           // bytes in the send buffer not yet sent; sent, not yet acknowledged
	SACKed, Lost        int           // parts of Unacked that arrived by the peer's SACK; that are lost and not yet sent again
	Resent              int           // part of Unacked that is in flight again
	Reordering          int           // by how many segments something was overtaken at most; at least 3
	Unread              int           // bytes waiting for Read
	RcvBuf, SndBuf      int           // what the two buffers may hold at present
	RcvSpace            int           // most bytes read in a round trip
	RcvRTT              time.Duration // round trip as the receiver sees it; 0: not measured

	Timestamps, SACK, WScale bool // options in use
	SynData                  bool // text in the SYN was taken (RFC 7413)

	// What the timers are at: time-outs and window probes in a row, doublings
	// of the timeout, how long an ACK may wait.
	RetransmitsInRow, ProbesInRow, Backoff int
	ATO                                    time.Duration
	// How long ago; negative: never.
	LastDataSent, LastDataIn, LastAckIn time.Duration

	BytesIn, BytesOut, BytesAcked uint64 // in order; sent, repeats included; acknowledged
	BytesResent                   uint64 // part of BytesOut
	SegmentsIn, SegmentsOut       uint64 // counted on the wire
	DataSegsIn, DataSegsOut       uint64 // those of them that carried text
	Delivered                     uint64 // segments of ours that arrived, as far as is known
	Retransmits                   uint64 // segments sent again
	FastRetransmits, Timeouts     uint64 // repairs begun by ACKs; by the retransmission timer
	SpuriousTimeouts, Undos       uint64 // time-outs found spurious by F-RTO; reductions undone, for whatever reason
	RACKLost                      uint64 // segments taken for lost by RFC 8985
	TLPProbes                     uint64 // tail loss probes sent
	DSACKIn, DSACKOut             uint64 // reports of something that arrived twice (RFC 2883)
	DSACKDups                     uint64 // segments that the peer so reported
	SACKIgnored, Reneged          uint64 // blocks that make no sense; time-outs that found SACKed text gone
	ReorderSeen                   uint64 // ACKs that told of something overtaken
	DupAcksIn, OutOfOrderIn       uint64
	Probes                        uint64 // window probes sent
	KeepAlives                    uint64 // keep-alives sent
	UrgentIn                      uint64 // urgent bytes that arrived
	BlackHoles                    uint32 // times that segments were made small because of time-outs (RFC 4821)
	MTUProbes, MTUProbesLost      uint32 // larger segments tried since then; in vain
	ECN                           Feedback
	ECT, ECNSeen                  bool   // new text is sent as ECN capable; text has arrived that was
	AccECNIn, AccECNIgnored       bool   // options of accurate feedback arrive; but make no sense
	ECNReductions                 uint64 // of the congestion window because of marks
	ReceivedCE, DeliveredCE       uint64 // segments that arrived marked; segments of ours that did (classic feedback: at most)
	ReceivedMarks, DeliveredMarks Marks  // bytes of text by mark, with accurate feedback: received; ours, by the peer's options
	Challenges, AcksWithheld      uint64 // answers to unwanted segments; held back by the rate limit

	TimeoutEpisodes uint64        // runs of time-outs
	TimeoutTime     time.Duration // spent in them

	// Time with something to send, and the parts of it in which the peer's
	// window and the send buffer held us back.
	BusyTime, RwndLimited, SndbufLimited time.Duration
}

// Marks counts bytes of text by the ECN field that they arrived with.
type Marks struct{ ECT0, ECT1, CE uint64 }

// counters are the parts of Info that only count, and that count in every
// connection.
type counters struct {
	segsIn, segsOut         uint32
	dataSegsIn, dataSegsOut uint32
	delivered               uint32
	bytesIn, bytesOut       uint64
	bytesAcked              uint64
}

// sent takes a segment that goes out.
func (n *counters) sent(s *Segment) {
	p := s.PayloadLen()
	n.bytesOut += uint64(p)
	if p > 0 {
		segs := uint32(segments(p, s.SegSize))
		n.segsOut += segs
		n.dataSegsOut += segs
	} else {
		n.segsOut++
	}
}

// received takes a segment that came in.
func (n *counters) received(s *Segment) {
	segs := uint32(max(s.Segs, 1))
	n.segsIn += segs
	if s.PayloadLen() > 0 {
		n.dataSegsIn += segs
	}
}

// countAgain notes that bytes in segs segments are sent again.
func (c *Conn) countAgain(bytes, segs int) {
	c.count(CountRetransSegs, segs)
	c.extra().bytesAgain += uint64(bytes)
	switch c.phase {
	case phaseFast:
		c.count(CountFastRetrans, segs)
	case phaseLoss:
		c.count(CountSlowStartRetrans, segs)
	}
}

// countTimeout notes an expiry of the retransmission timer. Those in a row, with
// nothing acknowledged between them, are one episode.
func (c *Conn) countTimeout(now mono.Time) {
	c.count(CountTimeouts, 1)
	if c.episodeAt == 0 {
		c.extra().episodes++
		c.episodeAt = max(millis(now), 1)
	}
}

// countProgress notes that something was acknowledged.
func (c *Conn) countProgress(now mono.Time) {
	if at := c.episodeAt; at != 0 {
		c.inEpisodes += millis(now) - at
		c.episodeAt = 0
	}
}

// countDelivered notes what an ACK says has arrived.
func (c *Conn) countDelivered(bytes int) {
	if bytes > 0 {
		c.stat.delivered += uint32(segments(bytes, c.mss))
	}
}

// InfoAt returns the connection's numbers.
func (c *Conn) InfoAt(now mono.Time) Info {
	i := c.Info()
	if c.sentAt != 0 {
		i.LastDataSent = now.Sub(c.sentAt)
	}
	if c.lastDataAt != 0 {
		i.LastDataIn = now.Sub(c.lastDataAt)
	}
	if c.ackAt != 0 {
		i.LastAckIn = now.Sub(c.ackAt)
	}
	i.RwndLimited, i.SndbufLimited = c.limits.total(now, limitRwnd), c.limits.total(now, limitSndbuf)
	i.BusyTime = c.limits.total(now, limitBusy) + i.RwndLimited + i.SndbufLimited
	return i
}

// Info returns the connection's numbers without those that depend on when they
// are asked for: how long ago something was, and the time under each limit.
func (c *Conn) Info() Info {
	n, own := &c.stat, c.counted
	header := int(c.ipHeader)
	if header == 0 {
		header = 40
	}
	i := Info{
		State: c.state, CAState: c.caState(),
		RTT: c.rtt.srtt, RTTVar: c.rtt.rttvar, RTO: c.rto(), MinRTT: c.rack.minRTT,
		MSS: c.mss, PeerMSS: int(c.peerMSS), AdvMSS: int(c.cfg.MSS), RcvMSS: int(c.rcvMSS), PathMTU: int(c.pathMSS) + header + 20,
		SndWnd: c.sndWnd, RcvWnd: max(c.rcvAdv.Sub(c.rcvNxt), 0),
		RcvSsthresh: min(int(c.rcvBuf), 65535<<c.rcvWScale),
		SndWScale:   int(c.sndWScale), RcvWScale: int(c.rcvWScale),
		Unread:     c.rcv.Len(),
		Reordering: dupThresh,
		RcvBuf:     int(c.rcvBuf), SndBuf: int(c.sndBuf),
		RcvRTT: time.Duration(c.tune.rtt) * time.Microsecond, RcvSpace: int(c.tune.space),
		Timestamps: c.tsOK, SACK: c.sackOK, WScale: c.wsOK, SynData: c.synData(),
		RetransmitsInRow: c.retries, ProbesInRow: c.unanswered, Backoff: max(int(c.rtt.backoffs), c.probes),
		ATO: c.ato, LastDataSent: -1, LastDataIn: -1, LastAckIn: -1,
		BytesIn: n.bytesIn, BytesOut: n.bytesOut, BytesAcked: n.bytesAcked, BytesResent: c.bytesAgain,
		SegmentsIn: uint64(n.segsIn), SegmentsOut: uint64(n.segsOut),
		DataSegsIn: uint64(n.dataSegsIn), DataSegsOut: uint64(n.dataSegsOut), Delivered: uint64(n.delivered),
		Retransmits: own(CountRetransSegs), FastRetransmits: own(CountSACKRecovery) + own(CountRenoRecovery),
		Timeouts: own(CountTimeouts), SpuriousTimeouts: own(CountSpuriousRTOs),
		Undos:    own(CountUndos),
		RACKLost: own(CountRACKLost), TLPProbes: own(CountLossProbes),
		DSACKIn: own(CountDSACKRecv) + own(CountDSACKOfoRecv), DSACKOut: own(CountDSACKOldSent) + own(CountDSACKOfoSent),
		DSACKDups: uint64(c.dsackDups), SACKIgnored: own(CountSACKDiscard), Reneged: own(CountSACKReneging),
		ReorderSeen: own(CountReorder), DupAcksIn: own(CountDupAcksIn), OutOfOrderIn: own(CountOfoQueue),
		Probes: own(CountWinProbes), KeepAlives: own(CountKeepAlives), UrgentIn: own(CountUrgentIn),
		Challenges: own(CountUnwantedAcks), AcksWithheld: own(CountAcksSkipped),
		TimeoutEpisodes: uint64(c.episodes), TimeoutTime: time.Duration(c.inEpisodes) * time.Millisecond,
	}
	if c.mss > 0 {
		i.Reordering = max(i.Reordering, segments(int(c.rack.extent), c.mss))
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
		i.SACKed, i.Lost, i.Resent = c.board.sacked, c.board.lost, c.board.again
		if !c.sackOK {
			i.SACKed, i.Lost = c.dupBytes, c.rexmitEnd.Sub(c.rexmit)
		}
	}
	return i
}

// caState translates the phase into Linux's terms.
func (c *Conn) caState() CAState {
	switch {
	case c.phase == phaseFast:
		return CARecovery
	case c.phase == phaseLoss:
		return CALoss
	case c.reducing():
		return CACWR
	case c.board.sacked+c.board.again > 0 || c.dupAcks > 0:
		return CADisorder
	}
	return CAOpen
}

// millis is the clock of what is kept in milliseconds.
func millis(now mono.Time) uint32 { return uint32(now / mono.Time(time.Millisecond)) }
