package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns a session. Three goroutines have a part in it: the Client's
// own takes what is typed and never waits for the peer, so that the escape
// character always works; one writes what it hands over; one reads and shows.

// maxPending bounds what was typed and the peer has not taken. A pipe is not
// read from meanwhile; at a terminal what is beyond it is lost, with a bell.
const maxPending = 64 << 10

// commandWait bounds how long a command waits for a peer that takes nothing.
const commandWait = 2 * time.Second

// flushWait bounds what autoflush throws away, for peers that know no timing
// marks.
const flushWait = 2 * time.Second

type session struct {
	c          *Client
	host, port string
	conn       *telnet.Conn
	chars      *telnet.Characters
	out        chan []byte   // to write
	ready      chan struct{} // closed when the handshake is over
	closing    chan struct{} // closed by hangUp: nothing need be shown any more
	done       chan struct{} // closed when nothing is read any more
	err        error         // of reading, before done is closed; nil: the peer has closed
	changed    chan struct{} // something that the mode depends on
	bye        atomic.Bool   // the peer agreed to end the session
	flushing   atomic.Int64  // what comes before this time, or a timing mark, is not shown; ns of Unix

	pending []byte // to hand over
	partial []byte // of a character that was typed
	cr      bool   // the last byte that was read from a pipe was a CR
	shownCR bool   // the last one that was received, for crmod; read's
}

func (s *session) start() {
	go s.read()
	go s.write()
}

// event is told of what is received beside data, by read.
func (s *session) event(ev engine.Event) {
	switch ev.Kind {
	case engine.Bye:
		s.bye.Store(true)
		s.conn.Close()
	case engine.Mark:
		s.flushing.Store(0)
	case engine.Changed, engine.Subneg:
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	s.c.heard(ev)
}

func (s *session) read() {
	defer s.c.crashing()
	defer close(s.done)
	_ = s.conn.Handshake(context.Background()) // takes MaxWait; what is wrong is told by Read, too
	close(s.ready)
	from := io.Reader(s.conn)
	if s.c.converts() {
		from = s.chars
	}
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if e := s.show(b[:n]); e != nil {
				err = e
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // a command's, as in write: answers were not taken
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !s.bye.Load() {
				s.err = err
			}
			s.conn.Close()
			return
		}
	}
}

// write hands the Conn what is typed. A command that met a peer who takes
// nothing has set a deadline; what was on its way then goes on.
func (s *session) write() {
	defer s.c.crashing()
	for {
		var b []byte
		select {
		case b = <-s.out:
		case <-s.done:
			return
		}
		for len(b) > 0 {
			n, err := s.conn.Write(b)
			switch b = b[n:]; {
			case err == nil:
			case errors.Is(err, os.ErrDeadlineExceeded):
				time.Sleep(10 * time.Millisecond)
			default:
				return // reading tells why
			}
		}
	}
}

// converts reports whether the session is one of characters. What goes from a
// pipe to a pipe is left as it is.
func (c *Client) converts() bool { return c.cfg.Text || c.tty != nil || c.shown }

// run is the session until it ends or the user wants something else.
func (c *Client) run(ctx context.Context) {
	s := c.s
	c.apply()
	hold, minimum := s.ready, time.After(c.cfg.MinWait)
	if c.tty != nil {
		hold = nil // nobody types that fast
	}
	for c.s == s && !c.quit {
		var in <-chan []byte
		if hold == nil && minimum == nil && (c.tty != nil || len(s.pending) < maxPending) {
			in = c.input
		}
		if in != nil && len(c.line) > 0 { // was behind the last command
			b := c.line
			c.line = nil
			c.typed(ctx, b)
			continue
		}
		var out chan<- []byte
		next := s.pending[:min(len(s.pending), 16<<10)]
		if len(next) > 0 {
			out = s.out
		}
		select {
		case <-ctx.Done():
			return
		case <-hold:
			hold = nil
		case <-minimum:
			minimum = nil
		case b, ok := <-in:
			if !ok {
				c.input = nil // the session goes on: there may be more to show
				c.quit = c.tty != nil
				continue
			}
			c.typed(ctx, b)
		case out <- next:
			s.pending = s.pending[len(next):]
		case <-s.changed:
			c.apply()
		case sig := <-c.cfg.Signals:
			c.signal(sig)
		case <-s.done:
			c.ended()
		}
	}
}

// ended is for a session that is over.
func (c *Client) ended() {
	s := c.s
	c.s, c.err = nil, s.err
	c.hangUp() // gives the terminal back
	if c.shown {
		io.WriteString(c.out, "\x1b[m") // whatever colour it was in
	}
	for drop, n := range s.conn.Info().Dropped {
		c.cfg.Logger.Info("dropped", "why", drop.String(), "count", n)
	}
	switch {
	case s.err == nil:
		c.say("Connection closed by foreign host.")
	case errors.Is(s.err, ErrEncoding):
		c.say("Connection closed.")
	default:
		c.say("Connection lost.")
	}
}

// show shows what was received, unless the prompt has the terminal: then it
// waits, and the peer with it.
func (s *session) show(b []byte) error {
	c := s.c
	if until := s.flushing.Load(); until != 0 && time.Now().UnixNano() < until {
		return nil
	}
	if c.converts() {
		if c.cfg.SevenBit && !s.conn.On(engine.Him, engine.Binary) {
			b = ascii(b, utf8.RuneError)
		}
		if c.cfg.Errors != Replace && bytes.ContainsRune(b, utf8.RuneError) {
			if c.cfg.Errors == Strict {
				return ErrEncoding
			}
			b = bytes.ReplaceAll(b, []byte("\ufffd"), nil)
		}
		if c.set.on(crmod) {
			b = s.crToCRLF(b)
		}
	}
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
		return c.display(b)
	case <-s.closing:
		return net.ErrClosed
	}
}

// crToCRLF is for servers whose lines end in CR alone.
func (s *session) crToCRLF(b []byte) []byte {
	out := make([]byte, 0, len(b)+16)
	for _, x := range b {
		switch {
		case x == '\r':
			out = append(out, '\r', '\n')
		case x != '\n' || !s.shownCR:
			out = append(out, x)
		}
		s.shownCR = x == '\r'
	}
	return out
}

// display writes to the terminal, or what is in its place, and the typescript.
func (c *Client) display(b []byte) error {
	if c.cfg.Typescript != nil {
		if _, err := c.cfg.Typescript.Write(b); err != nil {
			return err
		}
	}
	_, err := c.out.Write(b)
	return err
}

// ascii replaces all other characters.
func ascii(b []byte, by rune) []byte {
	return bytes.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return by
		}
		return r
	}, b)
}

// typed is for a piece of input: data up to the escape character, and a command
// behind it.
func (c *Client) typed(ctx context.Context, b []byte) {
	if c.tty != nil && len(b) == 0 {
		c.typedEOF()
		return
	}
	if c.tty != nil && c.escape != 0 {
		if i := bytes.IndexByte(b, c.escape); i >= 0 {
			c.send(b[:i])
			c.line = append(c.line, b[i+1:]...)
			c.prompt(ctx)
			return
		}
	}
	c.send(b)
}

// typedEOF is for an end of file that was typed: a command where the peer wants
// such (RFC 1184 §2.2), else the key itself.
func (c *Client) typedEOF() {
	if c.tty.now.sig && c.tty.now.linemode {
		c.command(func(t *telnet.Conn) error { return t.SendCommand(engine.EOF) })
		return
	}
	c.send([]byte{'D' - '@'})
}

// send takes data that was typed.
func (c *Client) send(b []byte) {
	s := c.s
	if s == nil || len(b) == 0 {
		return
	}
	if c.tty != nil && len(s.pending) > maxPending {
		io.WriteString(c.out, "\a")
		return
	}
	if c.tty != nil && !c.tty.now.line && c.tty.now.echo {
		c.gate <- struct{}{}
		_ = c.display(echoed(b)) // if it fails so will the next output
		<-c.gate
	}
	b = c.newlines(b)
	if c.converts() {
		b = append(s.partial, b...)
		n := whole(b)
		s.partial = bytes.Clone(b[n:])
		if b = b[:n]; c.cfg.SevenBit && !s.conn.On(engine.Us, engine.Binary) {
			b = ascii(b, '?')
		}
		b = s.chars.Encode(b)
	}
	s.pending = append(s.pending, b...)
}

// whole is the length of b without the beginning of a character at its end.
func whole(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}

// newlines gives what was typed the ends of lines of RFC 854. A line of a
// terminal or pipe ends in LF and is sent with CR LF; the key Return alone is a
// CR, sent as CR NUL, or CR LF if the user has set that. With BINARY, and in a
// pipe with ModeRaw, nothing is changed, but for a terminal's lines.
func (c *Client) newlines(b []byte) []byte {
	s := c.s
	plain := s.conn.On(engine.Us, engine.Binary) || c.tty == nil && c.mode == ModeRaw
	lines := c.tty == nil && !plain || c.tty != nil && c.tty.now.line
	out := make([]byte, 0, len(b)+16)
	for i, x := range b {
		if s.cr && x != '\n' && !plain {
			out = append(out, 0)
		}
		switch {
		case x == '\n' && lines && !s.cr:
			out = append(out, '\r', '\n')
		case x == '\r' && c.set.on(crlf) && !lines:
			out = append(out, '\r', '\n')
			continue
		default:
			out = append(out, x)
		}
		s.cr = x == '\r'
		if s.cr && i == len(b)-1 && c.tty != nil {
			// A key: the peer should not have to wait for the next one.
			if s.cr = false; !plain {
				out = append(out, 0)
			}
		}
	}
	return out
}

// signals are the commands that they become on a terminal (RFC 1184 §2.2).
var signals = map[os.Signal]engine.Command{os.Interrupt: engine.IP, syscall.SIGQUIT: engine.ABORT, syscall.SIGTSTP: engine.SUSP}

// signal is for one that came during a session.
func (c *Client) signal(sig os.Signal) {
	cmd, ok := signals[sig]
	switch {
	case sig == syscall.SIGWINCH:
		if size, ok := c.size(); ok {
			c.command(func(t *telnet.Conn) error { return t.Resize(size) })
		}
	case ok && c.tty != nil:
		flush := c.s != nil && c.set.on(autoflush) && cmd != engine.SUSP
		if flush { // before the answer can be here
			c.s.flushing.Store(time.Now().Add(flushWait).UnixNano())
		}
		c.command(func(t *telnet.Conn) error { return t.SendCommand(cmd) })
		if c.set.on(autosynch) && cmd != engine.SUSP {
			c.command((*telnet.Conn).Synch)
		}
		if flush {
			c.command(func(t *telnet.Conn) error { return t.Update((*engine.Engine).TimingMark) })
		}
	case cmd == engine.SUSP:
		if err := c.suspend(); err != nil {
			c.cfg.Logger.Warn("suspend", "err", err)
		}
	case ok:
		c.quit = true
	}
}

// command does something that sends, and waits for it only so long: the peer
// may take nothing at the moment.
func (c *Client) command(f func(*telnet.Conn) error) error {
	if c.s == nil {
		return errNotConnected
	}
	c.s.conn.SetWriteDeadline(time.Now().Add(commandWait))
	err := f(c.s.conn)
	c.s.conn.SetWriteDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the other end takes nothing at the moment; it is sent when it does")
	}
	return err
}
