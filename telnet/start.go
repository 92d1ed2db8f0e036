package telnet

import (
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns how a session begins: what each end asks for, and when enough
// has been said. A server asks one thing first, the terminal's type, and all
// else only of who answers that with any agreement, so that programs that do
// not speak telnet are not bothered. Behind what it asks it sends a timing mark:
// when that is answered, so is everything before it that ever will be, and a
// peer that leaves one option open does not hold up the session.

// policy is the beginning of a session.
type policy interface {
	begin(e *engine.Engine)
	watch(e *engine.Engine, ev engine.Event)
	// done reports whether there is nothing left to wait for.
	done(e *engine.Engine) bool
}

// maxFences bounds the timing marks of a beginning.
const maxFences = 6

type serverPolicy struct {
	cfg      *Config
	advanced bool     // the peer agreed to something
	refused  bool     // he does not even tell his terminal
	second   bool     // what needs the terminal's type was asked for
	settled  bool     // a timing mark came back and nothing new with it
	sent     int      // timing marks
	out      int      // of them not answered
	open     progress // at the last timing mark
	// Some agree to tell variables and do not, leave our WILL unanswered, and
	// timing marks but the first too, as TinTin++ does. Who has answered a
	// question about the terminal has passed over what was asked before it.
	types  int      // answers about the terminal
	before progress // what was open when the last question about it was asked
	passed bool     // and still was when that was answered
}

// progress is what is still open: if it did not change between two timing
// marks, it will not.
type progress struct{ asked, types, vars int }

func (p *serverPolicy) begin(e *engine.Engine) { e.Enable(engine.Him, engine.TType) }

func (p *serverPolicy) watch(e *engine.Engine, ev engine.Event) {
	switch {
	case ev.Kind == engine.Changed && ev.On:
		if ev.Code == engine.Binary && ev.Side == engine.Us {
			e.Enable(engine.Him, engine.Binary)
		}
		p.advance(e)
	case ev.Kind == engine.Changed && ev.Code == engine.TType && ev.Side == engine.Him:
		if p.refused = true; p.advanced {
			p.askMore(e, nil)
		}
	case ev.Kind == engine.Subneg && ev.Code == engine.TType:
		p.terminal(e)
	case ev.Kind == engine.Mark && p.advanced && !p.settled:
		p.marked(e)
	}
}

// advance is for the first agreement.
func (p *serverPolicy) advance(e *engine.Engine) {
	if p.advanced {
		return
	}
	p.advanced = true
	if !p.cfg.LineMode {
		e.Enable(engine.Us, engine.SGA)
	}
	e.Enable(engine.Us, engine.Binary)
	e.Enable(engine.Him, engine.NAWS)
	if cs, ok := e.Option(engine.Charset).(*option.Charset); ok && len(cs.Offer) > 0 {
		e.Enable(engine.Him, engine.Charset)
	}
	for _, code := range []engine.Code{engine.MCCP2, engine.MCCP3, engine.GMCP, engine.MSDP, engine.MSSP} {
		if o := e.Option(code); o != nil && o.Allow(e, engine.Us) {
			e.Enable(engine.Us, code)
		}
	}
	if p.refused {
		p.askMore(e, nil)
		return
	}
	p.fence(e)
}

// terminal is for a name of the terminal's type. Microsoft's telnet, which says
// "ANSI" first, is left alone with variables until it has said more.
func (p *serverPolicy) terminal(e *engine.Engine) {
	p.passed = p.passed || p.types > 0 && p.others(e) == p.before
	p.types++
	defer func() { p.before = p.others(e) }()
	if tt, ok := e.Option(engine.TType).(*option.TType); ok && (len(tt.Types()) != 1 || tt.Types()[0] != "ANSI" || tt.Done()) {
		p.askMore(e, tt.Types())
	}
}

// askMore is for what depends on the terminal's type, once that is known or
// refused. Games' clients mask what is typed when we ECHO, so it is not offered
// to them.
func (p *serverPolicy) askMore(e *engine.Engine, types []string) {
	if p.second {
		return
	}
	p.second, p.passed = true, false
	if !p.cfg.LineMode && !slices.ContainsFunc(types, isGameClient) {
		e.Enable(engine.Us, engine.Echo)
	}
	if env, ok := e.Option(engine.NewEnviron).(*option.Environ); ok && len(env.Ask) > 0 {
		e.Enable(engine.Him, engine.NewEnviron)
	}
	p.fence(e)
}

func (p *serverPolicy) fence(e *engine.Engine) {
	if p.sent < maxFences && e.Option(engine.TM) != nil {
		p.sent++
		p.out++
		p.open = p.progress(e)
		e.TimingMark()
	}
}

func (p *serverPolicy) progress(e *engine.Engine) progress {
	g := progress{asked: e.Asked()}
	if tt, ok := e.Option(engine.TType).(*option.TType); ok {
		g.types = len(tt.Types())
	}
	if env, ok := e.Option(engine.NewEnviron).(*option.Environ); ok {
		g.vars = len(env.Vars)
	}
	return g
}

// others is progress but for the terminal's types.
func (p *serverPolicy) others(e *engine.Engine) progress {
	g := p.progress(e)
	g.types = 0
	return g
}

func (p *serverPolicy) marked(e *engine.Engine) {
	if p.out--; p.out > 0 {
		return
	}
	if p.out = 0; !p.waiting(e) || p.progress(e) == p.open || p.sent == maxFences {
		p.settled = true
		return
	}
	p.fence(e)
}

func (p *serverPolicy) waiting(e *engine.Engine) bool {
	if tt, ok := e.Option(engine.TType).(*option.TType); ok && e.On(engine.Him, engine.TType) && !tt.Done() {
		return true
	}
	if p.passed {
		return false
	}
	if env, ok := e.Option(engine.NewEnviron).(*option.Environ); ok && e.On(engine.Him, engine.NewEnviron) && !env.Done() {
		return true
	}
	cs, ok := e.Option(engine.Charset).(*option.Charset)
	return e.Asked() > 0 || ok && cs.Waiting()
}

func (p *serverPolicy) done(e *engine.Engine) bool {
	return p.refused && !p.advanced || p.advanced && (p.settled || !p.waiting(e))
}

// gameClients begin the names of terminal types of clients for games.
var gameClients = []string{"mudlet", "cmud", "zmud", "mushclient", "atlantis", "tintin++", "tt++", "blowtorch", "mudrammer",
	"kildclient", "portal", "beip", "savitar"}

func isGameClient(term string) bool {
	term = strings.ToLower(term)
	return slices.ContainsFunc(gameClients, func(s string) bool { return strings.HasPrefix(term, s) })
}

// clientPolicy: a client answers. It has begun when the server knows its
// terminal and either its variables or its character set, or sends text.
type clientPolicy struct{}

func (clientPolicy) begin(*engine.Engine)               {}
func (clientPolicy) watch(*engine.Engine, engine.Event) {}

func (clientPolicy) done(e *engine.Engine) bool {
	return e.On(engine.Us, engine.TType) && e.Asked() == 0 &&
		(e.On(engine.Us, engine.NewEnviron) || e.On(engine.Us, engine.Charset) && e.On(engine.Him, engine.Charset))
}

// passive is for a Conn that only answers.
type passive struct{ clientPolicy }

func (passive) done(*engine.Engine) bool { return true }
