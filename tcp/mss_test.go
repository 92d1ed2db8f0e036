package tcp

import (
	"fmt"
	"testing"
)

// How large segments are: what the ends announce, the path, the options
// (RFC 9293 §3.7.1, RFC 6691, RFC 1191).
func TestSegmentSizes(t *testing.T) {
	for _, c := range []struct {
		name, config, synAck string
		want                 int
	}{
		{"the smaller of the two", "mss=1460", "<mss 1000>", 1000},
		{"ours", "mss=1400", "<mss 9000>", 1400},
		{"none named: 536", "mss=1460", "", 536},
		{"none named over IPv6: 1220", "mss=1440 ipheader=40", "", 1220},
		{"timestamps come off", "mss=1460", "<mss 1000,TS val 1 ecr 100>", 988},
		{"a peer that asks for next to nothing gets no less than 48 (Linux's tcp_min_snd_mss)", "mss=1460", "<mss 1>", 48},
		{"nor with timestamps, which come off", "mss=1460", "<mss 1,TS val 1 ecr 100>", 36},
		{"TCP_MAXSEG", "mss=1460 maxseg=700", "<mss 1460>", 700},
		{"TCP_MAXSEG is no request for more", "mss=1460 maxseg=9000", "<mss 1460>", 1460},
		{"half of the largest window", "mss=1460", "win 2000 <mss 1460>", 1000},
		{"but a window of one small segment is used whole", "mss=1460", "win 536 <mss 1460>", 536},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := run(t, fmt.Sprintf(`
				config %s
				connect
				> S 0:0(0)
				< S. 0:0(0) ack 1 %s
				> . 1:1(0) ack 1
			`, c.config, c.synAck))
			tr.step([]string{"write", "20000"})
			if got := tr.out[0].seg.PayloadLen(); got != c.want {
				t.Errorf("%d bytes, want %d", got, c.want)
			}
		})
	}
	// What we announce.
	run(t, `
		config mss=1460 maxseg=700
		connect
		> S 0:0(0) <mss 700,sackOK,TS val 100 ecr 0,nop,wscale 0>`)
	run(t, `
		config mss=1460 maxseg=700
		listen
		< S 0:0(0) <mss 1460>
		> S. 0:0(0) ack 1 <mss 700>`)
}

// The path becomes better, or worse, without a segment of ours having been
// too large: what is sent from now on follows it, and nothing else does.
func TestSetPathMTU(t *testing.T) {
	const open = `
		connect
		> S 0:0(0)
		+100ms
		< S. 0:0(0) win 65535 ack 1 <mss 1460,sackOK,nop,wscale 0>
		> . 1:1(0) ack 1
	`
	scripts(t, map[string]string{
		"up again after a router said less": open + `
			write 1460
			> P. 1:1461(1460) ack 1
			mtu 1000 at 1
			> . 1:961(960) ack 1
			> P. 961:1461(500) ack 1
			+100ms
			< . 1:1(0) ack 1461
			write 1460
			> . 1461:2421(960) ack 1
			> P. 2421:2921(500) ack 1
			+100ms
			< . 1:1(0) ack 2921
			pathmtu 1500
			info MSS 1460
			write 1460
			> P. 2921:4381(1460) ack 1`,
		"never more than the peer takes": open + `
			pathmtu 9000
			info MSS 1460`,
		"less, as somebody else was told": open + `
			write 2920
			> . 1:1461(1460) ack 1
			> P. 1461:2921(1460) ack 1
			pathmtu 1000
			info MSS 960
			write 960
			> P. 2921:3881(960) ack 1
			+100ms
			< . 1:1(0) ack 1 <sack 1461:2921>
			< . 1:1(0) ack 1 <sack 1461:3881>
			> . 1:961(960) ack 1`,
		"not below the floor": open + `
			pathmtu 100
			info MSS 512`,
		"the floor of IPv6": `config ipheader=40 mss=1440` + open + `
			pathmtu 1000
			info MSS 1220`,
		"before the handshake is done": `
			connect
			> S 0:0(0)
			pathmtu 1000
			< S. 0:0(0) win 65535 ack 1 <mss 1460>
			> . 1:1(0) ack 1
			info MSS 960`,
		"never more than TCP_MAXSEG": `config maxseg=700` + open + `
			pathmtu 600
			info MSS 560
			pathmtu 1500
			info MSS 700`,
		"a closed connection does not care": open + `
			abort
			> R. 1:1(0) ack 1
			pathmtu 600`,
	})
}
