// Package option has the options of telnet as plug-ins of an engine, for both
// ends. Each is a type of its own; Client and Server put the usual sets
// together. What an option says to the program is the Value of an event, of the
// type that the option's comment names.
package option

import "github.com/tapstack/tapstack/telnet/engine"

// This file owns the options that have no subnegotiation.

// Flag is an option that is on or off and nothing more: BINARY (RFC 856), ECHO
// (RFC 857), SUPPRESS GO AHEAD (RFC 858), END OF RECORD (RFC 885), and any that
// a program only wants to agree to.
type Flag struct {
	code    engine.Code
	us, him bool
}

// NewFlag makes a Flag that the peer may ask of us, and may offer himself.
func NewFlag(code engine.Code, us, him bool) *Flag { return &Flag{code, us, him} }

// Code implements engine.Option.
func (o *Flag) Code() engine.Code { return o.code }

// Allow implements engine.Option.
func (o *Flag) Allow(_ *engine.Engine, side engine.Side) bool {
	return side == engine.Us && o.us || side == engine.Him && o.him
}

// Changed implements engine.Option.
func (*Flag) Changed(*engine.Engine, engine.Side, bool) {}

// Subneg implements engine.Option: there are none.
func (*Flag) Subneg(e *engine.Engine, _ []byte) { e.Count(engine.DropMalformed) }

// oneSided is what options have in common whose data goes from the client to
// the server: a client says WILL, a server DO.
type oneSided struct{ off bool }

func (o oneSided) Allow(e *engine.Engine, side engine.Side) bool {
	return !o.off && performs(e, side) == engine.Client
}

// performs is the role of the end that side is.
func performs(e *engine.Engine, side engine.Side) engine.Role {
	if side == engine.Us {
		return e.Role()
	}
	return 1 - e.Role()
}

// TimingMark is RFC 860: each DO is answered by a WILL in its place in the
// stream. It has no state, since a second DO is a second question. Answers to
// our own are events of the kind engine.Mark.
type TimingMark struct{ Flag }

// NewTimingMark makes a TimingMark.
func NewTimingMark() *TimingMark { return &TimingMark{Flag{code: engine.TM}} }

// Ask sends one of our own: see engine.Engine.TimingMark.
func (*TimingMark) Ask(e *engine.Engine) { e.TimingMark() }

// Verb implements engine.Verber.
func (o *TimingMark) Verb(e *engine.Engine, verb engine.Command) bool {
	switch verb {
	case engine.DO:
		e.Verb(engine.WILL, engine.TM)
	case engine.WILL, engine.WONT:
		e.Marked(verb == engine.WILL)
	}
	return true
}

// Logout is RFC 727. A server agrees to be left and posts engine.Bye; a client
// asks for it with Ask, and posts engine.Bye when the server agrees.
type Logout struct {
	Flag
	asked bool
}

// NewLogout makes a Logout.
func NewLogout() *Logout { return &Logout{Flag: Flag{code: engine.Logout}} }

// Ask asks the server to end the session.
func (o *Logout) Ask(e *engine.Engine) {
	if !o.asked {
		o.asked = true
		e.Verb(engine.DO, engine.Logout)
	}
}

// Verb implements engine.Verber: like a timing mark, a logout is an event and
// not a state.
func (o *Logout) Verb(e *engine.Engine, verb engine.Command) bool {
	switch {
	case verb == engine.DO && e.Role() == engine.Server:
		e.Verb(engine.WILL, engine.Logout)
		e.Post(engine.Event{Kind: engine.Bye, Code: engine.Logout})
	case verb == engine.DO:
		e.Verb(engine.WONT, engine.Logout)
	case verb == engine.WILL && o.asked:
		o.asked = false
		e.Post(engine.Event{Kind: engine.Bye, Code: engine.Logout})
	case verb == engine.WILL:
		e.Verb(engine.DONT, engine.Logout)
	case verb == engine.WONT && o.asked:
		o.asked = false
		e.Post(engine.Event{Kind: engine.Changed, Code: engine.Logout, Side: engine.Him})
	}
	return true
}

// StartTLS refuses the option 46 for both sides, and counts the attempts. TLS
// that begins in the middle of a plain session can be taken away by whoever
// sits between; telnet over TLS from the first byte (port 992) cannot.
type StartTLS struct{ Flag }

// NewStartTLS makes a StartTLS.
func NewStartTLS() *StartTLS { return &StartTLS{Flag{code: engine.StartTLS}} }
