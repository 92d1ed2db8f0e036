package engine

import "bytes"

// This file owns the framing of RFC 854, received: where data ends and a
// command begins, over any division into reads. RFC 854 says little of what is
// not well formed; the rules here are those that peers rely on:
//
//	IAC and a byte that is no command    the byte is data
//	IAC SE outside of a subnegotiation   the SE is data
//	IAC X inside of one                  it is dropped, IAC X is what it always is
//	a subnegotiation beyond the limit    is passed over up to its end

type state uint8

const (
	stData  state = iota
	stIAC         // after IAC
	stVerb        // after IAC and one of the verbs
	stCode        // after IAC SB
	stCode2       // after IAC SB IAC
	stSB          // in a subnegotiation
	stSB2         // in one, after IAC
)

// step looks at some of e.in and returns data, if that is what it found.
func (e *Engine) step() []byte {
	b := e.in
	switch e.state {
	case stData:
		n := bytes.IndexByte(b, iac)
		if n < 0 {
			e.in = nil
			return e.text(b)
		}
		e.in = b[n+1:]
		e.state = stIAC
		return e.text(b[:n])

	case stIAC:
		e.in = b[1:]
		return e.afterIAC(b[:1])

	case stVerb:
		e.in, e.state = b[1:], stData
		e.negotiate(e.verb, Code(b[0]))

	case stCode:
		e.in = b[1:]
		if b[0] == iac {
			e.state = stCode2
			return nil
		}
		e.sbCode, e.state = Code(b[0]), stSB

	case stCode2:
		e.in = b[1:]
		switch Command(b[0]) {
		case IAC: // the option 255, doubled
			e.sbCode, e.state = 255, stSB
		case SE:
			e.count(DropSubnegEmpty)
			e.state = stData
		default:
			e.count(DropSubnegBroken)
			return e.afterIAC(b[:1])
		}

	case stSB:
		n := bytes.IndexByte(b, iac)
		if n < 0 {
			e.in = nil
			e.collect(b)
			return nil
		}
		e.in, e.state = b[n+1:], stSB2
		e.collect(b[:n])

	case stSB2:
		e.in = b[1:]
		switch Command(b[0]) {
		case IAC:
			e.collect(b[:1])
			e.state = stSB
		case SE:
			e.state = stData
			e.endSubneg()
		default:
			e.count(DropSubnegBroken)
			e.dropSubneg()
			return e.afterIAC(b[:1])
		}
	}
	return nil
}

// text passes data on, or not while a Synch is under way.
func (e *Engine) text(b []byte) []byte {
	if e.discard {
		e.drops[DropSynch] += uint64(len(b))
		return nil
	}
	return b
}

// afterIAC takes the byte after an IAC, in a slice for the case that it is data.
func (e *Engine) afterIAC(b []byte) []byte {
	e.state = stData
	switch c := Command(b[0]); c {
	case IAC, SE:
		return e.text(b)
	case WILL, WONT, DO, DONT:
		e.verb, e.state = c, stVerb
	case SB:
		e.state = stCode
	default:
		if c < EOF {
			e.count(DropUnknown)
			return e.text(b)
		}
		e.command(c)
	}
	return nil
}

// command is for those of one byte.
func (e *Engine) command(c Command) {
	e.trace(false, c, 0, nil)
	switch c {
	case NOP:
		return
	case DM:
		if !e.urgent {
			e.discard = false
		}
	case EC, EL, GA, EORMark:
		if e.discard { // these belong to the data; RFC 854 names EC and EL
			e.count(DropSynch)
			return
		}
	}
	e.Post(Event{Kind: Cmd, Cmd: c})
}

func (e *Engine) negotiate(verb Command, code Code) {
	e.trace(false, verb, code, nil)
	if o, ok := e.Option(code).(Verber); ok {
		if verb == DO && e.cfg.Accept != nil && !e.cfg.Accept(Us, code, true) {
			e.count(DropRefused)
			e.Verb(WONT, code)
			return
		}
		if o.Verb(e, verb) {
			return
		}
	}
	side := Us
	if verb == WILL || verb == WONT {
		side = Him
	}
	e.receive(side, code, verb == WILL || verb == DO)
}

// collect adds to the subnegotiation, as far as the limit allows.
func (e *Engine) collect(b []byte) {
	if e.over || len(e.sb)+len(b) > e.cfg.Limits.Subneg {
		e.over = true
		e.sb = nil
		return
	}
	e.sb = append(e.sb, b...)
}

func (e *Engine) dropSubneg() {
	e.over = false
	e.sb = e.sb[:0]
	if cap(e.sb) > 512 { // long ones are rare; an idle connection keeps little
		e.sb = nil
	}
}

// endSubneg hands the subnegotiation to its option.
func (e *Engine) endSubneg() {
	defer e.dropSubneg()
	if e.over {
		e.count(DropSubnegLimit)
		return
	}
	e.trace(false, SB, e.sbCode, e.sb)
	o := e.Option(e.sbCode)
	on := e.On(Us, e.sbCode) || e.On(Him, e.sbCode) || e.implied(e.sbCode)
	if l, ok := o.(Lenient); ok && !on {
		on = l.TakesUnagreed()
	}
	if o == nil || !on {
		e.count(DropSubnegOff)
		return
	}
	o.Subneg(e, e.sb)
}

func (e *Engine) trace(sent bool, cmd Command, code Code, content []byte) {
	if e.cfg.Trace != nil {
		e.cfg.Trace(sent, cmd, code, content)
	}
}
