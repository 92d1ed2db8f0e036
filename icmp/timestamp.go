package icmp

import (
	"encoding/binary"
	"time"
)

// This file owns the timestamp messages of ICMPv4 (RFC 792, RFC 1122 §3.2.2.8),
// and which types are no longer in use.

// TimestampLen is the length in bytes of a timestamp message: identifier and
// sequence number as of an echo, and three times.
const TimestampLen = HeaderLen + 12

// Midnight returns the time that timestamps are: milliseconds since midnight UT.
func Midnight(t time.Time) uint32 {
	t = t.UTC()
	return uint32(t.Sub(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)).Milliseconds())
}

// AnswerTimestamp makes the reply to the timestamp request m in b, which has
// TimestampLen bytes: received and sent at now. It reports false for a message
// that is too short, or has a code.
func AnswerTimestamp(b []byte, m *Message, now uint32) bool {
	if m.Code != 0 || len(m.Body) < TimestampLen-HeaderLen {
		return false
	}
	Put(b, TypeTimestampReply4, 0, m.Rest)
	copy(b[HeaderLen:], m.Body[:4])
	binary.BigEndian.PutUint32(b[HeaderLen+4:], now)
	binary.BigEndian.PutUint32(b[HeaderLen+8:], now)
	SetChecksum4(b[:TimestampLen])
	return true
}

// Deprecated4 reports a type of ICMPv4 that RFC 6633 or RFC 6918 has put out of
// use: they are counted, and otherwise nothing is done.
func Deprecated4(typ uint8) bool {
	switch {
	case typ == TypeSourceQuench4, typ == 6, typ >= 15 && typ <= 18, typ >= 30 && typ <= 39:
		return true
	}
	return false
}
