package icmp

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/csum"
)

// This file owns what a socket is told of extensions that it reads itself
// (IP_RECVERR_RFC4884): where they begin, and whether they are good.

// DeclaredQuote returns how many bytes of the body of an error are the packet
// that it quotes, as the message says (RFC 4884 §4), or 0 when it does not say.
func DeclaredQuote(m Message, v6 bool) int {
	switch {
	case !v6 && (m.Type == TypeUnreachable4 || m.Type == TypeTimeExceeded4 || m.Type == TypeParamProblem4):
		return int(m.Rest[1]) * 4
	case v6 && (m.Type == TypeUnreachable6 || m.Type == TypeTimeExceeded6):
		return int(m.Rest[0]) * 8
	}
	return 0
}

// ValidExtensions reports whether what follows the quoted packet is an extension
// structure whose checksum matches and whose objects fit (RFC 4884 §7, §8). As
// on Linux, one of another version than 2 cannot be said to be bad.
func ValidExtensions(b []byte) bool {
	switch {
	case len(b) < 4:
		return false
	case b[0]>>4 != 2:
		return true
	case binary.BigEndian.Uint16(b[2:]) != 0 && csum.Checksum(b, 0) != 0:
		return false
	}
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}
