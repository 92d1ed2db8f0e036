package tcp

import "testing"

// TestCork is TCP_CORK and MSG_MORE, which hold the tail back, and what lets it
// go.
func TestCork(t *testing.T) {
	scripts(t, map[string]string{
		"nothing small goes until the cork is out": opened + `
			knob cork 1
			write 40
			+50ms write 40
			+10ms knob cork 0
			> P. 1:81(80) ack 1
		`,
		"full segments go": opened + `
			knob cork 1
			write 2000
			> . 1:1461(1460) ack 1
			< . 1:1(0) ack 1461
			knob cork 0
			> P. 1461:2001(540) ack 1
		`,
		"no longer than one RTO, 200 ms at least": opened + `
			knob cork 1
			write 40
			+200ms > P. 1:41(40) ack 1
			< . 1:1(0) ack 41
			write 40
			+200ms > P. 41:81(40) ack 1
			info Probes 0
		`,
		"from when nothing is in flight any more": opened + `
			knob cork 1
			write 1500
			> . 1:1461(1460) ack 1
			< . 1:1(0) ack 1461
			+200ms > P. 1461:1501(40) ack 1
		`,
		"NODELAY lets what is there go, the cork holds on": opened + `
			knob cork 1
			write 40
			write 40
			knob nodelay 1
			> P. 1:81(80) ack 1
			< . 1:1(0) ack 81
			write 40
			+200ms > P. 81:121(40) ack 1
			< . 1:1(0) ack 121
			write 40
			knob nodelay 1 // again
			> P. 121:161(40) ack 1
		`,
		"the cork out, Nagle decides": opened + `
			write 10
			> P. 1:11(10) ack 1
			knob cork 1
			write 10
			knob cork 0
			< . 1:1(0) ack 11
			> P. 11:21(10) ack 1
		`,
		"the cork out with NODELAY": opened + `
			knob nodelay 1
			write 10
			> P. 1:11(10) ack 1
			knob cork 1
			write 10
			knob cork 0
			> P. 11:21(10) ack 1
		`,
		"the FIN takes it along": opened + `
			knob cork 1
			write 10
			shutdown
			> FP. 1:11(10) ack 1
		`,
		"urgent data does not wait": opened + `
			knob cork 1
			write 10
			urge 1
			> PU. 1:12(11) ack 1 urg 11
		`,
		"MSG_MORE holds in spite of NODELAY": opened + `
			knob nodelay 1
			more 40
			+200ms > P. 1:41(40) ack 1
		`,
		"until a write without it": opened + `
			more 100
			+5ms more 160
			+10ms more 495
			+8ms write 5
			> P. 1:761(760) ack 1
		`,
		"full segments go without PSH, the rest with the next ACK": opened + `
			more 3100
			> . 1:1461(1460) ack 1
			> . 1461:2921(1460) ack 1
			+3ms more 50
			+10ms
			< . 1:1(0) ack 2921
			> . 2921:3151(230) ack 1
			more 1
			more 2
			+20ms
			< . 1:1(0) ack 3151
			> . 3151:3154(3) ack 1
		`,
		"NODELAY lets it go": opened + `
			more 40
			knob nodelay 1
			> . 1:41(40) ack 1
		`,
		"a write that does not fit whole is not held": `
			config sndbuf=1000
		` + opened + `
			more 2000 = 1000
			> P. 1:1001(1000) ack 1
		`,
	})
}

// TestPush: which segments carry PSH.
func TestPush(t *testing.T) {
	scripts(t, map[string]string{
		"the end of each write that leaves at once": opened + `
			knob nodelay 1
			write 10
			> P. 1:11(10) ack 1
			write 1460
			> P. 11:1471(1460) ack 1
			write 2920
			> . 1471:2931(1460) ack 1
			> P. 2931:4391(1460) ack 1
		`,
		"writes that gather are pushed once": opened + `
			write 10
			> P. 1:11(10) ack 1
			write 700
			write 700
			write 700
			> . 11:1471(1460) ack 1
			< . 1:1(0) ack 1471
			> P. 1471:2111(640) ack 1
		`,
		"every second half of the window in a long write": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 8000 <mss 1000>
			> . 1:1(0) ack 1
			write 20000
		` + expectRun(">", ".", 1, 1000, 7, "ack 1") + `
			> P. 7001:8001(1000) ack 1 // whole halves: 4000 is not more than half
			< . 1:1(0) ack 8001 win 8000
		` + expectRun(">", ".", 8001, 1000, 7, "ack 1") + `
			> P. 15001:16001(1000) ack 1
		`,
		"an ACK, a FIN and a probe have none": opened + `
			< . 1:1(0) ack 1 win 0
			write 10
			+200ms > . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 100
			> P. 1:11(10) ack 1
			shutdown
			> F. 11:11(0) ack 1
		`,
		"what is sent again and ends the writing": opened + `
			write 1470
			> . 1:1461(1460) ack 1
			> P. 1461:1471(10) ack 1
			< . 1:1(0) ack 1461
			+200ms > P. 1461:1471(10) ack 1
		`,
	})
}
