package tcp

import (
	"fmt"
	"testing"

	"github.com/tapstack/tapstack/tcp/cc"
)

// limits of the ACKs since the last call: was the window full, and what was in
// flight.
func (r *recorder) limits() (s string) {
	for _, a := range r.take() {
		s += fmt.Sprintf("%v %d; ", a.CwndLimited, a.Used)
	}
	return s
}

func TestWindowUsed(t *testing.T) {
	tr, r := record(t, 10000, 0)
	r.ssthresh = 5000
	want := func(what, s string) {
		t.Helper()
		if got := r.limits(); got != s {
			t.Errorf("%s: %s want %s", what, got, s)
		}
	}
	tr.play(openedSACK + `
		write 3000
		> . 1:1001(1000) ack 1
		> . 1001:2001(1000) ack 1
		> P. 2001:3001(1000) ack 1
		+100ms < . 1:1(0) ack 3001
	`)
	want("the application", "false 3000; ")
	tr.play("write 12000\n" + expectRun(">", ".", 3001, 1000, 10, "ack 1") + `
		+100ms < . 1:1(0) ack 4001
		> . 13001:14001(1000) ack 1
		< . 1:1(0) ack 5001
		> P. 14001:15001(1000) ack 1
		// of this window some was used in full, whatever comes after it
		+100ms < . 1:1(0) ack 14001
		write 1000
		> P. 15001:16001(1000) ack 1
		+50ms < . 1:1(0) ack 15001
		write 1000
		> P. 16001:17001(1000) ack 1
		+50ms < . 1:1(0) ack 16001
		+50ms < . 1:1(0) ack 17001
	`)
	want("the window", "true 10000; true 10000; true 10000; true 10000; false 2000; false 2000; ")
	tr.play("write 12000\n" + expectRun(">", ".", 17001, 1000, 10, "ack 1") + `
		+100ms < . 1:1(0) ack 27001 win 2000
		> . 27001:28001(1000) ack 1
		> P. 28001:29001(1000) ack 1
		write 5000
		+100ms < . 1:1(0) ack 29001 win 2000
		> . 29001:30001(1000) ack 1
		> . 30001:31001(1000) ack 1
		+100ms < . 1:1(0) ack 31001 win 65535
		> . 31001:32001(1000) ack 1
		> . 32001:33001(1000) ack 1
		> P. 33001:34001(1000) ack 1
	`)
	want("the peer's window", "true 10000; false 2000; false 2000; ")
}

// RFC 2861: a window that is not used for a time-out is told so, with what was
// used; not while the application waits for room in the buffer.
func TestWindowUnused(t *testing.T) {
	tr, r := record(t, 10000, 0)
	tr.play(openedSACK)
	r.ssthresh = 5000
	r.calls()
	at := 1
	for range 8 {
		tr.play(fmt.Sprintf("write 2000\n> . %d:%d(1000) ack 1\n> P. %d:%d(1000) ack 1\n+100ms < . 1:1(0) ack %d",
			at, at+1000, at+1000, at+2000, at+2000))
		at += 2000
	}
	if got, want := r.calls(), "idle 100ms; idle 100ms; idle 100ms; unused 2000; idle 100ms; idle 100ms; idle 100ms; unused 2000; idle 100ms"; got != want {
		// each flight begins from nothing, 100 ms after the last
		t.Errorf("%s, want %s", got, want)
	}
	tr, r = record(t, 1<<20, 0)
	tr.cfg.SndBuf = 4000
	tr.play(openedSACK)
	r.ssthresh = 5000
	r.calls()
	tr.play("write 5000 = 4000\n" + expectRun(">", ".", 1, 1000, 3, "ack 1") + "> P. 3001:4001(1000) ack 1")
	at = 4001
	for range 10 {
		tr.play(fmt.Sprintf("+100ms < . 1:1(0) ack %d\nwrite 5000 = 4000\n", at) + expectRun(">", ".", at, 1000, 3, "ack 1") +
			fmt.Sprintf("> P. %d:%d(1000) ack 1", at+3000, at+4000))
		at += 4000
	}
	for _, l := range r.log {
		if len(l) > 6 && l[:6] == "unused" {
			t.Error(l, "while the send buffer is full")
		}
	}
}

// A pause is told when the first text after it is about to go, once.
func TestIdleIsTold(t *testing.T) {
	tr, r := record(t, 10000, 0)
	tr.play(openedSACK + `
		write 1000
		> P. 1:1001(1000) ack 1
		+100ms < . 1:1(0) ack 1001 win 0
		+10s write 1000
	`)
	if got, want := r.calls(), "start srtt 100ms; idle 10.1s"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	tr.play(`
		+50ms < . 1:1(0) ack 1001 win 65535
		> P. 1001:2001(1000) ack 1
		+100ms < . 1:1(0) ack 2001
		+1s
		write 1000
		> P. 2001:3001(1000) ack 1
	`)
	if got, want := r.calls(), "idle 1.1s"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What Reno and CUBIC do with that: half a window for each time-out of pause,
// and no growth without use.
func TestIdleWindow(t *testing.T) {
	for _, name := range []string{"reno", "cubic"} {
		tr := run(t, "config cc="+name+"\n"+openedSACK+"write 40000\n"+expectRun(">", ".", 1, 1000, 10, "ack 1")+
			"+100ms < . 1:1(0) ack 10001\n"+expectRun(">", ".", 10001, 1000, 20, "ack 1")+
			"+100ms < . 1:1(0) ack 30001\n"+expectRun(">", ".", 30001, 1000, 9, "ack 1")+"> P. 39001:40001(1000) ack 1\n"+`
			+100ms < . 1:1(0) ack 40001
			info Cwnd 40000
			+399ms
			write 1000
			> P. 40001:41001(1000) ack 1
			info Cwnd 20000
			+100ms < . 1:1(0) ack 41001
			info Cwnd 20000
			+10s
			write 1000
			> P. 41001:42001(1000) ack 1
			info Cwnd 10000
		`)
		if s := tr.c.Info().Ssthresh; s != cc.MaxWindow {
			t.Errorf("%s: ssthresh %d", name, s)
		}
		// The knob.
		tr = newTrace(t)
		tr.cfg.KeepIdleWindow = true
		tr.play("config cc=" + name + "\n" + openedSACK + "write 40000\n" + expectRun(">", ".", 1, 1000, 10, "ack 1") +
			"+100ms < . 1:1(0) ack 10001\n" + expectRun(">", ".", 10001, 1000, 20, "ack 1") +
			"+100ms < . 1:1(0) ack 30001\n" + expectRun(">", ".", 30001, 1000, 9, "ack 1") + "> P. 39001:40001(1000) ack 1\n" + `
			+100ms < . 1:1(0) ack 40001
			+10s
			write 1000
			> P. 40001:41001(1000) ack 1
			+100ms < . 1:1(0) ack 41001
			+300ms
			write 1000
			> P. 41001:42001(1000) ack 1
			+100ms < . 1:1(0) ack 42001
			info Cwnd 40000
		`)
	}
}
