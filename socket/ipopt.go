package socket

// This file owns the options of IPPROTO_IP, IPPROTO_IPV6 and SOL_UDP whose
// value is an int.

import (
	"syscall"

	"github.com/tapstack/tapstack/tcp"
)

// Options of IPPROTO_IP and IPPROTO_IPV6, with Linux's numbers.
const (
	IP_TOS = 1
	IP_TTL = 2

	IPV6_UNICAST_HOPS = 16
	IPV6_V6ONLY       = 26
	IPV6_TCLASS       = 67
)

// ipOptions is what SetsockoptInt and GetsockoptInt know of IPPROTO_IP.
var ipOptions = map[int]option{
	IP_TOS: {(*FD).setTOS, (*FD).tos},
	IP_TTL: {(*FD).setHops, (*FD).hops},
}

// ip6Options is the same for IPPROTO_IPV6.
var ip6Options = map[int]option{
	IPV6_TCLASS:       {(*FD).setClass, (*FD).tos},
	IPV6_UNICAST_HOPS: {(*FD).setHops, (*FD).hops},
	IPV6_V6ONLY: {
		func(f *FD, v int) error { return f.SetV6Only(v != 0) },
		func(f *FD) (int, error) { return b2i(f.isOnly6()), nil },
	},
}

// udpOptions is the same for SOL_UDP.
var udpOptions = map[int]option{}

// setTOS sets the DS field of the IP header; that of a datagram has the ECN
// field as well.
func (f *FD) setTOS(v int) error {
	err := f.setKnob(tcp.KnobTOS, v)
	if f.dgram != nil && err == nil {
		f.dgram.SetTOS(uint8(v))
	}
	return err
}

// setClass is setTOS with the values that IPv6 takes; -1 is the default.
func (f *FD) setClass(v int) error {
	if v < -1 || v > 255 {
		return syscall.EINVAL
	}
	return f.setTOS(max(v, 0))
}

func (f *FD) tos() (int, error) {
	if f.dgram != nil {
		return int(f.dgram.TOS()), nil
	}
	return f.getKnob(tcp.KnobTOS)
}

// setHops sets the TTL or hop limit.
func (f *FD) setHops(v int) error {
	err := f.setKnob(tcp.KnobHops, v)
	if f.dgram != nil && err == nil {
		f.dgram.SetHops(uint8(max(v, 0)))
	}
	return err
}

func (f *FD) hops() (int, error) { return f.getKnob(tcp.KnobHops) }
