package option

import (
	"slices"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns the usual sets of options for the two ends.

// ClientConfig is what a client tells of itself. All of it is optional.
type ClientConfig struct {
	Terms    []string // names of the terminal type, the best first
	Size     Size     // of the window
	Speed    Speed    // of the terminal
	Display  string   // X display
	Location string   // where the user is; "" does not tell
	Env      []Var    // environment variables: these and no others are told
	Charsets []string // character sets to pick from, the best first
	// KnownCharset decides on others that a server offers.
	KnownCharset func(string) bool
	NoCompress   bool // does not take MCCP
	GMCP         *GMCP
	MSDP, MSSP   bool // takes them
}

// Client returns the options of a client.
func Client(c ClientConfig) []engine.Option {
	cs := NewCharset()
	cs.Prefer, cs.Known = c.Charsets, c.KnownCharset
	env, old := NewEnviron(), OldEnviron()
	env.Vars, old.Vars = slices.Clone(c.Env), slices.Clone(c.Env) // each is changed by its connection
	o := []engine.Option{
		NewFlag(engine.Binary, true, true),
		NewFlag(engine.Echo, false, true),
		NewFlag(engine.SGA, true, true),
		NewFlag(engine.EOR, true, true),
		NewStatus(), NewTimingMark(), NewLogout(), NewStartTLS(),
		&SndLoc{Location: c.Location},
		&TType{Names: c.Terms},
		&Window{Size: c.Size},
		&TSpeed{Speed: c.Speed},
		&LFlow{},
		NewLinemode(0),
		&XDispLoc{Display: c.Display},
		env, old, cs,
		NewMCCP2(!c.NoCompress), NewMCCP3(!c.NoCompress),
	}
	if c.GMCP != nil {
		o = append(o, c.GMCP)
	}
	if c.MSDP {
		o = append(o, NewMSDP())
	}
	if c.MSSP {
		o = append(o, NewMSSP())
	}
	return o
}

// ServerConfig is what a server asks for and serves. All of it is optional.
type ServerConfig struct {
	Env      []Var    // environment variables to ask for; a Var without a name asks for all of its kind
	Charsets []string // character sets to offer, the best first
	Linemode Mode     // the mode to ask for of a client that offers LINEMODE; 0 is ModeLitEcho
	Restart  FlowMode // FlowRestartAny, else FlowRestartXON
	Compress bool     // serves MCCP2 and MCCP3
	GMCP     *GMCP
	MSDP     bool
	MSSP     MSSPVars
}

// Server returns the options of a server.
func Server(c ServerConfig) []engine.Option {
	cs := NewCharset()
	cs.Offer, cs.Prefer = c.Charsets, c.Charsets
	env, old := NewEnviron(), OldEnviron()
	env.Ask, old.Ask = slices.Clone(c.Env), slices.Clone(c.Env)
	if c.Linemode == 0 {
		c.Linemode = ModeLitEcho
	}
	if c.Restart != FlowRestartAny {
		c.Restart = FlowRestartXON
	}
	o := []engine.Option{
		NewFlag(engine.Binary, true, true),
		NewFlag(engine.Echo, true, false),
		NewFlag(engine.SGA, true, true),
		NewFlag(engine.EOR, true, true),
		NewStatus(), NewTimingMark(), NewLogout(), NewStartTLS(),
		&SndLoc{},
		&TType{Cycle: true},
		&Window{},
		&TSpeed{},
		&LFlow{Restart: c.Restart},
		NewLinemode(c.Linemode),
		&XDispLoc{},
		env, old, cs,
		NewMCCP2(c.Compress), NewMCCP3(c.Compress),
	}
	if c.GMCP != nil {
		o = append(o, c.GMCP)
	}
	if c.MSDP {
		o = append(o, NewMSDP())
	}
	if c.MSSP != nil {
		o = append(o, &MSSP{served{true}, c.MSSP})
	}
	return o
}
