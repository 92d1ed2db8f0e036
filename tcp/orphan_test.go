package tcp

import "testing"

// TestOrphan: how long a connection lives that nobody has any more.
func TestOrphan(t *testing.T) {
	// nothing is sent again before the FIN, whose last repetition is the eighth
	const last = `
		+200ms > F. 1:1(0) ack 1
		+400ms > F. 1:1(0) ack 1
		+800ms > F. 1:1(0) ack 1
		+1600ms > F. 1:1(0) ack 1
		+3200ms > F. 1:1(0) ack 1
		+6400ms > F. 1:1(0) ack 1
		+12800ms > F. 1:1(0) ack 1
		+25600ms > F. 1:1(0) ack 1
		+51200ms
		state CLOSED
	`
	closedWindow := opened + `
			write 10
			> P. 1:11(10) ack 1
			< . 1:1(0) ack 11 win 0
			write 10
			close
			+200ms > . 10:10(0) ack 1
	`
	scripts(t, map[string]string{
		"a silent peer: eight repetitions": opened + `
			close
			> F. 1:1(0) ack 1
		` + last,
		"a closed window and a silent peer: eight probes": closedWindow + `
			+400ms > . 10:10(0) ack 1
			+800ms > . 10:10(0) ack 1
			+1600ms > . 10:10(0) ack 1
			+3200ms > . 10:10(0) ack 1
			+6400ms > . 10:10(0) ack 1
			+12800ms > . 10:10(0) ack 1
			+25600ms > . 10:10(0) ack 1
			+51200ms
			state CLOSED
		`,
		"a closed window and a peer that answers: until the probes are 120 s apart": closedWindow + `
			< . 1:1(0) ack 11 win 0
			+400ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+800ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+1600ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+3200ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+6400ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+12800ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+25600ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+51200ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+102400ms > . 10:10(0) ack 1
			< . 1:1(0) ack 11 win 0
			+120s > R. 11:11(0) ack 1
			state CLOSED
		`,
		"a window that shrank to nothing over what is in flight": opened + `
			write 10
			> P. 1:11(10) ack 1
			close
			> F. 11:11(0) ack 1
			< . 1:1(0) ack 1 win 0
			+200ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+400ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+800ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+1600ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+3200ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+6400ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+12800ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+25600ms > FP. 1:11(10) ack 1
			< . 1:1(0) ack 1 win 0
			+51200ms
			state CLOSED
		`,
	})
}

// TestLinger2 is TCP_LINGER2: how long an orphan waits for the peer's FIN.
func TestLinger2(t *testing.T) {
	scripts(t, map[string]string{
		"shorter": opened + `
			knob linger2 5
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			+5s
			state CLOSED
			err none
		`,
		"longer": opened + `
			knob linger2 100
			close
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			+99s
			state FIN-WAIT-2
			+1s
			state CLOSED
		`,
		"closed in FIN-WAIT-2": opened + `
			knob linger2 5
			shutdown
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			+100s
			state FIN-WAIT-2
			close
			+5s
			state CLOSED
		`,
		"not at all: a reset once the FIN is acknowledged": opened + `
			knob linger2 -1
			close
			> F. 1:1(0) ack 1
			state FIN-WAIT-1
			< . 1:1(0) ack 2
			> R 2:2(0)
			state CLOSED
		`,
		"not at all: a reset when closed in FIN-WAIT-2": opened + `
			knob linger2 -1
			shutdown
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			state FIN-WAIT-2
			close
			> R. 2:2(0) ack 1
			state CLOSED
		`,
		"not at all, but the peer's FIN is here": opened + `
			knob linger2 -1
			close
			> F. 1:1(0) ack 1
			< F. 1:1(0) ack 1
			state CLOSING
			> . 2:2(0) ack 2
			< . 2:2(0) ack 2
			state TIME-WAIT
		`,
		"time for the peer's FIN to be sent twice": `
			connect
			> S 0:0(0)
			+1s > S 0:0(0) // so that the time-out is 3 s
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			> . 1:1(0) ack 1
			knob linger2 1
			shutdown
			> F. 1:1(0) ack 1
			+3s > F. 1:1(0) ack 1
			< . 1:1(0) ack 2 // ambiguous: 6 s now
			close
			+21s
			state CLOSED
		`,
	})
}

// TestOpening: the settings that count for the handshake.
func TestOpening(t *testing.T) {
	scripts(t, map[string]string{
		"TCP_SYNCNT": `
			knob syncnt 2
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			+2s > S 0:0(0)
			+4s
			state CLOSED
			err ETIMEDOUT
		`,
		"TCP_SYNCNT of a listener": `
			knob syncnt 1
			listen
			< S 0:0(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1
			+1s > S. 0:0(0) ack 1
			+2s
			state LISTEN
		`,
		"TCP_MAXSEG bounds both directions": `
			knob maxseg 1000
			get maxseg 1000
			connect
			> S 0:0(0) win 65535 <mss 1000,sackOK,TS val 100 ecr 0,wscale 0>
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			> . 1:1(0) ack 1
			get maxseg 1000
			write 1001
			> . 1:1001(1000) ack 1
			> P. 1001:1002(1) ack 1
		`,
		"TCP_MAXSEG, the peer has less": `
			knob maxseg 1000
			connect
			> S 0:0(0) win 65535 <mss 1000,sackOK,TS val 100 ecr 0,wscale 0>
			< S. 0:0(0) ack 1 win 65535 <mss 900>
			> . 1:1(0) ack 1
			get maxseg 900
		`,
		"TCP_MAXSEG of a listener": `
			knob maxseg 1000
			listen
			< S 0:0(0) win 65535 <mss 1460,TS val 1 ecr 0>
			> S. 0:0(0) ack 1 win 65535 <mss 1000,TS val 100 ecr 1>
			< . 1:1(0) ack 1 <TS val 1 ecr 100>
			get maxseg 988
			write 989
			> . 1:989(988) ack 1
			> P. 989:990(1) ack 1
		`,
		"TCP_MAXSEG above the interface's changes nothing, later neither": `
			knob maxseg 9000
		` + opened + `
			get maxseg 1460
			knob maxseg 100
			get maxseg 1460
			write 1460
			> P. 1:1461(1460) ack 1
		`,
		"TCP_WINDOW_CLAMP, its scale included": `
			config rcvbuf=8388608
			knob clamp 200000
			connect
			> S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,wscale 2>
			< S. 0:0(0) ack 1 win 65535 <mss 1460,wscale 8>
			> . 1:1(0) ack 1 win 50000
			get clamp 200000
		`,
		"TCP_WINDOW_CLAMP of a listener": `
			config rcvbuf=8388608
			knob clamp 5000
			listen
			< S 0:0(0) win 65535 <mss 1460,wscale 0>
			> S. 0:0(0) ack 1 win 5000 <mss 1460,wscale 0>
			< . 1:1(0) ack 1
			write 1
			> P. 1:2(1) ack 1 win 5000
		`,
		"TCP_WINDOW_CLAMP later: the edge stays where it is": opened + `
			get clamp 65535
			knob clamp 0 = EINVAL
			knob clamp 3000
			< . 1:1461(1460) ack 1
			> . 1:1(0) ack 1461 win 64075
			read 1460
			knob clamp 60000
			knob clamp 3000
			< . 1461:2921(1460) ack 1
			> . 1:1(0) ack 2921 win 62615
		`,
		"TCP_DEFER_ACCEPT: an empty ACK is not enough": `
			knob defer 3
			listen
			< S 0:0(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			drop defer-accept
			state SYN-RECEIVED
			+500ms
			< P. 1:11(10) ack 1
			state ESTABLISHED
			> . 1:1(0) ack 11
		`,
		"TCP_DEFER_ACCEPT: at its end the client is asked again": `
			knob defer 3
			listen
			< S 0:0(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			+1s
			state SYN-RECEIVED
			+2s > S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			state ESTABLISHED
		`,
		"TCP_DEFER_ACCEPT: a FIN is enough": `
			knob defer 30
			listen
			< S 0:0(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1
			< F. 1:1(0) ack 1
			state CLOSE-WAIT
			> . 1:1(0) ack 2
		`,
		"TCP_DEFER_ACCEPT: a client that does not answer is asked as ever": `
			knob defer 3
			knob syncnt 3
			listen
			< S 0:0(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1
			+1s > S. 0:0(0) ack 1
			+2s > S. 0:0(0) ack 1
			+4s > S. 0:0(0) ack 1
			+8s
			state LISTEN
		`,
		"TCP_DEFER_ACCEPT: a client that has acknowledged and is gone": `
			knob defer 7
			knob syncnt 1
			listen
			< S 0:0(0) win 65535 <mss 1460>
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			+1s
			+2s
			+4s > S. 0:0(0) ack 1
			+8s
			state LISTEN
		`,
	})
}
