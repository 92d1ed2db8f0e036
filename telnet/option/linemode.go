package option

import "github.com/tapstack/tapstack/telnet/engine"

// This file owns LINEMODE, RFC 1184: whether the client or the server edits the
// line, and which characters make the client send what it has.

const (
	lmMode        = 1
	lmForwardMask = 2
	lmSLC         = 3
)

// Mode is the mask of RFC 1184 §2.2.
type Mode byte

// The bits of a Mode.
const (
	ModeEdit    Mode = 1  // the client edits lines
	ModeTrapSig Mode = 2  // the client turns ^C and others into commands
	modeAck     Mode = 4  // the peer's mode was taken
	ModeSoftTab Mode = 8  // the client expands tabs
	ModeLitEcho Mode = 16 // control characters are shown as they are
	modeMask         = ModeEdit | ModeTrapSig | ModeSoftTab | ModeLitEcho
)

// Mask is a set of bytes on which a client sends what it has (RFC 1184 §2.3).
type Mask [32]byte

// Add puts a byte in.
func (m *Mask) Add(b byte) { m[b/8] |= 0x80 >> (b % 8) }

// Has reports whether a byte is in.
func (m *Mask) Has(b byte) bool { return m[b/8]&(0x80>>(b%8)) != 0 }

// LinemodeEvent is the Value of what LINEMODE has to say: the mode, the table
// or the mask changed.
type LinemodeEvent struct{ Mode, Table, Mask bool }

// Linemode is LINEMODE, RFC 1184, for both ends. Value: LinemodeEvent.
type Linemode struct {
	oneSided
	// Begin is the mode that a server asks for when the client agrees.
	Begin Mode
	// TakesMask decides whether a client forwards on a set of characters that a
	// server asks for; nil: it does, on any.
	TakesMask func(Mask) bool

	mode      Mode
	modeKnown bool
	sentTable bool // a server sends its table once, when the mode is agreed
	chars     Table
	defaults  Table
	mask      Mask
	maskOn    bool
}

// NewLinemode makes a Linemode with a table of its own.
func NewLinemode(begin Mode) *Linemode {
	t := DefaultTable()
	return &Linemode{Begin: begin, chars: t, defaults: t}
}

// Code implements engine.Option.
func (*Linemode) Code() engine.Code { return engine.Linemode }

// Mode returns the mode that was agreed, or that we asked for.
func (o *Linemode) Mode() Mode { return o.mode }

// Chars returns the special characters as they are now.
func (o *Linemode) Chars() Table { return o.chars }

// Mask returns the bytes that make the client send. False: the peer has not
// asked for any (client), or not agreed (server).
func (o *Linemode) Mask() (Mask, bool) { return o.mask, o.maskOn }

// Changed implements engine.Option: a server says what it wants, a client asks
// for the server's characters.
func (o *Linemode) Changed(e *engine.Engine, side engine.Side, on bool) {
	o.mode, o.modeKnown, o.sentTable, o.maskOn = 0, false, false, false
	o.chars = o.defaults
	switch {
	case !on:
	case side == engine.Him:
		o.SetMode(e, o.Begin)
	default:
		e.Subneg(engine.Linemode, []byte{lmSLC, 0, byte(Default), 0})
	}
}

// SetMode asks the peer for a mode.
func (o *Linemode) SetMode(e *engine.Engine, m Mode) {
	o.mode, o.modeKnown = m&modeMask, true
	e.Subneg(engine.Linemode, []byte{lmMode, byte(o.mode)})
}

// SetChar changes a special character and tells the peer.
func (o *Linemode) SetChar(e *engine.Engine, fn Function, c Char) {
	if fn == 0 || fn > maxFunction {
		return
	}
	o.chars[fn] = Char{c.Flags &^ slcAck, c.Value}
	if e.On(engine.Us, engine.Linemode) || e.On(engine.Him, engine.Linemode) {
		e.Subneg(engine.Linemode, []byte{lmSLC, byte(fn), c.Flags &^ slcAck, c.Value})
	}
}

// AskTable is for a client: it asks for all of the server's characters, for those
// that he has by Value, for those that he begins with by Default (RFC 1184 §2.4).
func (o *Linemode) AskTable(e *engine.Engine, l Level) {
	if e.On(engine.Us, engine.Linemode) {
		e.Subneg(engine.Linemode, []byte{lmSLC, 0, byte(l), 0})
	}
}

// SetMask is for a server: the client is to send when it meets one of the bytes
// of m, not only at the end of a line.
func (o *Linemode) SetMask(e *engine.Engine, m Mask) {
	o.mask = m
	if e.On(engine.Him, engine.Linemode) {
		o.sendMask(e)
	}
}

// sendMask sends 16 bytes, or 32 if the client's bytes have eight bits (RFC 1184
// §2.3).
func (o *Linemode) sendMask(e *engine.Engine) {
	n := 16
	if e.On(engine.Him, engine.Binary) {
		n = 32
	}
	e.Subneg(engine.Linemode, []byte{byte(engine.DO), lmForwardMask}, o.mask[:n])
}

// Subneg implements engine.Option.
func (o *Linemode) Subneg(e *engine.Engine, b []byte) {
	var ev LinemodeEvent
	ok := false
	switch {
	case len(b) == 2 && b[0] == lmMode:
		ok, ev.Mode = true, o.receiveMode(e, Mode(b[1]))
	case len(b) > 1 && b[0] == lmSLC:
		before := o.chars
		if ok = o.receiveSLC(e, b[1:]); !ok {
			return
		}
		ev.Table = before != o.chars
		if e.Role() == engine.Server {
			o.sendMask(e) // it may have been made from the characters
		}
	case len(b) >= 2 && b[1] == lmForwardMask:
		ok, ev.Mask = o.receiveMask(e, engine.Command(b[0]), b[2:])
	}
	if !ok {
		e.Count(engine.DropMalformed)
		return
	}
	if ev != (LinemodeEvent{}) {
		e.Post(engine.Event{Kind: engine.Subneg, Code: engine.Linemode, Value: ev})
	}
}

// receiveMode is RFC 1184 §2.2 and §3: a mode without ACK that is new is taken
// and acknowledged; an acknowledgement is never answered. A server takes what
// the client made of its request; to a client it says nothing.
func (o *Linemode) receiveMode(e *engine.Engine, m Mode) (changed bool) {
	ack := m&modeAck != 0
	m &= modeMask
	was, known := o.mode, o.modeKnown
	switch {
	case ack && e.Role() == engine.Client:
		return false
	case ack:
		o.mode, o.modeKnown = m, true
		if !o.sentTable {
			o.sentTable = true
			e.Subneg(engine.Linemode, o.chars.append([]byte{lmSLC}))
		}
	case known && m == was:
		return false
	default:
		o.mode, o.modeKnown = m, true
		e.Subneg(engine.Linemode, []byte{lmMode, byte(m | modeAck)})
	}
	return !known || m != was
}

// receiveMask is RFC 1184 §2.3. A client says WILL, and WONT when it had a mask
// that it is to forget.
func (o *Linemode) receiveMask(e *engine.Engine, verb engine.Command, mask []byte) (ok, changed bool) {
	client := e.Role() == engine.Client
	switch {
	case verb == engine.DO && client && len(mask) <= len(o.mask):
		var m Mask
		copy(m[:], mask)
		if o.TakesMask != nil && !o.TakesMask(m) {
			was := o.maskOn
			o.mask, o.maskOn = Mask{}, false
			e.Subneg(engine.Linemode, []byte{byte(engine.WONT), lmForwardMask})
			return true, was
		}
		o.mask, o.maskOn = m, true
		e.Subneg(engine.Linemode, []byte{byte(engine.WILL), lmForwardMask})
		return true, true
	case verb == engine.DONT && client && len(mask) == 0:
		if was := o.maskOn; was {
			o.maskOn = false
			e.Subneg(engine.Linemode, []byte{byte(engine.WONT), lmForwardMask})
			return true, true
		}
		return true, false
	case (verb == engine.WILL || verb == engine.WONT) && !client && len(mask) == 0:
		was := o.maskOn
		o.maskOn = verb == engine.WILL
		return true, was != o.maskOn
	}
	return false, false
}
