package tcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// TestFastOpenClient: RFC 7413 §4.2, the client.
func TestFastOpenClient(t *testing.T) {
	// A SYN with 100 bytes of text.
	const sent = `
		connect fast
		fastopen text mss 1000 FO 0123456789abcdef
		state SYN-SENT
		read 1 = EAGAIN
		+10s
		write 100
		> S 0:100(100) win 65535 <mss 1460,sackOK,TS val 10100 ecr 0,nop,wscale 0,FO 0123456789abcdef>
		write 1 = EAGAIN
`
	scripts(t, map[string]string{
		"all of the text is taken": sent + `
			+20ms
			< S. 0:0(0) ack 101 win 1000 <mss 1460,sackOK>
			> . 101:101(0) ack 1
			state ESTABLISHED
			info SynData true
			info BytesAcked 100
			info Retransmits 0
			write 10
			> P. 101:111(10) ack 1
			< . 1:1(0) ack 111
			shutdown
			> F. 111:111(0) ack 1
		`,
		"the server answers with text at once": sent + `
			< S. 0:50(50) ack 101 win 1000 <mss 1460>
			> . 101:101(0) ack 51
			read 50
			info SynData true
		`,
		"text with FIN in the SYN-ACK": sent + `
			< SF. 0:50(50) ack 101 win 1000 <mss 1460>
			> . 101:101(0) ack 52
			state CLOSE-WAIT
			read 50
			read 1 = EOF
		`,
		"none of it is taken": sent + `
			< S. 0:0(0) ack 1 win 1000 <mss 1460,FO 0123456789abcdef>
			> P. 1:101(100) ack 1
			info SynData false
			info Retransmits 1
			< . 1:1(0) ack 101
		`,
		"a part of it is taken": sent + `
			< S. 0:0(0) ack 61 win 1000 <mss 1460>
			> P. 61:101(40) ack 1
			info SynData false
			info BytesAcked 60
		`,
		"more than was sent": sent + `
			< S. 0:0(0) ack 102 win 1000 <mss 1460>
			drop bad-ack
			> R 102:102(0)
			state SYN-SENT
			< R. 0:0(0) ack 102
			drop bad-ack
			state SYN-SENT
		`,
		"refused": sent + `
			< R. 0:0(0) ack 101
			state CLOSED
			err ECONNREFUSED
		`,
		"refused with an ACK of the SYN alone": sent + `
			< R. 0:0(0) ack 1
			state CLOSED
			err ECONNREFUSED
		`,
		"again without text and option": sent + `
			+1s > S 0:0(0) win 65535 <mss 1460,sackOK,TS val 11100 ecr 0,nop,wscale 0>
			< S. 0:0(0) ack 1 win 1000 <mss 1460>
			> P. 1:101(100) ack 1
		`,
		"the SYN-ACK to the first SYN is late": sent + `
			+1s > S 0:0(0)
			< S. 0:0(0) ack 101 win 1000 <mss 1460>
			> . 101:101(0) ack 1
			info SynData true
		`,
		"too big for the path": `
			connect fast
			fastopen text FO 0123456789abcdef
			write 2000 = 1420
			> S 0:1420(1420)
			mtu 840 at 0
			> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0>
			< S. 0:0(0) ack 1 win 5000 <mss 1460>
			> . 1:801(800) ack 1
			> P. 801:1421(620) ack 1
		`,
		"no more than the server takes": `
			connect fast
			fastopen text mss 940 FO 00000000
			write 2000 = 900
			> S 0:900(900)
			< S. 0:0(0) ack 901 win 5000 <mss 1460>
			> . 901:901(0) ack 1
			write 1100
			> P. 901:2001(1100) ack 1
		`,
		"a server of tiny segments gets no text": `
			connect fast
			fastopen text mss 40 FO 00000000
			> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0,FO 00000000>
		`,
		"the request for a cookie": `
			connect fast
			fastopen FO
			> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0,FO>
			write 1 = EAGAIN
			+1s > S 0:0(0) <mss 1460,sackOK,TS val 1100 ecr 0,nop,wscale 0>
			< S. 0:0(0) ack 1 <mss 1460>
			> . 1:1(0) ack 1
		`,
		"in the old form": `
			connect fast
			fastopen text FOEXP 0123456789abcdef
			write 10
			> S 0:10(10) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0,FOEXP 0123456789abcdef>
		`,
		"without a cookie": `
			connect fast
			fastopen text
			write 10
			> S 0:10(10)
			< S. 0:0(0) ack 11 <mss 1460>
			> . 11:11(0) ack 1
			info SynData true
		`,
		"nothing to write": `
			connect fast
			fastopen text FO 0123456789abcdef
			write 0 = EINPROGRESS
			> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 0,FO 0123456789abcdef>
			< S. 0:0(0) ack 1 <mss 1460>
			> . 1:1(0) ack 1
			info SynData false
		`,
		"connected after all": `
			connect fast
			fastopen text FO 0123456789abcdef
			send
			> S 0:0(0)
		`,
		"closed before the SYN": `
			connect fast
			fastopen text FO 0123456789abcdef
			+100s
			close
			state CLOSED
		`,
		"aborted before the SYN": `
			connect fast
			fastopen text FO 0123456789abcdef
			abort
			state CLOSED
		`,
		"both sides open": sent + `
			< S 0:50(50) win 5000 <mss 1000,FO 87654321>
			state SYN-RECEIVED
			> S. 0:0(0) ack 1 <mss 1460>
			< S. 0:0(0) ack 101 win 5000 <mss 1000>
			state ESTABLISHED
			info SynData true
			write 10
			> P. 101:111(10) ack 1
		`,
		"both sides open, text not taken": sent + `
			< S 0:50(50) win 5000 <mss 1000,FO 87654321>
			> S. 0:0(0) ack 1 <mss 1460>
			< . 1:1(0) ack 1 win 5000
			state ESTABLISHED
			> P. 1:101(100) ack 1
		`,
		"numbers that wrap": `
			config iss=4294967246
			connect fast
			fastopen text FO 0123456789abcdef
			write 100
			> S 0:100(100)
			< S. 0:0(0) ack 101 <mss 1460>
			> . 101:101(0) ack 1
			write 5
			> P. 101:106(5) ack 1
		`,
	})
}

// TestFastOpenServer: RFC 7413 §4.2.2, the server.
func TestFastOpenServer(t *testing.T) {
	const opened = `
		listen
		fastopen FO fedcba9876543210
		< S 0:100(100) win 5000 <mss 1000,sackOK,FO 0123456789abcdef>
		> S. 0:0(0) ack 101 win 65435 <mss 1460,sackOK,FO fedcba9876543210>
		state SYN-RECEIVED
		info SynData true
`
	scripts(t, map[string]string{
		"read before the handshake is done": opened + `
			read 200 = 100
			read 1 = EAGAIN
			< . 101:101(0) ack 1 win 5000
			state ESTABLISHED
			< P. 101:111(10) ack 1 win 5000
			> . 1:1(0) ack 111
			read 10
		`,
		"write before the handshake is done": opened + `
			write 1500
			> . 1:1001(1000) ack 101
			> P. 1001:1501(500) ack 101
			< . 101:101(0) ack 1001 win 5000
			state ESTABLISHED
			info BytesAcked 1000
			< . 101:101(0) ack 1501 win 5000
			info BytesAcked 1500
		`,
		"no more than the SYN's window": opened + `
			write 20000
			> . 1:1001(1000) ack 101
			> . 1001:2001(1000) ack 101
			> . 2001:3001(1000) ack 101
			> P. 3001:4001(1000) ack 101
			> . 4001:5001(1000) ack 101
			< . 101:101(0) ack 1 win 6000
			state ESTABLISHED
			> . 5001:6001(1000) ack 101
		`,
		"the third segment acknowledges the SYN alone": opened + `
			write 100
			> P. 1:101(100) ack 101
			+20ms
			< . 101:101(0) ack 1 win 5000
			state ESTABLISHED
			info DupAcksIn 0
			< . 101:101(0) ack 101 win 5000
		`,
		"and tells of a loss": opened + `
			write 4000
			> . 1:1001(1000) ack 101
			> . 1001:2001(1000) ack 101
			> . 2001:3001(1000) ack 101
			> P. 3001:4001(1000) ack 101
			< . 101:101(0) ack 1 win 5000 <sack 1001:4001>
			state ESTABLISHED
			> . 1:1001(1000) ack 101
		`,
		"the SYN-ACK is sent again without the option, text is not": opened + `
			write 100
			> P. 1:101(100) ack 101
			+1s > S. 0:0(0) ack 101 win 65435 <mss 1460,sackOK>
			+2s > S. 0:0(0) ack 101
			< . 101:101(0) ack 1 win 5000
			state ESTABLISHED
			+3s > P. 1:101(100) ack 101
		`,
		"nobody acknowledges the SYN-ACK": opened + `
			+1s > S. 0:0(0) ack 101
			+2s > S. 0:0(0) ack 101
			+4s > S. 0:0(0) ack 101
			+8s > S. 0:0(0) ack 101
			+16s > S. 0:0(0) ack 101
			+32s
			state CLOSED
			read 100
			read 1 = ETIMEDOUT
		`,
		"the SYN again": opened + `
			< S 0:0(0) win 5000 <mss 1000,sackOK>
			> S. 0:0(0) ack 101 <mss 1460,sackOK>
			state SYN-RECEIVED
		`,
		"FIN before the handshake is done": opened + `
			< F. 101:101(0) ack 1 win 5000
			state CLOSE-WAIT
			> . 1:1(0) ack 102
			read 100
			read 1 = EOF
			close
			> F. 1:1(0) ack 102
		`,
		"our FIN waits for the handshake": opened + `
			read 100
			write 10
			> P. 1:11(10) ack 101
			shutdown
			state SYN-RECEIVED
			< . 101:101(0) ack 11 win 5000
			state FIN-WAIT-1
			> F. 11:11(0) ack 101
		`,
		"closed with the text unread": opened + `
			close
			> R. 1:1(0) ack 101
			state CLOSED
		`,
		"reset": opened + `
			< R 1:1(0)
			drop out-of-window
			< R 102:102(0)
			drop rst-out-of-window
			> . 1:1(0) ack 101
			< R 101:101(0)
			state CLOSED
			write 1 = ECONNRESET
			read 100
			read 1 = EOF
		`,
		"ACK of what was never sent": opened + `
			< . 101:101(0) ack 2 win 5000
			drop bad-ack
			> R 2:2(0)
			state SYN-RECEIVED
		`,
		"a SYN without text": `
			listen
			fastopen FO fedcba9876543210
			< S 0:0(0) win 5000 <mss 1000,FO 0123456789abcdef>
			> S. 0:0(0) ack 1 win 65535
			info SynData false
			write 10
			> P. 1:11(10) ack 1
		`,
		"more text than the buffer holds": `
			config rcvbuf=600
			listen
			fastopen FO fedcba9876543210
			< S 0:1000(1000) win 5000 <mss 1000,FO 0123456789abcdef>
			> S. 0:0(0) ack 601 win 0
			< P. 601:1001(400) ack 1 win 5000
			> . 1:1(0) ack 601 win 0
			read 600
			> . 1:1(0) ack 601 win 600
		`,
		"nothing of the network's silence before the handshake concerns text": opened + `
			write 100
			> P. 1:101(100) ack 101
			+900ms
			< . 101:101(0) ack 101 win 5000
			state ESTABLISHED
			+10s
		`,
	})
}

// TestFastOpenECN: what the SYN asks for of ECN is answered as ever.
func TestFastOpenECN(t *testing.T) {
	for flags, want := range map[Flags]Flags{
		FlagSYN:                              FlagSYN | FlagACK,
		FlagSYN | FlagECE | FlagCWR:          FlagSYN | FlagACK | FlagECE,
		FlagSYN | FlagECE | FlagCWR | FlagAE: FlagSYN | FlagACK | FlagCWR, // RFC 9768 §3.1.2, table 2: not ECT
	} {
		now := mono.Time(time.Hour)
		syn := &Segment{Seq: 5, Flags: flags, Window: 5000, Options: Options{MSS: 1000, HasTS: true, SACKPermitted: true, HasWScale: true}}
		syn.Payload[0] = make([]byte, 10)
		give := FastOpenOption{Present: true, Len: 8}
		c := NewFastOpen(&Config{LocalPort: 1, RemotePort: 2, ECN: ECNAccurate, MSS: 1460}, now, syn, give)
		var s Segment
		if !c.Output(now, &s, 0) || s.Flags != want || s.HeaderLen() > MaxHeaderLen || s.Ack != 16 {
			t.Errorf("%v was answered by %v", flags, &s)
		}
		b := wire(&s) // with all options there is no room for all of them
		var back Segment
		if d := Parse(&back, b); d != DropNone || !back.Options.HasWScale {
			t.Errorf("%v: %v became %v, %v", flags, &s, &back, d)
		}
		c.Write(make([]byte, 100))
		if !c.Output(now, &s, 0) || s.PayloadLen() != 100 {
			t.Errorf("%v: then %v", flags, &s)
		}
		if err := c.invariants(); err != nil {
			t.Error(err)
		}
	}
}

// TestFastOpenOption: both forms, every length.
func TestFastOpenOption(t *testing.T) {
	full := Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 1, HasWScale: true, WScale: 7}
	for n := range 20 {
		for _, exp := range []bool{false, true} {
			v := bytes.Repeat([]byte{0xc0}, n)
			raw := append([]byte{optFastOpen, byte(2 + n)}, v...)
			if exp {
				raw = append([]byte{optExperiment, byte(4 + n), 0xf9, 0x89}, v...)
			}
			var o, no Options
			o.parse(raw, true)
			no.parse(raw, false)
			want := n == 0 || n >= 4 && n <= 16 && n%2 == 0
			if f := o.FastOpen; f.Present != want || want && (f.Exp != exp || !bytes.Equal(f.value(), v)) || no.FastOpen.Present {
				t.Errorf("%d bytes: %+v", n, f)
			}
			if !want {
				continue
			}
			s := Segment{Flags: FlagSYN, Options: full}
			s.Options.FastOpen = o.FastOpen
			b := wire(&s)
			if len(b) > MaxHeaderLen || len(b)%4 != 0 {
				t.Errorf("%d bytes: header of %d", n, len(b))
			}
			var back Options
			back.parse(b[MinHeaderLen:], true)
			if back != s.Options {
				t.Errorf("%d bytes: %v became %v", n, &s.Options, &back)
			}
		}
	}
	for text, want := range map[string]string{
		"22040011":                   "", // too short
		"fe0c f989 0011223344556677": "FOEXP 0011223344556677",
		"fe0c f98a 0011223344556677": "", // another experiment
		"fe03f9":                     "",
		"2202 fe08 f989 01020304":    "FOEXP 01020304", // the last counts
		"220a0011223344556677 2202":  "FO",
	} {
		var o Options
		o.parse(unhex(t, text), true)
		if o.String() != want {
			t.Errorf("%s: %q, want %q", text, o.String(), want)
		}
	}
	// The order and padding of Linux.
	s := Segment{Flags: FlagSYN, Options: full}
	s.Options.FastOpen = FastOpenOption{Present: true}
	if got, want := fmt.Sprintf("%x", wire(&s)[MinHeaderLen:]), "020405b40402080a0000000100000000010303072202"+"0101"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestFastOpenKeepsTime: one round trip is measured from a SYN with text, as
// from one without.
func TestFastOpenKeepsTime(t *testing.T) {
	for _, ack := range []int{1, 101} {
		now := mono.Time(time.Hour)
		c := NewActive(&Config{}, now)
		c.FastOpen(FastOpenOffer{Option: FastOpenOption{Present: true, Len: 8}, Text: true})
		c.Write(make([]byte, 100))
		var s Segment
		c.Output(now, &s, 0)
		c.Input(now.Add(20*time.Millisecond), &Segment{Flags: FlagSYN | FlagACK, Ack: c.iss.Add(ack), Window: 1000})
		if rtt := c.Info().RTT; rtt != 20*time.Millisecond {
			t.Errorf("ack %d: round trip %v", ack, rtt)
		}
	}
}

// TestFastOpenSimulation: text in the SYN and before the third segment, over
// bad networks.
func TestFastOpenSimulation(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, 5000+seed)
			s.noSack = seed%3 == 2
			for i, name := range []string{[]string{"reno", "cubic", "bbr"}[seed%3], []string{"bbr", "reno"}[seed%2]} {
				s.end[i].cfg.NewController, _ = cc.ByName(name)
			}
			offer := FastOpenOffer{Option: FastOpenOption{Present: true, Len: 8}, Text: true, PeerMSS: s.end[1].cfg.MSS}
			open := func(i int) {
				e := &s.end[i]
				e.toSend = max(e.toSend, 1) // or the SYN waits for ever
				e.c = NewActive(&e.cfg, s.now)
				e.c.FastOpen(offer)
			}
			open(0)
			if s.rng.IntN(8) == 0 {
				open(1)
			}
			s.run(2 * time.Hour)
		})
	}
}

// FuzzFastOpen throws segments at a server's connection before its handshake
// is done, and at a client's.
func FuzzFastOpen(f *testing.F) {
	f.Add([]byte{0x10, 0, 1, 0, 0x10, 5, 1, 3}, uint16(100), uint16(50), true)
	f.Add([]byte{0x12, 0, 1, 0, 0x12, 0, 51, 9, 0x10, 3, 52, 0}, uint16(100), uint16(50), false)
	f.Fuzz(func(t *testing.T, in []byte, inSyn, wrote uint16, server bool) {
		now := mono.Time(time.Hour)
		cfg := &Config{ISS: 0xfffffff0, MSS: 1460, RcvBuf: 3000, SndBuf: 3000}
		var c *Conn
		if server {
			syn := &Segment{Seq: 0xffffff00, Flags: FlagSYN, Window: 2000, Options: Options{MSS: 700, SACKPermitted: true}}
			syn.Payload[0] = make([]byte, inSyn)
			c = NewFastOpen(cfg, now, syn, FastOpenOption{})
		} else {
			c = NewActive(cfg, now)
			c.FastOpen(FastOpenOffer{Text: true, PeerMSS: int(inSyn)})
			c.irs = 0xffffff00
		}
		c.Write(make([]byte, wrote))
		flush := func() {
			for range 1000 {
				var s Segment
				if !c.Output(now, &s, 0) {
					break
				}
			}
			if err := c.settled(); err != nil {
				t.Fatal(err)
			}
		}
		flush()
		for ; len(in) >= 4; in = in[4:] {
			s := &Segment{Flags: Flags(in[0]), Seq: c.irs.Add(int(in[1]) * 16), Ack: c.iss.Add(int(in[2]) * 8), Window: 1000}
			s.Payload[0] = make([]byte, in[3])
			if !server && s.Flags&FlagSYN != 0 {
				s.Seq = c.irs
			}
			c.Input(now, s)
			if err := c.invariants(); err != nil {
				t.Fatal(err)
			}
			flush()
			if d := c.Deadline(); d != 0 && in[3]&1 != 0 {
				now = max(now, d)
				c.Expire(now)
				flush()
			}
			c.Info()
		}
		c.Close(now)
		flush()
	})
}

// TestFastOpenCookie: the cookies that Linux makes with this key, from public
// packet scripts.
func TestFastOpenCookie(t *testing.T) {
	key := [16]byte(unhex(t, "f763bfa0813d80ed301d64cd904abcce"))
	for _, c := range []struct{ client, server, want string }{
		{"10.248.0.2", "192.168.0.2", "00abaaabe8e954c2"},
		{"10.248.0.3", "192.168.0.2", "1313a2da994a0951"},
		{"10.248.0.3", "192.168.0.3", "76d2c1c530f51f79"},
	} {
		o := FastOpenCookie(key, netip.MustParseAddr(c.client), netip.MustParseAddr(c.server))
		if got := fmt.Sprintf("%x", o.value()); got != c.want || !o.Present {
			t.Errorf("%s to %s: %s, want %s", c.client, c.server, got, c.want)
		}
	}
	a, b := FastOpenKey([16]byte{1}, 1), FastOpenKey([16]byte{1}, 2)
	if a == b || a == FastOpenKey([16]byte{2}, 1) || a != FastOpenKey([16]byte{1}, 1) || string(a[:8]) == string(a[8:]) {
		t.Error("keys of periods are not apart")
	}
}
