package tcp

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// expectRun writes n lines for segments of size bytes with running numbers.
func expectRun(dir, flags string, from, size, n int, rest string) string {
	var b strings.Builder
	for range n {
		b.WriteString(line(dir, flags, from, size, rest))
		from += size
	}
	return b.String()
}

// line writes one line, such as "> P. 1:11(10) ack 1".
func line(dir, flags string, from, size int, rest string) string {
	return fmt.Sprintf("%s %s %d:%d(%d) %s\n", dir, flags, from, from+size, size, rest)
}

func TestRetransmission(t *testing.T) {
	scripts(t, map[string]string{
		"time-out doubles, Karn keeps it, an ACK of new data ends it": opened + `
			write 100
			> P. 1:101(100) ack 1
			+200ms > P. 1:101(100) ack 1
			+400ms > P. 1:101(100) ack 1
			+800ms > P. 1:101(100) ack 1
			< . 1:1(0) ack 101
			write 100 // never timed again by what was sent twice: the time-out stays
			> P. 101:201(100) ack 1
			+1600ms > P. 101:201(100) ack 1
			< . 1:1(0) ack 201
			write 100
			> P. 201:301(100) ack 1
			+1ms
			< . 1:1(0) ack 301 // a clean sample
			write 100
			> P. 301:401(100) ack 1
		`,
		"timestamps measure what was sent twice": `
			connect
			> S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0>
			< S. 0:0(0) ack 1 win 65535 <mss 1460,TS val 7000 ecr 100,nop,wscale 7>
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000>
			write 100
			> P. 1:101(100) ack 1
			+200ms > P. 1:101(100) ack 1 <nop,nop,TS val 300 ecr 7000>
			+400ms > P. 1:101(100) ack 1 <nop,nop,TS val 700 ecr 7000>
			< . 1:1(0) ack 101 <nop,nop,TS val 7100 ecr 700>
			write 100
			> P. 101:201(100) ack 1
			+200ms > P. 101:201(100) ack 1
		`,
		"gives up after R2": `config retries=3` + opened + `
			write 100
			> P. 1:101(100) ack 1
			+200ms > P. 1:101(100) ack 1
			+400ms > P. 1:101(100) ack 1
			+800ms > P. 1:101(100) ack 1
			+1600ms
			state CLOSED
			err ETIMEDOUT
			read 1 = ETIMEDOUT
		`,
		"gives up with the soft error": `config retries=1` + opened + `
			write 100
			> P. 1:101(100) ack 1
			soft
			+200ms > P. 1:101(100) ack 1
			+400ms
			err EHOSTUNREACH
		`,
		"a SYN sent twice leaves a time-out of 3 s": `
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460>
			> . 1:1(0) ack 1
			write 100
			> P. 1:101(100) ack 1
			+3s > P. 1:101(100) ack 1
		`,
		"partial ACK of a segment": opened + `
			write 100
			> P. 1:101(100) ack 1
			< . 1:1(0) ack 51
			+200ms > P. 51:101(50) ack 1
			< . 1:1(0) ack 101
			+10s
		`,
		"after a time-out the rest goes again as ACKs come": opened + `
			write 4380
		` + expectRun(">", ".", 1, 1460, 2, "ack 1") + `
			> P. 2921:4381(1460) ack 1
			+200ms > . 1:1461(1460) ack 1
			< . 1:1(0) ack 1461
			> . 1461:2921(1460) ack 1
			> P. 2921:4381(1460) ack 1
			< . 1:1(0) ack 4381
			+10s
		`,
		"an ACK of the original ends the repetition": opened + `
			write 4380
		` + expectRun(">", ".", 1, 1460, 2, "ack 1") + `
			> P. 2921:4381(1460) ack 1
			+200ms > . 1:1461(1460) ack 1
			< . 1:1(0) ack 4381
			+10s
		`,
		"fast retransmit on the third duplicate": opened + `
			write 14600
		` + expectRun(">", ".", 1, 1460, 9, "ack 1") + `
			> P. 13141:14601(1460) ack 1
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 1461
			> . 1461:2921(1460) ack 1
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 14601
			+10s
		`,
		"partial ACK sends the next hole at once": opened + `
			write 14600
		` + expectRun(">", ".", 1, 1460, 9, "ack 1") + `
			> P. 13141:14601(1460) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			> . 1:1461(1460) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			+10ms
			< . 1:1(0) ack 5841
			> . 5841:7301(1460) ack 1
			< . 1:1(0) ack 8761
			> . 8761:10221(1460) ack 1
			< . 1:1(0) ack 14601
			+10s
		`,
		"limited transmit": opened + `
			write 17520
		` + expectRun(">", ".", 1, 1460, 10, "ack 1") + `
			< . 1:1(0) ack 1
			> . 14601:16061(1460) ack 1
			< . 1:1(0) ack 1
			> P. 16061:17521(1460) ack 1
			< . 1:1(0) ack 1
			> . 1:1461(1460) ack 1
		`,
		"what is not a duplicate ACK": opened + `
			write 2920
			> . 1:1461(1460) ack 1
			> P. 1461:2921(1460) ack 1
			< . 1:1(0) ack 1 win 65000 // the window differs
			< . 1:1(0) ack 1 win 65001
			< . 1:1(0) ack 1 win 65002
			< P. 1:2(1) ack 1 win 65002 // text
			> . 2921:2921(0) ack 2
			< P. 2:3(1) ack 1 win 65002
			> . 2921:2921(0) ack 3
			< P. 3:4(1) ack 1 win 65002
			> . 2921:2921(0) ack 4
		`,
		"duplicates with nothing in flight": opened + `
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
			< . 1:1(0) ack 1
		`,
		"ACK below the window of RFC 5961": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 1000 <mss 1460>
			> . 1:1(0) ack 1
			< . 1:1(0) ack -2000 win 1000
			drop old-ack
			> . 1:1(0) ack 1
		`,
		"super-frames out": `
			config limit=65535
		` + opened + `
			write 20000
			> P. 1:7301(7300) ack 1 // half of the window
			> P. 7301:14601(7300) ack 1
			< . 1:1(0) ack 14601
			> P. 14601:20001(5400) ack 1
		`,
		"path MTU shrinks": opened + `
			write 2920
			> . 1:1461(1460) ack 1
			> P. 1461:2921(1460) ack 1
			mtu 1000 at 5000 // not in flight: forged
			mtu 1000 at 1461
			> . 1:961(960) ack 1
			> . 961:1921(960) ack 1
			> . 1921:2881(960) ack 1
			> P. 2881:2921(40) ack 1
			< . 1:1(0) ack 2921
			mtu 100 at 2921 // nothing in flight
		`,
		"path MTU has a floor": opened + `
			write 1460
			> P. 1:1461(1460) ack 1
			mtu 68 at 1
			> . 1:513(512) ack 1
			> . 513:1025(512) ack 1
			> P. 1025:1461(436) ack 1
		`,
		"numbers cross 2^32": `config iss=4294967200 peer=4294967290` + opened + `
			write 5000
			> . 1:1461(1460) ack 1
			> . 1461:2921(1460) ack 1
			> . 2921:4381(1460) ack 1
			> P. 4381:5001(620) ack 1
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 1461
			< . 1:1(0) ack 1461
			> . 1461:2921(1460) ack 1
			< . 1:1(0) ack 5001
			< P. 1:1001(1000) ack 5001
			> . 5001:5001(0) ack 1001
			read 1000
		`,
	})
}

func TestDelayedAck(t *testing.T) {
	// after the quick ACKs of the start
	quick := opened
	for i := range 16 {
		quick += line("<", "P.", 1+i*10, 10, "ack 1") + "> . 1:1(0) ack " + strconv.Itoa(11+i*10) + "\n"
	}
	scripts(t, map[string]string{
		"single segment after 40 ms": quick + `
			< P. 161:171(10) ack 1
			+40ms > . 1:1(0) ack 171
		`,
		"more than a full segment at once": quick + `
			< P. 161:171(10) ack 1
			< . 171:1631(1460) ack 1
			> . 1:1(0) ack 1631
			< . 1631:3091(1460) ack 1
			< . 3091:4551(1460) ack 1
			> . 1:1(0) ack 4551
		`,
		"a merged segment counts as many": quick + `
			< . 161:14761(14600) ack 1 segs 10
			> . 1:1(0) ack 14761
		`,
		"rides on text": quick + `
			< P. 161:171(10) ack 1
			+5ms
			write 10
			> P. 1:11(10) ack 171
			+40ms
			< P. 171:181(10) ack 11
			+40ms > . 11:11(0) ack 181
		`,
		"quick again after a pause": quick + `
			+2s
			< P. 161:171(10) ack 1
			> . 1:1(0) ack 171
		`,
		"FIN at once": quick + `
			< F. 161:161(0) ack 1
			> . 1:1(0) ack 162
		`,
		"a conversation does not need quick ACKs": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			write 10
			> P. 1:11(10) ack 11
			< P. 11:21(10) ack 11
			+1ms
			write 10
			> P. 11:21(10) ack 21
		`,
	})
}

func TestReassembly(t *testing.T) {
	var ones strings.Builder
	for i := range 400 { // a segment of one byte after each hole
		ones.WriteString(line("<", ".", 2+2*i, 1, "ack 1"))
		ones.WriteString("> . 1:1(0) ack 1\n")
	}
	scripts(t, map[string]string{
		"out of order, with blocks": openedAll + `
			< . 101:201(100) ack 1 <nop,nop,TS val 7001 ecr 100>
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000,nop,nop,sack 101:201>
			< . 301:401(100) ack 1 <nop,nop,TS val 7001 ecr 100>
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000,nop,nop,sack 301:401 101:201>
			< . 1:101(100) ack 1 <nop,nop,TS val 7001 ecr 100>
			> . 1:1(0) ack 201 <nop,nop,TS val 100 ecr 7001,nop,nop,sack 301:401>
			< . 201:301(100) ack 1 <nop,nop,TS val 7002 ecr 100>
			> . 1:1(0) ack 401 <nop,nop,TS val 100 ecr 7002>
			read 400
		`,
		"without SACK just duplicates": opened + `
			< . 101:201(100) ack 1
			> . 1:1(0) ack 1 <>
			< . 201:301(100) ack 1
			> . 1:1(0) ack 1 <>
			< . 1:101(100) ack 1
			> . 1:1(0) ack 301
			read 300
		`,
		"overlaps on both sides": opened + `
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101
			< . 51:151(100) ack 1
			> . 1:1(0) ack 151
			< . 161:201(40) ack 1
			> . 1:1(0) ack 151
			< . 121:301(180) ack 1
			> . 1:1(0) ack 301
			read 300
		`,
		"right edge cuts": `
			config rcvbuf=1000
		` + opened + `
			< FP. 1:1201(1200) ack 1
			state ESTABLISHED
			> . 1:1(0) ack 1001 win 0
			read 2000 = 1000
			> . 1:1(0) ack 1001 win 1000
		`,
		"old segment is acknowledged again": opened + `
			< P. 1:101(100) ack 1
			> . 1:1(0) ack 101
			< P. 1:101(100) ack 1
			drop out-of-window
			> . 1:1(0) ack 101
		`,
		"keep-alive probe with an octet": opened + `
			< P. 1:101(100) ack 1
			> . 1:1(0) ack 101
			< . 100:101(1) ack 1
			> . 1:1(0) ack 101
		`,
		"400 segments of one byte": opened + ones.String() + `
			< . 1:1001(1000) ack 1
			> . 1:1(0) ack 1001
			read 1000
		`,
		"across 2^32": `config peer=4294967290` + opened + `
			< . 4:104(100) ack 1
			> . 1:1(0) ack 1
			< . 1:4(3) ack 1
			> . 1:1(0) ack 104
			read 200 = 103
		`,
	})
}

func TestPAWS(t *testing.T) {
	scripts(t, map[string]string{
		"older timestamp is an old duplicate": openedAll + `
			< P. 1:11(10) ack 1 <nop,nop,TS val 6998 ecr 100>
			drop paws
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000>
			< P. 1:11(10) ack 1 <nop,nop,TS val 7000 ecr 100>
			drop none
			> . 1:1(0) ack 11
		`,
		"RST is exempt": openedAll + `
			< R. 1:1(0) ack 1 <nop,nop,TS val 1 ecr 100>
			state CLOSED
		`,
		"out of order text does not move ts_recent": openedAll + `
			< P. 11:21(10) ack 1 <nop,nop,TS val 7005 ecr 100>
			> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000,nop,nop,sack 11:21>
			< P. 1:11(10) ack 1 <nop,nop,TS val 7004 ecr 100>
			> . 1:1(0) ack 21 <nop,nop,TS val 100 ecr 7004>
		`,
		"after 24 days the memory is void": openedAll + `
			+580h
			< P. 1:11(10) ack 1 <nop,nop,TS val 1 ecr 100>
			drop none
			> . 1:1(0) ack 11
		`,
		"segments without timestamps are taken": openedAll + `
			< P. 1:11(10) ack 1
			drop none
			> . 1:1(0) ack 11
		`,
		"timestamp wraps": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 4294967290 ecr 100>
			> . 1:1(0) ack 1
			< P. 1:11(10) ack 1 <nop,nop,TS val 5 ecr 100>
			drop none
			> . 1:1(0) ack 11 <nop,nop,TS val 100 ecr 5>
		`,
	})
}
