package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns BBR's states and when one follows another (draft §5.3): Startup
// and Drain, the cycle of ProbeBW, and ProbeRTT.

const (
	bbrFullBWRounds     = 3 // without growth by a quarter: the pipe is full
	bbrFullLossRanges   = 6 // BBRStartupFullLossCnt
	bbrDrainRounds      = 3
	bbrRenoRounds       = 63
	bbrProbeWait        = 2 * time.Second // and up to a second more
	bbrProbeRTTDuration = 200 * time.Millisecond
	bbrMaxUpRounds      = 30
)

// ackPhase is BBR.ack_phase: what the ACKs that come say about probing.
type ackPhase uint8

const (
	acksInit      ackPhase = iota // nothing
	acksRefilling                 // of data sent at the estimated rate
	acksStarting                  // more is in flight, no feedback on it yet
	acksFeedback                  // feedback
	acksStopping                  // the last of it
)

// bbrProbe is the variables of draft §2.13, §2.14 and §2.16.
type bbrProbe struct {
	total uint64 // C.delivered by the last sample

	fullBW        int64
	fullBWCount   uint8
	fullBWNow     bool
	fullBWReached bool
	drainRound    uint32

	ackPhase         ackPhase
	bwProbeSample    bool // BBR.is_bw_probe_sample
	prevTooHigh      bool // BBR.prev_probe_too_high
	prevCautious     bool // BBR.prev_probe_precautionary
	upRounds         uint8
	upAcked          int
	upPerInc         int // BBR.probe_up_acked_per_inc
	roundsSinceProbe uint32
	probeWait        time.Duration
	cycleStamp       mono.Time

	probeRTTExpired   bool
	probeRTTDone      mono.Time // 0: not yet down to its window
	probeRTTRoundDone bool
	limitedTo         uint64 // samples of what was sent before that much was delivered are not the path's
}

// resetFullBW is ResetFullBW.
func (b *BBR) resetFullBW() { b.fullBW, b.fullBWCount, b.fullBWNow = 0, 0, false }

// checkFullBW is CheckFullBWReached.
func (b *BBR) checkFullBW(s *bbrSample) {
	if b.fullBWNow || s.appLimited || s.bw == 0 {
		return
	}
	if s.bw >= b.fullBW/4*5 {
		b.resetFullBW()
		b.fullBW = s.bw
		return
	}
	if !b.roundStart {
		return
	}
	b.fullBWCount++
	b.fullBWNow = b.fullBWCount >= bbrFullBWRounds
	b.fullBWReached = b.fullBWReached || b.fullBWNow
}

// checkStartupDone is CheckStartupDone with CheckStartupHighLoss: Startup ends
// when the rate no longer grows, or when a whole round of recovery has lost more
// than the threshold in several places.
func (b *BBR) checkStartupDone(s *bbrSample) {
	if b.state != bbrStartup {
		return
	}
	if s.Rate.Valid && b.lossRoundStart && s.Phase == Recovery &&
		(b.lossRanges >= bbrFullLossRanges || b.lossRanges > 0 && !b.sack) && b.tooMuchLost(s.Rate.Lost, s.Rate.TxInFlight) {
		b.leaveStartup()
	}
	if b.fullBWReached {
		b.state = bbrDrain
		b.drainRound = b.roundCount
	}
}

// leaveStartup says that losses have shown the pipe to be full.
func (b *BBR) leaveStartup() {
	b.undo.state = bbrStartup
	b.fullBWReached = true
	b.inflightLongterm = max(b.bdp(b.maxBW(), 100), b.inflightLatest, bbrMinCwnd*b.mss)
}

// checkDrainDone is CheckDrainDone.
func (b *BBR) checkDrainDone(s *bbrSample) {
	if b.state == bbrDrain && (s.InFlight <= b.inflight(b.maxBW(), 100) || b.roundCount-b.drainRound > bbrDrainRounds) {
		b.startDown(s.Now)
	}
}

// startDown is StartProbeBW_DOWN.
func (b *BBR) startDown(now mono.Time) {
	b.resetSignals()
	b.upPerInc = MaxWindow
	// PickProbeWait.
	b.roundsSinceProbe = uint32(b.rand() & 1)
	b.probeWait = bbrProbeWait + time.Duration(b.rand()%uint64(time.Second))
	b.cycleStamp = now
	b.ackPhase = acksStopping
	b.startRound(b.total)
	b.state = bbrDown
}

// startRefill is StartProbeBW_REFILL.
func (b *BBR) startRefill() {
	b.resetShort()
	b.upRounds, b.upAcked = 0, 0
	b.prevCautious = false
	b.ackPhase = acksRefilling
	b.startRound(b.total)
	b.state = bbrRefill
}

// startUp is StartProbeBW_UP.
func (b *BBR) startUp(s *bbrSample) {
	b.ackPhase = acksStarting
	b.startRound(b.total)
	b.resetFullBW()
	b.fullBW = s.bw
	b.state = bbrUp
	b.raiseSlope()
}

// rand is a pseudo-random number (xorshift64).
func (b *BBR) rand() uint64 {
	b.random ^= b.random << 13
	b.random ^= b.random >> 7
	b.random ^= b.random << 17
	return b.random
}

// updateCycle is UpdateProbeBWCyclePhase.
func (b *BBR) updateCycle(s *bbrSample) {
	if !b.fullBWReached || b.adaptLongterm(s) {
		return
	}
	switch b.state {
	case bbrDown:
		if b.timeToProbe(s.Now) {
			b.startRefill()
		} else if s.InFlight <= min(b.withHeadroom(), b.inflight(b.maxBW(), 100)) {
			b.state = bbrCruise
		}
	case bbrCruise:
		if b.timeToProbe(s.Now) {
			b.startRefill()
		}
	case bbrRefill:
		if b.roundStart {
			b.bwProbeSample = true
			b.startUp(s)
		}
	case bbrUp:
		if b.timeToGoDown(s) {
			b.prevTooHigh = false // not yet, at least
			b.startDown(s.Now)
		}
	}
}

// timeToProbe is IsTimeToProbeBW: after 2 to 3 s, or sooner when Reno would have
// been back at this window, whose losses a probe may cause, after as many round
// trips as it has segments.
func (b *BBR) timeToProbe(now mono.Time) bool {
	rounds := min(min(b.bdp(b.bw, 100), b.cwnd)/b.mss, bbrRenoRounds)
	return now.Sub(b.cycleStamp) > b.probeWait || int(b.roundsSinceProbe) >= rounds
}

// timeToGoDown is IsTimeToGoDown.
func (b *BBR) timeToGoDown(s *bbrSample) bool {
	switch {
	case b.prevTooHigh && s.PriorInFlight > b.inflightLongterm-b.mss:
		b.prevCautious = true // the last probe ended here in losses: see how it goes first
		return true
	case s.CwndLimited && b.cwnd >= b.inflightLongterm:
		b.resetFullBW() // it is the bound that keeps the rate from growing
		b.fullBW = s.bw
		return false
	}
	return b.fullBWNow
}

// adaptLongterm is AdaptLongTermModel. It reports whether it changed the state.
func (b *BBR) adaptLongterm(s *bbrSample) bool {
	if b.ackPhase == acksStarting && b.roundStart {
		b.ackPhase = acksFeedback
	}
	if b.ackPhase == acksStopping && b.roundStart {
		b.bwProbeSample = false
		b.ackPhase = acksInit
		if b.state.probesBW() && !s.appLimited {
			b.advanceMaxBW()
		}
		if b.state.probesBW() && b.prevCautious && !b.prevTooHigh {
			b.startRefill() // the careful probe lost nothing: now in earnest
			return true
		}
	}
	if !s.Rate.Valid || b.tooMuchLost(s.Rate.Lost, s.Rate.TxInFlight) || b.inflightLongterm == MaxWindow {
		return false
	}
	b.inflightLongterm = max(b.inflightLongterm, s.Rate.TxInFlight)
	if b.state == bbrUp {
		b.probeUpward(s)
	}
	return false
}

// raiseSlope is RaiseInflightLongtermSlope: 1, 2, 4, … segments in a round.
func (b *BBR) raiseSlope() {
	b.upPerInc = max(b.cwnd>>b.upRounds, b.mss)
	b.upRounds = min(b.upRounds+1, bbrMaxUpRounds)
}

// probeUpward is ProbeInflightLongtermUpward.
func (b *BBR) probeUpward(s *bbrSample) {
	if !s.CwndLimited || b.cwnd < b.inflightLongterm {
		return
	}
	b.upAcked = min(b.upAcked+s.Delivered, MaxWindow)
	if n := b.upAcked / b.upPerInc; n > 0 {
		b.upAcked -= n * b.upPerInc
		b.inflightLongterm = min(b.inflightLongterm+n*b.mss, MaxWindow)
	}
	if b.roundStart {
		b.raiseSlope()
	}
}

// checkProbeRTT is CheckProbeRTT with HandleProbeRTT.
func (b *BBR) checkProbeRTT(s *bbrSample) {
	if b.state != bbrProbeRTT && b.probeRTTExpired && !b.restarting {
		b.saveCwnd()
		b.state = bbrProbeRTT
		b.probeRTTDone = 0
		b.ackPhase = acksStopping
		b.startRound(b.total)
	}
	b.restarting = false
	if b.state != bbrProbeRTT {
		return
	}
	b.limitedTo = b.total + uint64(max(s.InFlight, 1))
	switch {
	case b.probeRTTDone == 0:
		if s.InFlight <= b.probeRTTCwnd() {
			b.probeRTTDone = s.Now.Add(bbrProbeRTTDuration)
			b.probeRTTRoundDone = false
			b.startRound(b.total)
		}
	default:
		b.probeRTTRoundDone = b.probeRTTRoundDone || b.roundStart
		if b.probeRTTRoundDone {
			b.checkProbeRTTDone(s.Now)
		}
	}
}

// probeRTTCwnd is ProbeRTTCwnd: half a pipe.
func (b *BBR) probeRTTCwnd() int {
	return max(b.bdp(b.bw, bbrCwndGain[bbrProbeRTT]), bbrMinCwnd*b.mss)
}

// checkProbeRTTDone is CheckProbeRTTDone with ExitProbeRTT.
func (b *BBR) checkProbeRTTDone(now mono.Time) {
	if b.probeRTTDone == 0 || now <= b.probeRTTDone {
		return
	}
	b.probeRTTStamp = now
	b.restoreCwnd()
	b.resetShort()
	if b.fullBWReached {
		b.startDown(now)
		b.state = bbrCruise
	} else {
		b.state = bbrStartup
	}
}
