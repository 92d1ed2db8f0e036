package dhcp

// The options of a message: the list of code, length and bytes, and the typed
// readings of those the client uses. A typed getter treats an option of the
// wrong length or with impossible content as absent, so nothing beyond it need
// check again.

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"strings"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
)

// Option codes of which the client makes use (RFC 2132; 90: RFC 3118; 114: RFC
// 8910; 116: RFC 2563; 119: RFC 3397; 121: RFC 3442; 145: RFC 6704).
const (
	OptPad            = 0
	OptSubnetMask     = 1
	OptRouters        = 3
	OptDNS            = 6
	OptHostName       = 12
	OptDomainName     = 15
	OptMTU            = 26
	OptBroadcast      = 28
	OptStaticRoutes   = 33
	OptNTP            = 42
	OptRequestedIP    = 50
	OptLeaseTime      = 51
	OptOverload       = 52
	OptMessageType    = 53
	OptServerID       = 54
	OptParameters     = 55
	OptMessage        = 56
	OptMaxMessageSize = 57
	OptT1             = 58
	OptT2             = 59
	OptVendorClass    = 60
	OptClientID       = 61
	OptAuthentication = 90
	OptCaptivePortal  = 114
	OptAutoConfigure  = 116
	OptDomainSearch   = 119
	OptRoutes         = 121
	OptNonceCapable   = 145
	OptEnd            = 255
)

// MessageType is the value of the DHCP message type option (RFC 2132 §9.6).
type MessageType uint8

// The message types.
const (
	Discover MessageType = 1 + iota
	Offer
	Request
	Decline
	ACK
	NAK
	Release
	Inform
	ForceRenew // RFC 3203
)

var typeNames = [...]string{"", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM", "FORCERENEW"}

func (t MessageType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}

// Infinite is the lease time that never ends (RFC 2131 §3.3).
const Infinite time.Duration = math.MaxInt64

// Option is one option as it is on the wire.
type Option struct {
	Code uint8
	Data []byte
}

// Options are the options of a message, each code once, in the order of their
// first appearance.
type Options []Option

// parse adds the options of one field. PAD and END have no length; a field
// without END is complete, as others take it. seen says where in o each code
// is, so that a message full of parts of one option costs no search.
func (o *Options) parse(b []byte, seen *[256]int) Drop {
	for len(b) > 0 {
		code := b[0]
		switch {
		case code == OptPad:
			b = b[1:]
			continue
		case code == OptEnd:
			return DropNone
		case len(b) < 2 || len(b) < 2+int(b[1]):
			return DropOption
		}
		data := b[2 : 2+int(b[1])]
		b = b[2+len(data):]
		// RFC 3396 §5: instances of one code are parts of one option.
		if i := seen[code]; i != 0 {
			p := &(*o)[i-1]
			p.Data = append(p.Data, data...)
			continue
		}
		*o = append(*o, Option{code, append([]byte{}, data...)})
		seen[code] = len(*o)
	}
	return DropNone
}

// append writes the options and END. What is longer than 255 bytes is split
// (RFC 3396 §4).
func (o Options) append(b []byte) []byte {
	for _, p := range o {
		for data := p.Data; ; {
			n := min(len(data), 255)
			b = append(b, p.Code, uint8(n))
			b = append(b, data[:n]...)
			if data = data[n:]; len(data) == 0 {
				break
			}
		}
	}
	return append(b, OptEnd)
}

// Get returns the data of an option, nil if it is absent.
func (o Options) Get(code uint8) []byte {
	for i := range o {
		if o[i].Code == code {
			return o[i].Data
		}
	}
	return nil
}

// Has reports whether an option is there, be it empty.
func (o Options) Has(code uint8) bool { return o.Get(code) != nil }

// Set sets or adds an option. It must not be PAD or END.
func (o *Options) Set(code uint8, data ...byte) {
	if data == nil {
		data = []byte{}
	}
	for i := range *o {
		if (*o)[i].Code == code {
			(*o)[i].Data = data
			return
		}
	}
	*o = append(*o, Option{code, data})
}

// SetAddr sets an option that is a list of addresses.
func (o *Options) SetAddr(code uint8, addrs ...netip.Addr) {
	var data []byte
	for _, a := range addrs {
		v := a.As4()
		data = append(data, v[:]...)
	}
	o.Set(code, data...)
}

// SetSeconds sets an option that is a time; Infinite becomes 0xffffffff.
func (o *Options) SetSeconds(code uint8, d time.Duration) {
	s := uint64(d / time.Second)
	if d == Infinite || s > math.MaxUint32 {
		s = math.MaxUint32
	}
	o.Set(code, binary.BigEndian.AppendUint32(nil, uint32(s))...)
}

// Type returns the message type, 0 if there is none.
func (o Options) Type() MessageType {
	if d := o.Get(OptMessageType); len(d) == 1 {
		return MessageType(d[0])
	}
	return 0
}

// Addr returns an option that is one address; the zero Addr if it is absent or
// no host's address.
func (o Options) Addr(code uint8) netip.Addr {
	d := o.Get(code)
	if len(d) != 4 {
		return netip.Addr{}
	}
	if a := netip.AddrFrom4([4]byte(d)); isHost(a) {
		return a
	}
	return netip.Addr{}
}

// Addrs returns an option that is a list of addresses, without those that are
// no host's; nil if its length is no multiple of four.
func (o Options) Addrs(code uint8) []netip.Addr {
	d := o.Get(code)
	if len(d)%4 != 0 {
		return nil
	}
	var list []netip.Addr
	for ; len(d) > 0; d = d[4:] {
		if a := netip.AddrFrom4([4]byte(d)); isHost(a) {
			list = append(list, a)
		}
	}
	return list
}

// isHost reports whether a may be the address of some host's interface.
func isHost(a netip.Addr) bool {
	return a.Is4() && a.As4()[0] != 0 && a.As4()[0] < 224 && !a.IsLoopback()
}

// Seconds returns an option that is a time, 0xffffffff as Infinite.
func (o Options) Seconds(code uint8) (d time.Duration, ok bool) {
	b := o.Get(code)
	if len(b) != 4 {
		return 0, false
	}
	s := binary.BigEndian.Uint32(b)
	if s == math.MaxUint32 {
		return Infinite, true
	}
	return time.Duration(s) * time.Second, true
}

// PrefixLen returns the length of the subnet mask (option 1), 1 to 32, or
// false if there is none or its bits are not contiguous.
func (o Options) PrefixLen() (n int, ok bool) {
	d := o.Get(OptSubnetMask)
	if len(d) != 4 {
		return 0, false
	}
	mask := binary.BigEndian.Uint32(d)
	n = bits.LeadingZeros32(^mask)
	return n, n > 0 && mask<<n == 0
}

// MTU returns the interface MTU (option 26), 0 if there is none or it is below
// the 68 bytes that RFC 2132 §5.1 allows.
func (o Options) MTU() int {
	if d := o.Get(OptMTU); len(d) == 2 {
		if n := int(binary.BigEndian.Uint16(d)); n >= 68 {
			return n
		}
	}
	return 0
}

// Text returns an option that is text, without the NULs some servers end it
// with (RFC 2132 §2); "" if there is none or it has bytes that are not
// printable ASCII.
func (o Options) Text(code uint8) string {
	s := strings.TrimRight(string(o.Get(code)), "\x00")
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}

// Domain returns the domain name (option 15) without a final dot; "" if it is
// absent or has characters that no host name has.
func (o Options) Domain() string {
	s := strings.TrimSuffix(o.Text(OptDomainName), ".")
	if len(s) > 253 {
		return ""
	}
	for label := range strings.SplitSeq(s, ".") {
		if !both.IsLabel(label) {
			return ""
		}
	}
	return s
}

// Search returns the domain search list (option 119, RFC 3397): names in DNS
// format, with compression pointers into the option itself; nil if any of it
// is malformed.
func (o Options) Search() []string {
	return both.Names(o.Get(OptDomainSearch), true)
}

// Route is a classless static route (RFC 3442). The Gateway 0.0.0.0 means that
// the destination is on the link.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr
}

// Routes returns the classless static routes (option 121); nil if any of it is
// malformed. Routes whose gateway no host can be are left out.
func (o Options) Routes() []Route {
	d := o.Get(OptRoutes)
	var list []Route
	for len(d) > 0 {
		// Width, then only the significant bytes of the destination.
		width := int(d[0])
		n := (width + 7) / 8
		if width > 32 || len(d) < 1+n+4 {
			return nil
		}
		var dst [4]byte
		copy(dst[:], d[1:1+n])
		gw := netip.AddrFrom4([4]byte(d[1+n:]))
		d = d[1+n+4:]
		if isHost(gw) || gw.IsUnspecified() {
			list = append(list, Route{netip.PrefixFrom(netip.AddrFrom4(dst), width).Masked(), gw})
		}
	}
	return list
}
