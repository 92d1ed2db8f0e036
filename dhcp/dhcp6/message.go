// Package dhcp6 configures an interface by DHCPv6 (RFC 8415): addresses, delegated
// prefixes, and what else a network tells its hosts. Message is the format on the
// wire, and Client is the client's state machine in pure form: received bytes and
// a time in, bytes to send and a deadline out. Runner moves them through a socket
// and gives the interface what a lease says.
package dhcp6

import (
	"encoding/binary"
	"net/netip"
)

// ServerPort and ClientPort are the UDP ports of DHCPv6 (RFC 8415 §7.2).
const (
	ServerPort = 547
	ClientPort = 546
)

// AllServers is All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1), to which
// everything is sent: to follow a Server Unicast option is a MAY (§21.12).
var AllServers = netip.MustParseAddr("ff02::1:2")

// MessageType is the first byte of a message (RFC 8415 §7.3).
type MessageType uint8

// The message types.
const (
	Solicit MessageType = 1 + iota
	Advertise
	Request
	Confirm
	Renew
	Rebind
	Reply
	Release
	Decline
	Reconfigure
	InformationRequest
	RelayForward
	RelayReply
)

var typeNames = [...]string{"", "SOLICIT", "ADVERTISE", "REQUEST", "CONFIRM", "RENEW", "REBIND", "REPLY", "RELEASE", "DECLINE",
	"RECONFIGURE", "INFORMATION-REQUEST", "RELAY-FORW", "RELAY-REPL"}

func (t MessageType) String() string {
	if t != 0 && int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}

// headerLen is that of type and transaction identifier (RFC 8415 §8).
const headerLen = 4

// maxXID is one more than the largest transaction identifier, of 24 bits.
const maxXID = 1 << 24

// Message is one message between client and server, parsed or to be built.
type Message struct {
	Type    MessageType
	XID     uint32 // 24 bits
	Options Options
}

// ParseMessage reads a UDP payload. Its result does not alias b.
func ParseMessage(b []byte) (*Message, Drop) {
	if len(b) < headerLen {
		return nil, DropShort
	}
	m := &Message{Type: MessageType(b[0]), XID: binary.BigEndian.Uint32(b) & (maxXID - 1)}
	if m.Type == RelayForward || m.Type == RelayReply {
		return nil, DropType // of another layout, and no client's (RFC 8415 §16.12)
	}
	var d Drop
	m.Options, d = parseOptions(append([]byte{}, b[headerLen:]...))
	if d != DropNone {
		return nil, d
	}
	return m, DropNone
}

// Append appends the message in wire format.
func (m *Message) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(m.Type)<<24|m.XID&(maxXID-1))
	return m.Options.append(b)
}
