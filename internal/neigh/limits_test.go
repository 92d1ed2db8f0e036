package neigh

// The bounds of the cache.

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/pkt"
)

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1 + byte(i>>16), byte(i >> 8), byte(i)})
}

func TestEviction(t *testing.T) {
	w := newWorld(t, Config{MaxEntries: 4, FailedHold: -1})
	w.output(addr(3), "i") // becomes failed
	w.run(3 * time.Second)
	w.output(addr(0), "r")
	w.Advertised(w.at, addr(0), macA, true, true, true, false) // reachable
	w.Solicited(w.at, addr(1), macA, true)                     // stale
	w.output(addr(2), "i")                                     // incomplete
	w.host.log = nil
	has := func() (s string) {
		for _, e := range w.Entries() {
			s += fmt.Sprint(e.Addr.As4()[3])
		}
		return s
	}
	if has() != "0123" {
		t.Fatal(has())
	}
	// Failed, then stale, then incomplete, then the least recently used.
	w.Solicited(w.at, addr(4), macA, true)
	if has() != "0124" {
		t.Fatal(has())
	}
	w.output(addr(4), "x") // 4 is in use now
	w.output(addr(5), "x")
	if has() != "0245" {
		t.Fatal(has())
	}
	// Nobody gets in by talking to us while all others are in use.
	w.Solicited(w.at, addr(6), macA, true)
	if has() != "0245" || w.Stats().Refused != 1 {
		t.Fatal(has())
	}
	w.output(addr(0), "x") // 0 more recently than 4
	w.Advertised(w.at, addr(2), macA, true, true, true, false)
	w.Advertised(w.at, addr(5), macA, true, true, true, false)
	w.output(addr(6), "x")
	if has() != "0256" {
		t.Fatal(has())
	}
	w.output(addr(7), "x") // the incomplete 6 goes, and its frame fails
	if has() != "0257" || len(w.host.failed) != 2 || w.Stats().Evictions != 4 {
		t.Fatal(has(), w.host.failed, w.Stats())
	}
	w.Flush(w.at)
}

func TestScanFlood(t *testing.T) {
	live := pkt.Live()
	w := newWorld(t, Config{})
	w.host.quiet = true
	w.output(peer, "a")
	w.Advertised(w.at, peer, macA, true, true, true, false)
	for i := range 100_000 {
		p := pkt.From(make([]byte, 1400))
		if _, r := w.Output(w.at, addr(i), p); r != Queued && r != Full {
			t.Fatal(r)
		}
		w.host.failed = nil
		w.at = w.at.Add(10 * time.Microsecond)
		if d := w.Deadline(); d <= w.at {
			w.Expire(w.at)
		}
		if i%10_000 == 0 {
			w.check()
		}
	}
	w.check()
	if n := pkt.Live() - live; n > 1024 {
		t.Errorf("%d frames wait", n)
	}
	if e := w.entry(peer); e.State != Reachable {
		t.Error("the scan evicted a neighbour in use")
	}
	if len(w.Entries()) != 1024 {
		t.Error(len(w.Entries()))
	}
	// As many who talk to us: the table does not grow either.
	for i := range 100_000 {
		w.Solicited(w.at, addr(i+200_000), macB, true)
	}
	w.check()
	if e := w.entry(peer); e.State != Reachable {
		t.Error("the flood evicted a neighbour in use")
	}
	w.at = w.at.Add(time.Second)
	w.Expire(w.at) // many at once
	w.run(3 * time.Second)
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d frames wait for ever", n)
	}
	if len(w.Entries()) == 0 {
		t.Error("failed neighbours are shown for a while")
	}
	w.run(2 * time.Minute)
	if len(w.Entries()) != 0 || w.Deadline() != 0 {
		t.Error(len(w.Entries()))
	}
}

// Answers to strangers make the cache look for some of them, and leave the rest
// of the table to those that a program of ours wants to reach.
func TestAnswer(t *testing.T) {
	w := newWorld(t, Config{MaxEntries: 40})
	w.host.quiet = true
	answer := func(a netip.Addr) Result {
		p := pkt.From([]byte("x"))
		_, r := w.Answer(w.at, a, p)
		if r == Send || r == Refused {
			p.Put()
		}
		w.check()
		return r
	}
	for i := range 10 {
		if r := answer(addr(i)); r != Queued {
			t.Fatalf("answer %d: %v", i, r)
		}
	}
	if r := answer(addr(10)); r != Refused || w.Stats().Refused != 1 {
		t.Errorf("one more: %v", r)
	}
	if r := answer(addr(3)); r != Queued {
		t.Errorf("to one that is looked for: %v", r)
	}
	if r := w.output(addr(10), "x"); r != Queued {
		t.Errorf("of our own: %v", r)
	}
	w.Solicited(w.at, addr(11), macA, true)
	if r := answer(addr(11)); r != Send {
		t.Errorf("to one that is known: %v", r)
	}
	w.run(3 * time.Second)
	if r := answer(addr(3)); r != Refused {
		t.Errorf("to one that has just not answered: %v", r)
	}
	w.run(2 * time.Second)
	for i := range 10 {
		if r := answer(addr(i)); r != Queued {
			t.Errorf("later: %v", r)
		}
	}
	if r := answer(addr(10)); r != Refused {
		t.Errorf("to a failed one, among as many as before: %v", r)
	}
	w.Flush(w.at)
}

func TestQueueBytes(t *testing.T) {
	w := newWorld(t, Config{})
	for range 8 {
		p := pkt.Get(60000)
		p.Append(60000)
		if _, r := w.Output(w.at, silent, p); r == Refused {
			t.Fatal(r)
		}
		w.check()
	}
	// Counted by the memory they pin, 3 of the largest frames fit.
	if e := w.entry(silent); e.Queued != 3 || w.Stats().QueueDrops != 5 {
		t.Errorf("%+v", e)
	}
	w.Flush(w.at)
}

func TestNoAllocation(t *testing.T) {
	w := newWorld(t, Config{})
	for i := range 100 {
		w.Solicited(w.at, addr(i), macA, true)
		w.Confirm(w.at, addr(i))
	}
	p := pkt.From([]byte("x"))
	defer p.Put()
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		a := addr(i % 100)
		if _, r := w.Output(w.at, a, p); r != Send {
			t.Fatal(r)
		}
		w.Confirm(w.at, a)
		w.at = w.at.Add(time.Millisecond)
		w.Expire(w.at)
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}
