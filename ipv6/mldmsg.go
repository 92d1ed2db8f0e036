package ipv6

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// This file owns the messages of multicast listener discovery: queries, MLDv2
// reports (RFC 3810 §5), the MLDv1 report and done (RFC 2710 §3), and the
// router alert they travel with.

// MLDHopLimit is the hop limit of all MLD messages: they never leave the link
// (RFC 3810 §5).
const MLDHopLimit = 1

// The ICMPv6 types of multicast listener discovery.
const (
	typeMLDQuery    = 130
	MLDv1Report     = 131
	MLDv1Done       = 132
	typeMLDv2Report = 143
)

// Types of MLDRecord (RFC 3810 §5.2.12).
const (
	ModeIsInclude   = 1 // current state: listening to Sources only
	ModeIsExclude   = 2 // current state: listening to all but Sources
	ChangeToInclude = 3 // as 1, because of a change; no sources: left the group
	ChangeToExclude = 4 // as 2, because of a change; no sources: joined the group
	AllowNewSources = 5
	BlockOldSources = 6
)

// Limits of the lists in a message.
const (
	maxQuerySources = 64
	// maxReportLen keeps a report within the smallest MTU: 1280 bytes less
	// the fixed header and the hop-by-hop header.
	maxReportLen = MinMTU - HeaderLen - RouterAlertLen
)

// Lengths in bytes.
const (
	// RouterAlertLen is the length of the header PutRouterAlertHBH writes.
	RouterAlertLen = 8
	mldV1Len       = 24
	mldV2QueryLen  = 28
	mldReportLen   = 8  // without records
	mldRecordLen   = 20 // without sources
)

// MLDRecord is one multicast address record of a report (RFC 3810 §5.2).
type MLDRecord struct {
	Type    uint8
	Group   netip.Addr
	Sources []netip.Addr
}

func (r *MLDRecord) size() int { return mldRecordLen + 16*len(r.Sources) }

// MLDQuery is a multicast listener query (RFC 3810 §5.1, RFC 2710 §3).
type MLDQuery struct {
	V1       bool
	MaxDelay time.Duration // the answer is due within this time
	Group    netip.Addr    // unspecified: a general query
	Suppress bool          // S: for routers only
	QRV      uint8         // querier's robustness variable, 0: above 7
	QQI      time.Duration // querier's query interval
	Sources  []netip.Addr  // at most 64
	// SourcesCut: the query named more sources than are kept.
	SourcesCut bool
}

// ParseMLDQuery validates a query (RFC 3810 §5.1.14, §6.2, RFC 2710 §4). body
// is the whole ICMPv6 message from its type byte, its checksum verified;
// routerAlert says whether the packet carried that option.
func ParseMLDQuery(h Header, body []byte, routerAlert bool) (MLDQuery, Drop) {
	var q MLDQuery
	switch {
	case h.HopLimit() != MLDHopLimit:
		return q, DropHopLimit
	case !h.Src().IsLinkLocalUnicast():
		return q, DropSource
	case !routerAlert:
		return q, DropRouterAlert
	// RFC 3810 §8.1: 24 bytes are version 1, 28 and more version 2, and
	// anything else is no query.
	case len(body) < mldV2QueryLen && len(body) != mldV1Len:
		return q, DropShort
	}
	q.Group = netip.AddrFrom16([16]byte(body[8:24]))
	if !q.Group.IsUnspecified() && !q.Group.IsMulticast() {
		return q, DropGroup
	}
	code := binary.BigEndian.Uint16(body[4:])
	if len(body) == mldV1Len {
		q.V1, q.MaxDelay = true, time.Duration(code)*time.Millisecond
		return q, DropNone
	}
	q.MaxDelay = time.Duration(maxResponse(code)) * time.Millisecond
	q.Suppress, q.QRV = body[24]&8 != 0, body[24]&7
	q.QQI = time.Duration(queryInterval(body[25])) * time.Second
	n := int(binary.BigEndian.Uint16(body[26:]))
	if mldV2QueryLen+16*n > len(body) {
		return q, DropShort
	}
	if n > 0 && q.Group.IsUnspecified() {
		return q, DropGroup // sources of no group
	}
	if n > maxQuerySources {
		n, q.SourcesCut = maxQuerySources, true
	}
	for i := range n {
		at := mldV2QueryLen + 16*i
		q.Sources = append(q.Sources, netip.AddrFrom16([16]byte(body[at:at+16])))
	}
	return q, DropNone
}

// maxResponse decodes the maximum response code, in milliseconds: as it is
// below 32768, else a floating-point number |1| exp 3 | mant 12 |
// (RFC 3810 §5.1.3).
func maxResponse(code uint16) int {
	if code < 0x8000 {
		return int(code)
	}
	return (int(code&0xfff) | 0x1000) << (code>>12&7 + 3)
}

// queryInterval decodes the querier's query interval code, in seconds: as it is
// below 128, else |1| exp 3 | mant 4 | (RFC 3810 §5.1.9).
func queryInterval(code uint8) int {
	if code < 0x80 {
		return int(code)
	}
	return (int(code&0xf) | 0x10) << (code>>4&7 + 3)
}

// AppendMLDReport appends an MLDv2 report, an ICMPv6 message with a zero
// checksum. It goes to MLDv2Routers from a link-local address, or from the
// unspecified one while there is none (RFC 3810 §5.2.13, §5.2.14), with hop
// limit MLDHopLimit and a router alert.
func AppendMLDReport(b []byte, records []MLDRecord) []byte {
	b = append(b, typeMLDv2Report, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(records)))
	for i := range records {
		r := &records[i]
		b = append(b, r.Type, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.Sources)))
		b = appendAddr(b, r.Group)
		for _, s := range r.Sources {
			b = appendAddr(b, s)
		}
	}
	return b
}

// AppendMLDv1 appends an MLDv1 message with a zero checksum: MLDv1Report, which
// goes to the group itself, or MLDv1Done, which goes to AllRouters
// (RFC 2710 §3, §5).
func AppendMLDv1(b []byte, typ uint8, group netip.Addr) []byte {
	return appendAddr(append(b, typ, 0, 0, 0, 0, 0, 0, 0), group)
}

// PutRouterAlertHBH writes a hop-by-hop header of RouterAlertLen bytes with the
// router alert for MLD (RFC 2711 §2.1), followed by ICMPv6.
func PutRouterAlertHBH(b []byte) {
	copy(b, []byte{ProtoICMPv6, 0, optRouterAlert, 2, 0, 0, optPadN, 0})
}
