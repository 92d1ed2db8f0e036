package tcp

import (
	"testing"
)

// openedSACK is a connection with SACK alone, segments of 1000 bytes and a
// round trip of 100 ms.
const openedSACK = `
	connect
	> S 0:0(0)
	+100ms < S. 0:0(0) ack 1 win 65535 <mss 1000,sackOK>
	> . 1:1(0) ack 1
`

// ten is the first flight of such a connection.
var ten = "write 10000\n" + expectRun(">", ".", 1, 1000, 9, "ack 1") + "> P. 9001:10001(1000) ack 1\n"

func TestSACKRecovery(t *testing.T) {
	scripts(t, map[string]string{
		"three segments beyond a hole are a loss": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1001
			< . 1:1(0) ack 1001 <sack 2001:3001>
			< . 1:1(0) ack 1001 <sack 2001:4001>
			info SACKed 2000
			info InFlight 7000
			< . 1:1(0) ack 1001 <sack 2001:5001>
			> . 1001:2001(1000) ack 1
			info InFlight 6000
			+100ms < . 1:1(0) ack 10001
			info RACKLost 1
			info FastRetransmits 1
			info Timeouts 0
			+10s
		`,
		"three holes are, however small what arrived": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1 <sack 2001:2101 4001:4101 6001:6101>
			> . 1:1001(1000) ack 1
			< . 1:1(0) ack 1 <sack 2001:2101 4001:4101 6001:7101>
			> . 1001:2001(1000) ack 1
			info Lost 3800
		`,
		"two are not, until the reordering window is over": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1 <sack 1001:3001>
			+25ms > . 1:1001(1000) ack 1
		`,
		"several holes are filled in order, new text after them": openedSACK + `
			write 20000
		` + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
			+100ms < . 1:1(0) ack 1 <sack 1001:2001 3001:4001 6001:10001>
			// 4000 are lost and 6000 arrived; of the 5000 that the window is
			// to become RFC 9937 gives as much as arrived
			> . 1:1001(1000) ack 1
			> . 2001:3001(1000) ack 1
			> . 4001:5001(1000) ack 1
			> . 5001:6001(1000) ack 1
			> . 10001:11001(1000) ack 1
			+100ms < . 1:1(0) ack 2001 <sack 3001:4001 6001:10001>
			> . 11001:12001(1000) ack 1
			< . 1:1(0) ack 10001
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			info Timeouts 0
			info Cwnd 5000
		`,
		"limited transmit, then proportional rate reduction": openedSACK + `
			write 20000
		` + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
			+100ms < . 1:1(0) ack 1 <sack 1001:2001>
			> . 10001:11001(1000) ack 1
			< . 1:1(0) ack 1 <sack 1001:3001>
			> . 11001:12001(1000) ack 1
			< . 1:1(0) ack 1 <sack 1001:4001>
			> . 1:1001(1000) ack 1
			// one segment for two that arrive
			+1ms < . 1:1(0) ack 1 <sack 1001:5001>
			< . 1:1(0) ack 1 <sack 1001:6001>
			< . 1:1(0) ack 1 <sack 1001:7001>
			> . 12001:13001(1000) ack 1
			< . 1:1(0) ack 1 <sack 1001:8001>
			< . 1:1(0) ack 1 <sack 1001:9001>
			< . 1:1(0) ack 1 <sack 1001:10001>
			> . 13001:14001(1000) ack 1
			// what left together with the second transmission tells nothing
			+98ms < . 1:1(0) ack 1 <sack 1001:11001>
			> . 14001:15001(1000) ack 1
			< . 1:1(0) ack 1 <sack 1001:12001>
			> . 15001:16001(1000) ack 1
			// what left after it: it is lost as well, and nobody waits for the timer
			+1ms < . 1:1(0) ack 1 <sack 1001:13001>
			> . 1:1001(1000) ack 1
			> . 16001:17001(1000) ack 1
			+99ms < . 1:1(0) ack 14001
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			info Timeouts 0
			info Retransmits 2
		`,
		"late is not lost": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1001 <sack 2001:3001>
			+20ms < . 1:1(0) ack 3001
			< . 1:1(0) ack 10001
			+1s
			info Retransmits 0
			// once late, later three segments are no proof either
			write 5000
			> . 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> P. 14001:15001(1000) ack 1
			+100ms < . 1:1(0) ack 10001 <sack 11001:15001>
			+20ms < . 1:1(0) ack 15001
			write 5000
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			> P. 19001:20001(1000) ack 1
			+100ms < . 1:1(0) ack 15001 <sack 16001:20001>
			+25ms > . 15001:16001(1000) ack 1
			info Retransmits 1
			// for nothing: the window becomes twice as wide
			< . 1:1(0) ack 20001
			< . 1:1(0) ack 20001 <sack 15001:16001>
			info DSACKIn 1
			write 2000
			> . 20001:21001(1000) ack 1
			> P. 21001:22001(1000) ack 1
			+100ms < . 1:1(0) ack 20001 <sack 21001:22001>
			+50ms > . 20001:21001(1000) ack 1
		`,
		"a time-out keeps what the peer has": openedSACK + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			> . 3001:4001(1000) ack 1
			> P. 4001:5001(1000) ack 1
			+100ms < . 1:1(0) ack 1 <sack 1001:2001 3001:4001>
			+25ms > . 1:1001(1000) ack 1
			+202ms > P. 4001:5001(1000) ack 1 // a probe
			+300ms > . 1:1001(1000) ack 1
			info Timeouts 1
			info SACKed 2000
			+100ms < . 1:1(0) ack 2001 <sack 3001:4001>
			> . 2001:3001(1000) ack 1
			> P. 4001:5001(1000) ack 1
			+100ms < . 1:1(0) ack 5001
			+10s
			info Retransmits 5
		`,
		"the peer forgets what it said it had": openedSACK + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			> . 3001:4001(1000) ack 1
			> P. 4001:5001(1000) ack 1
			+100ms < . 1:1(0) ack 1 <sack 1001:5001>
			> . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			+300ms > . 1001:2001(1000) ack 1
			info Reneged 1
			info SACKed 0
			+100ms < . 1:1(0) ack 2001
			> . 2001:3001(1000) ack 1
			> . 3001:4001(1000) ack 1
			+100ms < . 1:1(0) ack 4001
			> P. 4001:5001(1000) ack 1
			+100ms < . 1:1(0) ack 5001
			+10s
		`,
		"part of a super-frame": `config limit=65535` + openedSACK + `
			write 10000
			> P. 1:2001(2000) ack 1
			> P. 2001:4001(2000) ack 1
			> P. 4001:6001(2000) ack 1
			> P. 6001:8001(2000) ack 1
			> P. 8001:10001(2000) ack 1
			+100ms < . 1:1(0) ack 1 <sack 1501:5001>
			> . 1:1001(1000) ack 1
			info Lost 500
			info InFlight 6000
			< . 1:1(0) ack 1 <sack 6001:7001 1501:5001>
			> . 1001:1501(500) ack 1
			< . 1:1(0) ack 1 <sack 7001:9001 6001:7001 1501:5001>
			> . 5001:6001(1000) ack 1
			info SACKed 6500
			+100ms < . 1:1(0) ack 10001
			info Retransmits 3
		`,
		"what makes no sense is counted and changes nothing": openedSACK + ten + `
			+100ms < . 1:1(0) ack 2001
			< . 1:1(0) ack 2001 <sack 5001:4001>  // inverted
			< . 1:1(0) ack 2001 <sack 4001:4001>  // empty
			< . 1:1(0) ack 2001 <sack 9001:10002> // above what was sent
			< . 1:1(0) ack 2001 <sack 1501:3001>  // half acknowledged
			< . 1:1(0) ack 2001 <sack 2001:3001>  // would have been acknowledged
			< . 1:1(0) ack 2001 <sack 3001:4001 1001:2001> // a D-SACK is the first
			info SACKIgnored 6
			info SACKed 1000
			info DSACKIn 0
			< . 1:1(0) ack 2001 <sack 1:1001>
			info DSACKIn 1
			< . 1:1(0) ack 2001 <sack 3501:4001 3001:4001>
			info DSACKIn 2
			info SACKIgnored 6
			< . 1:1(0) ack 3001
			info Retransmits 0
		`,
		"an overtaken ACK still tells": openedSACK + ten + `
			+100ms < . 1:1(0) ack 2001
			< . 1:1(0) ack 1001 <sack 3001:6001>
			> . 2001:3001(1000) ack 1
		`,
		"duplicate ACKs without blocks prove nothing": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1001
			< . 1:1(0) ack 1001
			< . 1:1(0) ack 1001
			< . 1:1(0) ack 1001
			< . 1:1(0) ack 1001
			info Retransmits 0
		`,
	})
}

func TestTailLossProbe(t *testing.T) {
	scripts(t, map[string]string{
		"repeats the last segment": openedSACK + `
			write 3000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> P. 2001:3001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			+202ms > P. 2001:3001(1000) ack 1
			info TLPProbes 1
			+100ms < . 1:1(0) ack 1001 <sack 2001:3001>
			> . 1001:2001(1000) ack 1
			+100ms < . 1:1(0) ack 3001
			info Timeouts 0
			+10s
		`,
		"sends new text if there is some": openedSACK + `
			write 20000
		` + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
			+202ms > . 10001:11001(1000) ack 1
			info Retransmits 0
			+100ms < . 1:1(0) ack 1 <sack 10001:11001>
			> . 1:1001(1000) ack 1
			info Timeouts 0
		`,
		"a lone segment waits for the peer's delayed ACK": openedSACK + `
			write 1000
			> P. 1:1001(1000) ack 1
			+300ms > P. 1:1001(1000) ack 1
			info TLPProbes 1
			info Timeouts 0
			+300ms > P. 1:1001(1000) ack 1
			info Timeouts 1
			+600ms > P. 1:1001(1000) ack 1
		`,
		"recovery has a tail, too: new text": openedSACK + `
			write 10000
		` + expectRun(">", ".", 1, 1000, 9, "ack 1") + `
			> P. 9001:10001(1000) ack 1
			+100ms < . 1:1(0) ack 5001
			< . 1:1(0) ack 5001 <sack 6001:10001>
			> . 5001:6001(1000) ack 1
			write 2000
			> . 10001:11001(1000) ack 1
			+202ms > P. 11001:12001(1000) ack 1 // beyond the window
			+100ms < . 1:1(0) ack 5001 <sack 11001:12001 6001:10001>
			> . 5001:6001(1000) ack 1
			> . 10001:11001(1000) ack 1
			info Timeouts 0
		`,
		"recovery has a tail, too: the first segment": openedSACK + ten + `
			+100ms < . 1:1(0) ack 5001 <sack 6001:10001>
			> . 5001:6001(1000) ack 1
			+202ms > . 5001:6001(1000) ack 1
			+100ms < . 1:1(0) ack 10001
			info Timeouts 0
			info TLPProbes 1
			info Cwnd 2500 // half of the 5000 in flight, once
			write 1000
			> P. 10001:11001(1000) ack 1
			+100ms < . 1:1(0) ack 11001
			info Cwnd 2500
			+10s
		`,
		"a repaired loss is one for the congestion control": openedSACK + ten + `
			+100ms < . 1:1(0) ack 9001
			+300ms > P. 9001:10001(1000) ack 1
			+100ms < . 1:1(0) ack 10001
			write 1000
			> P. 10001:11001(1000) ack 1
			info Cwnd 15000
			+100ms < . 1:1(0) ack 11001
			info Cwnd 2000
		`,
		"a probe for nothing costs nothing": openedSACK + ten + `
			+100ms < . 1:1(0) ack 9001
			+300ms > P. 9001:10001(1000) ack 1
			< . 1:1(0) ack 10001
			+100ms < . 1:1(0) ack 10001 <sack 9001:10001>
			write 1000
			> P. 10001:11001(1000) ack 1
			+100ms < . 1:1(0) ack 11001
			info Cwnd 15000
		`,
		"the FIN is probed": openedSACK + `
			write 2000
			> . 1:1001(1000) ack 1
			> P. 1001:2001(1000) ack 1
			shutdown
			> F. 2001:2001(0) ack 1
			+202ms > F. 2001:2001(0) ack 1
			+100ms < . 1:1(0) ack 2002
			state FIN-WAIT-2
		`,
	})
}

// What arrives twice is reported once (RFC 2883 §4).
func TestDSACK(t *testing.T) {
	scripts(t, map[string]string{
		"old": openedSACK + `
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101 <>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101 <sack 1:101>
			info DSACKOut 1
			< P. 101:201(100) ack 1
			> . 1:1(0) ack 201 <>
		`,
		"old and new": openedSACK + `
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101 <>
			< . 51:151(100) ack 1
			> . 1:1(0) ack 151 <sack 51:101>
		`,
		"beyond a hole": openedSACK + `
			< . 201:301(100) ack 1
			> . 1:1(0) ack 1 <sack 201:301>
			< . 401:501(100) ack 1
			> . 1:1(0) ack 1 <sack 401:501 201:301>
			< . 201:301(100) ack 1
			> . 1:1(0) ack 1 <sack 201:301 201:301 401:501>
			< . 1:251(250) ack 1
			> . 1:1(0) ack 301 <sack 201:251 401:501>
		`,
		"not without SACK": opened + `
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101 <>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101 <>
		`,
	})
}
