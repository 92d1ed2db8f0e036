package telnet

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what a Conn receives: bytes go from the connection through the
// engine to the reader, in the reader's own memory where that is large enough,
// and events to those who asked for them.

const (
	readBuffer = 4 << 10 // when the reader's memory is not used
	direct     = 512     // from here on it is
	maxEvents  = 64      // that wait until the lock is released
	answerAt   = 64 << 10
)

type reader struct {
	buf     []byte // made when needed
	backlog []byte // data that came while somebody waited for something else
	more    bool   // the engine has not looked at all it was fed
	held    []engine.Event
	err     error
	ctx     context.Context // who reads does not wait for longer: the ctx of WaitFor, else nil
}

// until is the context that ends what the reader does.
func (r *reader) until() context.Context {
	if r.ctx == nil {
		return context.Background()
	}
	return r.ctx
}

// answer sends what the engine has to say to what was received, as long as the
// reader would wait for more. What is not sent by then is owed.
func (c *Conn) answer(wait bool) error {
	ctx, done := c.rlimit.context(c.rd.until())
	defer done()
	return c.flush(ctx, wait)
}

// pay sends what is owed. The error says that there is so much of it that nothing
// more may be received before: a peer may ask without end and read nothing.
func (c *Conn) pay() error {
	c.mu.Lock()
	owed, pending := c.owed, c.eng.Pending()
	c.mu.Unlock()
	switch {
	case owed+pending >= answerAt:
		return c.answer(true)
	case owed > 0:
		c.answer(false) // if it fails it is owed as before
	}
	return nil
}

// Read implements net.Conn. An end of the stream in the middle of a command is
// an end. A peer that asks for answers and takes none is waited for within the
// deadline.
func (c *Conn) Read(p []byte) (int, error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if !c.begun.Load() {
		ctx, done := c.rlimit.context(context.Background())
		c.begin(ctx)
		done()
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		r := &c.rd
		if n := copy(p, r.backlog); n > 0 {
			if r.backlog = r.backlog[n:]; len(r.backlog) == 0 {
				r.backlog = nil
			}
			return n, nil
		}
		c.tell(len(r.held))
		if err := c.pay(); err != nil {
			return 0, err
		}
		n := 0
		switch {
		case r.more:
			n = c.decode(p, false)
		case r.err != nil:
			return 0, r.err
		default:
			var err error
			if n, err = c.fill(p); n == 0 && err != nil {
				return 0, err
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Buffered is the number of bytes that Read has without waiting. It is at least
// that of what came during Handshake and WaitFor.
func (c *Conn) Buffered() int {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
		return len(c.rd.backlog)
	default:
		return 0
	}
}

// fill reads from the connection once and decodes: into p, or with p nil into
// the backlog. The error is a deadline's, others are left in c.rd.err.
func (c *Conn) fill(p []byte) (int, error) {
	r := &c.rd
	c.mu.Lock()
	own := len(p) < direct || c.eng.Inflating()
	c.mu.Unlock()
	b := p
	if own {
		if r.buf == nil {
			r.buf = make([]byte, readBuffer)
		}
		b = r.buf
	}
	restore := c.rlimit.within(r.until())
	n, err := c.nc.Read(b)
	restore()
	c.cfg.Record.in(b[:n])
	c.noteUrgent()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.fail(err)
		err = nil
	}
	if n == 0 {
		return 0, err
	}
	c.mu.Lock()
	c.eng.Feed(b[:n])
	c.mu.Unlock()
	return c.decode(p, !own), err
}

// fail is for what ends reading.
func (c *Conn) fail(err error) {
	c.rd.err = err
	c.mu.Lock()
	if c.rerr == nil {
		c.rerr = err
	}
	c.wakeLocked()
	c.mu.Unlock()
}

// noteUrgent asks whether urgent data is still ahead of what was just read.
func (c *Conn) noteUrgent() {
	if c.urgent == nil {
		return
	}
	pending, err := c.urgent.UrgentPending()
	if err != nil {
		return // reading will tell
	}
	c.mu.Lock()
	if pending || c.eng.Discarding() {
		c.eng.Urgent(pending)
	}
	c.mu.Unlock()
}

// decode takes events out of the engine: data goes to p until that is full, or
// with p nil to the backlog. inPlace says that the engine's input lies in p
// too: data only ever moves towards its front, but what is not decoded yet must
// be saved when decoding stops.
func (c *Conn) decode(p []byte, inPlace bool) (n int) {
	r := &c.rd
	before := 0 // so many events are in front of the data
	c.mu.Lock()
	r.more = false
	save := func() {
		r.more = true
		if inPlace {
			c.eng.Detach()
		}
	}
	for {
		ev, ok := c.eng.Next()
		if !ok {
			break
		}
		if ev.Kind == engine.Data {
			if inPlace && c.eng.Inflating() {
				// Compression began in this input: its data is larger.
				c.eng.Detach()
				inPlace = false
			}
			c.gotData = true
			if n == 0 {
				before = len(r.held)
			}
			m := copy(p[n:], ev.Data)
			n += m
			if m < len(ev.Data) {
				r.backlog = append(r.backlog, ev.Data[m:]...)
				if p != nil || len(r.backlog) >= c.cfg.maxLine() { // of few bytes much may become
					save()
					break
				}
			}
			continue
		}
		if ev.Kind == engine.Flush {
			c.mu.Unlock()
			err := c.answer(true)
			c.mu.Lock()
			if err != nil { // there is no end to them: see pay
				save()
				break
			}
			continue
		}
		c.apply(ev)
		r.held = append(r.held, ev)
		if p != nil && n > 0 && c.cfg.Event != nil || len(r.held) >= maxEvents {
			save() // what is told must not come before the data in front of it
			break
		}
	}
	c.armAck()
	c.wakeLocked()
	pending := c.owed + c.eng.Pending()
	c.mu.Unlock()
	if pending > 0 {
		c.answer(pending >= answerAt)
	}
	if n == 0 {
		before = len(r.held)
	}
	c.tell(before)
	return n
}

// tell passes the first n events on, with no lock but the turn to read.
func (c *Conn) tell(n int) {
	r := &c.rd
	for range n {
		ev := r.held[0]
		r.held = r.held[1:]
		switch {
		case ev.Kind == engine.Fault:
			c.fail(ev.Value.(error))
		case ev.Kind == engine.Bye && c.server:
			c.fail(io.EOF) // the client was told that it may go (RFC 727)
		}
		if ev.Kind == engine.Cmd && ev.Cmd == engine.AO && c.server && c.urgent != nil {
			// RFC 854 and RFC 1123 §3.2.4: what the user does not want any more
			// may still be under way.
			ctx, done := c.rlimit.context(r.until())
			c.synch(ctx)
			done()
		}
		if c.cfg.Event != nil {
			c.cfg.Event(c, ev)
		}
	}
	if len(r.held) == 0 {
		r.held = nil
	}
}

// apply is what a Conn itself does about an event, under the lock.
func (c *Conn) apply(ev engine.Event) {
	switch ev.Kind {
	case engine.Bye:
		c.bye = true
	case engine.Cmd:
		if ev.Cmd == engine.AYT && c.server { // RFC 854: "some visible evidence"
			c.eng.Write([]byte("\r\n[Yes]\r\n"))
		}
	case engine.Subneg:
		switch v := ev.Value.(type) {
		case option.Size:
			if c.resized != nil {
				select {
				case <-c.resized: // the last one counts
				default:
				}
				c.resized <- v
			}
		case option.CharsetChoice:
			if v.Name != "" && KnownCharset(v.Name) {
				c.charset = v.Name
			}
		}
	}
}
