package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what a user has to say of LINEMODE (RFC 1184): its mode, from
// the client's side, and the special characters, by `slc`.

var errNoLinemode = errors.New("LINEMODE is not on")

// linemodeBits are the words for the bits of the mode; with a "-" they are
// switched off.
var linemodeBits = []struct {
	name string
	bit  option.Mode
}{{"edit", option.ModeEdit}, {"trapsig", option.ModeTrapSig}, {"isig", option.ModeTrapSig}, {"softtabs", option.ModeSoftTab}, {"litecho", option.ModeLitEcho}}

// linemode calls f with the option, if it is on.
func (c *Client) linemode(f func(e *engine.Engine, lm *option.Linemode)) error {
	on := false
	err := c.command(func(t *telnet.Conn) error {
		return t.Update(func(e *engine.Engine) {
			if lm, ok := e.Option(engine.Linemode).(*option.Linemode); ok && e.On(engine.Us, engine.Linemode) {
				on = true
				f(e, lm)
			}
		})
	})
	if err == nil && !on {
		return errNoLinemode
	}
	return err
}

// cmdLinemode asks for a mode of LINEMODE: the words are what is to change.
func (c *Client) cmdLinemode(words []string) error {
	var set, clear option.Mode
	for _, w := range words {
		name, off := strings.CutPrefix(strings.ToLower(w), "-")
		i, err := pick(name, len(linemodeBits), func(i int) string { return linemodeBits[i].name })
		switch {
		case err != nil:
			return err
		case off:
			clear |= linemodeBits[i].bit
		default:
			set |= linemodeBits[i].bit
		}
	}
	return c.linemode(func(e *engine.Engine, lm *option.Linemode) { lm.SetMode(e, lm.Mode()&^clear|set) })
}

// cmdSLC shows the special characters, changes one, or brings the two tables to
// agree: that of the other end by import, the terminal's by export.
func (c *Client) cmdSLC(_ context.Context, words []string) error {
	actions := []string{"list", "check", "import", "export", "?"}
	if len(words) == 0 {
		words = []string{"list"}
	}
	if n, err := pick(words[0], len(actions), func(i int) string { return actions[i] }); err == nil {
		if len(words) > 1 {
			return errUsage
		}
		switch actions[n] {
		case "list":
			return c.listSLC()
		case "check":
			return c.linemode(func(e *engine.Engine, lm *option.Linemode) { lm.AskTable(e, option.Value) })
		case "import":
			return c.linemode(func(e *engine.Engine, lm *option.Linemode) { lm.AskTable(e, option.Default) })
		case "export":
			return c.exportSLC()
		}
		c.say("list                 show the special characters")
		c.say("check                ask the other end for those it has")
		c.say("import               ask it for those it begins with")
		c.say("export               tell it those of this terminal")
		c.say("FUNCTION CHARACTER   change one: ip ^C; off: none, default: the other end's")
		return nil
	}
	if len(words) != 2 {
		return errUsage
	}
	fn, ok := option.ParseFunction(words[0])
	if !ok {
		return fmt.Errorf("there is no function %s", words[0])
	}
	ch := option.Char{Flags: byte(option.Value)}
	switch words[1] {
	case "off":
		ch = option.Char{Flags: byte(option.NoSupport), Value: 0xff}
	case "default":
		ch.Flags = byte(option.Default)
	default:
		b, err := ParseEscape(words[1])
		if err != nil {
			return err
		}
		ch.Value = b
	}
	return c.linemode(func(e *engine.Engine, lm *option.Linemode) {
		if was := lm.Chars()[fn]; ch.Level() == option.Value {
			ch.Flags |= was.Flags & (option.SLCFlushIn | option.SLCFlushOut)
		}
		lm.SetChar(e, fn, ch)
	})
}

func (c *Client) listSLC() error {
	var t option.Table
	if err := c.linemode(func(_ *engine.Engine, lm *option.Linemode) { t = lm.Chars() }); err != nil {
		return err
	}
	for n := 1; n < len(t); n++ {
		if fn := option.Function(n); t[fn].Level() != option.NoSupport {
			value := "none"
			if t[fn].Value != 0 && t[fn].Value != 0xff {
				value = control(t[fn].Value)
			}
			c.say("%-10s %-5s %s", strings.ToLower(strings.TrimPrefix(fn.String(), "SLC_")), value,
				[...]string{"", "cannot be changed", "can be changed", "by default"}[t[fn].Level()])
		}
	}
	return nil
}

// exportSLC tells the terminal's characters, as it was found.
func (c *Client) exportSLC() error {
	if c.tty == nil {
		return errors.New("there is no terminal")
	}
	return c.linemode(func(e *engine.Engine, lm *option.Linemode) {
		var list []option.Function
		for fn := range keys {
			list = append(list, fn)
		}
		slices.Sort(list)
		for _, fn := range list {
			if b := c.tty.saved.Cc[keys[fn]]; b != 0 { // 0 switches it off
				lm.SetChar(e, fn, option.Char{Flags: byte(option.Value) | lm.Chars()[fn].Flags&(option.SLCFlushIn|option.SLCFlushOut), Value: b})
			}
		}
	})
}
