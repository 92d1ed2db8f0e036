package dhcp

// Every option of RFC 2132, and the later ones that a client meets, as types:
// what its bytes are, and its name. Value reads any of them by this table, with
// the lengths and ranges that the RFCs ask for, and treats what does not fit as
// absent. The client's own options have getters in options.go; the rest is for
// programs, which find all options of a lease in Lease.Options.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// kind is how the bytes of an option are to be read.
type kind uint8

const (
	kindBytes   kind = iota // []byte, as it is
	kindAddr                // netip.Addr; one that no host can have is absent
	kindMask                // netip.Addr of a subnet mask
	kindAddrs               // []netip.Addr, at least one
	kindMobile              // []netip.Addr, none is right too (RFC 2132 §8.13)
	kindPairs               // [][2]netip.Addr, at least one
	kindFlag                // bool
	kindByte                // uint8
	kindWord                // uint16
	kindWords               // []uint16, at least one
	kindLong                // uint32
	kindOffset              // time.Duration, signed seconds
	kindSeconds             // time.Duration, Infinite for 0xffffffff
	kindText                // string of printable ASCII, without final NULs
	kindDomain              // string, a name of a domain
	kindDomains             // []string, RFC 3397
	kindRoutes              // []Route, RFC 3442
	kindType                // MessageType
)

// optionInfo describes one option. least and most bound its number; most 0 is
// no bound.
type optionInfo struct {
	name        string
	kind        kind
	least, most uint32
}

// optionTable is RFC 2132 §3 to §9 in the order of the codes, then the others.
var optionTable = map[uint8]optionInfo{
	OptSubnetMask: {name: "subnet-mask", kind: kindMask},
	2:             {name: "time-offset", kind: kindOffset},
	OptRouters:    {name: "routers", kind: kindAddrs},
	4:             {name: "time-servers", kind: kindAddrs},
	5:             {name: "ien116-name-servers", kind: kindAddrs},
	OptDNS:        {name: "domain-name-servers", kind: kindAddrs},
	7:             {name: "log-servers", kind: kindAddrs},
	8:             {name: "cookie-servers", kind: kindAddrs},
	9:             {name: "lpr-servers", kind: kindAddrs},
	10:            {name: "impress-servers", kind: kindAddrs},
	11:            {name: "resource-location-servers", kind: kindAddrs},
	OptHostName:   {name: "host-name", kind: kindText},
	13:            {name: "boot-size", kind: kindWord}, // in blocks of 512 bytes
	14:            {name: "merit-dump", kind: kindText},
	OptDomainName: {name: "domain-name", kind: kindDomain},
	16:            {name: "swap-server", kind: kindAddr},
	17:            {name: "root-path", kind: kindText},
	18:            {name: "extensions-path", kind: kindText},

	// §4: IP parameters of a host.
	19: {name: "ip-forwarding", kind: kindFlag},
	20: {name: "non-local-source-routing", kind: kindFlag},
	21: {name: "policy-filter", kind: kindPairs}, // address and mask
	22: {name: "max-dgram-reassembly", kind: kindWord, least: 576},
	23: {name: "default-ip-ttl", kind: kindByte, least: 1},
	24: {name: "path-mtu-aging-timeout", kind: kindSeconds},
	25: {name: "path-mtu-plateau-table", kind: kindWords, least: 68},

	// §5: IP parameters of an interface.
	OptMTU:          {name: "interface-mtu", kind: kindWord, least: 68},
	27:              {name: "all-subnets-local", kind: kindFlag},
	OptBroadcast:    {name: "broadcast-address", kind: kindAddr},
	29:              {name: "perform-mask-discovery", kind: kindFlag},
	30:              {name: "mask-supplier", kind: kindFlag},
	31:              {name: "router-discovery", kind: kindFlag},
	32:              {name: "router-solicitation-address", kind: kindMask}, // may be a group
	OptStaticRoutes: {name: "static-routes", kind: kindPairs},              // destination and router

	// §6 and §7: link layer and TCP.
	34: {name: "trailer-encapsulation", kind: kindFlag},
	35: {name: "arp-cache-timeout", kind: kindSeconds},
	36: {name: "ieee802-3-encapsulation", kind: kindFlag},
	37: {name: "default-tcp-ttl", kind: kindByte, least: 1},
	38: {name: "tcp-keepalive-interval", kind: kindSeconds},
	39: {name: "tcp-keepalive-garbage", kind: kindFlag},

	// §8: applications and services.
	40:     {name: "nis-domain", kind: kindText},
	41:     {name: "nis-servers", kind: kindAddrs},
	OptNTP: {name: "ntp-servers", kind: kindAddrs},
	43:     {name: "vendor-encapsulated-options", kind: kindBytes, least: 1},
	44:     {name: "netbios-name-servers", kind: kindAddrs},
	45:     {name: "netbios-dd-servers", kind: kindAddrs},
	46:     {name: "netbios-node-type", kind: kindByte, least: 1, most: 8},
	47:     {name: "netbios-scope", kind: kindBytes, least: 1},
	48:     {name: "font-servers", kind: kindAddrs},
	49:     {name: "x-display-managers", kind: kindAddrs},
	64:     {name: "nisplus-domain", kind: kindText},
	65:     {name: "nisplus-servers", kind: kindAddrs},
	68:     {name: "mobile-ip-home-agents", kind: kindMobile},
	69:     {name: "smtp-servers", kind: kindAddrs},
	70:     {name: "pop-servers", kind: kindAddrs},
	71:     {name: "nntp-servers", kind: kindAddrs},
	72:     {name: "www-servers", kind: kindAddrs},
	73:     {name: "finger-servers", kind: kindAddrs},
	74:     {name: "irc-servers", kind: kindAddrs},
	75:     {name: "streettalk-servers", kind: kindAddrs},
	76:     {name: "streettalk-directory-servers", kind: kindAddrs},

	// §9: DHCP's own.
	OptRequestedIP:    {name: "dhcp-requested-address", kind: kindAddr},
	OptLeaseTime:      {name: "dhcp-lease-time", kind: kindSeconds},
	OptOverload:       {name: "dhcp-option-overload", kind: kindByte, least: 1, most: 3},
	OptMessageType:    {name: "dhcp-message-type", kind: kindType},
	OptServerID:       {name: "dhcp-server-identifier", kind: kindAddr},
	OptParameters:     {name: "dhcp-parameter-request-list", kind: kindBytes, least: 1},
	OptMessage:        {name: "dhcp-message", kind: kindText},
	OptMaxMessageSize: {name: "dhcp-max-message-size", kind: kindWord, least: 576},
	OptT1:             {name: "dhcp-renewal-time", kind: kindSeconds},
	OptT2:             {name: "dhcp-rebinding-time", kind: kindSeconds},
	OptVendorClass:    {name: "vendor-class-identifier", kind: kindBytes, least: 1},
	OptClientID:       {name: "dhcp-client-identifier", kind: kindBytes, least: 2},
	66:                {name: "tftp-server-name", kind: kindText},
	67:                {name: "bootfile-name", kind: kindText},

	// Of later RFCs: 3118, 8910, 2563, 3397, 3442, 6704.
	OptAuthentication: {name: "authentication", kind: kindBytes, least: 11},
	OptCaptivePortal:  {name: "captive-portal", kind: kindText},
	OptAutoConfigure:  {name: "auto-config", kind: kindByte, most: 1},
	OptDomainSearch:   {name: "domain-search", kind: kindDomains},
	OptRoutes:         {name: "classless-static-routes", kind: kindRoutes},
	OptNonceCapable:   {name: "forcerenew-nonce-capable", kind: kindBytes, least: 1},
}

// OptionName returns the usual name of an option, as "routers"; for one that
// the table does not have "option-" and its code.
func OptionName(code uint8) string {
	if i, ok := optionTable[code]; ok {
		return i.name
	}
	return fmt.Sprintf("option-%d", code)
}

// Value returns an option as what it is: netip.Addr or a slice of them, pairs
// of addresses as [][2]netip.Addr, bool, uint8, uint16, []uint16, uint32,
// time.Duration, string, []string, []Route, MessageType, and []byte for what has
// no form or none that is known. False: it is absent, or not what its RFC says.
func (o Options) Value(code uint8) (any, bool) {
	b := o.Get(code)
	if b == nil {
		return nil, false
	}
	i := optionTable[code]
	in := func(v uint32) bool { return v >= i.least && (i.most == 0 || v <= i.most) }
	switch i.kind {
	case kindAddr:
		a := o.Addr(code)
		return a, a.IsValid()
	case kindMask:
		if len(b) != 4 {
			return nil, false
		}
		return netip.AddrFrom4([4]byte(b)), true
	case kindAddrs, kindMobile:
		list := o.Addrs(code)
		return list, len(b)%4 == 0 && (len(list) > 0 || i.kind == kindMobile && len(b) == 0)
	case kindPairs:
		list := pairs(b)
		return list, len(list) > 0
	case kindFlag:
		return len(b) == 1 && b[0] == 1, len(b) == 1 && b[0] <= 1
	case kindByte:
		return first(b), len(b) == 1 && in(uint32(b[0]))
	case kindWord, kindWords:
		words := make([]uint16, 0, len(b)/2)
		for w := range slices.Chunk(b, 2) {
			if len(w) < 2 || !in(uint32(binary.BigEndian.Uint16(w))) {
				return nil, false
			}
			words = append(words, binary.BigEndian.Uint16(w))
		}
		if i.kind == kindWords {
			return words, len(words) > 0
		}
		if len(words) != 1 {
			return nil, false
		}
		return words[0], true
	case kindLong:
		if len(b) != 4 {
			return nil, false
		}
		return binary.BigEndian.Uint32(b), true
	case kindOffset:
		if len(b) != 4 {
			return nil, false
		}
		return time.Duration(int32(binary.BigEndian.Uint32(b))) * time.Second, true
	case kindSeconds:
		return o.seconds(code)
	case kindText:
		s := o.Text(code)
		return s, s != ""
	case kindDomain:
		s := o.Domain()
		return s, s != ""
	case kindDomains:
		list := o.Search()
		return list, len(list) > 0
	case kindRoutes:
		list := o.Routes()
		return list, len(list) > 0
	case kindType:
		return o.Type(), o.Type() != 0
	}
	return b, in(uint32(len(b)))
}

func (o Options) seconds(code uint8) (any, bool) { return o.Seconds(code) }

func first(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// pairs reads a list of pairs of addresses; nil if its length does not fit.
func pairs(b []byte) (list [][2]netip.Addr) {
	if len(b)%8 != 0 {
		return nil
	}
	for p := range slices.Chunk(b, 8) {
		list = append(list, [2]netip.Addr{netip.AddrFrom4([4]byte(p)), netip.AddrFrom4([4]byte(p[4:]))})
	}
	return list
}

// StaticRoutes returns the routes of option 33, each to the class of its
// destination, or to the one host whose address it is (RFC 2132 §5.8). What
// cannot be a destination, the default route among it, or a router is left out.
func (o Options) StaticRoutes() (list []Route) {
	for _, p := range pairs(o.Get(OptStaticRoutes)) {
		dst := netip.PrefixFrom(p[0], classLen(p[0]))
		if dst.Masked().Addr() != p[0] {
			dst = netip.PrefixFrom(p[0], 32)
		}
		if isHost(p[0]) && isHost(p[1]) {
			list = append(list, Route{dst, p[1]})
		}
	}
	return list
}

// unrestricted is what a network says that has no captive portal (RFC 8910
// §2).
const unrestricted = "urn:ietf:params:capport:unrestricted"

// CaptivePortal returns the URI of the captive portal's API (RFC 8910 §2.1); ""
// if there is none, or if the network says that it has none.
func (o Options) CaptivePortal() string {
	s := o.Text(OptCaptivePortal)
	if s == unrestricted || strings.ContainsAny(s, " \"<>") {
		return ""
	}
	return s
}
