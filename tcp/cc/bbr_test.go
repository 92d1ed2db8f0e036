package cc

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// path is a sender with a BBR controller, a bottleneck of some rate with a
// buffer before it, and a receiver that acknowledges each segment. It is what
// the examples of the draft's appendix need, and no more: the real thing is
// tested in package stack.
type path struct {
	t     *testing.T
	b     *BBR
	now   mono.Time
	rate  float64       // bytes per second
	rtt   time.Duration // without a queue
	queue int           // bytes of buffer
	loss  float64
	rng   *rand.Rand

	app       float64 // what the application offers, bytes per second; 0: all
	appLeft   float64
	free      mono.Time // when the bottleneck has sent all it has
	next      mono.Time // pacing
	delivered uint64
	lost      uint64
	deliverAt mono.Time
	firstSent mono.Time
	limited   uint64
	inFlight  int
	flying    []packet
	bytes     int     // delivered since reset
	seen      []state // state changes
	recovery  int     // packets still to be acknowledged until recovery ends
	sack      bool
}

type state struct {
	at mono.Time
	s  bbrState
}

type packet struct {
	sent, at    mono.Time // at: when the ACK is back
	prior, lost uint64
	deliverAt   mono.Time
	firstSent   mono.Time
	tx          int
	limited     bool
	drop        bool
}

func newPath(t *testing.T, rate float64, rtt time.Duration, queue int) *path {
	p := &path{t: t, b: NewBBR(mss).(*BBR), now: mono.Time(time.Second), rate: rate, rtt: rtt, queue: queue,
		rng: rand.New(rand.NewPCG(5, 6)), sack: true}
	p.b.Start(Start{Now: p.now, SRTT: rtt, SACK: true, Seed: 99})
	return p
}

// send puts one segment on the way.
func (p *path) send() {
	if p.inFlight == 0 && len(p.flying) == 0 {
		p.firstSent, p.deliverAt = p.now, p.now
	}
	p.inFlight += mss
	k := packet{sent: p.now, prior: p.delivered, lost: p.lost, deliverAt: p.deliverAt, firstSent: p.firstSent, tx: p.inFlight, limited: p.limited != 0}
	p.free = max(p.free, p.now)
	k.drop = p.free.Sub(p.now).Seconds()*p.rate > float64(p.queue) || p.rng.Float64() < p.loss
	if !k.drop {
		p.free = p.free.Add(time.Duration(mss / p.rate * 1e9))
	}
	k.at = p.free.Add(p.rtt)
	p.flying = append(p.flying, k)
}

// ack takes the next packet: its ACK, or with the ACK of one sent later, its loss.
func (p *path) ack(k packet) {
	phase := p.b.phase
	if p.recovery > 0 {
		if p.recovery--; p.recovery == 0 {
			p.b.OnRecoveryExit(p.now)
		}
	}
	p.inFlight -= mss
	if k.drop {
		p.lost += mss
		p.b.OnLost(Lost{Now: p.now, Bytes: mss, Total: p.delivered, TxInFlight: k.tx, Since: int(p.lost - k.lost), AppLimited: k.limited})
		if p.b.phase == Open {
			p.b.OnLoss(p.now, p.inFlight)
			p.recovery = len(p.flying) + 1
		}
		return
	}
	p.delivered += mss
	p.bytes += mss
	p.deliverAt, p.firstSent = p.now, k.sent
	if p.limited != 0 && p.delivered > p.limited {
		p.limited = 0
	}
	rtt := p.now.Sub(k.sent)
	p.b.OnAck(Ack{Now: p.now, Acked: mss, Delivered: mss, PriorInFlight: p.inFlight + mss, InFlight: p.inFlight, Unacked: p.inFlight, RTT: rtt, SRTT: rtt, Phase: phase,
		CwndLimited: p.b.cwnd-p.inFlight < 3*mss,
		Rate: Rate{Valid: true, Total: p.delivered, Prior: k.prior, Delivered: int(p.delivered - k.prior),
			Interval: max(p.now.Sub(k.deliverAt), k.sent.Sub(k.firstSent)), TxInFlight: k.tx, Lost: int(p.lost - k.lost), AppLimited: k.limited}})
	if n := len(p.seen); n == 0 || p.seen[n-1].s != p.b.state {
		p.seen = append(p.seen, state{p.now, p.b.state})
	}
}

// run lets d go by, or less when until becomes true.
func (p *path) run(d time.Duration, until func() bool) bool {
	for end := p.now.Add(d); ; {
		if until != nil && until() {
			return true
		}
		cwnd, pacing := p.b.Window()
		room := p.inFlight+mss <= cwnd
		next := mono.Time(math.MaxInt64)
		if len(p.flying) > 0 {
			next = p.flying[0].at
		}
		if room {
			next = min(next, max(p.next, p.now))
			if p.app > 0 && p.appLeft < mss {
				next = min(max(next, p.now.Add(time.Millisecond)), p.now.Add(time.Millisecond))
				if len(p.flying) > 0 {
					next = min(next, p.flying[0].at)
				}
			}
		}
		if next > end {
			p.now = end
			return until != nil && until()
		}
		p.appLeft = min(p.appLeft+p.app*next.Sub(p.now).Seconds(), 10*mss)
		p.now = max(p.now, next)
		switch {
		case len(p.flying) > 0 && p.flying[0].at <= p.now:
			k := p.flying[0]
			p.flying = p.flying[1:]
			p.ack(k)
		case room && p.next <= p.now && (p.app == 0 || p.appLeft >= mss):
			if len(p.flying) == 0 && p.limited != 0 {
				p.b.OnIdle(p.now, 0, time.Second)
			}
			p.send()
			p.appLeft -= mss
			p.next = max(p.next, p.now).Add(time.Duration(mss * 1e9 / float64(pacing)))
		default: // the application has nothing
			p.limited = max(p.delivered+uint64(p.inFlight), 1)
		}
	}
}

// goodput is what was delivered in d, as a share of the rate.
func (p *path) goodput(d time.Duration) float64 {
	p.bytes = 0
	p.run(d, nil)
	return float64(p.bytes) / d.Seconds() / p.rate
}

func (p *path) bdp() float64 { return p.rate * p.rtt.Seconds() }

func (p *path) reach(s bbrState) {
	p.t.Helper()
	if !p.run(30*time.Second, func() bool { return p.b.state == s }) {
		p.t.Fatalf("%v is not reached, after %v", s, p.seen)
	}
}

func within(got, want, part float64) bool { return math.Abs(got-want) <= part*want }

const mbit = 1e6 / 8

// The path through the states, with the rate and round trip found.
func TestBBRStates(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.reach(bbrDrain)
	if !within(float64(p.b.maxBW()), p.rate, 0.02) || p.b.fullBWCount < 3 {
		t.Errorf("Startup ends with a rate of %d, of %.0f", p.b.maxBW(), p.rate)
	}
	if p.now > mono.Time(2*time.Second) {
		t.Errorf("Startup took %v", time.Duration(p.now)-time.Second)
	}
	p.run(0, nil)
	if got, want := float64(p.b.pacing), 0.5*0.99*float64(p.b.bw); !within(got, want, 0.01) {
		t.Errorf("Drain sends at %.0f, want %.0f", got, want)
	}
	p.reach(bbrCruise) // through DOWN, if there is nothing left to drain
	if float64(p.inFlight) > 1.05*p.bdp() {
		t.Errorf("%d in flight after Drain, a pipe is %.0f", p.inFlight, p.bdp())
	}
	if p.b.minRTT > 41*ms {
		t.Errorf("least round trip %v", p.b.minRTT)
	}
	from := p.now
	p.reach(bbrUp)
	if d := p.now.Sub(from); d < 2*time.Second-100*ms || d > 3*time.Second+100*ms {
		t.Errorf("cruised for %v", d)
	}
	p.reach(bbrDown)
	p.reach(bbrCruise)
	if share := p.goodput(60 * time.Second); share < 0.95 || share > 1.001 {
		t.Errorf("%.3f of the rate", share)
	}
	order := map[bbrState]bbrState{bbrStartup: bbrDrain, bbrDrain: bbrDown, bbrDown: bbrCruise, bbrCruise: bbrRefill, bbrRefill: bbrUp, bbrUp: bbrDown}
	probes := 0
	for i, s := range p.seen[1:] {
		before := p.seen[i].s
		if s.s == bbrProbeRTT {
			probes++
		} else if before == bbrProbeRTT && s.s != bbrCruise || before != bbrProbeRTT && order[before] != s.s && (before != bbrDrain || s.s != bbrCruise) {
			t.Errorf("%v follows %v", s.s, before)
		}
	}
	if probes < 11 || probes > 13 { // one in 5.2 s
		t.Errorf("%d times in ProbeRTT in a minute", probes)
	}
	if p.lost > 0 {
		t.Errorf("%d bytes lost in a buffer of twice the pipe", p.lost)
	}
}

// ProbeRTT: half a pipe for 200 ms, every 5 s, unless the application pauses.
func TestBBRProbeRTT(t *testing.T) {
	p := newPath(t, 50*mbit, 50*ms, 1<<20)
	p.reach(bbrProbeRTT)
	if d := p.now.Sub(mono.Time(time.Second)); d < 5*time.Second || d > 6*time.Second {
		t.Errorf("ProbeRTT after %v", d)
	}
	if !within(float64(p.b.cwnd), p.bdp()/2, 0.05) {
		t.Errorf("window of %d in ProbeRTT, a pipe is %.0f", p.b.cwnd, p.bdp())
	}
	before, from := p.b.priorCwnd, p.now
	p.reach(bbrCruise)
	if d := p.now.Sub(from); d < 200*ms || d > 400*ms {
		t.Errorf("ProbeRTT for %v", d)
	}
	if p.b.cwnd < before*9/10 {
		t.Errorf("window of %d after ProbeRTT, %d before", p.b.cwnd, before)
	}
	// The path becomes longer: that is believed after 10 s.
	p.rtt = 100 * ms
	p.run(16*time.Second, nil)
	if !within(float64(p.b.minRTT), float64(100*ms), 0.1) {
		t.Errorf("least round trip %v on a path of 100 ms", p.b.minRTT)
	}
	// Idle for longer than the interval: what comes then was measured without
	// a queue anyway.
	q := newPath(t, 50*mbit, 50*ms, 1<<20)
	q.reach(bbrCruise)
	q.app = 1 // nothing, as good as
	q.run(6*time.Second, nil)
	q.app, q.b.restarting = 0, false
	q.run(0, nil)
	seen := len(q.seen)
	q.run(300*ms, nil)
	for _, s := range q.seen[seen:] {
		if s.s == bbrProbeRTT {
			t.Error("ProbeRTT after a pause")
		}
	}
}

// In Startup ProbeRTT leads back to Startup.
func TestBBRProbeRTTInStartup(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.app = 2 * mbit
	p.reach(bbrProbeRTT)
	p.reach(bbrStartup)
	p.app = 0
	p.reach(bbrDrain)
	if !within(float64(p.b.maxBW()), p.rate, 0.02) {
		t.Errorf("rate %d of %.0f", p.b.maxBW(), p.rate)
	}
}

// A slow application tells nothing of the path: Startup waits for more.
func TestBBRAppLimited(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.app = 3 * mbit
	p.run(4*time.Second, nil)
	if p.b.state != bbrStartup || p.b.fullBWReached {
		t.Errorf("in %v", p.b.state)
	}
	// Once the rate is known, it stays known.
	p.app = 0
	p.reach(bbrCruise)
	bw := p.b.maxBW()
	p.app = 3 * mbit
	p.run(20*time.Second, nil)
	if p.b.maxBW() < bw*9/10 {
		t.Errorf("a rate of %d became %d", bw, p.b.maxBW())
	}
}

// Losses above 2 % in a round of recovery end Startup, below do not.
func TestBBRStartupLoss(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 20*mss)
	p.run(400*ms, func() bool { return p.b.state != bbrStartup })
	if p.b.state == bbrStartup || p.b.inflightLongterm == MaxWindow {
		t.Errorf("in %v after losses, bound %d", p.b.state, p.b.inflightLongterm)
	}
	if float64(p.b.inflightLongterm) < 0.5*p.bdp() {
		t.Errorf("bound %d, a pipe is %.0f", p.b.inflightLongterm, p.bdp())
	}
	q := newPath(t, 100*mbit, 40*ms, 1<<20)
	q.loss = 0.005
	q.reach(bbrDrain)
	if q.b.inflightLongterm != MaxWindow || !within(float64(q.b.maxBW()), q.rate, 0.05) {
		t.Errorf("half a per cent: bound %d, rate %d", q.b.inflightLongterm, q.b.maxBW())
	}
	// Without SACK one loss is all that can be seen.
	r := newPath(t, 100*mbit, 40*ms, 1<<20)
	r.b.sack = false
	r.run(150*ms, nil)
	r.loss = 0.02
	r.run(300*ms, nil)
	if !r.b.fullBWReached {
		t.Error("a loss without SACK did not end Startup")
	}
}

// Loss in UP sets the bound and ends UP; the next UP stops there, and if nothing
// is lost another follows at once.
func TestBBRProbeLoss(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.reach(bbrUp)
	p.queue = int(p.bdp() / 20)
	p.reach(bbrDown)
	if p.b.inflightLongterm == MaxWindow || !p.b.prevTooHigh {
		t.Fatalf("bound %d after a probe with losses", p.b.inflightLongterm)
	}
	if got := float64(p.b.inflightLongterm); got < 0.7*p.bdp() || got > 1.5*p.bdp() {
		t.Errorf("bound %.0f, a pipe is %.0f", got, p.bdp())
	}
	p.reach(bbrCruise)
	p.run(0, nil)
	if p.b.cwnd > p.b.inflightLongterm*86/100 {
		t.Errorf("cruises with %d, the bound is %d", p.b.cwnd, p.b.inflightLongterm)
	}
	p.queue = 1 << 20
	p.reach(bbrUp)
	bound, from := p.b.inflightLongterm, p.now
	p.reach(bbrDown)
	if !p.b.prevCautious {
		t.Errorf("UP went on for %v beyond a bound of %d", p.now.Sub(from), bound)
	}
	from = p.now
	p.reach(bbrRefill)
	if p.now.Sub(from) > 300*ms {
		t.Errorf("the next probe after %v", p.now.Sub(from))
	}
	p.reach(bbrUp)
	p.reach(bbrDown)
	if p.b.inflightLongterm <= bound {
		t.Errorf("bound %d, was %d", p.b.inflightLongterm, bound)
	}
}

// Ten times the rate is found in a few round trips of UP, a tenth within two
// cycles.
func TestBBRRateChanges(t *testing.T) {
	p := newPath(t, 10*mbit, 40*ms, 1<<20)
	p.reach(bbrCruise)
	p.rate *= 10
	if !p.run(20*time.Second, func() bool { return float64(p.b.maxBW()) > 0.95*p.rate }) {
		t.Errorf("found %d of %.0f", p.b.maxBW(), p.rate)
	}
	q := newPath(t, 100*mbit, 40*ms, 100*mss)
	q.reach(bbrCruise)
	q.rate /= 10
	q.run(2*time.Second, nil)
	if got := float64(q.b.bw); got > 2*q.rate || q.b.bwShort == bbrUnbounded {
		t.Errorf("sends at %.0f of %.0f after 2 s of losses", got, q.rate)
	}
	q.run(20*time.Second, nil)
	if !within(float64(q.b.maxBW()), q.rate, 0.1) {
		t.Errorf("rate %d of %.0f", q.b.maxBW(), q.rate)
	}
}

// One per cent of random loss costs no more than the draft expects (§5.3.3.5.3):
// the sending rate falls by a per cent in each of some 62 round trips before the
// next probe, on average to (1-0.99^62)/0.62 = 75 %.
func TestBBRRandomLoss(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 500_000)
	p.loss = 0.01
	p.run(5*time.Second, nil)
	if share := p.goodput(20 * time.Second); share < 0.72 {
		t.Errorf("%.2f of the rate at 1 %% loss", share)
	}
}

// A pipe of less than a segment: at least four in flight, at the path's rate.
func TestBBRTinyPipe(t *testing.T) {
	p := newPath(t, 64e3/8, 20*ms, 20*mss)
	p.run(20*time.Second, nil)
	if p.b.cwnd < 4*mss || p.b.cwnd > 13*mss {
		t.Errorf("window %d", p.b.cwnd)
	}
	if share := p.goodput(30 * time.Second); share < 0.95 {
		t.Errorf("%.2f of the rate", share)
	}
}

// Undo returns to what the loss has ended.
func TestBBRUndo(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.reach(bbrUp)
	p.run(10*ms, nil)
	cwnd := p.b.cwnd
	p.b.OnLost(Lost{Now: p.now, Bytes: 20 * mss, Total: p.delivered, TxInFlight: p.inFlight, Since: 20 * mss})
	p.b.OnLoss(p.now, p.inFlight)
	if p.b.state != bbrDown || p.b.inflightLongterm == MaxWindow {
		t.Fatalf("in %v, bound %d", p.b.state, p.b.inflightLongterm)
	}
	p.b.cwnd /= 2
	p.b.Undo(p.now)
	if p.b.state != bbrRefill || p.b.inflightLongterm != MaxWindow || p.b.cwnd != cwnd || p.b.phase != Open {
		t.Errorf("in %v with a window of %d, bound %d", p.b.state, p.b.cwnd, p.b.inflightLongterm)
	}
	q := newPath(t, 100*mbit, 40*ms, 1<<20)
	q.run(100*ms, nil)
	q.b.OnTimeout(q.now, q.inFlight)
	if cwnd, _ := q.b.Window(); cwnd != mss {
		t.Errorf("window %d after a time-out", cwnd)
	}
	q.b.leaveStartup()
	q.b.checkStartupDone(&bbrSample{Ack: &Ack{}})
	q.b.Undo(q.now)
	if q.b.state != bbrStartup || q.b.fullBWReached || q.b.inflightLongterm != MaxWindow {
		t.Errorf("in %v", q.b.state)
	}
}

// After a time-out the window begins with a segment and is what it was when all
// is repaired.
func TestBBRTimeout(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.reach(bbrCruise)
	before := p.b.cwnd
	p.b.OnTimeout(p.now, p.inFlight)
	p.b.OnTimeout(p.now, p.inFlight)
	if p.b.cwnd != mss {
		t.Errorf("window %d", p.b.cwnd)
	}
	p.b.OnRecoveryExit(p.now)
	if p.b.cwnd != before {
		t.Errorf("window %d, was %d", p.b.cwnd, before)
	}
}

// A router's mark counts as losses: Startup and UP end, other states slow down.
func TestBBRECN(t *testing.T) {
	p := newPath(t, 100*mbit, 40*ms, 1<<20)
	p.run(200*ms, nil)
	p.b.OnECN(p.now, p.inFlight)
	p.run(100*ms, nil)
	if p.b.state == bbrStartup || p.b.inflightLongterm == MaxWindow {
		t.Errorf("in %v, bound %d", p.b.state, p.b.inflightLongterm)
	}
	p = newPath(t, 100*mbit, 40*ms, 1<<20)
	p.reach(bbrCruise)
	bw := p.b.bw
	p.b.bwLatest = bw / 2
	p.b.OnECN(p.now, p.inFlight)
	p.run(100*ms, nil)
	if p.b.bwShort == bbrUnbounded || p.b.bw > bw {
		t.Errorf("sends at %d, before at %d", p.b.bw, bw)
	}
	p.reach(bbrUp)
	p.b.OnECN(p.now, p.inFlight)
	if p.b.state != bbrDown || !p.b.prevTooHigh {
		t.Errorf("in %v", p.b.state)
	}
}
