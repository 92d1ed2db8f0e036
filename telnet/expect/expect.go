// Package expect holds dialogues with programs that talk to people: send a line,
// wait for a pattern, look at what came before it. It works over any stream; a
// telnet.Conn and its Text are such.
package expect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// ErrTooMuch is the error of a wait in which more was received than Max without
// a match.
var ErrTooMuch = errors.New("expect: too much text without a match")

// Error is that of a wait without a match. Text is what was received by then;
// it stays for the next wait.
type Error struct {
	Text string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("expect: %v after %q", e.Err, tail(e.Text)) }
func (e *Error) Unwrap() error { return e.Err }

func tail(s string) string {
	if n := len(s) - 200; n > 0 {
		return "..." + s[n:]
	}
	return s
}

// Match is where a pattern was found.
type Match struct {
	Index  int      // of the pattern
	Before string   // what came in front of it
	Groups []string // the match and its parentheses
}

// Expecter is one side of a dialogue. It is for one goroutine.
type Expecter struct {
	rw  io.ReadWriter
	buf []byte
	err error
	// Max bounds what is kept without a match: 1 MiB if zero.
	Max int
	// EOL ends the lines of SendLine: "\r\n" if empty.
	EOL string
	// Log, if not nil, is written what is received.
	Log io.Writer

	pump chan read // for streams without deadlines
	busy bool
	mem  []byte
}

type read struct {
	b   []byte
	err error
}

// New makes an Expecter over a stream. If that has a SetReadDeadline, as a
// net.Conn, a context ends its reads; else a read goes on in a goroutine of its
// own until the stream gives something.
func New(rw io.ReadWriter) *Expecter { return &Expecter{rw: rw} }

// Buffered is the text that no match has taken yet.
func (e *Expecter) Buffered() string { return string(e.buf) }

// Send writes text as it is.
func (e *Expecter) Send(s string) error {
	_, err := io.WriteString(e.rw, s)
	return err
}

// SendLine writes text and EOL.
func (e *Expecter) SendLine(s string) error {
	eol := e.EOL
	if eol == "" {
		eol = "\r\n"
	}
	return e.Send(s + eol)
}

// Expect waits until one of the patterns matches and takes the text up to its
// end. Where several match, the one that is listed first counts. Errors are
// *Error: ctx's, the stream's, ErrTooMuch.
func (e *Expecter) Expect(ctx context.Context, patterns ...*regexp.Regexp) (Match, error) {
	return e.until(ctx, func() (m Match, end int, ok bool) {
		for i, p := range patterns {
			loc := p.FindSubmatchIndex(e.buf)
			if loc == nil {
				continue
			}
			m = Match{Index: i, Before: string(e.buf[:loc[0]])}
			for g := 0; g < len(loc); g += 2 {
				s := ""
				if loc[g] >= 0 {
					s = string(e.buf[loc[g]:loc[g+1]])
				}
				m.Groups = append(m.Groups, s)
			}
			return m, loc[1], true
		}
		return m, 0, false
	})
}

// ReadUntil waits for a text and returns everything up to its end.
func (e *Expecter) ReadUntil(ctx context.Context, s string) (string, error) {
	m, err := e.until(ctx, func() (Match, int, bool) {
		n := bytes.Index(e.buf, []byte(s))
		if n < 0 {
			return Match{}, 0, false
		}
		return Match{Before: string(e.buf[:n+len(s)])}, n + len(s), true
	})
	return m.Before, err
}

// ReadAll waits for the end of the stream and returns everything.
func (e *Expecter) ReadAll(ctx context.Context) (string, error) {
	_, err := e.until(ctx, func() (Match, int, bool) { return Match{}, 0, false })
	all := string(e.buf)
	if errors.Is(err, io.EOF) {
		e.buf, err = nil, nil
	}
	return all, err
}

// Drain returns what there is without waiting longer than d for more.
func (e *Expecter) Drain(d time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	e.until(ctx, func() (Match, int, bool) { return Match{}, 0, false })
	s := string(e.buf)
	e.buf = nil
	return s
}

func (e *Expecter) until(ctx context.Context, find func() (Match, int, bool)) (Match, error) {
	limit := e.Max
	if limit <= 0 {
		limit = 1 << 20
	}
	for {
		if m, end, ok := find(); ok {
			e.buf = append([]byte(nil), e.buf[end:]...)
			return m, nil
		}
		err := e.err
		switch {
		case err != nil:
		case len(e.buf) >= limit:
			err = ErrTooMuch
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		default:
			err = e.more(ctx)
			if err == nil || len(e.mem) > 0 {
				e.take()
				continue
			}
		}
		return Match{}, &Error{string(e.buf), err}
	}
}

func (e *Expecter) take() {
	if e.Log != nil {
		e.Log.Write(e.mem) // a log that fails does not end the dialogue
	}
	e.buf = append(e.buf, e.mem...)
	e.mem = nil
}

type deadliner interface{ SetReadDeadline(time.Time) error }

// more reads once into mem. An error of the stream stays, ctx's does not.
func (e *Expecter) more(ctx context.Context) error {
	d, ok := e.rw.(deadliner)
	if !ok {
		return e.pumped(ctx)
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		d.SetReadDeadline(time.Unix(1, 0))
	})
	b := make([]byte, 4096)
	n, err := e.rw.Read(b)
	e.mem = b[:n]
	if !stop() {
		<-over
		d.SetReadDeadline(time.Time{})
		if n == 0 {
			return context.Cause(ctx)
		}
		return nil
	}
	e.err = err
	return err
}

func (e *Expecter) pumped(ctx context.Context) error {
	if e.pump == nil {
		e.pump = make(chan read, 1)
	}
	if !e.busy {
		e.busy = true
		go func() {
			b := make([]byte, 4096)
			n, err := e.rw.Read(b)
			e.pump <- read{b[:n], err}
		}()
	}
	select {
	case r := <-e.pump:
		e.busy = false
		e.mem, e.err = r.b, r.err
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
