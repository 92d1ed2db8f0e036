package ipv6

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/tapstack/tapstack/ether"
)

// This file owns the messages between hosts and routers, solicitation and
// advertisement (RFC 4861 §4.1, §4.2), with their validation (§6.1) and the
// options that configure a host: prefixes, MTU, name servers.

// Infinite is the lifetime 0xffffffff seconds on the wire: for ever.
const Infinite time.Duration = math.MaxInt64

// Limits of what one advertisement may carry; the rest counts as ignored.
const (
	MaxPrefixes   = 32
	MaxRouteInfos = 32
	MaxDNSServers = 8
	MaxDomains    = 8
	MaxPortal     = 2040 - 2 // bytes of a captive portal's URI: what an option holds
)

// RouterSolicit is a router solicitation (RFC 4861 §4.1).
type RouterSolicit struct {
	SourceMAC ether.Addr // valid with HasMAC
	HasMAC    bool
}

// RouterAdvert is a router advertisement (RFC 4861 §4.2). Zero values of
// HopLimit, Reachable, Retrans and MTU mean that the router says nothing about
// them.
type RouterAdvert struct {
	HopLimit       uint8
	Managed, Other bool       // DHCPv6 for addresses, for the rest
	Preference     Preference // among default routers (RFC 4191 §2.2)
	// Flags are all of them when an advertisement was received (RFC 5175); in one
	// that is sent those that have no field of their own.
	Flags     RAFlags
	Lifetime  time.Duration // as a default router, whole seconds; 0: not one
	Reachable time.Duration // whole milliseconds
	Retrans   time.Duration // whole milliseconds
	SourceMAC ether.Addr    // valid with HasMAC
	HasMAC    bool
	MTU       uint32
	Prefixes  []PrefixInfo
	Routes    []RouteInfo
	RDNSS     []DNSServer
	DNSSL     []DNSDomain
	Portal    string // URI of the captive portal (RFC 8910 §2.3), "": not said
	// Ignored counts options that were understood but malformed or beyond a
	// limit. They do not make the message invalid (RFC 4861 §6.1.2 asks only
	// for lengths); Linux skips them as well.
	Ignored int

	expanded bool // while it is read: there was an option for more flags
}

// PrefixInfo is a prefix information option (RFC 4861 §4.6.2).
type PrefixInfo struct {
	Prefix           netip.Prefix  // masked
	OnLink           bool          // L: neighbours are reached directly
	Autonomous       bool          // A: for stateless configuration
	Valid, Preferred time.Duration // whole seconds, or Infinite
}

// DNSServer is one recursive name server of an RDNSS option (RFC 8106 §5.1).
type DNSServer struct {
	Addr     netip.Addr
	Lifetime time.Duration // whole seconds, or Infinite; 0: no longer to be used
}

// DNSDomain is one domain of a DNS search list (RFC 8106 §5.2).
type DNSDomain struct {
	Name     string // without the final dot
	Lifetime time.Duration
}

// Preference orders routers and routes (RFC 4191 §2.1).
type Preference int8

// The preferences.
const (
	PreferLow    Preference = -1
	PreferMedium Preference = 0
	PreferHigh   Preference = 1
)

// preference reads the bits; false for the reserved value.
func preference(flags uint8) (Preference, bool) {
	switch flags >> 3 & 3 {
	case 1:
		return PreferHigh, true
	case 3:
		return PreferLow, true
	case 2:
		return PreferMedium, false
	}
	return PreferMedium, true
}

func (p Preference) bits() uint8 { return uint8(p) & 3 << 3 }

// RouteInfo is a route information option (RFC 4191 §2.3).
type RouteInfo struct {
	Prefix     netip.Prefix // masked
	Preference Preference
	Lifetime   time.Duration // whole seconds, or Infinite; 0: no longer
}

// ParseRouterSolicit validates a router solicitation (RFC 4861 §6.1.1).
func ParseRouterSolicit(h Header, body []byte) (RouterSolicit, Drop) {
	var m RouterSolicit
	if d := checkND(h, body, routerSolicitLen); d != DropNone {
		return m, d
	}
	d := ndOptions(body[routerSolicitLen:], func(typ uint8, opt []byte) Drop {
		if typ == optSourceLink {
			return linkAddress(opt, &m.SourceMAC, &m.HasMAC)
		}
		return DropNone
	})
	if d == DropNone && m.HasMAC && h.Src().IsUnspecified() {
		return m, DropLinkAddress
	}
	return m, d
}

// ParseRouterAdvert validates a router advertisement (RFC 4861 §6.1.2).
func ParseRouterAdvert(h Header, body []byte) (RouterAdvert, Drop) {
	var m RouterAdvert
	if d := checkND(h, body, routerAdvertLen); d != DropNone {
		return m, d
	}
	if !h.Src().IsLinkLocalUnicast() {
		return m, DropSource
	}
	m.HopLimit = body[4]
	m.Managed, m.Other = body[5]&0x80 != 0, body[5]&0x40 != 0
	// RFC 4191 §2.2: the reserved value counts as medium.
	m.Flags = RAFlags(body[5]) << 56
	var ok bool
	if m.Preference, ok = preference(body[5]); !ok {
		m.Flags &^= raPreference
	}
	m.Lifetime = time.Duration(binary.BigEndian.Uint16(body[6:])) * time.Second
	m.Reachable = time.Duration(binary.BigEndian.Uint32(body[8:])) * time.Millisecond
	m.Retrans = time.Duration(binary.BigEndian.Uint32(body[12:])) * time.Millisecond
	d := ndOptions(body[routerAdvertLen:], m.option)
	m.expanded = false // it is done
	return m, d
}

// option reads one option of an advertisement.
func (m *RouterAdvert) option(typ uint8, opt []byte) Drop {
	ok := true
	switch typ {
	case optSourceLink:
		return linkAddress(opt, &m.SourceMAC, &m.HasMAC)
	case optMTU:
		if ok = len(opt) == 8; ok {
			m.MTU = binary.BigEndian.Uint32(opt[4:])
		}
	case optPrefixInfo:
		ok = m.prefixInfo(opt)
	case optRouteInfo:
		ok = m.routeInfo(opt)
	case optRDNSS:
		ok = m.rdnss(opt)
	case optDNSSL:
		ok = m.dnssl(opt)
	case optFlags:
		ok = m.expandFlags(opt)
	case optPortal:
		// RFC 8910 §2.3: padded with zero bytes.
		uri := bytes.TrimRight(opt[2:], "\x00")
		if ok = printable(uri); ok {
			m.Portal = string(uri)
		}
	}
	if !ok {
		m.Ignored++
	}
	return DropNone
}

// prefixInfo reads a prefix information option:
//
//	| type | 4 | prefix length |L|A| valid lifetime (4) | preferred (4) | reserved (4) | prefix (16) |
func (m *RouterAdvert) prefixInfo(opt []byte) bool {
	if len(opt) != 32 || opt[2] > 128 || len(m.Prefixes) == MaxPrefixes {
		return false
	}
	m.Prefixes = append(m.Prefixes, PrefixInfo{
		// RFC 4861 §4.6.2: the bits after the prefix are ignored.
		Prefix:     netip.PrefixFrom(netip.AddrFrom16([16]byte(opt[16:32])), int(opt[2])).Masked(),
		OnLink:     opt[3]&0x80 != 0,
		Autonomous: opt[3]&0x40 != 0,
		Valid:      lifetime(opt[4:]),
		Preferred:  lifetime(opt[8:]),
	})
	return true
}

// routeInfo reads a route information option, whose prefix takes 0, 8 or 16
// bytes:
//
//	| type | 1 to 3 | prefix length |   |prf|   | lifetime (4) | prefix |
func (m *RouterAdvert) routeInfo(opt []byte) bool {
	bits := int(opt[2])
	if len(opt) > 24 || bits > 128 || len(opt) < 8+(bits+63)/64*8 || len(m.Routes) == MaxRouteInfos {
		return false
	}
	pref, ok := preference(opt[3])
	if !ok {
		return false // RFC 4191 §2.3: the option is ignored
	}
	var a [16]byte
	copy(a[:], opt[8:])
	p := netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
	if p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() {
		return false
	}
	m.Routes = append(m.Routes, RouteInfo{p, pref, lifetime(opt[4:])})
	return true
}

// dnssl reads a list of domains, encoded as RFC 1035 §3.1 without compression
// and padded with zero bytes.
func (m *RouterAdvert) dnssl(opt []byte) bool {
	if len(opt) < 16 {
		return false
	}
	rest := opt[8:]
	var names []DNSDomain
	for len(rest) > 0 && rest[0] != 0 {
		var name []byte
		for {
			if len(rest) == 0 {
				return false
			}
			n := int(rest[0])
			if n == 0 {
				rest = rest[1:]
				break
			}
			if n > 63 || n+1 > len(rest) || !hostLabel(rest[1:1+n]) {
				return false
			}
			if len(name) > 0 {
				name = append(name, '.')
			}
			name = append(name, rest[1:1+n]...)
			rest = rest[1+n:]
		}
		if len(name) > 253 {
			return false
		}
		names = append(names, DNSDomain{strings.ToLower(string(name)), lifetime(opt[4:])})
	}
	ok := true
	for _, d := range names {
		if len(m.DNSSL) == MaxDomains {
			ok = false
			break
		}
		m.DNSSL = append(m.DNSSL, d)
	}
	return ok && len(names) > 0
}

// hostLabel reports whether a label has nothing that would mean something else
// in a configuration file or a terminal.
func hostLabel(b []byte) bool {
	for _, c := range b {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// printable reports whether b is ASCII that can be shown.
func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= MaxPortal
}

// rdnss reads a list of name servers: 8 bytes, then 16 for each.
func (m *RouterAdvert) rdnss(opt []byte) bool {
	if len(opt) < 24 || len(opt)%16 != 8 {
		return false
	}
	ok := true
	for at := 8; at < len(opt); at += 16 {
		a := netip.AddrFrom16([16]byte(opt[at : at+16]))
		if a.IsMulticast() || a.IsUnspecified() || len(m.RDNSS) == MaxDNSServers {
			ok = false
			continue
		}
		m.RDNSS = append(m.RDNSS, DNSServer{Addr: a, Lifetime: lifetime(opt[4:])})
	}
	return ok
}

// lifetime reads 32 bits of seconds.
func lifetime(b []byte) time.Duration {
	s := binary.BigEndian.Uint32(b)
	if s == math.MaxUint32 {
		return Infinite
	}
	return time.Duration(s) * time.Second
}

func appendLifetime(b []byte, d time.Duration) []byte {
	if d == Infinite {
		return binary.BigEndian.AppendUint32(b, math.MaxUint32)
	}
	return binary.BigEndian.AppendUint32(b, uint32(d/time.Second))
}

// Append appends the ICMPv6 message with a zero checksum.
func (m *RouterSolicit) Append(b []byte) []byte {
	b = append(b, typeRouterSolicit, 0, 0, 0, 0, 0, 0, 0)
	if m.HasMAC {
		b = appendLinkAddress(b, optSourceLink, m.SourceMAC)
	}
	return b
}

// Append appends the ICMPv6 message with a zero checksum. Each name server and
// each search domain gets an option of its own.
func (m *RouterAdvert) Append(b []byte) []byte {
	b = append(b, typeRouterAdvert, 0, 0, 0, m.HopLimit, m.headerFlags())
	b = binary.BigEndian.AppendUint16(b, uint16(m.Lifetime/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Reachable/time.Millisecond))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Retrans/time.Millisecond))
	b = m.appendFlags(b) // in front of what its flags may be about (RFC 5175 §4)
	if m.HasMAC {
		b = appendLinkAddress(b, optSourceLink, m.SourceMAC)
	}
	if m.MTU != 0 {
		b = binary.BigEndian.AppendUint32(append(b, optMTU, 1, 0, 0), m.MTU)
	}
	for _, p := range m.Prefixes {
		b = append(b, optPrefixInfo, 4, uint8(p.Prefix.Bits()), bit(p.OnLink, 0x80)|bit(p.Autonomous, 0x40))
		b = appendLifetime(appendLifetime(b, p.Valid), p.Preferred)
		b = appendAddr(append(b, 0, 0, 0, 0), p.Prefix.Addr())
	}
	for _, r := range m.Routes {
		n := (r.Prefix.Bits() + 63) / 64
		b = appendLifetime(append(b, optRouteInfo, uint8(1+n), uint8(r.Prefix.Bits()), r.Preference.bits()), r.Lifetime)
		a := r.Prefix.Addr().As16()
		b = append(b, a[:8*n]...)
	}
	for _, s := range m.RDNSS {
		b = appendAddr(appendLifetime(append(b, optRDNSS, 3, 0, 0), s.Lifetime), s.Addr)
	}
	for _, d := range m.DNSSL {
		at := len(b)
		b = appendLifetime(append(b, optDNSSL, 0, 0, 0), d.Lifetime)
		for label := range strings.SplitSeq(d.Name, ".") {
			b = append(append(b, uint8(len(label))), label...)
		}
		b = padOption(append(b, 0), at)
	}
	if m.Portal != "" {
		at := len(b)
		b = padOption(append(append(b, optPortal, 0), m.Portal...), at)
	}
	return b
}

// padOption fills the option that begins at at to a multiple of 8 bytes, and
// writes its length.
func padOption(b []byte, at int) []byte {
	for (len(b)-at)%8 != 0 {
		b = append(b, 0)
	}
	b[at+1] = uint8((len(b) - at) / 8)
	return b
}
