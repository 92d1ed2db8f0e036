package stack

// This file owns how answers get to a prober: at the five places where a packet
// is about to be refused because no socket wants it. So sockets and connections
// pay nothing for probers, whether there are any or not; and what a prober does
// not know either is answered as it would be without one.

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// ProbeInput is an answer: a packet to a port that a prober has, or an error
// about a packet from it. Checksums have been verified, except of protocols
// that the stack does not speak. The slices alias the packet.
type ProbeInput struct {
	// At is when the frame was read; 0 with Err.
	At        mono.Time
	Interface *Interface // nil with Err
	// From and To are the packet's addresses, without zones. TTL is its hop
	// limit for IPv6.
	From, To netip.Addr
	TTL, TOS uint8
	// Protocol is of the IP header: with Quoted it is ICMP's, otherwise that of
	// the port.
	Protocol uint8
	// SegmentSize, unless 0, says that this is several segments of one connection
	// that the device or the batch has merged, each with so many bytes of data but
	// the last.
	SegmentSize int
	// Network is the packet from the IP header on; Message is what follows the
	// header. A datagram that came in fragments has one header.
	Network, Message []byte
	// Quoted says that Message is an ICMP error about the packet in Quote.
	Quoted bool
	Quote  icmp.Quoted
	// Err is not 0 when the packet in Quote never left: EHOSTUNREACH, the
	// neighbour does not answer; ENETDOWN, the device has gone. It is whole.
	Err syscall.Errno
	// Within is the connection that Adopt was called for when this answers what
	// Remind sends. Without Quoted, Repeated is then the number of the byte that
	// the peer says it has twice, or 0 when it cannot say which.
	Within   *TCPConn
	Repeated uint32
}

// probeInput gives a packet to the prober that has the port, and reports whether
// there is one. It borrows p.
func (s *Stack) probeInput(table int, port uint16, p packet) bool {
	x := s.proberOf(table, port)
	if x == nil || p.dst.Is6() && s.tentative(p) {
		return false
	}
	s.stats.Probe.Input.inc()
	x.handler.ProbeInput(s.arrival(p))
	return true
}

func (s *Stack) arrival(p packet) ProbeInput {
	at := p.At
	if at == 0 {
		at = s.clock.Now() // from ourselves, or put together from fragments
	}
	return ProbeInput{At: at, Interface: p.iface, From: p.src, To: p.dst, TTL: p.hops, TOS: p.tos,
		Protocol: p.proto, SegmentSize: int(p.GSO.SegSize), Network: p.Network(), Message: p.Bytes()}
}

// probeUnknown is probeInput for a packet of a protocol that the stack does not
// speak: SCTP has its ports where TCP has them (RFC 9260 §3.1).
func (s *Stack) probeUnknown(p packet) bool {
	b := p.Bytes()
	return p.proto == protoSCTP && len(b) >= 12 && !p.group && s.probeInput(probeSCTP, binary.BigEndian.Uint16(b[2:]), p)
}

// proberQuoted returns the prober whose packet is quoted, or nil.
func (s *Stack) proberQuoted(q *icmp.Quoted) *Prober {
	table, ok := probeTable(q.Protocol)
	if !ok || len(q.Transport) < 8 || s.probers.Load() == nil {
		return nil
	}
	if table == probeEcho {
		return s.proberOf(table, binary.BigEndian.Uint16(q.Transport[4:]))
	}
	return s.proberOf(table, binary.BigEndian.Uint16(q.Transport))
}

// probeError gives an ICMP error to the prober whose packet it quotes, and
// reports whether there is one. It borrows p.
func (s *Stack) probeError(p packet, q icmp.Quoted) bool {
	x := s.proberQuoted(&q)
	if x == nil {
		return false
	}
	s.stats.Probe.ErrorIn.inc()
	in := s.arrival(p)
	in.Quoted, in.Quote = true, q
	x.handler.ProbeInput(in)
	return true
}

// probeFailed tells a prober that its packet did not leave. It borrows p, which
// starts at its network header.
func (s *Stack) probeFailed(p *pkt.Buf, q icmp.Quoted, errno syscall.Errno) {
	if x := s.proberQuoted(&q); x != nil {
		s.stats.Probe.Failed.inc()
		x.handler.ProbeInput(ProbeInput{From: q.Src, To: q.Dst, Protocol: q.Protocol, Network: p.Network(), Message: q.Transport, Quote: q, Err: errno})
	}
}
