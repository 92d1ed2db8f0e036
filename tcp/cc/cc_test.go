package cc

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

func TestNames(t *testing.T) {
	if !slices.IsSorted(Names()) || !slices.Contains(Names(), Default) {
		t.Errorf("names are %q, the default is %q", Names(), Default)
	}
	for _, name := range Names() {
		f, ok := ByName(name)
		if !ok || f(1000).Name() != name {
			t.Errorf("%s is not found by its name", name)
		}
	}
	for _, name := range []string{"", "Cubic", "vegas"} {
		if f, ok := ByName(name); ok || f != nil {
			t.Errorf("there is a %q", name)
		}
	}
	Names()[0] = "changed"
	if Names()[0] == "changed" {
		t.Error("the list of names is shared")
	}
}

func TestQuantum(t *testing.T) {
	for _, c := range []struct {
		rate int64
		mss  int
		want int
	}{{0, 1000, 2000}, {1 << 20, 1000, 2000}, {10 << 20, 1000, 10240}, {1 << 40, 1000, 64 << 10}, {1 << 62, 65000, 64 << 10}} {
		if got := Quantum(c.rate, c.mss); got != c.want {
			t.Errorf("Quantum(%d, %d) = %d, want %d", c.rate, c.mss, got, c.want)
		}
	}
}

// drive makes calls that in decides, and checks what must hold after each:
// the window is between a segment and the largest, the threshold likewise, and
// who is paced stays so.
func drive(t *testing.T, in []byte) {
	if len(in) < 8 {
		return
	}
	names := Names()
	mss := 1 + int(in[1])<<8 + int(in[2])
	f, _ := ByName(names[int(in[0])%len(names)])
	c := f(mss)
	now := mono.Time(1)
	var total, lost uint64
	at := 3
	next := func() int { // small, or anything up to the largest window and beyond
		if at+1 >= len(in) {
			return 0
		}
		at += 2
		n := int(in[at-2]) << (in[at-1] & 31)
		return min(n, MaxWindow+1000)
	}
	start := func() {
		s := Start{Now: now, SRTT: time.Duration(next()) * 10, SACK: in[3]&1 != 0, Seed: uint64(in[3])}
		if in[3]&2 != 0 {
			s.Cwnd, s.Ssthresh, s.Phase = next(), next(), Phase(in[3]>>2%3)
		}
		c.Start(s)
	}
	for started := false; at < len(in); {
		op := in[at]
		at++
		now = now.Add(time.Duration(next()) << (op >> 4))
		switch op % 16 {
		case 0:
			mss = next()
			c.SetMSS(mss)
			mss = min(max(mss, 1), 1<<16)
		case 1:
			c.OnSynLoss(now)
		default:
			if !started {
				start()
				started = true
			}
		}
		switch op % 16 {
		case 2:
			c.OnLoss(now, next())
		case 3:
			c.OnECN(now, next())
		case 4:
			c.OnRecoveryExit(now)
		case 5:
			c.OnTimeout(now, next())
		case 6:
			c.Undo(now)
		case 7:
			c.OnIdle(now, time.Duration(next())<<8, time.Duration(next())<<8)
		case 8:
			c.OnUnused(now, next())
		case 9:
			if s, ok := c.(Sampler); ok {
				n := next()
				lost += uint64(n)
				s.OnLost(Lost{Now: now, Bytes: n, Total: total, TxInFlight: next(), Since: n + next(), AppLimited: op&16 != 0, Adjoins: op&32 != 0})
			}
		case 10: // a live switch
			name := names[int(op>>4)%len(names)]
			cwnd, _ := c.Window()
			s := Start{Now: now, Cwnd: cwnd, Ssthresh: c.Ssthresh(), Phase: Phase(op >> 4 % 3), SRTT: time.Duration(next())}
			f, _ := ByName(name)
			c = f(mss)
			c.Start(s)
			started = true
		case 11, 12, 13, 14, 15:
			n := next()
			total += uint64(n)
			flight := next()
			a := Ack{Now: now, Acked: next(), Delivered: n, PriorInFlight: flight, InFlight: flight, Unacked: next(),
				RTT: time.Duration(next()), SRTT: time.Duration(next()), CwndLimited: op&64 != 0, Used: next(), Phase: Phase(op >> 4 % 3)}
			if op&128 != 0 {
				a.CE = next()
			}
			a.Rate = Rate{Valid: op&32 != 0, Total: total, Prior: total - min(total, uint64(next())), Interval: time.Duration(next()) << (op >> 5),
				TxInFlight: next(), Lost: next(), AppLimited: op&16 != 0}
			a.Rate.Delivered = int(total - a.Rate.Prior)
			c.OnAck(a)
		}
		cwnd, pacing := c.Window()
		if cwnd < mss || cwnd > MaxWindow || c.Ssthresh() < 1 || c.Ssthresh() > MaxWindow {
			t.Fatalf("%s: cwnd %d ssthresh %d with segments of %d", c.Name(), cwnd, c.Ssthresh(), mss)
		}
		if paced := c.Name() == "bbr" && started; (pacing > 0) != paced {
			t.Fatalf("%s: pacing rate %d", c.Name(), pacing)
		}
	}
}

// Whatever happens in whatever order, the window stays between a segment and
// the largest, and nothing overflows.
func FuzzController(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		in := make([]byte, 2000)
		for k := range in {
			in[k] = byte(rng.Uint32())
		}
		in[0] = byte(i)
		f.Add(in)
	}
	f.Fuzz(drive)
}

// One ACK costs no memory.
func TestOnAckAllocs(t *testing.T) {
	for _, name := range Names() {
		f, _ := ByName(name)
		c := f(1448)
		c.Start(Start{Now: 1, SRTT: time.Millisecond, SACK: true})
		now, total := mono.Time(1), uint64(0)
		ack := func() {
			now = now.Add(100 * time.Microsecond)
			total += 2896
			c.OnAck(Ack{Now: now, Acked: 2896, Delivered: 2896, InFlight: 14480, Unacked: 14480, CwndLimited: true, RTT: time.Millisecond, SRTT: time.Millisecond,
				Rate: Rate{Valid: true, Total: total, Prior: total - min(total, 28960), Delivered: 28960, Interval: time.Millisecond, TxInFlight: 28960}})
			c.Window()
		}
		ack()
		c.OnLoss(now, 14480)
		c.OnRecoveryExit(now)
		if n := testing.AllocsPerRun(1000, ack); n != 0 {
			t.Errorf("%s: %v allocations for an ACK", name, n)
		}
	}
}
