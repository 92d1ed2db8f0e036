package frag

// Drop says why a fragment was refused.
type Drop uint8

// The reasons. With some of them the datagram is discarded as well: what has
// come of it is freed, and what is still to come is refused until its timeout.
const (
	DropNone      Drop = iota
	DropEmpty          // carries no data
	DropBadLength      // not the last, and no multiple of 8 bytes long
	DropTooLong        // the datagram would not fit in an IP packet
	DropDuplicate      // the same bytes again
	DropOverlap        // overlaps another; the datagram is discarded
	DropEnd            // contradicts where the datagram ends; discarded
	DropECN            // ECN marks contradict each other; discarded
	DropTooMany        // more pieces than allowed; discarded
	DropDiscarded      // of a datagram that has been discarded
	DropMemory         // its datagram had to make room for itself
	NumDrops           // how many reasons there are
)

var dropNames = [NumDrops]string{
	"none", "empty-fragment", "bad-length", "too-long", "duplicate", "overlap",
	"bad-end", "bad-ecn", "too-many-fragments", "discarded", "memory",
}

// String returns the name under which the reason is counted, as "overlap".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

func (d Drop) Error() string { return "fragment: " + d.String() }
