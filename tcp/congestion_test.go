package tcp

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/tcp/cc"
)

// RFC 5681 §3.1, RFC 6928 §2: two retransmissions of the SYN and the window begins
// with a segment, one and it does not.
func TestSynLoss(t *testing.T) {
	for _, name := range cc.Names() {
		run(t, "config cc="+name+`
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK>
			> . 1:1(0) ack 1
			info Cwnd 10000
		`)
		run(t, "config cc="+name+`
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			+2s > S 0:0(0)
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK>
			> . 1:1(0) ack 1
			info Cwnd 1000
			write 5000
			> . 1:1001(1000) ack 1
		`)
		tr := newTrace(t)
		tr.cfg.NewController, _ = cc.ByName(name)
		tr.play(`
			listen
			< S 0:0(0) win 65535 <mss 1000,sackOK>
			> S. 0:0(0) ack 1
			+1s > S. 0:0(0) ack 1
			+2s > S. 0:0(0) ack 1
			+10ms < . 1:1(0) ack 1
			info Cwnd 1000
		`)
	}
}

// The controller is changed in the middle of everything and goes on with the
// window there is.
func TestSetCongestion(t *testing.T) {
	tr := run(t, "config cc=cubic\n"+openedSACK+"write 100000\n"+expectRun(">", ".", 1, 1000, 10, "ack 1")+`
		+100ms < . 1:1(0) ack 1 <sack 1001:4001>
		> . 1:1001(1000) ack 1
		info Cwnd 7000
		info Ssthresh 7000
		info Congestion cubic
	`)
	c := tr.c
	if err := c.SetCongestion(tr.now, "vegas"); err != syscall.ENOENT {
		t.Errorf("vegas: %v", err)
	}
	cubic := c.cc
	if err := c.SetCongestion(tr.now, "cubic"); err != nil || c.cc != cubic {
		t.Errorf("the same again: %v", err)
	}
	// In fast recovery: the new one neither reduces again nor grows.
	if err := c.SetCongestion(tr.now, "reno"); err != nil || c.Congestion() != "reno" {
		t.Fatalf("%v, %s", err, c.Congestion())
	}
	tr.play(`
		info Ssthresh 7000
		+100ms < . 1:1(0) ack 10001
		> . 10001:11001(1000) ack 1
		> . 11001:12001(1000) ack 1
		> . 12001:13001(1000) ack 1
		> . 13001:14001(1000) ack 1
		> . 14001:15001(1000) ack 1
		> . 15001:16001(1000) ack 1
		> . 16001:17001(1000) ack 1
		info Cwnd 7000
	`)
	// To BBR: samples begin with what is sent from now on, and text is paced.
	if err := c.SetCongestion(tr.now, "bbr"); err != nil || c.rack.rates == nil {
		t.Fatal(err)
	}
	tr.limit = 1
	tr.play(`
		info Cwnd 7000
		info Ssthresh 1073741824
		+100ms < . 1:1(0) ack 12001
		> . 17001:18001(1000) ack 1
		> . 18001:19001(1000) ack 1
	`)
	tr.advance(c.Deadline().Sub(tr.now))
	tr.play(`
		> . 19001:20001(1000) ack 1
		> . 20001:21001(1000) ack 1
	`)
	if c.Info().PacingRate == 0 || c.Info().DeliveryRate != 0 {
		t.Errorf("%+v", c.Info())
	}
	// And back: nothing of that is left.
	if err := c.SetCongestion(tr.now, "cubic"); err != nil || c.rack.rates != nil || c.pace != nil || c.timers[timerPace] != 0 {
		t.Fatal(err)
	}
	if i := c.Info(); i.Cwnd != 9000 || i.PacingRate != 0 || i.Ssthresh != cc.MaxWindow {
		t.Errorf("%+v", i)
	}
}

// Before the handshake it is only a choice.
func TestSetCongestionEarly(t *testing.T) {
	tr := run(t, "connect\n> S 0:0(0)")
	if got := tr.c.Congestion(); got != "reno" {
		t.Errorf("it is %s", got)
	}
	if err := tr.c.SetCongestion(tr.now, "bbr"); err != nil {
		t.Fatal(err)
	}
	tr.play(`
		+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK>
		> . 1:1(0) ack 1
		info Congestion bbr
		info PacingRate 277000
	`)
	if c := NewActive(&Config{}, 1); c.Congestion() != cc.Default {
		t.Errorf("the default is %s", c.Congestion())
	}
}

// After the end of a connection it does no harm.
func TestSetCongestionLate(t *testing.T) {
	tr := run(t, openedSACK+"abort\n> R. 1:1(0) ack 1")
	for _, name := range cc.Names() {
		if err := tr.c.SetCongestion(tr.now, name); err != nil {
			t.Error(err)
		}
	}
	if tr.c.Deadline() != 0 {
		t.Error("a timer")
	}
}

// ACKs that come together are answered together. What those before a loss let
// out is owed: the recovery begins with the flight that there would have been.
func TestLossInABatch(t *testing.T) {
	script := openedSACK + "write 100000\n" + expectRun(">", ".", 1, 1000, 10, "ack 1")
	acks := []string{
		". 1:1(0) ack 2001", ". 1:1(0) ack 4001", ". 1:1(0) ack 6001",
		". 1:1(0) ack 6001 <sack 7001:8001>", ". 1:1(0) ack 6001 <sack 7001:9001>", ". 1:1(0) ack 6001 <sack 7001:10001>",
	}
	one, all := run(t, script), run(t, script)
	for _, tr := range []*trace{one, all} {
		tr.play("+100ms")
		for _, a := range acks {
			s, _ := tr.parse(strings.Fields(a), true)
			tr.c.Input(tr.now, s)
			if tr == one {
				tr.flush()
			}
		}
		tr.flush()
		tr.out = nil
	}
	a, b := one.c.Info(), all.c.Info()
	// Segment by segment limited transmit sends two more than it does in one go.
	if a.Ssthresh != b.Ssthresh || a.InFlight < b.InFlight || a.InFlight > b.InFlight+2000 {
		t.Errorf("one by one: %d in flight, threshold %d; together: %d and %d", a.InFlight, a.Ssthresh, b.InFlight, b.Ssthresh)
	}
	if a.InFlight < 7000 || a.Retransmits != 1 || b.Retransmits != 1 {
		t.Errorf("%+v", b)
	}
	// The recovery ends with the window at the threshold in both.
	for _, tr := range []*trace{one, all} {
		end := tr.c.sndNxt.Sub(tr.c.iss)
		s, _ := tr.parse([]string{".", "1:1(0)", "ack", strconv.Itoa(end)}, true)
		tr.now = tr.now.Add(100 * time.Millisecond)
		tr.c.Input(tr.now, s)
		tr.flush()
		tr.out = nil
		if i := tr.c.Info(); i.Cwnd != i.Ssthresh || i.InFlight > i.Cwnd || i.InFlight <= i.Cwnd-1000 {
			t.Errorf("after it: %+v", i)
		}
	}
}
