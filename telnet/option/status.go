package option

import "github.com/tapstack/tapstack/telnet/engine"

// This file owns STATUS, RFC 859: each side may ask what the other takes the
// options to be.

const (
	is   = 0
	send = 1
	info = 2
)

// Status is RFC 859 for both sides. Value: StatusReport.
type Status struct{ Flag }

// NewStatus makes a Status.
func NewStatus() *Status { return &Status{Flag{engine.Status, true, true}} }

// StatusReport is what the peer takes the options to be: verbs as he would say
// them, so WILL is for what he does. Disagree are those that we see otherwise.
type StatusReport struct {
	Entries  []StatusEntry
	Disagree []engine.Code
}

// StatusEntry is a pair of StatusReport.
type StatusEntry struct {
	Verb engine.Command
	Code engine.Code
}

// Changed asks for the peer's view as soon as he offers it.
func (o *Status) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side == engine.Him && on {
		o.Ask(e)
	}
}

// Ask asks for the peer's view.
func (o *Status) Ask(e *engine.Engine) { e.Subneg(engine.Status, []byte{send}) }

// Subneg implements engine.Option.
func (o *Status) Subneg(e *engine.Engine, b []byte) {
	switch {
	case len(b) == 1 && b[0] == send && e.On(engine.Us, engine.Status):
		e.Subneg(engine.Status, o.view(e))
	case len(b) > 0 && b[0] == is && e.On(engine.Him, engine.Status):
		o.report(e, b[1:])
	default:
		e.Count(engine.DropMalformed)
	}
}

// view lists what is on, then what was refused or turned off, for each side.
// Options nobody spoke of are not named.
func (o *Status) view(e *engine.Engine) []byte {
	b := []byte{is}
	for side := engine.Us; side <= engine.Him; side++ {
		verb := engine.WILL
		if side == engine.Him {
			verb = engine.DO
		}
		for _, on := range []bool{true, false} {
			for code := range 256 {
				c := engine.Code(code)
				if c == engine.Status || !e.Known(side, c) || e.On(side, c) != on {
					continue
				}
				b = append(b, byte(verb), byte(c))
				if engine.Command(c) == engine.SE { // RFC 859: SE is doubled, as IAC is
					b = append(b, byte(c))
				}
			}
			verb++ // WONT, DONT
		}
	}
	return b
}

// report reads pairs of a verb and an option. What is between SB and SE, by
// which a peer may tell parameters, is passed over.
func (o *Status) report(e *engine.Engine, b []byte) {
	var r StatusReport
	for len(b) >= 2 {
		verb, code := engine.Command(b[0]), engine.Code(b[1])
		b = b[2:]
		if engine.Command(code) == engine.SE && len(b) > 0 && b[0] == byte(code) {
			b = b[1:]
		}
		switch verb {
		case engine.WILL, engine.WONT, engine.DO, engine.DONT:
		case engine.SB:
			b = afterSE(b)
			continue
		default:
			e.Count(engine.DropMalformed)
			return
		}
		side := engine.Us // he says DO of us
		if verb == engine.WILL || verb == engine.WONT {
			side = engine.Him
		}
		if len(r.Entries) == 512 { // both sides of each option
			e.Count(engine.DropLimit)
			break
		}
		r.Entries = append(r.Entries, StatusEntry{verb, code})
		if e.On(side, code) != (verb == engine.WILL || verb == engine.DO) {
			r.Disagree = append(r.Disagree, code)
		}
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.Status, Value: r})
}

func afterSE(b []byte) []byte {
	for i := 0; i < len(b); i++ {
		if b[i] != byte(engine.SE) {
			continue
		}
		if i+1 < len(b) && b[i+1] == b[i] {
			i++
			continue
		}
		return b[i+1:]
	}
	return nil
}
