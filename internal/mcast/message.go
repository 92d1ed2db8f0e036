package mcast

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/csum"
)

// This file owns the messages of both families: queries of all versions, the
// reports of version 3 (RFC 3376 §4, RFC 3810 §5) and those of the older ones
// with their leaves (RFC 1112 appendix I, RFC 2236 §2, RFC 2710 §3). A report
// of IGMPv3 and one of MLDv2 are the same but for type and length of addresses;
// what surrounds the group of a query is in other places.

// Family is IGMP or MLD.
type Family uint8

// The families.
const (
	IGMP Family = iota // IPv4
	MLD                // IPv6
)

// Types of Record (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
const (
	ModeIsInclude   = 1 // current state: hears Sources only
	ModeIsExclude   = 2 // current state: hears all but Sources
	ChangeToInclude = 3 // as 1, because of a change; no sources: left the group
	ChangeToExclude = 4 // as 2, because of a change; no sources: joined the group
	AllowNewSources = 5
	BlockOldSources = 6
)

// HopLimit is the TTL or hop limit of all messages: they never leave the link
// (RFC 3376 §4, RFC 3810 §5).
const HopLimit = 1

// Message types, of IGMP and of ICMPv6.
const (
	igmpQuery    = 0x11
	igmpReportV1 = 0x12
	igmpReportV2 = 0x16
	igmpLeave    = 0x17
	igmpReportV3 = 0x22
	mldQuery     = 130
	mldReportV1  = 131
	mldDone      = 132
	mldReportV2  = 143
)

// Lengths in bytes.
const (
	headLen   = 8 // of all IGMP messages, and of MLD's before an address
	mldOldLen = headLen + 16
	reportLen = headLen // without records
	recordLen = 4       // without group and sources
)

// The groups that everybody is in, and about which nothing is ever said.
var (
	allSystems = netip.AddrFrom4([4]byte{224, 0, 0, 1})
	allNodes   = netip.MustParseAddr("ff02::1")
)

func (f Family) addrLen() int {
	if f == IGMP {
		return 4
	}
	return 16
}

// reports says whether a group is ever spoken of. RFC 3376 §5, RFC 3810 §6: not
// all systems and all nodes on the link, nor with IPv6 the scopes reserved (0)
// and interface (1).
func (f Family) reports(g netip.Addr) bool {
	if f == IGMP {
		return g != allSystems
	}
	return g != allNodes && g.As16()[1]&0x0f > 1
}

// recordLen is the length of r in a report.
func (f Family) recordLen(r Record) int { return recordLen + f.addrLen()*(1+len(r.Sources)) }

// fits is how many sources a record can have that is alone in its report.
func (f Family) fits(size int) int { return max((size-reportLen-recordLen)/f.addrLen()-1, 1) }

// Record is one group record of a report of version 3 (RFC 3376 §4.2.4, RFC
// 3810 §5.2.5).
type Record struct {
	Type    uint8
	Group   netip.Addr
	Sources []netip.Addr
}

// Query is a query of any version (RFC 3376 §4.1, RFC 3810 §5.1).
type Query struct {
	Version  int           // 1 to 3
	MaxDelay time.Duration // the answer is due within this time
	Group    netip.Addr    // unspecified: a general query
	Suppress bool          // S: for routers only
	QRV      uint8         // querier's robustness variable, 0: above 7
	QQI      time.Duration // querier's query interval, 0: unknown
	Sources  []netip.Addr  // at most 64
	// SourcesCut: the query named more sources than are kept.
	SourcesCut bool
}

// General reports a query about all groups.
func (q *Query) General() bool { return q.Group.IsUnspecified() }

// Kind is what a message is to a host.
type Kind uint8

// The kinds.
const (
	Unknown    Kind = iota
	IsQuery         // see Message.Query
	IsReport        // another member's report of version 1 or 2 about Message.Group
	ForRouters      // a report of version 3, or a leave
)

// Message is a message received.
type Message struct {
	Kind  Kind
	Query Query
	Group netip.Addr
}

// Envelope is what the IP header around a message says.
type Envelope struct {
	Src, Dst    netip.Addr
	Hops        uint8 // TTL or hop limit
	RouterAlert bool  // the packet carried that option
}

// Parse validates a message from its type on. The checksum of MLD is ICMPv6's,
// and verified before. It never keeps b.
func (f Family) Parse(e *Envelope, b []byte) (m Message, d Drop) {
	switch {
	case len(b) < headLen:
		return m, DropShort
	case f == IGMP && csum.Sum(b, 0) != 0xffff:
		return m, DropChecksum
	case e.Hops != HopLimit:
		return m, DropHopLimit
	}
	if f == IGMP {
		m, d = parseIGMP(e, b)
	} else {
		m, d = parseMLD(e, b)
	}
	if d != DropNone {
		return m, d
	}
	switch m.Kind {
	case IsQuery:
		if !m.Query.General() && !m.Query.Group.IsMulticast() {
			return m, DropGroup
		}
		// RFC 3376 §4.1.8, RFC 3810 §5.1.10: sources of no group.
		if m.Query.General() && len(m.Query.Sources) > 0 {
			return m, DropGroup
		}
	case IsReport:
		// RFC 2236 §9, RFC 2710 §8: a report goes to the group itself. Another
		// would silence us without the others having heard it.
		if !m.Group.IsMulticast() {
			return m, DropGroup
		}
		if e.Dst != m.Group {
			return m, DropDestination
		}
	}
	return m, DropNone
}

func parseIGMP(e *Envelope, b []byte) (m Message, d Drop) {
	m.Group = netip.AddrFrom4([4]byte(b[4:8]))
	switch b[0] {
	case igmpReportV1, igmpReportV2:
		m.Kind = IsReport
		return m, DropNone
	case igmpLeave, igmpReportV3:
		m.Kind = ForRouters
		return m, DropNone
	case igmpQuery:
	default:
		return m, DropType
	}
	m.Kind = IsQuery
	q := &m.Query
	// RFC 3376 §7.1: 8 bytes are version 1 or 2, 12 and more version 3, anything
	// else is no query.
	switch {
	case len(b) == headLen && b[1] == 0:
		*q = Query{Version: 1, MaxDelay: responseIntervalV1, Group: netip.IPv4Unspecified()}
	case len(b) == headLen:
		*q = Query{Version: 2, MaxDelay: time.Duration(b[1]) * time.Second / 10, Group: m.Group}
	case len(b) < headLen+4:
		return m, DropShort
	default:
		*q = Query{Version: 3, MaxDelay: time.Duration(decode8(b[1])) * time.Second / 10, Group: m.Group}
		if d := q.sources(IGMP, b[headLen:]); d != DropNone {
			return m, d
		}
	}
	// RFC 3376 §9.1: what a forger beyond the router would have to do without.
	switch {
	case q.Version > 1 && !e.RouterAlert:
		return m, DropRouterAlert
	case q.General() && e.Dst.IsMulticast() && e.Dst != allSystems:
		return m, DropDestination
	}
	return m, DropNone
}

func parseMLD(e *Envelope, b []byte) (m Message, d Drop) {
	// RFC 3810 §6.2, RFC 2710 §4, and for a report RFC 3590 §4.
	switch {
	case !e.Src.IsLinkLocalUnicast() && b[0] != mldReportV2:
		return m, DropSource
	case !e.RouterAlert:
		return m, DropRouterAlert
	}
	switch b[0] {
	case mldDone, mldReportV2:
		m.Kind = ForRouters
		return m, DropNone
	case mldQuery, mldReportV1:
	default:
		return m, DropType
	}
	if len(b) < mldOldLen {
		return m, DropShort
	}
	m.Group = netip.AddrFrom16([16]byte(b[headLen:mldOldLen]))
	if b[0] == mldReportV1 {
		m.Kind = IsReport
		return m, DropNone
	}
	m.Kind = IsQuery
	q := &m.Query
	code := binary.BigEndian.Uint16(b[4:])
	// RFC 3810 §8.1: 24 bytes are version 1, 28 and more version 2.
	switch {
	case len(b) == mldOldLen:
		*q = Query{Version: 2, MaxDelay: time.Duration(code) * time.Millisecond, Group: m.Group}
		return m, DropNone
	case len(b) < mldOldLen+4:
		return m, DropShort
	}
	*q = Query{Version: 3, MaxDelay: time.Duration(decode16(code)) * time.Millisecond, Group: m.Group}
	return m, q.sources(MLD, b[mldOldLen:])
}

// sources reads the end of a query of version 3: S, QRV, QQIC and the list.
func (q *Query) sources(f Family, b []byte) Drop {
	q.Suppress, q.QRV = b[0]&8 != 0, b[0]&7
	q.QQI = time.Duration(decode8(b[1])) * time.Second
	n, size := int(binary.BigEndian.Uint16(b[2:])), f.addrLen()
	if b = b[4:]; n*size > len(b) {
		return DropShort
	}
	if n > maxAsked {
		n, q.SourcesCut = maxAsked, true
	}
	for ; n > 0; n-- {
		a, _ := netip.AddrFromSlice(b[:size])
		q.Sources, b = append(q.Sources, a), b[size:]
	}
	return DropNone
}

// decode8 decodes the query interval code, and IGMPv3's maximum response code:
// as it is below 128, else a floating-point number |1| exp 3 | mant 4 |
// (RFC 3376 §4.1.1, §4.1.7, RFC 3810 §5.1.9).
func decode8(code uint8) int {
	if code < 0x80 {
		return int(code)
	}
	return (int(code&0xf) | 0x10) << (code>>4&7 + 3)
}

// decode16 decodes MLDv2's maximum response code: as it is below 32768, else
// |1| exp 3 | mant 12 | (RFC 3810 §5.1.3).
func decode16(code uint16) int {
	if code < 0x8000 {
		return int(code)
	}
	return (int(code&0xfff) | 0x1000) << (code>>12&7 + 3)
}

// AppendReport appends a report of version 3 to b. Its checksum is zero for MLD,
// which has ICMPv6's.
func (f Family) AppendReport(b []byte, records []Record) []byte {
	at := len(b)
	typ := uint8(igmpReportV3)
	if f == MLD {
		typ = mldReportV2
	}
	b = append(b, typ, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(records)))
	for _, r := range records {
		b = append(b, r.Type, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.Sources)))
		b = append(b, r.Group.AsSlice()...)
		for _, s := range r.Sources {
			b = append(b, s.AsSlice()...)
		}
	}
	return f.seal(b, at)
}

// AppendOld appends a report or leave of version 1 or 2, its checksum as that of
// AppendReport.
func (f Family) AppendOld(b []byte, version int, leave bool, group netip.Addr) []byte {
	at := len(b)
	switch {
	case f == MLD && leave:
		b = append(b, mldDone, 0, 0, 0, 0, 0, 0, 0)
	case f == MLD:
		b = append(b, mldReportV1, 0, 0, 0, 0, 0, 0, 0)
	case leave:
		b = append(b, igmpLeave, 0, 0, 0)
	case version == 1:
		b = append(b, igmpReportV1, 0, 0, 0)
	default:
		b = append(b, igmpReportV2, 0, 0, 0)
	}
	return f.seal(append(b, group.AsSlice()...), at)
}

func (f Family) seal(b []byte, at int) []byte {
	if f == IGMP {
		binary.BigEndian.PutUint16(b[at+2:], csum.Checksum(b[at:], 0))
	}
	return b
}
