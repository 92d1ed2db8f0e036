package engine

// This file owns the negotiation of RFC 1143, the "Q method": for each option
// two machines, one for our side and one for the peer's, of four states and a
// queue bit. It is what makes a negotiation loop impossible: a change is asked
// for once and answered once, and nothing is sent for what is the case already.

// State is a state of RFC 1143 §7 with its queue bit.
type State uint8

// The states. Those with "Opposite" have the queue bit: as soon as the answer
// is here the opposite will be asked for.
const (
	No              State = iota
	Yes                   // the option is on
	WantNo                // DONT or WONT was sent
	WantYes               // DO or WILL was sent
	WantNoOpposite  State = WantNo | queued
	WantYesOpposite State = WantYes | queued
)

// An option has a byte: the states of both sides, four bits each.
const (
	queued    State = 4
	touched   State = 8 // negotiated at least once; STATUS tells of those
	stateMask       = 7
	stateBits       = 4
	sideMask        = 1<<stateBits - 1
)

func (s State) String() string {
	switch s {
	case No:
		return "NO"
	case Yes:
		return "YES"
	case WantNo:
		return "WANTNO"
	case WantYes:
		return "WANTYES"
	case WantNoOpposite:
		return "WANTNO/OPPOSITE"
	case WantYesOpposite:
		return "WANTYES/OPPOSITE"
	}
	return "invalid"
}

// State returns the state of one side of an option.
func (e *Engine) State(side Side, code Code) State {
	return State(e.states[code]>>(stateBits*side)) & stateMask
}

// On reports whether the option is on for a side. While it is being turned off
// it is off: some peers never acknowledge DONT and WONT.
func (e *Engine) On(side Side, code Code) bool { return e.State(side, code) == Yes }

// Known reports whether the option was ever negotiated for a side.
func (e *Engine) Known(side Side, code Code) bool {
	return State(e.states[code]>>(stateBits*side))&touched != 0
}

func (e *Engine) setState(side Side, code Code, s State) {
	shift := stateBits * side
	old := State(e.states[code]>>shift) & stateMask
	e.states[code] = e.states[code]&^(sideMask<<shift) | byte(s|touched)<<shift
	e.asked += b2i(s&^queued == WantYes) - b2i(old&^queued == WantYes)
	if s == WantNo && old != WantNo && old != WantNoOpposite {
		e.offAt = e.marks
	}
	e.behind += b2i(s&stateMask == WantNoOpposite) - b2i(old == WantNoOpposite)
	if (old == Yes) != (s == Yes) {
		e.changed(side, code, s == Yes)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Asked is the number of requests to turn something on that the peer has not
// answered. Requests to turn something off do not count: they are the case as
// soon as they are sent.
func (e *Engine) Asked() int { return e.asked }

// positive and negative say a verb for a side: of ourselves WILL and WONT, of
// the peer DO and DONT.
func positive(side Side) Command {
	if side == Him {
		return DO
	}
	return WILL
}

func negative(side Side) Command { return positive(side) + 1 }

// receive is the machine's input: the peer's word about one side of an option,
// WILL or DO (on), WONT or DONT (RFC 1143 §7).
func (e *Engine) receive(side Side, code Code, on bool) {
	state := e.State(side, code)
	if on {
		switch state {
		case No:
			if !e.allow(side, code) {
				e.count(DropRefused)
				e.declined[side].add(code)
				e.touch(side, code)
				e.Verb(negative(side), code)
				return
			}
			e.Verb(positive(side), code)
			e.setState(side, code, Yes)
		case Yes:
			e.repeated[side].add(code)
		case WantNo: // "error: DONT answered by WILL"
			e.setState(side, code, No)
		case WantNoOpposite: // the same error, and what is wanted by now
			e.setState(side, code, Yes)
		case WantYes:
			e.setState(side, code, Yes)
		case WantYesOpposite:
			e.setState(side, code, WantNo)
			e.Verb(negative(side), code)
		}
		return
	}
	e.late[side][code/64] &^= 1 << (code % 64)
	switch state {
	case No:
		e.touch(side, code)
	case Yes:
		e.Verb(negative(side), code)
		e.setState(side, code, No)
	case WantNo, WantYes, WantYesOpposite:
		e.setState(side, code, No)
		if state == WantYes {
			e.refused(side, code)
		}
	case WantNoOpposite:
		e.setState(side, code, WantYes)
		e.Verb(positive(side), code)
	}
}

func (e *Engine) touch(side Side, code Code) { e.setState(side, code, e.State(side, code)) }

// Enable asks for an option to be on (RFC 1143 §7, "we decide to enable"). It
// needs no Option in the Config: asking is consent.
func (e *Engine) Enable(side Side, code Code) {
	if o, ok := e.Option(code).(Verber); ok { // it has no state to wait in
		if side == Him {
			o.Ask(e)
		} else {
			e.Verb(positive(side), code)
		}
		return
	}
	switch e.State(side, code) {
	case No:
		e.setState(side, code, WantYes)
		e.Verb(positive(side), code)
	case WantNo:
		e.setState(side, code, WantNoOpposite)
	case WantYesOpposite:
		e.setState(side, code, WantYes)
	}
}

// Disable turns an option off, which no peer may refuse.
func (e *Engine) Disable(side Side, code Code) {
	switch e.State(side, code) {
	case Yes:
		e.Verb(negative(side), code)
		e.setState(side, code, WantNo)
	case WantYes:
		e.setState(side, code, WantYesOpposite)
	case WantNoOpposite:
		e.setState(side, code, WantNo)
	}
}

// Overdue reports whether something waits for the acknowledgement of DONT or
// WONT. Some peers never send one. Who owns a clock calls Collapse when it has
// taken too long; so does the engine when the peer answers a timing mark.
func (e *Engine) Overdue() bool { return e.behind > 0 }

// Collapse takes DONT and WONT that were not acknowledged as if they had been,
// so that what is queued behind them goes out. If the answer comes after all it
// reads as a refusal of that, or as news: both end well.
//
// Departs from RFC 1143, which waits for ever.
func (e *Engine) Collapse() {
	for code := range e.states {
		for side := Us; side <= Him; side++ {
			switch e.State(side, Code(code)) {
			case WantNo, WantNoOpposite:
				e.receive(side, Code(code), false)
				e.late[side][code/64] |= 1 << (code % 64)
			}
		}
	}
}

// implied is for a subnegotiation of an option that we asked for and the peer
// has not agreed to in words: some peers go on to use what they were offered.
// Not if an acknowledgement may still come: the subnegotiation was then sent
// when the option was on before, and the acknowledgement would turn it off
// again, which never ends if the peer does the like. Nor if the other side of the
// option is on, or was until just now: it is that which the peer speaks of.
func (e *Engine) implied(code Code) bool {
	for side := Us; side <= Him; side++ {
		switch e.State(Us+Him-side, code) {
		case Yes, WantNo, WantNoOpposite:
			continue
		}
		if e.State(side, code) == WantYes && e.late[side][code/64]&(1<<(code%64)) == 0 {
			e.setState(side, code, Yes)
			return true
		}
	}
	return false
}
