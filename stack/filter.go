package stack

// This file owns what a packet filter of a socket is to the stack, and what one
// does to a datagram. What makes a filter of a program, and checks it, is package
// socket: the stack only asks.

import (
	"net/netip"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/udp"
)

// Filter decides about a packet before it is queued to a socket: how many bytes
// of it are kept, 0 for none, more than there are for all. It borrows b, is
// called from any goroutine with locks held, and must neither block nor call
// the stack.
//
// What b is depends on the socket, as on Linux: the frame for a raw packet
// socket, the packet from its network header on for a cooked one and for raw
// IPv4, from its transport header on for all others.
type Filter func(b []byte) int

// SetFilter lets f decide which datagrams are received, and how much of each;
// nil is all. Its header counts, so that what is left of a datagram is as much
// shorter.
func (d *Datagram) SetFilter(f Filter) {
	if f == nil {
		d.filter.Store(nil)
		return
	}
	d.filter.Store(&f)
}

// filtered asks a filter about a datagram, given from its transport header of
// hdr bytes on, and returns what it leaves of the payload, nil for nothing.
func filtered(f Filter, b, payload []byte, hdr int) []byte {
	n := f(b[:min(len(b), hdr+len(payload))])
	if n <= 0 {
		return nil
	}
	return payload[:min(len(payload), max(n-hdr, 0))]
}

// inputPieces gives a socket with a filter several datagrams that came as one,
// each with a header of its own.
func (d *Datagram) inputPieces(p packet, payload []byte, size int, from netip.AddrPort) {
	head, at := udp.Header(p.Bytes()), p.At
	ip := p.Network()
	ip = ip[:len(ip)-p.Len()] // of all of them
	for len(payload) > 0 {
		piece := payload[:min(size, len(payload))]
		payload = payload[len(piece):]
		q := pkt.Get(len(ip) + udp.HeaderLen + len(piece))
		q.At = at
		copy(q.Append(len(ip)), ip)
		q.MarkNetwork()
		q.Pull(len(ip))
		b := q.Append(udp.HeaderLen + len(piece))
		udp.Put(b, head.SrcPort(), head.DstPort(), len(piece))
		copy(b[udp.HeaderLen:], piece)
		p.Buf = q
		d.input(p, b[udp.HeaderLen:], 0, from)
		q.Put()
	}
}
