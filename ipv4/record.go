package ipv4

// This file owns the two options that a host acts upon: record route and
// timestamp (RFC 791 §3.1). Whoever handles a packet writes its address or the
// time into the next free place: a host when it receives one, when it sends
// one, and when it answers an echo request that has them (RFC 1122 §3.2.2.6).

import (
	"encoding/binary"
	"net/netip"
)

// More option kinds. RFC 7126 §4 has the list, and what to do with each; a host
// takes no notice of them.
const (
	OptSecurity   = 130 // RFC 1108: accepted
	OptCIPSO      = 134 // a commercial form of it: accepted
	OptStreamID   = 136 // deprecated (RFC 6814)
	OptQuickStart = 25  // RFC 4782
)

// The flags of a timestamp option.
const (
	StampTimes = 0 // times alone
	StampBoth  = 1 // each with the address of who has written it
	StampGiven = 3 // by those whose addresses the sender has written
)

// The places in these options, and the pointers to their first entries.
const (
	atPointer  = 2
	atFlags    = 3
	firstRoute = 4
	firstStamp = 5
)

// Host is who writes into options.
type Host struct {
	// Addr is the address to be recorded.
	Addr netip.Addr
	// Own reports whether an address is one of the host's.
	Own func(netip.Addr) bool
	// Now is the time in milliseconds since midnight UT.
	Now uint32
}

// Record writes the host into the record route and timestamp options of opts,
// which BadOption has found well formed. A full timestamp option counts the
// host instead. It returns the place of the first byte that makes an option
// unusable, or -1; added to HeaderLen it is the pointer of an ICMP Parameter
// Problem. These are Linux's rules.
func Record(opts []byte, h *Host) (bad int) { return record(opts, h, true) }

// RecordSent is Record for a host that sends the packet: as Linux it leaves a
// full timestamp option as it is, for nobody was passed over.
func RecordSent(opts []byte, h *Host) (bad int) { return record(opts, h, false) }

func record(opts []byte, h *Host, overflow bool) (bad int) {
	var seenRoute, seenStamp bool
	for rest := opts; ; {
		o, next, ok := nextOption(rest)
		if !ok || o == nil {
			return -1
		}
		at, in := len(opts)-len(rest), -1
		switch o[0] {
		case OptRecordRoute:
			if seenRoute {
				return at
			}
			seenRoute = true
			in = recordRoute(o, h)
		case OptTimestamp:
			if seenStamp {
				return at
			}
			seenStamp = true
			if overflow || len(o) < 4 || int(o[atPointer]) <= len(o) {
				in = recordTime(o, h)
			}
		case OptRouterAlert:
			if len(o) != len(RouterAlert) {
				in = 1 // RFC 2113 §2.1
			}
		}
		if in >= 0 {
			return at + in
		}
		rest = next
	}
}

func recordRoute(o []byte, h *Host) int {
	switch {
	case len(o) < 3:
		return 1
	case o[atPointer] < firstRoute:
		return atPointer
	}
	p := int(o[atPointer])
	if p > len(o) {
		return -1 // full
	}
	if p+3 > len(o) {
		return atPointer
	}
	putAddr(o[p-1:], h.Addr)
	o[atPointer] += 4
	return -1
}

func recordTime(o []byte, h *Host) int {
	switch {
	case len(o) < 4:
		return 1
	case o[atPointer] < firstStamp:
		return atPointer
	}
	p := int(o[atPointer])
	if p > len(o) {
		if o[atFlags]>>4 == 15 {
			return atFlags // RFC 791 §3.1: the overflow count overflows
		}
		o[atFlags] += 1 << 4
		return -1
	}
	size := 8
	switch o[atFlags] & 0x0f {
	case StampTimes:
		size = 4
	case StampBoth, StampGiven:
	default:
		return atFlags
	}
	if p+size-1 > len(o) {
		return atPointer
	}
	entry := o[p-1:]
	switch o[atFlags] & 0x0f {
	case StampBoth:
		putAddr(entry, h.Addr)
	case StampGiven:
		if !h.Own(netip.AddrFrom4([4]byte(entry))) {
			return -1
		}
	}
	binary.BigEndian.PutUint32(entry[size-4:], h.Now)
	o[atPointer] += byte(size)
	return -1
}

func putAddr(b []byte, a netip.Addr) {
	if a.Is4() {
		x := a.As4()
		copy(b, x[:])
	}
}

// Echo appends to dst, of whole words, the options of an answer to a packet with the options
// opts: what records goes on recording, with the host's entry for the way back
// (RFC 1122 §3.2.2.6). Others are not for an answer. What Record would find fault
// with makes ok false.
func Echo(dst, opts []byte, h *Host) (out []byte, ok bool) {
	n := len(dst)
	dst = Answer(dst, opts)
	if RecordSent(dst[n:], h) >= 0 {
		return nil, false
	}
	return dst, true
}

// Answer is Echo before the host's entry is made: what all packets of an answer
// begin with that consists of several.
func Answer(dst, opts []byte) []byte {
	for o := range Walk(opts) {
		if o.Kind == OptRecordRoute || o.Kind == OptTimestamp {
			dst = append(dst, o.raw...)
		}
	}
	for len(dst)%4 != 0 {
		dst = append(dst, OptEnd)
	}
	return dst
}

// CheckOptions reports whether opts may be sent: well formed, no more than 40
// bytes with their padding, and none that asks for a route of its own.
func CheckOptions(opts []byte) bool {
	if len(opts) > MaxHeaderLen-HeaderLen || BadOption(opts) >= 0 {
		return false
	}
	for o := range Walk(opts) {
		if o.Kind == OptLooseSourceRoute || o.Kind == OptStrictSourceRoute {
			return false
		}
	}
	c := append([]byte(nil), opts...)
	return Record(c, &Host{Own: func(netip.Addr) bool { return false }}) < 0
}

// Seal computes the header checksum after options were changed.
func (h Header) Seal() { putChecksum(h) }
