package claim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

var addr = netip.MustParseAddr("10.77.0.7")

const (
	second = mono.Time(time.Second)
	start  = 1000 * second
)

// drive runs a claim to its end and returns its actions with their times since
// start, as "0s probe".
func drive(c *Claim) (log []string) {
	for c.Deadline() != 0 {
		now := c.Deadline()
		for c.Deadline().Due(now) {
			log = append(log, fmt.Sprintf("%v %v", now.Sub(start), c.Expire(now)))
		}
	}
	return log
}

// fixed takes the chance out of p.
func fixed(p Params) Params {
	p.InitialDelay = 0
	p.ProbeMax = p.ProbeMin
	return p
}

func TestUndisturbed(t *testing.T) {
	tests := []struct {
		name string
		p    Params
		want string
	}{
		{"RFC 5227", fixed(ACD), "0s probe, 1s probe, 2s probe, 4s assigned, 4s announce, 6s announce"},
		{"RFC 4862", DAD, "0s probe, 1s assigned"},
		{"no probe", NoProbe, "0s assigned, 0s announce, 2s announce"},
		{"nothing at all", Params{}, "0s assigned"},
		{"announce once", Params{Announces: 1}, "0s assigned, 0s announce"},
	}
	for _, tt := range tests {
		c := New(addr, tt.p, nil)
		if c.State() != StateIdle || c.Deadline() != 0 || c.Addr() != addr {
			t.Errorf("%s: new claim is %v", tt.name, c.State())
		}
		for range 2 { // a claim can be started again
			c.Start(start)
			if c.State() != StateProbing {
				t.Errorf("%s: %v after Start", tt.name, c.State())
			}
			if got := strings.Join(drive(c), ", "); got != tt.want {
				t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
			}
			if c.State() != StateAssigned {
				t.Errorf("%s: %v in the end", tt.name, c.State())
			}
		}
	}
}

// TestRandomTimes: RFC 5227 §2.1.1, the delay and the spacing lie in their
// ranges and use them.
func TestRandomTimes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var delays, spacings []time.Duration
	for range 500 {
		c := New(addr, ACD, rnd)
		c.Start(start)
		last := c.Deadline()
		delays = append(delays, last.Sub(start))
		for i := range 3 {
			if a := c.Expire(last); a != Probe {
				t.Fatalf("step %d: %v", i, a)
			}
			if i < 2 {
				spacings = append(spacings, c.Deadline().Sub(last))
				last = c.Deadline()
			}
		}
		if got := c.Deadline().Sub(last); got != 2*time.Second {
			t.Fatalf("waits %v after the last probe", got)
		}
	}
	check := func(what string, got []time.Duration, lo, hi time.Duration) {
		slices.Sort(got)
		span := (hi - lo) / 20
		if min, max := got[0], got[len(got)-1]; min < lo || max > hi || min > lo+span || max < hi-span {
			t.Errorf("%s from %v to %v, want all of %v to %v", what, min, max, lo, hi)
		}
	}
	check("delay", delays, 0, time.Second)
	check("spacing", spacings, time.Second, 2*time.Second)
}

func TestSameSeedSameTimes(t *testing.T) {
	run := func(seed uint64) string {
		c := New(addr, ACD, rand.New(rand.NewPCG(seed, 0)))
		c.Start(start)
		return strings.Join(drive(c), ", ")
	}
	first, again, other := run(1), run(1), run(2)
	if first != again || first == other {
		t.Errorf("times do not follow the seed: %s; %s; %s", first, again, other)
	}
}

// TestStandstill: a host that did not run when the waiting was over hears what
// came meanwhile before it takes the address, and takes it in the end.
func TestStandstill(t *testing.T) {
	for _, p := range []Params{fixed(ACD), DAD} {
		begin := func() (*Claim, mono.Time) {
			c := New(addr, p, nil)
			c.Start(start)
			for range p.Probes {
				c.Expire(c.Deadline())
			}
			return c, c.Deadline()
		}
		c, end := begin()
		now := end + 3*second
		if a := c.Expire(now); a != None || c.Deadline() != now.Add(p.Wait) {
			t.Errorf("%v, deadline %v", a, c.Deadline().Sub(now))
		}
		if a := c.Conflict(now); a != Failed {
			t.Errorf("the answer: %v", a)
		}

		c, end = begin()
		c.Expire(end + 3*second)
		if a := c.Expire(c.Deadline()); a != Assigned {
			t.Errorf("no answer: %v", a)
		}

		// A timer is always a little late.
		c, end = begin()
		if a := c.Expire(end.Add(p.Wait / latePart)); a != Assigned {
			t.Errorf("a little late: %v", a)
		}

		// Always late.
		c, _ = begin()
		n := 0
		for ; c.State() == StateProbing; n++ {
			if a := c.Expire(c.Deadline() + second); a == Probe {
				t.Error("one more probe")
			}
		}
		if n != maxAgain+1 {
			t.Errorf("took the address at step %d", n)
		}

		// It stood still while the probe was sent.
		c, end = begin()
		left := end - second/20
		c.Sent(left)
		if c.Deadline() != left.Add(p.Wait) {
			t.Errorf("the answer has %v", c.Deadline().Sub(left))
		}
	}
	c := New(addr, NoProbe, nil)
	c.Start(start)
	if a := c.Expire(start + 3*second); a != Assigned {
		t.Errorf("nothing to wait for: %v", a)
	}
}

func TestEarlyExpireDoesNothing(t *testing.T) {
	c := New(addr, fixed(ACD), nil)
	if a := c.Expire(start); a != None {
		t.Errorf("not started: %v", a)
	}
	c.Start(start)
	c.Expire(start)
	if a := c.Expire(start + second - 1); a != None || c.Deadline() != start+second {
		t.Errorf("%v, deadline %v", a, c.Deadline())
	}
}

// TestConflictWhileProbing has the conflict after each number of steps of the
// probing.
func TestConflictWhileProbing(t *testing.T) {
	for _, p := range []Params{fixed(ACD), DAD} {
		for steps := range p.Probes + 1 {
			c := New(addr, p, nil)
			c.Start(start)
			for range steps {
				c.Expire(c.Deadline())
			}
			now := start + mono.Time(steps)*second/2
			if a := c.Conflict(now); a != Failed || c.State() != StateDuplicate || c.Deadline() != 0 {
				t.Errorf("%d probes: %v, %v, deadline %v", steps, a, c.State(), c.Deadline())
			}
			if a := c.Conflict(now); a != None {
				t.Errorf("second conflict: %v", a)
			}
			if a := c.Expire(now + 100*second); a != None {
				t.Errorf("a failed claim goes on: %v", a)
			}
		}
	}
}

func TestConflictAfterwards(t *testing.T) {
	type conflict struct {
		at   mono.Time // since the assignment
		want Action
	}
	keep := NoProbe
	tests := []struct {
		name string
		p    Params
		in   []conflict
		end  State
	}{
		{"RFC 5227 §2.4 (b): one", ACD, []conflict{{5 * second, Defend}}, StateAssigned},
		{"two at once", ACD, []conflict{{5 * second, Defend}, {5 * second, Lost}, {6 * second, None}}, StateDuplicate},
		{"the second just in time", ACD, []conflict{{0, Defend}, {10*second - 1, Lost}}, StateDuplicate},
		{"far apart", ACD, []conflict{{0, Defend}, {10 * second, Defend}, {20 * second, Defend}, {25 * second, Lost}}, StateDuplicate},
		{"RFC 5227 §2.4 (c): kept", keep, []conflict{{0, Defend}, {1 * second, None}, {9 * second, None}, {10 * second, Defend}}, StateAssigned},
		{"RFC 4862: not defended", DAD, []conflict{{0, None}, {1, None}}, StateAssigned},
	}
	for _, tt := range tests {
		c := New(addr, fixed(tt.p), nil)
		c.Start(start)
		var now mono.Time
		for c.State() != StateAssigned {
			now = c.Deadline()
			c.Expire(now)
		}
		for i, x := range tt.in {
			if got := c.Conflict(now + x.at); got != x.want {
				t.Errorf("%s: conflict %d: %v, want %v", tt.name, i, got, x.want)
			}
		}
		if c.State() != tt.end {
			t.Errorf("%s: %v, want %v", tt.name, c.State(), tt.end)
		}
		if tt.end == StateDuplicate && c.Deadline() != 0 {
			t.Errorf("%s: still announcing a lost address", tt.name)
		}
	}
}

// TestStartForgetsConflicts: a conflict before the link went down does not
// count after it.
func TestStartForgetsConflicts(t *testing.T) {
	c := New(addr, NoProbe, nil)
	c.Start(start)
	c.Expire(start)
	c.Conflict(start)
	c.Start(start + second)
	c.Expire(start + second)
	if a := c.Conflict(start + second); a != Defend {
		t.Error(a)
	}
}

func TestNames(t *testing.T) {
	for a, want := range map[fmt.Stringer]string{
		None: "none", Probe: "probe", Assigned: "assigned", Announce: "announce", Defend: "defend", Failed: "failed", Lost: "lost",
		StateIdle: "idle", StateProbing: "probing", StateAssigned: "assigned", StateDuplicate: "duplicate",
	} {
		if a.String() != want {
			t.Errorf("%v, want %s", a, want)
		}
	}
}

// FuzzClaim throws time and conflicts at claims: none runs for ever, nor uses
// an address that it has not or no longer.
func FuzzClaim(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(2), []byte{10, 20, 30, 129, 40})
	f.Add(uint64(2), uint8(0), uint8(0), []byte{130, 130})
	f.Fuzz(func(t *testing.T, seed uint64, probes, announces uint8, script []byte) {
		p := ACD
		p.Probes, p.Announces, p.Keep = int(probes), int(announces), seed%2 == 0
		c := New(addr, p, rand.New(rand.NewPCG(seed, 0)))
		now := start
		c.Start(now)
		counts := make(map[Action]int)
		act := func(a Action) {
			counts[a]++
			switch {
			case (a == Probe || a == Failed) && counts[Assigned] > 0,
				(a == Announce || a == Defend || a == Lost) && counts[Assigned] != 1,
				a != None && counts[Failed]+counts[Lost] > 1,
				p.Keep && a == Lost,
				c.State() == StateDuplicate && c.Deadline() != 0,
				c.Deadline() != 0 && c.Deadline() < now && a != None:
				t.Fatalf("%v at %v in state %v after %v", a, now.Sub(start), c.State(), counts)
			}
		}
		for _, s := range script {
			if s >= 128 {
				act(c.Conflict(now))
				continue
			}
			now += mono.Time(s) * second / 8
			for n := 0; c.Deadline().Due(now); n++ {
				if n > 3 {
					t.Fatal("Expire does not come to rest")
				}
				act(c.Expire(now))
			}
		}
		if counts[Probe] > p.Probes || counts[Announce] > p.Announces || counts[Assigned] > 1 {
			t.Fatalf("too many: %v", counts)
		}
	})
}

// TestConflictBeforeFirstStep: an address that is used without probing is not
// given up to who speaks before the timer has run.
func TestConflictBeforeFirstStep(t *testing.T) {
	for _, tt := range []struct {
		p    Params
		want Action
	}{{NoProbe, None}, {ACD, Failed}} {
		p := tt.p
		p.InitialDelay = 0
		c := New(addr, p, rand.New(rand.NewPCG(1, 2)))
		c.Start(start)
		if got := c.Conflict(start); got != tt.want {
			t.Errorf("%v, want %v", got, tt.want)
		}
	}
}
