package option

import (
	"strconv"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns the special characters of LINEMODE (SLC, RFC 1184 §2.4 and
// §5): which byte interrupts, erases, ends a file. Each side has a table of its
// own for the connection; they are brought to agree function by function. A
// word with the ACK bit is never answered, and every answer either has it or
// gives in, so an exchange ends.

// Function is a special function of RFC 1184 §2.4, 1 to 30.
type Function byte

// The functions that have a meaning for a host; 19 to 30 move the cursor.
const (
	FnSynch Function = iota + 1
	FnBRK
	FnIP
	FnAO
	FnAYT
	FnEOR
	FnABORT
	FnEOF
	FnSUSP
	FnEC
	FnEL
	FnEW
	FnRP
	FnLNEXT
	FnXON
	FnXOFF
	FnFORW1
	FnFORW2

	maxFunction = 30
)

var functionNames = [...]string{"", "SYNCH", "BRK", "IP", "AO", "AYT", "EOR", "ABORT", "EOF", "SUSP", "EC", "EL", "EW", "RP", "LNEXT",
	"XON", "XOFF", "FORW1", "FORW2", "MCL", "MCR", "MCWL", "MCWR", "MCBOL", "MCEOL", "INSRT", "OVER", "ECR", "EWR", "EBOL", "EEOL"}

// String returns the name of RFC 1184: SLC_IP.
func (f Function) String() string {
	if f == 0 || f > maxFunction {
		return strconv.Itoa(int(f))
	}
	return "SLC_" + functionNames[f]
}

// ParseFunction returns the function of a name: "ip", or "SLC_IP", in any case.
func ParseFunction(name string) (Function, bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "SLC_")
	for n, s := range functionNames {
		if n > 0 && s == name {
			return Function(n), true
		}
	}
	return 0, false
}

// Level is how far a side supports a function.
type Level byte

// The levels of RFC 1184 §2.4.
const (
	NoSupport  Level = 0
	CantChange Level = 1
	Value      Level = 2
	Default    Level = 3
	levelMask        = 3

	slcAck      = 128
	SLCFlushIn  = 64 // the function is followed by a Synch
	SLCFlushOut = 32 // and throws away what is still to be shown
	slcFlags    = SLCFlushIn | SLCFlushOut
	disabled    = 255 // the value of what is not supported
)

// Char is the entry of a function: a level with flags, and the byte.
type Char struct {
	Flags byte // a Level, SLCFlushIn, SLCFlushOut
	Value byte
}

// Level returns the level.
func (c Char) Level() Level { return Level(c.Flags & levelMask) }

// Table is the special characters by function; entry 0 is not used.
type Table [maxFunction + 1]Char

// DefaultTable returns the characters that BSD's terminals begin with.
func DefaultTable() Table {
	t := Table{}
	for i := range t {
		t[i] = Char{byte(NoSupport), disabled}
	}
	t[FnSynch] = Char{byte(Default), 0}
	t[FnBRK] = Char{byte(Default), 0}
	t[FnIP] = Char{byte(Value) | slcFlags, 0x03}
	t[FnAO] = Char{byte(Value) | SLCFlushOut, 0x0f}
	t[FnAYT] = Char{byte(Value), 0x14}
	t[FnEOR] = Char{byte(Default), 0}
	t[FnABORT] = Char{byte(Value) | slcFlags, 0x1c}
	t[FnEOF] = Char{byte(Value), 0x04}
	t[FnSUSP] = Char{byte(Value) | SLCFlushIn, 0x1a}
	t[FnEC] = Char{byte(Value), 0x7f}
	t[FnEL] = Char{byte(Value), 0x15}
	t[FnEW] = Char{byte(Value), 0x17}
	t[FnRP] = Char{byte(Value), 0x12}
	t[FnLNEXT] = Char{byte(Value), 0x16}
	t[FnXON] = Char{byte(Value), 0x11}
	t[FnXOFF] = Char{byte(Value), 0x13}
	return t
}

// Of returns the function that a byte stands for, 0 for none.
func (t *Table) Of(b byte) Function {
	for fn, c := range t {
		if fn > 0 && c.Level() != NoSupport && c.Value == b && b != 0 && b != disabled {
			return Function(fn)
		}
	}
	return 0
}

// append adds the entries that are supported, as triplets.
func (t *Table) append(b []byte) []byte {
	for fn, c := range t {
		if fn > 0 && c.Level() != NoSupport {
			b = append(b, byte(fn), c.Flags, c.Value)
		}
	}
	return b
}

// maxTriplets is how many triplets of one subnegotiation are looked at: each
// function and the whole table, twice over.
const maxTriplets = 2 * (maxFunction + 1)

// receiveSLC takes triplets of the peer and answers. It reports whether they
// were well formed.
func (o *Linemode) receiveSLC(e *engine.Engine, b []byte) bool {
	if len(b) == 0 || len(b)%3 != 0 {
		e.Count(engine.DropMalformed)
		return false
	}
	if len(b) > 3*maxTriplets {
		e.Count(engine.DropLimit)
		b = b[:3*maxTriplets]
	}
	reply := []byte{lmSLC}
	for ; len(b) > 0; b = b[3:] {
		fn, his := b[0], Char{b[1], b[2]}
		switch {
		case fn > maxFunction:
			reply = append(reply, fn, byte(NoSupport), disabled)
		case fn == 0:
			reply = o.wholeTable(e, reply, his.Level())
		case his.Flags&slcAck != 0:
			// The end of an exchange. A server's word stands.
			if e.Role() == engine.Client {
				o.chars[fn] = Char{his.Flags &^ slcAck, his.Value}
			}
		default:
			reply = o.change(reply, fn, his)
		}
	}
	if len(reply) > 1 {
		e.Subneg(engine.Linemode, reply)
	}
	return true
}

// wholeTable is for the function 0, by which a client asks for all (RFC 1184
// §5.5): with DEFAULT the server's first table, with VALUE the present one.
func (o *Linemode) wholeTable(e *engine.Engine, reply []byte, l Level) []byte {
	if e.Role() != engine.Server || len(reply) > 3*maxFunction {
		return reply // a server does not ask; nor does a client twice at once
	}
	switch l {
	case Default:
		o.chars = o.defaults
	case Value:
	default:
		return reply
	}
	o.sentTable = true
	return o.chars.append(reply)
}

// change is RFC 1184 §5.5 for one function.
func (o *Linemode) change(reply []byte, fn byte, his Char) []byte {
	ours := &o.chars[fn]
	if his.Level() == ours.Level() && (his.Value == ours.Value || his.Level() == NoSupport) {
		return reply
	}
	switch {
	case his.Level() == NoSupport:
		*ours = Char{byte(NoSupport), disabled}
		return append(reply, fn, byte(NoSupport)|slcAck, disabled)
	case his.Level() == Default && o.defaults[fn].Level() != Default:
		// He leaves it to us: our first value, or nothing.
		*ours = o.defaults[fn]
		return append(reply, fn, ours.Flags, ours.Value)
	case his.Level() == CantChange && ours.Level() == CantChange:
		*ours = Char{byte(NoSupport), disabled}
		return append(reply, fn, byte(NoSupport), disabled)
	case ours.Level() == Value, ours.Level() == Default:
		*ours = Char{his.Flags &^ slcAck, his.Value}
		return append(reply, fn, his.Flags|slcAck, his.Value)
	}
	return append(reply, fn, ours.Flags, ours.Value)
}
