package tcp

import "testing"

func TestClose(t *testing.T) {
	scripts(t, map[string]string{
		"figure 12: normal close, our side first": opened + `
			shutdown
			state FIN-WAIT-1
			> F. 1:1(0) ack 1
			write 1 = EPIPE
			< . 1:1(0) ack 2
			state FIN-WAIT-2
			read 1 = EAGAIN
			< F. 1:1(0) ack 2
			state TIME-WAIT
			> . 2:2(0) ack 2
			read 1 = EOF
			+60s
			state CLOSED
			err none
		`,
		"figure 12: normal close, peer's side first": opened + `
			< F. 1:1(0) ack 1
			state CLOSE-WAIT
			> . 1:1(0) ack 2
			read 1 = EOF
			write 10
			> P. 1:11(10) ack 2
			close
			state LAST-ACK
			> F. 11:11(0) ack 2
			< . 2:2(0) ack 12
			state CLOSED
			err none
		`,
		"figure 13: simultaneous close": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< F. 1:1(0) ack 1
			state CLOSING
			> . 2:2(0) ack 2
			< . 2:2(0) ack 2
			state TIME-WAIT
			+60s
			state CLOSED
		`,
		"FIN acknowledged by the peer's FIN": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< F. 1:1(0) ack 2
			state TIME-WAIT
			> . 2:2(0) ack 2
		`,
		"FIN rides on the last text": opened + `
			write 1000
			> P. 1:1001(1000) ack 1
			write 1000
			shutdown
			state FIN-WAIT-1
			> FP. 1001:2001(1000) ack 1
			< . 1:1(0) ack 2001
			state FIN-WAIT-1
			< . 1:1(0) ack 2002
			state FIN-WAIT-2
		`,
		"text and FIN in, both acknowledged once": opened + `
			< FP. 1:1001(1000) ack 1
			state CLOSE-WAIT
			> . 1:1(0) ack 1002
			read 1000
			read 1 = EOF
		`,
		"FIN before the text it follows": opened + `
			< F. 11:11(0) ack 1
			state ESTABLISHED
			> . 1:1(0) ack 1
			< P. 1:11(10) ack 1
			state CLOSE-WAIT
			> . 1:1(0) ack 12
			read 10
			read 1 = EOF
		`,
		"text beyond an early FIN is not taken": opened + `
			< F. 11:11(0) ack 1
			> . 1:1(0) ack 1
			< P. 1:31(30) ack 1
			> . 1:1(0) ack 12
			read 30 = 10
			read 1 = EOF
		`,
		"an early FIN within text that came before it": opened + `
			< . 11:61(50) ack 1
			> . 1:1(0) ack 1
			< F. 31:31(0) ack 1
			> . 1:1(0) ack 1
			< . 1:11(10) ack 1
			> . 1:1(0) ack 32
			state CLOSE-WAIT
			read 60 = 30
			read 1 = EOF
		`,
		"a FIN in order ends the stream whatever is beyond": opened + `
			< . 11:61(50) ack 1
			> . 1:1(0) ack 1
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			state CLOSE-WAIT
			read 1 = EOF
		`,
		"text after the FIN is ignored": opened + `
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			< P. 2:12(10) ack 1
			drop out-of-window
			read 10 = EOF
		`,
		"half close: reading goes on in FIN-WAIT-1 and FIN-WAIT-2": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< P. 1:11(10) ack 1
			> . 2:2(0) ack 11
			< . 11:11(0) ack 2
			state FIN-WAIT-2
			< P. 11:21(10) ack 2
			> . 2:2(0) ack 21
			read 20
			+100s
			state FIN-WAIT-2
			< F. 21:21(0) ack 2
			state TIME-WAIT
			> . 2:2(0) ack 22
		`,
		"FIN lost, sent again": opened + `
			write 10
			> P. 1:11(10) ack 1
			shutdown
			> F. 11:11(0) ack 1
			< . 1:1(0) ack 11
			state FIN-WAIT-1
			+200ms > F. 11:11(0) ack 1
			+400ms > F. 11:11(0) ack 1
			< . 1:1(0) ack 12
			state FIN-WAIT-2
		`,
		"peer's FIN again in CLOSE-WAIT": opened + `
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			< F. 1:1(0) ack 1
			drop out-of-window
			> . 1:1(0) ack 2
			state CLOSE-WAIT
		`,
		"orphan: FIN-WAIT-2 ends by time": opened + `
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			state FIN-WAIT-2
			+60s
			state CLOSED
		`,
		"orphan: closed while in FIN-WAIT-2": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			+100s
			state FIN-WAIT-2
			close
			+60s
			state CLOSED
		`,
		"orphan: text draws a reset": opened + `
			close
			> F. 1:1(0) ack 1
			< P. 1:11(10) ack 2
			drop closed
			> R 2:2(0)
			state CLOSED
		`,
		"orphan: text after FIN-WAIT-2 draws a reset": opened + `
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			state FIN-WAIT-2
			+1s < P. 1:11(10) ack 2
			drop closed
			> R 2:2(0)
			state CLOSED
		`,
		"orphan: text with the peer's FIN draws a reset": opened + `
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			< FP. 1:11(10) ack 2
			drop closed
			> R 2:2(0)
			state CLOSED
		`,
		"orphan: a FIN says that text is missing": opened + `
			close
			> F. 1:1(0) ack 1
			< F. 11:11(0) ack 2
			drop closed
			> R 2:2(0)
			state CLOSED
		`,
		"orphan: a FIN says that text is missing, in FIN-WAIT-2": opened + `
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			< F. 11:11(0) ack 2
			drop closed
			> R 2:2(0)
			state CLOSED
		`,
		"orphan: text that is old draws an ACK": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			read 10
			close
			> F. 1:1(0) ack 11
			< . 11:11(0) ack 2
			< P. 1:11(10) ack 2
			drop out-of-window
			> . 2:2(0) ack 11
			state FIN-WAIT-2
			< FP. 1:11(10) ack 2
			> . 2:2(0) ack 12
			state TIME-WAIT
		`,
		"half closed but not an orphan: a FIN may be early": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< F. 11:11(0) ack 2
			> . 2:2(0) ack 1
			state FIN-WAIT-2
			< P. 1:11(10) ack 2
			> . 2:2(0) ack 12
			state TIME-WAIT
			read 10
		`,
		"orphan: FIN alone is taken": opened + `
			close
			> F. 1:1(0) ack 1
			< F. 1:1(0) ack 2
			> . 2:2(0) ack 2
			state TIME-WAIT
		`,
		"close with unread text resets": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			close
			> R. 1:1(0) ack 11
			state CLOSED
		`,
		"close sends what was written": opened + `
			write 3000
			> . 1:1461(1460) ack 1
			> . 1461:2921(1460) ack 1
			> P. 2921:3001(80) ack 1
			write 100 // Nagle holds it
			close
			> FP. 3001:3101(100) ack 1
			state FIN-WAIT-1
		`,
		"abort": opened + `
			write 10
			> P. 1:11(10) ack 1
			abort
			> R. 11:11(0) ack 1
			state CLOSED
			err ECONNABORTED
		`,
		"abort in LAST-ACK says nothing": opened + `
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			shutdown
			> F. 1:1(0) ack 2
			abort
			state CLOSED
		`,
		"text is read before the error": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			< R. 11:11(0) ack 1
			state CLOSED
			read 10
			read 10 = ECONNRESET
			read 10 = EOF
			write 10 = EPIPE
		`,
		"RST with the FIN's number, of a peer that is gone": opened + `
			write 1000
			> P. 1:1001(1000) ack 1
			< F. 1:1(0) ack 1
			state CLOSE-WAIT
			> . 1001:1001(0) ack 2
			< R 1:1(0)
			state CLOSED
		`,
		"RST before the FIN's number is nobody's": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			< F. 11:11(0) ack 1
			> . 1:1(0) ack 12
			< R 10:10(0)
			state CLOSE-WAIT
			< R 11:11(0)
			state CLOSED
		`,
		"RST in CLOSE-WAIT": opened + `
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			< R. 2:2(0) ack 1
			err EPIPE
		`,
		"shutread": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			shutread
			read 10
			read 10 = EOF
		`,
	})
}

func TestTimeWait(t *testing.T) {
	const waiting = opened + `
		shutdown
		> F. 1:1(0) ack 1
		< F. 1:1(0) ack 2
		> . 2:2(0) ack 2
	`
	rules := map[string]string{
		"FIN again is acknowledged and restarts the wait": `
			+50s
			< F. 1:1(0) ack 2
			> . 2:2(0) ack 2
			< F. 1:1(0) ack 2
			> . 2:2(0) ack 2
			+50s
			state TIME-WAIT
			+10s
			state CLOSED
		`,
		"old text is acknowledged at a limited rate": `
			< P. 0:1(1) ack 2
			drop out-of-window
			> . 2:2(0) ack 2
			< P. 0:1(1) ack 2
			+500ms
			< P. 0:1(1) ack 2
			> . 2:2(0) ack 2
		`,
		"text beyond the FIN": `
			< P. 2:3(1) ack 2
			drop out-of-window
			> . 2:2(0) ack 2
		`,
		"RST with the exact number ends it": `
			< R 2:2(0)
			state CLOSED
		`,
		"RST elsewhere in the window is challenged": `
			< R 3:3(0)
			drop rst-out-of-window
			> . 2:2(0) ack 2
			< R 100000:100000(0)
			drop out-of-window
			state TIME-WAIT
		`,
		"SYN-ACK in the window": `
			< S. 3:3(0) ack 1
			drop syn-in-window
			> . 2:2(0) ack 2
		`,
		"no ACK": `
			< - 2:2(0)
			drop bad-flags
			< . 2:2(0) ack 100
			drop bad-ack
			> . 2:2(0) ack 2
		`,
		"bare ACK is nothing": `
			< . 2:2(0) ack 2
			drop none
		`,
	}
	for name, s := range rules {
		t.Run("connection: "+name, func(t *testing.T) { run(t, waiting+s) })
		t.Run("record: "+name, func(t *testing.T) { run(t, waiting+"timewait\n"+s) })
	}
	scripts(t, map[string]string{
		"newer SYN reopens": waiting + `
			timewait
			< S 1000:1000(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1001
			< . 1001:1001(0) ack 1
			state ESTABLISHED
		`,
		"older SYN does not": waiting + `
			timewait
			< S -1000:-1000(0) win 65535 <mss 1460>
			drop out-of-window
			> . 2:2(0) ack 2
		`,
		"a Conn makes way for the SYN": waiting + `
			< S 1000:1000(0)
			state CLOSED
		`,
		"by timestamp": openedAll + `
			shutdown
			> F. 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000>
			< F. 1:1(0) ack 2 <nop,nop,TS val 7000 ecr 100>
			> . 2:2(0) ack 2 <nop,nop,TS val 100 ecr 7000>
			timewait
			< S -100:-100(0) win 100 <mss 1460,sackOK,TS val 6999 ecr 0>
			drop paws
			> . 2:2(0) ack 2
			< S -100:-100(0) win 100 <mss 1460,sackOK,TS val 7001 ecr 0>
			> S. 0:0(0) ack -99
		`,
		"text outlives the record": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< FP. 1:11(10) ack 2
			> . 2:2(0) ack 12
			timewait
			read 10
			read 1 = EOF
		`,
	})
}

// Every synchronized state, brought about and ready for a segment at peer's
// number n with our SND.NXT at m.
var everyState = map[string]struct {
	how  string
	n, m string
}{
	"ESTABLISHED": {opened, "1", "1"},
	"FIN-WAIT-1":  {opened + "shutdown\n> F. 1:1(0) ack 1\n", "1", "2"},
	"FIN-WAIT-2":  {opened + "shutdown\n> F. 1:1(0) ack 1\n< . 1:1(0) ack 2\n", "1", "2"},
	"CLOSE-WAIT":  {opened + "< F. 1:1(0) ack 1\n> . 1:1(0) ack 2\n", "2", "1"},
	"CLOSING":     {opened + "shutdown\n> F. 1:1(0) ack 1\n< F. 1:1(0) ack 1\n> . 2:2(0) ack 2\n", "2", "2"},
	"LAST-ACK":    {opened + "< F. 1:1(0) ack 1\n> . 1:1(0) ack 2\nshutdown\n> F. 1:1(0) ack 2\n", "2", "2"},
	"TIME-WAIT":   {opened + "shutdown\n> F. 1:1(0) ack 1\n< F. 1:1(0) ack 2\n> . 2:2(0) ack 2\n", "2", "2"},
}

func TestEveryState(t *testing.T) {
	for name, st := range everyState {
		how := st.how + "state " + name + "\n"
		ack := "> . " + st.m + ":" + st.m + "(0) ack " + st.n + "\n"
		numbers := func(at string) string { return at + ":" + at + "(0)" }
		for what, script := range map[string]string{
			"RST exact":          "< R " + numbers(st.n) + "\nstate CLOSED\n",
			"RST with ACK":       "< R. " + numbers(st.n) + " ack 1\nstate CLOSED\n",
			"RST in window":      "< R " + numbers("9") + "\ndrop rst-out-of-window\n" + ack + "state " + name + "\n",
			"RST outside":        "< R " + numbers("99999") + "\ndrop out-of-window\nstate " + name + "\n",
			"SYN in window":      "< S. " + numbers("9") + " ack 1\ndrop syn-in-window\n" + ack + "state " + name + "\n",
			"old SYN-ACK":        "< S. " + numbers("0") + " ack 1\ndrop out-of-window\n" + ack + "state " + name + "\n",
			"challenges are few": "< S. " + numbers("9") + " ack 1\n" + ack + "< S. " + numbers("9") + " ack 1\n+500ms\n",
			"no ACK bit":         "< P " + numbers(st.n) + "\ndrop bad-flags\nstate " + name + "\n",
			"ACK of the future":  "< . " + numbers(st.n) + " ack 77\ndrop bad-ack\n" + ack,
			"keep-alive probe":   "< . " + numbers(string(st.n[0]-1)) + " ack 1\ndrop out-of-window\n" + ack,
		} {
			if what == "challenges are few" && (name == "FIN-WAIT-1" || name == "CLOSING" || name == "LAST-ACK") {
				continue // their FIN is sent again meanwhile
			}
			t.Run(name+"/"+what, func(t *testing.T) { run(t, how+script) })
		}
	}
}

// The state diagram itself, against figure 5 of RFC 9293.
func TestStateTable(t *testing.T) {
	for s := range numStates {
		for ev := range numEvents {
			to := next(s, ev)
			if to >= numStates {
				t.Errorf("next(%v, %d) = %d", s, ev, to)
			}
			if s == Closed && to != Closed {
				t.Errorf("CLOSED is left by event %d", ev)
			}
			if ev == evReset && s != Listen && to != Closed {
				t.Errorf("%v survives a reset", s)
			}
		}
	}
	if State(99).String() != "unknown" || FinWait2.String() != "FIN-WAIT-2" {
		t.Error("names")
	}
}
