package cc

import (
	"math"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// BBR keeps a model of the path instead of waiting for losses: the rate at
// which it delivers (bw) and its round trip without a queue (minRTT). It sends
// at about that rate and keeps about their product in flight. It is version 3
// of draft-ietf-ccwg-bbr, whose names the comments give.
//
//	  STARTUP      double each round until the rate stops growing
//	     |
//	   DRAIN       get rid of the queue that made
//	     |
//	+->DOWN        slower than the path: leave room
//	|    |
//	|  CRUISE      at its rate, for 2 to 3 s or as long as Reno would take
//	|    |
//	|  REFILL      one round with all the model allows
//	|    |
//	+--- UP        faster, until the rate stops growing or something is lost
//
//	PROBERTT       from any of them, every 5 s: half a pipe, to see minRTT
//
// This file owns the controller's calls and what they set: window and pacing
// rate. bbrmodel.go is the model, bbrstate.go the states.
//
// Departs from the draft in three places. The full pipe estimator takes every
// sample for growth, not only one per round, as Linux does. The aggregation
// filter has two slots of five rounds (Linux). And a mark by a router, which
// the draft leaves open, counts as losses above the threshold.
type BBR struct {
	bbrModel
	bbrProbe

	mss    int
	sack   bool // C.has_selective_acks
	random uint64

	state      bbrState
	cwnd       int
	pacing     int64 // C.pacing_rate; 0 before Start
	pacingSeen bool  // pacing comes from a measured round trip
	phase      Phase
	restarting bool // BBR.idle_restart
	priorCwnd  int  // BBR.prior_cwnd
	undo       bbrUndo
}

// bbrUndo is what is restored when a recovery was for nothing.
type bbrUndo struct {
	saved                           bool
	state                           bbrState // it left because of the loss; bbrNone: none
	bwShort                         int64
	inflightShort, inflightLongterm int
}

// bbrState is BBR.state.
type bbrState uint8

const (
	bbrNone bbrState = iota
	bbrStartup
	bbrDrain
	bbrDown
	bbrCruise
	bbrRefill
	bbrUp
	bbrProbeRTT
)

var bbrStateNames = [...]string{"none", "startup", "drain", "down", "cruise", "refill", "up", "probe-rtt"}

func (s bbrState) String() string { return bbrStateNames[s] }

// probesBW reports a state of ProbeBW.
func (s bbrState) probesBW() bool { return s >= bbrDown && s <= bbrUp }

// accelerates is IsProbingBW: the state sends faster than, or as fast as, the
// path is thought to deliver, in search of more.
func (s bbrState) accelerates() bool { return s == bbrStartup || s == bbrRefill || s == bbrUp }

// The gains of each state in per cent (draft §5.6.1): of the pacing rate to bw,
// and of the window to their product.
var (
	bbrPacingGain = [...]int64{bbrStartup: 277, bbrDrain: 50, bbrDown: 90, bbrCruise: 100, bbrRefill: 100, bbrUp: 125, bbrProbeRTT: 100}
	bbrCwndGain   = [...]int64{bbrStartup: 200, bbrDrain: 200, bbrDown: 200, bbrCruise: 200, bbrRefill: 200, bbrUp: 225, bbrProbeRTT: 50}
)

const (
	bbrPacingMargin = 99 // per cent of bw, so that queues shrink (PacingMarginPercent)
	bbrMinCwnd      = 4  // segments: MinPipeCwnd
	bbrUnbounded    = math.MaxInt64
)

// NewBBR returns the controller of a new connection with segments of mss
// bytes and a window of InitialWindow.
func NewBBR(mss int) Controller {
	b := &BBR{state: bbrStartup, random: 1}
	b.SetMSS(mss)
	b.cwnd = InitialWindow(b.mss)
	b.inflightLongterm, b.inflightShort, b.bwShort = MaxWindow, MaxWindow, bbrUnbounded
	return b
}

// Name implements Controller.
func (b *BBR) Name() string { return "bbr" }

// Start implements Controller: OnInit of the draft.
func (b *BBR) Start(s Start) {
	b.sack, b.random, b.phase = s.SACK, s.Seed|1, s.Phase
	if s.Cwnd > 0 {
		b.cwnd = min(max(s.Cwnd, b.mss), MaxWindow)
	}
	b.priorCwnd = b.cwnd
	b.minRTT = s.MinRTT
	if b.minRTT == 0 {
		b.minRTT = s.SRTT
	}
	b.probeRTTDelay = b.minRTT
	b.minRTTStamp, b.probeRTTStamp, b.extraStart = s.Now, s.Now, s.Now
	b.initPacing(s.SRTT)
}

// initPacing is InitPacingRate: the initial window in a round trip, of which a
// millisecond is assumed while there is none.
func (b *BBR) initPacing(srtt time.Duration) {
	b.pacingSeen = srtt > 0
	if srtt <= 0 {
		srtt = time.Millisecond
	}
	rate := bbrRate(max(b.cwnd, InitialWindow(b.mss)), srtt)
	b.pacing = max(rate/100*bbrPacingGain[bbrStartup], int64(b.mss))
}

// bbrRate is n bytes in d as a rate, small enough to be multiplied by a gain.
func bbrRate(n int, d time.Duration) int64 {
	return int64(min(mulDiv(uint64(max(n, 0)), 1e9, uint64(d)), math.MaxInt64>>10))
}

// bbrSample is what one ACK says.
type bbrSample struct {
	*Ack
	bw         int64 // RS.delivery_rate; 0: none
	appLimited bool
}

// OnAck implements Controller: UpdateOnACK.
func (b *BBR) OnAck(a Ack) {
	if a.Delivered <= 0 {
		return
	}
	s := bbrSample{Ack: &a, appLimited: a.Rate.AppLimited}
	if a.Rate.Valid {
		if a.Rate.Interval > 0 {
			s.bw = bbrRate(a.Rate.Delivered, a.Rate.Interval)
		}
		// What ProbeRTT sends says nothing of the path (MarkConnectionAppLimited).
		s.appLimited = s.appLimited || a.Rate.Prior < b.limitedTo
	}
	b.updateSignals(&s)
	b.updateAggregation(&s)
	b.checkFullBW(&s)
	b.checkStartupDone(&s)
	b.checkDrainDone(&s)
	b.updateCycle(&s)
	b.updateMinRTT(&s)
	b.checkProbeRTT(&s)
	b.advanceSignals(&s)
	b.bw = min(b.maxBW(), b.bwShort) // BoundBWForModel
	if !b.pacingSeen && a.RTT > 0 {
		b.initPacing(a.RTT)
	}
	b.setPacing(bbrPacingGain[b.state])
	b.setCwnd(&s)
}

// setPacing is SetPacingRateWithGain. Until the pipe was full once the rate
// only grows, so that a slow application does not slow the search.
func (b *BBR) setPacing(gain int64) {
	if b.bw == 0 {
		return
	}
	rate := int64(mulDiv(uint64(b.bw), uint64(gain*bbrPacingMargin), 10000))
	if b.fullBWReached || rate > b.pacing {
		b.pacing = max(rate, int64(b.mss))
	}
}

// setCwnd is SetCwnd: towards maxInflight by what was acknowledged, down to it
// at once, within the bounds of the model.
func (b *BBR) setCwnd(s *bbrSample) {
	limit := b.maxInflight()
	if b.fullBWReached {
		b.cwnd = min(b.cwnd+s.Delivered, limit)
	} else if b.cwnd < limit || s.Rate.Total < uint64(InitialWindow(b.mss)) {
		b.cwnd += s.Delivered
	}
	low := bbrMinCwnd * b.mss
	b.cwnd = min(max(b.cwnd, low), MaxWindow)
	bound := MaxWindow
	switch {
	case b.state == bbrProbeRTT:
		b.cwnd = min(b.cwnd, b.probeRTTCwnd())
		bound = b.withHeadroom()
	case b.state == bbrCruise:
		bound = b.withHeadroom()
	case b.state.probesBW():
		bound = b.inflightLongterm
	}
	b.cwnd = min(b.cwnd, max(min(bound, b.inflightShort), low))
}

// maxInflight is UpdateMaxInflight.
func (b *BBR) maxInflight() int {
	return b.quantize(b.bdp(b.bw, bbrCwndGain[b.state]) + b.extraAcked())
}

// inflight is Inflight: what is in flight when gain per cent of the pipe is full.
func (b *BBR) inflight(bw, gain int64) int { return b.quantize(b.bdp(bw, gain)) }

// bdp is BDPMultiple.
func (b *BBR) bdp(bw, gain int64) int {
	if b.minRTT == 0 {
		return InitialWindow(b.mss)
	}
	n := mulDiv(uint64(bw), uint64(b.minRTT), 1e9)
	return int(min(mulDiv(n, uint64(gain), 100), MaxWindow))
}

// quantize is QuantizationBudget: enough for segmentation offload at both ends
// and for delayed ACKs.
func (b *BBR) quantize(n int) int {
	n = max(n, 3*Quantum(b.pacing, b.mss), bbrMinCwnd*b.mss)
	if b.state == bbrUp {
		n += 2 * b.mss
	}
	return min(n, MaxWindow)
}

// OnLoss implements Controller: OnEnterFastRecovery. The model has heard of the
// losses by OnLost; the window is not lowered for them.
func (b *BBR) OnLoss(now mono.Time, inFlight int) {
	if b.phase != Open {
		return
	}
	b.saveState()
	b.saveCwnd()
	b.phase = Recovery
}

// OnECN implements Controller. The draft (§3.6) says no more than that a mark
// means congestion.
func (b *BBR) OnECN(now mono.Time, inFlight int) {
	b.noteLoss(b.total)
	switch {
	case b.state == bbrStartup:
		b.leaveStartup()
	case b.bwProbeSample:
		b.inflightTooHigh(now, inFlight, false)
	}
}

// OnTimeout implements Controller: OnEnterRTO.
func (b *BBR) OnTimeout(now mono.Time, inFlight int) {
	b.saveState()
	b.saveCwnd()
	b.phase = AfterTimer
	b.cwnd = b.mss
}

// OnRecoveryExit implements Controller.
func (b *BBR) OnRecoveryExit(now mono.Time) {
	if b.phase != Open {
		b.phase = Open
		b.undo.saved = false
		b.restoreCwnd()
	}
}

// Undo implements Controller: HandleSpuriousLossDetection.
func (b *BBR) Undo(now mono.Time) {
	if b.phase == Open {
		return
	}
	b.phase = Open
	b.restoreCwnd()
	b.lossInRound = false
	b.resetFullBW()
	u := &b.undo
	b.bwShort = max(b.bwShort, u.bwShort)
	b.inflightShort = max(b.inflightShort, u.inflightShort)
	b.inflightLongterm = max(b.inflightLongterm, u.inflightLongterm)
	switch {
	case u.state == bbrStartup && b.state != bbrStartup:
		b.fullBWReached = false
		if b.state != bbrProbeRTT {
			b.state = bbrStartup
		}
	case u.state == bbrUp && b.state != bbrUp && b.state != bbrProbeRTT:
		b.startRefill()
	}
	*u = bbrUndo{}
}

// saveState is SaveStateUponLoss without the window: before the first loss of
// what becomes a recovery.
func (b *BBR) saveState() {
	if b.phase == Open && !b.undo.saved {
		b.undo = bbrUndo{saved: true, bwShort: b.bwShort, inflightShort: b.inflightShort, inflightLongterm: b.inflightLongterm}
	}
}

// saveCwnd is SaveCwnd: the last window that neither a loss nor ProbeRTT has
// lowered.
func (b *BBR) saveCwnd() {
	if b.phase == Open && b.state != bbrProbeRTT {
		b.priorCwnd = b.cwnd
	} else {
		b.priorCwnd = max(b.priorCwnd, b.cwnd)
	}
}

func (b *BBR) restoreCwnd() { b.cwnd = max(b.cwnd, b.priorCwnd) }

// OnIdle implements Controller: HandleRestartFromIdle. The window stays; pacing
// keeps the first flight from being a burst.
func (b *BBR) OnIdle(now mono.Time, idle, rto time.Duration) {
	b.restarting = true
	b.extraStart, b.extraDelivered = now, 0
	switch {
	case b.state.probesBW():
		b.setPacing(100)
	case b.state == bbrProbeRTT:
		b.checkProbeRTTDone(now)
	}
}

// OnUnused implements Controller. What an idle window might do to the path,
// pacing prevents (Linux: no validation for controllers with a model).
func (b *BBR) OnUnused(now mono.Time, used int) {}

// OnSynLoss implements Controller.
func (b *BBR) OnSynLoss(now mono.Time) { b.cwnd = b.mss }

// SetMSS implements Controller.
func (b *BBR) SetMSS(mss int) {
	b.mss = min(max(mss, 1), 1<<16)
	b.cwnd = max(b.cwnd, b.mss)
}

// Window implements Controller.
func (b *BBR) Window() (cwnd int, pacing int64) { return b.cwnd, b.pacing }

// Ssthresh implements Controller: there is none.
func (b *BBR) Ssthresh() int { return MaxWindow }
