package dhcp

// Drop is the reason for not using a received message. It is also an error.
type Drop uint8

// The reasons. ParseMessage gives those down to DropOverload, a Client all.
const (
	DropNone     Drop = iota
	DropShort         // shorter than the fixed part and the cookie
	DropHardware      // not for an Ethernet address
	DropCookie        // no magic cookie: BOOTP without options
	DropOption        // an option runs past the end of its field
	DropOverload      // option overload has an impossible value
	DropOp            // not a reply: another client's message
	DropXID           // not the transaction under way
	DropMAC           // for another station's hardware address
	DropClientID      // for another client identifier (RFC 6842)
	DropType          // without a message type, or with one no client is sent
	DropState         // not expected in this state
	DropServer        // without a server identifier, or not the server asked
	DropAddress       // address no host can have, or not the one requested
	DropAuth          // a FORCERENEW that is not its server's (RFC 3203, RFC 6704)
	DropLease         // without a lease time, or with a lease of no time
	NumDrops
)

var dropNames = [NumDrops]string{"none", "short", "hardware", "cookie", "option", "overload", "op", "xid",
	"mac", "client-id", "type", "state", "server", "address", "auth", "lease"}

func (d Drop) String() string { return dropNames[d] }

// Error implements error.
func (d Drop) Error() string { return "dhcp: " + d.String() }
