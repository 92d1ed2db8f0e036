package pipe

// This file owns what can only be read and written, and that maybe for long:
// one goroutine reads, from the first Receive on, another writes, and between
// them and the stack are two bounded queues.

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
)

// queueLen is how many frames wait each way. Of those that come the reader
// takes no more, of those that leave the rest is lost.
const queueLen = 256

type copier struct {
	o     Options
	rwc   io.ReadWriteCloser
	stats counts

	in, out chan *pkt.Buf
	begin   sync.Once
	done    chan struct{} // closed by close
	ended   chan struct{} // closed when nothing more will come
	reason  error         // set before ended is closed
	wg      sync.WaitGroup

	mu     sync.Mutex // guards closed, starting the reader, and sending to out
	closed bool
}

func newCopier(rwc io.ReadWriteCloser, o *Options) *copier {
	c := &copier{o: *o, rwc: rwc, in: make(chan *pkt.Buf, queueLen), out: make(chan *pkt.Buf, queueLen),
		done: make(chan struct{}), ended: make(chan struct{})}
	c.wg.Go(c.writer)
	return c
}

// reader reads until the end.
func (c *copier) reader() {
	read := c.readMessage
	if c.o.Stream {
		r := bufio.NewReaderSize(c.rwc, 64<<10)
		read = func(b *pkt.Buf) error { return c.readFramed(r, b) }
	}
	for {
		b := pkt.Get(c.o.size() + 1)
		err := read(b)
		if err == nil && !c.o.finish(b) {
			err = errSkip
		}
		if err == nil {
			select {
			case c.in <- b:
				continue
			case <-c.done:
				err = net.ErrClosed
			}
		}
		b.Put()
		if err == errSkip {
			c.stats.rxDropped.Add(1)
			continue
		}
		c.reason = err
		close(c.ended)
		return
	}
}

var errSkip = errors.New("pipe: frame skipped")

// readMessage reads what is one frame. One that fills a buffer larger than any
// was cut off.
func (c *copier) readMessage(b *pkt.Buf) error {
	size := c.o.size() + 1
	n, err := c.rwc.Read(b.Room()[:size])
	switch {
	case n == 0 && err != nil:
		return err
	case n == 0 || n == size:
		return errSkip
	}
	b.SetLen(n)
	return nil // an error comes again
}

// readFramed reads a frame behind its length. A length that no frame can have
// says that the two ends do not understand each other: there is no way to find
// where the next one begins.
func (c *copier) readFramed(r *bufio.Reader, b *pkt.Buf) error {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n > maxFramed {
		return fmt.Errorf("pipe: a frame of %d bytes in a stream", n)
	}
	if int(n) > c.o.size() {
		_, err := r.Discard(int(n))
		if err == nil {
			err = errSkip
		}
		return err
	}
	_, err := io.ReadFull(r, b.Append(int(n)))
	if err == io.ErrUnexpectedEOF || err == nil && n == 0 {
		err = errSkip // the end, if it is one, shows with the next length
	}
	return err
}

// maxFramed is the longest frame that is passed over: those of QEMU have up to
// 64 KB and some headers.
const maxFramed = 128 << 10

// receive implements ether.Device.
func (c *copier) receive(ctx context.Context, deliver func(*pkt.Buf), idle func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.begin.Do(func() { c.wg.Go(c.reader) })
	c.mu.Unlock()
	for {
		select {
		case b := <-c.in:
			c.stats.rxFrames.Add(1)
			deliver(b)
			c.more(deliver)
			idle()
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return net.ErrClosed
		case <-c.ended:
			// What was read before the end comes first.
			c.more(deliver)
			idle()
			if len(c.in) > 0 {
				continue
			}
			select {
			case <-c.done: // which was the reason
				return net.ErrClosed
			default:
			}
			return c.reason
		}
	}
}

// more delivers what has come meanwhile.
func (c *copier) more(deliver func(*pkt.Buf)) {
	for range ether.MaxBatch - 1 {
		select {
		case b := <-c.in:
			c.stats.rxFrames.Add(1)
			deliver(b)
		default:
			return
		}
	}
}

// send implements ether.Device.
func (c *copier) send(frames []*pkt.Buf) (sent int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range frames {
		if c.closed {
			err = net.ErrClosed
			b.Put()
			continue
		}
		select {
		case c.out <- b:
			sent++
		default:
			c.stats.txBusy.Add(1)
			b.Put()
			if err == nil {
				err = syscall.ENOBUFS
			}
		}
	}
	return sent, err
}

// writer writes until out is closed.
func (c *copier) writer() {
	for b := range c.out {
		p := c.o.strip(b)
		if c.o.Stream {
			n := len(p)
			if c.o.Packets {
				b.Pull(ether.HeaderLen)
			}
			binary.BigEndian.PutUint32(b.Push(4), uint32(n))
			p = b.Bytes()
		}
		if _, err := c.rwc.Write(p); err != nil {
			c.stats.txErrors.Add(1)
		} else {
			c.stats.txFrames.Add(1)
		}
		b.Put()
	}
}

func (c *copier) close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	close(c.done)
	close(c.out)
	c.mu.Unlock()
	err := c.rwc.Close() // which ends a Read or Write that is under way
	c.wg.Wait()
	for {
		select {
		case b := <-c.in:
			b.Put()
		default:
			return err
		}
	}
}
