package icmp

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/internal/csum"
)

// This file owns what may follow the packet that an error quotes: the extension
// structure of RFC 4884, with MPLS labels (RFC 4950) and interfaces (RFC 5837)
// in it. Everything in it is a router's claim about itself.

// Bounds of what one message is read for. A message of 64 KB could hold more.
const (
	maxObjects = 64
	maxLabels  = 256
)

// legacyQuote is where the structure is when the message does not say how long
// the quoted packet is (RFC 4884 §5.5), and the least length that it may say.
const legacyQuote = 128

// MPLSLabel is an entry of a label stack (RFC 3032 §2.1).
type MPLSLabel struct {
	Label  uint32 // 20 bits
	TC     uint8  // traffic class, 3 bits
	Bottom bool   // the last of its stack
	TTL    uint8
}

// InterfaceRole says which interface of the router an InterfaceInfo is about.
type InterfaceRole uint8

// The roles of RFC 5837 §4.1.
const (
	RoleIncoming    InterfaceRole = iota // the packet came in there
	RoleSubIP                            // part of an interface below IP
	RoleOutgoing                         // the packet would have left there
	RoleNextHopSide                      // the next hop's address
)

// String names the role.
func (r InterfaceRole) String() string {
	return [...]string{"incoming", "sub-ip", "outgoing", "next-hop"}[r&3]
}

// InterfaceInfo is what a router says of an interface (RFC 5837 §4). What it
// does not say is zero.
type InterfaceInfo struct {
	Role  InterfaceRole
	Index uint32
	Addr  netip.Addr
	Name  string
	MTU   uint32
}

// Object is an object of another class.
type Object struct {
	Class, Type uint8
	Data        []byte // aliases the message
}

// Extensions are what follows the quoted packet.
type Extensions struct {
	MPLS       []MPLSLabel
	Interfaces []InterfaceInfo
	Others     []Object
	// Legacy: the message does not say how long the quoted packet is, and what
	// stands at its byte 128 is a structure with a good checksum.
	Legacy bool
}

// ExtensionError says why what follows the quoted packet was not read.
type ExtensionError uint8

// The reasons. What came before a bad object is still good.
const (
	ExtensionNone     ExtensionError = iota // there is none, or all of it was read
	ExtensionLength                         // the quoted packet's length is impossible
	ExtensionVersion                        // of another version than 2
	ExtensionChecksum                       // the checksum does not match
	ExtensionObject                         // an object does not fit
	NumExtensionErrors
)

// String returns the reason's name.
func (e ExtensionError) String() string {
	if e < NumExtensionErrors {
		return [...]string{"none", "bad-length", "bad-version", "bad-checksum", "bad-object"}[e]
	}
	return "unknown"
}

// SplitQuote separates the packet that an error quotes from the extensions that
// follow it (RFC 4884 §4, §5.5). Without extensions quote is the body.
func SplitQuote(m Message, v6 bool) (quote []byte, x Extensions, bad ExtensionError) {
	body := m.Body
	words, unit := 0, 0
	switch {
	case !v6 && (m.Type == TypeUnreachable4 || m.Type == TypeTimeExceeded4 || m.Type == TypeParamProblem4):
		words, unit = int(m.Rest[1]), 4
	case v6 && (m.Type == TypeUnreachable6 || m.Type == TypeTimeExceeded6):
		words, unit = int(m.Rest[0]), 8
	default:
		return body, x, ExtensionNone
	}
	if words == 0 {
		if len(body) < legacyQuote+4 {
			return body, x, ExtensionNone
		}
		// There may be no structure: it takes a checksum to tell.
		s := body[legacyQuote:]
		if s[0]>>4 != 2 || binary.BigEndian.Uint16(s[2:]) == 0 || csum.Checksum(s, 0) != 0 {
			return body, x, ExtensionNone
		}
		x.Legacy = true
		bad = x.parse(s[4:])
		return body[:legacyQuote], x, bad
	}
	n := words * unit
	if n > len(body) {
		return body, x, ExtensionLength
	}
	// RFC 4884 §4.1 wants at least 128 bytes; shorter ones say as clearly where
	// the structure is.
	s := body[n:]
	switch {
	case len(s) == 0:
		return body[:n], x, ExtensionNone
	case len(s) < 4:
		return body[:n], x, ExtensionObject
	case s[0]>>4 != 2:
		return body[:n], x, ExtensionVersion
	case binary.BigEndian.Uint16(s[2:]) != 0 && csum.Checksum(s, 0) != 0: // 0: none was sent (§7)
		return body[:n], x, ExtensionChecksum
	}
	bad = x.parse(s[4:])
	return body[:n], x, bad
}

// parse reads the objects (RFC 4884 §8).
func (x *Extensions) parse(b []byte) ExtensionError {
	for count := 0; len(b) > 0; count++ {
		if count == maxObjects || len(b) < 4 {
			return ExtensionObject
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return ExtensionObject
		}
		class, typ, data := b[2], b[3], b[4:n]
		ok := true
		switch {
		case class == 1 && typ == 1:
			ok = x.labels(data)
		case class == 2:
			ok = x.iface(typ, data)
		default:
			x.Others = append(x.Others, Object{class, typ, data})
		}
		if !ok {
			return ExtensionObject
		}
		b = b[n:]
	}
	return ExtensionNone
}

// labels reads a label stack (RFC 4950 §4).
func (x *Extensions) labels(b []byte) bool {
	for ; len(b) >= 4 && len(x.MPLS) < maxLabels; b = b[4:] {
		v := binary.BigEndian.Uint32(b)
		x.MPLS = append(x.MPLS, MPLSLabel{Label: v >> 12, TC: uint8(v>>9) & 7, Bottom: v>>8&1 != 0, TTL: uint8(v)})
	}
	return len(b) == 0
}

// iface reads what RFC 5837 §4 calls interface information: which of its parts
// are there is in the low bits of the type.
func (x *Extensions) iface(typ uint8, b []byte) bool {
	i := InterfaceInfo{Role: InterfaceRole(typ >> 6)}
	if typ&0x08 != 0 {
		if len(b) < 4 {
			return false
		}
		i.Index, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if typ&0x04 != 0 {
		if len(b) < 4 {
			return false
		}
		n := 0
		switch binary.BigEndian.Uint16(b) {
		case 1:
			n = 4
		case 2:
			n = 16
		}
		if n == 0 || len(b) < 4+n {
			return false
		}
		i.Addr, _ = netip.AddrFromSlice(b[4 : 4+n])
		b = b[4+n:]
	}
	if typ&0x02 != 0 {
		// The length counts itself, is a multiple of 4 and at most 64 (§4.3).
		if len(b) < 1 || b[0] == 0 || b[0]%4 != 0 || b[0] > 64 || int(b[0]) > len(b) {
			return false
		}
		name := b[1:b[0]]
		for len(name) > 0 && name[len(name)-1] == 0 {
			name = name[:len(name)-1]
		}
		i.Name, b = string(name), b[b[0]:]
	}
	if typ&0x01 != 0 {
		if len(b) < 4 {
			return false
		}
		i.MTU, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if len(b) != 0 {
		return false
	}
	x.Interfaces = append(x.Interfaces, i)
	return true
}
