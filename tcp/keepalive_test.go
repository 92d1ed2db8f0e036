package tcp

import "testing"

func TestKeepAlive(t *testing.T) {
	// 10 s of silence, then 3 questions 5 s apart.
	const asking = opened + `
		knob keepidle 10
		knob keepintvl 5
		knob keepcnt 3
		knob keepalive 1
	`
	scripts(t, map[string]string{
		"off by default": opened + `
			+24h
			state ESTABLISHED
		`,
		"defaults of Linux": opened + `
			knob keepalive 1
			+7200s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			+75s > . 0:0(0) ack 1
			info KeepAlives 9
			+75s > R. 1:1(0) ack 1
			state CLOSED
			err ETIMEDOUT
		`,
		"no answer": asking + `
			+10s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > R. 1:1(0) ack 1
			state CLOSED
			read 1 = ETIMEDOUT
		`,
		"an answer starts again": asking + `
			+10s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+1s
			< . 1:1(0) ack 1
			+10s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			state ESTABLISHED
		`,
		"an answer late in the idle time counts": asking + `
			+4s
			< . 1:1(0) ack 1
			+10s > . 0:0(0) ack 1
		`,
		"text counts": asking + `
			+9s
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			+10s > . 0:0(0) ack 11
		`,
		"what the peer should not have sent does not": asking + `
			+9s
			< . 0:0(0) ack 1 // its keep-alive: answered, not an ACK
			> . 1:1(0) ack 1
			+1s > . 0:0(0) ack 1
		`,
		"something in flight has its own timer": asking + `
			+9s
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			+800ms > P. 1:11(10) ack 1
			< . 1:1(0) ack 11
			info KeepAlives 0
			+10s > . 10:10(0) ack 1
		`,
		"so has what waits for a window": asking + `
			< . 1:1(0) ack 1 win 0
			write 10
			+200ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+400ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+800ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+1600ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+3200ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+6400ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			info KeepAlives 0
			info Probes 6
		`,
		"set before the handshake": `
			knob keepalive 1
			knob keepidle 3
		` + opened + `
			+3s > . 0:0(0) ack 1
		`,
		"of an accepted connection": `
			knob keepalive 1
			knob keepidle 3
		` + accepted + `
			+3s > . 0:0(0) ack 1
		`,
		"turned off": asking + `
			+10s > . 0:0(0) ack 1
			knob keepalive 0
			+24h
			state ESTABLISHED
		`,
		"the idle time changes under way": opened + `
			knob keepalive 1
			+100s
			knob keepidle 103
			+3s > . 0:0(0) ack 1
			knob keepidle 1 // passed long ago
			+1ns > . 0:0(0) ack 1
		`,
		"half closed, either way": asking + `
			shutdown
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			state FIN-WAIT-2
			+10s > . 1:1(0) ack 1
			< . 1:1(0) ack 2
			+10s > . 1:1(0) ack 1
			+5s > . 1:1(0) ack 1
			+5s > . 1:1(0) ack 1
			+5s > R. 2:2(0) ack 1
			err ETIMEDOUT
		`,
		"CLOSE-WAIT": asking + `
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			+10s > . 0:0(0) ack 2
			< . 2:2(0) ack 1
			state CLOSE-WAIT
		`,
		"an orphan in FIN-WAIT-2 ends by its own timer": asking + `
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			+60s
			state CLOSED
		`,
		"user timeout in place of the count": asking + `
			knob usertimeout 32000
			+10s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > R. 1:1(0) ack 1
			err ETIMEDOUT
		`,
		"a user timeout below the idle time: one question, then the end": asking + `
			knob usertimeout 1000
			+10s > . 0:0(0) ack 1
			+5s > R. 1:1(0) ack 1
			err ETIMEDOUT
		`,
		"an ICMP message explains": asking + `
			+10s > . 0:0(0) ack 1
			soft
			+5s > . 0:0(0) ack 1
			+5s > . 0:0(0) ack 1
			+5s > R. 1:1(0) ack 1
			err EHOSTUNREACH
		`,
		"with timestamps": openedAll + `
			knob keepalive 1
			knob keepidle 1
			knob keepintvl 1
			+1s > . 0:0(0) ack 1 <nop,nop,TS val 1100 ecr 7000>
			< . 1:1(0) ack 1 <nop,nop,TS val 8000 ecr 1100>
			+1s > . 0:0(0) ack 1 <nop,nop,TS val 2100 ecr 8000>
		`,
		"the old form, with an octet, is answered": opened + `
			< . 0:1(1) ack 1
			drop out-of-window
			> . 1:1(0) ack 1
		`,
	})
}
