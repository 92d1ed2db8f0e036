package stack

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns what may be set of the host's IPv6, and flow labels
// (RFC 6437): every packet of a flow has the same one, which says nothing of
// the flow's ports to who does not know the host's secret. Nothing is stored
// for it.

// IPv6Config is what an IPv6 host leaves to its owner. The zero value is what
// Linux does.
type IPv6Config struct {
	// Headers bounds the options of packets that are received.
	Headers ipv6.HeaderLimits
	// NoFlowLabels sends label 0 where nobody has asked for another: Linux's
	// auto_flowlabels=0.
	NoFlowLabels bool
	// ReflectFlowLabel says which answers have the label of what they answer, if
	// that has one: Linux's flowlabel_reflect.
	ReflectFlowLabel FlowLabelReflection
	// EchoIgnoreAll and EchoIgnoreMulticast leave echo requests unanswered: all
	// of them, or those that were sent to a group (RFC 4443 §4.2).
	EchoIgnoreAll, EchoIgnoreMulticast bool
}

// FlowLabelReflection is a set of answers, with Linux's numbers.
type FlowLabelReflection uint8

// The answers: those of connections that peers open, from the SYN-ACK on with the
// label of the segment that ended the handshake; resets to segments of no
// connection; replies to echo requests.
const (
	ReflectConnections FlowLabelReflection = 1
	ReflectResets      FlowLabelReflection = 2
	ReflectEchoes      FlowLabelReflection = 4
)

// reflected returns the label of p if such an answer is to have it, else 0.
func (s *Stack) reflected(which FlowLabelReflection, p *packet) uint32 {
	if s.ipv6cfg.ReflectFlowLabel&which == 0 {
		return 0
	}
	return p.flow() & 0xfffff
}

// withLabel gives a route a label, unless that is 0: then it gets one as always,
// as on Linux.
func (r *route) withLabel(l uint32) {
	if l != 0 {
		r.label = label{set: true, value: l}
	}
}

// label is which flow label a packet gets.
type label struct {
	set   bool
	value uint32 // with set: this one
	none  bool   // 0, as nobody wants one made
}

// flowLabel returns the label of a packet with these first bytes of its
// transport header (RFC 6437 §3). Fragments have that of their packet.
func (s *Stack) flowLabel(r *route, proto uint8, transport []byte) uint32 {
	switch {
	case r.label.set:
		return r.label.value
	case r.label.none || s.ipv6cfg.NoFlowLabels:
		return 0
	}
	var ports uint32
	switch {
	case len(transport) < 8:
	case proto == ipv4.ProtoTCP || proto == ipv4.ProtoUDP:
		ports = binary.BigEndian.Uint32(transport)
	case proto == ipv6.ProtoICMPv6:
		// Errors and neighbour discovery are no flows.
		if transport[0] != icmp.TypeEcho6 && transport[0] != icmp.TypeEchoReply6 {
			return 0
		}
		ports = uint32(binary.BigEndian.Uint16(transport[4:]))
	}
	n := uint32(tcp.PortHash(s.secret, r.src, netip.AddrPortFrom(r.dst, uint16(proto)), ports)) & 0xfffff
	return max(n, 1) // 0 is what was not labelled
}

// ignoresEcho reports whether an echo request is left unanswered.
func (c *IPv6Config) ignoresEcho(group bool) bool {
	return c.EchoIgnoreAll || c.EchoIgnoreMulticast && group
}
