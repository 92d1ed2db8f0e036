package neigh

import (
	"strings"
	"testing"
	"time"
)

// ask is a question to peer by unicast, at its first address.
const askA = " ask 10.0.0.9 at a"

// verified has what appendixC says of claims of another address otherwise with
// Config.Verify: the address that is known is kept and asked. Output is used to
// see that packets still go there.
const verified = `
event    reachable    stale        delay        probe
NS-b     probe-a      probe-a      probe-a      probe-a
NS-b!    probe-a      probe-a      probe-a      probe-a
NA-b     stale-a      stale-a      delay-a      probe-a
NA-sb    stale-a      stale-a      delay-a      probe-a
NA-ob    probe-a      probe-a      probe-a      probe-a
NA-sob   probe-a      probe-a      probe-a      probe-a
announce probe-a      probe-a      probe-a      probe-a
`

// TestVerify: the table of appendix C is otherwise as it is, claims where
// nothing is known among it.
func TestVerify(t *testing.T) {
	states := []State{Reachable, Stale, Delay, Probe}
	exception := map[string]string{}
	for _, row := range strings.Split(strings.TrimSpace(verified), "\n")[1:] {
		f := strings.Fields(row)
		for n, s := range states {
			exception[f[0]+s.String()] = f[1+n]
		}
	}
	used := 0
	for _, row := range strings.Split(strings.TrimSpace(appendixC+"announce none delay-b stale-b stale-b stale-b stale-b failed static-a"), "\n")[1:] {
		f := strings.Fields(row)
		for s := None; s <= Static; s++ {
			want := f[1+int(s)]
			x, asked := exception[f[0]+s.String()]
			if asked {
				want = x
				used++
			}
			w := inState(t, s)
			w.cfg.Verify = true
			if hear(w, f[0]); f[0] == "announce" {
				w.Announced(w.at, peer, macB)
			}
			w.check()
			e := w.entry(peer)
			if got := strings.TrimRight(e.State.String()+"-"+map[[6]byte]string{macA: "a", macB: "b"}[e.MAC], "-"); got != want {
				t.Errorf("%s in %v: %s, want %s", f[0], s, got, want)
			}
			if asked && want == "probe-a" && f[0] != "NA-b" && f[0] != "NA-sb" { // the two without override
				w.want(w.stamp() + askA)
				if r := w.output(peer, "x"); r != Send {
					t.Errorf("%s in %v: a packet is %v", f[0], s, r)
				}
			}
			w.Flush(w.at)
		}
	}
	if used != len(exception) {
		t.Errorf("%d of %d exceptions", used, len(exception))
	}
}

// TestFalseClaim: the neighbour answers, and stays; who goes on claiming makes
// one question a second.
func TestFalseClaim(t *testing.T) {
	w := inState(t, Reachable)
	w.cfg.Verify = true
	begin := w.at
	for range 100 {
		w.Announced(w.at, peer, macB)
		w.Solicited(w.at, peer, macB, true)
		if len(w.host.log) > 0 && strings.HasSuffix(w.host.log[len(w.host.log)-1], askA) {
			w.run(time.Millisecond)
			w.Advertised(w.at, peer, macA, true, true, true, false)
			if e := w.entry(peer); e.MAC != macA || e.State != Reachable {
				t.Fatalf("after its answer: %+v", e)
			}
		}
		if e := w.entry(peer); e.MAC != macA {
			t.Fatalf("at %v it was believed: %+v", w.at.Sub(begin), e)
		}
		w.run(99 * time.Millisecond)
	}
	asked := strings.Count(strings.Join(w.host.log, "\n"), askA)
	if seconds := int(w.at.Sub(begin) / time.Second); asked < seconds-1 || asked > seconds+1 {
		t.Errorf("%d questions in %d s", asked, seconds)
	}
	if st := w.Stats(); st.Refuted != uint64(asked) || st.TakenOver != 0 || st.Contested != 200 || st.Unreachable != 0 {
		t.Errorf("%+v", st)
	}
	w.Flush(w.at)
}

// TestMove: nobody answers any more at the address that was known, so the claim
// is true, within a second.
func TestMove(t *testing.T) {
	for _, s := range []State{Reachable, Stale, Delay, Probe} {
		w := inState(t, s)
		w.cfg.Verify = true
		at := w.stamp
		first := at()
		w.Announced(w.at, peer, macC)
		w.Advertised(w.at, peer, macB, true, false, true, false) // the last one counts
		w.run(300 * time.Millisecond)
		w.Confirm(w.at, peer) // of what was under way
		second := at()
		w.run(300 * time.Millisecond)
		third := at()
		w.run(300*time.Millisecond - 1)
		if e := w.entry(peer); e.MAC != macA || e.State != Probe {
			t.Errorf("%v: too early %+v", s, e)
		}
		w.run(1)
		w.want(first+askA, second+askA, third+askA, at()+" 10.0.0.9 at b: true")
		if e := w.entry(peer); e.MAC != macB || e.State != Stale {
			t.Errorf("%v: %+v", s, e)
		}
		if st := w.Stats(); st.TakenOver != 1 || st.Refuted != 0 {
			t.Errorf("%v: %+v", s, st)
		}
		w.Flush(w.at)
	}
}

// TestClaimsWait: a claim that comes too soon after the questions about another
// one is not forgotten.
func TestClaimsWait(t *testing.T) {
	w := inState(t, Reachable)
	w.cfg.Verify = true
	w.Announced(w.at, peer, macB)
	w.Advertised(w.at, peer, macA, true, true, true, false)
	w.host.log = nil
	w.run(200 * time.Millisecond)
	w.Announced(w.at, peer, macB) // and now it has really moved
	w.run(799 * time.Millisecond)
	w.want()
	w.run(time.Millisecond)
	w.want(w.stamp() + askA)
	w.run(900 * time.Millisecond)
	if e := w.entry(peer); e.MAC != macB {
		t.Errorf("%+v", e)
	}
	w.Flush(w.at)
}
