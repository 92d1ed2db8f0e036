package mcast

// Drop says why a message was refused.
type Drop uint8

// The reasons.
const (
	DropNone        Drop = iota
	DropShort            // shorter than its header or its list
	DropChecksum         // IGMP's checksum is wrong
	DropHopLimit         // TTL or hop limit is not 1
	DropRouterAlert      // without the router alert option
	DropSource           // MLD not from a link-local address
	DropDestination      // not sent to where such a message goes
	DropGroup            // the group is none
	DropType             // of a type that nobody here speaks
	NumDrops             // how many reasons there are
)

var dropNames = [NumDrops]string{
	"none", "short", "bad-checksum", "bad-hop-limit", "no-router-alert", "bad-source", "bad-destination", "bad-group", "unknown-type",
}

// String returns the name under which the reason is counted, as "bad-group".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}
