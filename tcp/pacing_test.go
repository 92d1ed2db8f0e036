package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// A million bytes a second: quanta of two segments, 2 ms apart. The first
// follows on half of what a late timer would be forgiven.
func TestPacing(t *testing.T) {
	tr, r := record(t, 10000, 1e6)
	tr.play(openedSACK + `
		write 10000
		> . 1:1001(1000) ack 1
		> . 1001:2001(1000) ack 1
		+1ms > . 2001:3001(1000) ack 1
		> . 3001:4001(1000) ack 1
		+2ms > . 4001:5001(1000) ack 1
		> . 5001:6001(1000) ack 1
		+2ms > . 6001:7001(1000) ack 1
		> . 7001:8001(1000) ack 1
		+2ms > . 8001:9001(1000) ack 1
		> P. 9001:10001(1000) ack 1
		info PacingRate 1000000
		// an ACK does not hurry it, however much it lets out
		+93ms < . 1:1(0) ack 10001
		write 4000
		> . 10001:11001(1000) ack 1
		> . 11001:12001(1000) ack 1
		+500us < . 1:1(0) ack 12001
		+500us > . 12001:13001(1000) ack 1
		> P. 13001:14001(1000) ack 1
		// lost: the first repetition goes at once, the others take their turn
		+99ms
		write 20000
		> . 14001:15001(1000) ack 1
		> . 15001:16001(1000) ack 1
		+1ms > . 16001:17001(1000) ack 1
		> . 17001:18001(1000) ack 1
		< . 1:1(0) ack 14001
		+2ms > . 18001:19001(1000) ack 1
		> . 19001:20001(1000) ack 1
		+2ms > . 20001:21001(1000) ack 1
		> . 21001:22001(1000) ack 1
		+2ms > . 22001:23001(1000) ack 1
		> . 23001:24001(1000) ack 1
		+100ms < . 1:1(0) ack 14001 <sack 20001:24001>
		> . 14001:15001(1000) ack 1
		> . 15001:16001(1000) ack 1
		+1ms > . 16001:17001(1000) ack 1
		> . 17001:18001(1000) ack 1
		+2ms > . 18001:19001(1000) ack 1
		> . 19001:20001(1000) ack 1
	`)
	r.pacing = 0
	tr.play("+2ms " + expectRun(">", ".", 24001, 1000, 4, "ack 1"))
}

// A FIN needs no turn, and a window probe does not wait for one.
func TestPacingFIN(t *testing.T) {
	tr, _ := record(t, 10000, 1e6)
	tr.play(openedSACK + `
		write 3000
		> . 1:1001(1000) ack 1
		> . 1001:2001(1000) ack 1
		shutdown
		+1ms > FP. 2001:3001(1000) ack 1
		+100ms < . 1:1(0) ack 3002
		state FIN-WAIT-2
	`)
	tr, _ = record(t, 10000, 1e6)
	tr.play(openedSACK + `
		write 2000
		> . 1:1001(1000) ack 1
		> P. 1001:2001(1000) ack 1
		shutdown
		> F. 2001:2001(0) ack 1
	`)
}

// With segmentation offload a quantum is one super-frame, as large as a
// millisecond's worth.
func TestPacingQuantum(t *testing.T) {
	for _, c := range []struct {
		rate int64
		want int
	}{{1e6, 2000}, {10 << 20, 10000}, {1e9, 65000}} {
		tr, _ := record(t, 1<<20, c.rate)
		tr.cfg.RcvBuf, tr.limit = 1<<20, 65000
		tr.play("connect\n> S 0:0(0)\n+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK,wscale 8>\n> . 1:1(0) ack 1\n< . 1:1(0) ack 1 win 65535")
		tr.c.Write(make([]byte, 500_000))
		var s Segment
		got := 0
		for n := 0; tr.c.Output(tr.now, &s, tr.limit); n++ {
			if got += s.PayloadLen(); n == 0 && got != c.want {
				t.Errorf("at %d bytes a second the first super-frame is of %d, want %d", c.rate, got, c.want)
			}
		}
		if got < c.want || got > c.want+1000 && c.rate < 1e9 {
			t.Errorf("%d bytes left at once, a quantum is %d", got, c.want)
		}
		if d := tr.c.Deadline().Sub(tr.now); d <= 0 || d > time.Millisecond {
			t.Errorf("the next in %v", d)
		}
	}
}

// However late the timer comes, within half a quantum the rate is kept; and
// never more than a quantum and a half leaves at once.
func TestPacingKeepsItsRate(t *testing.T) {
	for _, late := range []time.Duration{0, 300 * time.Microsecond, 900 * time.Microsecond, 50 * time.Millisecond} {
		const rate, mss = 2 << 20, 1000
		r := &recorder{cwnd: cc.MaxWindow, pacing: rate}
		c := bare(Conn{cc: r, mss: mss})
		now, sent := mono.Time(time.Second), 0
		start := now
		for now < start.Add(time.Second) {
			burst := 0
			for c.paceRoom(now, mss, mss) > 0 {
				c.paceSent(now, mss)
				burst += mss
			}
			if burst > 3*cc.Quantum(rate, mss)/2+mss {
				t.Fatalf("%d bytes at once", burst)
			}
			sent += burst
			if c.timers[timerPace] <= now {
				t.Fatal("no timer")
			}
			now = c.timers[timerPace].Add(late)
		}
		got := float64(sent) / now.Sub(start).Seconds() / rate
		if late < time.Millisecond/2 && (got < 0.99 || got > 1.01) || got > 1.01 {
			t.Errorf("timers %v late: %.3f of the rate", late, got)
		}
	}
}
