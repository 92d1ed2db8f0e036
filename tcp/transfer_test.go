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
			> . 1:14601(14600) ack 1
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

func TestWindow(t *testing.T) {
	// peer's window of 3000 with an MSS of 1000.
	const small = `
		connect
		> S 0:0(0)
		< S. 0:0(0) ack 1 win 3000 <mss 1000>
		> . 1:1(0) ack 1
	`
	scripts(t, map[string]string{
		"zero window is probed for ever while the peer answers": small + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 3001 win 0
			+200ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 0
			+400ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 0
			+800ms > . 3000:3000(0) ack 1
			+1600ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 3000
			> . 3001:4001(1000) ack 1
			> P. 4001:5001(1000) ack 1
		`,
		"answered probes do not count against the connection": `config retries=2` + small + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 3001 win 0
			+200ms > . 3000:3000(0) ack 1
			+400ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 0
			+800ms > . 3000:3000(0) ack 1
			+1600ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 0
			state ESTABLISHED
		`,
		"silence while probing ends the connection": `config retries=2` + small + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 3001 win 0
			+200ms > . 3000:3000(0) ack 1
			+400ms > . 3000:3000(0) ack 1
			+800ms
			state CLOSED
			err ETIMEDOUT
		`,
		"window shrinks below what is in flight": small + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 1001 win 500
			+200ms > . 1001:2001(1000) ack 1
			< P. 1:1001(1000) ack 1001 win 0
			> . 1001:1001(0) ack 1001 // a number the peer will accept
			+400ms > . 1001:2001(1000) ack 1001
			< . 1001:1001(0) ack 3001 win 2000
			> . 3001:4001(1000) ack 1001
			> P. 4001:5001(1000) ack 1001
		`,
		"zero window with something in flight does not end the connection": `config retries=2` + small + `
			write 1000
			> P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1 win 0
			+200ms > P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1 win 0
			+400ms > P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1 win 0
			+800ms > P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1 win 0
			+1600ms > P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1001 win 0
			state ESTABLISHED
		`,
		"sender's silly window avoidance": small + `
			write 5000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 2001 win 1500 // 500 usable: wait
			< . 1:1(0) ack 3001 win 999
			+200ms > P. 3001:4000(999) ack 1 // the timer overrides
			< . 1:1(0) ack 4000 win 1501
			> . 4000:5000(1000) ack 1
			> P. 5000:5001(1) ack 1
		`,
		"half the largest window is no silly window": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 600 <mss 1000>
			> . 1:1(0) ack 1
			write 1000
			> . 1:601(600) ack 1
			< . 1:1(0) ack 601 win 300
			> . 601:901(300) ack 1
		`,
		"old segments do not move the window": opened + `
			< . 1:1(0) ack 1 win 2000
			window 2000
			< P. 101:111(10) ack 1 win 3000
			> . 1:1(0) ack 1
			window 3000
			< . 1:1(0) ack 1 win 4000 // older than the last: no
			window 3000
		`,
		"closing window is filled exactly; a probe's octet is not taken": `
			config rcvbuf=3000
		` + opened + `
			< . 1:1461(1460) ack 1
			> . 1:1(0) ack 1461 win 1540
			< . 1461:2921(1460) ack 1
			> . 1:1(0) ack 2921 win 80
			< . 2921:3001(80) ack 1
			> . 1:1(0) ack 3001 win 0
			< . 3001:3002(1) ack 1
			drop out-of-window
			> . 1:1(0) ack 3001 win 0
			< . 3000:3000(0) ack 1
			> . 1:1(0) ack 3001 win 0
			read 1000 // less than a segment or half the buffer: not told
			read 500
			> . 1:1(0) ack 3001 win 1500
			read 1500
			> . 1:1(0) ack 3001 win 3000
		`,
		"ACK in a segment beyond a closed window counts": `
			config rcvbuf=1000
		` + opened + `
			write 100
			> P. 1:101(100) ack 1
			< . 1:1001(1000) ack 1
			> . 101:101(0) ack 1001 win 0
			< . 1001:1002(1) ack 101
			> . 101:101(0) ack 1001 win 0
			+10s
		`,
		"lone FIN into a closed window": `
			config rcvbuf=1000
		` + opened + `
			< . 1:1001(1000) ack 1
			> . 1:1(0) ack 1001 win 0
			< F. 1001:1001(0) ack 1
			> . 1:1(0) ack 1002
			state CLOSE-WAIT
		`,
		"pure ACK at the right edge": `
			config rcvbuf=1000
		` + opened + `
			write 100
			> P. 1:101(100) ack 1
			< . 1001:1001(0) ack 101 // what the peer sent before it was lost
			drop none
			+10s
		`,
		"FIN waits for a window": small + `
			write 3000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> P. 2001:3001(1000) ack 1
			< . 1:1(0) ack 3001 win 0
			close
			+200ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 1
			> F. 3001:3001(0) ack 1
		`,
		"writer is told of room": `
			config sndbuf=3000
		` + opened + `
			write 5000 = 3000
			> . 1:1461(1460) ack 1
			> . 1461:2921(1460) ack 1
			> P. 2921:3001(80) ack 1
			write 1 = EAGAIN
			< . 1:1(0) ack 3001
			write 100
			> P. 3001:3101(100) ack 1
		`,
	})
}

func TestNagle(t *testing.T) {
	scripts(t, map[string]string{
		"small segments wait for the ACK of a small one": opened + `
			write 10
			> P. 1:11(10) ack 1
			write 10
			write 10
			< . 1:1(0) ack 11
			> P. 11:31(20) ack 1
		`,
		"off": opened + `
			nodelay
			write 10
			> P. 1:11(10) ack 1
			write 10
			> P. 11:21(10) ack 1
		`,
		"turned off with something waiting": opened + `
			write 10
			> P. 1:11(10) ack 1
			write 10
			nodelay
			> P. 11:21(10) ack 1
		`,
		"full segments go; Minshall lets one small one follow": opened + `
			write 1470
			> . 1:1461(1460) ack 1
			> P. 1461:1471(10) ack 1
			write 1470
			> . 1471:2931(1460) ack 1
			< . 1:1(0) ack 1471
			> P. 2931:2941(10) ack 1
		`,
	})
}

func TestDelayedAck(t *testing.T) {
	// after the quick ACKs of the start
	quick := opened
	for i := range 15 {
		quick += line("<", "P.", 1+i*10, 10, "ack 1") + "> . 1:1(0) ack " + strconv.Itoa(11+i*10) + "\n"
	}
	scripts(t, map[string]string{
		"single segment after 40 ms": quick + `
			< P. 151:161(10) ack 1
			+40ms > . 1:1(0) ack 161
		`,
		"more than a full segment at once": quick + `
			< P. 151:161(10) ack 1
			< . 161:1621(1460) ack 1
			> . 1:1(0) ack 1621
			< . 1621:3081(1460) ack 1
			< . 3081:4541(1460) ack 1
			> . 1:1(0) ack 4541
		`,
		"a merged segment counts as many": quick + `
			< . 151:14751(14600) ack 1 segs 10
			> . 1:1(0) ack 14751
		`,
		"rides on text": quick + `
			< P. 151:161(10) ack 1
			+5ms
			write 10
			> P. 1:11(10) ack 161
			+40ms
			< P. 161:171(10) ack 11
			+40ms > . 11:11(0) ack 171
		`,
		"quick again after a pause": quick + `
			+2s
			< P. 151:161(10) ack 1
			> . 1:1(0) ack 161
		`,
		"FIN at once": quick + `
			< F. 151:151(0) ack 1
			> . 1:1(0) ack 152
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
			< P. 1:11(10) ack 1 <nop,nop,TS val 6999 ecr 100>
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
