package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns the prompt: its commands by any unambiguous beginning of their
// names. While it is there the terminal is as it was found, and nothing is shown
// of the session. A command that could be done goes back to the session, as in
// other telnets.

const promptText = "telnet> "

var errNotConnected = errors.New("not connected")

// errUsage is for words that a command does not take.
var errUsage = errors.New("not understood; `?` lists the commands")

type command struct {
	name, words, help string
	run               func(c *Client, ctx context.Context, words []string) error
}

// commands is filled by init, since help reads it.
var commands []command

func init() {
	commands = []command{
		{"open", "HOST [PORT]", "connect", (*Client).cmdOpen},
		{"close", "", "end the session", (*Client).cmdClose},
		{"logout", "", "ask the other end to end it (RFC 727)", (*Client).cmdLogout},
		{"quit", "", "end the session and the program", (*Client).cmdQuit},
		{"mode", "auto|line|character", "by the options; edit lines here; send each key\n" +
			"                              or [-]edit [-]trapsig [-]softtabs [-]litecho", (*Client).cmdMode},
		{"status", "", "show what is known of the session", (*Client).cmdStatus},
		{"display", "", "show what set and toggle change", (*Client).cmdDisplay},
		{"set", "NAME [VALUE]", "escape CHARACTER, or switch on what toggle has", (*Client).cmdSet},
		{"unset", "NAME", "switch it off", (*Client).cmdUnset},
		{"toggle", "NAME", "switch it; `toggle ?` lists the names", (*Client).cmdToggle},
		{"send", "NAME...", "send commands; `send ?` lists them", (*Client).cmdSend},
		{"slc", "WORD...", "special characters of LINEMODE; `slc ?` tells more", (*Client).cmdSLC},
		{"environ", "WORD...", "what servers are told; `environ ?` tells more", (*Client).cmdEnviron},
		{"z", "", "suspend the program", (*Client).cmdSuspend},
		{"?", "", "list the commands", (*Client).cmdHelp},
		{"help", "", "", (*Client).cmdHelp},
	}
}

// prompt takes commands until one was done that goes back to the session, or
// the user has no more of them.
func (c *Client) prompt(ctx context.Context) {
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
	case <-ctx.Done():
		return
	}
	if c.tty != nil {
		c.tty.restore()
		if c.s != nil {
			fmt.Fprint(c.out, "\n")
		}
	}
	for !c.quit {
		words, ok := c.readCommand(ctx)
		if !ok {
			return
		}
		back := len(words) == 0
		if !back {
			switch err := c.do(ctx, words); {
			case err == nil:
				back = words[0] != "?" && !strings.HasPrefix("help", words[0])
			case ctx.Err() != nil:
				return
			default:
				if c.tty == nil {
					c.failed = fmt.Errorf("%s: %w", words[0], err) // a script ends there
					return
				}
				c.say("?%s: %v", words[0], err)
			}
		}
		if back && c.s != nil {
			c.apply()
			return
		}
		if c.cfg.Host != "" && c.s == nil {
			return // it was closed
		}
	}
}

// readCommand shows the prompt and reads a line. False: there are no more.
func (c *Client) readCommand(ctx context.Context) ([]string, bool) {
	if c.tty != nil {
		fmt.Fprint(c.out, promptText)
	}
	for {
		if i := slices.IndexFunc(c.line, func(b byte) bool { return b == '\n' || b == '\r' }); i >= 0 {
			words := strings.Fields(string(c.line[:i]))
			c.line = c.line[i+1:]
			return words, true
		}
		if c.input == nil { // its end came during a session
			c.quit = true
			return nil, false
		}
		select {
		case <-ctx.Done():
			return nil, false
		case sig := <-c.cfg.Signals:
			if sig == os.Interrupt && c.tty == nil {
				c.quit = true
				return nil, false
			}
			if sig == os.Interrupt {
				c.line = nil
				fmt.Fprint(c.out, "\n", promptText)
			}
			if sig == syscall.SIGTSTP {
				if err := c.suspend(); err == nil && c.tty != nil {
					fmt.Fprint(c.out, promptText)
				}
			}
			if sig == syscall.SIGWINCH && c.s != nil {
				c.signal(sig)
			}
		case b, ok := <-c.input:
			if !ok || len(b) == 0 {
				c.quit = true
				if c.tty != nil {
					fmt.Fprintln(c.out)
				}
				return nil, false
			}
			if c.line = append(c.line, b...); len(c.line) > maxPending {
				c.failed, c.quit = errors.New("a command without an end"), true
				return nil, false
			}
		}
	}
}

// do runs a command.
func (c *Client) do(ctx context.Context, words []string) error {
	i, err := pick(words[0], len(commands), func(i int) string { return commands[i].name })
	if err != nil {
		return err
	}
	return commands[i].run(c, ctx, words[1:])
}

// pick finds the name that word is, or the only one that it begins.
func pick(word string, n int, name func(int) string) (int, error) {
	word = strings.ToLower(word)
	found := -1
	for i := range n {
		switch {
		case name(i) == word:
			return i, nil
		case !strings.HasPrefix(name(i), word):
		case found >= 0:
			return 0, fmt.Errorf("ambiguous: %s, %s", name(found), name(i))
		default:
			found = i
		}
	}
	if found < 0 {
		return 0, errUsage
	}
	return found, nil
}

func (c *Client) cmdOpen(ctx context.Context, words []string) error {
	switch {
	case c.s != nil:
		return fmt.Errorf("connected to %s", c.s.host)
	case len(words) == 1:
		return c.open(ctx, words[0], "")
	case len(words) == 2:
		return c.open(ctx, words[0], words[1])
	}
	return errUsage
}

func (c *Client) cmdClose(context.Context, []string) error {
	if c.s == nil {
		return errNotConnected
	}
	c.hangUp()
	c.say("Connection closed.")
	return nil
}

func (c *Client) cmdLogout(context.Context, []string) error {
	return c.command((*telnet.Conn).Logout)
}

func (c *Client) cmdQuit(ctx context.Context, words []string) error {
	c.quit = true
	if c.s != nil {
		return c.cmdClose(ctx, words)
	}
	return nil
}

// cmdMode tells the server as well: by ECHO and SUPPRESS GO AHEAD he echoes keys
// as they come, without them he waits for lines.
func (c *Client) cmdMode(_ context.Context, words []string) error {
	if len(words) == 0 {
		return errUsage
	}
	modes := []Mode{ModeAuto, ModeLine, ModeRaw}
	i, err := pick(words[0], len(modes), func(i int) string { return modes[i].String() })
	if err != nil || len(words) > 1 {
		return c.cmdLinemode(words)
	}
	c.mode = modes[i]
	if c.s == nil || c.mode == ModeAuto {
		return nil
	}
	return c.command(func(t *telnet.Conn) error {
		return t.Update(func(e *engine.Engine) {
			for _, code := range []engine.Code{engine.SGA, engine.Echo} {
				if c.mode == ModeRaw {
					e.Enable(engine.Him, code)
				} else {
					e.Disable(engine.Him, code)
				}
			}
		})
	})
}

// editing is what the modes are to a user.
var editing = map[telnet.LineMode]string{telnet.ModeLocal: "edited here", telnet.ModeKludge: "each key is sent",
	telnet.ModeEdit: "edited here, by LINEMODE", telnet.ModeRemote: "each key is sent, by LINEMODE"}

func (c *Client) cmdStatus(context.Context, []string) error {
	if c.s == nil {
		return errNotConnected
	}
	i := c.s.conn.Info()
	c.say("Connected to %s port %s, %v.", c.s.host, c.s.port, c.s.conn.RemoteAddr())
	if i.TLS != nil {
		c.say("Over %s.", tls.VersionName(i.TLS.Version))
	}
	c.say("Lines: %s; mode %s.", editing[i.Mode], c.mode)
	c.say("Characters: %s.", i.Charset)
	c.say("Window: %d columns, %d lines.", i.Size.Cols, i.Size.Rows)
	c.say("Our options: %s.", names(i.Local))
	c.say("Theirs: %s.", names(i.Remote))
	for _, drop := range slices.Sorted(maps.Keys(i.Dropped)) {
		c.say("Dropped: %d, %s.", i.Dropped[drop], drop)
	}
	c.say("Escape character: '%s'.", control(c.escape))
	return nil
}

func names(codes []engine.Code) string {
	if len(codes) == 0 {
		return "none"
	}
	var s []string
	for _, code := range codes {
		s = append(s, code.String())
	}
	return strings.Join(s, " ")
}

func (c *Client) cmdSuspend(context.Context, []string) error {
	if c.tty == nil {
		return errors.New("there is no terminal")
	}
	if err := c.suspend(); err != nil {
		return err
	}
	if size, ok := c.size(); ok && c.s != nil {
		return c.command(func(t *telnet.Conn) error { return t.Resize(size) })
	}
	return nil
}

// suspend stops the job, as its key would have if we did not catch that.
func (c *Client) suspend() error { return syscall.Kill(0, syscall.SIGSTOP) }

func (c *Client) cmdHelp(context.Context, []string) error {
	for _, k := range commands {
		if k.help != "" {
			c.say("%-8s %-20s %s", k.name, k.words, k.help)
		}
	}
	return nil
}
