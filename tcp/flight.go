package tcp

import (
	"sync"
	"unsafe"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/ring"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns what a connection does without while nothing happens on it:
// its buffers, timers, and all that repairs losses. That is more than half of a
// connection, and of many connections most are idle. It is in a piece of its
// own, which is given back by Trim and taken again, as it was, by the next call
// that has something to do:
//
//	              Input, Output, Expire, Send ...: wake
//	Conn, asleep ---------------------------------------> Conn + flight
//	             <---------------------------------------
//	                    Trim, when restful: rest
//
// What rest forgets is of no consequence, and the proof is in idle_test.go: a
// connection that sleeps whenever it may does the same as one that never does.

// flight is what is not needed while nothing is in flight, owed or waiting.
type flight struct {
	pending
	snd, rcv ring.Ring // a sleeper's are empty
	ooo      reassembly
	board    scoreboard
	lists    int32     // bytes charged for this and for ooo and board: memory.go
	oowAckAt mono.Time // challengeInterval runs from here
	newCC    cc.New    // makes Conn.cc

	// A sleeper's are where sndUna is.
	rexmit, rexmitEnd seq.Num // without SACK: to be sent again
	recover           seq.Num // RFC 6582 §3.2, RFC 6675 RecoveryPoint: sndNxt when the loss was noticed
	rackFlight

	// What follows means something only together with something above.
	prr       prr
	why       why  // what last made us send again
	partial   bool // a partial ACK has arrived in this recovery
	kick      bool // the ACK just processed may have freed something to send
	rstSeq    seq.Num
	oooFinSeq seq.Num   // the FIN's number
	rttAt     mono.Time // when our SYN left first
}

// pending is zero in a connection that may sleep.
type pending struct {
	timers [numFlightTimers]mono.Time

	// The repair of losses: recover.go.
	phase     phase
	rexmitNow bool // one segment again without asking the congestion window
	hold      bool // until the next ACK only new text: what is lost may be only late
	frto      bool // the last time-out may have been spurious (frto.go)
	dupAcks   int  // without SACK: in a row
	dupBytes  int  // in flight according to sndUna, but arrived according to duplicate ACKs

	retries    int       // time-outs since the peer last acknowledged something
	probes     int       // window probes sent since the window closed: the back-off
	unanswered int       // window probes since the peer was last heard
	stuckAt    mono.Time // what is at sndUna was first sent again, or the SYN first sent; 0: not so
	probingAt  mono.Time // the window was first probed since text last left; 0: not
	rttTiming  bool      // the SYN left only once

	// What Output owes.
	synDue   bool
	probeDue bool
	keepDue  bool // a keep-alive
	owedAcks int  // ACKs to send now
	rst      pendingReset
	dsack    SACKBlock // arrived twice, to be reported; empty: nothing

	oooFin bool            // a FIN waits behind a hole, at oooFinSeq
	tw     *TimeWaitRecord // in TIME-WAIT
}

// flightSize is what a flight is charged as, the allocator's rounding included.
const flightSize = (int(unsafe.Sizeof(flight{})) + 63) &^ 63

// asleep is the flight of all connections that sleep. It can be read like any
// other; it is not written to.
var asleep flight

// flights are kept for the next to wake up, zeroed.
var flights = sync.Pool{New: func() any { return new(flight) }}

// wake gets the connection a flight that can be written to. Every exported
// method calls it that changes what is in there.
func (c *Conn) wake() {
	if c.flight == &asleep {
		c.rouse()
	}
}

func (c *Conn) rouse() {
	f := flights.Get().(*flight)
	c.flight, c.rack.rackFlight = f, &f.rackFlight
	c.snd.Init(int(c.sndBuf), c.cfg.Memory)
	// One unit of the window scale more than is offered: see selectWindow.
	c.rcv.Init(c.cfg.RcvBuf+1<<c.rcvSpare, c.cfg.Memory)
	c.rexmit, c.rexmitEnd, c.recover, c.fack = c.sndUna, c.sndUna, c.sndUna, c.sndUna
	c.chargeLists()
}

// restful reports that what is in the flight is worth nothing, but perhaps for
// oowAckAt.
func (c *Conn) restful() bool {
	if c.sndUna != c.sndNxt && c.state != Closed || c.rcv.Len() > 0 || c.snd.Len() > 0 || c.flight == &asleep {
		return false
	}
	return c.pending == pending{} && c.cc != nil && c.rcv.Ahead() == 0 && c.ooo.empty() && c.board.count() == 0 &&
		!c.ecn.has(ecnReducing)
}

// rest gives the flight back if the connection is restful.
func (c *Conn) rest(now mono.Time) {
	f := c.flight
	if f.oowAckAt != 0 && now.Sub(f.oowAckAt) < challengeInterval && c.state != Closed || !c.restful() {
		return
	}
	f.snd.Release()
	f.rcv.Release()
	c.cfg.Memory.Return(int(f.lists))
	c.flight, c.rack.rackFlight = &asleep, &asleep.rackFlight
	*f = flight{}
	flights.Put(f)
}
