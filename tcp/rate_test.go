package tcp

import (
	"fmt"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// rates of the ACKs since the last call, one to a line.
func (r *recorder) rates() (s string) {
	for _, a := range r.take() {
		x := a.Rate
		s += fmt.Sprintf("%d of %d in %v", x.Delivered, x.Total, x.Interval)
		if !x.Valid {
			s += " invalid"
		}
		if x.AppLimited {
			s += " limited"
		}
		s += fmt.Sprintf(" flight %d lost %d\n", x.TxInFlight, x.Lost)
	}
	return s
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%swant\n%s", what, got, want)
	}
}

func TestDeliveryRate(t *testing.T) {
	tr, r := record(t, 10000, 0)
	tr.play(openedSACK + ten)
	// The first flight follows a time with nothing to send.
	tr.play("+100ms < . 1:1(0) ack 2001")
	tr.play("+10ms < . 1:1(0) ack 10001")
	wantText(t, "first flight", r.rates(), "2000 of 2000 in 100ms limited flight 10000 lost 0\n"+
		"10000 of 10000 in 110ms limited flight 10000 lost 0\n")

	// Enough to send at all times: after the gap has left the network samples
	// count, and their interval is that of ACKs, from the last before the
	// segment left.
	tr.play("write 40000\n" + expectRun(">", ".", 10001, 1000, 10, "ack 1"))
	tr.play("+100ms < . 1:1(0) ack 12001\n" + expectRun(">", ".", 20001, 1000, 2, "ack 1"))
	tr.play("+20ms < . 1:1(0) ack 14001\n" + expectRun(">", ".", 22001, 1000, 2, "ack 1"))
	tr.play("+20ms < . 1:1(0) ack 20001\n" + expectRun(">", ".", 24001, 1000, 6, "ack 1"))
	tr.play("+60ms < . 1:1(0) ack 22001\n" + expectRun(">", ".", 30001, 1000, 2, "ack 1"))
	wantText(t, "a full window", r.rates(), "2000 of 12000 in 100ms limited flight 10000 lost 0\n"+
		"4000 of 14000 in 120ms limited flight 10000 lost 0\n"+
		"10000 of 20000 in 140ms limited flight 10000 lost 0\n"+
		"10000 of 22000 in 100ms flight 10000 lost 0\n")

	// SACK blocks count when they come, and what was lost since then as well.
	// Sending took longer here: 23001 left 120 ms after what had last arrived
	// then had left.
	tr.play("+20ms < . 1:1(0) ack 22001 <sack 23001:24001>\n> . 32001:33001(1000) ack 1")
	tr.play("+20ms < . 1:1(0) ack 22001 <sack 23001:27001>\n> . 22001:23001(1000) ack 1\n" + expectRun(">", ".", 33001, 1000, 3, "ack 1"))
	wantText(t, "with SACK", r.rates(), "9000 of 23000 in 120ms flight 10000 lost 0\n"+
		"6000 of 26000 in 140ms flight 10000 lost 1000\n")
	if len(r.lost) != 1 || r.lost[0].Bytes != 1000 || r.lost[0].Since != 1000 || r.lost[0].TxInFlight != 10000 || r.lost[0].Total != 26000 {
		t.Errorf("lost: %+v", r.lost)
	}
	// What left together with the second transmission, after the loss.
	tr.play("+100ms < . 1:1(0) ack 36001\n" + expectRun(">", ".", 36001, 1000, 10, "ack 1"))
	wantText(t, "the hole", r.rates(), "10000 of 36000 in 100ms flight 10000 lost 0\n")
	if i := tr.c.Info(); i.DeliveryRate != 100000 || i.DeliveryRateLimited || i.Congestion != "recorder" {
		t.Errorf("%+v", i)
	}
}

// An application that has nothing for a while: what is sent until the gap has
// left the network is marked, what follows is not.
func TestDeliveryRateAppLimited(t *testing.T) {
	tr, r := record(t, 4000, 0)
	tr.play(openedSACK + `
		write 1000
		> P. 1:1001(1000) ack 1
		+100ms < . 1:1(0) ack 1001
		write 20000
	` + expectRun(">", ".", 1001, 1000, 4, "ack 1"))
	r.take()
	tr.play("+100ms < . 1:1(0) ack 3001\n" + expectRun(">", ".", 5001, 1000, 2, "ack 1"))
	tr.play("+100ms < . 1:1(0) ack 7001\n" + expectRun(">", ".", 7001, 1000, 4, "ack 1"))
	wantText(t, "", r.rates(), "2000 of 3000 in 100ms limited flight 4000 lost 0\n4000 of 7000 in 100ms flight 4000 lost 0\n")
	// A peer's window that is too small is part of the path.
	tr.play("+100ms < . 1:1(0) ack 11001 win 1000\n> . 11001:12001(1000) ack 1")
	tr.play("+100ms < . 1:1(0) ack 12001 win 20000\n" + expectRun(">", ".", 12001, 1000, 4, "ack 1"))
	wantText(t, "window", r.rates(), "4000 of 11000 in 100ms flight 4000 lost 0\n1000 of 12000 in 100ms flight 1000 lost 0\n")
}

// A sample shorter than the least round trip is not of this transmission.
func TestDeliveryRateTooSoon(t *testing.T) {
	const ms = mono.Time(time.Millisecond)
	for _, c := range []struct {
		sent, want time.Duration
	}{{100 * time.Millisecond, 100 * time.Millisecond}, {99 * time.Millisecond, 0}, {0, 0}, {-time.Millisecond, 0}} {
		x := &rates{delivered: 500}
		x.arrived(200*ms, &sentRange{sent: 200*ms - mono.Time(c.sent), start: 1, end: 1001, stamp: stamp{delivered: 500, inFlight: 1000 | stampSet}})
		if r := x.sample(200*ms, 100*time.Millisecond); r.Interval != c.want || !r.Valid || r.Delivered != 1000 {
			t.Errorf("sent %v before: %+v", c.sent, r)
		}
	}
}

// Without SACK a duplicate ACK tells of a segment, and the ACK after it of so
// much less.
func TestDeliveryRateWithoutSACK(t *testing.T) {
	tr, r := record(t, 10000, 0)
	tr.play(`
		connect
		> S 0:0(0)
		+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000>
		> . 1:1(0) ack 1
	` + ten + `
		+100ms < . 1:1(0) ack 1001
		< . 1:1(0) ack 1001
		< . 1:1(0) ack 1001
		< . 1:1(0) ack 1001
		> . 1001:2001(1000) ack 1
		+100ms < . 1:1(0) ack 10001
	`)
	var got []int
	for _, a := range r.take() {
		got = append(got, a.Acked, a.Delivered, int(a.Rate.Total))
	}
	if want := []int{1000, 1000, 1000, 0, 1000, 2000, 0, 1000, 3000, 0, 1000, 4000, 9000, 6000, 10000}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("acknowledged, delivered, total: %v, want %v", got, want)
	}
	if len(r.lost) != 1 || r.lost[0].TxInFlight != 10000 {
		t.Errorf("lost: %+v", r.lost)
	}
	if got := r.calls(); got != "start srtt 100ms; loss 9000; exit" {
		t.Error(got)
	}
}

// Losses are told range by range, before what follows from them.
func TestLostRanges(t *testing.T) {
	tr, r := record(t, 20000, 0)
	tr.play(openedSACK)
	for k := range 10 { // at times of their own, so that they are ranges of their own
		tr.play(fmt.Sprintf("write 1000\n> P. %d:%d(1000) ack 1\n+1ms", 1000*k+1, 1000*k+1001))
	}
	tr.play(`
		+90ms < . 1:1(0) ack 1 <sack 2001:3001 6001:10001>
		> . 1:1001(1000) ack 1
		> . 1001:2001(1000) ack 1
		> . 3001:4001(1000) ack 1
		> . 4001:5001(1000) ack 1
		> . 5001:6001(1000) ack 1
	`)
	got := ""
	for _, l := range r.lost {
		got += fmt.Sprintf("%d/%d since %d %v; ", l.Bytes, l.TxInFlight, l.Since, l.Adjoins)
	}
	if want := "1000/1000 since 1000 false; 1000/2000 since 2000 true; 1000/4000 since 3000 false; 1000/5000 since 4000 true; 1000/6000 since 5000 true; "; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	// A time-out takes the first segment, and what left long ago.
	tr, r = record(t, 20000, 0)
	tr.play(openedSACK + `
		write 2000
		> . 1:1001(1000) ack 1
		> P. 1001:2001(1000) ack 1
		+202ms > P. 1001:2001(1000) ack 1
		+300ms > . 1:1001(1000) ack 1
		> P. 1001:2001(1000) ack 1
	`)
	if len(r.lost) != 2 || r.lost[0].Bytes != 1000 || r.lost[1].Bytes != 1000 || r.lost[1].Since != 2000 {
		t.Errorf("%+v", r.lost)
	}
	if got := r.calls(); got != "start srtt 100ms; timeout 2000" {
		t.Error(got)
	}
}

// Who does not ask for samples keeps nothing for them.
func TestNoSamplesUnasked(t *testing.T) {
	tr, r := record(t, 10000, 0)
	tr.cfg.NewController = func(int) cc.Controller { return plain{r} }
	tr.play(openedSACK + ten + `
		+100ms < . 1:1(0) ack 1001 <sack 2001:5001>
		> . 1001:2001(1000) ack 1
		+100ms < . 1:1(0) ack 10001
	`)
	for _, a := range r.take() {
		if a.Rate != (cc.Rate{}) {
			t.Errorf("a sample: %+v", a.Rate)
		}
	}
	if tr.c.rack.rates != nil || tr.c.pace != nil || len(r.lost) > 0 {
		t.Error("kept")
	}
}

func TestStamp(t *testing.T) {
	if got := stampTime(-1); got != 0 {
		t.Errorf("before: %d", got)
	}
	if got := stampTime(time.Hour); got != 1<<32-1 {
		t.Errorf("an hour: %d", got)
	}
	p := stamp{sinceDelivered: 1<<32 - 10, sinceFirst: 5}
	p.later(64 * 100 * time.Nanosecond)
	if p.sinceDelivered != 1<<32-1 || p.sinceFirst != 105 {
		t.Errorf("%+v", p)
	}
	// Counts wrap in the middle of a flight.
	c := bare(Conn{sndUna: 1, sndNxt: 1})
	c.rack.rates = &rates{delivered: 1<<32 - 1000, lost: 1<<33 - 1, deliveredAt: 1}
	r := sentRange{sent: 1, start: 1, end: 3001, stamp: c.stamp(1, 3000)}
	c.rack.rates.lost += 7
	c.rack.rates.arrived(mono.Time(time.Second), &r)
	if x := c.rack.rates.sample(mono.Time(time.Second), 0); x.Delivered != 3000 || x.Prior != 1<<32-1000 || x.Total != 1<<32+2000 || x.Lost != 7 || x.TxInFlight != 3000 {
		t.Errorf("%+v", x)
	}
}
