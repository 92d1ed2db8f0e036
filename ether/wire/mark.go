package wire

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/ether"
)

// This file is what a router does that marks packets instead of dropping them:
// it sets both bits of the IP header's ECN field, where one of them says that
// the sender understands it (RFC 3168 §5).

// mark sets Congestion Experienced in a frame, and reports whether it could:
// the frame is of IP and ECN capable. One that carries the mark already stays
// as it is and counts again.
func mark(frame []byte) bool {
	if len(frame) < ether.HeaderLen+20 {
		return false
	}
	ip := frame[ether.HeaderLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if ip[1]&3 == 0 {
			return false
		}
		// RFC 1624: HC' = ~(~HC + ~m + m'), m the word that changes.
		old := binary.BigEndian.Uint16(ip)
		ip[1] |= 3
		sum := uint32(^binary.BigEndian.Uint16(ip[10:])) + uint32(^old) + uint32(binary.BigEndian.Uint16(ip))
		sum = sum&0xffff + sum>>16
		sum = sum&0xffff + sum>>16
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
		return true
	case 0x86dd:
		// The ECN field is bits 10 and 11 of the first word.
		if ip[1]&0x30 == 0 {
			return false
		}
		ip[1] |= 0x30
		return true
	}
	return false
}
