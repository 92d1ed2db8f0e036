package engine

import "bytes"

// This file owns what is sent: the framing of RFC 854 in the other direction.
// Every byte 255 that is not a command is doubled, in data and in
// subnegotiations, whether the option BINARY is on or not.

// put adds bytes to the output, through the compressor if there is one.
func (e *Engine) put(b ...byte) {
	if e.deflate != nil {
		e.deflate.write(b)
		return
	}
	e.out = append(e.out, b...)
}

// Verb sends WILL, WONT, DO or DONT past the Q method: for options that do not
// use it, and for probes.
func (e *Engine) Verb(verb Command, code Code) {
	e.trace(true, verb, code, nil)
	e.put(iac, byte(verb), byte(code))
}

// Command sends a command of one byte.
func (e *Engine) Command(c Command) {
	e.trace(true, c, 0, nil)
	e.put(iac, byte(c))
}

// Subneg sends a subnegotiation. The parts are joined, and IAC in them doubled.
func (e *Engine) Subneg(code Code, parts ...[]byte) {
	if e.cfg.Trace != nil {
		e.trace(true, SB, code, bytes.Join(parts, nil))
	}
	e.put(iac, byte(SB), byte(code))
	if byte(code) == iac {
		e.put(iac)
	}
	for _, p := range parts {
		e.Write(p)
	}
	e.put(iac, byte(SE))
}

// Write sends data.
func (e *Engine) Write(p []byte) {
	for {
		n := bytes.IndexByte(p, iac)
		if n < 0 {
			e.put(p...)
			return
		}
		e.put(p[:n+1]...)
		e.put(iac)
		p = p[n+1:]
	}
}

// AppendEscaped appends p to dst with IAC doubled: for those who send data
// beside the engine.
func AppendEscaped(dst, p []byte) []byte {
	for {
		n := bytes.IndexByte(p, iac)
		if n < 0 {
			return append(dst, p...)
		}
		dst = append(append(dst, p[:n+1]...), iac)
		p = p[n+1:]
	}
}

// TimingMark sends DO TM. The answer is the event Mark; when it is here, the
// peer has seen all that was sent before (RFC 860).
func (e *Engine) TimingMark() {
	e.marks++
	e.Verb(DO, TM)
}

// Unmarked is the number of timing marks that the peer has not answered.
func (e *Engine) Unmarked() int { return int(e.marks - e.marked) }

// Marked is for the option TM: the peer has answered a timing mark, or said WILL
// or WONT of one without being asked.
func (e *Engine) Marked(will bool) {
	if e.marked == e.marks {
		e.count(DropStray)
		return
	}
	e.marked++
	e.Post(Event{Kind: Mark, Code: TM, On: will})
	if e.marked > e.offAt && e.Overdue() { // this one was sent behind what is overdue
		e.Collapse()
	}
}

// Pending is the number of bytes that Take would return, without those that the
// compressor holds.
func (e *Engine) Pending() int {
	n := len(e.out)
	if e.deflate != nil && e.deflate.dirty {
		n++
	}
	return n
}

// Take returns what is to be sent and forgets it. The caller owns the slice,
// and may hand it back with Recycle.
func (e *Engine) Take() []byte {
	if e.deflate != nil {
		e.deflate.flush()
	}
	out := e.out
	e.out, e.told = nil, false
	return out
}

// Recycle gives memory of Take back.
func (e *Engine) Recycle(b []byte) {
	if e.out == nil && cap(b) <= 512 {
		e.out = b[:0]
	}
}
