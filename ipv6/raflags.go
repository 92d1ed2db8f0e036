package ipv6

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the flags of router advertisements: the eight of the header
// and the 48 more that an option has room for (RFC 5175), and whose they are. A
// host obeys four of them, M, O and the two of the preference; the others are
// kept for whoever wants to know what kind of router there is.

// RAFlags are the flags of an advertisement. IANA numbers them from 0, the
// leftmost of the header, to 55, the last of the option; flag n is the bit 63-n.
type RAFlags uint64

// The flags that have a meaning. The preference is two of them: Preference.
const (
	RAManaged   RAFlags = 1 << (63 - 0) // M: DHCPv6 has addresses (RFC 4861 §4.2)
	RAOther     RAFlags = 1 << (63 - 1) // O: DHCPv6 has other configuration
	RAHomeAgent RAFlags = 1 << (63 - 2) // H: of mobile hosts (RFC 6275 §7.1)
	RAProxy     RAFlags = 1 << (63 - 5) // P: the sender is a proxy (RFC 4389 §4.1.3.3)
	RASNAC      RAFlags = 1 << (63 - 6) // S: the router of a stub network (draft-ietf-6man-snac-router-ra-flag)
)

// LastRAFlag is the number of the last flag there is room for.
const LastRAFlag = 55

const (
	raPreference  RAFlags = 3 << (63 - 4)                 // flags 3 and 4
	raHeader      RAFlags = 0xff << 56                    // flags 0 to 7
	raOption      RAFlags = ^raHeader &^ (1<<(63-55) - 1) // flags 8 to 55
	raOptionShift         = 63 - LastRAFlag               // of the option's 48 bits
	flagsLen              = 8                             // bytes of the option
)

// RAFlag returns the flag with a number, 0 for one that cannot be.
func RAFlag(n int) RAFlags {
	if n < 0 || n > LastRAFlag {
		return 0
	}
	return 1 << (63 - n)
}

// Preference returns what the header says of the router among others (RFC 4191
// §2.2); the reserved value is medium.
func (f RAFlags) Preference() Preference {
	p, _ := preference(uint8(f >> 56))
	return p
}

// String lists the flags that are set, as "M O H high P S 8": a letter where
// there is one, the preference where it is not medium, else the number.
func (f RAFlags) String() string {
	var list []string
	for n := range LastRAFlag + 1 {
		switch x := RAFlag(n); {
		case n == 3:
			switch f.Preference() {
			case PreferHigh:
				list = append(list, "high")
			case PreferLow:
				list = append(list, "low")
			}
		case n == 4 || f&x == 0:
		default:
			list = append(list, raFlagName(n))
		}
	}
	return strings.Join(list, " ")
}

func raFlagName(n int) string {
	switch RAFlag(n) {
	case RAManaged:
		return "M"
	case RAOther:
		return "O"
	case RAHomeAgent:
		return "H"
	case RAProxy:
		return "P"
	case RASNAC:
		return "S"
	}
	return strconv.Itoa(n)
}

// expandFlags reads the option (RFC 5175 §4). One that is longer has flags that
// nobody has defined yet behind those of today; of several the first counts.
//
//	| 26 | length | flags 8 to 55 |
func (m *RouterAdvert) expandFlags(opt []byte) bool {
	if m.expanded {
		return false
	}
	m.expanded = true
	var b [8]byte
	copy(b[2:], opt[2:flagsLen])
	m.Flags |= RAFlags(binary.BigEndian.Uint64(b[:]) << raOptionShift)
	return true
}

// headerFlags is the byte of flags in the header.
func (m *RouterAdvert) headerFlags() uint8 {
	others := uint8((m.Flags &^ (RAManaged | RAOther | raPreference)) >> 56)
	return others | bit(m.Managed, 0x80) | bit(m.Other, 0x40) | m.Preference.bits()
}

// appendFlags appends the option, if any of its flags is set (RFC 5175 §4).
func (m *RouterAdvert) appendFlags(b []byte) []byte {
	x := m.Flags & raOption
	if x == 0 {
		return b
	}
	var flags [8]byte
	binary.BigEndian.PutUint64(flags[:], uint64(x>>raOptionShift))
	return append(append(b, optFlags, 1), flags[2:]...)
}

// Advertiser is a router that was heard, and the flags it has.
type Advertiser struct {
	Router netip.Addr // link-local
	Flags  RAFlags
	until  mono.Time // 0: for ever
}

// inputFlags keeps whose advertisement had which flags. Who is no default router,
// or for less, is remembered for a default router's usual lifetime.
func (s *SLAAC) inputFlags(now mono.Time, src netip.Addr, ra *RouterAdvert) {
	until := after(now, max(ra.Lifetime, advDefaultLifetime))
	i := slices.IndexFunc(s.advertisers, func(a Advertiser) bool { return a.Router == src })
	switch {
	case i >= 0:
		a := &s.advertisers[i]
		if a.until = until; a.Flags == ra.Flags {
			return
		}
		a.Flags = ra.Flags
	case len(s.advertisers) == MaxRouters:
		return
	default:
		s.advertisers = append(s.advertisers, Advertiser{src, ra.Flags, until})
	}
	s.host.SetAdvertisers(slices.Clone(s.advertisers))
}

// expireFlags forgets routers that were not heard again.
func (s *SLAAC) expireFlags(now mono.Time) {
	s.forget(func(a Advertiser) bool { return a.until.Due(now) })
}

// forgetAdvertiser forgets who says that it is no router any more.
func (s *SLAAC) forgetAdvertiser(router netip.Addr) {
	s.forget(func(a Advertiser) bool { return a.Router == router })
}

func (s *SLAAC) forget(whom func(Advertiser) bool) {
	n := len(s.advertisers)
	if s.advertisers = slices.DeleteFunc(s.advertisers, whom); len(s.advertisers) != n {
		s.host.SetAdvertisers(slices.Clone(s.advertisers))
	}
}
