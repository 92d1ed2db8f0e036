package cc

import (
	"testing"
	"time"
)

const mss = 1000

// A step of a test is one event; the window and threshold are those after it.
type step struct {
	event    string
	n        int // bytes
	cwnd     int
	ssthresh int
}

func run(t *testing.T, name string, c Controller, steps []step) {
	t.Helper()
	for i, s := range steps {
		switch s.event {
		case "ack":
			c.OnAck(Ack{Now: 1, Acked: s.n, Delivered: s.n, CwndLimited: true})
		case "repeat": // an ACK of what SACK has told of before
			c.OnAck(Ack{Now: 1, Acked: s.n, Delivered: min(s.n, 1000), CwndLimited: true})
		case "sack": // nothing acknowledged
			c.OnAck(Ack{Now: 1, Delivered: s.n, CwndLimited: true})
		case "overtaken": // likewise, on a path that reorders
			c.OnAck(Ack{Now: 1, Delivered: s.n, CwndLimited: true, Reorders: true})
		case "filled": // the hole in it
			c.OnAck(Ack{Now: 1, Acked: 3 * s.n, Delivered: s.n, CwndLimited: true, Reorders: true})
		case "unlimited": // by cwnd, that is
			c.OnAck(Ack{Now: 1, Acked: s.n, Delivered: s.n})
		case "loss":
			c.OnLoss(1, s.n)
		case "exit":
			c.OnRecoveryExit(1)
		case "timeout":
			c.OnTimeout(1, s.n)
		case "undo":
			c.Undo(1)
		case "idle":
			c.OnIdle(1, time.Duration(s.n)*time.Millisecond, 200*time.Millisecond)
		case "unused":
			c.OnUnused(1, s.n)
		case "ecn":
			c.OnECN(1, s.n)
		case "ce": // an ACK with the news of a mark
			c.OnAck(Ack{Now: 1, Acked: s.n, Delivered: s.n, CE: 1, CwndLimited: true})
		case "mss":
			c.SetMSS(s.n)
		case "synloss":
			c.OnSynLoss(1)
		default:
			t.Fatalf("event %q", s.event)
		}
		cwnd, pacing := c.Window()
		if cwnd != s.cwnd || c.Ssthresh() != s.ssthresh || pacing != 0 {
			t.Errorf("%s, step %d (%s %d): cwnd %d ssthresh %d pacing %d, want %d %d 0",
				name, i, s.event, s.n, cwnd, c.Ssthresh(), pacing, s.cwnd, s.ssthresh)
			return
		}
	}
}

func TestInitialWindow(t *testing.T) {
	// min(10*MSS, max(2*MSS, 14600)), RFC 6928 §2.
	for m, want := range map[int]int{536: 5360, 1220: 12200, 1448: 14480, 1460: 14600, 1461: 14600, 7300: 14600, 8960: 17920} {
		if got := InitialWindow(m); got != want {
			t.Errorf("%d: %d, want %d", m, got, want)
		}
		if got, _ := NewReno(m).Window(); got != want {
			t.Errorf("NewReno(%d): %d, want %d", m, got, want)
		}
	}
}

func TestReno(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"slow start opens by what is acknowledged", []step{
			{"ack", 1000, 11000, MaxWindow},
			{"ack", 2000, 13000, MaxWindow},
			{"ack", 1, 13001, MaxWindow},
			{"ack", 1 << 20, 13001 + maxSlowStart, MaxWindow},
			{"ack", 0, 13001 + maxSlowStart, MaxWindow},
			{"ack", -5, 13001 + maxSlowStart, MaxWindow},
		}},
		{"what was known to have arrived does not count again", []step{
			{"repeat", 5000, 11000, MaxWindow},
			{"repeat", 500, 11500, MaxWindow},
		}},
		{"a window that is not used does not grow", []step{
			{"unlimited", 10000, 10000, MaxWindow},
			{"loss", 10000, 5000, 5000},
			{"exit", 0, 5000, 5000},
			{"unlimited", 10000, 5000, 5000},
			{"ack", 4999, 5000, 5000},
			{"ack", 1, 6000, 5000},
		}},
		{"congestion avoidance: a segment per window", []step{
			{"loss", 10000, 5000, 5000},
			{"exit", 0, 5000, 5000},
			{"ack", 2000, 5000, 5000},
			{"ack", 2000, 5000, 5000},
			{"ack", 2000, 6000, 5000}, // 1000 carried over
			{"ack", 4000, 6000, 5000},
			{"ack", 1000, 7000, 5000},
			{"ack", 20000, 8000, 5000}, // never more than one per ACK
		}},
		{"fast recovery: half of the flight, once", []step{
			{"loss", 9000, 4500, 4500},
			{"ack", 1000, 4500, 4500},
			{"loss", 4000, 4500, 4500},
			{"exit", 0, 4500, 4500},
			{"loss", 4500, 2250, 2250},
		}},
		{"at least two segments", []step{
			{"loss", 3000, 2000, 2000},
			{"exit", 0, 2000, 2000},
			{"loss", 2000, 2000, 2000},
		}},
		{"what limited transmit sent does not count", []step{
			{"loss", 12000, 5000, 5000},
		}},
		{"timeout: one segment, then slow start by one segment per ACK", []step{
			{"timeout", 10000, 1000, 5000},
			{"ack", 1000, 2000, 5000},
			{"ack", 9000, 3000, 5000},
			{"exit", 0, 3000, 5000},
			{"ack", 1500, 4500, 5000},
			// 500 to the threshold, 1500 count towards the next segment.
			{"ack", 2000, 5000, 5000},
			{"ack", 3500, 6000, 5000},
		}},
		{"timeout again for the same data: the threshold stays", []step{
			{"timeout", 10000, 1000, 5000},
			{"timeout", 10000, 1000, 5000},
			{"ack", 1000, 2000, 5000},
			{"timeout", 4000, 1000, 2000}, // for other data
			{"timeout", 4000, 1000, 2000},
		}},
		{"timeout in fast recovery", []step{
			{"loss", 10000, 5000, 5000},
			{"timeout", 10000, 1000, 2500},
			{"loss", 10000, 1000, 2500}, // still the same window
			{"undo", 0, 10000, MaxWindow},
		}},
		{"undo of a loss", []step{
			{"loss", 10000, 5000, 5000},
			{"undo", 0, 10000, MaxWindow},
			{"undo", 0, 10000, MaxWindow},
			{"ack", 1000, 11000, MaxWindow},
		}},
		{"undo of two timeouts", []step{
			{"timeout", 10000, 1000, 5000},
			{"timeout", 1000, 1000, 5000},
			{"undo", 0, 10000, MaxWindow},
		}},
		{"undo of a time-out after progress: the first was real", []step{
			{"timeout", 10000, 1000, 5000},
			{"ack", 1000, 2000, 5000},
			{"timeout", 4000, 1000, 2000},
			{"undo", 0, 2000, 5000},
		}},
		{"undo after the end, once", []step{
			{"loss", 10000, 5000, 5000},
			{"exit", 0, 5000, 5000},
			{"undo", 0, 10000, MaxWindow},
			{"loss", 10000, 5000, 5000},
			{"exit", 0, 5000, 5000},
			{"ack", 5000, 6000, 5000},
			{"undo", 0, 10000, MaxWindow},
			{"ack", 1000, 11000, MaxWindow},
			{"undo", 0, 11000, MaxWindow},
		}},
		{"SACK opens the window only if the path reorders", []step{
			{"sack", 2000, 10000, MaxWindow},
			{"overtaken", 2000, 12000, MaxWindow},
			{"filled", 1000, 13000, MaxWindow},
			{"loss", 13000, 6500, 6500},
			{"overtaken", 2000, 6500, 6500},
			{"exit", 0, 6500, 6500},
			{"overtaken", 6500, 7500, 6500},
		}},
		{"nothing to undo", []step{{"undo", 0, 10000, MaxWindow}}},
		{"idle: back to the initial window", []step{
			{"ack", 10000, 20000, MaxWindow},
			{"idle", 200, 20000, MaxWindow},
			{"idle", 201, 10000, MaxWindow},
			{"idle", 5000, 10000, MaxWindow},
		}},
		{"idle: the threshold remembers three quarters", []step{
			{"ack", 30000, 40000, MaxWindow},
			{"loss", 40000, 20000, 20000},
			{"exit", 0, 20000, 20000},
			{"ack", 20000, 21000, 20000},
			{"idle", 401, 10000, 20000},
			// All of a window is left over for congestion avoidance.
			{"ack", 60000, 21000, 20000},
			{"ack", 1000, 21000, 20000},
		}},
		{"idle: a small window stays small", []step{
			{"timeout", 10000, 1000, 5000},
			{"exit", 0, 1000, 5000},
			{"idle", 5000, 1000, 5000},
		}},
		{"segment size", []step{
			{"mss", 500, 10000, MaxWindow},
			{"loss", 1000, 1000, 1000},
			{"mss", 1400, 1400, 1000},
			{"mss", 0, 1400, 1000},
		}},
		{"ECN: in slow start as a loss", []step{
			{"ecn", 9000, 4500, 4500},
			{"undo", 0, 4500, 4500},
		}},
		{"ECN: a fifth less, RFC 8511", []step{
			{"ack", 8000, 18000, MaxWindow},
			{"loss", 18000, 9000, 9000},
			{"exit", 0, 9000, 9000},
			{"ecn", 9000, 7200, 7200},
			{"ce", 100000, 7200, 7200}, // it brings bad news: no growth
			{"undo", 0, 7200, 7200},
			{"ecn", 7200, 5760, 5760},
			{"ecn", 1200, 1000, 2000}, // down to a segment, RFC 3168 §6.1.2
			{"ack", 1000, 2000, 2000},
			{"ack", 2000, 3000, 2000},
		}},
		{"ECN in a recovery is the same congestion", []step{
			{"loss", 10000, 5000, 5000},
			{"ecn", 5000, 5000, 5000},
			{"exit", 0, 5000, 5000},
			{"timeout", 5000, 1000, 2500},
			{"ecn", 1000, 1000, 2500},
		}},
		{"idle: half for each time-out", []step{
			{"ack", 60000, 70000, MaxWindow},
			{"loss", 70000, 35000, 35000},
			{"exit", 0, 35000, 35000},
			{"idle", 300, 17500, 35000},
			{"idle", 3000, 10000, 35000},
		}},
		{"a window that is not used shrinks half way", []step{
			{"ack", 30000, 40000, MaxWindow},
			{"unused", 20000, 30000, MaxWindow},
			{"unused", 1, 20000, MaxWindow}, // at least the initial one counts as used
			{"unused", 20000, 20000, MaxWindow},
			{"unused", 50000, 20000, MaxWindow},
			{"loss", 20000, 10000, 10000},
			{"unused", 1000, 10000, 10000},
			{"exit", 0, 10000, 10000},
			{"unused", 1000, 10000, 10000},
		}},
		{"SYN lost twice", []step{
			{"synloss", 0, 1000, MaxWindow},
			{"ack", 1000, 2000, MaxWindow},
		}},
	} {
		run(t, c.name, NewReno(mss), c.steps)
	}
}

// In congestion avoidance with a full window acknowledged each round trip, the
// window grows by one segment per round trip, however the ACKs are cut.
func TestRenoGrowthDoesNotDependOnHowACKsAreCut(t *testing.T) {
	for _, cut := range []int{1, 100, 1000, 2000, 2500} {
		c := NewReno(mss)
		c.OnLoss(1, 10000)
		c.OnRecoveryExit(1)
		for range 10 {
			cwnd, _ := c.Window()
			for left := cwnd; left > 0; left -= cut {
				c.OnAck(Ack{Now: 1, Acked: min(cut, left), Delivered: min(cut, left), CwndLimited: true})
			}
		}
		if cwnd, _ := c.Window(); cwnd != 15000 {
			t.Errorf("ACKs of %d: cwnd %d after ten round trips, want 15000", cut, cwnd)
		}
	}
}
