package stack

// This file owns how a UDP datagram finds its sockets (RFC 768, RFC 1122
// §4.1); the sockets are in datagram.go.

import (
	"net/netip"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/udp"
)

// lookupUDP returns the socket that a datagram from remote to local is for.
func (s *Stack) lookupUDP(local, remote netip.AddrPort, in *Interface) (best *Datagram) {
	score := 0
	list := s.udp.on(local.Port())
	for _, d := range list {
		// The last who bound it, as in Linux.
		if n := d.fits(local, remote, in); n > 0 && n >= score {
			best, score = d, n
		}
	}
	if len(list) <= 1 || score == 0 || score > connectedFit {
		return best
	}
	return balanced(list, best, s.peerHash(local, remote), func(d *Datagram) bool { return d.fits(local, remote, in) == score })
}

// inputUDP is the step from IP to UDP (RFC 768, RFC 1122 §4.1). It borrows p.
func (s *Stack) inputUDP(b *batch, p packet) {
	st := &s.stats.UDP
	if p.dst.Is6() && s.tentative(p) {
		st.Input.inc()
		return
	}
	h, payload, drop := udp.Parse(p.Bytes())
	if drop != udp.DropNone {
		st.Input.inc()
		st.Parse[drop].inc()
		return
	}
	size := segmentSize(p.Buf, len(payload))
	st.Input.Add(uint64(datagrams(len(payload), size)))
	if p.Csum == pkt.CsumNone && !udp.ChecksumOK(p.Bytes()[:udp.HeaderLen+len(payload)], p.src, p.dst) {
		st.Drop[DropBadChecksum].inc()
		return
	}
	local := netip.AddrPortFrom(p.dst, h.DstPort())
	remote := netip.AddrPortFrom(p.src, h.SrcPort())
	from := remote
	if p.src.IsLinkLocalUnicast() && p.src.Is6() {
		from = netip.AddrPortFrom(p.src.WithZone(p.iface.name), h.SrcPort())
	}
	if p.group {
		s.inputUDPGroup(p, payload, size, local, remote, from)
		return
	}
	d := s.lookupUDP(local, remote, p.iface)
	if d == nil && s.probeInput(probeUDP, h.DstPort(), p) {
		return
	}
	if d == nil {
		st.Drop[DropNoSocket].inc()
		if !p.Group {
			s.unreachable(b.now, p, unreachPort)
		}
		return
	}
	d.input(p, payload, size, from)
}

// inputUDPGroup gives a multicast or broadcast datagram to every socket that
// is bound to its port (RFC 1122 §4.1.3.5); nobody answers for nobody.
func (s *Stack) inputUDPGroup(p packet, payload []byte, size int, local, remote, from netip.AddrPort) {
	n := 0
	for _, d := range s.udp.on(local.Port()) {
		// Sockets on the address itself or on the wildcard.
		if d.fits(local, remote, p.iface) > 0 && (!p.dst.IsMulticast() || d.hears(p.dst, p.src, p.iface)) {
			d.input(p, payload, size, from)
			n++
		}
	}
	if n == 0 {
		s.stats.UDP.Drop[DropNoSocket].inc()
	}
}
