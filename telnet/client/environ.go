package client

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns `environ`: the variables that servers are told who ask
// (RFC 1572, RFC 1408). No other ever is.

// maxVariables bounds what the user defines.
const maxVariables = 128

var (
	errNoVariable = errors.New("there is no such variable")
	errTooMany    = errors.New("there are too many")
)

// variable is one that the user has defined; only exported ones are told.
type variable struct {
	option.Var
	told bool
}

func (c *Client) exported() (vars []option.Var) {
	for _, v := range c.env {
		if v.told {
			vars = append(vars, v.Var)
		}
	}
	return vars
}

func (c *Client) cmdEnviron(_ context.Context, words []string) error {
	actions := []string{"list", "define", "undefine", "export", "unexport", "send", "?"}
	if len(words) == 0 {
		words = []string{"list"}
	}
	n, err := pick(words[0], len(actions), func(i int) string { return actions[i] })
	if err != nil {
		return err
	}
	what := actions[n]
	switch {
	case what == "?":
		c.say("list                 show the variables; * are told to servers that ask")
		c.say("define NAME [VALUE]  make one, which is told")
		c.say("undefine NAME        forget it")
		c.say("export, unexport     tell it or not")
		c.say("send NAME            tell it now")
		return nil
	case what == "list":
		for _, v := range c.env {
			mark := " "
			if v.told {
				mark = "*"
			}
			c.say("%s %s=%s", mark, v.Name, v.Value)
		}
		return nil
	case len(words) < 2:
		return errUsage
	}
	name := words[1]
	i := slices.IndexFunc(c.env, func(v variable) bool { return v.Name == name })
	switch {
	case what == "define":
		v := variable{option.Var{Name: name, Value: strings.Join(words[2:], " ")}, true}
		switch {
		case i >= 0:
			c.env[i] = v
		case len(c.env) >= maxVariables:
			return errTooMany
		default:
			c.env = append(c.env, v)
		}
	case i < 0:
		return errNoVariable
	case what == "undefine":
		c.env = slices.Delete(c.env, i, i+1)
	case what == "export":
		c.env[i].told = true
	case what == "unexport":
		c.env[i].told = false
	case what == "send":
		v := c.env[i].Var
		return c.command(func(t *telnet.Conn) error {
			return t.Update(func(e *engine.Engine) { tellVar(e, v) })
		})
	}
	if c.s == nil {
		return nil
	}
	vars := c.exported()
	return c.command(func(t *telnet.Conn) error {
		return t.Update(func(e *engine.Engine) {
			for _, code := range []engine.Code{engine.NewEnviron, engine.OldEnviron} {
				if o, ok := e.Option(code).(*option.Environ); ok {
					o.Vars = slices.Clone(vars)
				}
			}
		})
	})
}

// tellVar tells a variable by itself, by INFO (RFC 1572 §2), through the option
// that is on.
func tellVar(e *engine.Engine, v option.Var) {
	for _, code := range []engine.Code{engine.NewEnviron, engine.OldEnviron} {
		if o, ok := e.Option(code).(*option.Environ); ok && e.On(engine.Us, code) {
			o.Set(e, v)
			return
		}
	}
}
