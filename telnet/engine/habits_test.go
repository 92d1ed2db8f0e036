package engine

import "testing"

// TestHabits: what was refused, and what is said again, is remembered by side.
func TestHabits(t *testing.T) {
	e := New(Config{Accept: func(side Side, code Code, _ bool) bool { return code == Echo && side == Him }})
	say := func(b ...byte) {
		e.Feed(b)
		for _, ok := e.Next(); ok; _, ok = e.Next() {
		}
		e.Take()
	}
	say(iac, byte(WILL), 1, iac, byte(DO), 255, iac, byte(WILL), 64)
	if !e.Declined(Us, 255) || !e.Declined(Him, 64) || e.Declined(Him, 255) || e.Declined(Us, 64) || e.Declined(Him, Echo) {
		t.Error("declined")
	}
	if e.Repeated(Him, Echo) {
		t.Error("the first WILL is no repetition")
	}
	say(iac, byte(WILL), 1)
	if !e.Repeated(Him, Echo) || e.Repeated(Us, Echo) {
		t.Error("repeated")
	}
	e.ForgetRepeated()
	if e.Repeated(Him, Echo) {
		t.Error("not forgotten")
	}
}
