// Package fingerprint finds out which program is at the other end of a telnet
// connection, by the options that it performs and the mistakes that it makes.
// Clients are probed by Shell, a telnet.Handler; servers by Scan. What is found
// is kept as files in the form of telnetlib3's, with the same hashes, so that
// collections can be joined.
//
// This file owns what both ways have in common: asking for many options at
// once, and waiting until there will be no more answers. options.go has the
// options, json.go the text and the hash, store.go the files.
package fingerprint

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

// answerWait is how long answers are waited for.
const answerWait = 500 * time.Millisecond

// status is what became of a question.
type status string

const (
	will    status = "WILL"
	wont    status = "WONT"
	timeout status = "timeout"
)

// results are the answers by option.
type results map[engine.Code]status

// list returns the names of the options with one of the statuses, sorted.
func (r results) list(which ...status) []string {
	list := []string{}
	for code, s := range r {
		if slices.Contains(which, s) {
			list = append(list, nameOf(code))
		}
	}
	slices.Sort(list)
	return list
}

// byStatus is "probe" of a client's session.
func (r results) byStatus() object {
	o := object{}
	for code, s := range r {
		if o[string(s)] == nil {
			o[string(s)] = object{}
		}
		o[string(s)].(object)[nameOf(code)] = int(code)
	}
	return o
}

// ask asks for all options that nothing is known of, in one burst, and waits
// for the answers.
func ask(ctx context.Context, c *telnet.Conn, codes []engine.Code, wait time.Duration) (results, error) {
	err := c.Update(func(e *engine.Engine) {
		for _, code := range codes {
			if !e.Known(engine.Him, code) {
				e.Enable(engine.Him, code)
			}
		}
		e.TimingMark()
	})
	if err == nil {
		err = settle(ctx, c, wait, func(e *engine.Engine) bool { return e.Asked() == 0 || e.Unmarked() == 0 })
	}
	r := results{}
	c.View(func(e *engine.Engine) {
		for _, code := range codes {
			switch s := e.State(engine.Him, code); {
			case s == engine.Yes:
				r[code] = will
			case s == engine.WantYes || s == engine.WantYesOpposite || !e.Known(engine.Him, code):
				r[code] = timeout
			default:
				r[code] = wont
			}
		}
	})
	return r, err
}

// settle waits until cond holds, or for d; what is typed meanwhile beyond what a
// Conn keeps is thrown away. Errors: the session's end.
func settle(ctx context.Context, c *telnet.Conn, d time.Duration, cond telnet.Cond) error {
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		err := c.WaitFor(limited, cond)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, telnet.ErrUnread):
			c.Read(make([]byte, 4096)) // there is something: it does not wait
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case limited.Err() != nil:
			return nil
		default:
			return err
		}
	}
}

// mark waits until the peer has seen all that was sent so far, if he knows
// timing marks, else for d.
func mark(ctx context.Context, c *telnet.Conn, d time.Duration) error {
	if err := c.Update((*engine.Engine).TimingMark); err != nil {
		return err
	}
	return settle(ctx, c, d, func(e *engine.Engine) bool { return e.Unmarked() == 0 })
}

// loops returns the options of which the peer answers what changes nothing: DO
// and WILL are said once more of all that is on. Who answers would never fall
// silent before another who does.
func loops(ctx context.Context, c *telnet.Conn, d time.Duration) ([]string, error) {
	said, found := 0, []string{}
	err := c.Update(func(e *engine.Engine) {
		e.ForgetRepeated() // words that crossed each other at the beginning
		for n := range 256 {
			code := engine.Code(n)
			if code == engine.TM || code == engine.Logout {
				continue // these are events, to be answered each time
			}
			if e.On(engine.Him, code) {
				e.Verb(engine.DO, code)
				said++
			}
			if e.On(engine.Us, code) {
				e.Verb(engine.WILL, code)
				said++
			}
		}
	})
	if err != nil || said == 0 {
		return found, err
	}
	err = mark(ctx, c, d)
	c.View(func(e *engine.Engine) {
		found = collect(func(code engine.Code) bool { return e.Repeated(engine.Him, code) || e.Repeated(engine.Us, code) })
	})
	return found, err
}

// collect returns the names of the options for which is holds, sorted.
func collect(is func(engine.Code) bool) []string {
	list := []string{}
	for n := range 256 {
		if code := engine.Code(n); is(code) {
			list = append(list, nameOf(code))
		}
	}
	slices.Sort(list)
	return list
}

// states are the options of a side that anything was said of.
func states(e *engine.Engine, side engine.Side) object {
	o := object{}
	for n := range 256 {
		if code := engine.Code(n); e.Known(side, code) {
			o[nameOf(code)] = e.On(side, code)
		}
	}
	return o
}

// stamp is a time as in the files: ISO 8601 with microseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000+00:00") }
