package socket

// This file owns the options of IPPROTO_IP, IPPROTO_IPV6 and SOL_UDP whose
// value is an int, and those of SOL_SOCKET that only datagrams have. What they
// do is in package stack, in dgramset.go; those that ask for control messages
// are bits that message.go reads.

import (
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// Options and control messages of IPPROTO_IP, IPPROTO_IPV6, SOL_UDP and
// SOL_SOCKET, with Linux's numbers.
const (
	IP_TOS                    = 1
	IP_TTL                    = 2
	IP_OPTIONS                = 4 // bytes
	IP_RECVOPTS               = 6 // control message: options as received
	IP_RETOPTS                = 7 // and those of an answer; sent, those to send with
	IP_PKTINFO                = 8
	IP_MTU_DISCOVER           = 10
	IP_RECVERR                = 11
	IP_RECVTTL                = 12
	IP_RECVTOS                = 13
	IP_MTU                    = 14 // read only
	IP_FREEBIND               = 15
	IP_TRANSPARENT            = 19
	IP_RECVORIGDSTADDR        = 20
	IP_ORIGDSTADDR            = 20 // the control message
	IP_BIND_ADDRESS_NO_PORT   = 24
	IP_RECVERR_RFC4884        = 26 // IP_RECVERR says where extensions are
	IP_MULTICAST_IF           = 32 // struct in_addr, ip_mreq or ip_mreqn
	IP_MULTICAST_TTL          = 33
	IP_MULTICAST_LOOP         = 34
	IP_ADD_MEMBERSHIP         = 35 // struct ip_mreq or ip_mreqn
	IP_DROP_MEMBERSHIP        = 36
	IP_UNBLOCK_SOURCE         = 37 // struct ip_mreq_source
	IP_BLOCK_SOURCE           = 38
	IP_ADD_SOURCE_MEMBERSHIP  = 39
	IP_DROP_SOURCE_MEMBERSHIP = 40
	MCAST_JOIN_GROUP          = 42 // struct group_req, of either family
	MCAST_BLOCK_SOURCE        = 43 // struct group_source_req
	MCAST_UNBLOCK_SOURCE      = 44
	MCAST_LEAVE_GROUP         = 45
	MCAST_JOIN_SOURCE_GROUP   = 46
	MCAST_LEAVE_SOURCE_GROUP  = 47
	IP_MULTICAST_ALL          = 49

	IPV6_FLOWINFO         = 11
	IPV6_UNICAST_HOPS     = 16
	IPV6_MULTICAST_IF     = 17
	IPV6_MULTICAST_HOPS   = 18
	IPV6_MULTICAST_LOOP   = 19
	IPV6_JOIN_GROUP       = 20 // struct ipv6_mreq
	IPV6_LEAVE_GROUP      = 21
	IPV6_MTU_DISCOVER     = 23
	IPV6_MTU              = 24 // read only
	IPV6_RECVERR          = 25
	IPV6_V6ONLY           = 26
	IPV6_MULTICAST_ALL    = 29
	IPV6_RECVERR_RFC4884  = 31
	IPV6_RECVPKTINFO      = 49
	IPV6_PKTINFO          = 50 // the control message
	IPV6_RECVHOPLIMIT     = 51
	IPV6_HOPLIMIT         = 52 // the control message
	IPV6_RECVHOPOPTS      = 53
	IPV6_HOPOPTS          = 54 // bytes, and the control message
	IPV6_RTHDRDSTOPTS     = 55 // bytes, and the control message
	IPV6_RECVRTHDR        = 56
	IPV6_RTHDR            = 57 // likewise
	IPV6_RECVDSTOPTS      = 58
	IPV6_DSTOPTS          = 59 // bytes, and the control message
	IPV6_RECVPATHMTU      = 60
	IPV6_PATHMTU          = 61 // struct ip6_mtuinfo: read only, and the control message
	IPV6_DONTFRAG         = 62
	IPV6_USE_MIN_MTU      = 63
	IPV6_RECVTCLASS       = 66
	IPV6_TCLASS           = 67
	IPV6_AUTOFLOWLABEL    = 70
	IPV6_ADDR_PREFERENCES = 72
	IPV6_RECVORIGDSTADDR  = 74
	IPV6_ORIGDSTADDR      = 74 // the control message
	IPV6_TRANSPARENT      = 75
	IPV6_FREEBIND         = 78

	UDP_CORK    = 1
	UDP_SEGMENT = 103
	UDP_GRO     = 104

	SO_DONTROUTE   = 5
	SO_TIMESTAMP   = 29
	SO_TIMESTAMPNS = 35
	SO_RXQ_OVFL    = 40
)

// ipOptions is what SetsockoptInt and GetsockoptInt know of IPPROTO_IP.
var ipOptions = map[int]option{
	IP_TOS: {(*FD).setTOS, (*FD).tos},
	IP_TTL: {
		func(f *FD, v int) error { return f.setHops(stack.DatagramTTL, v) },
		func(f *FD) (int, error) { return f.hops(stack.DatagramTTL) },
	},
	IP_PKTINFO:              wanted(wantPktInfo),
	IP_RECVOPTS:             wanted(wantOptions),
	IP_RETOPTS:              wanted(wantReplyOptions),
	IP_RECVTTL:              wanted(wantTTL),
	IP_RECVTOS:              wanted(wantTOS),
	IP_RECVORIGDSTADDR:      wanted(wantOrigDst),
	IP_MTU_DISCOVER:         ofDatagram(stack.DatagramMTUDiscover),
	IP_RECVERR:              onOff(stack.DatagramErrors),
	IP_RECVERR_RFC4884:      strictOnOff(stack.DatagramRFC4884),
	IP_MTU:                  {get: (*FD).pathMTU},
	IP_FREEBIND:             onOff(stack.DatagramFreebind),
	IP_TRANSPARENT:          onOff(stack.DatagramTransparent),
	IP_BIND_ADDRESS_NO_PORT: onOff(stack.DatagramNoPort),
	IP_MULTICAST_TTL:        ofDatagram(stack.DatagramGroupTTL),
	IP_MULTICAST_LOOP:       onOff(stack.DatagramLoop),
	IP_MULTICAST_ALL:        strictOnOff(stack.DatagramAll),
}

// ip6Options is the same for IPPROTO_IPV6.
var ip6Options = map[int]option{
	IPV6_TCLASS: {(*FD).setClass, (*FD).class},
	IPV6_UNICAST_HOPS: {
		func(f *FD, v int) error { return f.setHops(stack.DatagramHops, v) },
		func(f *FD) (int, error) { return f.hops(stack.DatagramHops) },
	},
	IPV6_V6ONLY: {
		func(f *FD, v int) error { return f.SetV6Only(v != 0) },
		func(f *FD) (int, error) { return b2i(f.isOnly6()), nil },
	},
	IPV6_RECVPKTINFO:      wanted(wantPktInfo6),
	IPV6_RECVHOPLIMIT:     wanted(wantHops6),
	IPV6_RECVTCLASS:       wanted(wantClass6),
	IPV6_FLOWINFO:         wanted(wantFlow6),
	IPV6_RECVORIGDSTADDR:  wanted(wantOrigDst6),
	IPV6_MTU_DISCOVER:     ofDatagram(stack.DatagramMTUDiscover6),
	IPV6_DONTFRAG:         onOff(stack.DatagramDontFrag),
	IPV6_RECVHOPOPTS:      keepsHeaders(wantHopOpts),
	IPV6_RECVDSTOPTS:      keepsHeaders(wantDstOpts),
	IPV6_RECVRTHDR:        keepsHeaders(wantRouting),
	IPV6_RECVPATHMTU:      onOff(stack.DatagramPathMTU),
	IPV6_USE_MIN_MTU:      ofDatagram(stack.DatagramMinMTU),
	IPV6_AUTOFLOWLABEL:    onOff(stack.DatagramFlowLabels),
	IPV6_ADDR_PREFERENCES: {(*FD).setPreferences, (*FD).preferences},
	IPV6_RECVERR:          onOff(stack.DatagramErrors6),
	IPV6_RECVERR_RFC4884:  strictOnOff(stack.DatagramRFC4884v6),
	IPV6_MTU:              {get: (*FD).pathMTU},
	IPV6_FREEBIND:         onOff(stack.DatagramFreebind),
	IPV6_TRANSPARENT:      onOff(stack.DatagramTransparent),
	IPV6_MULTICAST_HOPS:   ofDatagram(stack.DatagramGroupHops),
	IPV6_MULTICAST_LOOP:   strictOnOff(stack.DatagramLoop6),
	IPV6_MULTICAST_ALL:    onOff(stack.DatagramAll6),
	IPV6_MULTICAST_IF:     {(*FD).setGroupInterface6, (*FD).groupInterface6},
}

// udpOptions is the same for SOL_UDP.
var udpOptions = map[int]option{
	UDP_CORK: onOff(stack.DatagramCork),
	UDP_SEGMENT: {
		func(f *FD, v int) error { return f.SetSegmentSize(v) },
		func(f *FD) (int, error) { return f.dgram.SegmentSize(), nil },
	},
	UDP_GRO: {
		func(f *FD, v int) error { return f.SetReceiveSegments(v != 0) },
		func(f *FD) (int, error) { return b2i(f.dgram.ReceiveSegments()), nil },
	},
}

func init() {
	socketOptions[SO_DONTROUTE] = onOff(stack.DatagramDontRoute)
	socketOptions[SO_TIMESTAMP] = stamp(wantTime, wantTimeNS)
	socketOptions[SO_TIMESTAMPNS] = stamp(wantTimeNS, wantTime)
	socketOptions[SO_RXQ_OVFL] = wanted(wantLost)
}

// ofDatagram is an option of a datagram socket that is a number.
func ofDatagram(o stack.DatagramOption) option {
	return option{
		func(f *FD, v int) error { return f.setDatagram(o, v) },
		func(f *FD) (int, error) { return f.getDatagram(o) },
	}
}

// onOff is one that any number but 0 turns on.
func onOff(o stack.DatagramOption) option {
	return option{
		func(f *FD, v int) error { return f.setDatagram(o, b2i(v != 0)) },
		func(f *FD) (int, error) { return f.getDatagram(o) },
	}
}

// strictOnOff is one that takes nothing but 0 and 1.
func strictOnOff(o stack.DatagramOption) option { return ofDatagram(o) }

// wanted is an option that asks for a control message.
func wanted(bit uint32) option {
	return option{
		func(f *FD, v int) error { return f.setWanted(bit, 0, v) },
		func(f *FD) (int, error) { return f.getWanted(bit) },
	}
}

// stamp is one of the two that exclude each other; to turn either off turns off
// both, as on Linux.
func stamp(bit, other uint32) option {
	return option{
		func(f *FD, v int) error { return f.setWanted(bit, other, v) },
		func(f *FD) (int, error) { return f.getWanted(bit) },
	}
}

func (f *FD) setDatagram(o stack.DatagramOption, v int) error {
	if f.dgram == nil {
		return syscall.ENOPROTOOPT
	}
	return f.dgram.Set(o, v)
}

func (f *FD) getDatagram(o stack.DatagramOption) (int, error) {
	if f.dgram == nil {
		return 0, syscall.ENOPROTOOPT
	}
	return f.dgram.Option(o), nil
}

func (f *FD) setWanted(bit, other uint32, v int) error {
	switch {
	case f.dgram == nil:
		return syscall.ENOPROTOOPT
	case v != 0:
		f.want.And(^other)
		f.want.Or(bit)
	default:
		f.want.And(^(bit | other))
	}
	return nil
}

func (f *FD) getWanted(bit uint32) (int, error) {
	if f.dgram == nil {
		return 0, syscall.ENOPROTOOPT
	}
	return b2i(f.want.Load()&bit != 0), nil
}

// setTOS sets the DS field of the IP header; that of a datagram has the ECN
// field as well.
func (f *FD) setTOS(v int) error {
	if f.dgram != nil {
		return f.setDatagram(stack.DatagramTOS, v&0xff)
	}
	return f.setKnob(tcp.KnobTOS, v)
}

func (f *FD) tos() (int, error) {
	if f.dgram != nil {
		return f.getDatagram(stack.DatagramTOS)
	}
	return f.getKnob(tcp.KnobTOS)
}

// setClass is setTOS with the values that IPv6 takes; -1 is the default.
func (f *FD) setClass(v int) error {
	switch {
	case v < -1 || v > 255:
		return syscall.EINVAL
	case f.dgram != nil:
		return f.setDatagram(stack.DatagramClass, v)
	}
	return f.setKnob(tcp.KnobTOS, max(v, 0))
}

func (f *FD) class() (int, error) {
	if f.dgram != nil {
		return f.getDatagram(stack.DatagramClass)
	}
	return f.getKnob(tcp.KnobTOS)
}

// setHops sets the TTL or hop limit, of which a datagram socket has one for each
// family.
func (f *FD) setHops(o stack.DatagramOption, v int) error {
	if f.dgram != nil {
		return f.setDatagram(o, v)
	}
	return f.setKnob(tcp.KnobHops, v)
}

// defaultHops is what is shown where nothing was set, as on Linux.
const defaultHops = 64

func (f *FD) hops(o stack.DatagramOption) (int, error) {
	if f.dgram == nil {
		return f.getKnob(tcp.KnobHops)
	}
	n, err := f.getDatagram(o)
	if n < 0 {
		n = defaultHops
	}
	return n, err
}

func (f *FD) pathMTU() (int, error) {
	if f.dgram == nil {
		return 0, syscall.ENOPROTOOPT
	}
	return f.dgram.PathMTU()
}
