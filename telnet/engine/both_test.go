package engine

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// TestQMethodSides: each state of either side against each verb. A verb is about
// one side, whose machine does what it does alone; the other does not move.
func TestQMethodSides(t *testing.T) {
	states := []State{No, Yes, WantNo, WantNoOpposite, WantYes, WantYesOpposite}
	// after is RFC 1143 §7, for an option that agrees: what a side becomes, and
	// whether something is said.
	after := map[bool]map[State]struct {
		to    State
		reply bool
	}{
		true: {No: {Yes, true}, Yes: {Yes, false}, WantNo: {No, false}, WantNoOpposite: {Yes, false},
			WantYes: {Yes, false}, WantYesOpposite: {WantNo, true}},
		false: {No: {No, false}, Yes: {No, true}, WantNo: {No, false}, WantNoOpposite: {WantYes, true},
			WantYes: {No, false}, WantYesOpposite: {No, false}},
	}
	for _, us := range states {
		for _, him := range states {
			for _, verb := range []Command{WILL, WONT, DO, DONT} {
				t.Run(fmt.Sprint(us, " ", him, " ", verb), func(t *testing.T) {
					e := New(Config{Options: []Option{&yes{code: 77, allow: true}}})
					reach(t, e, Us, us)
					reach(t, e, Him, him)
					side, from := Us, us
					if verb == WILL || verb == WONT {
						side, from = Him, him
					}
					other := e.State(side.Other(), 77)
					want := after[verb == WILL || verb == DO][from]
					feed(e, 255, byte(verb), 77)
					if got := e.State(side, 77); got != want.to {
						t.Errorf("to %v, want %v", got, want.to)
					}
					if got := e.State(side.Other(), 77); got != other {
						t.Errorf("the other side went from %v to %v", other, got)
					}
					out := e.Take()
					if (len(out) == 3) != want.reply || len(out) > 3 {
						t.Errorf("said %x", out)
					}
					if overdue := us == WantNoOpposite && e.State(Us, 77) == us || him == WantNoOpposite && e.State(Him, 77) == him; e.Overdue() != overdue {
						t.Errorf("overdue is %v", e.Overdue())
					}
				})
			}
		}
	}
}

// TestClosed: an engine that was closed begins no decompressor, which would be
// left behind.
func TestClosed(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		e := New(Config{Options: []Option{&mccp{echoSub{code: MCCP2}}}})
		feed(e, 255, byte(WILL), byte(MCCP2))
		e.Feed([]byte{255, byte(SB), byte(MCCP2), 255, byte(SE), 'x', 'y', 'z'})
		e.Close()
		if ev, ok := e.Next(); ok && ev.Kind == Data {
			t.Fatalf("%v", ev)
		}
		feed(e, 255, byte(SB), byte(MCCP2), 255, byte(SE), 'x')
		if e.Inflating() {
			t.Fatal("it is being decompressed")
		}
	}
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before+10; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
