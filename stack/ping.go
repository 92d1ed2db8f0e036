package stack

// This file owns what is special about ICMP echo ("ping") sockets: they send
// and receive whole messages, and the identifier is their port.

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// sendPingLocked sends an echo request under our identifier.
func (d *Datagram) sendPingLocked(now mono.Time, r *route, b []byte, hops, tos uint8, df bool) error {
	want, proto := uint8(icmp.TypeEcho4), uint8(ipv4.ProtoICMP)
	if r.dst.Is6() {
		want, proto = icmp.TypeEcho6, ipv6.ProtoICMPv6
	}
	if len(b) < icmp.HeaderLen || b[0] != want || b[1] != 0 {
		return syscall.EINVAL
	}
	p := pkt.From(b)
	q := p.Bytes()
	binary.BigEndian.PutUint16(q[4:], d.local.Port())
	if r.dst.Is4() {
		icmp.SetChecksum4(q)
	} else {
		icmp.SetChecksum6(q, r.src, r.end())
	}
	d.stack.stats.Ping.Output.inc()
	return d.stack.sendOne(now, r, proto, hops, tos, df, p)
}

// lookupPing returns the socket with the echo identifier local.Port().
func (s *Stack) lookupPing(local netip.AddrPort) *Datagram {
	for _, d := range s.ping.on(local.Port()) {
		if h := d.held.Load(); accepts(h.addr, h.both, local.Addr()) > 0 {
			return d
		}
	}
	return nil
}

// inputPing gives an echo reply to the ping socket with its identifier.
func (s *Stack) inputPing(p packet, id uint16) {
	s.stats.Ping.Input.inc()
	d := s.lookupPing(netip.AddrPortFrom(p.dst, id))
	if d == nil && s.probeInput(probeEcho, id, p) {
		return
	}
	if d == nil {
		s.stats.Ping.Drop[DropNoSocket].inc()
		return
	}
	from := netip.AddrPortFrom(p.src, 0)
	if p.src.IsLinkLocalUnicast() && p.src.Is6() {
		from = netip.AddrPortFrom(p.src.WithZone(p.iface.name), 0)
	}
	if d.fits(netip.AddrPortFrom(p.dst, id), from, p.iface) == 0 {
		s.stats.Ping.Drop[DropNoSocket].inc()
		return
	}
	d.input(p, p.Bytes(), 0, from)
}
