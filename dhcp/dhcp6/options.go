package dhcp6

// The options of a message: the list of code and bytes, and the typed readings of
// those the client uses. A typed getter treats an option of the wrong length or
// with impossible content as absent, so that nothing beyond it need check again.

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
)

// OptionCode is the code of an option.
type OptionCode uint16

// Option codes of which the client makes use (RFC 8415 §21; 23, 24: RFC 3646;
// 31: RFC 4075; 39: RFC 4704; 56: RFC 5908; 103: RFC 8910).
const (
	OptClientID      OptionCode = 1
	OptServerID      OptionCode = 2
	OptIANA          OptionCode = 3
	OptIAAddr        OptionCode = 5
	OptRequest       OptionCode = 6
	OptPreference    OptionCode = 7
	OptElapsed       OptionCode = 8
	OptUnicast       OptionCode = 12
	OptStatus        OptionCode = 13
	OptRapidCommit   OptionCode = 14
	OptDNS           OptionCode = 23
	OptSearch        OptionCode = 24
	OptIAPD          OptionCode = 25
	OptIAPrefix      OptionCode = 26
	OptSNTP          OptionCode = 31
	OptRefreshTime   OptionCode = 32
	OptFQDN          OptionCode = 39
	OptNTP           OptionCode = 56
	OptSolMaxRT      OptionCode = 82
	OptInfMaxRT      OptionCode = 83
	OptCaptivePortal OptionCode = 103
)

// Option is one option as it is on the wire.
type Option struct {
	Code OptionCode
	Data []byte
}

// Options are options in the order of the message. A code may be there several
// times; one that may not is taken from the first.
type Options []Option

// parseOptions reads options, which alias b. Their number is bounded by the
// message's length.
func parseOptions(b []byte) (o Options, _ Drop) {
	for len(b) > 0 {
		if len(b) < 4 || len(b) < 4+int(binary.BigEndian.Uint16(b[2:])) {
			return nil, DropOption
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		o = append(o, Option{OptionCode(binary.BigEndian.Uint16(b)), b[4:n:n]})
		b = b[n:]
	}
	return o, DropNone
}

func (o Options) append(b []byte) []byte {
	for _, p := range o {
		b = appendOption(b, p.Code, p.Data)
	}
	return b
}

func appendOption(b []byte, code OptionCode, data []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// Get returns the data of the first option with that code, nil if there is none.
func (o Options) Get(code OptionCode) []byte {
	for i := range o {
		if o[i].Code == code {
			return o[i].Data
		}
	}
	return nil
}

// Has reports whether an option is there, be it empty.
func (o Options) Has(code OptionCode) bool {
	for i := range o {
		if o[i].Code == code {
			return true
		}
	}
	return false
}

// Add adds an option.
func (o *Options) Add(code OptionCode, data ...byte) { *o = append(*o, Option{code, data}) }

// AddAddrs adds an option that is a list of addresses.
func (o *Options) AddAddrs(code OptionCode, addrs ...netip.Addr) {
	var data []byte
	for _, a := range addrs {
		v := a.As16()
		data = append(data, v[:]...)
	}
	o.Add(code, data...)
}

// AddSeconds adds an option that is a time; Infinite becomes 0xffffffff.
func (o *Options) AddSeconds(code OptionCode, d time.Duration) {
	o.Add(code, binary.BigEndian.AppendUint32(nil, toSeconds(d))...)
}

// Infinite is the time that never ends (RFC 8415 §7.7).
const Infinite time.Duration = math.MaxInt64

func toSeconds(d time.Duration) uint32 {
	if d == Infinite || d/time.Second > math.MaxUint32 {
		return math.MaxUint32
	}
	return uint32(d / time.Second)
}

func fromSeconds(b []byte) time.Duration { return fromUint(binary.BigEndian.Uint32(b)) }

func fromUint(s uint32) time.Duration {
	if s != math.MaxUint32 {
		return time.Duration(s) * time.Second
	}
	return Infinite
}

// Seconds returns an option that is a time, 0xffffffff as Infinite.
func (o Options) Seconds(code OptionCode) (d time.Duration, ok bool) {
	b := o.Get(code)
	if len(b) != 4 {
		return 0, false
	}
	return fromSeconds(b), true
}

// isHost reports whether a may be the address of some host's interface.
func isHost(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback()
}

// Addrs returns an option that is a list of addresses, without those that are no
// host's; nil if its length is no multiple of 16.
func (o Options) Addrs(code OptionCode) []netip.Addr { return addrs(o.Get(code)) }

func addrs(d []byte) (list []netip.Addr) {
	if len(d)%16 != 0 {
		return nil
	}
	for ; len(d) > 0; d = d[16:] {
		if a := netip.AddrFrom16([16]byte(d)); isHost(a) {
			list = append(list, a)
		}
	}
	return list
}

// Domains returns an option that is a list of names (RFC 8415 §10), nil if any of
// it is malformed.
func (o Options) Domains(code OptionCode) []string { return both.Names(o.Get(code), false) }

// Status returns the status code, Success if there is none (RFC 8415 §21.13). One
// that is malformed or unknown is a failure.
func (o Options) Status() StatusCode {
	d := o.Get(OptStatus)
	switch {
	case !o.Has(OptStatus):
		return Success
	case len(d) < 2 || binary.BigEndian.Uint16(d) > uint16(NoPrefixAvail):
		return UnspecFail
	}
	return StatusCode(binary.BigEndian.Uint16(d))
}

// Preference returns the server's preference (RFC 8415 §21.8), 0 by default.
func (o Options) Preference() uint8 {
	if d := o.Get(OptPreference); len(d) == 1 {
		return d[0]
	}
	return 0
}

// The suboptions of NTP servers (RFC 5908 §4).
const (
	ntpUnicast   = 1
	ntpMulticast = 2
	ntpName      = 3
)

// NTP returns the NTP servers (RFC 5908), addresses to ask, groups to listen to
// and names alike, as text.
func (o Options) NTP() (list []string) {
	for _, p := range o {
		if p.Code != OptNTP {
			continue
		}
		sub, d := parseOptions(p.Data)
		if d != DropNone || len(sub) != 1 { // §4: exactly one
			continue
		}
		switch s := sub[0]; s.Code {
		case ntpUnicast, ntpMulticast:
			if len(s.Data) != 16 {
				continue
			}
			if a := netip.AddrFrom16([16]byte(s.Data)); isHost(a) && s.Code == ntpUnicast || a.IsMulticast() && s.Code == ntpMulticast {
				list = append(list, a.String())
			}
		case ntpName:
			if names := both.Names(s.Data, false); len(names) == 1 {
				list = append(list, names[0])
			}
		}
	}
	return list
}

// FQDN returns the name that the server gave the client in DNS (RFC 4704 §4), ""
// if it told none, or a partial one.
func (o Options) FQDN() string {
	d := o.Get(OptFQDN)
	if len(d) < 2 {
		return ""
	}
	if names := both.Names(d[1:], false); len(names) == 1 {
		return names[0]
	}
	return ""
}

// Portal returns the URI of the captive portal's API (RFC 8910 §2.2); "" if there
// is none, or if the network says that it has none.
func (o Options) Portal() string {
	s := string(o.Get(OptCaptivePortal))
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '<' || s[i] == '>' {
			return ""
		}
	}
	if s == "urn:ietf:params:capport:unrestricted" {
		return ""
	}
	return s
}

// kind is the form of an option's content.
type kind uint8

const (
	kindBytes kind = iota
	kindAddrs
	kindAddr
	kindDomains
	kindSeconds
	kindByte
	kindFlag
	kindStatus
	kindText
)

// optionTable has the options by their usual names.
var optionTable = map[OptionCode]struct {
	name string
	kind kind
}{
	OptClientID:      {"client-id", kindBytes},
	OptServerID:      {"server-id", kindBytes},
	OptIANA:          {"ia-na", kindBytes},
	4:                {"ia-ta", kindBytes},
	OptIAAddr:        {"iaaddr", kindBytes},
	OptRequest:       {"oro", kindBytes},
	OptPreference:    {"preference", kindByte},
	OptElapsed:       {"elapsed-time", kindBytes},
	9:                {"relay-msg", kindBytes},
	11:               {"auth", kindBytes},
	OptUnicast:       {"unicast", kindAddr},
	OptStatus:        {"status-code", kindStatus},
	OptRapidCommit:   {"rapid-commit", kindFlag},
	15:               {"user-class", kindBytes},
	16:               {"vendor-class", kindBytes},
	17:               {"vendor-opts", kindBytes},
	18:               {"interface-id", kindBytes},
	19:               {"reconf-msg", kindByte},
	20:               {"reconf-accept", kindFlag},
	21:               {"sip-domains", kindDomains},
	22:               {"sip-servers", kindAddrs},
	OptDNS:           {"dns-servers", kindAddrs},
	OptSearch:        {"domain-search", kindDomains},
	OptIAPD:          {"ia-pd", kindBytes},
	OptIAPrefix:      {"iaprefix", kindBytes},
	27:               {"nis-servers", kindAddrs},
	28:               {"nisp-servers", kindAddrs},
	29:               {"nis-domain", kindDomains},
	30:               {"nisp-domain", kindDomains},
	OptSNTP:          {"sntp-servers", kindAddrs},
	OptRefreshTime:   {"information-refresh-time", kindSeconds},
	OptFQDN:          {"fqdn", kindBytes},
	41:               {"posix-timezone", kindText},
	42:               {"tzdb-timezone", kindText},
	OptNTP:           {"ntp-server", kindBytes},
	59:               {"bootfile-url", kindText},
	OptSolMaxRT:      {"sol-max-rt", kindSeconds},
	OptInfMaxRT:      {"inf-max-rt", kindSeconds},
	OptCaptivePortal: {"captive-portal", kindText},
}

// String returns the usual name of an option, as "dns-servers"; for one that the
// table does not have "option-" and its code.
func (c OptionCode) String() string {
	if i, ok := optionTable[c]; ok {
		return i.name
	}
	return fmt.Sprintf("option-%d", uint16(c))
}

// Value returns an option as what it is: netip.Addr or a slice of them, []string,
// string, time.Duration, uint8, bool, StatusCode, and []byte for what has no form or
// none that is known. False: it is absent, or not what its RFC says.
func (o Options) Value(code OptionCode) (any, bool) {
	if !o.Has(code) {
		return nil, false
	}
	b := o.Get(code)
	switch optionTable[code].kind {
	case kindAddrs:
		list := o.Addrs(code)
		return list, len(list) > 0
	case kindAddr:
		list := o.Addrs(code)
		if len(list) != 1 {
			return nil, false
		}
		return list[0], true
	case kindDomains:
		list := o.Domains(code)
		return list, len(list) > 0
	case kindSeconds:
		d, ok := o.Seconds(code)
		return d, ok
	case kindByte:
		if len(b) != 1 {
			return nil, false
		}
		return b[0], true
	case kindFlag:
		return true, len(b) == 0
	case kindStatus:
		return o.Status(), len(b) >= 2
	case kindText:
		for _, c := range b {
			if c < ' ' || c > '~' {
				return nil, false
			}
		}
		return string(b), len(b) > 0
	}
	return b, true
}
