package neigh

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The complete table of RFC 4861 appendix C, with §7.2.5 where the appendix is
// terser: each thing that may be heard, in each state. A cell is the state
// afterwards and whose address is cached: a, the one known before, or b. The
// entry of the Failed column counts as none, but is kept.
//
// NA s/o are advertisements that are solicited and override; "-" names no
// link-layer address, "a" the one cached, "b" another. "NS" stands for all
// that carry a source link-layer address; "!" where none may be created. In the
// Incomplete column a frame waits, and going out makes of stale delay (§7.3.3).
// The last column is the state of RFC 7048 §3, with patience for three questions.
const appendixC = `
event    none          incomplete    reachable    stale        delay        probe        failed       static    unreachable
NS-a     stale-a       delay-a       reachable-a  stale-a      delay-a      probe-a      stale-a      static-a  unreachable-a
NS-b     stale-b       delay-b       stale-b      stale-b      stale-b      stale-b      stale-b      static-a  stale-b
NS-a!    none          delay-a       reachable-a  stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NS-b!    none          delay-b       stale-b      stale-b      stale-b      stale-b      failed       static-a  stale-b
NA--     none          incomplete    reachable-a  stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NA-s-    none          incomplete    reachable-a  reachable-a  reachable-a  reachable-a  failed       static-a  reachable-a
NA-o-    none          incomplete    reachable-a  stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NA-so-   none          incomplete    reachable-a  reachable-a  reachable-a  reachable-a  failed       static-a  reachable-a
NA-a     none          delay-a       reachable-a  stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NA-sa    none          reachable-a   reachable-a  reachable-a  reachable-a  reachable-a  failed       static-a  reachable-a
NA-oa    none          delay-a       reachable-a  stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NA-soa   none          reachable-a   reachable-a  reachable-a  reachable-a  reachable-a  failed       static-a  reachable-a
NA-b     none          delay-b       stale-a      stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NA-sb    none          reachable-b   stale-a      stale-a      delay-a      probe-a      failed       static-a  unreachable-a
NA-ob    none          delay-b       stale-b      stale-b      stale-b      stale-b      failed       static-a  stale-b
NA-sob   none          reachable-b   reachable-b  reachable-b  reachable-b  reachable-b  failed       static-a  reachable-b
upper    none          incomplete    reachable-a  reachable-a  reachable-a  reachable-a  failed       static-a  reachable-a
doubt    none          incomplete    probe-a      probe-a      probe-a      probe-a      failed       static-a  unreachable-a
output   incomplete    incomplete    reachable-a  delay-a      delay-a      probe-a      incomplete   static-a  unreachable-a
timeout  none          incomplete    stale-a      none         probe-a      probe-a      none         static-a  unreachable-a
timeout3 none          failed        none         none         failed       failed       none         static-a  failed
`

// inState returns a world whose cache has peer in the state, with macA, by way
// of the calls that lead there.
func inState(t *testing.T, s State) *world {
	c := Config{FailedHold: -1}
	if s == Unreachable {
		c.Patience = 3
	}
	w := newWorld(t, c)
	switch s {
	case None:
	case Incomplete, Failed:
		w.output(peer, "waits")
		if s == Failed {
			w.run(3 * time.Second)
		}
	case Static:
		w.SetStatic(peer, macA)
	default:
		w.Solicited(w.at, peer, macA, true)
		if s == Reachable {
			w.Confirm(w.at, peer)
		}
		if s == Delay || s == Probe || s == Unreachable {
			w.output(peer, "sent")
		}
		switch s {
		case Probe:
			w.run(5 * time.Second)
		case Unreachable:
			w.run(8 * time.Second)
		}
	}
	if got := w.entry(peer).State; got != s {
		t.Fatalf("state is %v, not %v", got, s)
	}
	w.host.log, w.host.resolved, w.host.failed = nil, nil, nil
	return w
}

func TestAppendixC(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(appendixC), "\n")
	cells := 0
	for _, row := range rows[1:] {
		f := strings.Fields(row)
		event := f[0]
		if len(f) != 10 {
			t.Fatalf("row %q", row)
		}
		for s := None; s <= Unreachable; s++ {
			want := f[1+int(s)]
			t.Run(event+"/"+s.String(), func(t *testing.T) {
				w := inState(t, s)
				hear(w, event)
				w.check()
				e := w.entry(peer)
				got := e.State.String()
				switch e.MAC {
				case macA:
					got += "-a"
				case macB:
					got += "-b"
				}
				if got != want {
					t.Errorf("%s, want %s", got, want)
				}
				// What waited is sent exactly when an address was found, and
				// fails exactly when none was.
				sent, failed := len(w.host.resolved), len(w.host.failed)
				if s == Incomplete && (sent == 1) != (e.MAC != [6]byte{}) ||
					s == Incomplete && (failed == 1) != (e.State == Failed) || s != Incomplete && sent+failed != 0 {
					t.Errorf("sent %d, failed %d", sent, failed)
				}
				w.Flush(w.at)
			})
			cells++
		}
	}
	if cells != (len(rows)-1)*9 {
		t.Error("the table is not complete")
	}
}

func hear(w *world, event string) {
	name, arg, _ := strings.Cut(event, "-")
	mac := macA
	if strings.Contains(arg, "b") {
		mac = macB
	}
	switch name {
	case "NS":
		w.Solicited(w.at, peer, mac, !strings.HasSuffix(arg, "!"))
	case "NA":
		w.Advertised(w.at, peer, mac, strings.ContainsAny(arg, "ab"), strings.Contains(arg, "s"), strings.Contains(arg, "o"), false)
	case "upper":
		w.Confirm(w.at, peer)
	case "doubt":
		w.Doubt(w.at, peer)
	case "output":
		w.output(peer, "new")
	case "timeout", "timeout3":
		n := 1
		if name == "timeout3" {
			n = 3
			if w.entry(peer).State == Delay {
				n = 4
			}
		}
		for range n {
			if w.Deadline() == 0 {
				break
			}
			w.run(w.Deadline().Sub(w.at))
		}
	}
}

// IsRouter follows the last advertisement that was believed, and the caller
// learns when a router ceases to be one (RFC 4861 §7.2.5).
func TestIsRouter(t *testing.T) {
	for _, s := range []State{Incomplete, Reachable, Stale, Delay, Probe} {
		for _, hasMAC := range []bool{true, false} {
			t.Run(fmt.Sprint(s, hasMAC), func(t *testing.T) {
				w := inState(t, s)
				if w.Advertised(w.at, peer, macA, hasMAC, false, false, true) || !w.entry(peer).IsRouter {
					t.Error("became no router")
				}
				if !w.Advertised(w.at, peer, macA, hasMAC, false, true, false) || w.entry(peer).IsRouter {
					t.Error("still a router")
				}
				w.SetRouter(peer, true)
				if !w.entry(peer).IsRouter {
					t.Error("its router advertisement says so")
				}
				if s != Incomplete && (w.Advertised(w.at, peer, macB, true, false, false, false) || !w.entry(peer).IsRouter) {
					t.Error("an advertisement that is not believed changed it")
				}
				w.Flush(w.at)
			})
		}
	}
}

// FuzzCache drives a small cache with arbitrary calls: whatever comes, its
// bounds and structures hold and each frame ends once.
func FuzzCache(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x14\x25\x36\x47"))
	f.Add([]byte{140, 0, 4, 0x60, 4, 0x78, 8, 20, 4, 0x70, 4, 0x78, 8, 100, 5, 0, 3, 8, 9, 1})
	f.Add([]byte{0, 0, 0, 1, 9, 200, 9, 200, 9, 200, 9, 200, 0, 0, 2, 0, 8, 255, 0, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		w := newWorld(t, Config{MaxEntries: 5, QueueFrames: 3, QueueTotalBytes: 1, LockTime: 300 * time.Millisecond, Verify: len(ops) > 0 && ops[0] >= 128})
		defer func() {
			w.Flush(w.at)
			for i := range 8 {
				w.Delete(addr(i))
			}
			w.check()
			if len(w.table) != 0 || w.queuedBytes != 0 || w.Deadline() != 0 {
				t.Fatal("not empty")
			}
		}()
		ops = ops[:min(len(ops), 600)]
		given, back := 0, func() int { return len(w.host.resolved) + len(w.host.failed) + int(w.Stats().QueueDrops) }
		for ; len(ops) >= 2 && len(w.host.log) < 5000; ops = ops[2:] {
			op, arg := ops[0], ops[1]
			a, mac := addr(int(arg&7)), macA
			if arg&8 != 0 {
				mac = macB
			}
			switch op % 10 {
			case 0, 1:
				if r := w.output(a, "x"); r == Queued || r == Full {
					given++
				}
			case 2:
				w.Lookup(w.at, a)
			case 3:
				w.Solicited(w.at, a, mac, arg&16 != 0)
			case 4:
				w.Advertised(w.at, a, mac, arg&16 != 0, arg&32 != 0, arg&64 != 0, arg&128 != 0)
			case 5:
				w.Confirm(w.at, a)
			case 6:
				if arg&16 != 0 {
					w.SetStatic(a, mac)
				} else {
					w.Delete(a)
				}
			case 7:
				w.SetTimers(time.Duration(arg)*time.Second, time.Duration(arg)*10*time.Millisecond)
			case 8:
				w.run(time.Duration(arg) * 20 * time.Millisecond)
			case 9:
				// A late caller: much time in one step.
				w.at = w.at.Add(time.Duration(arg) * time.Second)
				w.Expire(w.at)
			}
			w.check()
			if d := w.Deadline(); d != 0 && op%10 == 9 && d <= w.at {
				t.Fatal("Expire left something due")
			}
			waiting := 0
			for _, e := range w.Entries() {
				waiting += e.Queued
			}
			if given != waiting+back() {
				t.Fatalf("%d frames taken, %d wait, %d ended", given, waiting, back())
			}
		}
	})
}
