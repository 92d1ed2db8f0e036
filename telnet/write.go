package telnet

import (
	"bytes"
	"context"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns what a Conn sends: the engine's bytes, and data with IAC
// doubled. Data without any IAC is written as it is, from the writer's memory.

const escapeChunk = 16 << 10

type writer struct {
	tail []byte // bytes that a failed write left: a command must not be torn
	buf  []byte
}

// Write implements net.Conn: the bytes are the session's data, of which those
// of 255 are doubled. Nothing else is changed: lines end in "\r\n" if the caller
// says so. See Text.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.wturn <- struct{}{}
	defer func() {
		<-c.wturn
		c.flushLater()
	}()
	if err := c.flushLocked(); err != nil {
		return 0, err
	}
	for n < len(p) {
		part := p[n:]
		plain := indexIAC(part)
		c.mu.Lock()
		deflating := c.eng.Deflating()
		c.mu.Unlock()
		switch {
		case deflating:
			part = part[:min(len(part), escapeChunk)]
			c.mu.Lock()
			c.eng.Write(part)
			c.mu.Unlock()
			n += len(part) // what is not sent now is owed
			if err := c.flushLocked(); err != nil {
				return n, err
			}
			continue
		case plain == len(part) || plain >= escapeChunk:
			m, err := c.send(part[:plain])
			if n += m; err != nil {
				return n, err
			}
			continue
		}
		part = part[:min(len(part), escapeChunk)]
		c.wr.buf = engine.AppendEscaped(c.wr.buf[:0], part)
		m, err := c.send(c.wr.buf)
		if err == nil {
			n += len(part)
			continue
		}
		// How many of p that were; a second IAC that did not get out is owed.
		for out := 0; out < m; n++ {
			if out++; p[n] == byte(engine.IAC) {
				if out == m {
					c.wr.tail = append(c.wr.tail, byte(engine.IAC))
				}
				out++
			}
		}
		return n, err
	}
	if cap(c.wr.buf) > 4096 {
		c.wr.buf = nil
	}
	return n, nil
}

func indexIAC(p []byte) int {
	if i := bytes.IndexByte(p, byte(engine.IAC)); i >= 0 {
		return i
	}
	return len(p)
}

func (c *Conn) send(b []byte) (int, error) {
	n, err := c.nc.Write(b)
	c.cfg.Record.out(b[:n])
	return n, err
}

// takeTurn waits for the turn to write, not longer than ctx.
func (c *Conn) takeTurn(ctx context.Context) error {
	select {
	case c.wturn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// writing calls f and gives the turn to write back. What f writes takes no
// longer than ctx; a command that is cut off by that is owed.
func (c *Conn) writing(ctx context.Context, f func() error) error {
	defer func() { <-c.wturn }()
	defer c.wlimit.within(ctx)()
	return f()
}

// flushLocked sends what the engine has to say, with the turn to write.
func (c *Conn) flushLocked() error {
	w := &c.wr
	c.mu.Lock()
	out := c.eng.Take()
	c.mu.Unlock()
	if len(w.tail) > 0 {
		out = append(w.tail, out...)
		w.tail = nil
	}
	if len(out) == 0 {
		return nil
	}
	n, err := c.send(out)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		w.tail = append(w.tail, out[n:]...)
		c.owed = len(w.tail)
		return err
	}
	c.owed = 0
	c.eng.Recycle(out)
	return nil
}

// flush sends what the engine has to say, not longer than ctx. Without wait it
// leaves that to whoever is writing at this moment: who reads must not wait for
// a peer that does not read before we do.
func (c *Conn) flush(ctx context.Context, wait bool) error {
	for {
		if !wait {
			select {
			case c.wturn <- struct{}{}:
			default:
				return nil
			}
		} else if err := c.takeTurn(ctx); err != nil {
			return err
		}
		err := c.writing(ctx, c.flushLocked)
		if err != nil || !c.unsent() {
			return err
		}
	}
}

func (c *Conn) unsent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owed > 0 || c.eng.Pending() > 0
}

// flushLater is for who has just released the lock of writing: others may have
// found it taken.
func (c *Conn) flushLater() {
	if c.unsent() {
		c.flush(context.Background(), false)
	}
}
