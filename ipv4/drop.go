package ipv4

// Drop says why a packet was refused.
type Drop uint8

// The reasons, in the order in which Parse checks.
const (
	DropNone      Drop = iota
	DropShort          // fewer bytes than the fixed header
	DropVersion        // version is not 4
	DropHeaderLen      // IHL below 5 or beyond the packet
	DropTotalLen       // total length smaller than the header
	DropTruncated      // total length larger than what arrived
	DropChecksum       // header checksum wrong
	DropSource         // source is multicast, broadcast or class E
	DropOptions        // an option runs past the header
	NumDrops           // how many reasons there are
)

var dropNames = [NumDrops]string{
	"none", "short", "bad-version", "bad-header-length", "bad-total-length",
	"truncated", "bad-checksum", "bad-source", "bad-options",
}

// String returns the name under which the reason is counted, as "bad-checksum".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

func (d Drop) Error() string { return "ipv4: " + d.String() }
