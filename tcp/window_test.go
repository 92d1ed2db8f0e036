package tcp

import (
	"testing"
)

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
			> P. 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 3001 win 0
			+200ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 0
			+400ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 0
			+800ms > . 3000:3000(0) ack 1
			+1600ms > . 3000:3000(0) ack 1
			< . 1:1(0) ack 3001 win 3000
			> P. 3001:4001(1000) ack 1
			> P. 4001:5001(1000) ack 1
		`,
		"answered probes do not count against the connection": `config retries=2` + small + `
			write 5000
			> . 1:1001(1000) ack 1
			> P. 1001:2001(1000) ack 1
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
			> P. 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 3001 win 0
			+200ms > . 3000:3000(0) ack 1
			+400ms > . 3000:3000(0) ack 1
			+800ms
			state CLOSED
			err ETIMEDOUT
		`,
		"an answer puts the next probe off": small + `
			< . 1:1(0) ack 1 win 0
			write 100
			+200ms > . 0:0(0) ack 1
			+300ms
			< . 1:1(0) ack 1 win 0
			+400ms > . 0:0(0) ack 1 // not 100 ms
			+100ms
			< . 1:1(0) ack 1 win 0
			+800ms > . 0:0(0) ack 1
		`,
		"a window too small for a good segment is used by the timer, which then starts anew": small + `
			< . 1:1(0) ack 1 win 0
			write 2000
			+200ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 0
			+400ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 100
			+800ms > P. 1:101(100) ack 1
			< . 1:1(0) ack 101 win 100
			+200ms > P. 101:201(100) ack 1
			info Probes 2
		`,
		"window shrinks below what is in flight": small + `
			write 5000
			> . 1:1001(1000) ack 1
			> P. 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			< . 1:1(0) ack 1001 win 500
			+200ms > . 1001:2001(1000) ack 1
			< P. 1:1001(1000) ack 1001 win 0
			> . 1001:1001(0) ack 1001 // a number the peer will accept
			+400ms > . 1001:2001(1000) ack 1001
			< . 1001:1001(0) ack 3001 win 2000
			> P. 3001:4001(1000) ack 1001
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
			> P. 1001:2001(1000) ack 1
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
			> . 1:301(300) ack 1
			> . 301:601(300) ack 1
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
			+40ms > . 1:1(0) ack 2921 win 80
			< . 2921:3001(80) ack 1
			+40ms > . 1:1(0) ack 3001 win 0
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
			> P. 1001:2001(1000) ack 1
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
