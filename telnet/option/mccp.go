package option

import "github.com/tapstack/tapstack/telnet/engine"

// This file owns the MUD Client Compression Protocol: version 2 compresses what
// the server sends, version 3 what the client sends. An empty subnegotiation is
// the last that is plain. The streams are the engine's.
//
// Neither belongs over TLS, where the length of what is compressed together
// with a secret betrays it.

// MCCP2 compresses from the server to the client.
type MCCP2 struct{ served }

// NewMCCP2 makes an MCCP2; on says whether it may be used.
func NewMCCP2(on bool) *MCCP2 { return &MCCP2{served{on}} }

// Code implements engine.Option.
func (*MCCP2) Code() engine.Code { return engine.MCCP2 }

// Changed implements engine.Option.
func (*MCCP2) Changed(e *engine.Engine, side engine.Side, on bool) {
	switch {
	case side != engine.Us:
	case on:
		e.Subneg(engine.MCCP2)
		e.StartDeflate()
	default:
		e.StopDeflate()
	}
}

// Subneg implements engine.Option.
func (*MCCP2) Subneg(e *engine.Engine, b []byte) {
	if len(b) != 0 || !e.On(engine.Him, engine.MCCP2) {
		e.Count(engine.DropMalformed)
		return
	}
	e.StartInflate()
}

// MCCP3 compresses from the client to the server.
type MCCP3 struct{ served }

// NewMCCP3 makes an MCCP3; on says whether it may be used.
func NewMCCP3(on bool) *MCCP3 { return &MCCP3{served{on}} }

// Code implements engine.Option.
func (*MCCP3) Code() engine.Code { return engine.MCCP3 }

// Changed implements engine.Option.
func (*MCCP3) Changed(e *engine.Engine, side engine.Side, on bool) {
	switch {
	case side != engine.Him:
	case on:
		e.Subneg(engine.MCCP3)
		e.StartDeflate()
	default:
		e.StopDeflate()
	}
}

// Subneg implements engine.Option.
func (*MCCP3) Subneg(e *engine.Engine, b []byte) {
	if len(b) != 0 || !e.On(engine.Us, engine.MCCP3) {
		e.Count(engine.DropMalformed)
		return
	}
	e.StartInflate()
}
