package socket

// This file owns what is particular to raw IP sockets (raw(7), RFC 3542): their
// options. Everything else they have in common with other datagram sockets. The
// port of an address means nothing to them, and Getsockname has the protocol in
// its place, as on Linux.

import (
	"encoding/binary"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// Protocols and options of raw sockets, with Linux's numbers.
const (
	IPPROTO_RAW = 255 // only sends, IP header included

	SOL_RAW    = 255
	SOL_ICMPV6 = IPPROTO_ICMPV6

	IP_HDRINCL    = 3
	ICMP_FILTER   = 1 // of SOL_RAW: bits of types that are not wanted, see SetICMPFilter
	ICMP6_FILTER  = 1 // of SOL_ICMPV6: 256 such bits
	IPV6_CHECKSUM = 7
	IPV6_HDRINCL  = 36
)

func init() {
	included := option{(*FD).setHeaderIncluded, (*FD).headerIncluded}
	ip6Options[IPV6_HDRINCL] = included
	included.get = func(f *FD) (int, error) {
		if f.typ != SOCK_RAW {
			return 0, nil // as Linux, which has it for all sockets there
		}
		return f.headerIncluded()
	}
	ipOptions[IP_HDRINCL] = included
	ip6Options[IPV6_CHECKSUM] = option{(*FD).setChecksum6, (*FD).checksum}
	rawOptions[name{SOL_RAW, ICMP_FILTER}] = rawOption{set: (*FD).setICMPFilter, get: (*FD).icmpFilter}
	rawOptions[name{SOL_ICMPV6, ICMP6_FILTER}] = rawOption{set: (*FD).setICMPFilter, get: (*FD).icmpFilter}
}

// rawSocketOptions is what SetsockoptInt and GetsockoptInt know of SOL_RAW: of
// IPv6 the same as IPPROTO_IPV6, but there also for ICMP.
var rawSocketOptions = map[int]option{IPV6_CHECKSUM: {(*FD).setChecksum, (*FD).checksum}}

func (f *FD) setHeaderIncluded(v int) error {
	return f.ofRaw(func(d *stack.Datagram) error { return d.SetHeaderIncluded(v != 0) })
}

func (f *FD) headerIncluded() (n int, err error) {
	err = f.ofRaw(func(d *stack.Datagram) error {
		on, err := d.HeaderIncluded()
		n = b2i(on)
		return err
	})
	return n, err
}

func (f *FD) ofRaw(do func(*stack.Datagram) error) error {
	if f.dgram == nil {
		return syscall.ENOPROTOOPT
	}
	return do(f.dgram)
}

// setChecksum6 leaves ICMP's checksum where it is (RFC 3542 §3.1).
func (f *FD) setChecksum6(v int) error {
	if f.typ == SOCK_RAW && f.proto == IPPROTO_ICMPV6 {
		return syscall.EINVAL
	}
	return f.setChecksum(v)
}

func (f *FD) setChecksum(v int) error {
	return f.ofRaw(func(d *stack.Datagram) error { return d.SetChecksumOffset(v) })
}

func (f *FD) checksum() (n int, err error) {
	err = f.ofRaw(func(d *stack.Datagram) error {
		n, err = d.ChecksumOffset()
		return err
	})
	return n, err
}

// icmpFilterLen is the size of struct icmp_filter, or of icmp6_filter.
func (f *FD) icmpFilterLen() int {
	if f.domain == AF_INET6 {
		return 32
	}
	return 4
}

// setICMPFilter takes as much as there is of the struct, as Linux does.
func (f *FD) setICMPFilter(b []byte) error {
	blocked, err := f.dgram.ICMPFilter()
	if err != nil {
		return err
	}
	var all [32]byte
	for i, v := range blocked {
		binary.NativeEndian.PutUint32(all[4*i:], v)
	}
	copy(all[:f.icmpFilterLen()], b)
	for i := range blocked {
		blocked[i] = binary.NativeEndian.Uint32(all[4*i:])
	}
	return f.dgram.SetICMPFilter(blocked)
}

func (f *FD) icmpFilter() (b []byte, err error) {
	blocked, err := f.dgram.ICMPFilter()
	for _, v := range blocked {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b[:f.icmpFilterLen()], err
}

// SetICMPFilter keeps ICMP messages from a raw socket whose type has its bit set
// in blocked: of IPv4 the first 32 types (ICMP_FILTER), of IPv6 all (ICMP6_FILTER,
// RFC 3542 §3.2, where a set bit is also one that is blocked). Errors: ENOPROTOOPT
// when the socket is not raw, EOPNOTSUPP when it is not for ICMP.
func (f *FD) SetICMPFilter(blocked [8]uint32) error {
	return f.ofRaw(func(d *stack.Datagram) error { return d.SetICMPFilter(blocked) })
}
