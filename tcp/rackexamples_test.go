package tcp

import "testing"

// TestRACKExamples is the examples that RFC 8985 tells in §3.4 and §3.5, with a
// round trip of 100 ms and segments P0, P1, ... of 1000 bytes.
func TestRACKExamples(t *testing.T) {
	// §3.4: a tail and a repetition are lost, without a time-out. With a window
	// that stays as it is: RFC 9937 would let one segment out for the one that
	// arrived, where the example sends P1 and P2.
	tr, r := record(t, 10000, 0)
	tr.play(openedSACK + `
		write 4000
		> . 1:1001(1000) ack 1
		> . 1001:2001(1000) ack 1
		> . 2001:3001(1000) ack 1
		> P. 3001:4001(1000) ack 1
	`)
	r.cwnd = 1000 // what leaves at one instant has no order, so P2 comes a little later
	tr.play(`
		+100ms < . 1:1(0) ack 1001
		+202ms > P. 3001:4001(1000) ack 1 // two round trips: the probe
		+100ms < . 1:1(0) ack 1001 <sack 3001:4001>
		> . 1001:2001(1000) ack 1 // they left before P3 did
	`)
	r.cwnd = 10000
	tr.play(`
		+5ms < . 1:1(0) ack 1001 <sack 3001:4001>
		> . 2001:3001(1000) ack 1
		+100ms < . 1:1(0) ack 1001 <sack 2001:4001> // the new P2, but not P1
		> . 1001:2001(1000) ack 1
		+100ms < . 1:1(0) ack 4001 // the timer began anew with P1
		info Timeouts 0
		info TLPProbes 1
		info Retransmits 4
		+10s
	`)
	scripts(t, map[string]string{
		"§3.5: what left just before a time-out is not lost": openedSACK + `
			write 1000
			> P. 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			write 1000
			> P. 1001:2001(1000) ack 1
			+300ms > P. 1001:2001(1000) ack 1 // the probe
			+295ms
			write 2000
			> . 2001:3001(1000) ack 1
			> P. 3001:4001(1000) ack 1
			+5ms > . 1001:2001(1000) ack 1
			info Timeouts 1
			info Lost 0 // it is in flight again, the others still are
			// the network was slow, nothing else
			+10ms < . 1:1(0) ack 2001
			< . 1:1(0) ack 4001
			+10s
			info Retransmits 2
		`,
		"nor in the first flight, where only the handshake told the round trip": openedSACK + `
			write 1000
			> P. 1:1001(1000) ack 1
			+300ms > P. 1:1001(1000) ack 1 // the probe
			+295ms
			write 2000
			> . 1001:2001(1000) ack 1
			> P. 2001:3001(1000) ack 1
			+5ms > . 1:1001(1000) ack 1
			info Timeouts 1
			info Lost 0
		`,
	})
}
