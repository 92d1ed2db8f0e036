package ipv6

// Drop is the reason why a packet or message was not accepted; DropNone means
// that it was. The stack counts drops by their names.
type Drop uint8

// The reasons, first of packets, then of the messages carried by them.
const (
	DropNone         Drop = iota
	DropShort             // shorter than its header
	DropVersion           // version is not 6
	DropLength            // payload length exceeds the received bytes
	DropJumbo             // jumbogram, RFC 2675
	DropSource            // source address not allowed here
	DropDestination       // destination address not allowed here
	DropHeaderChain       // extension header truncated
	DropHeaderLimit       // too many extension headers
	DropHeaderOrder       // hop-by-hop header not directly after the fixed one
	DropOption            // option malformed
	DropOptionLimit       // too many options or too much padding
	DropOptionAction      // unknown option that asks to discard, RFC 8200 §4.2
	DropRouting           // routing header with segments left
	DropFragLength        // fragment not a multiple of 8 bytes, RFC 8200 §4.5
	DropFragRange         // reassembled packet would exceed MaxPayload
	DropFragHeaders       // first fragment without the whole header chain
	DropHopLimit          // hop limit is not what the message demands
	DropCode              // ICMPv6 code is not zero
	DropTarget            // target address not allowed
	DropFlags             // flags contradict the addresses
	DropLinkAddress       // link-layer address option wrong or not allowed here
	DropAddressLimit      // prefix in an advertisement: there are too many addresses already
	DropRouteLimit        // route, router or on-link prefix: there are too many already
	DropNotAdded          // address or route in an advertisement that cannot be here
	NumDrops              // number of reasons
)

var dropNames = [NumDrops]string{
	"none", "short", "bad-version", "bad-length", "jumbogram", "bad-source",
	"bad-destination", "bad-header-chain", "too-many-headers",
	"bad-header-order", "bad-option", "too-many-options", "unknown-option",
	"source-route", "bad-fragment-length", "fragment-out-of-range",
	"incomplete-first-fragment", "bad-hop-limit", "bad-code", "bad-target",
	"bad-flags", "bad-link-address", "address-limit", "route-limit", "not-added",
}

// String returns the reason's name, as "bad-version".
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Error implements error.
func (d Drop) Error() string { return "ipv6: " + d.String() }
