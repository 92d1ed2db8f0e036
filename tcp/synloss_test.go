package tcp

import "testing"

// What lost SYNs leave behind: RFC 5681 §3.1, RFC 6298 §5.7, RFC 3522.
func TestSynTimeouts(t *testing.T) {
	once := `
		connect
		> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,wscale 0>
		+1s > S 0:0(0) <mss 1460,sackOK,TS val 1100 ecr 0,wscale 0>
	`
	twice := once + `
		+2s > S 0:0(0) <mss 1460,sackOK,TS val 3100 ecr 0,wscale 0>
	`
	passive := `
		listen
		< S 0:0(0) win 65535 <mss 1012,sackOK,TS val 7000 ecr 0>
		> S. 0:0(0) ack 1
		+1s > S. 0:0(0) ack 1
		+2s > S. 0:0(0) ack 1
	`
	scripts(t, map[string]string{
		"once: the window is whole, the time-out 3 s": once + `
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK>
			> . 1:1(0) ack 1
			info Cwnd 10000
			info RTO 3s
		`,
		"twice: one segment": twice + `
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK>
			> . 1:1(0) ack 1
			info Cwnd 1000
			info RTO 3s
			write 3000
			> . 1:1001(1000) ack 1
		`,
		"timestamps measure the one that was answered": twice + `
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1012,sackOK,TS val 5000 ecr 3100>
			> . 1:1(0) ack 1
			info Cwnd 1000
			info RTT 100ms
			info RTO 300ms
		`,
		"the first was answered, late: nothing was lost": twice + `
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1012,sackOK,TS val 5000 ecr 100>
			> . 1:1(0) ack 1
			info Cwnd 10000
			info RTT 3.1s
		`,
		"the second was answered: the first was lost": twice + `
			+100ms < S. 0:0(0) ack 1 win 65535 <mss 1012,sackOK,TS val 5000 ecr 1100>
			> . 1:1(0) ack 1
			info Cwnd 1000
			info RTT 2.1s
		`,
		"SYN-ACK, twice": passive + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 7100 ecr 3100>
			state ESTABLISHED
			info Cwnd 1000
			info RTO 3s
			info Retransmits 2
		`,
		"SYN-ACK, twice for nothing": passive + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 7100 ecr 100>
			state ESTABLISHED
			info Cwnd 10000
			info RTO 3s
		`,
		"SYN-ACK, once": `
			listen
			< S 0:0(0) win 65535 <mss 1000>
			> S. 0:0(0) ack 1
			+1s > S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info Cwnd 10000
			info RTO 3s
		`,
		"SYN-ACK at once": `
			listen
			< S 0:0(0) win 65535 <mss 1000>
			> S. 0:0(0) ack 1
			+50ms < . 1:1(0) ack 1
			info Cwnd 10000
			info RTT 50ms
		`,
		"the peer's SYN again is no time-out, but ambiguous": `
			listen
			< S 0:0(0) win 65535 <mss 1000>
			> S. 0:0(0) ack 1
			+600ms < S 0:0(0) win 65535 <mss 1000>
			> S. 0:0(0) ack 1
			+50ms < . 1:1(0) ack 1
			info Cwnd 10000
			info RTT 0s
			info Retransmits 0
		`,
	})
}
