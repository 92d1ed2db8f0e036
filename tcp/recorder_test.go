package tcp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// recorder is a congestion control that does nothing but write down what it
// hears. Its window and rate are what the test says.
type recorder struct {
	cwnd, ssthresh int
	pacing         int64
	start          mono.Time
	acks           []cc.Ack
	log            []string // calls other than OnAck, with their numbers
	lost           []cc.Lost
}

func (r *recorder) note(format string, a ...any) { r.log = append(r.log, fmt.Sprintf(format, a...)) }

func (r *recorder) Name() string { return "recorder" }
func (r *recorder) Start(s cc.Start) {
	r.start = s.Now
	r.note("start srtt %v", s.SRTT)
}
func (r *recorder) OnAck(a cc.Ack)                { r.acks = append(r.acks, a) }
func (r *recorder) OnLoss(now mono.Time, n int)   { r.note("loss %d", n) }
func (r *recorder) OnECN(now mono.Time, n int)    { r.note("ecn %d", n) }
func (r *recorder) OnRecoveryExit(now mono.Time)  { r.note("exit") }
func (r *recorder) OnTimeout(_ mono.Time, n int)  { r.note("timeout %d", n) }
func (r *recorder) Undo(now mono.Time)            { r.note("undo") }
func (r *recorder) OnUnused(now mono.Time, n int) { r.note("unused %d", n) }
func (r *recorder) OnSynLoss(now mono.Time)       { r.note("synloss") }
func (r *recorder) SetMSS(n int)                  { r.note("mss %d", n) }
func (r *recorder) Window() (int, int64)          { return r.cwnd, r.pacing }
func (r *recorder) Ssthresh() int                 { return r.ssthresh }
func (r *recorder) OnIdle(now mono.Time, idle, rto time.Duration) {
	r.note("idle %v", idle)
}
func (r *recorder) OnLost(l cc.Lost) { r.lost = append(r.lost, l) }

// calls are those written down since the last call of it.
func (r *recorder) calls() string {
	s := strings.Join(r.log, "; ")
	r.log = nil
	return s
}

// take returns the ACKs since the last call of it.
func (r *recorder) take() []cc.Ack {
	a := r.acks
	r.acks = nil
	return a
}

// plain hides that recorder wants samples.
type plain struct{ cc.Controller }

// record begins a script whose congestion control is a recorder with a window
// of cwnd and a pacing rate.
func record(t *testing.T, cwnd int, pacing int64) (*trace, *recorder) {
	r := &recorder{cwnd: cwnd, ssthresh: cc.MaxWindow, pacing: pacing}
	tr := newTrace(t)
	tr.cfg.NewController = func(int) cc.Controller { return r }
	return tr, r
}
