package tcp

import "testing"

func TestUrgentOut(t *testing.T) {
	scripts(t, map[string]string{
		"the pointer points after the byte": opened + `
			urge 1
			> PU. 1:2(1) ack 1 urg 1
			< . 1:1(0) ack 2
			write 1
			> P. 2:3(1) ack 1
		`,
		"at the end of more": opened + `
			urge 10
			> PU. 1:11(10) ack 1 urg 10
		`,
		"Nagle does not hold it": opened + `
			write 10
			> P. 1:11(10) ack 1
			write 10
			urge 1
			> PU. 11:22(11) ack 1 urg 11
			< . 1:1(0) ack 11
		`,
		"all that is before the mark carries it, in segments of its own": `
			config limit=65535
		` + opened + `
			write 3000
			> P. 1:3001(3000) ack 1
			urge 4000
			> U. 3001:4461(1460) ack 1 urg 4000
			> U. 4461:5921(1460) ack 1 urg 2540
			> PU. 5921:7001(1080) ack 1 urg 1080
			write 1460
			> P. 7001:8461(1460) ack 1 // beyond the mark
			< . 1:1(0) ack 8461
			write 2920
			> P. 8461:11381(2920) ack 1 // super-frames again
		`,
		"so does what is sent again, and an empty segment": opened + `
			urge 10
			> PU. 1:11(10) ack 1 urg 10
			< P. 1:11(10) ack 1
			> . 11:11(0) ack 11 // this number is beyond the mark
			+200ms > PU. 1:11(10) ack 11 urg 10
			< . 11:11(0) ack 11
			write 10
			> P. 11:21(10) ack 11
		`,
		"a second mark replaces the first": opened + `
			urge 1
			> PU. 1:2(1) ack 1 urg 1
			urge 1
			> PU. 2:3(1) ack 1 urg 1
			+200ms > PU. 1:3(2) ack 1 urg 2
		`,
		"farther than 16 bits reach": opened + `
			write 14600
		` + expectRun(">", ".", 1, 1460, 9, "ack 1") + `
			> P. 13141:14601(1460) ack 1
			write 69000
			urge 1
			< . 1:1(0) ack 2921
			> U. 14601:16061(1460) ack 1 urg 65535
			> U. 16061:17521(1460) ack 1 urg 65535
			> U. 17521:18981(1460) ack 1 urg 65535
			> U. 18981:20441(1460) ack 1 urg 64621
		`,
		"told through a closed window": opened + `
			< . 1:1(0) ack 1 win 0
			urge 5
			+200ms
			> U. 1:1(0) ack 1 urg 5
			> U. 0:0(0) ack 1 urg 6
			+400ms
			> U. 1:1(0) ack 1 urg 5
			> U. 0:0(0) ack 1 urg 6
			< . 1:1(0) ack 1 win 3
			+800ms > PU. 1:4(3) ack 1 urg 5
			< . 1:1(0) ack 4 win 100
			> PU. 4:6(2) ack 1 urg 2
		`,
		"a reset carries none": opened + `
			urge 1
			> PU. 1:2(1) ack 1 urg 1
			abort
			> R. 2:2(0) ack 1
		`,
		"numbers wrap": `
			config iss=-5
		` + opened + `
			urge 10
			> PU. 1:11(10) ack 1 urg 10
			+200ms > PU. 1:11(10) ack 1 urg 10
			< . 1:1(0) ack 11
			write 1
			> P. 11:12(1) ack 1
		`,
	})
}

func TestUrgentIn(t *testing.T) {
	scripts(t, map[string]string{
		"the byte is taken out of the stream": opened + `
			oob = EINVAL
			mark no
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			urgent yes
			info UrgentIn 1
			mark no
			oobpeek
			oob
			urgent no
			oob = EINVAL // once
			read 100 = 4
			mark yes
			inq 5
			read 100 = 5
			mark no
			oob = EINVAL
		`,
		"not read out of line it is lost": opened + `
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			read 4
			read 1
			urgent no
			oob = EINVAL
			read 4
			read 1 = EAGAIN
		`,
		"inline it stays, and reads stop before it": opened + `
			knob inline 1
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			urgent yes
			oob = EINVAL
			read 100 = 4
			mark yes
			inq 6
			read 100 = 6
			mark no
			urgent no
		`,
		"the byte alone does not make the stream readable": opened + `
			< PU. 1:2(1) ack 1 urg 1
			> . 1:1(0) ack 2
			mark yes
			inq 0
			urgent yes
			oob
			read 10 = EAGAIN // passes the mark
			mark no
			< P. 2:3(1) ack 1
			> . 1:1(0) ack 3
			read 10 = 1
		`,
		"and the end of the stream is seen behind it": opened + `
			< FPU. 1:2(1) ack 1 urg 1
			> . 1:1(0) ack 3
			mark yes
			oob
			read 10 = EOF
		`,
		"peek respects the mark": opened + `
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			peek 100 = 4
			read 4
			peek 100 = 5
			mark yes
			urgent yes
			read 100 = 5
		`,
		"one call does not read across the mark": opened + `
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			read 2
			readmore 100 = 2
			readmore 100 = EOF
			read 100 = 5
		`,
		"announced before it comes": opened + `
			< U. 1:1(0) ack 1 urg 11
			urgent no
			mark no
			oob = EAGAIN
			< P. 1:6(5) ack 1
			> . 1:1(0) ack 6
			read 10 = 5
			oob = EAGAIN
			< P. 6:16(10) ack 1 // without the flag: lost, repeated, or past the mark
			> . 1:1(0) ack 16
			urgent yes
			oob
			read 100 = 5
			mark yes
			read 100 = 4
		`,
		"comes before what precedes it": opened + `
			< PU. 11:21(10) ack 1 urg 10
			> . 1:1(0) ack 1
			urgent yes
			oob
			< . 1:11(10) ack 1
			> . 1:1(0) ack 21
			read 100 = 19
			mark yes
		`,
		"a mark beyond what the peer ever sends": opened + `
			< PU. 1:11(10) ack 1 urg 60000
			> . 1:1(0) ack 11
			oob = EAGAIN
			read 100 = 10
			< F. 11:11(0) ack 1
			> . 1:1(0) ack 12
			oob = EOF
			read 1 = EOF
		`,
		"the mark moves on; the byte at the old one is of the stream again": opened + `
			< PU. 1:6(5) ack 1 urg 5
			> . 1:1(0) ack 6
			< PU. 6:11(5) ack 1 urg 5
			> . 1:1(0) ack 11
			oob
			read 100 = 9
			mark yes
		`,
		"unless the reader stands at it": opened + `
			< PU. 1:6(5) ack 1 urg 5
			> . 1:1(0) ack 6
			read 4
			mark yes
			< PU. 6:11(5) ack 1 urg 5
			> . 1:1(0) ack 11
			mark no
			read 100 = 4
			mark yes
		`,
		"pointers to what has arrived, or before the mark, are nothing": opened + `
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			< U. 1:1(0) ack 1 urg 5
			drop out-of-window
			> . 1:1(0) ack 11
			< U. 11:11(0) ack 1 urg 20
			< U. 11:11(0) ack 1 urg 10
			oob = EAGAIN
			< . 11:41(30) ack 1
			> . 1:1(0) ack 41
			read 100 = 29
			mark yes
		`,
		"a pointer of zero means the segment's first number": opened + `
			< PU. 1:11(10) ack 1 urg 0
			> . 1:1(0) ack 11
			mark yes
			urgent yes
			read 100 = 9
		`,
		"a byte beyond the window is not taken": `
			config rcvbuf=1000
		` + opened + `
			< PU. 1:1101(1100) ack 1 urg 1050
			> . 1:1(0) ack 1001
			urgent no
			oob = EAGAIN
		`,
		"through a closed window": `
			config rcvbuf=1000
		` + opened + `
			< . 1:1001(1000) ack 1
			> . 1:1(0) ack 1001 win 0
			< U. 1001:1001(0) ack 1 urg 3
			oob = EAGAIN
			inq 1000
		`,
		"after the FIN it is ignored": opened + `
			< F. 1:1(0) ack 1
			> . 1:1(0) ack 2
			< U. 2:2(0) ack 1 urg 3
			oob = EINVAL
		`,
		"in FIN-WAIT-2": opened + `
			shutdown
			> F. 1:1(0) ack 1
			< PU. 1:3(2) ack 2 urg 2
			> . 2:2(0) ack 3
			state FIN-WAIT-2
			oob
			read 10 = 1
		`,
		"after a reset": opened + `
			< PU. 1:3(2) ack 1 urg 2
			> . 1:1(0) ack 3
			< R. 3:3(0) ack 1
			oob = ENOTCONN
			read 10 = 1
		`,
		"on a SYN it means nothing": `
			connect
			> S 0:0(0)
			< SU. 0:0(0) ack 1 win 65535 urg 5 <mss 1460>
			> . 1:1(0) ack 1
			oob = EINVAL
		`,
		"numbers wrap": `
			config peer=-3
		` + opened + `
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			oob
			read 100 = 4
			mark yes
			read 100 = 5
			< . 11:21(10) ack 1
			> . 1:1(0) ack 21
			read 100 = 10
		`,
		"switched to inline at the mark": opened + `
			< PU. 1:11(10) ack 1 urg 5
			> . 1:1(0) ack 11
			read 4
			knob inline 1
			inq 6
			read 100 = 6
		`,
	})
}
