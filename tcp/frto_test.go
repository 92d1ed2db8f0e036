package tcp

import "testing"

// twenty is a flight of ten segments of twenty, and the tail loss probe that
// follows when no ACK comes; the retransmission timer expires 300 ms later.
var twenty = "write 20000\n" + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
	+202ms > . 10001:11001(1000) ack 1
`

// F-RTO with SACK, RFC 5682 §3.1.
func TestFRTO(t *testing.T) {
	scripts(t, map[string]string{
		"a sudden delay: only one segment goes again, and the window returns": openedSACK + twenty + `
			+300ms > . 1:1001(1000) ack 1 // step 1
			info Timeouts 1
			info Cwnd 1000
			info Lost 10000
			+50ms < . 1:1(0) ack 1001
			> . 11001:12001(1000) ack 1 // step 2b
			> . 12001:13001(1000) ack 1
			< . 1:1(0) ack 2001 // step 3b: sent once
			info SpuriousTimeouts 1
			info Undos 1
			info CAState open
			info Lost 0
			info InFlight 11000
			info Cwnd 11000
			info Ssthresh 1073741824
			< . 1:1(0) ack 10001
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			> P. 19001:20001(1000) ack 1
			+100ms < . 1:1(0) ack 20001 <sack 1:1001>
			info Retransmits 1
			info Undos 1
		`,
		"the first ACK covers what was sent once": openedSACK + twenty + `
			+300ms > . 1:1001(1000) ack 1
			+50ms < . 1:1(0) ack 5001
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			> P. 19001:20001(1000) ack 1
			info SpuriousTimeouts 1
			info Cwnd 15000
			info Retransmits 1
		`,
		"a SACK block for what was sent once": openedSACK + twenty + `
			+300ms > . 1:1001(1000) ack 1
			+50ms < . 1:1(0) ack 1 <sack 1001:3001>
			> . 11001:12001(1000) ack 1
			info SpuriousTimeouts 1
			info Cwnd 10000
		`,
		"all was lost: the new text tells": openedSACK + twenty + `
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			+100ms < . 1:1(0) ack 1001 <sack 11001:12001> // step 3a
			> . 1001:2001(1000) ack 1
			< . 1:1(0) ack 1001 <sack 11001:13001>
			> . 2001:3001(1000) ack 1
			info SpuriousTimeouts 0
			info Undos 0
			+100ms < . 1:1(0) ack 3001 <sack 11001:13001>
			> . 3001:4001(1000) ack 1
			> . 4001:5001(1000) ack 1
			> . 5001:6001(1000) ack 1
			info Cwnd 3000
			info Ssthresh 5000
		`,
		"step 2a: the first ACK covers everything": openedSACK + `
			write 2000
			> . 1:1001(1000) ack 1
			> P. 1001:2001(1000) ack 1
			+202ms > P. 1001:2001(1000) ack 1
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 2001
			info SpuriousTimeouts 0
			info CAState open
			info Ssthresh 2000
		`,
		"no new text: the repair goes on": openedSACK + ten + `
			+202ms > P. 9001:10001(1000) ack 1
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			info SpuriousTimeouts 0
		`,
		"no room in the window: the repair goes on": `
			connect
			> S 0:0(0)
			+100ms < S. 0:0(0) ack 1 win 5000 <mss 1000,sackOK>
			> . 1:1(0) ack 1
			write 20000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			> P. 3001:4001(1000) ack 1
			> . 4001:5001(1000) ack 1
			+202ms > . 4001:5001(1000) ack 1 
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001 win 4000
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			info SpuriousTimeouts 0
			< . 1:1(0) ack 4001 win 5000
			> . 4001:5001(1000) ack 1
			> . 5001:6001(1000) ack 1
		`,
		"small new text is not held back by Nagle": openedSACK + ten + `
			+202ms > P. 9001:10001(1000) ack 1
			+300ms > . 1:1001(1000) ack 1
			write 10
			+100ms < . 1:1(0) ack 1001
			> P. 10001:10011(10) ack 1
			< . 1:1(0) ack 2001
			info SpuriousTimeouts 1
			info Retransmits 2
		`,
		"the timer expires again for the same segment (§3.2)": openedSACK + twenty + `
			+300ms > . 1:1001(1000) ack 1
			+600ms > . 1:1001(1000) ack 1
			+50ms < . 1:1(0) ack 1001
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			< . 1:1(0) ack 2001
			info SpuriousTimeouts 1
			info Timeouts 2
			info Cwnd 11000
		`,
		"after progress it is another time-out, not F-RTO's": openedSACK + twenty + `
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			+600ms > . 1001:2001(1000) ack 1
			+100ms < . 1:1(0) ack 2001
			> . 2001:3001(1000) ack 1
			> . 3001:4001(1000) ack 1
			info SpuriousTimeouts 0
			info Timeouts 2
		`,
		"not within a fast recovery": openedSACK + twenty + `
			< . 1:1(0) ack 1 <sack 1001:5001>
			> . 1:1001(1000) ack 1
			info CAState recovery
			+227ms > . 11001:12001(1000) ack 1 // a probe
			+364.75ms > . 1:1001(1000) ack 1
			info CAState loss
			+100ms < . 1:1(0) ack 5001
			> . 5001:6001(1000) ack 1
			> . 6001:7001(1000) ack 1
			info SpuriousTimeouts 0
		`,
	})
}

// F-RTO without SACK, RFC 5682 §2.1.
func TestFRTOBasic(t *testing.T) {
	flight := opened + "write 29200\n" + expectRun(">", ".", 1, 1460, 10, "ack 1") + `
		+200ms > . 1:1461(1460) ack 1
		info CAState loss
	`
	scripts(t, map[string]string{
		"a sudden delay": flight + `
			< . 1:1(0) ack 1461
			> . 14601:16061(1460) ack 1
			> . 16061:17521(1460) ack 1
			< . 1:1(0) ack 2921
			info SpuriousTimeouts 1
			info CAState open
			> . 17521:18981(1460) ack 1
			info Cwnd 16060
			info InFlight 16060
			< . 1:1(0) ack 4381
			> . 18981:20441(1460) ack 1
			> . 20441:21901(1460) ack 1
			info Retransmits 1
		`,
		"all was lost": flight + `
			< . 1:1(0) ack 1461
			> . 14601:16061(1460) ack 1
			> . 16061:17521(1460) ack 1
			< . 1:1(0) ack 1461 // the new text arrived
			> . 1461:2921(1460) ack 1
			< . 1:1(0) ack 1461
			> . 2921:4381(1460) ack 1
			info SpuriousTimeouts 0
			< . 1:1(0) ack 4381
			info Cwnd 4380
			info InFlight 4380 // what F-RTO let out has arrived and does not count
			> . 4381:5841(1460) ack 1
			> . 5841:7301(1460) ack 1
			> . 7301:8761(1460) ack 1
		`,
		"an ACK that covers what was sent again proves nothing": flight + `
			< . 1:1(0) ack 2921
			> . 14601:16061(1460) ack 1
			> . 16061:17521(1460) ack 1
			info SpuriousTimeouts 0
			< . 1:1(0) ack 2921
			> . 2921:4381(1460) ack 1
			info SpuriousTimeouts 0
		`,
		"duplicates of the repetition are not a new loss": flight + `
			< . 1:1(0) ack 1461
			> . 14601:16061(1460) ack 1
			> . 16061:17521(1460) ack 1
			< . 1:1(0) ack 14601
			info SpuriousTimeouts 1
		` + expectRun(">", ".", 17521, 1460, 7, "ack 1") + `
			> P. 27741:29201(1460) ack 1
			< . 1:1(0) ack 14601
			< . 1:1(0) ack 14601
			< . 1:1(0) ack 14601
			< . 1:1(0) ack 14601
			info Retransmits 1
			info FastRetransmits 0
		`,
	})
}
