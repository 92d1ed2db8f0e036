package telnet

import (
	"crypto/tls"
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what is known of a session.

// LineMode is who edits lines and echoes.
type LineMode uint8

// The modes.
const (
	ModeLocal  LineMode = iota // the client, a line at a time: the NVT of RFC 854
	ModeKludge                 // the server, a character at a time: ECHO and SUPPRESS GO AHEAD
	ModeEdit                   // the client, by LINEMODE with EDIT
	ModeRemote                 // the server, by LINEMODE without it
)

func (m LineMode) String() string { return [...]string{"local", "kludge", "edit", "remote"}[m&3] }

// lineMode is that of the server's side, which does the echoing.
func lineMode(e *engine.Engine) LineMode {
	server, client := engine.Us, engine.Him
	if e.Role() == engine.Client {
		server, client = client, server
	}
	lm, ok := e.Option(engine.Linemode).(*option.Linemode)
	switch {
	case ok && e.On(client, engine.Linemode) && lm.Mode()&option.ModeEdit != 0:
		return ModeEdit
	case ok && e.On(client, engine.Linemode):
		return ModeRemote
	case e.On(server, engine.Echo) && e.On(server, engine.SGA):
		return ModeKludge
	}
	return ModeLocal
}

// Info is what is known of a session. At a client's end, Term, Size and what
// else a client tells are its own.
type Info struct {
	Term     string   // the name of the terminal type that says most
	Types    []string // all of them
	Size     option.Size
	Speed    option.Speed
	Display  string
	Location string
	Env      []option.Var // as the client told: not to be trusted
	Charset  string       // of text, by its name on the wire
	Mode     LineMode
	Binary   [2]bool // what we send, and what the peer sends, has eight bits
	Local    []engine.Code
	Remote   []engine.Code // the options that are on
	TLS      *tls.ConnectionState
	Dropped  map[engine.Drop]uint64
}

// Getenv returns a variable of Env.
func (i *Info) Getenv(name string) (value string, ok bool) {
	for _, v := range i.Env {
		if v.Name == name && !v.Undefined {
			return v.Value, true
		}
	}
	return "", false
}

// Info returns what is known by now.
func (c *Conn) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.eng
	i := Info{Mode: lineMode(e), Binary: [2]bool{e.On(engine.Us, engine.Binary), e.On(engine.Him, engine.Binary)}, Dropped: e.Drops()}
	for _, code := range e.Codes() {
		switch o := e.Option(code).(type) {
		case *option.TType:
			i.Types, i.Term = slices.Clone(o.Types()), o.Term()
			if !c.server {
				i.Types = slices.Clone(o.Names)
				if len(i.Types) > 0 {
					i.Term = i.Types[0]
				}
			}
		case *option.Window:
			i.Size = o.Size
		case *option.TSpeed:
			i.Speed = o.Speed
		case *option.XDispLoc:
			i.Display = o.Display
		case *option.SndLoc:
			i.Location = o.Location
		case *option.Environ:
			for _, v := range o.Vars {
				if !slices.ContainsFunc(i.Env, func(w option.Var) bool { return w.Name == v.Name && w.User == v.User }) {
					i.Env = append(i.Env, v)
				}
			}
		}
	}
	for n := range 256 {
		code := engine.Code(n)
		if e.On(engine.Us, code) {
			i.Local = append(i.Local, code)
		}
		if e.On(engine.Him, code) {
			i.Remote = append(i.Remote, code)
		}
	}
	i.Charset = c.charsetLocked()
	nc := c.nc
	if s, ok := nc.(*session); ok {
		nc = s.Conn
	}
	if t, ok := nc.(*tls.Conn); ok {
		s := t.ConnectionState()
		i.TLS = &s
	}
	return i
}

// charsetLocked is the character set of text: what the peers agreed on, else
// that of the client's LANG, else the configuration's.
//
// Departs from RFC 854 and RFC 856, by which text without BINARY is ASCII: all
// that is in use sends eight bits, and what was agreed on by CHARSET would be of
// no use without.
func (c *Conn) charsetLocked() string {
	if c.cfg.ForceCharset {
		return c.cfg.charset()
	}
	if c.charset != "" {
		return c.charset
	}
	if env, ok := c.eng.Option(engine.NewEnviron).(*option.Environ); ok && c.server {
		for _, v := range env.Vars {
			if _, set, ok := strings.Cut(v.Value, "."); ok && v.Name == "LANG" {
				if set, _, _ = strings.Cut(set, "@"); KnownCharset(set) {
					return set
				}
			}
		}
	}
	return c.cfg.charset()
}

// Resizes returns a channel of the client's window sizes. It holds one, the
// last. Sizes come while somebody reads the Conn.
func (c *Conn) Resizes() <-chan option.Size {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resized == nil {
		c.resized = make(chan option.Size, 1)
	}
	return c.resized
}

// Resize is for a client: it tells the server of a new window size.
func (c *Conn) Resize(s option.Size) error {
	return c.Update(func(e *engine.Engine) {
		if w, ok := e.Option(engine.NAWS).(*option.Window); ok {
			w.Resize(e, s)
		}
	})
}

// Logout is for a client: it asks the server to end the session (RFC 727).
func (c *Conn) Logout() error {
	return c.Update(func(e *engine.Engine) {
		if o, ok := e.Option(engine.Logout).(*option.Logout); ok {
			o.Ask(e)
		}
	})
}

// Bye reports whether the peer wants, or has agreed, to end the session. A
// server's reads then end with io.EOF.
func (c *Conn) Bye() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bye
}
