package option

import "github.com/tapstack/tapstack/telnet/engine"

// This file owns the MUD Client Compression Protocol: version 2 compresses what
// the server sends, version 3 what the client sends. An empty subnegotiation is
// the last that is plain. The streams are the engine's.
//
// Neither belongs over TLS, where the length of what is compressed together
// with a secret betrays it.

// maxStreams is how often a peer may have compression begun: each time costs a
// compressor, which is the better part of a megabyte.
const maxStreams = 8

// compressed is what a server performs, so many times.
type compressed struct {
	served
	begun int
}

// Allow implements engine.Option.
func (o *compressed) Allow(e *engine.Engine, side engine.Side) bool {
	return o.begun < maxStreams && o.served.Allow(e, side)
}

func (o *compressed) begin(e *engine.Engine) {
	o.begun++
	e.StartDeflate()
}

// TakesUnagreed implements engine.Lenient: when the peer says that what follows
// is compressed it is, though we may have changed our mind meanwhile. To pass
// that over would make noise of all that comes.
func (o *compressed) TakesUnagreed() bool { return o.on }

// receive is for the peer's last plain word, about the option that side
// performs: something must have been said of it before.
func (o *compressed) receive(e *engine.Engine, side engine.Side, code engine.Code, b []byte) {
	switch {
	case len(b) != 0:
		e.Count(engine.DropMalformed)
	case !e.Known(side, code):
		e.Count(engine.DropSubnegOff)
	default:
		e.StartInflate()
	}
}

// MCCP2 compresses from the server to the client.
type MCCP2 struct{ compressed }

// NewMCCP2 makes an MCCP2; on says whether it may be used.
func NewMCCP2(on bool) *MCCP2 { return &MCCP2{compressed{served: served{on}}} }

// Code implements engine.Option.
func (*MCCP2) Code() engine.Code { return engine.MCCP2 }

// Changed implements engine.Option.
func (o *MCCP2) Changed(e *engine.Engine, side engine.Side, on bool) {
	switch {
	case side != engine.Us:
	case on:
		e.Subneg(engine.MCCP2)
		o.begin(e)
	default:
		e.StopDeflate()
	}
}

// Subneg implements engine.Option.
func (o *MCCP2) Subneg(e *engine.Engine, b []byte) { o.receive(e, engine.Him, engine.MCCP2, b) }

// MCCP3 compresses from the client to the server.
type MCCP3 struct{ compressed }

// NewMCCP3 makes an MCCP3; on says whether it may be used.
func NewMCCP3(on bool) *MCCP3 { return &MCCP3{compressed{served: served{on}}} }

// Code implements engine.Option.
func (*MCCP3) Code() engine.Code { return engine.MCCP3 }

// Changed implements engine.Option.
func (o *MCCP3) Changed(e *engine.Engine, side engine.Side, on bool) {
	switch {
	case side != engine.Him:
	case on:
		e.Subneg(engine.MCCP3)
		o.begin(e)
	default:
		e.StopDeflate()
	}
}

// Subneg implements engine.Option.
func (o *MCCP3) Subneg(e *engine.Engine, b []byte) { o.receive(e, engine.Us, engine.MCCP3, b) }
