package mtrpacket

import (
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
)

// This file owns what a send-probe command means, and how a result reads.

// Defaults and limits of send-probe.
const (
	defaultTTL     = 255
	defaultTimeout = 10 * time.Second
	maxSize        = 9000
	minLocalPort   = 1024 // those below are for who may bind them
	maxLabels      = 8    // of MPLS in a reply: mtr has no room for more
)

// order is what a send-probe command asks for.
type order struct {
	probe.Request
	token int32
	// numbered says what carries the sequence number.
	numbered carrier
	done     bool // its reply was written
}

// carrier is the field of a packet that holds the sequence number.
type carrier uint8

const (
	inEcho carrier = iota
	inSrcPort
	inDstPort
	inNothing // both ports are given; probe has a token of its own in the checksum
)

// refusal is a reply other than a result, without its token.
type refusal string

const (
	refuseArgument  refusal = "invalid-argument"
	refuseVersion   refusal = "invalid-argument reason ip-version-not-supported"
	refusePrivilege refusal = "permission-denied"
)

// decode reads the arguments of send-probe. The last of several with the same
// name counts, names that it does not know are passed over.
func decode(c *command) (o *order, refuse refusal) {
	o = &order{token: c.token}
	o.TTL, o.Timeout = defaultTTL, defaultTimeout
	var remote, local string
	version, size, mark := 0, int32(probe.DefaultSize), int32(0)
	for _, a := range c.args {
		switch a.name {
		case "ip-4":
			remote, version = a.value, 4
			continue
		case "ip-6":
			remote, version = a.value, 6
			continue
		case "local-ip-4", "local-ip-6":
			local = a.value
			continue
		case "local-device":
			o.Device = a.value
			continue
		case "protocol":
			var err error
			if o.Proto, err = probe.ParseProto(a.value); err != nil {
				return nil, refuseArgument
			}
			continue
		case "port", "local-port", "tos", "mark", "size", "bit-pattern", "ttl", "timeout":
		default:
			continue
		}
		wide, whole, _ := number(a.value)
		if !whole {
			return nil, refuseArgument
		}
		n := int32(wide) // as the others do, without asking whether it fits
		switch a.name {
		case "port":
			o.DstPort = uint16(n)
		case "local-port":
			if n < minLocalPort {
				return nil, refuseArgument
			}
			o.SrcPort = uint16(n)
		case "tos":
			o.TOS = uint8(n)
		case "mark":
			mark = n
		case "size":
			size = n
		case "bit-pattern":
			o.Pattern = byte(n)
		case "ttl":
			switch {
			case n == -1:
				o.TTL = 0 // the stack's default
			case n < 1 || n > 255:
				return nil, refuseArgument
			default:
				o.TTL = uint8(n)
			}
		case "timeout":
			// At once is the next time that a timer runs.
			o.Timeout = max(time.Duration(n)*time.Second, 1)
		}
	}
	switch {
	case version == 0:
		return nil, refuseVersion
	case size > maxSize:
		return nil, refuseArgument
	case mark != 0:
		// The marks of SO_MARK are the kernel's; mtr-packet, which gives its
		// privileges away, is refused them too.
		return nil, refusePrivilege
	}
	var ok bool
	if o.Dst, ok = literal(remote, version); !ok {
		return nil, refuseArgument
	}
	if local != "" {
		if o.Src, ok = literal(local, version); !ok {
			return nil, refuseArgument
		}
		if o.Src.IsUnspecified() {
			o.Src = netip.Addr{}
		}
	}
	o.ports()
	o.size(int(size))
	return o, ""
}

// literal reads an address of the family, as inet_pton does: no zone.
func literal(s string, version int) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.Is4() != (version == 4) {
		return netip.Addr{}, false
	}
	return a, true
}

// ports decides which field has the sequence number.
func (o *order) ports() {
	switch {
	case o.Proto == probe.ICMP:
		o.SrcPort, o.DstPort, o.numbered = 0, 0, inEcho
	case o.Proto != probe.UDP:
		o.numbered = inSrcPort
		if o.DstPort == 0 {
			o.DstPort = probe.DefaultTCPPort
		}
	case o.DstPort == 0:
		o.numbered = inDstPort // and the prober's own source port unless there is one
	case o.SrcPort == 0:
		o.numbered = inSrcPort
	default:
		o.numbered = inNothing
	}
}

// size sets the length of the packet, raised to what the headers take, and for
// datagrams to four bytes more, of which probe needs two. SYNs and INITs are as
// short as they can be.
func (o *order) size(n int) {
	least := 20
	if o.Dst.Is6() {
		least = 40
	}
	switch o.Proto {
	case probe.ICMP:
		o.Size = max(n, least+8)
	case probe.UDP:
		o.Size = max(n, least+12)
	}
}

// number gives the packet its sequence number.
func (o *order) number(seq, echoID uint16) {
	switch o.numbered {
	case inEcho:
		o.EchoID, o.EchoSeq = echoID, seq
	case inSrcPort:
		o.SrcPort = seq
	case inDstPort:
		o.DstPort = seq
	}
}

// appendResult writes a reply with its end.
func appendResult(b []byte, token int32, r *probe.Result) []byte {
	b = append(strconv.AppendInt(b, int64(token), 10), ' ')
	located := false
	switch r.Kind {
	case probe.Reply, probe.TTLExpired:
		b, located = append(b, r.Kind.String()...), true
	case probe.NoRouteHost:
		name := r.Kind.String()
		if portUnreachable(r) {
			name = probe.Reply.String() // whoever sent it
		}
		b, located = append(b, name...), true
	case probe.TooBig, probe.ParameterProblem:
		b, located = append(b, probe.NoRouteHost.String()...), true
	case probe.NoReply, probe.NoRouteNetwork, probe.AddressNotAvailable, probe.AddressInUse, probe.NetworkDown, probe.ProbesExhausted:
		b = append(b, r.Kind.String()...)
	default:
		b = appendErrno(b, r.Err, r.Kind)
	}
	if located && r.From.IsValid() {
		name := " ip-4 "
		if r.From.Is6() {
			name = " ip-6 "
		}
		b = r.From.WithZone("").AppendTo(append(b, name...))
		b = strconv.AppendInt(append(b, " round-trip-time "...), r.RTT.Microseconds(), 10)
		b = appendLabels(b, r.Extensions.MPLS)
	}
	return append(b, '\n')
}

func portUnreachable(r *probe.Result) bool {
	if !r.ICMP {
		return false
	}
	if r.From.Is6() {
		return r.ICMPType == icmp.TypeUnreachable6 && r.ICMPCode == icmp.CodePort6
	}
	return r.ICMPType == icmp.TypeUnreachable4 && r.ICMPCode == icmp.CodePort4
}

// appendErrno writes what sending failed with.
func appendErrno(b []byte, err error, k probe.Kind) []byte {
	errno, ok := err.(syscall.Errno)
	switch {
	case ok && (errno == syscall.EPERM || errno == syscall.EACCES):
		return append(b, refusePrivilege...)
	case k == probe.InvalidArgument && errno != syscall.ENODEV: // a device that is not there has its errno told
		return append(b, refuseArgument...)
	case !ok:
		errno = syscall.EIO
	}
	return strconv.AppendInt(append(b, "unexpected-error errno "...), int64(errno), 10)
}

// appendLabels writes MPLS labels, four numbers each.
func appendLabels(b []byte, labels []icmp.MPLSLabel) []byte {
	for i, l := range labels[:min(len(labels), maxLabels)] {
		if i == 0 {
			b = append(b, " mpls "...)
		} else {
			b = append(b, ',')
		}
		bottom := uint64(0)
		if l.Bottom {
			bottom = 1
		}
		for j, v := range [...]uint64{uint64(l.Label), uint64(l.TC), bottom, uint64(l.TTL)} {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, v, 10)
		}
	}
	return b
}
