package client

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what the user can switch: by set, unset and toggle.

// toggle is one of them, a bit of toggles.
type toggle uint8

const (
	crlf toggle = iota
	crmod
	autosynch
	autoflush
	localchars
	showOptions
	binary
	inbinary
	outbinary
)

// toggles are read by the goroutine that reads, too.
type toggles struct{ bits atomic.Uint32 }

func (t *toggles) on(x toggle) bool { return t.bits.Load()&(1<<x) != 0 }

func (t *toggles) put(x toggle, on bool) {
	if on {
		t.bits.Or(1 << x)
	} else {
		t.bits.And(^uint32(1 << x))
	}
}

var toggleNames = []struct{ name, help string }{
	crlf:        {"crlf", "send Return as CR LF, not CR NUL"},
	crmod:       {"crmod", "show a CR that is received as CR LF"},
	autosynch:   {"autosynch", "send a Synch behind interrupts"},
	autoflush:   {"autoflush", "show nothing until an interrupt was seen (RFC 860)"},
	localchars:  {"localchars", "^C, ^\\ and ^Z are commands in every mode"},
	showOptions: {"options", "show what is negotiated"},
	binary:      {"binary", "BINARY both ways (RFC 856)"},
	inbinary:    {"inbinary", "BINARY from the other end"},
	outbinary:   {"outbinary", "BINARY to it"},
}

func findToggle(word string) (toggle, error) {
	i, err := pick(word, len(toggleNames), func(i int) string { return toggleNames[i].name })
	return toggle(i), err
}

// isOn is a toggle's state; of BINARY it is the session's.
func (c *Client) isOn(x toggle) bool {
	if x < binary {
		return c.set.on(x)
	}
	if c.s == nil {
		return false
	}
	in, out := c.s.conn.On(engine.Him, engine.Binary), c.s.conn.On(engine.Us, engine.Binary)
	return (in || x == outbinary) && (out || x == inbinary)
}

func (c *Client) put(x toggle, on bool) error {
	if x < binary {
		c.set.put(x, on)
		return nil
	}
	return c.command(func(t *telnet.Conn) error {
		return t.Update(func(e *engine.Engine) {
			for side, other := range map[engine.Side]toggle{engine.Him: outbinary, engine.Us: inbinary} {
				switch {
				case x == other:
				case on:
					e.Enable(side, engine.Binary)
				default:
					e.Disable(side, engine.Binary)
				}
			}
		})
	})
}

func (c *Client) cmdToggle(_ context.Context, words []string) error {
	if len(words) == 0 {
		return errUsage
	}
	if words[0] == "?" {
		for _, t := range toggleNames {
			c.say("%-10s %s", t.name, t.help)
		}
		return nil
	}
	for _, w := range words {
		x, err := findToggle(w)
		if err == nil {
			err = c.put(x, !c.isOn(x))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) cmdSet(_ context.Context, words []string) error {
	switch {
	case len(words) == 2 && words[0] == "escape":
		b, err := ParseEscape(words[1])
		if err == nil {
			c.escape = b
		}
		return err
	case len(words) == 1 && words[0] != "escape":
		x, err := findToggle(words[0])
		if err != nil {
			return err
		}
		return c.put(x, true)
	}
	return errUsage
}

func (c *Client) cmdUnset(_ context.Context, words []string) error {
	if len(words) != 1 {
		return errUsage
	}
	if words[0] == "escape" {
		c.escape = 0
		return nil
	}
	x, err := findToggle(words[0])
	if err != nil {
		return err
	}
	return c.put(x, false)
}

func (c *Client) cmdDisplay(context.Context, []string) error {
	for i, t := range toggleNames {
		state := "off"
		if c.isOn(toggle(i)) {
			state = "on"
		}
		c.say("%-10s %-4s %s", t.name, state, t.help)
	}
	c.say("%-10s %-4s %s", "escape", control(c.escape), "the escape character")
	return nil
}

// ParseEscape returns the character that s writes: itself, "^]", or "off", which
// is 0.
func ParseEscape(s string) (byte, error) {
	switch {
	case s == "off":
		return 0, nil
	case len(s) == 1 && s[0] > ' ' && s[0] < 0x7f:
		return s[0], nil
	case len(s) == 2 && s[0] == '^' && s[1] >= '?' && s[1] <= '~':
		if c := s[1] &^ 0x20; c > '@' && c <= '_' {
			return c ^ 0x40, nil
		} else if s[1] == '?' {
			return 0x7f, nil
		}
	}
	return 0, fmt.Errorf("%q: want one character, ^ and a letter, or off", s)
}

// trace is told what is negotiated, with the connection's locks held.
func (c *Client) trace(sent bool, cmd engine.Command, code engine.Code, content []byte) {
	show, ctx := c.set.on(showOptions), context.Background()
	if !show && !c.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	way, what := "RCVD", cmd.String()
	if sent {
		way = "SENT"
	}
	if cmd >= engine.SB && cmd < engine.IAC {
		what += " " + code.String()
	}
	if cmd == engine.SB {
		what += " " + strconv.Quote(string(content))
	}
	c.cfg.Logger.Debug(what, "way", way)
	if show {
		end := "\n"
		if c.tty != nil {
			end = "\r\n" // it may be in raw mode
		}
		fmt.Fprint(c.out, way+" "+what+end)
	}
}

// heard is told what is received beside data, by the goroutine that reads.
func (c *Client) heard(ev engine.Event) {
	end := "\n"
	if c.tty != nil {
		end = "\r\n"
	}
	switch {
	case ev.Kind == engine.Subneg && ev.Code == engine.Status:
		r, ok := ev.Value.(option.StatusReport)
		if !ok || !c.asked.Swap(false) {
			return
		}
		for _, x := range r.Entries {
			fmt.Fprintf(c.out, "%v %v%s", x.Verb, x.Code, end)
		}
		if len(r.Disagree) > 0 {
			fmt.Fprintf(c.out, "we see otherwise: %s%s", names(r.Disagree), end)
		}
	case ev.Kind == engine.Mark:
		c.cfg.Logger.Debug("timing mark", "will", ev.On)
	}
}
