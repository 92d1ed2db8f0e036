package tcp

import "testing"

// TestLowat is TCP_NOTSENT_LOWAT and SO_RCVLOWAT.
func TestLowat(t *testing.T) {
	// a peer whose window is 32 segments, so that 16 of them are a super-frame
	const wide = `
		config limit=65535
		connect
		> S 0:0(0)
		< S. 0:0(0) ack 1 win 32792 <mss 1000>
		> . 1:1(0) ack 1
	`
	scripts(t, map[string]string{
		"the writer is stopped by what is unsent, in super-frames": wide + `
			knob notsent 4000
			write 59000 = 16000
			> P. 1:5001(5000) ack 1
			> P. 5001:10001(5000) ack 1
			writable no
			write 43000 = 10000 // to the end of the super-frame
			write 33000 = EAGAIN
			writable no
			< . 1:1(0) ack 2001 win 32792
			> P. 10001:14001(4000) ack 1
			freed no
			< . 1:1(0) ack 4001 win 32792
			> P. 14001:18001(4000) ack 1
			freed no
			< . 1:1(0) ack 6001 win 32792
			> P. 18001:22001(4000) ack 1
			freed no
			< . 1:1(0) ack 8001 win 32792
			> P. 22001:26001(4000) ack 1
			freed yes
			freed no // once
			writable yes
		`,
		"several super-frames below a high mark": wide + `
			knob notsent 40000
			write 100000 = 48000
			> P. 1:5001(5000) ack 1
			> P. 5001:10001(5000) ack 1
			write 52000 = 10000 // 38000 to 48000
			write 42000 = EAGAIN
			< . 1:1(0) ack 10001 win 32792
			> P. 10001:20001(10000) ack 1
			> P. 20001:30001(10000) ack 1
			freed no // 28000 unsent
			< . 1:1(0) ack 30001 win 32792
			> P. 30001:46001(16000) ack 1
			> P. 46001:58001(12000) ack 1
			freed yes
		`,
		"a mark of one byte": wide + `
			knob notsent 1
			write 10
			> P. 1:11(10) ack 1
			write 10
			writable no
			< . 1:1(0) ack 11
			> P. 11:21(10) ack 1
			freed yes
		`,
		"a small send buffer counts all the same": `
			config sndbuf=5000
		` + opened + `
			knob notsent 100000
			write 9000 = 5000
			> . 1:1461(1460) ack 1
			> . 1461:2921(1460) ack 1
			> . 2921:4381(1460) ack 1
			> P. 4381:5001(620) ack 1
			write 1 = EAGAIN
			freed no
		`,
		"no mark": opened + `
			write 100
			> P. 1:101(100) ack 1
			writable yes
			freed no
		`,
		"the reader's mark": opened + `
			knob rcvlowat 20
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			readable no
			inq 10
			< P. 11:21(10) ack 1
			> . 1:1(0) ack 21
			readable yes
			read 1
			readable no
			read 100 = 19 // a mark does not stop who reads
		`,
		"a window that has closed makes readable what there is": `
			config rcvbuf=1000
		` + opened + `
			knob rcvlowat 1001
			< . 1:101(100) ack 1
			> . 1:1(0) ack 101
			readable no
			< . 101:601(500) ack 1
			> . 1:1(0) ack 601 win 400
			readable yes
			read 700 = 600
			> . 1:1(0) ack 601 win 1000
			readable no
		`,
		"the urgent byte out of line does not count": opened + `
			knob rcvlowat 5
			< PU. 1:6(5) ack 1 urg 1
			> . 1:1(0) ack 6
			readable no
			< P. 6:7(1) ack 1
			> . 1:1(0) ack 7
			readable yes
		`,
	})
}
