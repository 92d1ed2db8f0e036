package tcp

import "testing"

func TestUserTimeout(t *testing.T) {
	scripts(t, map[string]string{
		"text: from the first retransmission on": opened + `
			knob usertimeout 3000
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			+800ms > P. 1:11(10) ack 1
			+1600ms > P. 1:11(10) ack 1
			+200ms // not 3200: the timer is cut
			state CLOSED
			err ETIMEDOUT
		`,
		"longer than the retransmissions would last": `config retries=2` + opened + `
			knob usertimeout 3000
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			+800ms > P. 1:11(10) ack 1
			+1600ms > P. 1:11(10) ack 1
			+200ms
			state CLOSED
		`,
		"progress starts it again": opened + `
			knob usertimeout 1000
			write 2000
			> . 1:1461(1460) ack 1
			> P. 1461:2001(540) ack 1
			+200ms > . 1:1461(1460) ack 1
			+400ms > . 1:1461(1460) ack 1
			+500ms
			< . 1:1(0) ack 1461
			> P. 1461:2001(540) ack 1
			+400ms // the time-out goes on from where it was: 800 ms
			+400ms > P. 1461:2001(540) ack 1
			+1s
			state CLOSED
		`,
		"set while the text is sent again": opened + `
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			knob usertimeout 1000
			+800ms
			state CLOSED
		`,
		"an orphan's FIN": opened + `
			knob usertimeout 3000
			close
			> F. 1:1(0) ack 1
			+200ms > F. 1:1(0) ack 1
			+400ms > F. 1:1(0) ack 1
			+800ms > F. 1:1(0) ack 1
			+1600ms > F. 1:1(0) ack 1
			+200ms
			state CLOSED
			< . 1:1(0) ack 1
			drop no-connection
		`,
		"SYN: from the first one on": `
			knob usertimeout 5000
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			+2s > S 0:0(0)
			+2s
			state CLOSED
			err ETIMEDOUT
		`,
		"SYN: one is sent again in any case": `
			knob usertimeout 500
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			+1ms
			state CLOSED
			err ETIMEDOUT
		`,
		"the handshake's time does not count for text": `
			knob usertimeout 3000
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			> . 1:1(0) ack 1
			write 10
			> P. 1:11(10) ack 1
			+3s > P. 1:11(10) ack 1 // RFC 6298 §5.7
			+3s
			state CLOSED
		`,
		"closed window: from the first probe on, answered or not": opened + `
			knob usertimeout 2000
			< . 1:1(0) ack 1 win 0
			write 10
			+200ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+400ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+800ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+800ms // not 1600
			state CLOSED
			err ETIMEDOUT
		`,
		"a window that opens in between starts it again": opened + `
			knob usertimeout 1000
			< . 1:1(0) ack 1 win 0
			write 10
			+200ms > . 0:0(0) ack 1
			+400ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 10
			> P. 1:11(10) ack 1
			< . 1:1(0) ack 11 win 0
			write 10
			+200ms > . 10:10(0) ack 1
			+400ms > . 10:10(0) ack 1
			+600ms
			state CLOSED
		`,
		"a window that shrinks to nothing with text in flight": opened + `
			knob usertimeout 1000
			write 10
			> P. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+200ms > P. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+400ms > P. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+600ms
			state CLOSED
			err ETIMEDOUT
		`,
		"an ICMP message explains": opened + `
			knob usertimeout 300
			write 10
			> P. 1:11(10) ack 1
			soft
			+200ms > P. 1:11(10) ack 1
			+300ms
			err EHOSTUNREACH
		`,
		"refused values": opened + `
			knob usertimeout -1 = EINVAL
			get usertimeout 0
			knob usertimeout 0
		`,
	})
}

// TestTimeoutOption is RFC 5482.
func TestTimeoutOption(t *testing.T) {
	// both have it, ours is 200 s
	const both = `
		knob uto 1
		knob usertimeout 200000
		connect
		> S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,wscale 0,uto 200>
		< S. 0:0(0) ack 1 win 65535 <mss 1460,TS val 7000 ecr 100,wscale 7>
		> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000>
	`
	scripts(t, map[string]string{
		"not sent and not read unless wanted": `config retries=1` + opened + `
			< . 1:1(0) ack 1 <uto 500>
			write 10
			> P. 1:11(10) ack 1 <>
			+200ms > P. 1:11(10) ack 1
			+400ms
			state CLOSED
		`,
		"in the SYN": both,
		"what is announced without a timeout is R2": `
			knob uto 1
			connect
			> S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,wscale 0,uto 925>
		`,
		"in the SYN-ACK": `
			knob uto 1
			listen
			< S 0:0(0) win 65535 <mss 1460,uto 300>
			> S. 0:0(0) ack 1 win 65535 <mss 1460,uto 925>
			< . 1:1(0) ack 1
			write 10
			> P. 1:11(10) ack 1 <>
		`,
		"again with the next text when it changes, until that has arrived": both + `
			knob usertimeout 120000
			write 2872
			> . 1:1445(1444) ack 1 <nop,nop,TS val 100 ecr 7000,uto 120>
			> P. 1445:2873(1428) ack 1 <nop,nop,TS val 100 ecr 7000,uto 120>
			+200ms > . 1:1445(1444) ack 1 <nop,nop,TS val 300 ecr 7000,uto 120>
			< . 1:1(0) ack 2873 <nop,nop,TS val 7100 ecr 300>
			write 10
			> P. 2873:2883(10) ack 1 <nop,nop,TS val 300 ecr 7100>
		`,
		"beside SACK blocks, of which one gives way": `
			knob uto 1
			knob nodelay 1
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 7000 ecr 100,wscale 7>
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000>
			knob usertimeout 120000
			< . 11:21(10) ack 1 <TS val 7000 ecr 100>
			> . 1:1(0) ack 1
			< . 31:41(10) ack 1 <TS val 7000 ecr 100>
			> . 1:1(0) ack 1
			< . 51:61(10) ack 1 <TS val 7000 ecr 100>
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000,nop,nop,sack 51:61 31:41 11:21>
			write 1420
			> . 1:1417(1416) ack 1 <TS val 100 ecr 7000,sack 51:61 31:41 11:21,uto 120>
			> P. 1417:1421(4) ack 1 <TS val 100 ecr 7000,sack 51:61 31:41 11:21,uto 120>
		`,
		"the peer's, if larger than ours and 100 s, is the timeout": `
			config retries=1
			knob uto 1
		` + opened + `
			< . 1:1(0) ack 1 <uto 101>
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			+800ms > P. 1:11(10) ack 1
			+1600ms > P. 1:11(10) ack 1
			+3200ms > P. 1:11(10) ack 1
			+6400ms > P. 1:11(10) ack 1
			+12800ms > P. 1:11(10) ack 1
			+25600ms > P. 1:11(10) ack 1
			+50200ms // 101 s after the first retransmission, not 51.2 s more
			state CLOSED
		`,
		"a small one is raised": `
			config retries=1
			knob uto 1
		` + opened + `
			< . 1:1(0) ack 1 <uto 1>
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+400ms > P. 1:11(10) ack 1
			state ESTABLISHED
		`,
		"a timeout that the user has set stays": both + `
			knob usertimeout 300
			< . 1:1(0) ack 1 <TS val 7000 ecr 100,uto 500>
			write 10
			> P. 1:11(10) ack 1
			+200ms > P. 1:11(10) ack 1
			+300ms
			state CLOSED
		`,
	})
}
