// Package telsh is a small shell for telnet sessions: it shows what was
// negotiated and changes it. Its commands, prompts and answers are those of
// telnetlib3's server, byte for byte, so that scripts written for that one do
// here as well. Editing, history and completion are in editor.go, the commands
// in commands.go, the guards that may stand before a shell in guard.go.
package telsh

import (
	"context"
	"crypto/tls"
	"strings"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

const prompt = "tel:sh> "

// Shell is the shell as a telnet.Handler. The zero Shell is ready.
type Shell struct {
	// Version is what the command of that name says: the main module's if empty.
	Version string
	// ForceBinary tells that text has eight bits whatever was negotiated, in what
	// the command reader says.
	ForceBinary bool
}

// session is the shell of one connection.
type session struct {
	shell *Shell
	ctx   context.Context
	c     *telnet.Conn
	text  *telnet.Text
	in    *editor

	// What the shell has told the client of flow control: a client may lack
	// the option, and the setting is shown all the same.
	lflow, xonAny bool
}

// ServeTELNET implements telnet.Handler. It returns when the client says quit or
// leaves.
func (s *Shell) ServeTELNET(ctx context.Context, c *telnet.Conn) {
	text := c.Text()
	x := &session{shell: s, ctx: ctx, c: c, text: text, lflow: true}
	x.in = &editor{text: text, prompt: prompt, echo: func() bool { return c.On(engine.Us, engine.Echo) }, complete: complete}
	ready := "Ready.\n"
	if t := c.Info().TLS; t != nil {
		ready = "Ready (secure: " + strings.ReplaceAll(tls.VersionName(t.Version), " ", "v") + ").\n"
	}
	if _, err := text.WriteString(ready); err != nil {
		return
	}
	for more := false; ; {
		if more {
			text.WriteString("\n")
		}
		if text.Prompt(prompt) != nil {
			return
		}
		line, err := x.in.readLine()
		if err != nil {
			return
		}
		if _, err := text.WriteString("\n"); err != nil || x.run(line) || ctx.Err() != nil {
			return
		}
		more = line != ""
	}
}
