// Package dhcp configures an interface by DHCPv4 (RFC 2131, RFC 2132). Message
// is the format on the wire, and Client is the client's state machine in pure
// form: received bytes and a time in, bytes to send and a deadline out. Moving
// them through a socket is a runner's task.
package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/ether"
)

// ServerPort and ClientPort are the UDP ports of DHCP (RFC 2131 §4.1).
const (
	ServerPort = 67
	ClientPort = 68
)

// The op field: who sends.
const (
	OpRequest = 1 // client to server
	OpReply   = 2 // server to client
)

// Layout of a message (RFC 2131 §2):
//
//	 0 op  1 htype  2 hlen  3 hops   4 xid   8 secs  10 flags
//	12 ciaddr  16 yiaddr  20 siaddr  24 giaddr
//	28 chaddr (16)  44 sname (64)  108 file (128)
//	236 magic cookie  240 options
const (
	offSName   = 44
	offFile    = 108
	offCookie  = 236
	offOptions = 240

	cookie        = 0x63825363
	flagBroadcast = 0x8000
	htypeEthernet = 1

	// minLen is the length of a BOOTP message: relays and servers may drop
	// shorter ones (RFC 1542 §2.1).
	minLen = 300
)

// Message is one DHCP message, parsed or to be built.
type Message struct {
	Op        uint8
	Hops      uint8
	XID       uint32
	Secs      uint16     // seconds since the client began
	Broadcast bool       // replies are to be broadcast
	CIAddr    netip.Addr // the client's address, if it may be used already
	YIAddr    netip.Addr // "your" address
	SIAddr    netip.Addr // next server in bootstrap
	GIAddr    netip.Addr // relay agent
	CHAddr    ether.Addr // the client's hardware address
	SName     string     // server host name; at most 64 bytes
	File      string     // boot file name; at most 128 bytes
	Options   Options
}

// ParseMessage reads a UDP payload. Its result does not alias b. Options that
// lie in file and sname (option overload) or in parts are put together.
func ParseMessage(b []byte) (*Message, Drop) {
	if len(b) < offOptions {
		return nil, DropShort
	}
	if b[1] != htypeEthernet || b[2] != 6 {
		return nil, DropHardware
	}
	if binary.BigEndian.Uint32(b[offCookie:]) != cookie {
		return nil, DropCookie
	}
	m := &Message{
		Op:        b[0],
		Hops:      b[3],
		XID:       binary.BigEndian.Uint32(b[4:]),
		Secs:      binary.BigEndian.Uint16(b[8:]),
		Broadcast: binary.BigEndian.Uint16(b[10:])&flagBroadcast != 0,
		CIAddr:    netip.AddrFrom4([4]byte(b[12:])),
		YIAddr:    netip.AddrFrom4([4]byte(b[16:])),
		SIAddr:    netip.AddrFrom4([4]byte(b[20:])),
		GIAddr:    netip.AddrFrom4([4]byte(b[24:])),
		CHAddr:    ether.Addr(b[28:34]),
	}
	var seen [256]int // 1 + index in Options
	if d := m.Options.parse(b[offOptions:], &seen); d != DropNone {
		return nil, d
	}
	// RFC 2131 §4.1: file and sname may hold more options, in this order, and
	// RFC 3396 §5 joins the parts of an option across all three.
	const inFile, inSName = 1, 2
	overload := byte(0)
	if o := m.Options.Get(OptOverload); o != nil {
		if len(o) != 1 || o[0] == 0 || o[0] > inFile|inSName {
			return nil, DropOverload
		}
		overload = o[0]
	}
	sname, file := b[offSName:offFile], b[offFile:offCookie]
	if overload&inFile == 0 {
		m.File = cString(file)
	} else if d := m.Options.parse(file, &seen); d != DropNone {
		return nil, d
	}
	if overload&inSName == 0 {
		m.SName = cString(sname)
	} else if d := m.Options.parse(sname, &seen); d != DropNone {
		return nil, d
	}
	// How the options were laid out is no part of what they say.
	m.Options = slices.DeleteFunc(m.Options, func(o Option) bool { return o.Code == OptOverload })
	return m, DropNone
}

// Append appends the message in wire format, at least 300 bytes of it, with
// all options in the options field. Addresses that are not set are 0.0.0.0.
func (m *Message) Append(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, offOptions)...)
	f := b[start:]
	f[0], f[1], f[2], f[3] = m.Op, htypeEthernet, 6, m.Hops
	binary.BigEndian.PutUint32(f[4:], m.XID)
	binary.BigEndian.PutUint16(f[8:], m.Secs)
	if m.Broadcast {
		binary.BigEndian.PutUint16(f[10:], flagBroadcast)
	}
	for i, a := range [...]netip.Addr{m.CIAddr, m.YIAddr, m.SIAddr, m.GIAddr} {
		if a.Is4() {
			v := a.As4()
			copy(f[12+4*i:], v[:])
		}
	}
	copy(f[28:34], m.CHAddr[:])
	copy(f[offSName:offFile], m.SName)
	copy(f[offFile:offCookie], m.File)
	binary.BigEndian.PutUint32(f[offCookie:], cookie)
	b = m.Options.append(b)
	if n := minLen - (len(b) - start); n > 0 {
		b = append(b, make([]byte, n)...) // PAD
	}
	return b
}

// cString returns b up to the first NUL.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
