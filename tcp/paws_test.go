package tcp

import "testing"

// What PAWS lets pass though its timestamp is older (Linux; RFC 7323 §5.3 would
// drop it).
func TestPAWSOvertaken(t *testing.T) {
	flight := openedTS + "write 20000\n" + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
		+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5110 ecr 200,sack 1001:2001>
		> . 10001:11001(1000) ack 1
	`
	scripts(t, map[string]string{
		"a duplicate ACK that was overtaken still tells": flight + `
			< . 1:1(0) ack 1 <nop,nop,TS val 5105 ecr 200,sack 1001:4001>
			drop none
			> . 1:1001(1000) ack 1
			info SACKed 3000
			info Challenges 0
		`,
		"it does not take the clock back": flight + `
			< . 1:1(0) ack 1 <nop,nop,TS val 5105 ecr 200>
			drop none
			+1ms
			write 1
			< . 1:1(0) ack 1 <nop,nop,TS val 5105 ecr 200,sack 1001:3001>
			> . 11001:12001(1000) ack 1 <nop,nop,TS val 301 ecr 5110>
		`,
		"not beyond a retransmission time-out": flight + `
			+1ms < . 1:1(0) ack 1 <nop,nop,TS val 4000 ecr 200,sack 1001:4001>
			drop paws
			> . 11001:11001(0) ack 1
			info Challenges 1
		`,
		"not if it changes the window": flight + `
			< . 1:1(0) ack 1 win 60000 <nop,nop,TS val 5105 ecr 200,sack 1001:4001>
			drop paws
			> . 11001:11001(0) ack 1
			window 65535
		`,
		"not if it acknowledges something": flight + `
			< . 1:1(0) ack 1001 <nop,nop,TS val 5105 ecr 200>
			drop paws
			> . 11001:11001(0) ack 1
			info Unacked 11000
		`,
		"not text": flight + `
			< . 1:11(10) ack 1 <nop,nop,TS val 5105 ecr 200>
			drop paws
			> . 11001:11001(0) ack 1
			info BytesIn 0
		`,
		"text a tick older": flight + `
			< P. 1:11(10) ack 1 <nop,nop,TS val 5109 ecr 200>
			drop none
			> . 11001:11001(0) ack 11 <nop,nop,TS val 300 ecr 5110>
		`,
		"an ACK from before the last text is not answered": flight + `
			< P. 1:11(10) ack 1 <nop,nop,TS val 5120 ecr 200>
			> . 11001:11001(0) ack 11
			< . 1:1(0) ack 1 <nop,nop,TS val 5111 ecr 200,sack 1001:4001>
			drop paws
			info Challenges 0
			info AcksWithheld 0
			info SACKed 1000
		`,
	})
}
