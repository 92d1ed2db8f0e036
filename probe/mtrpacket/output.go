package mtrpacket

import (
	"bytes"
	"io"
	"sync"
)

// This file owns the replies between a session, which must not wait, and a pipe
// whose reader may be slow. Lines are never cut: a write is of whole lines, and
// short enough that a pipe takes it whole (POSIX write: PIPE_BUF).

const (
	pipeBuf = 4096
	// maxQueued is how many bytes may wait before no more commands are read.
	// The probes under way add at most their replies to it.
	maxQueued = 1 << 16
)

// output writes replies on a goroutine of its own.
type output struct {
	w    io.Writer
	done chan struct{}

	mu     sync.Mutex // guards what follows
	change sync.Cond
	queue  []byte
	held   bool // less than pipeBuf may wait
	ended  bool
	err    error // of w; what comes after it is dropped
}

func newOutput(w io.Writer) *output {
	o := &output{w: w, done: make(chan struct{})}
	o.change.L = &o.mu
	go o.run()
	return o
}

// add queues a line.
func (o *output) add(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && !o.ended {
		if o.queue = append(o.queue, line...); !o.waits() {
			o.change.Broadcast()
		}
	}
}

// hold keeps replies back while a piece of input is worked on, which takes
// milliseconds at most, so that those to many commands written at once are not
// each a write, and each wake who reads them; held false lets them go.
func (o *output) hold(held bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held = held; !held && len(o.queue) > 0 {
		o.change.Broadcast()
	}
}

// room waits until the queue is short, and returns the error of writing.
func (o *output) room() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.queue) > maxQueued && o.err == nil {
		o.change.Wait()
	}
	return o.err
}

// end writes what is queued, then ends the goroutine.
func (o *output) end() error {
	o.mu.Lock()
	o.ended = true
	o.change.Broadcast()
	o.mu.Unlock()
	<-o.done
	return o.err
}

// waits reports whether there is nothing to write yet.
func (o *output) waits() bool {
	return !o.ended && (len(o.queue) == 0 || o.held && len(o.queue) < pipeBuf)
}

func (o *output) run() {
	defer close(o.done)
	var b []byte
	for {
		o.mu.Lock()
		for o.waits() {
			o.change.Wait()
		}
		b, o.queue = o.queue, b[:0]
		o.change.Broadcast()
		o.mu.Unlock()
		if len(b) == 0 {
			return
		}
		for rest := b; len(rest) > 0; {
			n := len(rest)
			if n > pipeBuf {
				n = bytes.LastIndexByte(rest[:pipeBuf], '\n') + 1 // a reply is much shorter
			}
			if _, err := o.w.Write(rest[:n]); err != nil {
				o.mu.Lock()
				o.err, o.queue = err, nil
				o.change.Broadcast()
				o.mu.Unlock()
				return
			}
			rest = rest[n:]
		}
	}
}
