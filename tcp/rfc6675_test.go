package tcp

import "testing"

// TestRFC6675ByHand follows RFC 6675 §5 ACK by ACK: 10 segments of 1000 bytes, of
// which the second and the sixth are lost, and more is waiting. "InFlight" is
// pipe of §4, worked out by hand.
func TestRFC6675ByHand(t *testing.T) {
	run(t, openedSACK+"write 30000\n"+expectRun(">", ".", 1, 1000, 10, "ack 1")+`
		info InFlight 10000
		+100ms < . 1:1(0) ack 1001           // slow start: two for one
		> . 10001:11001(1000) ack 1
		> . 11001:12001(1000) ack 1
		info InFlight 11000                  // 1001 to 12001
		< . 1:1(0) ack 1001 <sack 2001:3001> // §5 step 3: limited transmit
		> . 12001:13001(1000) ack 1
		info InFlight 11000                  // 12000 - 1000
		info FastRetransmits 0
		< . 1:1(0) ack 1001 <sack 2001:4001>
		> . 13001:14001(1000) ack 1
		info InFlight 11000
		< . 1:1(0) ack 1001 <sack 2001:5001> // DupThresh: step 4
		> . 1001:2001(1000) ack 1
		info FastRetransmits 1
		info SACKed 3000
		info Lost 0                          // sent again
		info InFlight 10000                  // 13000 - 3000
		// IsLost of the RFC would wait for two more beyond the sixth; RFC 8985
		// need not, as this one left later and the order was never disturbed.
		< . 1:1(0) ack 1001 <sack 6001:7001 2001:5001>
		info Lost 1000
		info InFlight 8000                   // 13000 - 4000 - 1000
		+100ms < . 1:1(0) ack 5001 <sack 6001:10001>
		> . 5001:6001(1000) ack 1            // NextSeg 1, before any new text
		info InFlight 5000                   // 9000 - 4000; ssthresh is half of 11000
		< . 1:1(0) ack 5001 <sack 6001:11001>
		> . 14001:15001(1000) ack 1          // NextSeg 2
		info InFlight 5000
		info FastRetransmits 1
		+100ms < . 1:1(0) ack 14001          // step A: RecoveryPoint
		> . 15001:16001(1000) ack 1
		> . 16001:17001(1000) ack 1
		> . 17001:18001(1000) ack 1
		> . 18001:19001(1000) ack 1
		info Cwnd 5500
		info Timeouts 0
		info Retransmits 2
	`)
}
