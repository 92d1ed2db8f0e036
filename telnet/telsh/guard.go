package telsh

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns what may stand before a shell: a check whether there is a
// terminal at the other end, and words for those who find no place. Both are the
// seed's: what is answered is logged, and the session ends.

const (
	cprWait    = 5 * time.Second
	robotWait  = 10 * time.Second
	busyWait   = 30 * time.Second
	maxCPR     = 1024 // bytes that are looked at for an answer
	maxAnswers = 8    // blank ones, before a question is given up
)

// WithRobotCheck serves those whose terminal tells where its cursor is, and that
// it went on by one behind a blank (ECMA-48's DSR and CPR). Others are asked
// about their nature, and leave.
func WithRobotCheck(log *slog.Logger) telnet.Middleware {
	return func(h telnet.Handler) telnet.Handler {
		return telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
			if isTerminal(c) {
				h.ServeTELNET(ctx, c)
				return
			}
			log.Info("telnet: robot denied", "peer", c.RemoteAddr().String(), "answers", askRobot(c))
		})
	}
}

func isTerminal(c *telnet.Conn) bool {
	defer c.SetReadDeadline(time.Time{})
	before, ok := cursor(c)
	if !ok {
		return false
	}
	if _, err := c.Write([]byte(" ")); err != nil {
		return false
	}
	after, ok := cursor(c)
	if !ok || after != before+1 {
		return false
	}
	_, err := c.Write([]byte("\b \b"))
	return err == nil
}

var cpr = regexp.MustCompile(`\x1b\[\d{1,5};(\d{1,5})R$`)

// cursor asks for the column of the cursor. It reads a byte at a time, so that
// nothing of what comes behind the answer is lost to the shell.
func cursor(c *telnet.Conn) (column int, ok bool) {
	if _, err := c.Write([]byte("\x1b[6n")); err != nil {
		return 0, false
	}
	c.SetReadDeadline(time.Now().Add(cprWait))
	var got []byte
	for one := make([]byte, 1); len(got) < maxCPR; {
		if _, err := c.Read(one); err != nil {
			return 0, false
		}
		got = append(got, one[0])
		if !bytes.HasSuffix(got, []byte("R")) {
			continue
		}
		if m := cpr.FindSubmatch(got); m != nil {
			column, _ = strconv.Atoi(string(m[1]))
			return column, true
		}
	}
	return 0, false
}

func newEditor(c *telnet.Conn) *editor {
	return &editor{text: c.Text(), echo: func() bool { return c.On(engine.Us, engine.Echo) }, complete: func(string) []string { return nil }}
}

func askRobot(c *telnet.Conn) (answers []string) {
	in := newEditor(c)
	for _, q := range []string{"Do robots dream of electric sheep? [yn] ", "\nHave you ever wondered, who are the windowmakers? "} {
		answer := ""
		for range maxAnswers {
			if in.text.Prompt(q) != nil {
				return answers
			}
			c.SetReadDeadline(time.Now().Add(robotWait))
			line, err := in.readLine()
			if err != nil {
				return answers
			}
			if answer = strings.TrimSpace(line); answer != "" {
				break
			}
			in.text.WriteString("\n")
		}
		if answer == "" {
			return answers
		}
		answers = append(answers, answer)
	}
	in.text.WriteString("\n")
	return answers
}

// Busy is the handler for those who are too many.
func Busy(log *slog.Logger) telnet.Handler {
	return telnet.HandlerFunc(func(_ context.Context, c *telnet.Conn) {
		in := newEditor(c)
		in.echo = func() bool { return false }
		var said []string
		for _, q := range []string{"Machine is busy, do not touch! ", "\nYou hear a distant explosion... "} {
			if in.text.Prompt(q) != nil {
				break
			}
			c.SetReadDeadline(time.Now().Add(busyWait))
			line, err := in.readLine()
			if err != nil && !telnet.IsTimeout(err) {
				break
			}
			said = append(said, line)
		}
		in.text.WriteString("\n")
		log.Info("telnet: busy", "peer", c.RemoteAddr().String(), "said", said)
	})
}
