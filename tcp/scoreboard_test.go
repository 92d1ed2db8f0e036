package tcp

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// TestScoreboard compares the ranges with a map of every single number.
func TestScoreboard(t *testing.T) {
	type number struct {
		sacked, lost, again bool
	}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		c := bare(Conn{sackOK: true})
		b := &c.board
		start := seq.Num(0) - seq.Num(rng.IntN(300)) // crosses 2^32
		c.sndUna, c.sndNxt, c.rack.fack = start, start, start
		var model []number // from sndUna on
		now := mono.Time(1)
		for step := range 400 {
			now += mono.Time(rng.IntN(3))
			c.rack.begin(now, &Segment{}, 0, 0)
			i, j := 0, 0
			if n := len(model); n > 0 {
				i = rng.IntN(n)
				j = i + 1 + rng.IntN(min(n-i, 40))
			}
			left, right := c.sndUna.Add(i), c.sndUna.Add(j)
			switch op := rng.IntN(10); {
			case op < 4 || j == 0: // new
				n := 1 + rng.IntN(50)
				b.add(now, c.sndNxt, c.sndNxt.Add(n), stamp{})
				c.sndNxt = c.sndNxt.Add(n)
				model = append(model, make([]number, n)...)
			case op < 6:
				want := 0
				for k := i; k < j; k++ {
					if !model[k].sacked {
						want++
					}
					model[k] = number{sacked: true}
				}
				if got := b.sack(left, right, &c.rack); got != want || c.rack.bytes != want {
					t.Fatalf("step %d: %d bytes news, %d delivered, want %d", step, got, c.rack.bytes, want)
				}
			case op < 7: // the range that holds left
				k := b.find(left)
				r := b.buf[k]
				b.lose(k)
				for m := r.start.Sub(c.sndUna); m < r.end.Sub(c.sndUna); m++ {
					model[m].lost = !model[m].sacked
				}
				b.join(k-1, k+1)
			case op < 9:
				if b.lost == 0 {
					continue
				}
				left, right = b.firstLost(1 << 30)
				i, j = left.Sub(c.sndUna), right.Sub(c.sndUna)
				for k := range model[:i] {
					if model[k].lost {
						t.Fatalf("step %d: %d is lost, before %d", step, k, i)
					}
				}
				if j < len(model) && model[j].lost {
					t.Fatalf("step %d: %d is lost, after %d:%d", step, j, i, j)
				}
				j = i + 1 + rng.IntN(j-i)
				for k := i; k < j; k++ {
					if !model[k].lost {
						t.Fatalf("step %d: %d is not lost", step, k)
					}
					model[k].lost, model[k].again = false, true
				}
				b.sentOnceMore(now, left, c.sndUna.Add(j), stamp{})
			default:
				want := 0
				for _, m := range model[:i] {
					if !m.sacked {
						want++
					}
				}
				c.sndUna = left
				model = model[i:]
				if b.acked(left, &c.rack); c.rack.bytes != want {
					t.Fatalf("step %d: %d delivered, want %d", step, c.rack.bytes, want)
				}
			}
			if err := b.check(c); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			for k := b.head; k < len(b.buf); k++ {
				r := &b.buf[k]
				for m := r.start.Sub(c.sndUna); m < r.end.Sub(c.sndUna); m++ {
					got := number{r.has(sentSacked), r.has(sentLost), r.has(sentAgain)}
					if got != model[m] {
						t.Fatalf("seed %d step %d: number %d is %v, want %v", seed, step, m, got, model[m])
					}
				}
			}
		}
	}
}

// However the sender sends and the peer acknowledges, the ranges are bounded.
func TestScoreboardBounded(t *testing.T) {
	c := bare(Conn{sackOK: true})
	b, k := &c.board, &c.rack
	add := func(n int) {
		for range n {
			c.sndNxt = c.sndNxt.Add(100)
			b.add(mono.Time(c.sndNxt), c.sndNxt.Add(-100), c.sndNxt, stamp{})
		}
	}
	check := func() {
		t.Helper()
		if err := b.check(c); err != nil {
			t.Fatal(err)
		}
	}
	add(3 * maxSentRanges)
	check()
	if b.count() != maxSentRanges {
		t.Errorf("%d ranges by sending", b.count())
	}
	for i := range 3 * maxSentRanges { // a hole in each segment
		b.sack(seq.Num(i*100+10), seq.Num(i*100+20), k)
		check()
	}
	if b.count() != maxSplitRanges {
		t.Errorf("%d ranges by blocks", b.count())
	}
	add(10)
	b.sack(c.sndNxt.Add(-50), c.sndNxt, k) // cannot be told apart any more
	add(10)
	b.sentOnceMore(1, 5, c.sndNxt.Add(-50), stamp{})
	check()
	b.forget()
	b.loseAll()
	check()
	if b.lost != c.sndNxt.Sub(c.sndUna) || b.sacked != 0 || b.count() > maxSentRanges+1 {
		t.Errorf("%d lost, %d SACKed in %d ranges", b.lost, b.sacked, b.count())
	}
	c.sndUna = c.sndNxt
	if b.acked(c.sndUna, k); b.count() != 0 || cap(b.buf) > keepSentRanges {
		t.Errorf("%d ranges, room for %d", b.count(), cap(b.buf))
	}
}

// A full pipe without loss needs no new memory.
func TestScoreboardAllocs(t *testing.T) {
	c := bare(Conn{sackOK: true})
	b := &c.board
	now := mono.Time(1)
	step := func() {
		now++
		b.add(now, c.sndNxt, c.sndNxt.Add(100), stamp{})
		c.sndNxt = c.sndNxt.Add(100)
		if c.sndNxt.Sub(c.sndUna) > 100*300 {
			c.sndUna = c.sndUna.Add(100)
			b.acked(c.sndUna, &c.rack)
		}
	}
	for range 2000 {
		step()
	}
	if n := testing.AllocsPerRun(5000, step); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if err := b.check(c); err != nil {
		t.Error(err)
	}
	if b.count() != 300 {
		t.Errorf("%d ranges", b.count())
	}
}

// A peer that divides ranges whenever the list is full, and acknowledges others,
// does not make it grow for ever.
func TestScoreboardRoomIsBounded(t *testing.T) {
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 8))
		c := bare(Conn{sackOK: true})
		b := &c.board
		most := 0
		for now := mono.Time(1); now < 60_000; now++ {
			b.add(now, c.sndNxt, c.sndNxt.Add(100), stamp{})
			c.sndNxt = c.sndNxt.Add(100)
			if flight := c.sndNxt.Sub(c.sndUna); len(b.buf) == cap(b.buf) || rng.IntN(8) == 0 {
				at := c.sndUna.Add(1 + rng.IntN(flight))
				b.sack(at, seq.Min(at.Add(1), c.sndNxt), &c.rack)
			} else if flight > 100*1000 {
				c.sndUna = c.sndUna.Add(1 + rng.IntN(300))
				b.acked(c.sndUna, &c.rack)
			}
			most = max(most, cap(b.buf))
		}
		if err := b.check(c); err != nil {
			t.Error(err)
		}
		if most*sentRangeSize > 256<<10 || most < maxSentRanges {
			t.Errorf("room for %d ranges, %d bytes", most, most*sentRangeSize)
		}
		t.Logf("room for %d ranges", most)
	}
}

// The round trip of what was sent twice counts only if it was the second.
func TestRACKDelivered(t *testing.T) {
	const ms = mono.Time(time.Millisecond)
	k := &rack{rackFlight: new(rackFlight)}
	deliver := func(now mono.Time, echo uint32, r sentRange) {
		k.begin(now, &Segment{Options: Options{HasTS: echo != 0, TSEcr: echo}}, 0, 0)
		k.cum = echo != 0 // the echo counts for what is acknowledged
		k.delivered(&r)
	}
	deliver(110*ms, 0, sentRange{sent: 100 * ms, start: 0, end: 10})
	if k.sent != 100*ms || k.end != 10 || k.rtt != 10*time.Millisecond || k.minRTT != k.rtt || k.sample != k.rtt {
		t.Errorf("%+v", k)
	}
	deliver(111*ms, 0, sentRange{sent: 105 * ms, start: 10, end: 20, flags: sentAgain}) // sooner than possible
	deliver(130*ms, 104, sentRange{sent: 105 * ms, start: 20, end: 30, flags: sentAgain})
	deliver(130*ms, 0, sentRange{sent: 129 * ms, start: 30, end: 40, flags: sentCoarse})
	if k.sent != 100*ms || k.minRTT != 10*time.Millisecond || k.sample != 0 {
		t.Errorf("an ambiguous one was taken: %+v", k)
	}
	deliver(130*ms, 105, sentRange{sent: 105 * ms, start: 40, end: 50, flags: sentAgain})
	if k.sent != 105*ms || k.end != 50 || k.rtt != 25*time.Millisecond || k.fack != 50 || k.reorder {
		t.Errorf("%+v", k)
	}
	deliver(130*ms, 0, sentRange{sent: 101 * ms, start: 10, end: 11})
	if !k.reorder || k.sent != 105*ms {
		t.Errorf("%+v", k)
	}
}
