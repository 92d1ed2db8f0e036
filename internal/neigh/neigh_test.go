package neigh

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if n := pkt.Live(); code == 0 && n != 0 {
		fmt.Fprintf(os.Stderr, "%d buffers leaked\n", n)
		code = 1
	}
	os.Exit(code)
}

const start = mono.Time(time.Hour)

var (
	macA   = [6]byte{2, 0, 0, 0, 0, 0xa}
	macB   = [6]byte{2, 0, 0, 0, 0, 0xb}
	peer   = netip.MustParseAddr("10.0.0.9")
	silent = netip.MustParseAddr("10.0.0.66")
)

// host records what the cache asks of its interface, one line per call, and
// owns and frees the frames it is given.
type host struct {
	now   func() mono.Time
	log   []string
	quiet bool
	// frames by tag, to prove order and ownership
	resolved, failed []string
}

func (h *host) add(format string, a ...any) {
	if h.quiet {
		return
	}
	h.log = append(h.log, fmt.Sprintf("%gs ", h.now().Sub(start).Seconds())+fmt.Sprintf(format, a...))
}

func (h *host) Solicit(target netip.Addr, to [6]byte, unicast bool, waits *pkt.Buf) {
	if unicast {
		h.add("ask %v at %x", target, to[5])
	} else {
		h.add("ask %v", target)
	}
}

func (h *host) Resolved(mac [6]byte, q []*pkt.Buf) {
	h.add("send %d to %x", len(q), mac[5])
	h.resolved = append(h.resolved, drain(q)...)
}

func (h *host) Failed(target netip.Addr, q []*pkt.Buf) {
	h.add("failed %v with %d", target, len(q))
	h.failed = append(h.failed, drain(q)...)
}

func (h *host) Unreachable(target netip.Addr) { h.add("unreachable %v", target) }

func drain(q []*pkt.Buf) (tags []string) {
	for _, p := range q {
		tags = append(tags, string(p.Bytes()))
		p.Put()
	}
	return tags
}

// world is a cache in virtual time.
type world struct {
	t testing.TB
	*Cache
	host *host
	at   mono.Time
}

func newWorld(t testing.TB, c Config) *world {
	w := &world{t: t, at: start}
	w.host = &host{now: func() mono.Time { return w.at }}
	w.Cache = New(c, w.host, rand.New(rand.NewPCG(1, 2)))
	return w
}

// output sends one tagged frame and frees it if it was not taken.
func (w *world) output(dst netip.Addr, tag string) Result {
	p := pkt.From([]byte(tag))
	_, r := w.Output(w.at, dst, p)
	if r == Send || r == Refused {
		p.Put()
	}
	w.check()
	return r
}

// run lets time pass, calling Expire exactly when the cache asks for it.
func (w *world) run(d time.Duration) {
	end := w.at.Add(d)
	for n := 0; w.Deadline() != 0 && w.Deadline() <= end; n++ {
		if n > 1_000_000 {
			w.t.Fatal("the deadline does not move")
		}
		w.at = max(w.at, w.Deadline())
		w.Expire(w.at)
		w.check()
	}
	w.at = end
}

func (w *world) entry(a netip.Addr) Entry {
	for _, e := range w.Entries() {
		if e.Addr == a {
			return e
		}
	}
	return Entry{}
}

func (w *world) want(log ...string) {
	w.t.Helper()
	if !slices.Equal(w.host.log, log) {
		w.t.Errorf("calls:\n  %s\nwant:\n  %s", strings.Join(w.host.log, "\n  "), strings.Join(log, "\n  "))
	}
	w.host.log = nil
}

// check tests what must hold after every call.
func (w *world) check() {
	t, c := w.t, w.Cache
	t.Helper()
	if len(c.table) > c.cfg.MaxEntries {
		t.Fatalf("%d entries of %d", len(c.table), c.cfg.MaxEntries)
	}
	listed, bytes, waiting := 0, 0, 0
	for rank := range c.ranks {
		var prev *entry
		for e := c.ranks[rank].first; e != nil; prev, e = e, e.links[byRank].next {
			listed++
			switch {
			case rankOf[e.state] != rank || e.state == None:
				t.Fatalf("%v is %v in rank %d", e.addr, e.state, rank)
			case e.links[byRank].prev != prev:
				t.Fatal("list is broken")
			case c.table[e.addr] != e:
				t.Fatalf("%v is listed but not in the table", e.addr)
			case len(e.queue) > 0 && e.state != Incomplete:
				t.Fatalf("frames wait in a %v entry", e.state)
			case len(e.queue) > c.cfg.QueueFrames || e.queueBytes > c.cfg.QueueBytes:
				t.Fatalf("queue of %d frames, %d bytes", len(e.queue), e.queueBytes)
			case (e.index >= 0) != (e.state != Static):
				t.Fatalf("timer of a %v entry at %d", e.state, e.index)
			case e.index >= 0 && (c.timers[e.index] != e || e.when > e.due):
				t.Fatal("timer is broken")
			case e.known() == (e.mac == [6]byte{}):
				t.Fatalf("%v with address %x", e.state, e.mac)
			}
			sum := 0
			for _, p := range e.queue {
				sum += cost(p)
			}
			if sum != e.queueBytes {
				t.Fatalf("%d bytes wait, counted %d", sum, e.queueBytes)
			}
			if sum > 0 {
				waiting++
			}
			bytes += sum
		}
	}
	if listed != len(c.table) || bytes != c.Bytes() || bytes > c.cfg.QueueTotalBytes {
		t.Fatalf("%d listed of %d, %d bytes counted as %d of %d", listed, len(c.table), bytes, c.queuedBytes, c.cfg.QueueTotalBytes)
	}
	for e := c.waiting.first; e != nil; e = e.links[byWait].next {
		waiting--
	}
	if waiting != 0 {
		t.Fatal("the list of waiting neighbours is wrong")
	}
	for i := 1; i < len(c.timers); i++ {
		if c.timers[(i-1)/2].when > c.timers[i].when {
			t.Fatal("heap is broken")
		}
	}
}

func TestFirstPacketIsNotLost(t *testing.T) {
	w := newWorld(t, Config{})
	for i := range 3 {
		if r := w.output(peer, fmt.Sprint("p", i)); r != Queued {
			t.Fatalf("result %v", r)
		}
	}
	w.run(300 * time.Millisecond)
	w.Advertised(w.at, peer, macA, true, true, true, false)
	w.want("0s ask 10.0.0.9", "0.3s send 3 to a")
	if got := strings.Join(w.host.resolved, " "); got != "p0 p1 p2" {
		t.Errorf("order %q", got)
	}
	p := pkt.From([]byte("x"))
	if mac, r := w.Output(w.at, peer, p); r != Send || mac != macA {
		t.Errorf("%x %v", mac, r)
	}
	p.Put()
	if got, want := w.Stats(), (Stats{Solicits: 1, Resolved: 1}); got != want {
		t.Errorf("stats %+v", got)
	}
}

func TestSilentNeighbour(t *testing.T) {
	w := newWorld(t, Config{})
	// A flood: one question a second, whatever is sent.
	for i := range 3000 {
		w.output(silent, fmt.Sprint(i))
		w.run(time.Millisecond - 1)
	}
	w.run(time.Second)
	w.want("0s ask 10.0.0.66", "1s ask 10.0.0.66", "2s ask 10.0.0.66", "3s failed 10.0.0.66 with 64")
	if w.host.failed[0] != "2936" || w.host.failed[63] != "2999" {
		t.Errorf("the last frames must be kept, in order: %v", w.host.failed)
	}
	s := w.Stats()
	if s.QueueDrops != 3000-64 || s.Failed != 1 || s.Solicits != 3 {
		t.Errorf("stats %+v", s)
	}

	// The negative entry refuses for FailedHold, then asks again.
	w = newWorld(t, Config{})
	w.output(silent, "a")
	w.run(3*time.Second + 999*time.Millisecond)
	if r := w.output(silent, "b"); r != Refused {
		t.Errorf("in hold: %v", r)
	}
	w.run(time.Millisecond)
	if r := w.output(silent, "c"); r != Queued {
		t.Errorf("after hold: %v", r)
	}
	w.want("0s ask 10.0.0.66", "1s ask 10.0.0.66", "2s ask 10.0.0.66", "3s failed 10.0.0.66 with 1", "4s ask 10.0.0.66")
	w.Flush(w.at)

	w = newWorld(t, Config{FailedHold: -1})
	w.output(silent, "a")
	w.run(3 * time.Second)
	if r := w.output(silent, "b"); r != Queued {
		t.Errorf("without hold: %v", r)
	}
	w.Flush(w.at)
}

func TestSilenceDelaysNobody(t *testing.T) {
	w := newWorld(t, Config{QueueTotalBytes: 512 << 10})
	// More silent neighbours than the bytes suffice for, all flooded.
	for i := range 40 {
		for range 64 {
			w.output(addr(1000+i), "flood")
		}
	}
	if r := w.output(peer, "good"); r != Full {
		t.Errorf("result %v", r)
	}
	w.Advertised(w.at, peer, macA, true, true, true, false)
	if len(w.host.resolved) != 1 {
		t.Error("the frame to the live neighbour was lost")
	}
	if n := w.Stats().Solicits; n != 41 {
		t.Errorf("%d questions to 41 neighbours", n)
	}
	w.Flush(w.at)
	w.check()
}

func TestUnreachability(t *testing.T) {
	w := newWorld(t, Config{})
	w.output(peer, "a")
	w.Advertised(w.at, peer, macA, true, true, true, true)
	w.host.log = nil
	w.run(46 * time.Second)
	if e := w.entry(peer); e.State != Stale || e.Since < start.Add(15*time.Second) || e.Since > start.Add(45*time.Second) {
		t.Fatalf("%+v", e)
	}
	base := w.at.Sub(start).Seconds()
	if r := w.output(peer, "b"); r != Send || w.entry(peer).State != Delay {
		t.Fatal("a stale address is used, and doubted")
	}
	w.run(5*time.Second - 1)
	if w.entry(peer).State != Delay {
		t.Error("probing too early")
	}
	w.run(1)
	if r := w.output(peer, "c"); r != Send {
		t.Error("probing does not stop traffic")
	}
	w.run(3 * time.Second)
	w.want(fmt.Sprintf("%gs ask 10.0.0.9 at a", base+5), fmt.Sprintf("%gs ask 10.0.0.9 at a", base+6),
		fmt.Sprintf("%gs ask 10.0.0.9 at a", base+7), fmt.Sprintf("%gs unreachable 10.0.0.9", base+8))
	// Its address may have changed: the next frame asks everybody at once.
	if e := w.entry(peer); e.State != Failed || e.IsRouter || e.MAC != [6]byte{} {
		t.Errorf("%+v", e)
	}
	if r := w.output(peer, "d"); r != Queued || w.Stats().Unreachable != 1 {
		t.Error(r)
	}
	w.Flush(w.at)
}

func TestConfirmKeepsReachable(t *testing.T) {
	w := newWorld(t, Config{})
	w.output(peer, "a")
	w.Advertised(w.at, peer, macA, true, true, true, false)
	w.host.log = nil
	for range 600 {
		w.run(time.Second)
		w.output(peer, "x")
		w.Confirm(w.at, peer)
	}
	w.want()
	if e := w.entry(peer); e.State != Reachable || e.Since != start {
		t.Errorf("%+v", e)
	}
	// Forgotten at last: reachable at most 45 s, stale for 60 s.
	w.run(106 * time.Second)
	if len(w.Entries()) != 0 || w.Deadline() != 0 {
		t.Error("an unused neighbour is kept")
	}
}

func TestLookup(t *testing.T) {
	w := newWorld(t, Config{})
	if _, ok := w.Lookup(w.at, peer); ok || len(w.Entries()) != 0 {
		t.Error("lookup makes no entry")
	}
	w.Solicited(w.at, peer, macA, true)
	if mac, ok := w.Lookup(w.at, peer.WithZone("x")); !ok || mac != macA || w.entry(peer).State != Delay {
		t.Error("lookup is a use")
	}
	w.want()
}

func TestFlapHold(t *testing.T) {
	w := newWorld(t, Config{FlapHold: time.Second})
	w.output(peer, "a")
	w.Advertised(w.at, peer, macA, true, true, true, false)
	w.run(time.Second - 1)
	w.Advertised(w.at, peer, macB, true, true, true, false)
	if e := w.entry(peer); e.MAC != macA || e.State != Reachable {
		t.Errorf("the second answer won: %+v", e)
	}
	w.run(1)
	w.Advertised(w.at, peer, macB, true, true, true, false)
	if e := w.entry(peer); e.MAC != macB {
		t.Errorf("the address may change later: %+v", e)
	}
}

func TestBadAddresses(t *testing.T) {
	w := newWorld(t, Config{})
	bad := [][6]byte{{}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}}
	w.output(peer, "a")
	for _, mac := range bad {
		w.Solicited(w.at, peer, mac, true)
		w.Advertised(w.at, peer, mac, true, true, true, false)
		if w.SetStatic(silent, mac) {
			t.Errorf("static %x", mac)
		}
	}
	if e := w.entry(peer); e.State != Incomplete || w.Stats().BadAddress != 6 {
		t.Errorf("%+v %+v", e, w.Stats())
	}
	for _, a := range []netip.Addr{{}, netip.IPv6Unspecified(), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("ff02::1")} {
		if r := w.output(a, "x"); r != Refused {
			t.Errorf("%v: %v", a, r)
		}
		w.Solicited(w.at, a, macA, true)
	}
	if len(w.Entries()) != 1 {
		t.Error(w.Entries())
	}
	w.Flush(w.at)
}

func TestStatic(t *testing.T) {
	w := newWorld(t, Config{MaxEntries: 2})
	w.output(peer, "a")
	if !w.SetStatic(peer, macA) {
		t.Fatal("refused")
	}
	w.want("0s ask 10.0.0.9", "0s send 1 to a")
	w.run(24 * time.Hour)
	w.Flush(w.at)
	if e := w.entry(peer); e.State != Static || w.Deadline() != 0 {
		t.Errorf("%+v", e)
	}
	if !w.SetStatic(silent, macB) || w.SetStatic(addr(1), macB) {
		t.Error("the table holds two")
	}
	if r := w.output(addr(1), "x"); r != Refused {
		t.Errorf("full of static entries: %v", r)
	}
	if !w.Delete(peer) || w.Delete(peer) {
		t.Error("delete")
	}
	if r := w.output(addr(1), "x"); r != Queued || !w.Delete(addr(1)) || len(w.host.failed) != 1 {
		t.Error("a deleted neighbour's frames fail")
	}
}

func TestFlush(t *testing.T) {
	w := newWorld(t, Config{})
	w.output(silent, "a")
	w.output(silent, "b")
	w.Solicited(w.at, peer, macA, true)
	w.Flush(w.at)
	w.want("0s ask 10.0.0.66", "0s failed 10.0.0.66 with 2")
	if len(w.Entries()) != 0 || w.Deadline() != 0 {
		t.Error(w.Entries())
	}
}

func TestSetTimers(t *testing.T) {
	w := newWorld(t, Config{})
	w.SetTimers(0, 2*time.Second)
	w.output(silent, "a")
	w.run(7 * time.Second)
	w.want("0s ask 10.0.0.66", "2s ask 10.0.0.66", "4s ask 10.0.0.66", "6s failed 10.0.0.66 with 1")
	// A hostile advertisement cannot make us flood.
	w.SetTimers(1, 1)
	if w.cfg.RetransTimer != minTimer || w.cfg.BaseReachable != minTimer {
		t.Error("no floor")
	}
	w.SetTimers(1<<62, 1<<62)
	if w.cfg.RetransTimer != maxRetrans || w.cfg.BaseReachable != maxReachable {
		t.Error("no ceiling")
	}
	// Repeating a value does not draw a new factor (RFC 4861 §6.3.4).
	before := w.reachableTime(w.at)
	w.SetTimers(maxReachable, 0)
	if w.reachableTime(w.at) != before {
		t.Error("drawn again")
	}
	seen := map[time.Duration]bool{}
	for range 100 {
		w.at = w.at.Add(reachableRedraw)
		r := w.reachableTime(w.at)
		seen[r] = true
		if r < maxReachable/2 || r > maxReachable*3/2 {
			t.Fatalf("%v is out of the range of RFC 4861 §6.3.2", r)
		}
	}
	if len(seen) < 50 {
		t.Error("not random")
	}
}
