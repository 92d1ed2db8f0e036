package engine

import (
	"fmt"
	"testing"
)

// yes is an option that agrees to everything, or to nothing.
type yes struct {
	code    Code
	allow   bool
	changes string
}

func (o *yes) Code() Code                 { return o.code }
func (o *yes) Allow(*Engine, Side) bool   { return o.allow }
func (o *yes) Subneg(e *Engine, _ []byte) { e.Post(Event{Kind: Subneg, Code: o.code}) }
func (o *yes) Changed(_ *Engine, _ Side, on bool) {
	o.changes += map[bool]string{true: "+", false: "-"}[on]
}

func feed(e *Engine, b ...byte) (data []byte, events []Event) {
	e.Feed(b)
	for {
		ev, ok := e.Next()
		if !ok {
			return data, events
		}
		if ev.Kind == Data {
			data = append(data, ev.Data...)
		} else {
			events = append(events, ev)
		}
	}
}

// reach brings a side of option 77 to a state by the calls and words that lead
// there.
func reach(t *testing.T, e *Engine, side Side, want State) {
	t.Helper()
	answer := byte(DO)
	if side == Him {
		answer = byte(WILL)
	}
	switch want {
	case Yes:
		e.Enable(side, 77)
		feed(e, 255, answer, 77)
	case WantNo, WantNoOpposite:
		e.Enable(side, 77)
		feed(e, 255, answer, 77)
		e.Disable(side, 77)
	case WantYes, WantYesOpposite:
		e.Enable(side, 77)
	}
	switch want {
	case WantNoOpposite:
		e.Enable(side, 77)
	case WantYesOpposite:
		e.Disable(side, 77)
	}
	if got := e.State(side, 77); got != want {
		t.Fatalf("reached %v, not %v", got, want)
	}
	e.Take()
}

// TestQMethod is the table of RFC 1143 §7: each state with and without queue,
// against each verb and each wish of ours, for both sides, with an option that
// agrees and one that does not.
func TestQMethod(t *testing.T) {
	const pos, neg, enable, disable = "+", "-", "enable", "disable"
	table := []struct {
		from  State
		what  string
		agree bool
		to    State
		sent  string // what we say of the side: +, - or nothing
	}{
		{No, pos, true, Yes, "+"},
		{No, pos, false, No, "-"},
		{No, neg, true, No, ""},
		{Yes, pos, true, Yes, ""},
		{Yes, neg, true, No, "-"},
		{WantNo, pos, true, No, ""},
		{WantNo, neg, true, No, ""},
		{WantNoOpposite, pos, true, Yes, ""},
		{WantNoOpposite, neg, true, WantYes, "+"},
		{WantYes, pos, true, Yes, ""},
		{WantYes, neg, true, No, ""},
		{WantYesOpposite, pos, true, WantNo, "-"},
		{WantYesOpposite, neg, true, No, ""},

		{No, enable, true, WantYes, "+"},
		{Yes, enable, true, Yes, ""},
		{WantNo, enable, true, WantNoOpposite, ""},
		{WantNoOpposite, enable, true, WantNoOpposite, ""},
		{WantYes, enable, true, WantYes, ""},
		{WantYesOpposite, enable, true, WantYes, ""},
		{No, disable, true, No, ""},
		{Yes, disable, true, WantNo, "-"},
		{WantNo, disable, true, WantNo, ""},
		{WantNoOpposite, disable, true, WantNo, ""},
		{WantYes, disable, true, WantYesOpposite, ""},
		{WantYesOpposite, disable, true, WantYesOpposite, ""},
	}
	for side := Us; side <= Him; side++ {
		for _, row := range table {
			// All rows but the first two are the same whatever the option allows.
			agrees := []bool{true, false}
			if row.from == No && row.what == pos {
				agrees = []bool{row.agree}
			}
			for _, agree := range agrees {
				t.Run(fmt.Sprint(side, " ", row.from, " ", row.what, " ", agree), func(t *testing.T) {
					o := &yes{code: 77, allow: agree}
					e := New(Config{Options: []Option{o}})
					reach(t, e, side, row.from)
					o.changes = ""
					switch verb := positive(side.Other()); row.what {
					case enable:
						e.Enable(side, 77)
					case disable:
						e.Disable(side, 77)
					case pos:
						feed(e, 255, byte(verb), 77)
					default:
						feed(e, 255, byte(verb)+1, 77)
					}
					if got := e.State(side, 77); got != row.to {
						t.Errorf("to %v, want %v", got, row.to)
					}
					if other := e.State(side.Other(), 77); other != No {
						t.Errorf("the other side is %v", other)
					}
					var want string
					switch row.sent {
					case "+":
						want = string([]byte{255, byte(positive(side)), 77})
					case "-":
						want = string([]byte{255, byte(negative(side)), 77})
					}
					if got := string(e.Take()); got != want {
						t.Errorf("sent %x, want %x", got, want)
					}
					var change string
					if row.from != Yes && row.to == Yes {
						change = "+"
					} else if row.from == Yes && row.to != Yes {
						change = "-"
					}
					if o.changes != change {
						t.Errorf("told of changes %q, want %q", o.changes, change)
					}
					asked := 0
					if row.to == WantYes || row.to == WantYesOpposite {
						asked = 1
					}
					if e.Asked() != asked {
						t.Errorf("asked %d, want %d", e.Asked(), asked)
					}
				})
			}
		}
	}
}

// TestUnacknowledged: a peer that never acknowledges DONT must not hold up what
// is wanted later, whichever way the engine hears that it is overdue.
func TestUnacknowledged(t *testing.T) {
	for _, mark := range []bool{true, false} {
		tm := &markOption{}
		e := New(Config{Options: []Option{&yes{code: 77, allow: true}, tm}})
		reach(t, e, Him, WantNoOpposite)
		if e.On(Him, 77) || e.Asked() != 0 || !e.Overdue() {
			t.Fatalf("on %v, asked %d, overdue %v", e.On(Him, 77), e.Asked(), e.Overdue())
		}
		if mark {
			e.TimingMark()
			e.Take()
			feed(e, 255, byte(WONT), byte(TM))
		} else {
			e.Collapse()
		}
		if got := string(e.Take()); got != "\xff\xfd\x4d" || e.Overdue() {
			t.Errorf("sent %x", got)
		}
		// The acknowledgement comes after all, then the answer.
		feed(e, 255, byte(WONT), 77, 255, byte(WILL), 77)
		if !e.On(Him, 77) {
			t.Error("the late acknowledgement turned it off")
		}
	}
}

// markOption is TM as package option has it.
type markOption struct{ yes }

func (*markOption) Code() Code    { return TM }
func (*markOption) Ask(e *Engine) { e.TimingMark() }
func (*markOption) Verb(e *Engine, verb Command) bool {
	if verb == WILL || verb == WONT {
		e.Marked(verb == WILL)
	}
	return true
}

// TestImplied: a peer that goes on to use what it was offered has agreed.
func TestImplied(t *testing.T) {
	e := New(Config{Options: []Option{&yes{code: 77}}})
	e.Enable(Us, 77)
	_, events := feed(e, 255, 250, 77, 1, 255, 240)
	if !e.On(Us, 77) || e.Asked() != 0 || len(events) != 2 {
		t.Errorf("state %v, events %v", e.State(Us, 77), events)
	}
	_, events = feed(e, 255, byte(DO), 77) // the words after the deed
	if !e.On(Us, 77) || len(events) != 0 || string(e.Take()) != "\xff\xfb\x4d" {
		t.Errorf("state %v, events %v", e.State(Us, 77), events)
	}
}

// TestAccept: the configuration overrules the option, for codes without one too.
func TestAccept(t *testing.T) {
	e := New(Config{Options: []Option{&yes{code: 77, allow: true}}, Accept: func(_ Side, c Code, allowed bool) bool {
		if allowed != (c == 77) {
			t.Errorf("allowed is %v for %v", allowed, c)
		}
		return !allowed
	}})
	feed(e, 255, byte(DO), 77, 255, byte(WILL), 78)
	if got := string(e.Take()); got != "\xff\xfc\x4d\xff\xfd\x4e" {
		t.Errorf("sent %x", got)
	}
}
