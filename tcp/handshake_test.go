package tcp

import "testing"

// scripts runs a table of traces.
func scripts(t *testing.T, table map[string]string) {
	t.Helper()
	for name, s := range table {
		t.Run(name, func(t *testing.T) { run(t, s) })
	}
}

// Opening lines shared by many scripts.
const (
	// established by an active open without options but MSS.
	opened = `
		connect
		> S 0:0(0)
		< S. 0:0(0) ack 1 win 65535 <mss 1460>
		> . 1:1(0) ack 1
		state ESTABLISHED
`
	// the same with every option.
	openedAll = `
		connect
		> S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0>
		< S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 7000 ecr 100,nop,wscale 7>
		> . 1:1(0) ack 1 <nop,nop,TS val 100 ecr 7000>
`
	// by a passive open.
	accepted = `
		listen
		< S 0:0(0) win 65535 <mss 1460>
		> S. 0:0(0) ack 1 win 65535 <mss 1460>
		< . 1:1(0) ack 1
		state ESTABLISHED
`
)

func TestOpen(t *testing.T) {
	scripts(t, map[string]string{
		"active": opened, "active with options": openedAll, "passive": accepted,
		"passive with options": `
			config rcvbuf=8388608
			listen
			< S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
			> S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 100 ecr 100,nop,wscale 8>
			< . 1:1(0) ack 1 win 1000 <nop,nop,TS val 100 ecr 100>
			window 128000
			write 1
			> P. 1:2(1) ack 1 win 32768 <nop,nop,TS val 100 ecr 100>
		`,
		"options not offered are not answered": `
			listen
			< S 0:0(0) win 65535 <mss 1460,sackOK>
			> S. 0:0(0) ack 1 <mss 1460,sackOK>
		`,
		"peer without MSS": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <>
			> . 1:1(0) ack 1
			write 1000
			> . 1:537(536) ack 1
			> P. 537:1001(464) ack 1
		`,
		"tiny MSS has a floor": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 65535 <mss 1>
			> . 1:1(0) ack 1
			nodelay
			write 50
			> . 1:49(48) ack 1
			> P. 49:51(2) ack 1
		`,
		"figure 6: basic handshake": `
			config iss=99 peer=299
			connect
			> S 0:0(0)
			state SYN-SENT
			< S. 0:0(0) ack 1
			> . 1:1(0) ack 1
			write 10
			> P. 1:11(10) ack 1
		`,
		"figure 7: simultaneous open": `
			connect
			> S 0:0(0)
			< S 0:0(0) win 1000 <mss 1000>
			state SYN-RECEIVED
			> S. 0:0(0) ack 1 <mss 1460>
			< S. 0:0(0) ack 1 win 1000 <mss 1000>
			state ESTABLISHED
			write 10
			> P. 1:11(10) ack 1
		`,
		"simultaneous open, peer's SYN-ACK lost": `
			connect
			> S 0:0(0)
			< S 0:0(0) win 1000 <mss 1000>
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			state ESTABLISHED
		`,
		"simultaneous open, our SYN-ACK lost": `
			connect
			> S 0:0(0)
			< S 0:0(0)
			> S. 0:0(0) ack 1
			+1s > S. 0:0(0) ack 1
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< S. 0:0(0) ack 1
			state ESTABLISHED
		`,
		"simultaneous open, closed before it is finished": `
			connect
			> S 0:0(0)
			< S 0:0(0)
			> S. 0:0(0) ack 1
			shutdown
			state SYN-RECEIVED
			< . 1:1(0) ack 1
			state FIN-WAIT-1
			> F. 1:1(0) ack 1
		`,
		"figure 8: old duplicate SYN": `
			// our side is TCP peer B: the old SYN, the reset it draws, the new SYN
			listen
			< S 90:90(0)
			> S. 0:0(0) ack 91
			< R 91:91(0)
			state LISTEN
			< S 100:100(0)
			> S. 0:0(0) ack 101
			< . 101:101(0) ack 1
			state ESTABLISHED
		`,
		"figure 8: the answer to an old duplicate": `
			// our side is TCP peer A
			config iss=1000
			connect
			> S 0:0(0)
			< S. 300:300(0) ack -9
			drop bad-ack
			> R -9:-9(0)
			state SYN-SENT
			< S. 400:400(0) ack 1
			> . 1:1(0) ack 401
			state ESTABLISHED
		`,
		"figure 9: half-open connection discovered by the crashed side": `
			// we are B, still established; A restarted and sends a SYN
			listen
			< S 100:100(0)
			> S. 0:0(0) ack 101
			< . 101:101(0) ack 1
			< S 400:400(0)
			drop syn-in-window
			> . 1:1(0) ack 101
			< R 101:101(0)
			state CLOSED
			err ECONNRESET
		`,
		"figure 9: the crashed side": `
			connect
			> S 0:0(0)
			< . 100:100(0) ack 70
			> R 70:70(0)
			state SYN-SENT
		`,
		"figure 10: active side finds the half-open connection": opened + `
			write 100
			> P. 1:101(100) ack 1
			< R 1:1(0)
			state CLOSED
			read 1 = ECONNRESET
			read 1 = EOF
		`,
		"figure 11: old duplicate SYN with two passive sockets": `
			listen
			< S 100:100(0)
			> S. 0:0(0) ack 101
			< R 101:101(0)
			state LISTEN
		`,
		"third ACK lost, followed by data": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			read 10
		`,
		"third ACK with FIN": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< FP. 1:11(10) ack 1
			state CLOSE-WAIT
			> . 1:1(0) ack 12
			read 10
			read 1 = EOF
		`,
		"SYN again": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< S 0:0(0)
			> S. 0:0(0) ack 1
			+100ms
			< S 0:0(0)
		`,
		"SYN-ACK retransmission gives up": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			+1s > S. 0:0(0) ack 1
			+2s > S. 0:0(0) ack 1
			+4s > S. 0:0(0) ack 1
			+8s > S. 0:0(0) ack 1
			+16s > S. 0:0(0) ack 1
			+32s
			state LISTEN
		`,
		"half-open: bad ACK is reset, record stays": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 5
			drop bad-ack
			> R 5:5(0)
			state SYN-RECEIVED
			< . 1:1(0) ack 1
			state ESTABLISHED
		`,
		"half-open: RST in window is challenged, outside ignored": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< R 100000:100000(0)
			drop out-of-window
			< R 100:100(0)
			drop rst-out-of-window
			> . 1:1(0) ack 1
			state SYN-RECEIVED
			< R 1:1(0)
			state LISTEN
		`,
		"half-open: no ACK is dropped": `
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< - 1:1(0)
			drop bad-flags
			< S 10:10(0)
			state LISTEN
		`,
		"SYN retransmission gives up": `
			connect
			> S 0:0(0)
			+1s > S 0:0(0)
			+2s > S 0:0(0)
			+4s > S 0:0(0)
			+8s > S 0:0(0)
			+16s > S 0:0(0)
			+32s > S 0:0(0)
			+64s
			state CLOSED
			err ETIMEDOUT
			write 1 = ETIMEDOUT
			write 1 = EPIPE
			read 1 = EOF
		`,
		"SYN retransmission, soft error": `
			connect
			> S 0:0(0)
			soft
			+1s > S 0:0(0)
			+2s > S 0:0(0)
			+4s > S 0:0(0)
			+8s > S 0:0(0)
			+16s > S 0:0(0)
			+32s > S 0:0(0)
			+64s
			err EHOSTUNREACH
		`,
		"refused": `
			connect
			> S 0:0(0)
			read 1 = EAGAIN
			write 1 = EAGAIN
			< R. 0:0(0) ack 1
			state CLOSED
			err ECONNREFUSED
			read 1 = ECONNREFUSED
			read 1 = EOF
			write 1 = EPIPE
		`,
		"RST without ACK, or with a bad one, does not refuse": `
			connect
			> S 0:0(0)
			< R 0:0(0)
			drop rst-out-of-window
			< R. 0:0(0) ack 7
			drop bad-ack
			state SYN-SENT
		`,
		"neither SYN nor RST in SYN-SENT": `
			connect
			> S 0:0(0)
			< . 0:0(0) ack 1
			drop bad-flags
			< F 0:0(0)
			state SYN-SENT
		`,
		"SYN-ACK with text and FIN": `
			connect
			> S 0:0(0)
			< SF. 0:10(10) ack 1
			state CLOSE-WAIT
			> . 1:1(0) ack 12
		`,
		"window of a SYN is not scaled": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 1000 <mss 1460,wscale 7>
			> . 1:1(0) ack 1
			window 1000
			< . 1:1(0) ack 1 win 1000
			window 128000
		`,
		"window scale above 14 counts as 14": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 1000 <mss 1460,wscale 15>
			> . 1:1(0) ack 1
			< . 1:1(0) ack 1 win 1
			window 16384
		`,
		"close in SYN-SENT": `
			connect
			> S 0:0(0)
			close
			state CLOSED
			< S. 0:0(0) ack 1
			drop no-connection
		`,
		"SYN with number 2^32-1": `
			config peer=4294967295 iss=4294967295
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< P. 1:6(5) ack 1
			> . 1:1(0) ack 6
			write 5
			> P. 1:6(5) ack 6
		`,
	})
}
