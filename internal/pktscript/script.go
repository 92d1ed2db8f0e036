package pktscript

import (
	"fmt"
	"strings"
	"time"
)

// This file owns what a script is once it is understood: options, events, and
// what each of them says.

// Script is a parsed script.
type Script struct {
	Name    string
	Options []Option // --name=value in the head
	Events  []Event
	BSD     bool // written for FreeBSD: see dialect.go
	// lines is the text, for messages.
	lines []string
}

// Option is one "--name=value" of the head.
type Option struct{ Name, Value string }

// Event is one thing that happens or is expected at a time.
type Event struct {
	Line int
	At   When

	// Exactly one of these is set.
	Packet *Packet
	Call   *Call
	Shell  string // a command in backquotes
	Code   string // assertions between %{ and }%
}

// When is the time of an event.
type When struct {
	Kind       WhenKind
	From, To   time.Duration // To is set for the ranges
	Until      time.Duration // when a call that blocks returns, with Blocks
	Blocks     bool
	Unattended bool // a command before the first or after the last time
}

// WhenKind says what the numbers of a When count from.
type WhenKind uint8

// The kinds of times: "0.1", "+0.1", "0.1~0.2", "+0.1~+0.2", "*".
const (
	Absolute WhenKind = iota
	Relative
	AbsoluteRange
	RelativeRange
	AnyTime
)

// Proto is the protocol of a packet.
type Proto uint8

// The protocols.
const (
	TCP Proto = iota
	UDP
	ICMP
)

// Packet is a packet of the script, with the script's numbers.
type Packet struct {
	Out   bool // ">": expected from the stack
	Proto Proto
	IP    IPInfo

	SrcPort, DstPort int // 0: those of the connection

	// TCP.
	Flags    string // as written: letters of "FSRPUEWA" and "."
	ACE      int    // the AccECN counter of the three flags, -1: not given
	Seq      uint32
	Len      int  // payload bytes, also of UDP
	Absolute bool // "!": Seq does not count from the initial number
	Ack      uint32
	HasAck   bool
	Win      int // -1: not given
	Urg      int
	Opts     []TCPOption
	AnyOpts  bool // "<...>": whatever options

	// ICMP.
	Type, Code string
	MTU, ID    int // -1: not given
	Quoted     *Quoted
}

// IPInfo is what is said of the IP header.
type IPInfo struct {
	ECN       string // "noecn", "ect0", "ect1", "ce", "ect01" or ""
	TOS       int    // the whole byte, -1: not given
	TTL       int    // -1: not given
	FlowLabel int    // -1: not given
}

// Quoted is the packet that an ICMP message quotes.
type Quoted struct {
	Proto string // "tcp", "udp" or "raw"
	Seq   uint32
	Len   int
}

// TCP option kinds, as IANA has them.
const (
	optEOL     = 0
	optNOP     = 1
	optMSS     = 2
	optWScale  = 3
	optSACKOK  = 4
	optSACK    = 5
	optTS      = 8
	optMD5     = 19
	optFO      = 34
	optAccECN0 = 172
	optAccECN1 = 174
	optExp     = 254
)

// TCPOption is one option. Data is what follows kind and length on the wire;
// timestamps and SACK blocks stay numbers, since they are translated.
type TCPOption struct {
	Kind         byte
	Data         []byte
	TSVal, TSEcr uint32
	Blocks       [][2]uint32
}

// Call is a system call with the result it must have.
type Call struct {
	Name   string
	Args   []*Expr
	Result *Expr
	Errno  string // "EAGAIN", with a result of -1
}

// ExprKind is the kind of an expression.
type ExprKind uint8

// The kinds of expressions.
const (
	ExprInt    ExprKind = iota
	ExprWord            // SOCK_STREAM
	ExprString          // "abc"
	ExprAny             // ...
	ExprOr              // List joined by |
	ExprList            // [a, b]
	ExprStruct          // {a=1, b=2} or {..., 5}
)

// Expr is an argument or result of a call.
type Expr struct {
	Kind ExprKind
	Int  int64
	Text string
	List []*Expr
	// Names belong to the List of a struct; "" where there is none.
	Names []string
}

// Field returns the named member of a struct, or nil.
func (e *Expr) Field(name string) *Expr {
	for i, n := range e.Names {
		if n == name {
			return e.List[i]
		}
	}
	return nil
}

func (e *Expr) String() string {
	if e == nil {
		return "?"
	}
	list := func(sep string) string {
		var s []string
		for i, x := range e.List {
			t := x.String()
			if i < len(e.Names) && e.Names[i] != "" {
				t = e.Names[i] + "=" + t
			}
			s = append(s, t)
		}
		return strings.Join(s, sep)
	}
	switch e.Kind {
	case ExprInt:
		return fmt.Sprint(e.Int)
	case ExprString:
		return fmt.Sprintf("%q", e.Text)
	case ExprAny:
		return "..."
	case ExprOr:
		return list("|")
	case ExprList:
		return "[" + list(", ") + "]"
	case ExprStruct:
		return "{" + list(", ") + "}"
	}
	return e.Text
}

// Unsupported says why a script cannot be run here; it is skipped.
type Unsupported struct {
	Line   int
	Reason string
}

func (e *Unsupported) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return e.Reason
}
