package option

import (
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns environment variables: NEW-ENVIRON (RFC 1572), and the older
// ENVIRON (RFC 1408), of which half of the world had two numbers exchanged
// (RFC 1571).

const (
	envVar     = 0
	envValue   = 1
	envEsc     = 2
	envUserVar = 3
)

// maxEnvironSend is how long a server's request is: the client of inetutils has
// 256 bytes of room and ignores what does not fit.
const maxEnvironSend = 240

// Var is an environment variable. One that is Undefined has no value, which is
// not the same as an empty one (RFC 1572 §2). User is for USERVAR.
type Var struct {
	Name, Value string
	User        bool
	Undefined   bool
}

// Environ is NEW-ENVIRON or ENVIRON. Value: []Var, those that were received.
type Environ struct {
	oneSided
	// Vars of a client are all that it will ever tell; of a server, what the
	// client told.
	Vars []Var
	// Ask is what a server asks for. A Var with an empty name asks for all of
	// its kind.
	Ask []Var

	code    engine.Code
	swapped bool // the peer has VAR and VALUE exchanged (RFC 1571)
	asked   int  // so many of Ask
	done    bool
}

// NewEnviron makes the option of RFC 1572.
func NewEnviron() *Environ { return &Environ{code: engine.NewEnviron} }

// OldEnviron makes the option of RFC 1408.
func OldEnviron() *Environ { return &Environ{code: engine.OldEnviron} }

// Code implements engine.Option.
func (o *Environ) Code() engine.Code { return o.code }

// Allow implements engine.Option. A client that performs NEW-ENVIRON does not
// perform ENVIRON too, as BSD's does not: servers that come from BSD's ask by
// one of them, and then wait for answers by both.
func (o *Environ) Allow(e *engine.Engine, side engine.Side) bool {
	if o.code == engine.OldEnviron && side == engine.Us && e.State(side, engine.NewEnviron) != engine.No {
		return false
	}
	return o.oneSided.Allow(e, side)
}

// Changed implements engine.Option: a server asks.
func (o *Environ) Changed(e *engine.Engine, side engine.Side, on bool) {
	if on && side == engine.Us && o.code == engine.NewEnviron {
		e.Disable(side, engine.OldEnviron)
	}
	if side == engine.Him && on {
		o.asked, o.done = 0, len(o.Ask) == 0
		o.request(e)
	}
}

// Done reports whether a server has been told all that it asked for.
func (o *Environ) Done() bool { return o.done }

// Request makes a server ask for more variables.
func (o *Environ) Request(e *engine.Engine, vars []Var) {
	idle := o.done
	o.Ask = append(o.Ask, vars...)
	if o.done = false; idle && e.On(engine.Him, o.code) {
		o.request(e)
	}
}

// request asks for as many variables as one subnegotiation may name; the rest
// is asked for when these are here.
func (o *Environ) request(e *engine.Engine) {
	if o.asked >= len(o.Ask) {
		return
	}
	b := []byte{send}
	for ; o.asked < len(o.Ask); o.asked++ {
		v := o.Ask[o.asked]
		if len(b) > 1 && len(b)+1+2*len(v.Name) > maxEnvironSend {
			break
		}
		b = o.appendName(b, v)
	}
	e.Subneg(o.code, b)
}

func (o *Environ) kind(b byte) byte {
	if o.swapped && b <= envValue {
		return b ^ 1
	}
	return b
}

func (o *Environ) appendName(b []byte, v Var) []byte {
	if v.User {
		return appendEnv(append(b, envUserVar), v.Name)
	}
	return appendEnv(append(b, o.kind(envVar)), v.Name)
}

func (o *Environ) appendVar(b []byte, v Var) []byte {
	b = o.appendName(b, v)
	if v.Undefined {
		return b
	}
	return appendEnv(append(b, o.kind(envValue)), v.Value)
}

// appendEnv escapes what would read as one of the four types (RFC 1572 §2).
func appendEnv(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] <= envUserVar {
			b = append(b, envEsc)
		}
		b = append(b, s[i])
	}
	return b
}

// Subneg implements engine.Option.
func (o *Environ) Subneg(e *engine.Engine, b []byte) {
	if len(b) == 0 {
		e.Count(engine.DropMalformed)
		return
	}
	o.look(b)
	switch {
	case b[0] == send && e.On(engine.Us, o.code):
		o.answer(e, b[1:])
	case (b[0] == is || b[0] == info) && e.On(engine.Him, o.code):
		o.receive(e, b[0] == is, b[1:])
	default:
		e.Count(engine.DropMalformed)
	}
}

// look finds out whether the peer has VAR and VALUE exchanged, as BSD's telnet
// had in ENVIRON: no list begins with a VALUE, and a SEND has none at all (RFC
// 1571 §3).
func (o *Environ) look(b []byte) {
	if o.code != engine.OldEnviron || len(b) < 2 {
		return
	}
	switch b[1] {
	case envVar:
		o.swapped = false
	case envValue:
		o.swapped = true
	}
}

// parse calls f for each element: its type and its text.
func (o *Environ) parse(b []byte, f func(kind byte, text string) bool) bool {
	for len(b) > 0 {
		kind := o.kind(b[0])
		if kind == envEsc || kind > envUserVar {
			return false
		}
		var text []byte
		for b = b[1:]; len(b) > 0 && b[0] > envUserVar || len(b) > 0 && b[0] == envEsc; b = b[1:] {
			if b[0] == envEsc {
				if b = b[1:]; len(b) == 0 {
					return false
				}
			}
			text = append(text, b[0])
		}
		if !f(kind, string(text)) {
			return true
		}
	}
	return true
}

// answer is a client's: only what is in Vars is told. Another name is answered
// as undefined (RFC 1572 §2).
func (o *Environ) answer(e *engine.Engine, b []byte) {
	reply := []byte{is}
	n, room := 0, e.Limits().Subneg
	all := func(user bool) {
		for _, v := range o.Vars {
			if v.User == user && len(reply) < room {
				reply = o.appendVar(reply, v)
			}
		}
	}
	ok := o.parse(b, func(kind byte, name string) bool {
		if n++; n > e.Limits().Vars || len(reply) >= room {
			e.Count(engine.DropLimit)
			return false
		}
		user := kind == envUserVar
		switch i := slices.IndexFunc(o.Vars, func(v Var) bool { return v.Name == name && v.User == user }); {
		case kind == envValue:
			e.Count(engine.DropMalformed)
		case name == "":
			all(user)
		case i >= 0:
			reply = o.appendVar(reply, o.Vars[i])
		default:
			reply = o.appendVar(reply, Var{Name: name, User: user, Undefined: true})
		}
		return true
	})
	switch {
	case !ok:
		e.Count(engine.DropMalformed)
		return
	case len(b) == 0: // no list is a request for all
		all(false)
		all(true)
	}
	e.Subneg(o.code, reply)
}

// receive is a server's.
func (o *Environ) receive(e *engine.Engine, answer bool, b []byte) {
	var vars []Var
	limits := e.Limits()
	ok := o.parse(b, func(kind byte, text string) bool {
		if len(text) > limits.Value {
			e.Count(engine.DropLimit)
			text = strings.Clone(text[:limits.Value]) // the rest is not kept
		}
		if kind != envValue {
			if len(vars) == limits.Vars {
				e.Count(engine.DropLimit)
				return false
			}
			vars = append(vars, Var{Name: text, User: kind == envUserVar, Undefined: true})
		} else if n := len(vars) - 1; n >= 0 && vars[n].Undefined {
			vars[n].Value, vars[n].Undefined = text, false
		} else {
			e.Count(engine.DropMalformed)
		}
		return true
	})
	if !ok {
		e.Count(engine.DropMalformed)
	}
	kept := vars[:0]
	for _, v := range vars {
		switch {
		case v.Name == "":
		case o.store(limits, v):
			kept = append(kept, v)
		default:
			e.Count(engine.DropLimit)
		}
	}
	if answer {
		if o.done = o.asked >= len(o.Ask); !o.done {
			o.request(e)
		}
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: o.code, Value: slices.Clone(kept)})
}

// store keeps a variable, if there is room: for so many of them, and for the
// bytes of one subnegotiation in all.
func (o *Environ) store(limits engine.Limits, v Var) bool {
	i, size := -1, len(v.Name)+len(v.Value)
	for n, w := range o.Vars {
		if w.Name == v.Name && w.User == v.User {
			i = n
		} else {
			size += len(w.Name) + len(w.Value)
		}
	}
	switch {
	case size > limits.Subneg:
		return false
	case i >= 0:
		o.Vars[i] = v
	case len(o.Vars) < limits.Vars:
		o.Vars = append(o.Vars, v)
	default:
		return false
	}
	return true
}

// Set is for a client: it changes a variable and, if the option is on, tells
// the server by itself (INFO).
func (o *Environ) Set(e *engine.Engine, v Var) {
	if o.store(e.Limits(), v) && e.On(engine.Us, o.code) {
		e.Subneg(o.code, o.appendVar([]byte{info}, v))
	}
}
