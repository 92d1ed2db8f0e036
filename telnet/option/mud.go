package option

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns what games say beside the text: GMCP (a name and JSON), MSDP
// (variables, tables, lists) and MSSP (what a server tells of itself to lists
// of games). None of them has an RFC; the server says WILL, the client DO.

// Message is an option whose subnegotiations are handed on as they are: MXP,
// MSP, ZMP, ATCP, AARDWOLF, and any that a program understands itself. Value:
// []byte.
type Message struct{ Flag }

// NewMessage makes a Message that the sides given may perform.
func NewMessage(code engine.Code, us, him bool) *Message { return &Message{Flag{code, us, him}} }

// Subneg implements engine.Option.
func (o *Message) Subneg(e *engine.Engine, b []byte) {
	e.Post(engine.Event{Kind: engine.Subneg, Code: o.code, Value: bytes.Clone(b)})
}

// served is what a server performs: he says WILL, the client DO.
type served struct{ on bool }

func (o served) Allow(e *engine.Engine, side engine.Side) bool {
	return o.on && performs(e, side) == engine.Server
}

// GMCPMessage is a message of GMCP: "Room.Info" and JSON, which may be empty.
type GMCPMessage struct {
	Package string
	Data    json.RawMessage
}

// GMCP is the Generic MUD Communication Protocol. Value: GMCPMessage.
type GMCP struct {
	served
	// Name, Version and Modules are what a client tells of itself as soon as
	// the server offers: Core.Hello and Core.Supports.Set.
	Name, Version string
	Modules       []string
}

// NewGMCP makes a GMCP that may be on.
func NewGMCP() *GMCP { return &GMCP{served: served{true}} }

// Code implements engine.Option.
func (*GMCP) Code() engine.Code { return engine.GMCP }

// Changed implements engine.Option.
func (o *GMCP) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side != engine.Him || !on || o.Name == "" {
		return
	}
	hello, _ := json.Marshal(map[string]string{"client": o.Name, "version": o.Version}) // strings cannot fail
	o.Send(e, "Core.Hello", hello)
	if len(o.Modules) > 0 {
		modules, _ := json.Marshal(o.Modules)
		o.Send(e, "Core.Supports.Set", modules)
	}
}

// Send sends a message; data may be nil.
func (o *GMCP) Send(e *engine.Engine, name string, data json.RawMessage) {
	if len(data) == 0 {
		e.Subneg(engine.GMCP, []byte(name))
		return
	}
	e.Subneg(engine.GMCP, []byte(name), []byte{' '}, data)
}

// Subneg implements engine.Option.
func (o *GMCP) Subneg(e *engine.Engine, b []byte) {
	name, data, _ := bytes.Cut(b, []byte{' '})
	data = bytes.TrimSpace(data)
	if len(name) == 0 || len(data) > 0 && !json.Valid(data) {
		e.Count(engine.DropMalformed)
		return
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.GMCP, Value: GMCPMessage{string(name), bytes.Clone(data)}})
}

const (
	msdpVar        = 1
	msdpVal        = 2
	msdpTableOpen  = 3
	msdpTableClose = 4
	msdpArrayOpen  = 5
	msdpArrayClose = 6
)

// MSDPTable is a table of MSDP: its values are string, []any or MSDPTable.
type MSDPTable map[string]any

// MSDP is the MUD Server Data Protocol. Value: MSDPTable.
type MSDP struct{ served }

// NewMSDP makes an MSDP that may be on.
func NewMSDP() *MSDP { return &MSDP{served{true}} }

// Code implements engine.Option.
func (*MSDP) Code() engine.Code { return engine.MSDP }

// Changed implements engine.Option.
func (*MSDP) Changed(*engine.Engine, engine.Side, bool) {}

// Send sends variables, in the order of their names.
func (o *MSDP) Send(e *engine.Engine, vars MSDPTable) {
	e.Subneg(engine.MSDP, appendMSDP(nil, vars))
}

func appendMSDP(b []byte, t MSDPTable) []byte {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = append(append(b, msdpVar), name...)
		b = appendMSDPValue(append(b, msdpVal), t[name])
	}
	return b
}

func appendMSDPValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(b, v...)
	case MSDPTable:
		return append(appendMSDP(append(b, msdpTableOpen), v), msdpTableClose)
	case []any:
		b = append(b, msdpArrayOpen)
		for _, x := range v {
			b = appendMSDPValue(append(b, msdpVal), x)
		}
		return append(b, msdpArrayClose)
	}
	return b // another type has no form in MSDP: an empty string
}

// Subneg implements engine.Option.
func (o *MSDP) Subneg(e *engine.Engine, b []byte) {
	p := msdpParser{b: b, limits: e.Limits()}
	t := p.table(0)
	if p.bad || len(p.b) > 0 || len(t) == 0 {
		e.Count(engine.DropMalformed)
		return
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.MSDP, Value: t})
}

type msdpParser struct {
	b      []byte
	n      int // values so far
	bad    bool
	limits engine.Limits
}

func (p *msdpParser) take(c byte) bool {
	if len(p.b) > 0 && p.b[0] == c {
		p.b = p.b[1:]
		return true
	}
	return false
}

func (p *msdpParser) text() string {
	n := bytes.IndexFunc(p.b, func(r rune) bool { return r >= msdpVar && r <= msdpArrayClose })
	if n < 0 {
		n = len(p.b)
	}
	s := string(p.b[:n])
	p.b = p.b[n:]
	return s
}

func (p *msdpParser) table(depth int) MSDPTable {
	t := MSDPTable{}
	for !p.bad && p.take(msdpVar) {
		name := p.text()
		var vals []any
		for p.take(msdpVal) {
			vals = append(vals, p.value(depth))
		}
		switch len(vals) {
		case 0:
			p.bad = true
		case 1:
			t[name] = vals[0]
		default: // a repeated VAL is a list
			t[name] = vals
		}
	}
	return t
}

func (p *msdpParser) value(depth int) any {
	if p.n++; p.n > 16*p.limits.Vars || depth >= p.limits.Depth {
		p.bad = true
	}
	switch {
	case p.bad:
		return nil
	case p.take(msdpTableOpen):
		t := p.table(depth + 1)
		p.bad = p.bad || !p.take(msdpTableClose)
		return t
	case p.take(msdpArrayOpen):
		list := []any{}
		for !p.bad && p.take(msdpVal) {
			list = append(list, p.value(depth+1))
		}
		p.bad = p.bad || !p.take(msdpArrayClose)
		return list
	}
	return p.text()
}

// MSSPVars is what a server tells of itself; a variable may have several values.
type MSSPVars map[string][]string

// MSSP is the MUD Server Status Protocol. Value: MSSPVars.
type MSSP struct {
	served
	Vars MSSPVars // of a server: sent when the client agrees
}

// NewMSSP makes an MSSP that may be on.
func NewMSSP() *MSSP { return &MSSP{served: served{true}} }

// Code implements engine.Option.
func (*MSSP) Code() engine.Code { return engine.MSSP }

// Changed implements engine.Option: a server tells.
func (o *MSSP) Changed(e *engine.Engine, side engine.Side, on bool) {
	if side != engine.Us || !on {
		return
	}
	var b []byte
	names := make([]string, 0, len(o.Vars))
	for name := range o.Vars {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = append(append(b, msdpVar), name...)
		for _, v := range o.Vars[name] {
			b = append(append(b, msdpVal), v...)
		}
	}
	e.Subneg(engine.MSSP, b)
}

// Subneg implements engine.Option.
func (o *MSSP) Subneg(e *engine.Engine, b []byte) {
	p := msdpParser{b: b}
	vars := MSSPVars{}
	for p.take(msdpVar) {
		if len(vars) == e.Limits().Vars {
			e.Count(engine.DropLimit)
			break
		}
		name := p.text()
		for p.take(msdpVal) {
			vars[name] = append(vars[name], p.text())
		}
	}
	if len(vars) == 0 {
		e.Count(engine.DropMalformed)
		return
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.MSSP, Value: vars})
}
