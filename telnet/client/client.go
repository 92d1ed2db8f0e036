// Package client is a telnet program for users: a session between a terminal,
// or a pipe, and a telnet.Conn, with a prompt for commands behind an escape
// character.
//
// This file owns what the program is told, and how sessions begin and end.
// session.go owns what happens in one, mode.go what the terminal does
// meanwhile, tty.go the system calls for that, and command.go the prompt.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// Config is what a Client is told. Dial, In, Out and Err must be there.
type Config struct {
	// Host is who to connect to; "" begins at the prompt. Port is "23" or with
	// TLS "992" if empty.
	Host, Port string
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	TLS        *tls.Config   // nil: none
	Timeout    time.Duration // for a connection; 0: none
	// MinWait holds back what is typed for so long after the connection.
	MinWait time.Duration
	// Telnet is how the connections behave. Its Client.Size and Client.Env are
	// overwritten: by the terminal's size, if there is a terminal, and by Env.
	Telnet telnet.Config
	Env    []option.Var // told to servers that ask

	Mode     Mode
	Escape   byte // brings the prompt, on a terminal; 0: nothing does
	Text     bool // convert characters even if neither In nor Out is a terminal
	Errors   Errors
	SevenBit bool // only ASCII while BINARY is off (RFC 856)

	In         io.Reader
	Out, Err   io.Writer
	Typescript io.Writer // nil, or where all that the Client shows is written, too
	// Signals are SIGINT, SIGQUIT, SIGTSTP and SIGWINCH, as the program gets them.
	Signals <-chan os.Signal
	Logger  *slog.Logger // nil: none
}

// Errors is what becomes of received bytes that are no characters.
type Errors uint8

// The ways, by the names of the flag.
const (
	Replace Errors = iota // U+FFFD is shown
	Ignore                // nothing is shown
	Strict                // the session ends
)

// ErrEncoding is the end of a session with Strict.
var ErrEncoding = errors.New("received what is no text in this character set")

// Client is the program. It runs once.
type Client struct {
	cfg    Config
	tty    *tty // nil: In is not a terminal
	shown  bool // Out is a terminal
	out    *shared
	input  chan []byte // from In; closed at its end; nil after that
	over   chan struct{}
	quit   bool
	line   []byte // of the prompt, before its end
	env    []variable
	set    toggles
	escape byte
	mode   Mode // what the user asked for

	gate chan struct{} // who has put in the one element may show things
	s    *session      // nil: not connected
	err  error         // of the last session

	failed error       // a command that could not be done, without a terminal
	asked  atomic.Bool // the user wants to see a status report
}

// shared is a writer for several goroutines.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// New makes a Client.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, out: &shared{w: cfg.Out}, input: make(chan []byte), over: make(chan struct{}),
		gate: make(chan struct{}, 1), escape: cfg.Escape, mode: cfg.Mode}
	if c.cfg.Logger == nil {
		c.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if f, ok := cfg.In.(*os.File); ok {
		c.tty = openTTY(f)
	}
	if f, ok := cfg.Out.(*os.File); ok {
		c.shown = openTTY(f) != nil
	}
	for _, v := range cfg.Env {
		c.env = append(c.env, variable{v, true})
	}
	return c
}

// Run runs the program: with a Host until that session is over, else until the
// user quits. It returns early when ctx ends, which is no error. Errors: that
// of connecting, or of a session that neither end closed.
func (c *Client) Run(ctx context.Context) error {
	defer close(c.over)
	go c.readInput(c.input)
	if c.tty != nil {
		defer c.tty.restore()
	}
	if c.cfg.Host != "" {
		if err := c.open(ctx, c.cfg.Host, c.cfg.Port); err != nil {
			return err
		}
	}
	for !c.quit && ctx.Err() == nil {
		switch {
		case c.s != nil:
			c.run(ctx)
		case c.cfg.Host != "":
			return c.err
		case c.failed != nil && c.tty == nil:
			return c.failed
		default:
			c.prompt(ctx)
		}
	}
	c.hangUp()
	if c.failed != nil {
		return c.failed
	}
	return c.err
}

// maxEmpty is how many ends of file in a row a terminal may have; then it has
// gone. One is what a user types.
const maxEmpty = 16

// readInput passes In on. From a terminal an empty piece is an end of file that
// was typed.
func (c *Client) readInput(to chan<- []byte) {
	defer c.crashing()
	defer close(to)
	for empty := 0; empty < maxEmpty; {
		b := make([]byte, 4096)
		n, err := c.cfg.In.Read(b)
		if empty++; n > 0 {
			empty = 0
		}
		if n > 0 || c.tty != nil && err == io.EOF {
			select {
			case to <- b[:n]:
			case <-c.over:
				return
			}
		}
		if err != nil && (c.tty == nil || err != io.EOF) {
			return
		}
	}
}

// say tells the user something that is not the session's.
func (c *Client) say(format string, args ...any) {
	w := io.Writer(c.out)
	if c.tty == nil && !c.shown {
		w = c.cfg.Err
	}
	fmt.Fprintf(w, format+"\n", args...)
}

// open connects. SIGINT gives up.
func (c *Client) open(ctx context.Context, host, port string) error {
	if port == "" {
		port = "23"
		if c.cfg.TLS != nil {
			port = "992"
		}
	}
	s := &session{c: c, host: host, port: port, out: make(chan []byte), done: make(chan struct{}), ready: make(chan struct{}),
		closing: make(chan struct{}), changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := fmt.Errorf("%s port %s: no connection within %v", host, port, c.cfg.Timeout)
	if c.cfg.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, c.cfg.Timeout)
		defer stop()
	}
	c.say("Trying %s port %s...", host, port)
	d := telnet.Dialer{Config: c.config(s), Dial: c.cfg.Dial, TLS: c.cfg.TLS}
	dialled := make(chan error, 1)
	go func() {
		var err error
		s.conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		dialled <- err
	}()
	var err error
	for waiting := true; waiting; {
		select {
		case err = <-dialled:
			waiting = false
		case sig := <-c.cfg.Signals:
			if sig == os.Interrupt {
				cancel()
			}
		}
	}
	if err != nil {
		// A dialer may notice before the context does.
		if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() && c.cfg.Timeout > 0 {
			return late
		}
		return err
	}
	s.chars = s.conn.Characters()
	s.conn.View(func(e *engine.Engine) {
		if lm, ok := e.Option(engine.Linemode).(*option.Linemode); ok {
			lm.TakesMask = c.takesMask
		}
	})
	c.cfg.Logger.Info("connected", "host", host, "port", port)
	c.say("Connected to %s.", host)
	if c.tty != nil && c.escape != 0 {
		c.say("Escape character is '%s'.", control(c.escape))
	}
	c.s, c.err = s, nil
	s.start()
	return nil
}

// config is that of a new connection.
func (c *Client) config(s *session) *telnet.Config {
	cfg := c.cfg.Telnet
	if size, ok := c.size(); ok {
		cfg.Client.Size = size
	}
	cfg.Client.Env = c.exported()
	event, trace := cfg.Event, cfg.Trace
	cfg.Event = func(tc *telnet.Conn, ev engine.Event) {
		s.event(ev)
		if event != nil {
			event(tc, ev)
		}
	}
	cfg.Trace = func(tc *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte) {
		c.trace(sent, cmd, code, content)
		if trace != nil {
			trace(tc, sent, cmd, code, content)
		}
	}
	return &cfg
}

// size is that of the terminal.
func (c *Client) size() (option.Size, bool) {
	if c.tty == nil {
		return option.Size{}, false
	}
	return c.tty.size()
}

// hangUp ends the session, if there is one, without any farewell.
func (c *Client) hangUp() {
	if c.s != nil {
		c.s.conn.Close()
		close(c.s.closing)
		select {
		case <-c.s.done:
		case <-time.After(stoppedWait): // it shows something on a terminal that was stopped by ^S
		}
		c.s = nil
	}
	if c.tty != nil {
		c.tty.restore()
	}
}

// stoppedWait is how long the end of a session waits for what is being shown.
const stoppedWait = time.Second

// crashing is deferred by the goroutines beside Run's: a panic must not leave
// the terminal without echo.
func (c *Client) crashing() {
	if p := recover(); p != nil {
		if c.tty != nil {
			_ = c.tty.setAttr(c.tty.saved)
		}
		panic(p)
	}
}
