// Package engine is telnet without I/O: bytes go in, events and bytes come out.
// It owns the framing of RFC 854, the negotiation of RFC 1143, the Synch, and
// the compressed streams of MCCP. What an option means is in an Option, which
// package option has many of.
//
// An Engine has no lock, goroutine or clock. Feed gives it what was received,
// Next returns what that was, one event after the other, and Take what is to be
// sent:
//
//	e.Feed(received)
//	for {
//		ev, ok := e.Next()
//		if !ok {
//			break
//		}
//		... // ev.Kind, ev.Data
//	}
//	send(e.Take())
package engine

// Limits bounds what a peer can make an engine hold. A zero field means its
// default.
type Limits struct {
	Subneg int // bytes of a subnegotiation, 64 KiB
	Vars   int // environment variables, 128; and variables of MSSP, MSDP
	Value  int // bytes of a name or value that is kept, 4 KiB
	Depth  int // nesting of MSDP, 16
	Ratio  int // bytes that a compressed byte may become, 200, beyond the first MiB
}

func (l *Limits) setDefaults() {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.Subneg, 64<<10)
	def(&l.Vars, 128)
	def(&l.Value, 4<<10)
	def(&l.Depth, 16)
	def(&l.Ratio, 200)
}

// Option is an option of telnet as a plug-in. Its methods are called by the
// engine while it works; they may send (Subneg, Verb, Enable, ...) and Post.
// One value serves one connection.
type Option interface {
	Code() Code
	// Allow reports whether the option may be on for a side that the peer
	// offers or asks for. It is not called for what we asked for.
	Allow(e *Engine, side Side) bool
	// Changed tells that the option went on or off for a side.
	Changed(e *Engine, side Side, on bool)
	// Subneg is given the content of a subnegotiation, without the doubling of
	// IAC. It is only good during the call.
	Subneg(e *Engine, content []byte)
}

// Verber is an Option that takes the verbs by itself, past the Q method, as
// timing marks do: there each DO is an event, not a state.
type Verber interface {
	Option
	// Verb reports whether it was taken.
	Verb(e *Engine, verb Command) bool
	// Ask is what Enable does for the peer's side.
	Ask(e *Engine)
}

// Lenient is an Option whose subnegotiations are taken though it is off.
type Lenient interface {
	Option
	TakesUnagreed() bool
}

// Refused is an Option that wants to hear that the peer refused what we asked.
type Refused interface {
	Option
	Refused(e *Engine, side Side)
}

// Config is what an engine is made from.
type Config struct {
	Role    Role
	Options []Option // of this connection alone
	Limits  Limits
	// Accept, if not nil, may overrule what an option allows: allowed is the
	// option's word, false for one that is not in Options.
	Accept func(side Side, code Code, allowed bool) bool
	// Watch, if not nil, sees each event before Next returns it, and may
	// answer: it is where a policy sits. It does not see data.
	Watch func(e *Engine, ev Event)
	// Trace, if not nil, is told what passes: verbs, commands, subnegotiations.
	// content is nil but for SB.
	Trace func(sent bool, cmd Command, code Code, content []byte)
}

// Kind says what an Event is.
type Kind uint8

// The kinds of events.
const (
	Data    Kind = iota // Event.Data was received
	Cmd                 // the command Event.Cmd
	Changed             // the option Event.Code went on or off (Event.On) for Event.Side
	Subneg              // an option took a subnegotiation; Event.Value is what it said, nil if nothing
	Mark                // the peer's answer to our timing mark (RFC 860)
	Bye                 // the peer wants the session to end (RFC 727)
	Fault               // the stream cannot go on: Event.Value is the error
	Flush               // what Take returns should be sent before Next goes on, for it is much
)

// Event is something that was received.
type Event struct {
	Kind  Kind
	Cmd   Command
	Code  Code
	Side  Side
	On    bool
	Data  []byte // good until the next call of Next
	Value any    // of a type that the option documents
}

// flushAt is how many bytes of answers an engine makes before it asks for them
// to be sent: a peer that asks and does not read must not make it grow.
const flushAt = 16 << 10

// Engine is one end of a telnet connection.
type Engine struct {
	cfg    Config
	states [256]byte // of both sides: see State
	asked  int
	// What tells peers apart: see Declined and Repeated. By side.
	declined, repeated [2]codeSet
	behind             int // options in WantNoOpposite

	in      []byte // not looked at yet
	own     []byte // memory of in after Detach
	events  []Event
	state   state
	verb    Command
	sbCode  Code
	sb      []byte
	over    bool // the subnegotiation is too long and being passed over
	discard bool // a Synch has begun and its data mark not been seen
	urgent  bool // there is urgent data that was not read

	out     []byte
	told    bool         // of Flush
	marks   uint64       // timing marks that were sent
	marked  uint64       // and answered
	offAt   uint64       // marks that had been sent at the last DONT or WONT of ours
	late    [2][4]uint64 // sides of options whose DONT or WONT was not acknowledged: a bit each
	inflate *inflater
	deflate *deflater
	closed  bool
	drops   [numDrops]uint64
}

// New makes an engine. It sends nothing by itself.
func New(cfg Config) *Engine {
	cfg.Limits.setDefaults()
	return &Engine{cfg: cfg}
}

// Role returns the end that the engine is.
func (e *Engine) Role() Role { return e.cfg.Role }

// Limits returns the limits with their defaults.
func (e *Engine) Limits() Limits { return e.cfg.Limits }

// Option returns the plug-in of a code, nil if there is none.
func (e *Engine) Option(code Code) Option {
	for _, o := range e.cfg.Options {
		if o.Code() == code {
			return o
		}
	}
	return nil
}

// Codes returns the options that there are plug-ins for.
func (e *Engine) Codes() []Code {
	codes := make([]Code, len(e.cfg.Options))
	for i, o := range e.cfg.Options {
		codes[i] = o.Code()
	}
	return codes
}

func (e *Engine) allow(side Side, code Code) bool {
	o := e.Option(code)
	ok := o != nil && o.Allow(e, side)
	if e.cfg.Accept != nil {
		ok = e.cfg.Accept(side, code, ok)
	}
	return ok
}

func (e *Engine) changed(side Side, code Code, on bool) {
	if o := e.Option(code); o != nil {
		o.Changed(e, side, on)
	}
	e.Post(Event{Kind: Changed, Code: code, Side: side, On: on})
}

// refused tells that the peer declined what was asked: off it was, off it is.
func (e *Engine) refused(side Side, code Code) {
	if o, ok := e.Option(code).(Refused); ok {
		o.Refused(e, side)
	}
	e.Post(Event{Kind: Changed, Code: code, Side: side})
}

// Post queues an event for Next: for options.
func (e *Engine) Post(ev Event) {
	e.events = append(e.events, ev)
	if e.cfg.Watch != nil {
		e.cfg.Watch(e, ev)
	}
}

// Feed gives the engine what was received. b must stay as it is until Next has
// returned false, and what Feed was given before must have been used up by
// then.
func (e *Engine) Feed(b []byte) {
	if e.closed {
		return
	}
	if cap(e.own) > 4096 { // an idle connection keeps little
		e.own = nil
	}
	if e.inflate != nil {
		e.inflate.feed(b)
		return
	}
	e.in = b
}

// Detach makes the engine independent of the memory that Feed was given.
func (e *Engine) Detach() {
	if e.inflate != nil {
		e.inflate.detach()
		return
	}
	e.own = append(e.own[:0], e.in...)
	e.in = e.own
}

// Next returns the next event. False means that all of what was fed has been
// looked at.
func (e *Engine) Next() (Event, bool) {
	for {
		if len(e.events) > 0 {
			ev := e.events[0]
			if e.events = e.events[1:]; len(e.events) == 0 {
				e.events = nil
			}
			return ev, true
		}
		if len(e.out) >= flushAt && !e.told {
			e.told = true
			return Event{Kind: Flush}, true
		}
		if len(e.in) == 0 {
			if e.inflate == nil || !e.refill() {
				return Event{}, false
			}
			continue
		}
		if data := e.step(); len(data) > 0 {
			return Event{Kind: Data, Data: data}, true
		}
	}
}

// Urgent tells of TCP's urgent data: pending means that some is on its way to
// us that was not read. Data is then thrown away until a data mark that comes
// when nothing is pending any more; commands and negotiation go on (RFC 854,
// "the TELNET Synch signal").
func (e *Engine) Urgent(pending bool) {
	e.urgent = pending
	e.discard = e.discard || pending
}

// Discarding reports whether data is being thrown away.
func (e *Engine) Discarding() bool { return e.discard }
