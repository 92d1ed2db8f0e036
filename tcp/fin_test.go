package tcp

import "testing"

// A FIN beyond a hole is told of in a SACK block, as text is, so that a peer
// whose tail loss probe is the FIN alone learns what is missing.
func TestFINBeyondHole(t *testing.T) {
	scripts(t, map[string]string{
		"with text": openedSACK + `
			< FP. 101:201(100) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 101:202>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 202
			state CLOSE-WAIT
			read 200
			read 1 = EOF
		`,
		"alone": openedSACK + `
			< F. 101:101(0) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 101:102>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 102
			state CLOSE-WAIT
			read 100
			read 1 = EOF
		`,
		"alone, behind text that is there": openedSACK + `
			< . 101:201(100) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 101:201>
			< F. 201:201(0) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 101:202>
			< F. 201:201(0) ack 1 // the probe
			> . 1:1(0) ack 1 <nop,nop,sack 201:202 101:202>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 202
			state CLOSE-WAIT
			read 200
		`,
		"alone, and the text before it later": openedSACK + `
			< F. 201:201(0) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 201:202>
			< . 101:201(100) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 101:202>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 202
			state CLOSE-WAIT
			read 200
		`,
		"two holes": openedSACK + `
			< . 101:201(100) ack 1
			> . 1:1(0) ack 1
			< FP. 301:401(100) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 301:402 101:201>
			< . 201:301(100) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 101:402>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 402
			state CLOSE-WAIT
			read 400
		`,
		"text beyond it is not the peer's": openedSACK + `
			< . 201:301(100) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 201:301>
			< F. 201:201(0) ack 1
			> . 1:1(0) ack 1
			< . 1:201(200) ack 1
			> . 1:1(0) ack 202
			state CLOSE-WAIT
			read 300 = 200
			read 1 = EOF
		`,
		"the FIN again, when it was taken": openedSACK + `
			< FP. 1:101(100) ack 1
			> . 1:1(0) ack 102
			< F. 101:101(0) ack 1
			drop out-of-window
			> . 1:1(0) ack 102 <nop,nop,sack 101:102>
			< FP. 1:101(100) ack 1
			> . 1:1(0) ack 102 <nop,nop,sack 1:102>
		`,
		"without SACK": opened + `
			< F. 101:101(0) ack 1
			> . 1:1(0) ack 1 <>
			< F. 101:101(0) ack 1
			> . 1:1(0) ack 1 <>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 102
			state CLOSE-WAIT
		`,
		"no more than the reassembly holds": func() string {
			s := openedSACK
			for i := range maxRanges {
				s += line("<", ".", 2+2*i, 1, "ack 1") + "> . 1:1(0) ack 1\n"
			}
			return s + "< F. 3001:3001(0) ack 1\n> . 1:1(0) ack 1 <nop,nop,sack 1024:1025 1022:1023 1020:1021 1018:1019>\n"
		}(),
		"seen by the sender: the probe is the FIN, the answer says what is missing": openedSACK + `
			write 2000
			> . 1:1001(1000) ack 1
			> P. 1001:2001(1000) ack 1
			shutdown
			> F. 2001:2001(0) ack 1
			+202ms > F. 2001:2001(0) ack 1
			+100ms < . 1:1(0) ack 1 <sack 2001:2002>
			> . 1:1001(1000) ack 1
		`,
	})
}
