package tcp

import (
	"fmt"
	"testing"
)

// Table 2 of RFC 9768 §3.1.2 and §3.1.3 from the client's side, with what it
// concludes about the path (§3.2.2.3).
func TestAccurateClient(t *testing.T) {
	for _, c := range []struct {
		flags    int // AE, CWR, ECE of the SYN/ACK
		mode     string
		ect      bool
		reduced  int
		why      string
		noTested bool
	}{
		{0b000, "none", false, 0, "no ECN", false},
		{0b001, "classic", true, 0, "RFC 3168", false},
		{0b010, "accurate", true, 0, "the SYN arrived as Not-ECT", false},
		{0b011, "accurate", false, 0, "ECT(1): somebody changed it", false},
		{0b100, "accurate", false, 0, "ECT(0)", false},
		{0b101, "accurate", true, 0, "reserved: as if unchanged", false},
		{0b110, "accurate", false, 1, "CE", false},
		{0b111, "none", false, 0, "broken: our flags reflected", false},
	} {
		first := "." // the ACK of the SYN/ACK
		if c.mode == "accurate" {
			first = "2." // says that it arrived as Not-ECT, table 3
		}
		field := "noecn"
		if c.ect {
			field = "ect0"
		}
		t.Run(c.why, func(t *testing.T) {
			run(t, fmt.Sprintf(`
				config ecn=accecn
				connect
				> [noecn] SEWA 0:0(0)
				< S%d. 0:0(0) ack 1 <mss 1000>
				> [noecn] %s 1:1(0) ack 1
				info ECN %s
				info ECNReductions %d
				write 10
				> [%s] P%s 1:11(10) ack 1
			`, c.flags, first, c.mode, c.reduced, field, map[bool]string{true: "5.", false: "."}[c.mode == "accurate"]))
		})
	}
}

// Table 3: how the SYN/ACK arrived.
func TestAccurateAckOfSynAck(t *testing.T) {
	for field, want := range map[string][2]int{"noecn": {2, 5}, "ect1": {3, 5}, "ect0": {4, 5}, "ce": {6, 6}} {
		run(t, fmt.Sprintf(`
			config ecn=accecn
			connect
			> SEWA 0:0(0)
			< [%s] S2. 0:0(0) ack 1 <mss 1000>
			> %d. 1:1(0) ack 1
			< . 1:101(100) ack 1
			> %d. 1:1(0) ack 101
		`, field, want[0], want[1]))
	}
}

// Tables 2 and 4 from the server's side.
func TestAccurateServer(t *testing.T) {
	for field, want := range map[string]int{"noecn": 2, "ect1": 3, "ect0": 4, "ce": 6} {
		run(t, fmt.Sprintf(`
			config ecn=accecn-passive
			listen
			< [%s] SEWA 0:0(0) <mss 1000,sackOK>
			> S%d. 0:0(0) ack 1 <mss 1460,sackOK,ECN e0b 1 ceb 0 e1b 1>
			< 2. 1:1(0) ack 1
			info ECN accurate
			info ECT true
			info ReceivedCE 0
			write 10
			> [ect0] P5. 1:11(10) ack 1
		`, field, want))
	}
	for ace, c := range [8]struct {
		ect     bool
		reduced int
		cep     int
	}{
		0: {false, 0, 5}, 1: {true, 0, 5}, 2: {true, 0, 5}, 3: {false, 0, 5},
		4: {false, 0, 5}, 5: {true, 0, 5}, 6: {false, 1, 6}, 7: {true, 0, 5},
	} {
		tr := run(t, fmt.Sprintf(`
			config ecn=accecn
			listen
			< SEWA 0:0(0)
			> S2. 0:0(0) ack 1
			< %d. 1:1(0) ack 1
			info ECN accurate
			info ECT %v
			info ECNReductions %d
		`, ace, c.ect, c.reduced))
		if got := tr.c.ecn.acc.sentCEP; got != uint32(c.cep) {
			t.Errorf("ACE %d: s.cep is %d, want %d", ace, got, c.cep)
		}
	}
	for flags, mode := range map[string]string{"SEW": "classic", "S": "none", "SE": "accurate", "SW": "accurate", "SA": "accurate", "SEA": "accurate", "SWA": "accurate"} {
		answer := map[string]string{"classic": "SE.", "none": "S.", "accurate": "S2."}[mode]
		run(t, fmt.Sprintf(`
			config ecn=accecn
			listen
			< %s 0:0(0)
			> %s 0:0(0) ack 1
			< 2. 1:1(0) ack 1
			info ECN %s
		`, flags, answer, mode))
	}
}

// What is repeated in the handshake, and what it leads to (RFC 9768 §3.1.4,
// §3.1.5, §3.2.3.2.2).
func TestAccurateHandshakeRepeated(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"the SYN asks twice, then no more; the answer to the first still counts", `
			config ecn=accecn
			connect
			> SEWA 0:0(0)
			+1s
			> SEWA 0:0(0)
			+2s
			> S 0:0(0)
			< S2. 0:0(0) ack 1
			> 2. 1:1(0) ack 1
			info ECN accurate
			info ECT true`},
		{"the SYN/ACK goes without the option, then without asking", `
			config ecn=accecn
			listen
			< SEWA 0:0(0) <mss 1000>
			> S2. 0:0(0) ack 1 <mss 1460,ECN e0b 1 ceb 0 e1b 1>
			+1s
			> S2. 0:0(0) ack 1 <mss 1460>
			+2s
			> S. 0:0(0) ack 1 <mss 1460>
			+4s
			> S. 0:0(0) ack 1 <mss 1460>
			< 2. 1:1(0) ack 1
			info ECN accurate
			info ECT false`},
		{"after a SYN/ACK without it the option is not sent again", `
			config ecn=accecn
			listen
			< SEWA 0:0(0) <mss 1000>
			> S2. 0:0(0) ack 1
			+1s
			> S2. 0:0(0) ack 1
			< 2. 1:1(0) ack 1
			info ECT true
			< [ect0] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001 <>`},
		{"a SYN again is answered with how it arrived, without the option", `
			config ecn=accecn
			listen
			< SEWA 0:0(0) <mss 1000>
			> S2. 0:0(0) ack 1
			+600ms
			< [ce] SEWA 0:0(0) <mss 1000>
			> S6. 0:0(0) ack 1 <mss 1460>
			< 2. 1:1(0) ack 1
			info ECT true`},
		{"a plain SYN again: accurate feedback stays, ECT does not", `
			config ecn=accecn
			listen
			< SEWA 0:0(0)
			> S2. 0:0(0) ack 1
			+600ms
			< S 0:0(0)
			> S2. 0:0(0) ack 1
			< 2. 1:1(0) ack 1
			info ECN accurate
			info ECT false`},
		{"both kinds asked for: a reset", `
			config ecn=accecn
			listen
			< SEWA 0:0(0)
			> S2. 0:0(0) ack 1
			< SEW 0:0(0)
			> R. 0:0(0) ack 1
			state LISTEN`},
		{"both kinds asked for, the other way round", `
			config ecn=accecn
			listen
			< SEW 0:0(0)
			> SE. 0:0(0) ack 1
			< SEWA 0:0(0)
			> R. 0:0(0) ack 1
			state LISTEN`},
		{"a server that answered without stays without", `
			config ecn=accecn
			listen
			< S 0:0(0)
			> S. 0:0(0) ack 1
			+600ms
			< SEWA 0:0(0)
			> S. 0:0(0) ack 1
			< . 1:1(0) ack 1
			info ECN none`},
		{"a SYN/ACK that comes again is told how it arrived, a mark once only", `
			config ecn=accecn
			connect
			> SEWA 0:0(0)
			< [ect0] S2. 0:0(0) ack 1 <mss 1000>
			> 4. 1:1(0) ack 1
			+1s
			< [ce] S2. 0:0(0) ack 1 <mss 1000>
			> 6. 1:1(0) ack 1
			+1s
			< [ce] S2. 0:0(0) ack 1 <mss 1000>
			> 6. 1:1(0) ack 1
			< 5. 1:101(100) ack 1
			> 6. 1:1(0) ack 101`},
		{"with text waiting the ACK of the SYN/ACK still goes first, and out of order text is not told", `
			config ecn=accecn
			connect
			> SEWA 0:0(0)
			< S2. 0:0(0) ack 1 <mss 1000,sackOK>
			> 2. 1:1(0) ack 1
			< 5. 101:201(100) ack 1
			> 5. 1:1(0) ack 1
			+1s
			< S2. 0:0(0) ack 1 <mss 1000,sackOK>
			> 2. 1:1(0) ack 1 <>
			write 10
			> P5. 1:11(10) ack 1 <sack 101:201>`},
		{"both at once", `
			config ecn=accecn
			connect
			> SEWA 0:0(0)
			< [ect0] SEWA 0:0(0)
			> S4. 0:0(0) ack 1
			< S2. 0:0(0) ack 1
			info ECN accurate
			write 10
			> [ect0] P5. 1:11(10) ack 1`},
		{"the first segment with text: its flags count", `
			config ecn=accecn
			listen
			< SEWA 0:0(0)
			> S2. 0:0(0) ack 1
			< 5. 1:11(10) ack 1
			> 5. 1:1(0) ack 11
			info ECT true
			info ECNReductions 0`},
		{"the first segment with text, cleared", `
			config ecn=accecn
			listen
			< SEWA 0:0(0)
			> S2. 0:0(0) ack 1
			< . 1:11(10) ack 1
			> 5. 1:1(0) ack 11
			info ECT false`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c.script) })
	}
}

// openAccurate gives a script a connection with accurate feedback and options
// both ways; its first text has the option for a test as well.
const openAccurate = `
	config ecn=accecn
	connect
	> SEWA 0:0(0)
	+100ms
	< S2. 0:0(0) win 65535 ack 1 <mss 1000,sackOK,nop,wscale 7,ECN e0b 1 ceb 0 e1b 1>
	> 2. 1:1(0) ack 1 <ECN e0b 1 ceb 0 e1b 1>
`

// The receiver of RFC 9768 §3.2.2.5.1 and §3.2.3.3.
func TestAccurateReceiver(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"only counters that ever changed", `
			< [ect0] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001 <ECN e0b 1001 ceb 0 e1b 1>
			< [ect0] 5. 1001:2001(1000) ack 1
			> 5. 1:1(0) ack 2001 <ECN e0b 2001>
			< [ce] 5. 2001:3001(1000) ack 1
			> 6. 1:1(0) ack 3001 <ECN e0b 2001 ceb 1000>
			< [ect0] 5. 3001:4001(1000) ack 1
			> 6. 1:1(0) ack 4001 <ECN e0b 3001 ceb 1000>
			< [noecn] 5. 4001:5001(1000) ack 1
			> 6. 1:1(0) ack 5001 <>
			info ReceivedMarks {3000 0 1000}
			info ReceivedCE 1`},
		{"ECT(1) first where that is shorter", `
			< [ect1] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001 <ECN e1b 1001 ceb 0 e0b 1>
			< [ect1] 5. 1001:2001(1000) ack 1
			> 5. 1:1(0) ack 2001 <ECN e1b 2001>
			< [ce] 5. 2001:3001(1000) ack 1
			> 6. 1:1(0) ack 3001 <ECN e1b 2001 ceb 1000>
			< [ect0] 5. 3001:4001(1000) ack 1
			> 6. 1:1(0) ack 4001 <ECN e0b 1001 ceb 1000 e1b 2001>`},
		{"packets without text count in the field only", `
			write 10
			> P5. 1:11(10) ack 1
			< [ce] 5. 1:1(0) ack 11
			write 10
			> P6. 11:21(10) ack 1 <>`},
		{"the first mark is told at once, and then every second", `
			< [ect0] 5. 1:101(100) ack 1
			> 5. 1:1(0) ack 101
			write 10
			> P5. 1:11(10) ack 101
			+10ms
			< [ect0] 5. 101:201(100) ack 11
			< [ce] 5. 201:301(100) ack 11
			> 6. 11:11(0) ack 301 <ECN e0b 201 ceb 100>
			< [ce] 5. 301:401(100) ack 11
			< [ce] 5. 401:501(100) ack 11
			> 0. 11:11(0) ack 501 <ECN e0b 201 ceb 300>
			< [ect0] 5. 501:601(100) ack 11
			+40ms
			> 0. 11:11(0) ack 601 <ECN e0b 301 ceb 300>`},
		{"every third mark on ACKs is acknowledged, without blocks", `
			< [ect0] 5. 1001:2001(1000) ack 1
			> 5. 1:1(0) ack 1 <ECN e0b 1001 ceb 0 e1b 1,sack 1001:2001>
			< [ce] 5. 1:1(0) ack 1
			< [ce] 5. 1:1(0) ack 1
			< [ce] 5. 1:1(0) ack 1
			> 0. 1:1(0) ack 1 <>`},
		{"merged segments", `
			< [ce] 5. 1:10001(10000) ack 1 segs 10
			> 7. 1:1(0) ack 10001
			info ReceivedCE 10`},
		{"what is outside of the window does not count", `
			< [ect0] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001
			< [ce] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001 <sack 1:1001>
			info ReceivedCE 0`},
		{"the first text has the option, as the first ACK may be lost", `
			write 10
			> P5. 1:11(10) ack 1 <ECN e0b 1 ceb 0 e1b 1>
			write 10
			+100ms
			< 5. 1:1(0) ack 11
			> P5. 11:21(10) ack 1 <>`},
		{"when that is lost there are no more", `
			write 10
			> P5. 1:11(10) ack 1 <ECN e0b 1 ceb 0 e1b 1>
			+300ms
			> [noecn] P5. 1:11(10) ack 1 <>
			< [ect0] 5. 1:1001(1000) ack 11
			> 5. 11:11(0) ack 1001 <>`},
		{"ACKs with the option that get lost end it", `
			< [ect0] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001 <ECN e0b 1001 ceb 0 e1b 1>
			< [noecn] 5. 1:1001(1000) ack 1
			> 5. 1:1(0) ack 1001 <sack 1:1001>
			< [ect0] 5. 1001:2001(1000) ack 1
			> 5. 1:1(0) ack 2001 <ECN e0b 2001>
			< [noecn] 5. 1001:2001(1000) ack 1
			> 5. 1:1(0) ack 2001 <sack 1001:2001>
			< [ect0] 5. 2001:3001(1000) ack 1
			> 5. 1:1(0) ack 3001 <ECN e0b 3001>
			< [noecn] 5. 2001:3001(1000) ack 1
			> 5. 1:1(0) ack 3001 <sack 2001:3001>
			< [ect0] 5. 3001:4001(1000) ack 1
			> 5. 1:1(0) ack 4001 <>`},
		{"the FIN's ACK from TIME-WAIT has the field", `
			shutdown
			> F5. 1:1(0) ack 1
			< F5. 1:1(0) ack 2
			> 5. 2:2(0) ack 2
			timewait
			< F5. 1:1(0) ack 2
			> 5. 2:2(0) ack 2`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, openAccurate+c.script) })
	}
}

// Options compete for 40 bytes: two SACK blocks come first, then the counters
// (RFC 9768 §3.2.3.3), then more blocks. What text has room for follows from it
// (RFC 6691).
func TestAccurateOptionSpace(t *testing.T) {
	const open = `
		config ecn=accecn mss=1000
		connect
		> SEWA 0:0(0) <mss 1000,sackOK,TS val 100 ecr 0,nop,wscale 0>
		< S2. 0:0(0) win 65535 ack 1 <mss 1000,sackOK,TS val 7 ecr 100>
		> 2. 1:1(0) ack 1 <TS val 100 ecr 7,ECN e0b 1 ceb 0 e1b 1>
		write 976
		// 12 bytes of timestamps and 12 of a first option come off.
		> P5. 1:977(976) ack 1 <TS val 100 ecr 7,ECN e0b 1 ceb 0 e1b 1>
		< 5. 1:1(0) ack 977 <TS val 7 ecr 100>
		write 988
		> P5. 977:1965(988) ack 1 <TS val 100 ecr 7>
		< 5. 1:1(0) ack 1965 <TS val 7 ecr 100>
		< [ect0] 5. 101:201(100) ack 1965 <TS val 7 ecr 100>
		> 5. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 101:201,ECN e0b 101>
		< [ect0] 5. 301:401(100) ack 1965 <TS val 7 ecr 100>
		> 5. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 301:401 101:201,ECN e0b 201>
	`
	for _, c := range []struct{ name, script string }{
		{"the option and two blocks of three", `
			< [ect0] 5. 501:601(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 501:601 301:401,ECN e0b 301>`},
		{"two fields and two blocks", `
			< [ce] 5. 501:601(100) ack 1965 <TS val 7 ecr 100>
			> 6. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 501:601 301:401,ECN e0b 201 ceb 100>`},
		{"three fields leave room for one block only: not now", `
			< [ect1] 5. 501:601(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 501:601 301:401 101:201>
			// Its end did not change since, but is not known yet.
			< [ect0] 5. 701:801(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 701:801 501:601 301:401>
			< [noecn] 5. 1:101(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 201 <TS val 100 ecr 7,sack 701:801 501:601 301:401>
			< [noecn] 5. 201:301(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 401 <TS val 100 ecr 7,sack 701:801 501:601>
			< [noecn] 5. 401:501(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 601 <TS val 100 ecr 7,sack 701:801,ECN e0b 301 ceb 0 e1b 101>`},
		{"without blocks all of it", `
			< [ect1] 5. 1:101(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 201 <TS val 100 ecr 7,sack 301:401,ECN e0b 201 ceb 0 e1b 101>
			< [noecn] 5. 201:301(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 401 <TS val 100 ecr 7>`},
		{"text is cut to what the options leave", `
			< [noecn] 5. 501:601(100) ack 1965 <TS val 7 ecr 100>
			> 5. 1965:1965(0) ack 1 <TS val 100 ecr 7,sack 501:601 301:401 101:201>
			write 1000
			> 5. 1965:2925(960) ack 1 <TS val 100 ecr 7,sack 501:601 301:401 101:201>
			> P5. 2925:2965(40) ack 1 <TS val 100 ecr 7,sack 501:601 301:401 101:201>`},
		{"and to what both leave", `
			write 1000
			> 5. 1965:2933(968) ack 1 <TS val 100 ecr 7,sack 301:401 101:201>
			> P5. 2933:2965(32) ack 1 <TS val 100 ecr 7,sack 301:401 101:201>`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, open+c.script) })
	}
}

// The sender of RFC 9768 §3.2.2.5.2 and A.2.
func TestAccurateSender(t *testing.T) {
	const tenOut = `
		write 10000
		> [ect0] 5. 1:989(988) ack 1 <ECN e0b 1 ceb 0 e1b 1>
		> [ect0] 5. 989:1989(1000) ack 1
		> [ect0] 5. 1989:2989(1000) ack 1
		> [ect0] 5. 2989:3989(1000) ack 1
		> [ect0] 5. 3989:4989(1000) ack 1
		> [ect0] 5. 4989:5989(1000) ack 1
		> [ect0] 5. 5989:6989(1000) ack 1
		> [ect0] 5. 6989:7989(1000) ack 1
		> [ect0] 5. 7989:8989(1000) ack 1
		> [ect0] 5. 8989:9989(1000) ack 1
		> [ect0] P5. 9989:10001(12) ack 1
		+100ms
	`
	for _, c := range []struct{ name, script string }{
		{"marks are counted, and answered once for each window", tenOut + `
			< 6. 1:1(0) ack 1989 <ECN e0b 989 ceb 1000>
			info ECNReductions 1
			info Ssthresh 5000
			< 0. 1:1(0) ack 3989 <ECN e0b 989 ceb 3000>
			< 2. 1:1(0) ack 5989 <ECN e0b 989 ceb 5000>
			info ECNReductions 1
			info DeliveredCE 5
			info DeliveredMarks {988 0 5000}
			write 1000
			> [ect0] P5. 10001:11001(1000) ack 1`},
		{"no marks", tenOut + `
			< 5. 1:1(0) ack 1989
			< 5. 1:1(0) ack 8989
			< 5. 1:1(0) ack 10001
			info DeliveredCE 0
			info ECNReductions 0`},
		{"an older ACK that was overtaken is ignored", tenOut + `
			< 7. 1:1(0) ack 3989
			info DeliveredCE 2
			< 6. 1:1(0) ack 1989
			info DeliveredCE 2
			< 7. 1:1(0) ack 3989
			info DeliveredCE 2`},
		{"an ACK for many when ACKs are for few: the field may have gone round", tenOut + `
			< 5. 1:1(0) ack 989
			< 6. 1:1(0) ack 9989
			info DeliveredCE 9
			info ECNReductions 1`},
		{"not if the option says so", tenOut + `
			< 5. 1:1(0) ack 989 <ECN e0b 989>
			< 6. 1:1(0) ack 9989 <ECN e0b 8989 ceb 1000>
			info DeliveredCE 1`},
		{"but if the option says so", tenOut + `
			< 5. 1:1(0) ack 989 <ECN e0b 989>
			< 6. 1:1(0) ack 9989 <ECN e0b 989 ceb 9000>
			info DeliveredCE 9
			info DeliveredMarks {988 0 9000}`},
		{"nothing grew, and the option says that it went round", tenOut + `
			< 5. 1:1(0) ack 989 <ECN e0b 989>
			< 5. 1:1(0) ack 9989 <ECN e0b 1989 ceb 8000>
			info DeliveredCE 8`},
		{"feedback on text that the peer sends", `
			< 5. 1:11(10) ack 1
			> 5. 1:1(0) ack 11
			write 10
			> P5. 1:11(10) ack 11
			< 6. 11:21(10) ack 11
			+40ms
			> 5. 11:11(0) ack 21
			info DeliveredCE 1`},
		{"bytes of which the field knows nothing: no more ECT", `
			write 1000
			> [ect0] 5. 1:989(988) ack 1
			> [ect0] P5. 989:1001(12) ack 1
			+100ms
			< 5. 1:1(0) ack 1001 <ECN e0b 1 ceb 1000>
			info ECT false
			info ECNReductions 1
			write 10
			> [noecn] P5. 1001:1011(10) ack 1`},
		{"zero in the first ACK: not believed", `
			write 10
			> P5. 1:11(10) ack 1
			+100ms
			< . 1:1(0) ack 11
			info ECT false
			info ECNReductions 0
			write 10
			> [noecn] P5. 11:21(10) ack 1
			< 3. 1:1(0) ack 21
			info ECNReductions 0`},
		{"zero when there were three marks: believed", `
			write 3000
			> 5. 1:989(988) ack 1
			> 5. 989:1989(1000) ack 1
			> 5. 1989:2989(1000) ack 1
			> P5. 2989:3001(12) ack 1
			+100ms
			< . 1:1(0) ack 3001
			info ECT true
			info DeliveredCE 3`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, openAccurate+c.script) })
	}
}

// What the options say when they come, and when they do not (RFC 9768
// §3.2.3.2).
func TestAccurateOptionsOnThePath(t *testing.T) {
	open := func(option string) string {
		return `
			config ecn=accecn
			connect
			> SEWA 0:0(0)
			+100ms
			< S2. 0:0(0) win 65535 ack 1 <mss 1000,sackOK` + option + `>
			> 2. 1:1(0) ack 1
			write 2000
			> 5. 1:989(988) ack 1
			> 5. 989:1989(1000) ack 1
			> P5. 1989:2001(12) ack 1
			+100ms
		`
	}
	for _, c := range []struct{ name, script string }{
		{"none on the SYN/ACK: marks are estimated", open("") + `
			< 6. 1:1(0) ack 1989
			info DeliveredMarks {0 0 0}
			info DeliveredCE 1
			info ECNReductions 1`},
		{"none on the SYN/ACK, but later", open("") + `
			< 6. 1:1(0) ack 1989 <ECN e0b 989 ceb 1000>
			info DeliveredMarks {988 0 1000}`},
		{"zeroed on the SYN/ACK: ignored for ever", open(",ECN e0b 0 ceb 0 e1b 0") + `
			< 6. 1:1(0) ack 1989 <ECN e0b 989 ceb 1000>
			info DeliveredMarks {0 0 0}
			info DeliveredCE 1`},
		{"zeroed when it first comes", open("") + `
			< 6. 1:1(0) ack 1989 <ECN e0b 0>
			< 6. 1:1(0) ack 2001 <ECN e0b 989 ceb 1000>
			info DeliveredMarks {0 0 0}`},
		{"empty", open(",ECN") + `
			< 6. 1:1(0) ack 1989 <ECN>
			info DeliveredCE 1`},
		{"other values than ours to begin with", open(",ECN e0b 77 ceb 0 e1b 1") + `
			< 5. 1:1(0) ack 1989 <ECN e0b 78>
			info DeliveredCE 0`},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c.script) })
	}
}

// A super-frame is cut by those who clear CWR in all pieces but the first, which
// would change the ACE field (RFC 9768 §3.3.4).
func TestAccurateSuperFrames(t *testing.T) {
	for marks, want := range []string{"2000", "1000", "1000", "2000", "2000", "1000", "1000", "2000"} {
		tr := run(t, "config limit=64000\n"+openAccurate)
		tr.c.ecn.acc.demand = 0
		tr.c.ecn.acc.cep += uint32(marks)
		tr.step([]string{"write", "2000"})
		if got := fmt.Sprint(tr.out[0].seg.PayloadLen()); got != want {
			t.Errorf("%d marks: a segment of %s bytes", marks, got)
		}
	}
}

// A path that marks everything is not congested (RFC 9768 §3.2.2.3): after four
// windows loss has to tell.
func TestAccurateAllMarked(t *testing.T) {
	for _, clean := range []bool{false, true} {
		tr := run(t, openAccurate)
		for i := range 8 {
			tr.step([]string{"write", "1000"})
			for len(tr.out) > 0 {
				tr.out = tr.out[1:]
			}
			tr.advance(100 * 1e6)
			ack := tr.c.sndNxt.Sub(tr.cfg.ISS)
			tr.step([]string{"<", fmt.Sprintf("%d.", (6+i)&7), "1:1(0)", "ack", fmt.Sprint(ack)})
			if clean && i == 1 {
				tr.c.ecn.acc.delivered += 1000 // one that was not
			}
		}
		in := tr.c.Info()
		if want := !clean; in.ECT == want || (in.ECNReductions > allMarked) == want {
			t.Errorf("clean %v: ECT %v, %d reductions", clean, in.ECT, in.ECNReductions)
		}
	}
}

// The estimate of A.2 against the examples there, and against what an ACK is
// usually for.
func TestAccurateSafest(t *testing.T) {
	for _, c := range []struct {
		d, packets uint32
		bytes      int
		known      bool
		usual      uint32
		want       uint32
	}{
		{2, 9, 0, false, 2, 2},
		{2, 10, 0, false, 2, 10},
		{2, 10, 0, false, 10, 2}, // ACKs are for many anyway
		{0, 7, 0, false, 2, 0},
		{0, 8, 0, false, 2, 8},
		{9, 8, 0, false, 2, 9}, // packets that were not counted
		{0, 8, 1460, true, 2, 8},
		{2, 10, 1460, true, 2, 2},
		{7, 15, 10200, true, 2, 7},
		{0, 100, 0, true, 2, 0},
		{4, 100, 100 * 1460, true, 2, 100},
	} {
		a := accurate{usual: c.usual << usualBits}
		if got := a.safest(c.d, c.packets, c.bytes, c.known, 1460); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// Counters of 24 bits wrap, both where they are written and where they are read.
func TestAccurateWrap(t *testing.T) {
	a, b := newAccurate(), newAccurate()
	b.optSeen = true
	total := 0
	for i := range 100 {
		n := 1<<20 + i
		total += n
		a.bytes[CE] += uint64(n)
		a.changed |= 1 << CE
		var s Segment
		a.option(&s.Options.AccECN, 2)
		raw := wire(&s)
		var got Segment
		if d := Parse(&got, append(raw[:0:0], raw...)); d != DropNone && d != DropPortZero {
			t.Fatal(d)
		}
		if marked, ok := b.readOption(&got.Options.AccECN, 0); !ok || marked != n {
			t.Fatalf("step %d: %d marked, want %d", i, marked, n)
		}
	}
	if b.sentBytes[CE] != uint64(total) {
		t.Errorf("%d bytes, want %d", b.sentBytes[CE], total)
	}
	// What went back is older.
	var o AccECN
	a.bytes[CE] -= 5000
	a.option(&o, 2)
	if marked, _ := b.readOption(&o, 0); marked != 0 || b.sentBytes[CE] != uint64(total) {
		t.Errorf("%d marked by an old option", marked)
	}
}
