package probe

// This file owns the names of the reasons for which answers are refused.

// Drop is why an answer was refused.
type Drop uint8

// The reasons.
const (
	DropUnknown  Drop = iota // of no probe under way: the tuple is nobody's
	DropToken                // the tuple is a probe's, the token is not: forged, or from before
	DropShort                // too short to be told
	DropLength               // it quotes a packet of another length
	DropChecksum             // CRC32c of SCTP
	DropAck                  // a segment that acknowledges what was not sent
	DropType                 // a message or chunk that answers nothing
	numDrops
)

var dropNames = [numDrops]string{"unknown", "token", "short", "length", "checksum", "ack", "type"}

// String returns the reason's name.
func (d Drop) String() string {
	if d < numDrops {
		return dropNames[d]
	}
	return "unknown"
}
