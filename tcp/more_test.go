package tcp

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

func TestRecovery(t *testing.T) {
	scripts(t, map[string]string{
		"slow start doubles": opened + `
			write 100000
		` + expectRun(">", ".", 1, 1460, 10, "ack 1") +
			"< . 1:1(0) ack 14601\n" +
			expectRun(">", ".", 14601, 1460, 20, "ack 1"),
		"an idle window starts again": opened + `
			write 100000
		` + expectRun(">", ".", 1, 1460, 10, "ack 1") +
			"< . 1:1(0) ack 14601\n" +
			expectRun(">", ".", 14601, 1460, 20, "ack 1") +
			"< . 1:1(0) ack 43801\n" +
			expectRun(">", ".", 43801, 1460, 13, "ack 1") +
			line(">", "P.", 62781, 1460, "ack 1") + // more than half the window
			expectRun(">", ".", 64241, 1460, 24, "ack 1") + `
			> P. 99281:100001(720) ack 1
			< . 1:1(0) ack 100001
			+10s
			write 100000
		` + expectRun(">", ".", 100001, 1460, 10, "ack 1"),
		"in recovery one segment leaves for each that arrived": opened + `
			write 29200
		` + expectRun(">", ".", 1, 1460, 10, "ack 1") + `
			< . 1:1(0) ack 1
			> . 14601:16061(1460) ack 1
			< . 1:1(0) ack 1
			> . 16061:17521(1460) ack 1
			< . 1:1(0) ack 1
			> . 1:1461(1460) ack 1 // 12 sent, 3 arrived, cwnd is 5 now
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			> . 17521:18981(1460) ack 1
			< . 1:1(0) ack 1
			> . 18981:20441(1460) ack 1
			// the first three arrived: 2 of the duplicates were theirs
			< . 1:1(0) ack 4381
			> . 4381:5841(1460) ack 1
			> . 20441:21901(1460) ack 1
			< . 1:1(0) ack 4381
			> . 21901:23361(1460) ack 1
			< . 1:1(0) ack 17521 // all that was sent before: 4 in flight
			> . 23361:24821(1460) ack 1
		`,
		"only the first partial ACK restarts the timer": opened + `
			write 14600
		` + expectRun(">", ".", 1, 1460, 9, "ack 1") + `
			> P. 13141:14601(1460) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			> . 1:1461(1460) ack 1
			+50ms
			< . 1:1(0) ack 2921
			> . 2921:4381(1460) ack 1
			+50ms
			< . 1:1(0) ack 5841
			> . 5841:7301(1460) ack 1
			+150ms > . 5841:7301(1460) ack 1
		`,
		"duplicates after recovery are not a new loss": opened + `
			write 14600
		` + expectRun(">", ".", 1, 1460, 9, "ack 1") + `
			> P. 13141:14601(1460) ack 1
			+200ms > . 1:1461(1460) ack 1
			< . 1:1(0) ack 14601
			write 14600 // cwnd is 2 after the time-out
			> . 14601:16061(1460) ack 1
			> . 16061:17521(1460) ack 1
			< . 1:1(0) ack 14601
			> . 17521:18981(1460) ack 1
			< . 1:1(0) ack 14601
			> . 18981:20441(1460) ack 1
			< . 1:1(0) ack 14601
		`,
		"a SACK block makes room in the header": openedAll + `
			write 1
			> P. 1:2(1) ack 1
			< . 101:102(1) ack 2 <nop,nop,TS val 7001 ecr 100>
			> . 2:2(0) ack 1
			write 1448
			> . 2:1438(1436) ack 1 <nop,nop,TS val 100 ecr 7000,nop,nop,sack 101:102>
			> P. 1438:1450(12) ack 1
		`,
		"four blocks without timestamps": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK>
			> . 1:1(0) ack 1
			< . 11:12(1) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 11:12>
			< . 21:22(1) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 21:22 11:12>
			< . 31:32(1) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 31:32 21:22 11:12>
			< . 41:42(1) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 41:42 31:32 21:22 11:12>
			< . 51:52(1) ack 1
			> . 1:1(0) ack 1 <nop,nop,sack 51:52 41:42 31:32 21:22>
			write 1425
			> . 1:1425(1424) ack 1 <nop,nop,sack 51:52 41:42 31:32 21:22>
			> P. 1425:1426(1) ack 1
		`,
		"IPv6's path MTU has its own floor": `config ipheader=40` + opened + `
			write 1460
			> P. 1:1461(1460) ack 1
			mtu 100 at 1
			> . 1:1221(1220) ack 1
			> P. 1221:1461(240) ack 1
		`,
		"path MTU without knowing the IP version": `config ipheader=0` + opened + `
			write 1460
			> P. 1:1461(1460) ack 1
			mtu 1460 at 1
			> . 1:1401(1400) ack 1
			> P. 1401:1461(60) ack 1
		`,
		"path MTU while connecting": `
			connect
			> S 0:0(0)
			mtu 1000 at 0
			< S. 0:0(0) ack 1
			> . 1:1(0) ack 1 
			write 600
			> . 1:537(536) ack 1
			> P. 537:601(64) ack 1
		`,
		"receiver's silly window avoidance": `config rcvbuf=3000` + opened + `
			< . 1:1461(1460) ack 1
			> . 1:1(0) ack 1461 win 1540
			< . 1461:2921(1460) ack 1
			+40ms > . 1:1(0) ack 2921 win 80
			read 1000
			< . 2921:2931(10) ack 1
			+40ms > . 1:1(0) ack 2931 win 70
		`,
		"scaled window: the edge rests while text arrives": `
			config rcvbuf=8388608
			connect
			> S 0:0(0) win 65535
			< S. 0:0(0) ack 1 win 65535 <mss 1460,wscale 8>
			> . 1:1(0) ack 1 win 32768
			< . 1:1001(1000) ack 1
			> . 1:1(0) ack 1001 win 32765 // rounded up: 8387840 from 1001 on
			read 1000
			< . 1001:2001(1000) ack 1
			> . 1:1(0) ack 2001 win 32762
		`,
		"an ACK that advances moves the window though its text is older": opened + `
			write 100
			> P. 1:101(100) ack 1
			< P. 101:111(10) ack 1 win 3000
			> . 101:101(0) ack 1
			< . 1:1(0) ack 101 win 2000
			window 2000
		`,
		"peer without window scale: reading is not announced each time": `
			config rcvbuf=8388608
		` + opened + `
			< . 1:10001(10000) ack 1
			> . 1:1(0) ack 10001 win 65535
			read 4000
			read 4000
			read 2000
		`,
		"FIN does not fit the window": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 100 <mss 1460>
			> . 1:1(0) ack 1
			write 50
			> P. 1:51(50) ack 1
			write 50 // Nagle
			shutdown
			> P. 51:101(50) ack 1
			< . 1:1(0) ack 101 win 100
			> F. 101:101(0) ack 1
		`,
		"orphan gives up sooner": opened + `
			close
			> F. 1:1(0) ack 1
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
		`,
		"conversation over: quick ACKs again": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			write 10
			> P. 1:11(10) ack 11
			< P. 11:21(10) ack 11
			+40ms > . 11:11(0) ack 21
			< P. 21:31(10) ack 11
			> . 11:11(0) ack 31
		`,
		"no more than the reassembly holds": `config rcvbuf=100000` + opened + func() string {
			var b strings.Builder
			for i := range maxRanges {
				b.WriteString(line("<", ".", 2+2*i, 1, "ack 1"))
				b.WriteString("> . 1:1(0) ack 1\n")
			}
			b.WriteString(line("<", ".", 2+2*maxRanges, 1, "ack 1"))
			b.WriteString("drop reassembly-full\n> . 1:1(0) ack 1\n")
			return b.String()
		}(),
		"RST in SYN-RECEIVED of a simultaneous open": `
			connect
			> S 0:0(0)
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< R 1:1(0)
			err ECONNREFUSED
		`,
		"bad ACK in SYN-RECEIVED of a simultaneous open": `
			connect
			> S 0:0(0)
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 99
			drop bad-ack
			> R 99:99(0)
			state SYN-RECEIVED
		`,
		"record: PAWS and no room for doubt": `
			listen
			< S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1 <nop,nop,TS val 99 ecr 100>
			drop paws
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 100>
			< . 70000:70000(0) ack 1
			drop out-of-window
			+1s > S. 0:0(0) ack 1
			< P. 1:11(10) ack 1 <nop,nop,TS val 101 ecr 100>
			state ESTABLISHED
			> . 1:1(0) ack 11
		`,
	})
}

// What hung or crashed another stack.
func TestSeenElsewhere(t *testing.T) {
	scripts(t, map[string]string{
		"SYN with number 2^32-1 to a closed port": `
			config peer=4294967295
			< S 0:0(0)
			> R. 0:0(0) ack 1
		`,
		"a reset is not reset": `
			< R. 5:5(0) ack 9
			< R 5:5(0)
		`,
		"an ACK to a closed port": `
			< . 5:5(0) ack 9
			> R 9:9(0)
		`,
		"the peer goes on while our FIN waits for room": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 1000 <mss 1000>
			> . 1:1(0) ack 1
			write 2000
			> . 1:501(500) ack 1
			> P. 501:1001(500) ack 1
			shutdown
			< P. 1:11(10) ack 1001 win 0
			state FIN-WAIT-1
			> . 1001:1001(0) ack 11
			< P. 11:21(10) ack 1001 win 0
			state FIN-WAIT-1
			> . 1001:1001(0) ack 21
			< . 21:21(0) ack 1001 win 5000
			> FP. 1001:2001(1000) ack 21
			< . 21:21(0) ack 2002 win 5000
			state FIN-WAIT-2
			read 20
		`,
		"one lost pure ACK": opened + `
			< . 1:1461(1460) ack 1
			> . 1:1(0) ack 1461 // lost; the peer sends again, more than once
			< . 1:1461(1460) ack 1
			> . 1:1(0) ack 1461
			< . 1:1461(1460) ack 1
			> . 1:1(0) ack 1461
		`,
		"the reader waits in FIN-WAIT-2": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< . 1:1(0) ack 2
			read 1 = EAGAIN
			< F. 1:1(0) ack 2
			> . 2:2(0) ack 2
			read 1 = EOF
		`,
		"time runs out with everything at once": opened + `
			write 100
			> P. 1:101(100) ack 1
			abort
			> R. 101:101(0) ack 1
			< P. 1:11(10) ack 101
			drop no-connection
			+10h
		`,
	})
}

// An orphan whose peer keeps its window closed ends one day.
func TestOrphanZeroWindow(t *testing.T) {
	tr := run(t, opened+`
		write 70000
	`+expectRun(">", ".", 1, 1460, 10, "ack 1")+`
		< . 1:1(0) ack 14601 win 0
		close
	`)
	c := tr.c
	for n := 0; c.State() != Closed; n++ {
		if n > 50 {
			t.Fatal("never ends")
		}
		tr.now = c.Deadline()
		c.Expire(tr.now)
		var s Segment
		for c.Output(tr.now, &s, 0) {
			if s.Flags&FlagRST == 0 {
				ack := &Segment{Seq: c.rcvNxt, Ack: c.sndUna, Flags: FlagACK}
				c.Input(tr.now, ack)
			}
		}
	}
	if d := tr.now.Sub(mono.Time(10 * time.Second)); d < time.Minute || d > 20*time.Minute {
		t.Errorf("ended after %v", d)
	}
}

// Records are asked early, too.
func TestRecordsEarly(t *testing.T) {
	now := mono.Time(time.Second)
	r := NewSynRequest(&Config{ISS: 7}, now, &Segment{Flags: FlagSYN})
	if r.Expire(now.Add(time.Hour)) != VerdictDrop || r.Deadline() != 0 {
		t.Error("SynRequest expired before it was sent")
	}
	var s Segment
	r.Output(now, &s)
	if r.Expire(now) != VerdictDrop || r.Output(now, &s) {
		t.Error("SynRequest expired early")
	}
	w := &TimeWaitRecord{deadline: now + 1, sndNxt: 100}
	if w.Expire(now) != VerdictDrop || w.Expire(now+1) != VerdictRemove {
		t.Error("TimeWaitRecord")
	}
	if w.NextISS() != 100+65537 {
		t.Error("NextISS")
	}
}

func TestHardError(t *testing.T) {
	c := NewActive(&Config{}, 1)
	var s Segment
	c.Output(1, &s, 0)
	if !c.InWindow(c.iss) || c.InWindow(c.iss+1) || c.InWindow(c.iss-1) {
		t.Error("InWindow")
	}
	ev := c.HardError(2, syscall.EHOSTUNREACH)
	if ev&(EvClosed|EvError|EvReadable|EvWritable) != EvClosed|EvError|EvReadable|EvWritable || c.Err() != syscall.EHOSTUNREACH {
		t.Errorf("events %b, error %v", ev, c.Err())
	}
	if ev := c.HardError(3, syscall.ECONNRESET); ev != 0 || c.Err() != syscall.EHOSTUNREACH {
		t.Error("failed twice")
	}
	if c.Output(3, &s, 0) || c.Deadline() != 0 || c.State() != Closed {
		t.Error("alive")
	}
	if err := c.CloseWrite(4); err != syscall.ENOTCONN {
		t.Error(err)
	}
	c.Close(5)
	c.Abort(5)
	c.SoftError(syscall.EHOSTUNREACH)
	c.TooBig(5, c.iss, 600)
	if c.TimeWait(5) != nil {
		t.Error("record of a closed connection")
	}
}

func TestEvents(t *testing.T) {
	tr := run(t, `
		config sndbuf=3000
		connect
		> S 0:0(0)
	`)
	in := func(s *Segment) Events {
		ev, d := tr.c.Input(tr.now, s)
		if d != DropNone {
			t.Fatal(d)
		}
		tr.flush()
		return ev
	}
	if ev := in(&Segment{Ack: 1, Flags: FlagSYN | FlagACK, Window: 60000}); ev != EvConnected|EvWritable|EvOutput|EvProgress {
		t.Errorf("connected: %b", ev)
	}
	if tr.c.Writable() != 3000 {
		t.Errorf("writable %d", tr.c.Writable())
	}
	tr.c.Write(make([]byte, 3000))
	tr.out = nil
	for tr.c.Output(tr.now, new(Segment), 0) {
	}
	if ev := in(&Segment{Seq: 1, Ack: 100, Flags: FlagACK, Window: 60000}); ev&EvWritable != 0 {
		t.Error("too little room")
	}
	if ev := in(&Segment{Seq: 1, Ack: 2000, Flags: FlagACK, Window: 60000}); ev&EvWritable == 0 {
		t.Error("room is not told")
	}
	if ev := in(&Segment{Seq: 1, Ack: 2000, Flags: FlagACK, Window: 60000, Payload: [2][]byte{{1}}}); ev&EvReadable == 0 || tr.c.Readable() != 1 {
		t.Error("text is not told")
	}
	if ev := in(&Segment{Seq: 2, Ack: 2000, Flags: FlagACK | FlagFIN}); ev&EvReadable == 0 || !tr.c.EOF() {
		t.Error("FIN is not told")
	}
	i := tr.c.Info()
	if i.State != CloseWait || i.BytesIn != 1 || i.BytesAcked != 1999 || i.SegmentsIn != 5 || i.Cwnd == 0 {
		t.Errorf("%+v", i)
	}
}
