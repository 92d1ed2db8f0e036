package icmp

// Drop is the reason why a message was not accepted; DropNone means that it
// was. The stack counts drops by their names.
type Drop uint8

// The reasons.
const (
	DropNone     Drop = iota
	DropShort         // shorter than HeaderLen
	DropChecksum      // checksum does not match
	NumDrops          // number of reasons
)

var dropNames = [NumDrops]string{"none", "short", "bad-checksum"}

// String returns the reason's name, as "bad-checksum".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Error implements error.
func (d Drop) Error() string { return "icmp: " + d.String() }
