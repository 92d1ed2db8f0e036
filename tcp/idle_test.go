package tcp

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// bare completes a connection that a test has put together itself.
func bare(c Conn) *Conn {
	c.flight, c.extras = new(flight), &noExtras
	c.rack.rackFlight = &c.flight.rackFlight
	return &c
}

// sharedWritten reports whether what all connections share has been written to.
func sharedWritten() error {
	switch {
	case !reflect.ValueOf(&asleep).Elem().IsZero():
		return fmt.Errorf("asleep was written to: %+v", asleep)
	case noExtras != (extras{}):
		return fmt.Errorf("noExtras was written to: %+v", noExtras)
	case noKnobs != (Knobs{}):
		return fmt.Errorf("noKnobs was written to: %+v", noKnobs)
	}
	return nil
}

// said is what one end of a sim says of itself.
type said struct {
	now                mono.Time
	end                int
	info               Info
	deadline           mono.Time
	readable, writable int
	err                error
	queued             Queued
}

// diary stands for a sequence of things.
type diary struct {
	seed maphash.Seed
	n    int
	hash uint64
}

func (r *diary) add(x any) {
	r.n++
	r.hash = maphash.Comparable(r.seed, [2]uint64{r.hash, maphash.Comparable(r.seed, x)})
}

// TestNaps: connections that are put to sleep between any two calls, whenever
// they may be, send the same segments at the same times and say the same of
// themselves as those that never sleep.
func TestNaps(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() || raceEnabled {
		seeds = 15
	}
	slept := 0
	diarySeed := maphash.MakeSeed()
	newDiary := func() *diary { return &diary{seed: diarySeed} }
	for seed := range seeds {
		run := func(naps *rand.Rand) (r *diary, slept int) {
			s := newSim(t, 5000+seed)
			s.noSack, s.noTS = seed%3 == 2, seed%4 == 3
			s.naps, s.diary = naps, newDiary()
			s.memory = nil // which would be used up differently
			for i := range s.end {
				e := &s.end[i]
				e.cfg.Memory, e.cfg.ECN = nil, ECN(seed/4)%numECN
				e.pauses = true
			}
			s.end[0].c = NewActive(&s.end[0].cfg, s.now)
			s.flush(0)
			s.run(4 * time.Hour)
			return s.diary, s.slept
		}
		want, _ := run(nil)
		got, n := run(rand.New(rand.NewPCG(seed, 2)))
		if *got != *want {
			t.Errorf("seed %d: %+v with naps, %+v without", seed, *got, *want)
		}
		slept += n
	}
	t.Logf("slept %d times", slept)
	if slept < 1000*int(seeds) {
		t.Errorf("slept only %d times", slept)
	}
}

// TestNapsOfPrograms is TestNaps for random programs of FuzzConn: segments that
// no peer should send, and every call there is.
func TestNapsOfPrograms(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	n := 1000
	if testing.Short() || raceEnabled {
		n = 200
	}
	for i := range n {
		prog := make([]byte, rng.IntN(400))
		for k := range prog {
			prog[k] = byte(rng.Uint32())
		}
		fuzzNaps(t, prog, i%4 != 0)
	}
}

// TestSleepersAreCalled calls every method there is on connections that sleep,
// open ones and closed ones: none writes to what they share.
func TestSleepersAreCalled(t *testing.T) {
	now := mono.Time(2 * time.Second)
	asleepIn := func(closed bool) *Conn {
		p := newPair(t, 1460)
		p.a[0].Write(p.buf[:5000])
		p.move(0)
		p.a[1].Read(p.buf)
		p.move(0)
		c := p.a[1]
		if closed {
			for _, c := range p.a {
				c.Close(p.now)
				p.move(0)
			}
		}
		c.Trim(now)
		if c.flight != &asleep || closed != (c.state == Closed) {
			t.Fatalf("awake in %v: %+v", c.state, c.pending)
		}
		return c
	}
	args := func(f reflect.Type, variant int) (in []reflect.Value) {
		for i := 1; i < f.NumIn(); i++ { // 0 is the receiver
			ty := f.In(i)
			switch reflect.Zero(ty).Interface().(type) {
			case *Conn:
				in = append(in, reflect.ValueOf(asleepIn(false)))
			case mono.Time:
				in = append(in, reflect.ValueOf(now))
			case *Segment:
				in = append(in, reflect.ValueOf(new(Segment)))
			case *Sink:
				in = append(in, reflect.ValueOf(new(Sink)))
			case []byte:
				in = append(in, reflect.ValueOf(make([]byte, 100)))
			case string:
				in = append(in, reflect.ValueOf([]string{"bbr", "reno"}[variant%2]))
			case Knob:
				in = append(in, reflect.ValueOf(Knob(variant/4)))
			case int:
				in = append(in, reflect.ValueOf([]int{1, 1200, 0, 100_000}[variant%4]))
			default:
				in = append(in, reflect.Zero(ty))
			}
		}
		return in
	}
	ty := reflect.TypeFor[*Conn]()
	for i := range ty.NumMethod() {
		m := ty.Method(i)
		for variant := range 4 * int(NumKnobs) {
			for _, closed := range []bool{false, true} {
				if variant >= 4 && m.Name != "SetKnob" && m.Name != "Knob" {
					continue
				}
				c := asleepIn(closed)
				reflect.ValueOf(c).Method(i).Call(args(m.Type, variant))
				if err := sharedWritten(); err != nil {
					t.Fatalf("%s: %v", m.Name, err)
				}
				if err := c.invariants(); err != nil {
					t.Errorf("%s: %v", m.Name, err)
				}
				for range 10 {
					c.Output(now, new(Segment), 0)
				}
				if err := c.settled(); err != nil {
					t.Errorf("%s: %v", m.Name, err)
				}
			}
		}
	}
}
