package dhcp6

// This file owns identity associations on the wire (RFC 8415 §12, §21.4, §21.6,
// §21.21, §21.22): which leases in them a host can use.

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// grant is one lease in a message: an address, with length 128, or a prefix.
type grant struct {
	prefix           netip.Prefix
	preferred, valid time.Duration
}

// association is what a message says of an IA of ours.
type association struct {
	there  bool
	t1, t2 time.Duration
	status StatusCode
	grants []grant
}

// association returns the first usable IA of that kind, OptIANA or OptIAPD, and
// number.
func (o Options) association(code OptionCode, iaid uint32) association {
	for _, p := range o {
		if p.Code != code || len(p.Data) < 12 || binary.BigEndian.Uint32(p.Data) != iaid {
			continue
		}
		a := association{there: true, t1: fromSeconds(p.Data[4:8]), t2: fromSeconds(p.Data[8:12])}
		if a.t1 > a.t2 && a.t2 > 0 {
			continue // §21.4, §21.21: as though it were not there
		}
		sub, d := parseOptions(p.Data[12:])
		if d != DropNone {
			continue
		}
		a.status = sub.Status()
		for _, q := range sub {
			if g, ok := parseGrant(code, q); ok && len(a.grants) < maxLeases {
				a.grants = append(a.grants, g)
			}
		}
		return a
	}
	return association{}
}

// parseGrant reads an IA Address or IA Prefix option. What no host can have, is
// preferred beyond its end (§21.6, §21.22), or was refused, is none.
func parseGrant(ia OptionCode, o Option) (g grant, ok bool) {
	var rest []byte
	switch d := o.Data; {
	case ia == OptIANA && o.Code == OptIAAddr && len(d) >= 24:
		a := netip.AddrFrom16([16]byte(d))
		if !isHost(a) || a.IsLinkLocalUnicast() {
			return g, false
		}
		g = grant{netip.PrefixFrom(a, 128), fromSeconds(d[16:20]), fromSeconds(d[20:24])}
		rest = d[24:]
	case ia == OptIAPD && o.Code == OptIAPrefix && len(d) >= 25:
		// Bits beyond the length are ignored.
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(d[9:25])), int(d[8])).Masked()
		if !p.IsValid() || p.Bits() == 0 || !isHost(p.Addr()) || p.Addr().IsLinkLocalUnicast() {
			return g, false
		}
		g = grant{p, fromSeconds(d[0:4]), fromSeconds(d[4:8])}
		rest = d[25:]
	default:
		return g, false
	}
	sub, drop := parseOptions(rest)
	return g, drop == DropNone && sub.Status() == Success && g.preferred <= g.valid
}

// addIA adds an IA with leases, whose times the client leaves to the server: 0
// (§21.4, §21.6).
func (o *Options) addIA(code OptionCode, iaid uint32, leases []netip.Prefix) {
	b := binary.BigEndian.AppendUint32(nil, iaid)
	b = append(b, make([]byte, 8)...)
	for _, p := range leases {
		a := p.Addr().As16()
		if code == OptIANA {
			b = appendOption(b, OptIAAddr, append(a[:], make([]byte, 8)...))
		} else {
			b = appendOption(b, OptIAPrefix, append(append(make([]byte, 8), byte(p.Bits())), a[:]...))
		}
	}
	o.Add(code, b...)
}

// times returns T1 and T2 of an association (§21.4): where the server leaves them
// to the client, half and four fifths of the shortest preferred lifetime (§14.2).
func (a *association) times() (t1, t2 time.Duration) {
	shortest := Infinite
	for _, g := range a.grants {
		switch {
		case g.valid == 0: // it goes
		case g.preferred > 0:
			shortest = min(shortest, g.preferred)
		default: // no lifetime to prefer it, but one to keep it
			shortest = min(shortest, g.valid)
		}
	}
	t1, t2 = a.t1, a.t2
	if t1 == 0 {
		t1 = part(shortest, 5)
		if t2 != 0 {
			t1 = min(t1, t2)
		}
	}
	if t2 == 0 {
		t2 = max(part(shortest, 8), t1)
	}
	return t1, t2
}

// part is so many tenths of a time.
func part(d time.Duration, tenths int) time.Duration {
	if d == Infinite {
		return Infinite
	}
	return d / 10 * time.Duration(tenths)
}
