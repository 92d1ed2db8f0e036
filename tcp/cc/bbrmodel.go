package cc

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns BBR's model of the path (draft §5.5): rounds, the delivery
// rate, the round trip, how much ACKs come in lumps, and what losses say of
// the last round.
//
//	              of a whole cycle of probing    since it last probed
//	rate          maxBW                          bwShort
//	in flight     inflightLongterm               inflightShort
//
// The right column is lowered round by round while things are lost, and thrown
// away before the next probe.

const (
	bbrLossThresh       = 50 // LossThresh as a divisor: 2 %
	bbrBeta             = 70 // per cent
	bbrHeadroom         = 85 // per cent that are left of inflightLongterm: 1-Headroom
	bbrMinRTTFilter     = 10 * time.Second
	bbrProbeRTTInterval = 5 * time.Second
	bbrExtraRounds      = 5 // half of ExtraAckedFilterLen, for each of two slots
)

// bbrModel is the variables of draft §2.9 to §2.12.
type bbrModel struct {
	bw     int64    // BBR.bw: what to send at
	bwSlot [2]int64 // BBR.max_bw_filter: highest sample of the last cycle and of this one

	roundCount     uint32
	roundStart     bool
	roundDelivered uint64 // BBR.next_round_delivered

	minRTT        time.Duration // 0: not measured
	minRTTStamp   mono.Time
	probeRTTDelay time.Duration // BBR.probe_rtt_min_delay; 0: not measured
	probeRTTStamp mono.Time

	extraStart     mono.Time // BBR.extra_acked_interval_start
	extraDelivered int
	extraSlot      [2]int // highest samples of the last rounds
	extraRound     uint32 // in which the second slot began

	inflightLongterm int   // MaxWindow: unbounded
	inflightShort    int   // MaxWindow: unbounded
	bwShort          int64 // bbrUnbounded

	bwLatest           int64 // of this round
	inflightLatest     int
	lossRoundDelivered uint64
	lossRoundStart     bool
	lossInRound        bool
	lossRanges         int // stretches lost in this round
}

// maxBW is BBR.max_bw.
func (b *BBR) maxBW() int64 { return max(b.bwSlot[0], b.bwSlot[1]) }

// startRound is StartRound: the round ends with the ACK of what is sent next.
func (b *BBR) startRound(total uint64) { b.roundDelivered = total }

// updateSignals is UpdateLatestDeliverySignals and UpdateCongestionSignals.
func (b *BBR) updateSignals(s *bbrSample) {
	b.lossRoundStart, b.roundStart = false, false
	r := &s.Rate
	if !r.Valid {
		return
	}
	b.total = r.Total
	b.bwLatest = max(b.bwLatest, s.bw)
	b.inflightLatest = max(b.inflightLatest, r.Delivered)
	if r.Prior >= b.lossRoundDelivered {
		b.lossRoundDelivered = r.Total
		b.lossRoundStart = true
	}
	if r.Prior >= b.roundDelivered {
		b.startRound(r.Total)
		b.roundCount++
		b.roundsSinceProbe++
		b.roundStart = true
	}
	// UpdateMaxBw: a rate that the application limited tells nothing, unless
	// it is higher than what was believed possible.
	if s.bw > 0 && (s.bw >= b.maxBW() || !s.appLimited) {
		b.bwSlot[1] = max(b.bwSlot[1], s.bw)
	}
	if !b.lossRoundStart {
		return
	}
	if b.lossInRound && !b.state.accelerates() {
		b.lowerBounds()
	}
	b.lossInRound = false
}

// lowerBounds is InitLowerBounds and LossLowerBounds: towards what the last
// round has shown to work, by 30 % at most.
func (b *BBR) lowerBounds() {
	if b.bwShort == bbrUnbounded {
		b.bwShort = b.maxBW()
	}
	if b.inflightShort == MaxWindow {
		b.inflightShort = b.cwnd
		if b.phase != Open {
			b.inflightShort = max(b.cwnd, b.priorCwnd) // the window of a timeout says nothing (Linux)
		}
	}
	b.bwShort = max(b.bwLatest, b.bwShort/100*bbrBeta)
	b.inflightShort = max(b.inflightLatest, b.inflightShort*bbrBeta/100)
}

// advanceSignals is AdvanceLatestDeliverySignals.
func (b *BBR) advanceSignals(s *bbrSample) {
	if b.lossRoundStart {
		b.bwLatest, b.inflightLatest = s.bw, s.Rate.Delivered
		b.lossRanges = 0
	}
}

// resetSignals is ResetCongestionSignals.
func (b *BBR) resetSignals() {
	b.lossInRound = false
	b.bwLatest, b.inflightLatest, b.lossRanges = 0, 0, 0
}

// resetShort is ResetShortTermModel.
func (b *BBR) resetShort() { b.bwShort, b.inflightShort = bbrUnbounded, MaxWindow }

// advanceMaxBW is AdvanceMaxBwFilter: the highest rate of the cycle that ends
// counts for one more cycle.
func (b *BBR) advanceMaxBW() {
	if b.bwSlot[1] > 0 {
		b.bwSlot[0], b.bwSlot[1] = b.bwSlot[1], 0
	}
}

// updateAggregation is UpdateACKAggregation: how much more was acknowledged at
// times than bw explains. The window allows for so much, to send on while
// nothing is acknowledged.
func (b *BBR) updateAggregation(s *bbrSample) {
	expected := func() int {
		d := uint64(max(s.Now.Sub(b.extraStart), 0))
		return int(min(mulDiv(uint64(b.bw), d, 1e9), MaxWindow))
	}
	n := expected()
	if b.extraDelivered <= n {
		b.extraDelivered, b.extraStart, n = 0, s.Now, 0
	}
	b.extraDelivered = min(b.extraDelivered+s.Delivered, 2*MaxWindow)
	extra := min(b.extraDelivered-n, b.cwnd)
	rounds := uint32(1) // in Startup only the last round counts
	if b.fullBWReached {
		rounds = bbrExtraRounds
	}
	if b.roundCount-b.extraRound >= rounds {
		b.extraSlot = [2]int{b.extraSlot[1], 0}
		b.extraRound = b.roundCount
	}
	b.extraSlot[1] = max(b.extraSlot[1], extra)
}

// extraAcked is BBR.extra_acked.
func (b *BBR) extraAcked() int { return max(b.extraSlot[0], b.extraSlot[1]) }

// updateMinRTT is UpdateMinRTT.
func (b *BBR) updateMinRTT(s *bbrSample) {
	b.probeRTTExpired = s.Now.Sub(b.probeRTTStamp) > bbrProbeRTTInterval
	if s.RTT > 0 && (b.probeRTTDelay == 0 || s.RTT < b.probeRTTDelay || b.probeRTTExpired) {
		b.probeRTTDelay, b.probeRTTStamp = s.RTT, s.Now
	}
	expired := s.Now.Sub(b.minRTTStamp) > bbrMinRTTFilter
	if b.probeRTTDelay > 0 && (b.minRTT == 0 || b.probeRTTDelay < b.minRTT || expired) {
		b.minRTT, b.minRTTStamp = b.probeRTTDelay, b.probeRTTStamp
	}
}

// noteLoss is NoteLoss; total is what was delivered so far.
func (b *BBR) noteLoss(total uint64) {
	if !b.lossInRound {
		b.lossRoundDelivered = total
	}
	b.lossInRound = true
}

// OnLost implements Sampler: HandleLostPacket.
func (b *BBR) OnLost(l Lost) {
	b.saveState()
	b.noteLoss(l.Total)
	if !l.Adjoins {
		b.lossRanges++
	}
	if !b.bwProbeSample || l.TxInFlight <= 0 || !b.tooMuchLost(l.Since, l.TxInFlight) {
		return
	}
	// InflightAtLoss: where in this stretch, which may be a whole super-frame,
	// the losses crossed the threshold.
	before, lost := l.TxInFlight-l.Bytes, l.Since-l.Bytes
	prefix := (before - bbrLossThresh*lost) / (bbrLossThresh - 1)
	b.inflightTooHigh(l.Now, before+max(prefix, 0), l.AppLimited)
}

// tooMuchLost is IsInflightTooHigh.
func (b *BBR) tooMuchLost(lost, txInFlight int) bool {
	return lost > txInFlight/bbrLossThresh || lost > 0 && !b.sack
}

// inflightTooHigh is HandleInflightTooHigh.
func (b *BBR) inflightTooHigh(now mono.Time, txInFlight int, appLimited bool) {
	b.prevTooHigh = true
	b.bwProbeSample = false // once for each probe
	if !appLimited {
		target := min(b.bdp(b.bw, 100), b.cwnd)
		b.inflightLongterm = min(max(txInFlight, target*bbrBeta/100, b.mss), MaxWindow)
	}
	if b.state == bbrUp {
		b.undo.state = bbrUp
		b.startDown(now)
	}
}

// withHeadroom is InflightWithHeadroom: what is left when others get some room.
func (b *BBR) withHeadroom() int {
	if b.inflightLongterm == MaxWindow {
		return MaxWindow
	}
	n := min(b.inflightLongterm-b.mss, b.inflightLongterm/100*bbrHeadroom)
	return max(n, bbrMinCwnd*b.mss)
}
