package option

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns what a client tells of its terminal: its type, its window's
// size, its speed, its X display and its place.

// maxTypes is how many names of terminal types a server asks for.
const maxTypes = 8

// TType is TERMINAL-TYPE, RFC 1091. Value: string, the name that was received.
type TType struct {
	oneSided
	// Names is what a client answers, one after the other. After the last one
	// comes the last one again, which is how the server knows, and then the
	// first (RFC 1091).
	Names []string
	// Cycle makes a server ask until it has all names.
	Cycle bool

	next int
	seen []string
	done bool
}

// Code implements engine.Option.
func (*TType) Code() engine.Code { return engine.TType }

// Changed implements engine.Option: a server asks.
func (o *TType) Changed(e *engine.Engine, side engine.Side, on bool) {
	o.next, o.done = 0, false
	if side == engine.Him && on {
		o.seen = nil
		o.Ask(e)
	}
}

// Ask asks for the next name.
func (o *TType) Ask(e *engine.Engine) { e.Subneg(engine.TType, []byte{send}) }

// Subneg implements engine.Option.
func (o *TType) Subneg(e *engine.Engine, b []byte) {
	switch {
	case len(b) == 1 && b[0] == send && e.On(engine.Us, engine.TType):
		e.Subneg(engine.TType, []byte{is}, []byte(o.name()))
	case len(b) > 0 && b[0] == is && e.On(engine.Him, engine.TType):
		o.received(e, string(b[1:min(len(b), 1+e.Limits().Value)]))
	default:
		e.Count(engine.DropMalformed)
	}
}

func (o *TType) name() string {
	if len(o.Names) == 0 {
		return "UNKNOWN" // RFC 1091
	}
	n := o.next
	if o.next++; o.next > len(o.Names) {
		o.next = 0
	}
	return o.Names[min(n, len(o.Names)-1)]
}

// received ends the cycle when a name is empty, is the one before or the first
// again, or when there were enough. The third name of MUD clients is a set of
// flags, "MTTS n", and the last.
func (o *TType) received(e *engine.Engine, name string) {
	n := len(o.seen)
	end := name == "" || n > 0 && (name == o.seen[n-1] || name == o.seen[0])
	if !end && n < maxTypes {
		o.seen = append(o.seen, name)
		n++
	}
	end = end || n >= maxTypes || n == 3 && strings.HasPrefix(name, "MTTS ")
	o.done = end || !o.Cycle
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.TType, Value: name})
	if !o.done {
		o.Ask(e)
	}
}

// Types returns the names that were received, without repetitions.
func (o *TType) Types() []string { return o.seen }

// Done reports whether there are no more names to wait for.
func (o *TType) Done() bool { return o.done }

// Term returns the name that says most: the last one, and the one before of MUD
// clients whose last are flags. "" if none was received.
func (o *TType) Term() string {
	n := len(o.seen)
	if n == 3 && strings.HasPrefix(o.seen[2], "MTTS ") {
		n = 2
	}
	if n == 0 {
		return ""
	}
	return o.seen[n-1]
}

// Size is a window's size in characters; 0 means that it is not known.
type Size struct{ Cols, Rows int }

// Window is NEGOTIATE ABOUT WINDOW SIZE, RFC 1073. Value: Size.
type Window struct {
	oneSided
	Size Size // ours (client) or the peer's (server)
}

// Code implements engine.Option.
func (*Window) Code() engine.Code { return engine.NAWS }

// TakesUnagreed implements engine.Lenient: some clients tell the size of the
// window and never said that they would.
func (*Window) TakesUnagreed() bool { return true }

// Changed implements engine.Option.
func (o *Window) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side == engine.Us && on {
		o.tell(e)
	}
}

// Resize sets the size of the client's window, between 0 and 65535, and tells
// the server if he wants to know.
func (o *Window) Resize(e *engine.Engine, s Size) {
	s = Size{min(max(s.Cols, 0), 0xffff), min(max(s.Rows, 0), 0xffff)}
	if s != o.Size {
		o.Size = s
		if e.On(engine.Us, engine.NAWS) {
			o.tell(e)
		}
	}
}

func (o *Window) tell(e *engine.Engine) {
	c, r := o.Size.Cols, o.Size.Rows
	e.Subneg(engine.NAWS, []byte{byte(c >> 8), byte(c), byte(r >> 8), byte(r)})
}

// Subneg implements engine.Option.
func (o *Window) Subneg(e *engine.Engine, b []byte) {
	if len(b) != 4 || e.Role() != engine.Server {
		e.Count(engine.DropMalformed)
		return
	}
	o.Size = Size{int(b[0])<<8 | int(b[1]), int(b[2])<<8 | int(b[3])}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.NAWS, Value: o.Size})
}

// Speed is a terminal's speeds in bits per second: to the terminal's side of
// the line first.
type Speed struct{ Tx, Rx int }

// TSpeed is TERMINAL-SPEED, RFC 1079. Value: Speed.
type TSpeed struct {
	oneSided
	Speed Speed
}

// Code implements engine.Option.
func (*TSpeed) Code() engine.Code { return engine.TSpeed }

// Changed implements engine.Option: a server asks.
func (o *TSpeed) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side == engine.Him && on {
		e.Subneg(engine.TSpeed, []byte{send})
	}
}

// Subneg implements engine.Option.
func (o *TSpeed) Subneg(e *engine.Engine, b []byte) {
	switch {
	case len(b) == 1 && b[0] == send && e.On(engine.Us, engine.TSpeed):
		e.Subneg(engine.TSpeed, []byte{is}, []byte(strconv.Itoa(o.Speed.Tx)+","+strconv.Itoa(o.Speed.Rx)))
		return
	case len(b) > 0 && b[0] == is && e.On(engine.Him, engine.TSpeed):
		tx, rx, ok := bytes.Cut(b[1:], []byte{','})
		t, err1 := strconv.ParseUint(string(tx), 10, 31)
		r, err2 := strconv.ParseUint(string(rx), 10, 31)
		if ok && err1 == nil && err2 == nil {
			o.Speed = Speed{int(t), int(r)}
			e.Post(engine.Event{Kind: engine.Subneg, Code: engine.TSpeed, Value: o.Speed})
			return
		}
	}
	e.Count(engine.DropMalformed)
}

// XDispLoc is X-DISPLAY-LOCATION, RFC 1096. Value: string, "host:0".
type XDispLoc struct {
	oneSided
	Display string
}

// Code implements engine.Option.
func (*XDispLoc) Code() engine.Code { return engine.XDispLoc }

// Changed implements engine.Option: a server asks.
func (o *XDispLoc) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side == engine.Him && on {
		e.Subneg(engine.XDispLoc, []byte{send})
	}
}

// Subneg implements engine.Option.
func (o *XDispLoc) Subneg(e *engine.Engine, b []byte) {
	switch {
	case len(b) == 1 && b[0] == send && e.On(engine.Us, engine.XDispLoc):
		e.Subneg(engine.XDispLoc, []byte{is}, []byte(o.Display))
	case len(b) > 0 && b[0] == is && e.On(engine.Him, engine.XDispLoc) && len(b) <= e.Limits().Value:
		o.Display = string(b[1:])
		e.Post(engine.Event{Kind: engine.Subneg, Code: engine.XDispLoc, Value: o.Display})
	default:
		e.Count(engine.DropMalformed)
	}
}

// SndLoc is SEND-LOCATION, RFC 779. Value: string. A client without a Location
// does not agree to it.
type SndLoc struct{ Location string }

// Code implements engine.Option.
func (*SndLoc) Code() engine.Code { return engine.SndLoc }

// Allow implements engine.Option.
func (o *SndLoc) Allow(e *engine.Engine, side engine.Side) bool {
	return performs(e, side) == engine.Client && (side == engine.Him || o.Location != "")
}

// Changed implements engine.Option: a client tells.
func (o *SndLoc) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side == engine.Us && on {
		e.Subneg(engine.SndLoc, []byte(o.Location))
	}
}

// Subneg implements engine.Option. There is no IS before the text.
func (o *SndLoc) Subneg(e *engine.Engine, b []byte) {
	if !e.On(engine.Him, engine.SndLoc) || len(b) > e.Limits().Value {
		e.Count(engine.DropMalformed)
		return
	}
	o.Location = string(b)
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.SndLoc, Value: o.Location})
}

// FlowMode is what a server says of flow control (RFC 1372).
type FlowMode byte

// The modes: whether the client is to take XOFF and XON itself, and what makes
// it go on after an XOFF.
const (
	FlowOff        FlowMode = 0
	FlowOn         FlowMode = 1
	FlowRestartAny FlowMode = 2 // any character
	FlowRestartXON FlowMode = 3 // only XON
)

// LFlow is TOGGLE-FLOW-CONTROL, RFC 1372. Value: FlowMode.
type LFlow struct {
	oneSided
	// Restart is what a server says when the client agrees.
	Restart FlowMode

	enabled, any bool
}

// Code implements engine.Option.
func (*LFlow) Code() engine.Code { return engine.LFlow }

// Changed implements engine.Option. Flow control is on as soon as the option is
// (RFC 1372 §2).
func (o *LFlow) Changed(e *engine.Engine, side engine.Side, on bool) {
	o.enabled = on
	if side == engine.Him && on {
		o.Set(e, o.Restart)
	}
}

// Set is for a server: it tells the client what to do.
func (o *LFlow) Set(e *engine.Engine, m FlowMode) {
	o.apply(m)
	if e.On(engine.Him, engine.LFlow) {
		e.Subneg(engine.LFlow, []byte{byte(m)})
	}
}

func (o *LFlow) apply(m FlowMode) {
	switch m {
	case FlowOff, FlowOn:
		o.enabled = m == FlowOn
	case FlowRestartAny, FlowRestartXON:
		o.any = m == FlowRestartAny
	}
}

// Enabled reports whether the client is to stop at XOFF, and RestartAny whether
// any character makes it go on.
func (o *LFlow) Enabled() bool { return o.enabled }

// RestartAny reports whether any character, not only XON, ends an XOFF.
func (o *LFlow) RestartAny() bool { return o.any }

// Subneg implements engine.Option.
func (o *LFlow) Subneg(e *engine.Engine, b []byte) {
	if len(b) != 1 || b[0] > byte(FlowRestartXON) || !e.On(engine.Us, engine.LFlow) {
		e.Count(engine.DropMalformed)
		return
	}
	o.apply(FlowMode(b[0]))
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.LFlow, Value: FlowMode(b[0])})
}
