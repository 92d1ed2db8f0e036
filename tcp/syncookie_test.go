package tcp

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

var (
	cookieSecret  = [16]byte{1, 2, 3}
	cookieLocal4  = netip.MustParseAddrPort("10.77.0.7:80")
	cookieRemote4 = netip.MustParseAddrPort("10.77.0.1:4000")
	cookieLocal6  = netip.MustParseAddrPort("[fd77::7]:80")
	cookieRemote6 = netip.MustParseAddrPort("[fd77::1]:4000")
)

// cookieConfig is a connection's configuration between the two addresses.
func cookieConfig(v6 bool) (cfg *Config, local, remote netip.AddrPort) {
	local, remote = cookieLocal4, cookieRemote4
	cfg = &Config{IPHeader: 20, MSS: 1460, RcvBuf: 1 << 20, TSOffset: 0xdeadbeef}
	if v6 {
		local, remote = cookieLocal6, cookieRemote6
		cfg.IPHeader, cfg.MSS = 40, 1440
	}
	cfg.LocalPort, cfg.RemotePort = local.Port(), remote.Port()
	return cfg, local, remote
}

// TestSynCookieKeepsOptions: everything that the peer offered survives the way
// there and back, as far as a cookie can hold it.
func TestSynCookieKeepsOptions(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		cfg, local, remote := cookieConfig(v6)
		least := map[bool]int{false: 536, true: 1220}[v6]
		for _, c := range []struct {
			name     string
			options  string
			mss      int
			ws, sack bool
			ts       bool
			shift    int
		}{
			{"all", "mss 1460,sackOK,TS val 7 ecr 0,nop,wscale 9", 1440, true, true, true, 9},
			{"shift 0", "mss 1460,TS val 7 ecr 0,nop,wscale 0", 1440, true, false, true, 0},
			{"shift 14", "mss 1300,sackOK,TS val 7 ecr 0,nop,wscale 14", 1300, true, true, true, 14},
			{"no window scale", "mss 1400,sackOK,TS val 7 ecr 0", 1300, false, true, true, 0},
			{"no timestamps", "mss 1500,sackOK,nop,wscale 7", 1440, false, false, false, 0},
			{"no options", "", least, false, false, false, 0},
			{"small MSS", "mss 300", 256, false, false, false, 0},
			{"tiny MSS", "mss 1", minMSS, false, false, false, 0},
			{"large MSS", "mss 65535", 1440, false, false, false, 0},
		} {
			if !v6 && c.mss == 1440 {
				c.mss = 1460
			}
			tr := &trace{t: t}
			now := mono.Time(100*time.Second + 12345*time.Microsecond)
			syn := &Segment{SrcPort: remote.Port(), DstPort: local.Port(), Seq: 0xfffffff0, Flags: FlagSYN, Window: 5000}
			tr.parseOptions(&syn.Options, c.options, 0)
			var r Segment
			SynCookieReply(cfg, cookieSecret, local, remote, now, syn, &r)
			if r.Flags != FlagSYN|FlagACK || r.Ack != syn.Seq+1 || r.Window != 65535 ||
				r.Options.HasTS != c.ts || r.Options.SACKPermitted != c.sack || r.Options.HasWScale != c.ws ||
				r.Options.MSS != uint16(cfg.MSS) {
				t.Errorf("%s: answered by %v", c.name, &r)
			}
			if c.ts {
				if d := int32(tsNow(now, cfg.TSOffset) - r.Options.TSVal); d < 0 || d >= 128 {
					t.Errorf("%s: the timestamp is %d ms old", c.name, d)
				}
			}
			now = now.Add(3 * time.Second)
			ack := &Segment{SrcPort: remote.Port(), DstPort: local.Port(), Seq: syn.Seq + 1, Ack: r.Seq + 1, Flags: FlagACK, Window: 100}
			if c.ts {
				ack.Options = Options{HasTS: true, TSVal: 3007, TSEcr: r.Options.TSVal}
			}
			conn := OpenSynCookie(cfg, cookieSecret, local, remote, now, ack)
			if conn == nil {
				t.Fatalf("%s: the cookie is not taken", c.name)
			}
			if ev, d := conn.Input(now, ack); ev&EvConnected == 0 || d != DropNone || conn.State() != Established {
				t.Fatalf("%s: %v after the ACK, %v", c.name, conn.State(), d)
			}
			i := conn.Info()
			want := min(c.mss, cfg.MSS)
			if c.ts {
				want -= tsOptionLen
			}
			if i.MSS != want || i.WScale != c.ws || i.SACK != c.sack || i.Timestamps != c.ts ||
				c.ws && i.SndWScale != c.shift || i.SndWnd != 100<<i.SndWScale {
				t.Errorf("%s: the connection has %+v", c.name, i)
			}
			if err := conn.invariants(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			// Both ends agree on the numbers: text goes both ways.
			conn.Write([]byte("x"))
			var s Segment
			if !conn.Output(now, &s, 0) || s.Seq != r.Seq+1 || s.Ack != syn.Seq+1 || s.PayloadLen() != 1 ||
				c.ts && (tsBefore(s.Options.TSVal, r.Options.TSVal) || s.Options.TSEcr != 3007) {
				t.Errorf("%s: it sends %v", c.name, &s)
			}
		}
	}
}

// TestCookieTimestamp: all that fits in six bits, on a clock that never seems
// to run ahead.
func TestCookieTimestamp(t *testing.T) {
	for ms := range 200 {
		now := mono.Time(time.Hour + time.Duration(ms)*time.Millisecond)
		for shift := -1; shift <= MaxWScale; shift++ {
			for bits := range 4 {
				o := Options{HasWScale: shift >= 0, WScale: int8(max(shift, 0)), SACKPermitted: bits&1 != 0}
				ts := cookieTimestamp(now, &o, bits&2 != 0)
				if d := tsNow(now, 0) - ts; d >= 128 {
					t.Fatalf("at %d ms: %d ms ago", ms, int32(d))
				}
				var s Segment
				cookieOptions(ts, &s)
				if s.Options != o || (s.Flags == FlagECE|FlagCWR) != (bits&2 != 0) || s.Flags&^(FlagECE|FlagCWR) != 0 {
					t.Fatalf("at %d ms: %v became %v %v", ms, &o, &s.Options, s.Flags)
				}
			}
		}
	}
}

// TestSynCookieECN: of ECN what RFC 3168 knows is kept, if the peer has
// timestamps. Who asks for RFC 9768 is answered as if for that.
func TestSynCookieECN(t *testing.T) {
	cfg, local, remote := cookieConfig(false)
	const classic = FlagSYN | FlagECE | FlagCWR
	for _, c := range []struct {
		mode  ECN
		flags Flags
		ts    bool
		want  Feedback
	}{
		{ECNPassive, classic, true, FeedbackClassic}, {ECNPassive, classic, false, FeedbackNone},
		{ECNPassive, FlagSYN, true, FeedbackNone}, {ECNOff, classic, true, FeedbackNone},
		{ECNAccurate, classic | FlagAE, true, FeedbackClassic}, {ECNAccurate, classic | FlagAE, false, FeedbackNone},
	} {
		cfg.ECN = c.mode
		now := mono.Time(time.Hour)
		syn := &Segment{Seq: 5, Flags: c.flags, Options: Options{HasTS: c.ts, TSVal: 1}}
		var r Segment
		SynCookieReply(cfg, cookieSecret, local, remote, now, syn, &r)
		want := FlagSYN | FlagACK
		if c.want == FeedbackClassic {
			want |= FlagECE
		}
		if r.Flags != want || r.Options.AccECN.Present {
			t.Errorf("%v, %v, timestamps %v: answered by %v", c.mode, c.flags, c.ts, &r)
		}
		ack := &Segment{Seq: 6, Ack: r.Seq + 1, Flags: FlagACK, Options: Options{HasTS: c.ts, TSVal: 2, TSEcr: r.Options.TSVal}}
		conn := OpenSynCookie(cfg, cookieSecret, local, remote, now, ack)
		conn.Input(now, ack)
		if got := conn.Info().ECN; got != c.want {
			t.Errorf("%v, %v, timestamps %v: the connection has %v, want %v", c.mode, c.flags, c.ts, got, c.want)
		}
	}
}

// TestSynCookieLife: a cookie is good for 64 to 128 seconds.
func TestSynCookieLife(t *testing.T) {
	cfg, local, remote := cookieConfig(false)
	for _, start := range []time.Duration{0, 63 * time.Second, 16384 * time.Second, 300 * 64 * time.Second} {
		now := mono.Time(time.Hour + start)
		var r Segment
		SynCookieReply(cfg, cookieSecret, local, remote, now, &Segment{Seq: 5, Flags: FlagSYN}, &r)
		ack := &Segment{Seq: 6, Ack: r.Seq + 1, Flags: FlagACK}
		end := mono.Time((int64(now)/int64(cookiePeriod) + 2) * int64(cookiePeriod))
		for at, want := range map[mono.Time]bool{now: true, now.Add(64 * time.Second): true, end - 1: true, end: false,
			now.Add(-cookiePeriod): false, end.Add(255 * cookiePeriod): false} {
			if got := OpenSynCookie(cfg, cookieSecret, local, remote, at, ack) != nil; got != want {
				t.Errorf("made at %v: taken after %v: %v", start, at.Sub(now), got)
			}
		}
	}
}

// TestSynCookieForged: nothing but the very answer to our SYN-ACK is taken.
func TestSynCookieForged(t *testing.T) {
	cfg, local, remote := cookieConfig(false)
	now := mono.Time(time.Hour)
	var r Segment
	SynCookieReply(cfg, cookieSecret, local, remote, now, &Segment{Seq: 5, Flags: FlagSYN}, &r)
	good := Segment{Seq: 6, Ack: r.Seq + 1, Flags: FlagACK}
	if OpenSynCookie(cfg, cookieSecret, local, remote, now, &good) == nil {
		t.Fatal("the genuine cookie is not taken")
	}
	for name, f := range map[string]func() *Conn{
		"another port": func() *Conn {
			return OpenSynCookie(cfg, cookieSecret, local, netip.AddrPortFrom(remote.Addr(), 4001), now, &good)
		},
		"another address": func() *Conn {
			return OpenSynCookie(cfg, cookieSecret, local, netip.MustParseAddrPort("10.77.0.2:4000"), now, &good)
		},
		"another server port": func() *Conn {
			return OpenSynCookie(cfg, cookieSecret, netip.AddrPortFrom(local.Addr(), 81), remote, now, &good)
		},
		"another secret": func() *Conn { return OpenSynCookie(cfg, [16]byte{9}, local, remote, now, &good) },
		"another sequence number": func() *Conn {
			bad := good
			bad.Seq += 100
			return OpenSynCookie(cfg, cookieSecret, local, remote, now, &bad)
		},
	} {
		if f() != nil {
			t.Errorf("taken with %s", name)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		bad := Segment{Seq: seq.Num(rnd.Uint32()), Ack: seq.Num(rnd.Uint32()), Flags: FlagACK}
		if OpenSynCookie(cfg, cookieSecret, local, remote, now, &bad) != nil {
			t.Fatalf("a guess was taken: %v", &bad)
		}
	}
}

// TestSynCookiesDiffer: peers, and the times of one peer, have nothing in
// common.
func TestSynCookiesDiffer(t *testing.T) {
	cfg, local, _ := cookieConfig(false)
	seen := map[uint32]int{}
	for port := range 1000 {
		for minute := range 10 {
			var r Segment
			remote := netip.AddrPortFrom(cookieRemote4.Addr(), uint16(1000+port))
			SynCookieReply(cfg, cookieSecret, local, remote, mono.Time(minute+1)*mono.Time(cookiePeriod), &Segment{Flags: FlagSYN}, &r)
			seen[uint32(r.Seq)]++
			seen[uint32(r.Seq)>>24<<24|1<<23]++ // the top bytes alone
		}
	}
	top := 0
	for n, times := range seen {
		if n&(1<<24-1) == 1<<23 {
			top = max(top, times)
		}
	}
	if len(seen) < 9990 || top > 100 {
		t.Errorf("%d different numbers of 10000; one top byte %d times of 39 on average", len(seen), top)
	}
}

// FuzzSynCookie: no acknowledgment breaks anything, and what is taken is in
// order.
func FuzzSynCookie(f *testing.F) {
	f.Add(uint32(5), uint32(6), uint32(7), uint64(1e12), []byte{2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7}, true)
	f.Fuzz(func(t *testing.T, irs, ackSeq, ackNum uint32, at uint64, options []byte, v6 bool) {
		cfg, local, remote := cookieConfig(v6)
		now := mono.Time(at%(1<<62) + 1)
		syn := &Segment{Seq: seq.Num(irs), Flags: FlagSYN}
		syn.Options.parse(options[:min(len(options), maxOptions)], true)
		var r Segment
		SynCookieReply(cfg, cookieSecret, local, remote, now, syn, &r)
		if r.HeaderLen() > MaxHeaderLen {
			t.Fatalf("%v", &r)
		}
		for _, ack := range []Segment{
			{Seq: syn.Seq + 1, Ack: r.Seq + 1, Flags: FlagACK, Options: Options{HasTS: syn.Options.HasTS, TSEcr: r.Options.TSVal}},
			{Seq: seq.Num(ackSeq), Ack: seq.Num(ackNum), Flags: FlagACK, Options: Options{HasTS: true, TSEcr: irs}},
		} {
			c := OpenSynCookie(cfg, cookieSecret, local, remote, now, &ack)
			if c == nil {
				if ack.Seq == syn.Seq+1 && ack.Ack == r.Seq+1 {
					t.Fatal("our cookie was not taken")
				}
				continue
			}
			c.Input(now, &ack)
			if err := c.invariants(); err != nil || c.State() != Established {
				t.Fatal(c.State(), err)
			}
			if i := c.Info(); syn.Options.MSS >= minMSS && i.MSS > int(syn.Options.MSS) {
				t.Fatalf("segments of %d for a peer that takes %d", i.MSS, syn.Options.MSS)
			}
		}
	})
}
