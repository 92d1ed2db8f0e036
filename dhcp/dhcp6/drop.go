package dhcp6

// Drop is the reason for not using a received message (RFC 8415 §16). It is also
// an error.
type Drop uint8

// The reasons. ParseMessage gives those down to DropOption and DropType, a Client
// all.
const (
	DropNone        Drop = iota
	DropShort            // shorter than its header
	DropOption           // an option runs past the end
	DropType             // of a type that no client is sent
	DropDestination      // not to a link-local address, from which all is sent
	DropReconfigure      // a Reconfigure, which was never accepted (§16.11)
	DropXID              // not the transaction under way
	DropServerID         // without a server identifier
	DropClientID         // without our client identifier, or with another's
	DropState            // not expected in this state
	DropServer           // not the server asked
	DropRapidCommit      // a Reply to a Solicit without Rapid Commit (§18.2.1)
	DropStatus           // the server could not do it; asked again in time
	DropLease            // an Advertise without any lease (§18.2.9)
	DropBound            // more advertisements than are kept
	NumDrops
)

var dropNames = [NumDrops]string{"none", "short", "option", "type", "destination", "reconfigure", "xid", "server-id", "client-id", "state",
	"server", "rapid-commit", "status", "lease", "bound"}

func (d Drop) String() string { return dropNames[d] }

// Error implements error.
func (d Drop) Error() string { return "dhcp6: " + d.String() }

// StatusCode is a status code (RFC 8415 §21.13).
type StatusCode uint16

// The codes.
const (
	Success StatusCode = iota
	UnspecFail
	NoAddrsAvail
	NoBinding
	NotOnLink
	UseMulticast
	NoPrefixAvail
)

var statusNames = [...]string{"Success", "UnspecFail", "NoAddrsAvail", "NoBinding", "NotOnLink", "UseMulticast", "NoPrefixAvail"}

func (s StatusCode) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "UnspecFail" // what a client is to take unknown ones for
}
