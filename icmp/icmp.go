// Package icmp is the control protocol of both families: messages, the rules
// of when an error may be reported and how much it quotes, what an error means
// to a socket, and the rate limit. ICMPv4 is RFC 792 with RFC 1122 and 1812,
// ICMPv6 is RFC 4443. The bodies of neighbour discovery and multicast listener
// discovery belong to package ipv6.
//
// This file owns the message format.
package icmp

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/internal/csum"
)

// HeaderLen is the length in bytes of the part that all messages used here
// share: type, code, checksum and four bytes whose meaning the type gives.
const HeaderLen = 8

// Protocol numbers in the IP headers.
const (
	Proto4 = 1
	Proto6 = 58
)

// ICMPv4 types (RFC 792 and the IANA registry).
const (
	TypeEchoReply4    = 0
	TypeUnreachable4  = 3
	TypeSourceQuench4 = 4 // deprecated, RFC 6633
	TypeRedirect4     = 5
	TypeEcho4         = 8
	TypeTimeExceeded4 = 11
	TypeParamProblem4 = 12
	TypeTimestamp4    = 13
	// RFC 792; RFC 1122 §3.2.2.8
	TypeTimestampReply4 = 14
)

// Codes of TypeUnreachable4 (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1).
const (
	CodeNet4           = 0
	CodeHost4          = 1
	CodeProtocol4      = 2
	CodePort4          = 3
	CodeFragNeeded4    = 4 // RFC 1191: the next hop's MTU in Rest[2:4]
	CodeSourceRoute4   = 5
	CodeNetUnknown4    = 6
	CodeHostUnknown4   = 7
	CodeHostIsolated4  = 8
	CodeNetProhibited4 = 9
	CodeHostProhibit4  = 10
	CodeNetTOS4        = 11
	CodeHostTOS4       = 12
	CodeFiltered4      = 13
	CodePrecedence4    = 14
	CodePrecCutoff4    = 15
)

// CodeRedirectTOSHost4 is the highest code of TypeRedirect4 (RFC 792): for a
// network, a host, and either with a type of service.
const CodeRedirectTOSHost4 = 3

// Codes of both families' time exceeded (RFC 792, RFC 4443 §3.3).
const (
	CodeHopLimit   = 0
	CodeReassembly = 1
)

// ICMPv6 types (RFC 4443 §2.1, RFC 4861 §4, RFC 3810 §5).
const (
	TypeUnreachable6  = 1
	TypeTooBig6       = 2 // the next hop's MTU in Rest
	TypeTimeExceeded6 = 3
	TypeParamProblem6 = 4 // the pointer in Rest
	TypeEcho6         = 128
	TypeEchoReply6    = 129
	TypeMLDQuery      = 130
	TypeMLDReport     = 131
	TypeMLDDone       = 132
	TypeRS            = 133
	TypeRA            = 134
	TypeNS            = 135
	TypeNA            = 136
	TypeRedirect6     = 137
	TypeMLD2Report    = 143
)

// Codes of TypeUnreachable6 (RFC 4443 §3.1).
const (
	CodeNoRoute6     = 0
	CodeProhibited6  = 1
	CodeScope6       = 2
	CodeAddress6     = 3
	CodePort6        = 4
	CodePolicy6      = 5
	CodeRejectRoute6 = 6
)

// Codes of TypeParamProblem6 (RFC 4443 §3.4, RFC 7112 §5).
const (
	CodeField6         = 0
	CodeNextHeader6    = 1
	CodeOption6        = 2
	CodeFirstFragment6 = 3
)

// Message is a parsed message. Body aliases the packet.
type Message struct {
	Type, Code uint8
	Rest       [4]byte // bytes 4 to 8: identifier and sequence, MTU, pointer, ...
	Body       []byte  // from byte 8
}

// EchoID returns the identifier of an echo message.
func (m *Message) EchoID() uint16 { return binary.BigEndian.Uint16(m.Rest[:]) }

// EchoSeq returns the sequence number of an echo message.
func (m *Message) EchoSeq() uint16 { return binary.BigEndian.Uint16(m.Rest[2:]) }

// Parse4 checks length and checksum of an ICMPv4 message (RFC 792).
func Parse4(b []byte) (Message, Drop) { return parse(b, 0) }

// Parse6 checks length and checksum of an ICMPv6 message, which covers the
// pseudo-header (RFC 4443 §2.3).
func Parse6(b []byte, src, dst netip.Addr) (Message, Drop) {
	return parse(b, csum.Pseudo(src, dst, Proto6, len(b)))
}

func parse(b []byte, pseudo uint16) (Message, Drop) {
	if len(b) < HeaderLen {
		return Message{}, DropShort
	}
	if csum.Checksum(b, pseudo) != 0 {
		return Message{}, DropChecksum
	}
	return Message{Type: b[0], Code: b[1], Rest: [4]byte(b[4:8]), Body: b[HeaderLen:]}, DropNone
}

// Put writes the first HeaderLen bytes of a message with a zero checksum.
func Put(b []byte, typ, code uint8, rest [4]byte) {
	b[0], b[1], b[2], b[3] = typ, code, 0, 0
	copy(b[4:8], rest[:])
}

// SetChecksum4 computes the checksum of the whole message b and stores it.
func SetChecksum4(b []byte) { setChecksum(b, 0) }

// SetChecksum6 computes the checksum of the whole message b and its
// pseudo-header and stores it.
func SetChecksum6(b []byte, src, dst netip.Addr) {
	setChecksum(b, csum.Pseudo(src, dst, Proto6, len(b)))
}

func setChecksum(b []byte, pseudo uint16) {
	b[2], b[3] = 0, 0
	binary.BigEndian.PutUint16(b[2:], csum.Checksum(b, pseudo))
}
