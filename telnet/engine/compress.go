package engine

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"iter"
)

// This file owns the compressed streams of MCCP: from a given byte on all that
// is received, or sent, is zlib, and may become plain again when the compressed
// stream ends. The decompressor is a coroutine, so that it can be given bytes
// as they come; what it makes is bounded by Limits.Ratio.

// ErrRatio is the Fault of a compressed stream that grows beyond Limits.Ratio.
var ErrRatio = errors.New("telnet: compressed stream expands too much")

// ErrCorrupt is in the Fault of a compressed stream that is not well formed.
var ErrCorrupt = errors.New("telnet: compressed stream is corrupt")

// freeExpansion is what a stream may become before its ratio is looked at.
const freeExpansion = 1 << 20

type inflater struct {
	in, own  []byte
	consumed int // compressed bytes
	produced int
	next     func() ([]byte, bool)
	stop     func()
	err      error // io.EOF after the end of the compressed stream
}

// errStopped ends a decompressor that nobody wants any more.
var errStopped = errors.New("stopped")

// inflateSource is what the decompressor reads: it steps out of the coroutine
// when it has nothing.
type inflateSource struct {
	f     *inflater
	yield func([]byte) bool
}

func (s inflateSource) wait() bool {
	for len(s.f.in) == 0 {
		if !s.yield(nil) {
			return false
		}
	}
	return true
}

func (s inflateSource) ReadByte() (byte, error) {
	if !s.wait() {
		return 0, errStopped
	}
	b := s.f.in[0]
	s.f.in = s.f.in[1:]
	s.f.consumed++
	return b, nil
}

func (s inflateSource) Read(p []byte) (int, error) {
	if !s.wait() {
		return 0, errStopped
	}
	n := copy(p, s.f.in)
	s.f.in = s.f.in[n:]
	s.f.consumed += n
	return n, nil
}

func newInflater() *inflater {
	f := &inflater{}
	f.next, f.stop = iter.Pull(func(yield func([]byte) bool) {
		r, err := openCompressed(inflateSource{f, yield})
		buf := make([]byte, 4096)
		for err == nil {
			var n int
			n, err = r.Read(buf)
			if n > 0 && !yield(buf[:n]) {
				return
			}
		}
		f.err = err
	})
	return f
}

// openCompressed takes zlib, as MCCP has it, and what some servers send in its
// place: gzip, or deflate without a header.
func openCompressed(s inflateSource) (io.Reader, error) {
	var head [2]byte
	for i := range head {
		b, err := s.ReadByte()
		if err != nil {
			return nil, err
		}
		head[i] = b
	}
	// flate must see an io.ByteReader that does not read ahead, or the plain
	// bytes behind the end would be lost.
	src := &rewound{head: head[:], s: s}
	switch {
	case head[0] == 0x1f && head[1] == 0x8b:
		r, err := gzip.NewReader(src)
		if err == nil {
			r.Multistream(false)
		}
		return r, err
	case head[0]&15 == 8 && (int(head[0])<<8|int(head[1]))%31 == 0:
		return zlib.NewReader(src)
	}
	return flate.NewReader(src), nil
}

// rewound puts the bytes that were looked at back.
type rewound struct {
	head []byte
	s    inflateSource
}

func (r *rewound) ReadByte() (byte, error) {
	if len(r.head) > 0 {
		b := r.head[0]
		r.head = r.head[1:]
		return b, nil
	}
	return r.s.ReadByte()
}

func (r *rewound) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	return r.s.Read(p)
}

// feed adds to what is there: after the start of compression there may be some.
func (f *inflater) feed(b []byte) {
	if len(f.in) == 0 {
		f.in = b
		return
	}
	f.in = append(bytes.Clone(f.in), b...)
}

func (f *inflater) detach() {
	f.own = append(f.own[:0], f.in...)
	f.in = f.own
}

// StartInflate makes all that follows compressed: for the options MCCP2 and
// MCCP3.
func (e *Engine) StartInflate() {
	if e.inflate != nil || e.closed {
		e.count(DropStray)
		return
	}
	e.inflate = newInflater()
	e.inflate.in, e.in = e.in, nil
}

// refill makes e.in out of compressed bytes. False: more of them are needed.
func (e *Engine) refill() bool {
	f := e.inflate
	if f.err != nil { // a Fault was posted
		e.drops[DropAfterCorrupt] += uint64(len(f.in))
		f.in = nil
		return false
	}
	b, ok := f.next()
	switch {
	case !ok && f.err == io.EOF: // the stream ended in order: plain again
		e.in, e.inflate = f.in, nil
		return len(e.in) > 0
	case !ok:
		e.fault(errors.Join(ErrCorrupt, f.err))
		return true
	case len(b) == 0:
		return false
	}
	f.produced += len(b)
	if f.produced > freeExpansion && f.produced/e.cfg.Limits.Ratio > f.consumed {
		f.stop()
		f.err = ErrRatio
		e.fault(ErrRatio)
		return true
	}
	e.in = b
	return true
}

// fault posts an error after which nothing can be received.
func (e *Engine) fault(err error) { e.Post(Event{Kind: Fault, Value: err}) }

// Inflating and Deflating report whether the streams are compressed.
func (e *Engine) Inflating() bool { return e.inflate != nil }

// Deflating reports whether what is sent is compressed.
func (e *Engine) Deflating() bool { return e.deflate != nil }

type deflater struct {
	e     *Engine
	z     *zlib.Writer
	dirty bool
}

// Write is where the compressor puts what it made.
func (d *deflater) Write(p []byte) (int, error) {
	d.e.out = append(d.e.out, p...)
	return len(p), nil
}

// The compressor's errors are those of Write, which has none.
func (d *deflater) write(p []byte) {
	d.dirty = true
	d.z.Write(p)
}

func (d *deflater) flush() {
	if d.dirty {
		d.dirty = false
		d.z.Flush()
	}
}

// StartDeflate compresses all that is sent from now on: for the options MCCP2
// and MCCP3.
func (e *Engine) StartDeflate() {
	if e.deflate == nil {
		d := &deflater{e: e}
		d.z = zlib.NewWriter(d)
		e.deflate = d
	}
}

// StopDeflate ends the compressed stream; what follows is plain.
func (e *Engine) StopDeflate() {
	if d := e.deflate; d != nil {
		d.z.Close()
		e.deflate = nil
	}
}

// Close frees what the engine holds beside memory. What it is fed from then on
// is thrown away.
func (e *Engine) Close() {
	e.closed, e.in = true, nil
	if e.inflate != nil {
		e.inflate.stop()
		e.inflate.err = errStopped
	}
}
