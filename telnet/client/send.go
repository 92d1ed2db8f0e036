package client

import (
	"context"
	"fmt"
	"strings"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns `send`: the commands of RFC 854 §Control functions and those
// that RFC 1123 §3.2.4 and §3.4.1 want a user to be able to send.

type sending struct {
	name, help string
	do         func(*telnet.Conn) error
}

func one(cmd engine.Command) func(*telnet.Conn) error {
	return func(t *telnet.Conn) error { return t.SendCommand(cmd) }
}

var sendings = []sending{
	{"ao", "abort output", one(engine.AO)},
	{"ayt", "are you there", one(engine.AYT)},
	{"brk", "break", one(engine.BRK)},
	{"ec", "erase character", one(engine.EC)},
	{"el", "erase line", one(engine.EL)},
	{"ip", "interrupt process", one(engine.IP)},
	{"abort", "abort process", one(engine.ABORT)},
	{"susp", "suspend process", one(engine.SUSP)},
	{"eof", "end of file", one(engine.EOF)},
	{"eor", "end of record", one(engine.EORMark)},
	{"ga", "go ahead", one(engine.GA)},
	{"nop", "nothing", one(engine.NOP)},
	{"synch", "throw away what is under way, by TCP's urgent data", (*telnet.Conn).Synch},
	{"tm", "timing mark (RFC 860)", func(t *telnet.Conn) error { return t.Update((*engine.Engine).TimingMark) }},
	{"getstatus", "ask what the other end takes the options to be (RFC 859)", getStatus},
	{"escape", "the escape character", nil},
}

// verbs take the name or number of an option.
var verbs = map[string]engine.Command{"do": engine.DO, "dont": engine.DONT, "will": engine.WILL, "wont": engine.WONT}

func getStatus(t *telnet.Conn) error {
	on := t.On(engine.Him, engine.Status)
	return t.Update(func(e *engine.Engine) {
		if o, ok := e.Option(engine.Status).(*option.Status); ok && on {
			o.Ask(e)
		} else {
			e.Enable(engine.Him, engine.Status) // the option asks when it is on
		}
	})
}

func (c *Client) cmdSend(_ context.Context, words []string) error {
	if len(words) == 0 {
		return errUsage
	}
	if words[0] == "?" {
		for _, s := range sendings {
			c.say("%-10s %s", s.name, s.help)
		}
		c.say("%-10s %s", "do|dont|will|wont OPTION", "ask for an option, by name or number")
		return nil
	}
	if c.s == nil {
		return errNotConnected
	}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if verb, ok := verbs[strings.ToLower(word)]; ok {
			if len(words) == 0 {
				return errUsage
			}
			code, ok := engine.CodeOf(optionName(words[0]))
			if !ok {
				return fmt.Errorf("there is no option %s", words[0])
			}
			words = words[1:]
			if err := c.command(func(t *telnet.Conn) error { return negotiate(t, verb, code) }); err != nil {
				return err
			}
			continue
		}
		i, err := pick(word, len(sendings), func(i int) string { return sendings[i].name })
		if err != nil {
			return err
		}
		if sendings[i].do == nil {
			if c.escape != 0 {
				c.s.pending = append(c.s.pending, c.escape)
			}
			continue
		}
		if sendings[i].name == "getstatus" {
			c.asked.Store(true)
		}
		if err := c.command(sendings[i].do); err != nil {
			return err
		}
	}
	return nil
}

// negotiate asks by the Q method: what is the case already is not said again.
func negotiate(t *telnet.Conn, verb engine.Command, code engine.Code) error {
	side := engine.Us
	if verb == engine.DO || verb == engine.DONT {
		side = engine.Him
	}
	if verb == engine.WILL || verb == engine.DO {
		return t.Enable(side, code)
	}
	return t.Disable(side, code)
}

// optionName is an option's name as engine.CodeOf has it.
func optionName(s string) string { return strings.ReplaceAll(strings.ToUpper(s), "-", "_") }

// ParseOption returns the option of a name, in any case, or of a number.
func ParseOption(s string) (engine.Code, bool) { return engine.CodeOf(optionName(s)) }
