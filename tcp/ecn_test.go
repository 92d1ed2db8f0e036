package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// The handshake of RFC 3168 §6.1.1: who asks, who accepts, what the path may do.
func TestECNHandshake(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"asked and accepted", `
			config ecn=on
			connect
			> [noecn] SEW 0:0(0)
			< SE. 0:0(0) ack 1
			> [noecn] . 1:1(0) ack 1
			info ECN classic
			info ECT true
			write 100
			> [ect0] P. 1:101(100) ack 1`},
		{"not asked by default", `
			connect
			> S 0:0(0)
			< SE. 0:0(0) ack 1
			> . 1:1(0) ack 1
			info ECN none
			write 100
			> [noecn] P. 1:101(100) ack 1`},
		{"off", `
			config ecn=off
			listen
			< SEW 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN none`},
		{"accepted by default", `
			listen
			< SEW 0:0(0)
			> [noecn] SE. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN classic
			write 100
			> [ect0] P. 1:101(100) ack 1`},
		{"a server that does not know it", `
			config ecn=on
			connect
			> SEW 0:0(0)
			< S. 0:0(0) ack 1
			> . 1:1(0) ack 1
			info ECN none`},
		{"a server that reflects (RFC 3168 §6.1.1.2)", `
			config ecn=on
			connect
			> SEW 0:0(0)
			< SEW. 0:0(0) ack 1
			> . 1:1(0) ack 1
			info ECN none`},
		{"a client that does not ask", `
			config ecn=on
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN none`},
		{"half a question is none", `
			config ecn=on
			listen
			< SE 0:0(0)
			> S. 0:0(0) ack 1`},
		{"the other half", `
			config ecn=on
			listen
			< SW 0:0(0)
			> S. 0:0(0) ack 1`},
		{"accurate ECN asked for falls back", `
			listen
			< SEWA 0:0(0)
			> SE. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN classic`},
		{"a SYN that is ECT is not believed", `
			listen
			< [ect0] SEW 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN none`},
		{"the SYN again is plain, and its answer is followed without ECT (RFC 3168 §6.1.1.1)", `
			config ecn=on
			connect
			> SEW 0:0(0)
			+1s
			> S 0:0(0)
			< SE. 0:0(0) ack 1
			> . 1:1(0) ack 1
			info ECN classic
			info ECT false
			write 100
			> [noecn] P. 1:101(100) ack 1
			< [ce] P. 1:101(100) ack 101
			> E. 101:101(0) ack 101`},
		{"the SYN again is plain, and so is its answer", `
			config ecn=on
			connect
			> SEW 0:0(0)
			+1s
			> S 0:0(0)
			< S. 0:0(0) ack 1
			> . 1:1(0) ack 1
			info ECN none`},
		{"the client's SYN again is plain", `
			listen
			< SEW 0:0(0)
			> SE. 0:0(0) ack 1
			+900ms
			< S 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN none`},
		{"the SYN/ACK again keeps it", `
			listen
			< SEW 0:0(0)
			> SE. 0:0(0) ack 1
			+1s
			> SE. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN classic
			info ECT true`},
		{"both at once", `
			config ecn=on
			connect
			> SEW 0:0(0)
			< SEW 0:0(0)
			> SE. 0:0(0) ack 1
			< SE. 0:0(0) ack 1
			info ECN classic
			info ECT true`},
		{"both at once, and only the other asked", `
			connect
			> S 0:0(0)
			< SEW 0:0(0)
			> SE. 0:0(0) ack 1
			< S. 0:0(0) ack 1
			info ECN classic
			info ECT false`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c.script) })
	}
}

// open gives a script an established connection with RFC 3168 both ways.
const openECN = `
	config ecn=on
	connect
	> SEW 0:0(0)
	+100ms
	< SE. 0:0(0) win 65535 ack 1 <mss 1000,sackOK,nop,wscale 7>
	> . 1:1(0) ack 1
`

// The receiver of RFC 3168 §6.1.3.
func TestECNReceiver(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"a mark is echoed until CWR comes", `
			< [ect0] P. 1:101(100) ack 1
			> [noecn] . 1:1(0) ack 101
			< [ce] P. 101:201(100) ack 1
			> [noecn] E. 1:1(0) ack 201
			< [ect0] P. 201:301(100) ack 1
			> E. 1:1(0) ack 301
			write 100
			> [ect0] PE. 1:101(100) ack 301
			< [ect0] PW. 301:401(100) ack 101
			> . 101:101(0) ack 401
			info ReceivedCE 1`},
		{"CWR on a marked segment begins anew", `
			< [ce] P. 1:101(100) ack 1
			> E. 1:1(0) ack 101
			< [ce] PW. 101:201(100) ack 1
			> E. 1:1(0) ack 201
			< [ect0] PW. 201:301(100) ack 1
			> . 1:1(0) ack 301`},
		{"a mark and CWR are answered at once, in a conversation as well", `
			< [ect0] P. 1:101(100) ack 1
			> . 1:1(0) ack 101
			write 10
			> P. 1:11(10) ack 101
			+10ms
			< [ect0] P. 101:111(10) ack 11
			+10ms
			write 10
			> P. 11:21(10) ack 111
			< [ce] P. 111:121(10) ack 21
			> E. 21:21(0) ack 121
			< [ect0] P. 121:131(10) ack 21
			> E. 21:21(0) ack 131
			write 10
			> PE. 21:31(10) ack 131
			+10ms
			< [ect0] PW. 131:141(10) ack 31
			> . 31:31(0) ack 141`},
		{"a mark out of order", `
			< [ce] . 1001:2001(1000) ack 1
			> E. 1:1(0) ack 1 <sack 1001:2001>`},
		{"a mark on what is outside of the window is ignored (RFC 3168 §6.1.5)", `
			< [ect0] P. 1:101(100) ack 1
			> . 1:1(0) ack 101
			< [ce] P. 1:101(100) ack 1
			> . 1:1(0) ack 101 <sack 1:101>
			info ReceivedCE 0`},
		{"a mark without text is ignored", `
			< [ce] . 1:1(0) ack 1
			write 10
			> P. 1:11(10) ack 1`},
		{"merged segments with one mark", `
			< [ce] . 1:3001(3000) ack 1 segs 3
			> E. 1:1(0) ack 3001
			info ReceivedCE 3`},
		{"window probes and FIN are not ECT", `
			< . 1:1(0) ack 1 win 0
			write 10
			+300ms
			> [noecn] . 0:0(0) ack 1
			< . 1:1(0) ack 1 win 1
			> [ect0] P. 1:11(10) ack 1
			+100ms
			< . 1:1(0) ack 11
			shutdown
			> [noecn] F. 11:11(0) ack 1`},
		{"a probe with text is not ECT either (RFC 3168 §6.1.6)", `
			write 10
			> [ect0] P. 1:11(10) ack 1
			+100ms
			< . 1:1(0) ack 11 win 1
			write 1000
			+300ms
			> [noecn] P. 11:139(128) ack 1`},
		{"text after ECT that is not ECT is acknowledged at once", `
			< [ect0] P. 1:11(10) ack 1
			> . 1:1(0) ack 11
			write 10
			> P. 1:11(10) ack 11
			+10ms
			< [noecn] P. 11:21(10) ack 11
			> . 11:11(0) ack 21`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, openECN+c.script) })
	}
}

// The sender of RFC 3168 §6.1.2.
func TestECNSender(t *testing.T) {
	const tenOut = `
		write 10000
		> [ect0] . 1:1001(1000) ack 1
		> [ect0] . 1001:2001(1000) ack 1
		> [ect0] . 2001:3001(1000) ack 1
		> [ect0] . 3001:4001(1000) ack 1
		> [ect0] . 4001:5001(1000) ack 1
		> [ect0] . 5001:6001(1000) ack 1
		> [ect0] . 6001:7001(1000) ack 1
		> [ect0] . 7001:8001(1000) ack 1
		> [ect0] . 8001:9001(1000) ack 1
		> [ect0] P. 9001:10001(1000) ack 1
		write 20000
		+100ms
	`
	for _, c := range []struct{ name, script string }{
		{"one reduction for each window, spread over it, and told", tenOut + `
			< E. 1:1(0) ack 1001
			info ECNReductions 1
			info Ssthresh 5000
			info Cwnd 10000
			> [ect0] W. 10001:11001(1000) ack 1
			< E. 1:1(0) ack 2001
			< E. 1:1(0) ack 3001
			< E. 1:1(0) ack 4001
			> [ect0] . 11001:12001(1000) ack 1
			< E. 1:1(0) ack 5001
			< E. 1:1(0) ack 6001
			> [ect0] . 12001:13001(1000) ack 1
			< E. 1:1(0) ack 7001
			< E. 1:1(0) ack 8001
			< E. 1:1(0) ack 9001
			> [ect0] . 13001:14001(1000) ack 1
			< E. 1:1(0) ack 10001
			> [ect0] . 14001:15001(1000) ack 1
			info Cwnd 5000
			info ECNReductions 1
			info DeliveredCE 10`},
		{"the reduction is over when CWR has arrived, and a new mark begins another", tenOut + `
			< E. 1:1(0) ack 10001
			> W. 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			+100ms
			< E. 1:1(0) ack 11001
			info ECNReductions 2
			info Ssthresh 4000
			> W. 15001:16001(1000) ack 1`},
		{"without a mark the window grows again", tenOut + `
			< E. 1:1(0) ack 10001
			> W. 10001:11001(1000) ack 1
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			+100ms
			< . 1:1(0) ack 12001
			> . 15001:16001(1000) ack 1
			> . 16001:17001(1000) ack 1
			< . 1:1(0) ack 15001
			info ECNReductions 1
			info Cwnd 6000
			> . 17001:18001(1000) ack 1
			> . 18001:19001(1000) ack 1
			> . 19001:20001(1000) ack 1
			> . 20001:21001(1000) ack 1`},
		{"a loss in the same window takes the reduction over", tenOut + `
			< E. 1:1(0) ack 1001
			> W. 10001:11001(1000) ack 1
			< E. 1:1(0) ack 1001 <sack 2001:5001>
			> [noecn] . 1001:2001(1000) ack 1
			info FastRetransmits 1
			info ECNReductions 1
			info Ssthresh 5000
			< . 1:1(0) ack 11001
			info Cwnd 5000
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			> . 15001:16001(1000) ack 1`},
		{"text that is sent again is not ECT, and has no CWR", tenOut + `
			< . 1:1(0) ack 1 <sack 1001:4001>
			> [noecn] . 1:1001(1000) ack 1
			info Ssthresh 5000
			< . 1:1(0) ack 1 <sack 1001:8001>
			> [ect0] W. 10001:11001(1000) ack 1
			> [ect0] . 11001:12001(1000) ack 1`},
		{"a mark while a loss is repaired changes nothing", tenOut + `
			< . 1:1(0) ack 1 <sack 1001:4001>
			> . 1:1001(1000) ack 1
			< E. 1:1(0) ack 1 <sack 1001:5001>
			info Ssthresh 5000
			info ECNReductions 0
			> W. 10001:11001(1000) ack 1`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, openECN+c.script) })
	}
}

// A peer without SACK: time-outs, and reductions that duplicate ACKs take over.
func TestECNWithoutSACK(t *testing.T) {
	const open = `
		config ecn=on
		connect
		> SEW 0:0(0)
		+100ms
		< SE. 0:0(0) win 65535 ack 1 <mss 1000>
		> . 1:1(0) ack 1
	`
	for _, c := range []struct{ name, script string }{
		{"after a time-out", `
			write 1000
			> [ect0] P. 1:1001(1000) ack 1
			+300ms
			> [noecn] P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1001
			write 1000
			> [ect0] PW. 1001:2001(1000) ack 1`},
		{"a reduction, then duplicate ACKs", `
			write 4000
			> . 1:1001(1000) ack 1
			> . 1001:2001(1000) ack 1
			> . 2001:3001(1000) ack 1
			> P. 3001:4001(1000) ack 1
			write 20000
			> . 4001:5001(1000) ack 1
			> . 5001:6001(1000) ack 1
			> . 6001:7001(1000) ack 1
			> . 7001:8001(1000) ack 1
			> . 8001:9001(1000) ack 1
			> . 9001:10001(1000) ack 1
			+100ms
			< E. 1:1(0) ack 1001
			info Ssthresh 5000
			> W. 10001:11001(1000) ack 1
			< E. 1:1(0) ack 1001
			< E. 1:1(0) ack 1001
			< E. 1:1(0) ack 1001
			> [noecn] . 1001:2001(1000) ack 1
			info Ssthresh 5000
			info ECNReductions 1
			info FastRetransmits 1
			< . 1:1(0) ack 11001
			info Cwnd 5000
			> . 11001:12001(1000) ack 1
			> . 12001:13001(1000) ack 1
			> . 13001:14001(1000) ack 1
			> . 14001:15001(1000) ack 1
			> . 15001:16001(1000) ack 1`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, open+c.script) })
	}
}

// A SYN that is answered without being kept: RFC 3168 survives, and accurate
// feedback becomes that, as it may (RFC 9768 §3.1.2).
func TestECNSynCookie(t *testing.T) {
	for _, c := range []struct {
		mode  ECN
		flags Flags
		mark  Codepoint
		ts    bool
		want  Feedback
	}{
		{ECNPassive, FlagECE | FlagCWR, NotECT, true, FeedbackClassic},
		{ECNPassive, FlagECE | FlagCWR, ECT0, true, FeedbackNone},
		{ECNPassive, FlagECE | FlagCWR, NotECT, false, FeedbackNone},
		{ECNPassive, 0, NotECT, true, FeedbackNone},
		{ECNOff, FlagECE | FlagCWR, NotECT, true, FeedbackNone},
		{ECNAccurate, ecnBits, NotECT, true, FeedbackClassic},
		{ECNAccurate, ecnBits, NotECT, false, FeedbackNone},
	} {
		cfg, local, remote := cookieConfig(false)
		cfg.ECN = c.mode
		now := mono.Time(100 * time.Second)
		syn := &Segment{SrcPort: remote.Port(), DstPort: local.Port(), Seq: 100, Flags: FlagSYN | c.flags, Window: 5000, ECN: c.mark,
			Options: Options{MSS: 1460, HasTS: c.ts, TSVal: 1}}
		var r Segment
		SynCookieReply(cfg, cookieSecret, local, remote, now, syn, &r)
		if got := agreed(c.flags, r.Flags); got != c.want || r.Options.AccECN.Present {
			t.Errorf("%+v: answered by %v", c, &r)
		}
		ack := &Segment{SrcPort: remote.Port(), DstPort: local.Port(), Seq: 101, Ack: r.Seq + 1, Flags: FlagACK, Window: 5000,
			Options: Options{HasTS: c.ts, TSVal: 2, TSEcr: r.Options.TSVal}}
		k := OpenSynCookie(cfg, cookieSecret, local, remote, now, ack)
		k.Input(now, ack)
		if got := k.Info().ECN; got != c.want {
			t.Errorf("%+v: feedback %v", c, got)
		}
	}
}

// Fast Open: the SYN's text is not ECT, what follows is; the server may send
// before the handshake is done, and repeats its SYN/ACK by itself.
func TestECNFastOpen(t *testing.T) {
	scripts(t, map[string]string{
		"client": `
			config ecn=on
			connect fast
			fastopen text FO 0123456789abcdef
			write 100
			> [noecn] SEW 0:100(100)
			< SE. 0:0(0) ack 51 win 5000 <mss 1460>
			> [ect0] P. 51:101(50) ack 1
			info ECN classic`,
		"accurate client: the pure ACK goes before the text": `
			config ecn=accecn
			connect fast
			fastopen text FO 0123456789abcdef
			write 100
			> [noecn] SEWA 0:100(100)
			< [ect0] S2. 0:0(0) ack 51 win 5000 <mss 1460>
			> [noecn] 4. 51:51(0) ack 1
			> [ect0] P5. 51:101(50) ack 1`,
		"server": `
			listen
			fastopen FO
			< SEW 0:100(100) win 5000 <mss 1000,FO 0123456789abcdef>
			> SE. 0:0(0) ack 101
			write 100
			> [ect0] P. 1:101(100) ack 101
			+1s
			> SE. 0:0(0) ack 101
			< E. 101:101(0) ack 101
			info ECN classic`,
		"accurate server": `
			config ecn=accecn
			listen
			fastopen
			< [ce] SEWA 0:100(100) win 5000 <mss 1000,FO 0123456789abcdef>
			> S6. 0:0(0) ack 101
			write 2000
			> [ect0] 5. 1:1001(1000) ack 101
			> [ect0] P5. 1001:2001(1000) ack 101
			< 2. 101:101(0) ack 1
			info ECT true
			info DeliveredCE 0
			< 6. 101:101(0) ack 2001
			info DeliveredCE 1
			info ReceivedCE 0`,
		"accurate server, the client's SYN again, plain": `
			config ecn=accecn
			listen
			fastopen
			< SEWA 0:100(100) win 5000 <mss 1000,FO 0123456789abcdef>
			> S2. 0:0(0) ack 101
			< S 0:0(0) win 5000 <mss 1000>
			> S2. 0:0(0) ack 101
			info ECT false`,
		"accurate server, then the other question": `
			config ecn=accecn
			listen
			fastopen
			< SEWA 0:100(100) win 5000 <mss 1000,FO 0123456789abcdef>
			> S2. 0:0(0) ack 101
			< SEW 0:0(0) win 5000 <mss 1000>
			> R5. 1:1(0) ack 101
			state CLOSED`,
	})
}
