package telnet

import (
	"bytes"

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
	c.wmu.Lock()
	defer func() {
		c.wmu.Unlock()
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
			if err := c.flushLocked(); err != nil {
				return n, err
			}
			n += len(part)
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

// flushLocked sends what the engine has to say, under wmu.
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
	if err != nil {
		w.tail = append(w.tail, out[n:]...)
		return err
	}
	c.mu.Lock()
	c.eng.Recycle(out)
	c.mu.Unlock()
	return nil
}

// flush sends what the engine has to say. Without wait it leaves that to
// whoever is writing at this moment: who reads must not wait for a peer that
// does not read before we do.
func (c *Conn) flush(wait bool) error {
	for {
		if wait {
			c.wmu.Lock()
		} else if !c.wmu.TryLock() {
			return nil
		}
		err := c.flushLocked()
		c.wmu.Unlock()
		if err != nil || !c.unsent() {
			return err
		}
	}
}

func (c *Conn) unsent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.eng.Pending() > 0
}

// flushLater is for who has just released the lock of writing: others may have
// found it taken.
func (c *Conn) flushLater() {
	if c.unsent() {
		c.flush(false)
	}
}
