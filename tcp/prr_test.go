package tcp

import (
	"fmt"
	"strings"
	"testing"
)

// TestPRRExamples is the two examples of RFC 6937 §3.1, which RFC 9937 keeps:
// 20 segments in flight, a window that shall become 10, and an ACK for each of
// the segments that arrive. The row is what each of those ACKs lets out: N new,
// R again, - nothing.
//
// The RFC counts in segments and rounds up. Here bytes are counted, and a segment
// leaves when there is room for all of it, which is one ACK later; so at the end
// of the row one is still to come.
func TestPRRExamples(t *testing.T) {
	for _, x := range []struct {
		name string
		lost int // the first so many
		want string
	}{
		// RFC:              N N R - N - N - N - N - N - N - - N N
		{"one is lost", 1, "N N R - - N - N - N - N - N - N - - N"},
		// The reduction bound: as long as nothing moves sndUna, no more is sent
		// than arrives (PRR-CRB of RFC 6937; RFC 9937 has slow start only for
		// ACKs that are safe).
		{"fifteen in a row are lost", 15, "N N R R R"},
	} {
		t.Run(x.name, func(t *testing.T) {
			tr := run(t, openedSACK+"write 100000\n"+expectRun(">", ".", 1, 1000, 10, "ack 1")+
				"+100ms < . 1:1(0) ack 10001\n"+expectRun(">", ".", 10001, 1000, 20, "ack 1")+
				"info Cwnd 20000\n+100ms")
			const una = 10001
			highest := tr.c.sndNxt
			row, sum := []string{}, 0
			for i := x.lost; i < 20; i++ {
				tr.step(strings.Fields(fmt.Sprintf("< . 1:1(0) ack %d <sack %d:%d>", una, una+1000*x.lost, una+1000*(i+1))))
				tr.check()
				sent := ""
				for _, o := range tr.out {
					if o.seg.Seq.Less(highest) {
						sent += "R"
					} else {
						sent += "N"
						highest = o.seg.End()
					}
				}
				sum += len(sent)
				if sent == "" {
					sent = "-"
				}
				row, tr.out = append(row, sent), nil
				if pipe := tr.c.pipe(); x.lost == 1 && pipe < 10000 {
					t.Errorf("after ACK %d pipe is %d, below ssthresh", i, pipe)
				}
			}
			if got := strings.Join(row, " "); got != x.want {
				t.Errorf("sent %s\nwant %s", got, x.want)
			}
			if ss := tr.c.cc.Ssthresh(); ss != 10000 {
				t.Errorf("ssthresh %d", ss)
			}
			if rfc := map[int]int{1: 11, 15: 5}[x.lost]; sum < rfc-1 || sum > rfc {
				t.Errorf("%d segments, the RFC has %d", sum, rfc)
			}
		})
	}
}

// TestPRRSafeAck goes on with the second example: once ACKs move sndUna and tell
// of no further loss, one segment more than arrived is let out by each, until
// the pipe is at ssthresh (RFC 9937 §6.2).
func TestPRRSafeAck(t *testing.T) {
	run(t, openedSACK+"write 100000\n"+expectRun(">", ".", 1, 1000, 10, "ack 1")+
		"+100ms < . 1:1(0) ack 10001\n"+expectRun(">", ".", 10001, 1000, 20, "ack 1")+`
		+100ms < . 1:1(0) ack 10001 <sack 25001:30001>
		> . 10001:11001(1000) ack 1
		> . 11001:12001(1000) ack 1
		> . 12001:13001(1000) ack 1
		> . 13001:14001(1000) ack 1
		> . 14001:15001(1000) ack 1
		info InFlight 5000
		+100ms < . 1:1(0) ack 11001 <sack 25001:30001>
		> . 15001:16001(1000) ack 1
		> . 16001:17001(1000) ack 1
		< . 1:1(0) ack 12001 <sack 25001:30001>
		> . 17001:18001(1000) ack 1
		> . 18001:19001(1000) ack 1
		info InFlight 7000
	`)
}
