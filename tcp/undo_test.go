package tcp

import "testing"

// openedTS is a connection with SACK and timestamps, segments of 1000 bytes and
// a round trip of 100 ms. Our clock says 200 when it is open.
const openedTS = `
	connect
	> S 0:0(0)
	+100ms < S. 0:0(0) ack 1 win 65535 <mss 1012,sackOK,TS val 5000 ecr 100>
	> . 1:1(0) ack 1
`

// Eifel detection, RFC 3522, and the response, RFC 4015.
func TestEifel(t *testing.T) {
	timeout := openedTS + ten + `
		+202ms > P. 9001:10001(1000) ack 1 <nop,nop,TS val 402 ecr 5000>
		+300ms > . 1:1001(1000) ack 1 <nop,nop,TS val 702 ecr 5000>
		info Cwnd 1000
		info Lost 9000
	`
	loss := openedTS + ten + `
		+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:4001>
		> . 1:1001(1000) ack 1 <nop,nop,TS val 300 ecr 5100>
		info Ssthresh 5000
		info CAState recovery
	`
	scripts(t, map[string]string{
		"a time-out, though the first transmission arrived": timeout + `
			+50ms < . 1:1(0) ack 1001 <nop,nop,TS val 5100 ecr 200>
			info Undos 1
			info SpuriousTimeouts 0 // F-RTO was not needed
			info Cwnd 11000
			info Ssthresh 1073741824
			info Lost 0
			info CAState disorder // the probe is in flight a second time
			< . 1:1(0) ack 10001 <nop,nop,TS val 5100 ecr 200>
			+10s
			info Retransmits 2
		`,
		"a time-out of which the second transmission arrived": timeout + `
			+100ms < . 1:1(0) ack 1001 <nop,nop,TS val 5100 ecr 702>
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			info Undos 0
			info Cwnd 2000
			+100ms < . 1:1(0) ack 3001 <nop,nop,TS val 5200 ecr 802>
			> . 3001:4001(1000) ack 1
			> . 4001:5001(1000) ack 1
			> . 5001:6001(1000) ack 1
			info Undos 0
		`,
		"the tick of the second transmission proves nothing": timeout + `
			< . 1:1(0) ack 1001 <nop,nop,TS val 5100 ecr 702>
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			info Undos 0
			info Ssthresh 5000
		`,
		"an ACK without an echo proves nothing": timeout + `
			< . 1:1(0) ack 1001 <nop,nop,TS val 5100 ecr 0>
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			info Undos 0
		`,
		"several time-outs: the first transmission is older than all": timeout + `
			+600ms > . 1:1001(1000) ack 1 <nop,nop,TS val 1302 ecr 5000>
			+50ms < . 1:1(0) ack 1001 <nop,nop,TS val 5100 ecr 200>
			info Undos 1
			info Cwnd 11000
		`,
		"several time-outs: the second transmission is not the first": timeout + `
			+600ms > . 1:1001(1000) ack 1 <nop,nop,TS val 1302 ecr 5000>
			+50ms < . 1:1(0) ack 1001 <nop,nop,TS val 5100 ecr 702>
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			info Undos 0
		`,
		"a fast retransmit for nothing, all acknowledged at once": loss + `
			+10ms < . 1:1(0) ack 10001 <nop,nop,TS val 5110 ecr 200>
			info Undos 1
			info Cwnd 17000 // the ACK opens it, as any other (Linux)
			info Ssthresh 1073741824
			info CAState open
		`,
		"a fast retransmit that was called for": loss + `
			+100ms < . 1:1(0) ack 10001 <nop,nop,TS val 5200 ecr 300>
			info Undos 0
			info Cwnd 5000
			info CAState open
		`,
		"on the way: the hole is filled by what was late": loss + `
			+10ms < . 1:1(0) ack 4001 <nop,nop,TS val 5110 ecr 200>
			info Undos 1
			info Cwnd 11000
			info CAState open
			info InFlight 6000
			+100ms < . 1:1(0) ack 10001 <nop,nop,TS val 5200 ecr 200>
			+10s
			info Retransmits 1
		`,
		"on the way: as long as a repetition is in flight nothing is decided, nor repaired": openedTS + `
			write 20000
		` + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:2001 3001:4001 5001:6001>
			> . 1:1001(1000) ack 1
			< . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 5001:7001>
			> . 2001:3001(1000) ack 1
			info Lost 1000
			+10ms < . 1:1(0) ack 2001 <nop,nop,TS val 5110 ecr 200,sack 3001:4001 5001:7001>
			> . 10001:11001(1000) ack 1
			info Undos 0
			info Lost 1000
			info CAState recovery
			< . 1:1(0) ack 4001 <nop,nop,TS val 5110 ecr 200,sack 5001:7001>
			info Undos 1
			info CAState disorder
			info Lost 0
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			info Retransmits 2
		`,
		"undone, and then a real loss: another repair, from the whole window": openedTS + `
			write 20000
		` + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:4001>
			> . 1:1001(1000) ack 1
			+10ms < . 1:1(0) ack 4001 <nop,nop,TS val 5110 ecr 200>
			info Undos 1
			> . 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			< . 1:1(0) ack 4001 <nop,nop,TS val 5110 ecr 200,sack 5001:10001>
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			> P. 19001:20001(1000) ack 1
			info Cwnd 16000 // the path reorders: what arrives so counts as well
			info CAState disorder
			// the window for reordering, half of the least round trip by now
			+50ms > . 4001:5001(1000) ack 1
			info CAState recovery
			info FastRetransmits 2
			info Ssthresh 8000
		`,
	})
}

// Two ACKs in one batch: the second proves the loss wrong before Output has
// sent anything again (RFC 4015 has nothing to say; Linux undoes).
func TestUndoBeforeResending(t *testing.T) {
	for _, open := range []string{openedSACK, openedTS} {
		tr := run(t, open+ten)
		now := tr.now.Add(100 * ms)
		s := &Segment{Seq: 1, Ack: 1, Flags: FlagACK, Window: 65535}
		s.Options.NumSACK, s.Options.SACK[0] = 1, SACKBlock{1001, 9001}
		tr.c.Input(now, s)
		if i := tr.c.Info(); i.CAState != CARecovery || i.Lost != 1000 {
			t.Fatalf("%+v", i)
		}
		tr.c.Input(now, &Segment{Seq: 1, Ack: 9001, Flags: FlagACK, Window: 65535})
		if i := tr.c.Info(); i.CAState != CAOpen || i.Undos != 1 || i.Cwnd != 11000 || i.Lost != 0 {
			t.Fatalf("%+v", i)
		}
		if tr.c.Output(now, s, 0) {
			t.Errorf("sent %v", s)
		}
	}
}

// D-SACK detection, RFC 3708.
func TestDSACKUndo(t *testing.T) {
	two := openedSACK + ten + `
		+100ms < . 1:1(0) ack 1 <sack 1001:2001 3001:9001>
		> . 1:1001(1000) ack 1
		> . 2001:3001(1000) ack 1
		info Ssthresh 5000
		+10ms < . 1:1(0) ack 9001
		info CAState recovery
	`
	scripts(t, map[string]string{
		"all that was sent again arrived twice, in two reports": two + `
			+90ms < . 1:1(0) ack 9001 <sack 1:1001>
			info Undos 0
			< . 1:1(0) ack 9001 <sack 2001:3001>
			info Undos 1
			info CAState open
			info Ssthresh 1073741824
			info Cwnd 10000
		`,
		"in one report": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1 <sack 2001:9001>
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			+100ms < . 1:1(0) ack 10001 <sack 1:2001>
			info Undos 1
			info DSACKDups 2
		`,
		"after the repair has ended": two + `
			< . 1:1(0) ack 10001
			info CAState open
			info Ssthresh 5000
			info Cwnd 5000
			+90ms < . 1:1(0) ack 10001 <sack 1:1001>
			< . 1:1(0) ack 10001 <sack 2001:3001>
			info Undos 1
			info Ssthresh 1073741824
			info Cwnd 10000
		`,
		"one report is missing: no": two + `
			+90ms < . 1:1(0) ack 9001 <sack 1:1001>
			< . 1:1(0) ack 10001
			info Undos 0
			info Ssthresh 5000
		`,
		"the same report twice: no": two + `
			+90ms < . 1:1(0) ack 9001 <sack 1:1001>
			< . 1:1(0) ack 9001 <sack 1:1001>
			info Undos 0
			info DSACKDups 2
			< . 1:1(0) ack 9001 <sack 1:1001>
			< . 1:1(0) ack 9001 <sack 1:1001>
			info DSACKDups 4
			info Undos 0
		`,
		"a block of what is still missing is not a D-SACK": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1 <sack 1001:4001>
			> . 1:1001(1000) ack 1
			+1ms < . 1:1(0) ack 1 <sack 1001:5001>
			< . 1:1(0) ack 1 <sack 1001:6001>
			info Undos 0
			info DSACKIn 0
			info CAState recovery
		`,
		"text above the ACK that arrived twice": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1 <sack 1001:2001 3001:6001>
			> . 1:1001(1000) ack 1
			< . 1:1(0) ack 1 <sack 6001:9001 3001:6001>
			> . 2001:3001(1000) ack 1
			+50ms < . 1:1(0) ack 1 <sack 2001:3001 1001:9001>
			info DSACKIn 1
			info Undos 0
			info DSACKDups 1
			+50ms < . 1:1(0) ack 10001 <sack 1:1001>
			info Undos 1
		`,
		"what an earlier repair sent again is another matter": two + `
			< . 1:1(0) ack 10001
			write 10000
			> . 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			+100ms < . 1:1(0) ack 10001 <sack 11001:15001>
			> . 10001:11001(1000) ack 1
			> . 15001:16001(1000) ack 1
			info Ssthresh 2500
			< . 1:1(0) ack 10001 <sack 1:1001 11001:15001>
			< . 1:1(0) ack 10001 <sack 2001:3001 11001:15001>
			info DSACKIn 2
			info Undos 0
			info Ssthresh 2500
			+50ms < . 1:1(0) ack 15001 <sack 10001:11001>
			info Undos 1
			info Ssthresh 5000
			> . 16001:17001(1000) ack 1
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			> P. 19001:20001(1000) ack 1
		`,
		"a probe of the tail is not part of the repair": openedSACK + ten + `
			+202ms > P. 9001:10001(1000) ack 1
			+50ms < . 1:1(0) ack 1 <sack 1001:10001> // all but the first
			> . 1:1001(1000) ack 1
			info CAState recovery
			+50ms < . 1:1(0) ack 1 <sack 9001:10001 1001:10001>
			info DSACKIn 1
			info Undos 0
			info CAState recovery
			+1ms < . 1:1(0) ack 10001
			info Undos 0
			info Ssthresh 5000
		`,
		"more than was ever sent again: the network's work": openedSACK + ten + `
			+100ms < . 1:1(0) ack 5001
			< . 1:1(0) ack 5001 <sack 1:1001>
			< . 1:1(0) ack 5001 <sack 1001:2001>
			< . 1:1(0) ack 5001 <sack 2001:3001>
			info DSACKIn 3
			info ReorderSeen 0
			+1ms < . 1:1(0) ack 5001 <sack 6001:9001>
			> . 5001:6001(1000) ack 1
			< . 1:1(0) ack 9001 <sack 5001:6001> // one of the four is ours, but which?
			info Undos 0
			info FastRetransmits 1
		`,
		"lost again, and then the first arrived after all": openedSACK + `
			write 20000
		` + expectRun(">", ".", 1, 1000, 10, "ack 1") + `
			+100ms < . 1:1(0) ack 1 <sack 1001:10001>
			> . 1:1001(1000) ack 1
			> . 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			+50ms < . 1:1(0) ack 1 <sack 1001:11001>
			> . 14001:15001(1000) ack 1
			+100ms < . 1:1(0) ack 1 <sack 1001:15001>
			> . 1:1001(1000) ack 1
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			+1ms < . 1:1(0) ack 15001
			> P. 19001:20001(1000) ack 1
			info Ssthresh 5000
			+1ms < . 1:1(0) ack 15001 <sack 1:1001>
			info Undos 0 // one of two
		`,
		"a time-out: the D-SACK of the first segment is not enough for what followed": openedSACK + ten + `
			+202ms > P. 9001:10001(1000) ack 1
			+300ms > . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 1001
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			+50ms < . 1:1(0) ack 1001 <sack 1:1001>
			info Undos 0
		`,
	})
}

// The cases of RFC 2883 §5, seen by the sender.
func TestRFC2883Section5(t *testing.T) {
	scripts(t, map[string]string{
		"5.1 replication by the network": openedSACK + ten + `
			+100ms < . 1:1(0) ack 10001
			< . 1:1(0) ack 10001 <sack 1:1001>
			info DSACKIn 1
			info Undos 0
			info Retransmits 0
			info Cwnd 20000
		`,
		"5.2 false retransmit due to reordering": openedSACK + ten + `
			+100ms < . 1:1(0) ack 1 <sack 1001:4001>
			> . 1:1001(1000) ack 1
			info Ssthresh 5000
			+1ms < . 1:1(0) ack 10001
			+99ms < . 1:1(0) ack 10001 <sack 1:1001>
			info Undos 1
			info Ssthresh 1073741824
			// from now on that much reordering is expected: with one arrival late
			// no repair begins before the window is over
			write 5000
			> . 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> P. 14001:15001(1000) ack 1
			+100ms < . 1:1(0) ack 10001 <sack 11001:15001>
			+49ms < . 1:1(0) ack 15001
			info Retransmits 1
		`,
		"5.3 retransmit timeout due to ACK loss": openedSACK + ten + `
			+202ms > P. 9001:10001(1000) ack 1
			+300ms > . 1:1001(1000) ack 1
			info Cwnd 1000
			// the receiver has it all: the D-SACK of the probe was lost as well
			+100ms < . 1:1(0) ack 10001 <sack 1:1001>
			info Undos 1
			info Ssthresh 1073741824
			info CAState open
		`,
		"5.4 early retransmit timeout": openedSACK + `
			write 1000
			> P. 1:1001(1000) ack 1
			+300ms > P. 1:1001(1000) ack 1 // the probe
			+300ms > P. 1:1001(1000) ack 1
			info Timeouts 1
			+1ms < . 1:1(0) ack 1001
			info Undos 0
			info Ssthresh 2000
			// the probe is not the time-out's doing
			+100ms < . 1:1(0) ack 1001 <sack 1:1001>
			info Undos 0
			+100ms < . 1:1(0) ack 1001 <sack 1:1001>
		`,
	})
}

// The worked examples of RFC 2883 §4, seen by the receiver.
func TestRFC2883Section4(t *testing.T) {
	// The peer's numbers begin at 1, the RFC's 500 is 501 here.
	scripts(t, map[string]string{
		"example 1: a duplicate segment": openedSACK + `
			< . 1:501(500) ack 1
			> . 1:1(0) ack 501 <>
			< . 501:1001(500) ack 1
			> . 1:1(0) ack 1001 <>
			< . 1:501(500) ack 1
			> . 1:1(0) ack 1001 <nop,nop,sack 1:501>
		`,
		"example 2: an out-of-order segment and a duplicate": openedSACK + `
			< . 1:501(500) ack 1
			> . 1:1(0) ack 501 <>
			< . 501:1001(500) ack 1
			> . 1:1(0) ack 1001 <>
			< . 1501:2001(500) ack 1
			> . 1:1(0) ack 1001 <nop,nop,sack 1501:2001>
			< . 1:501(500) ack 1
			> . 1:1(0) ack 1001 <nop,nop,sack 1:501 1501:2001>
		`,
		"example 3: a duplicate of an out-of-order segment": openedSACK + `
			< . 1:501(500) ack 1
			> . 1:1(0) ack 501 <>
			< . 1001:1501(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1001:1501>
			< . 1501:2001(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1001:2001>
			< . 1501:2001(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1501:2001 1001:2001>
		`,
		"example 4: a single duplicate subsegment": openedSACK + `
			< . 1:501(500) ack 1
			> . 1:1(0) ack 501 <>
			< . 1001:1501(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1001:1501>
			< . 1501:2001(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1001:2001>
			< . 501:1501(1000) ack 1 // sent again in larger segments
			> . 1:1(0) ack 2001 <nop,nop,sack 1001:1501>
		`,
		"example 5: two duplicate subsegments below the ACK, the first is told": openedSACK + `
			< . 1:501(500) ack 1
			> . 1:1(0) ack 501 <>
			< . 1001:1501(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1001:1501>
			< . 2001:2501(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 2001:2501 1001:1501>
			< . 501:2501(2000) ack 1
			> . 1:1(0) ack 2501 <nop,nop,sack 1001:1501>
		`,
		"example 6: two duplicate subsegments above the ACK": openedSACK + `
			< . 1:501(500) ack 1
			> . 1:1(0) ack 501 <>
			< . 1501:2001(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1501:2001>
			< . 2501:3001(500) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 2501:3001 1501:2001>
			< . 1001:3001(2000) ack 1
			> . 1:1(0) ack 501 <nop,nop,sack 1501:2001 1001:3001>
		`,
	})
}

// A mark says that a queue was full, whatever becomes of what was taken for lost
// (RFC 3168 §6.1.2).
func TestUndoAndMarks(t *testing.T) {
	opened := `
		config ecn=on
		connect
		> SEW 0:0(0)
		+100ms < SE. 0:0(0) ack 1 win 65535 <mss 1012,sackOK,TS val 5000 ecr 100>
		> . 1:1(0) ack 1
		write 20000
	` + expectRun(">", ".", 1, 1000, 10, "ack 1")
	scripts(t, map[string]string{
		"the repair ends, the smaller window stays": opened + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:4001>
			> . 1:1001(1000) ack 1
			info Ssthresh 5000
			< E. 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:5001>
			info ECNReductions 0
			> W. 10001:11001(1000) ack 1
			< . 1:1(0) ack 10001 <nop,nop,TS val 5101 ecr 200>
			info Undos 1
			info CAState open
			info Ssthresh 5000
			info Cwnd 6000 // congestion avoidance
		` + expectRun(">", ".", 11001, 1000, 5, "ack 1"),
		"without a mark it grows again, and the peer does not hear that it shrank": opened + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:4001>
			> . 1:1001(1000) ack 1
			< . 1:1(0) ack 10001 <nop,nop,TS val 5101 ecr 200>
			info Undos 1
			info Cwnd 17000
		` + expectRun(">", ".", 10001, 1000, 9, "ack 1") + `
			> P. 19001:20001(1000) ack 1
		`,
		"a reduction for a mark is none for the loss before it": opened + `
			+100ms < . 1:1(0) ack 1 <nop,nop,TS val 5100 ecr 200,sack 1001:4001>
			> . 1:1001(1000) ack 1
			+100ms < . 1:1(0) ack 10001 <nop,nop,TS val 5200 ecr 300>
			info Ssthresh 5000
			> W. 10001:11001(1000) ack 1
		` + expectRun(">", ".", 11001, 1000, 4, "ack 1") + `
			+100ms < E. 1:1(0) ack 11001 <nop,nop,TS val 5300 ecr 400>
			info CAState cwr
			info ECNReductions 1
			info Ssthresh 4000
			> W. 15001:16001(1000) ack 1
			< . 1:1(0) ack 11001 <nop,nop,TS val 5300 ecr 400,sack 1:1001>
			info DSACKIn 1
			info Undos 0
			info Ssthresh 4000
		`,
	})
}
