package tcp

import (
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/budget"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns the connection's variables, how it is made, and how it ends.
// What arrives is in input.go and receive.go, what leaves in output.go and
// send.go, what time does in timers.go, what the user does in user.go.

// Config says how a connection is to behave. Zero durations, counts and sizes
// mean the defaults, which are Linux's.
type Config struct {
	LocalPort, RemotePort uint16

	ISS      seq.Num // initial send sequence number (RFC 6528)
	TSOffset uint32  // added to the timestamp clock so that it does not tell the uptime

	// MSS is what we announce: the interface's MTU less the IP header and 20
	// (RFC 6691). SendMSS is an upper bound of what we send, from a known path
	// MTU, counted like MSS; 0 means MSS.
	MSS, SendMSS int
	// IPHeader is the length of the IP header below: 20 or 40. It turns the
	// MTU of TooBig into a segment size; 0 means unknown, taken for 40.
	IPHeader int
	// MTUProbing says whether to find out by trying what the path carries
	// when no router says (RFC 4821); MTUProbeBlackHole.
	MTUProbing MTUProbing

	// RcvBuf and SndBuf are the limits of the two byte buffers. RcvBuf is also
	// the largest window offered; the window scale follows from it. RcvInit and
	// SndInit are their first sizes, from which they grow with use
	// (autotune.go): 64 KB and 128 KB, at most the limits.
	RcvBuf, SndBuf   int
	RcvInit, SndInit int
	// Memory is what the connection's buffers and lists are charged to, nil
	// for nothing.
	Memory *budget.Budget

	// NewController makes the congestion control; nil means cc.NewCubic.
	NewController cc.New

	// InitCwnd is how many segments are sent at first, before an acknowledgement;
	// 0: what RFC 6928 says. A SYN that was lost leaves one all the same.
	InitCwnd int

	// KeepIdleWindow leaves the congestion window as it is after a pause and
	// while it is not used (Linux's tcp_slow_start_after_idle=0).
	KeepIdleWindow bool

	Knobs Knobs // what the user has set already
	Below Below // what packets have below the segment, nil: nothing

	// Options not to be offered, nor agreed to when the peer offers them;
	// Linux's tcp_timestamps, tcp_sack and tcp_window_scaling set to 0.
	NoTimestamps, NoSACK, NoWScale bool
	RFC1337                        bool // no RST ends TIME-WAIT (RFC 1337)
	ECN                            ECN  // whether to ask for congestion marks; ECNPassive

	// Totals counts what happens in all connections that share it; nil: not.
	Totals *Totals

	MinRTO     time.Duration // 200 ms
	MaxRTO     time.Duration // 120 s
	InitialRTO time.Duration // 1 s (RFC 6298 §2.1)
	DelayedAck time.Duration // 40 ms; the shortest delay, the longest is 200 ms
	TimeWait   time.Duration // 60 s; the 2 MSL of RFC 9293 §3.4.2
	FinWait2   time.Duration // 60 s; how long an orphan waits for the peer's FIN

	SynRetries    int // 6: retransmissions of a SYN
	SynAckRetries int // 5: retransmissions of a SYN-ACK
	Retries       int // 15: R2 of RFC 9293 §3.8.3, retransmissions of data

	// Challenge is asked before each challenge ACK, for the limit of the host;
	// nil allows all.
	Challenge func(now mono.Time) bool

	// Shared, unless nil, is what NewShared made of a Config with the same
	// values, so that each connection need not keep them.
	Shared *Shared
}

// Events says what a call changed for those who wait on the connection.
type Events uint16

// The events.
const (
	EvReadable  Events = 1 << iota // data or the end of the stream arrived
	EvWritable                     // enough room for the writer to go on
	EvConnected                    // the handshake finished
	EvClosed                       // the state is Closed: take it out of the table
	EvError                        // Err changed
	EvTimeWait                     // the state is TimeWait: TimeWait() may replace it
	EvOutput                       // Output has something to send
	EvUrgent                       // the mark of urgent data moved, or its byte arrived
	EvProgress                     // the peer acknowledged or sent something new: it hears us (RFC 4861 §7.3.1)
	EvSilence                      // two time-outs in a row: the way to the peer may be broken (RFC 1122 §3.3.1.4)
)

// DefaultSynAckRetries is how often a SYN-ACK is sent again, if Config does not
// say: Linux's tcp_synack_retries.
const DefaultSynAckRetries = 5

// Limits of what one connection answers and counts.
const (
	// tsOptionLen is what timestamps take of each segment, padding included.
	tsOptionLen = 12
	// challengeInterval is the least time between two ACKs that answer empty
	// segments we did not want (RFC 5961 §7; Linux's tcp_invalid_ratelimit).
	// Without it two confused peers answer each other for ever.
	challengeInterval = 500 * time.Millisecond
	// maxOwedAcks bounds the duplicate ACKs waiting for Output.
	maxOwedAcks = 64
)

// The timers of a connection; Deadline is the earliest.
const (
	timerReorder = iota // RFC 8985: a segment may still be only late
	timerProbe          // RFC 8985: the last segments may be lost; before timerRexmit, which it puts off
	timerRexmit         // RFC 6298: oldest unacknowledged segment
	timerPace           // the next quantum may leave
	timerPersist        // RFC 9293 §3.8.6.1: the peer's window is closed
	timerDelAck         // RFC 9293 §3.8.6.3: an ACK is being held back
	timerOrphan         // FIN-WAIT-2 without an application
	timerKeep           // RFC 9293 §3.8.4: silence is to be looked into
	numTimers

	numFlightTimers = timerKeep // that one runs while the connection sleeps
)

// Conn is one connection as a pure state machine: no locks, goroutines, clock
// or I/O. The same calls at the same times always do the same thing.
//
// After each call other than Output, call Output until it returns false; then
// look at State and Deadline.
type Conn struct {
	// *flight is in flight.go, *extras in extras.go: what only a connection
	// needs that is in use, and only some connections.
	*flight
	*extras
	cfg    connConfig
	keepAt mono.Time // timerKeep: when silence is to be looked into
	events Events    // gathered during a call
	state  State

	// Send sequence space (RFC 9293 §3.3.1):
	//
	//	   sndUna          rexmit  rexmitEnd      sndNxt        sndUna+sndWnd
	//	-----|---------------|---------|-------------|-----------------|-----
	//	     | in flight     | lost,   | in flight   | may be sent     |
	//	     |               | to send |             |                 |
	//	     |<------------------ snd, the ring ----------------->|
	//
	// With SACK the scoreboard of scoreboard.go says what is lost, in any number
	// of pieces, and rexmit is not used.
	sndWScale           uint8
	iss, sndUna, sndNxt seq.Num
	sndWl1              seq.Num // of the segment that last updated sndWnd
	sndSml              seq.Num // end of the last segment sent smaller than mss (Minshall)
	sndWnd              int     // the peer's window, scaled
	maxSndWnd           int32   // the largest ever seen
	pathMSS             int32   // bound of mss by the path, counted like Config.MSS
	peerMSS             int32   // what the peer announced
	sndBuf              int32   // what snd may hold at present: autotune.go
	mss                 int     // largest payload of a segment, options taken off
	push

	// Receive sequence space. rcvAdv is the largest right edge ever announced:
	// what lies below it must be taken (RFC 7323 §2.4).
	//
	//	   irs            rcvNxt                    rcvAdv
	//	----|----------------|-------[ooo]---[ooo]----|-----
	//	        | rcv, the ring  |  window            |
	irs, rcvNxt, rcvAdv seq.Num
	lastAckSent         seq.Num
	rcvBuf              int32 // what rcv may hold at present, with the window: autotune.go
	sink                *Sink // where text goes instead of into rcv, if anybody waits for it
	rcvWScale           uint8
	rcvSpare            uint8      // the shift of the unit that rcv has room for beyond Config.RcvBuf
	starved             bool       // there was no memory for text: the window told is 0
	rcvFin              bool       // the peer's FIN was taken
	ipHeader            uint8      // Config.IPHeader
	frozen              repairMode // repair.go
	tune                tuning

	urg urgent

	// Options agreed in the handshake.
	wsOK, tsOK, sackOK bool
	keepProbes         uint8  // keep-alives since the peer was last heard
	tsRecent           uint32 // RFC 7323 §4.3
	tsRecentAt         mono.Time

	// Retransmission and its timer (RFC 6298), and what of the repair of losses
	// (recover.go) outlives the flight.
	rtt        rtt
	ackAt      mono.Time // an acceptable ACK last arrived
	rack       rack
	cc         cc.Controller
	sentAt     mono.Time // when new text last left
	usage      usage
	probe      tailProbe
	recoverSet bool // without SACK: recover is still ahead of, or at, sndUna
	finSent    bool

	// Receiver's acknowledgement policy, as Linux's.
	quick      uint8         // immediate ACKs left
	smallSegs  uint8         // segments that were not full since the last ACK, up to 2
	ato        time.Duration // how long the next ACK waits; 0: nothing arrived yet
	lastDataAt mono.Time     // data last arrived
	rcvMSS     int32         // the peer's segment size as observed
	lastSeg    uint16        // the last segment that might have been full
	pingpong   bool          // request and response: an ACK can ride on the response

	// The user's side; errors are numbers of package syscall.
	errTaken  bool   // Read or Write has returned err
	err       uint16 // why the connection failed; 0: it has not
	softErr   uint16 // an ICMP message that might explain a time-out
	rdClosed  bool   // CloseRead or Close
	wrClosed  bool   // CloseWrite or Close: a FIN follows the data
	orphan    bool   // Close
	wantWrite bool   // a writer waits for room

	limits limitClock
	stat   counters
}

// pendingReset says which RST waits for Output.
type pendingReset uint8

const (
	resetNone pendingReset = iota
	resetConn              // ends this connection: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>
	resetBare              // answers a bad ACK: <SEQ=SEG.ACK><CTL=RST>
)

// NewActive opens a connection (RFC 9293 §3.10.1). It is in SYN-SENT; the SYN
// comes out of Output.
func NewActive(cfg *Config, now mono.Time) *Conn {
	c := newConn(cfg)
	c.state = SynSent
	c.synDue = true
	return c
}

// newConn returns a connection with its SYN numbered and nothing known of the
// peer.
func newConn(cfg *Config) *Conn {
	f := *cfg
	f.fill()
	cfg = &f
	c := &Conn{cfg: f.own(), flight: &asleep, extras: &noExtras}
	c.iss = cfg.ISS
	c.sndUna = c.iss
	c.sndNxt = c.iss + 1
	c.sndSml = c.iss
	c.pathMSS, c.ipHeader = int32(cfg.SendMSS), uint8(cfg.IPHeader)
	c.pushed, c.psh, c.urg.sndUp = c.iss, c.iss, c.iss
	c.pingpong = cfg.Knobs.slowAck
	c.rcvWScale = windowScale(cfg.largestWindow())
	c.rcvBuf, c.sndBuf = c.firstRcvBuf(), int32(cfg.SndInit)
	if n := cfg.Knobs.rcvBuf; n != 0 {
		c.rcvBuf = min(n, int32(cfg.RcvBuf))
	}
	c.rcvSpare = c.rcvWScale
	c.wake()
	c.newCC = f.NewController
	if cfg.Below != nil {
		c.extra().below = cfg.Below
	}
	return c
}

// fill replaces what was left out by Linux's defaults.
func (cfg *Config) fill() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	defInt := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&cfg.MinRTO, defaultMinRTO)
	def(&cfg.MaxRTO, maxRTO)
	def(&cfg.InitialRTO, initialRTO)
	def(&cfg.DelayedAck, 40*time.Millisecond)
	def(&cfg.TimeWait, 60*time.Second)
	def(&cfg.FinWait2, 60*time.Second)
	defInt(&cfg.SynRetries, 6)
	defInt(&cfg.SynAckRetries, DefaultSynAckRetries)
	defInt(&cfg.Retries, 15)
	defInt(&cfg.MSS, defaultPeerMSS)
	defInt(&cfg.SendMSS, cfg.MSS)
	defInt(&cfg.RcvBuf, 1<<17)
	defInt(&cfg.SndBuf, 1<<17)
	if m := int(cfg.Knobs.maxSeg); m != 0 {
		cfg.MSS = min(cfg.MSS, m) // TCP_MAXSEG holds for both directions
	}
	cfg.RcvBuf = min(cfg.RcvBuf, maxWindow)
	cfg.SndBuf = min(cfg.SndBuf, maxWindow)
	defInt(&cfg.RcvInit, initialRcvBuf)
	defInt(&cfg.SndInit, initialSndBuf)
	if n := int(cfg.Knobs.rcvBuf); n != 0 && !cfg.Memory.Pressure() {
		cfg.RcvInit = n
	}
	cfg.RcvInit = min(cfg.RcvInit, cfg.RcvBuf)
	cfg.SndInit = min(orDefault(int(cfg.Knobs.sndBuf), cfg.SndInit), cfg.SndBuf)
	if cfg.NewController == nil {
		cfg.NewController = cc.NewCubic
	}
}

// maxWindow is the largest window RFC 7323 §2.3 can express, 2^30 less one
// unit of its scale.
const maxWindow = 65535 << maxWScale

// maxWScale is the largest shift RFC 7323 §2.3 allows.
const maxWScale = 14

// windowScale returns the smallest shift with which a window of n bytes fits
// the header's 16 bits.
func windowScale(n int) uint8 {
	s := uint8(0)
	for s < maxWScale && n>>s > 65535 {
		s++
	}
	return s
}

// negotiate takes over what the peer's SYN says. We offer all that we agree to,
// so the peer's offer decides.
func (c *Conn) negotiate(now mono.Time, offer *Options) {
	o := c.cfg.agreeable(offer)
	c.setPeerMSS(&o)
	c.inputTimeout(offer)
	// RFC 7323 §2.2: both sides or none; §2.3: larger than 14 counts as 14.
	if c.wsOK = o.HasWScale; c.wsOK {
		c.sndWScale = uint8(min(int(o.WScale), maxWScale))
	} else {
		c.sndWScale, c.rcvWScale = 0, 0
	}
	c.sackOK = o.SACKPermitted
	// RFC 7323 §3.2: timestamps on the connection when both SYNs had them.
	if c.tsOK = o.HasTS; c.tsOK {
		c.tsRecent, c.tsRecentAt = o.TSVal, now
	}
	c.startMTUSearch(now)
	c.setMSS()
	c.rcvMSS = min(defaultPeerMSS, c.cfg.MSS)
	c.cc = c.newCC(c.mss)
}

// start begins counting received data from the peer's SYN.
func (c *Conn) start(irs seq.Num) {
	c.irs = irs
	c.rcvNxt = irs + 1
	c.lastAckSent = c.rcvNxt
	c.rcvAdv = c.rcvNxt.Add(synWindow(c.cfg.firstWindow()))
}

// synWindow is the window of a SYN, which is never scaled (RFC 7323 §2.2).
func synWindow(first int) int { return min(first, 65535) }

// moveTo follows the edge of ev in the state diagram.
func (c *Conn) moveTo(ev event) {
	if c.setState(next(c.state, ev)); c.state == Closed {
		c.release()
	}
}

// release ends all activity. What was received stays for the reader, unless
// there is none.
func (c *Conn) release() {
	c.setState(Closed)
	c.events |= EvClosed | EvReadable | EvWritable
	c.stopTimers()
	c.synDue, c.probeDue, c.keepDue, c.kick, c.owedAcks = false, false, false, false, 0
	c.rexmitNow, c.probe = false, tailProbe{}
	c.rexmit, c.rexmitEnd = c.sndNxt, c.sndNxt
	c.snd.Release()
	c.board = scoreboard{}
	c.ooo = reassembly{}
	if c.recs != nil {
		c.recs = nil
	}
	c.oooFin = false
	c.tw = nil
	if c.orphan {
		c.rcv.Release()
	}
	c.chargeLists()
}

// fail closes the connection with an error for the user.
func (c *Conn) fail(err syscall.Errno) {
	if c.state == Closed {
		return
	}
	c.err = uint16(err)
	c.events |= EvError
	c.moveTo(evReset)
}

// abort fails the connection and tells the peer by a RST where RFC 9293
// §3.10.5 wants one.
func (c *Conn) abort(err syscall.Errno) {
	switch c.state {
	case SynReceived, Established, FinWait1, FinWait2, CloseWait:
		c.rst = resetConn
	}
	c.fail(err)
}

// takeEvents returns what the call changed and starts afresh.
func (c *Conn) takeEvents() Events {
	ev := c.events
	c.events = 0
	if c.outputDue() {
		ev |= EvOutput
	}
	c.kick = false
	c.chargeLists()
	if c.state == Closed {
		c.rest(0)
	}
	return ev
}

// tsNow is the timestamp clock: milliseconds (RFC 7323 §5.4).
func tsNow(now mono.Time, offset uint32) uint32 {
	return uint32(int64(now)/int64(time.Millisecond)) + offset
}
