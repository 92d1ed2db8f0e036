package tcp

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// TestBlindAttacks: RFC 5961, attack by attack.
func TestBlindAttacks(t *testing.T) {
	scripts(t, map[string]string{
		"3.2: RST, exact, near and far": opened + `
			< R 2:2(0)
			drop rst-out-of-window
			> . 1:1(0) ack 1
			info Challenges 1
			< R 0:0(0)
			drop out-of-window
			< R 65537:65537(0)
			drop out-of-window
			state ESTABLISHED
			< R 1:1(0)
			state CLOSED
			err ECONNRESET
		`,
		"3.2: RST at the right edge": opened + `
			< R 65536:65536(0)
			drop out-of-window
			< R 65535:65535(0)
			drop rst-out-of-window
			> . 1:1(0) ack 1
			state ESTABLISHED
		`,
		"4.2: SYN, whatever its number": opened + `
			< S 1:1(0)
			drop syn-in-window
			> . 1:1(0) ack 1
			+500ms
			< S 1000000:1000000(0)
			drop out-of-window
			> . 1:1(0) ack 1
			+500ms
			< S. 0:0(0) ack 1
			drop out-of-window
			> . 1:1(0) ack 1
			state ESTABLISHED
		`,
		"4.2: a peer that restarted answers the challenge": opened + `
			< S 5000:5000(0)
			> . 1:1(0) ack 1
			< R 1:1(0)
			state CLOSED
		`,
		"5.2: text with an acknowledgment of the future": opened + `
			< P. 1:11(10) ack 2
			drop bad-ack
			> . 1:1(0) ack 1
			read 1 = EAGAIN
			+500ms
			< P. 1:11(10) ack 2000000000
			drop bad-ack
			> . 1:1(0) ack 1
			read 1 = EAGAIN
		`,
		"5.2: text with an acknowledgment of long ago": opened + `
			write 1000
			> P. 1:1001(1000) ack 1
			< . 1:1(0) ack 1001 win 500
			// SND.UNA - MAX.SND.WND is far below, but was never sent.
			< P. 1:11(10) ack -1000
			drop old-ack
			> . 1001:1001(0) ack 1
			read 1 = EAGAIN
			+500ms
			< P. 1:11(10) ack -2000000000
			drop old-ack
			> . 1001:1001(0) ack 1
			read 1 = EAGAIN
			// An old one of this connection is fine.
			< P. 1:11(10) ack 1
			> . 1001:1001(0) ack 11
			read 10
		`,
		"5.2: after much was sent the window counts": `
			connect
			> S 0:0(0)
			< S. 0:0(0) ack 1 win 1000 <mss 500>
			> . 1:1(0) ack 1
			write 1000
			> . 1:501(500) ack 1
			> P. 501:1001(500) ack 1
			< . 1:1(0) ack 1001 win 1000
			write 1000
			> . 1001:1501(500) ack 1
			> P. 1501:2001(500) ack 1
			< . 1:1(0) ack 2001 win 1000
			< P. 1:11(10) ack 1000
			drop old-ack
			> . 2001:2001(0) ack 1
			< P. 1:11(10) ack 1001
			> . 2001:2001(0) ack 11
		`,
		"7: one answer in half a second": opened + `
			< R 2:2(0)
			> . 1:1(0) ack 1
			< R 3:3(0)
			< S 3:3(0)
			< . 1:1(0) ack 99
			+499ms
			< R 3:3(0)
			info AcksWithheld 4
			info Challenges 1
			+1ms
			< R 3:3(0)
			> . 1:1(0) ack 1
		`,
	})
}

// TestChallengeLimitOfHost: a connection asks before each challenge, and obeys.
func TestChallengeLimitOfHost(t *testing.T) {
	now := mono.Time(time.Hour)
	asked, allow := 0, true
	cfg := &Config{RcvBuf: 65535, Challenge: func(at mono.Time) bool {
		if at != now {
			t.Errorf("asked with %v at %v", at, now)
		}
		asked++
		return allow
	}}
	c := NewActive(cfg, now)
	var out Segment
	c.Output(now, &out, 0)
	c.Input(now, &Segment{Flags: FlagSYN | FlagACK, Ack: 1, Seq: 0, Window: 1000})
	for c.Output(now, &out, 0) {
	}
	for k, want := range []bool{true, false, true} {
		now = now.Add(time.Second)
		allow = want
		ev, _ := c.Input(now, &Segment{Flags: FlagRST, Seq: 5})
		if got := ev&EvOutput != 0 && c.Output(now, &out, 0); got != want || asked != k+1 {
			t.Errorf("attempt %d: answered %v, asked %d times", k, got, asked)
		}
	}
	// What answers an ordinary duplicate is no challenge.
	now = now.Add(time.Second)
	if ev, _ := c.Input(now, &Segment{Flags: FlagACK, Seq: 0, Ack: 1}); ev&EvOutput == 0 || asked != 3 {
		t.Errorf("a keepalive: asked %d times", asked)
	}
}

// TestChallengeLimit: the number of each second cannot be foreseen, and lies
// between half and one and a half of what was asked for.
func TestChallengeLimit(t *testing.T) {
	for _, per := range []int{1, 2, 9, 100} {
		l := ChallengeLimit{PerSecond: per, Rand: rand.New(rand.NewPCG(1, 2))}
		seen, sum := map[int]bool{}, 0
		const seconds = 2000
		for s := range seconds {
			n := 0
			for k := range 2*per + 1 {
				if l.Take(mono.Time(time.Duration(s+1)*time.Second + time.Duration(k))) {
					n++
				}
			}
			seen[n] = true
			sum += n
			if half := (per + 1) / 2; n < half || n > half+per-1 {
				t.Fatalf("%d per second: %d", per, n)
			}
		}
		if len(seen) != per || float64(sum)/seconds < 0.7*float64(per) || float64(sum)/seconds > 1.15*float64(per) {
			t.Errorf("%d per second: %d different numbers, %.1f on average", per, len(seen), float64(sum)/seconds)
		}
	}
	if l := (ChallengeLimit{}); !l.Take(1) {
		t.Error("no limit refuses")
	}
}
