package telsh

import (
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what the shell has to say of LINEMODE (RFC 1184). The seed's
// 2.2 has nothing of it, so nothing of it shows before a client has the option
// on, or the user asks.

// linemodeToggles are not among those of `toggle all`.
var linemodeToggles = []string{"linemode", "linemode-edit", "linemode-trapsig"}

var linemodeNames = []struct {
	bit  option.Mode
	name string
}{{option.ModeEdit, "edit"}, {option.ModeTrapSig, "trapsig"}, {option.ModeSoftTab, "soft-tab"}, {option.ModeLitEcho, "lit-echo"}}

// mode is that of LINEMODE; false if the client does not perform it.
func (x *session) mode() (m option.Mode, on bool) {
	x.c.View(func(e *engine.Engine) {
		if lm, ok := e.Option(engine.Linemode).(*option.Linemode); ok {
			m, on = lm.Mode(), e.On(engine.Him, engine.Linemode)
		}
	})
	return m, on
}

// linemode is what the command of that name shows.
func (x *session) linemode() string {
	m, on := x.mode()
	if !on {
		return "linemode off"
	}
	s := "linemode ON:"
	for _, n := range linemodeNames {
		sign := " -"
		if m&n.bit != 0 {
			sign = " +"
		}
		s += sign + n.name
	}
	return s
}

// linemodeLines are those of toggle.
func (x *session) linemodeLines() []string {
	m, _ := x.mode()
	lines := []string{"linemode ON", "linemode-edit off", "linemode-trapsig off"}
	for i, bit := range []option.Mode{option.ModeEdit, option.ModeTrapSig} {
		if m&bit != 0 {
			lines[i+1] = strings.TrimSuffix(lines[i+1], "off") + "ON"
		}
	}
	return lines
}

// toggleLinemode turns one of linemodeToggles over.
func (x *session) toggleLinemode(name string) string {
	m, on := x.mode()
	bit := map[string]option.Mode{"linemode-edit": option.ModeEdit, "linemode-trapsig": option.ModeTrapSig}[name]
	switch {
	case bit == 0 && on:
		x.c.Disable(engine.Him, engine.Linemode)
		return "dont linemode."
	case bit == 0:
		x.c.Enable(engine.Him, engine.Linemode)
		return "do linemode."
	case !on:
		return "linemode is off."
	}
	x.c.Update(func(e *engine.Engine) { e.Option(engine.Linemode).(*option.Linemode).SetMode(e, m^bit) })
	return name + " " + abled(m&bit == 0)
}
