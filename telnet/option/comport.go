package option

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns the reading of COM-PORT-OPTION, RFC 2217: the settings of a
// serial line at the other end. It parses what either end says and can ask for
// the signature of an access server; it drives no line.

// ComPortCommand is a command of RFC 2217 §3 in the client's numbers, 0 to 12.
type ComPortCommand byte

// The commands.
const (
	ComSignature ComPortCommand = iota
	ComBaudRate
	ComDataSize
	ComParity
	ComStopSize
	ComControl
	ComNotifyLineState
	ComNotifyModemState
	ComFlowSuspend
	ComFlowResume
	ComLineStateMask
	ComModemStateMask
	ComPurgeData

	comServer = 100 // what an access server adds to the number
)

var comNames = [...]string{"SIGNATURE", "SET-BAUDRATE", "SET-DATASIZE", "SET-PARITY", "SET-STOPSIZE", "SET-CONTROL",
	"NOTIFY-LINESTATE", "NOTIFY-MODEMSTATE", "FLOWCONTROL-SUSPEND", "FLOWCONTROL-RESUME", "SET-LINESTATE-MASK",
	"SET-MODEMSTATE-MASK", "PURGE-DATA"}

func (c ComPortCommand) String() string {
	if int(c) < len(comNames) {
		return comNames[c]
	}
	return fmt.Sprint(byte(c))
}

// ComPortMessage is a command as it was received.
type ComPortMessage struct {
	Command    ComPortCommand
	FromServer bool   // from the access server
	Number     uint32 // of SET-BAUDRATE, 4 bytes; of the others with a value, one
	Text       string // of SIGNATURE; "" asks for it
}

// ComPort is COM-PORT-OPTION, RFC 2217. Value: ComPortMessage.
type ComPort struct {
	Flag
	// Signature, if not "", is what we answer to who asks for it.
	Signature string

	peer string
}

// PeerSignature returns the signature that the peer has told, at most
// Limits.Value bytes of it; "" if he has told none.
func (o *ComPort) PeerSignature() string { return o.peer }

// NewComPort makes a ComPort that the sides given may perform: the access
// server is the one that says DO.
func NewComPort(us, him bool) *ComPort { return &ComPort{Flag: Flag{engine.ComPort, us, him}} }

// AskSignature asks for the name of the peer's implementation.
func (o *ComPort) AskSignature(e *engine.Engine) {
	e.Subneg(engine.ComPort, []byte{o.number(e, ComSignature)})
}

// number is a command as this end says it.
func (o *ComPort) number(e *engine.Engine, c ComPortCommand) byte {
	if e.On(engine.Him, engine.ComPort) { // we said DO
		return byte(c) + comServer
	}
	return byte(c)
}

// Subneg implements engine.Option.
func (o *ComPort) Subneg(e *engine.Engine, b []byte) {
	m, ok := ParseComPort(b)
	if !ok {
		e.Count(engine.DropMalformed)
		return
	}
	if m.Command == ComSignature && m.Text != "" {
		o.peer = m.Text[:min(len(m.Text), e.Limits().Value)]
	}
	if m.Command == ComSignature && m.Text == "" && o.Signature != "" {
		e.Subneg(engine.ComPort, []byte{o.number(e, ComSignature)}, []byte(o.Signature))
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.ComPort, Value: m})
}

// ParseComPort reads the content of a subnegotiation.
func ParseComPort(b []byte) (m ComPortMessage, ok bool) {
	if len(b) == 0 {
		return m, false
	}
	c, arg := b[0], bytes.Clone(b[1:])
	if c >= comServer {
		m.FromServer = true
		c -= comServer
	}
	m.Command = ComPortCommand(c)
	switch {
	case int(c) >= len(comNames):
		return m, false
	case m.Command == ComSignature:
		m.Text = string(arg)
	case m.Command == ComFlowSuspend || m.Command == ComFlowResume:
		return m, len(arg) == 0
	case m.Command == ComBaudRate:
		if len(arg) != 4 {
			return m, false
		}
		m.Number = binary.BigEndian.Uint32(arg)
	case len(arg) != 1:
		return m, false
	default:
		m.Number = uint32(arg[0])
	}
	return m, true
}
