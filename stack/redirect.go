package stack

// This file owns redirects: a router's word that another one is nearer to a
// destination (RFC 792, RFC 1122 §3.2.2.2, RFC 4861 §8). Both families use the
// same rule of whom to believe, and the same store.

import (
	"net/netip"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// inputRedirect4 takes an ICMPv4 redirect. Its four codes mean the same to a
// host: the destination that is quoted (RFC 1122 §3.2.2.2).
func (s *Stack) inputRedirect4(now mono.Time, p packet, m icmp.Message) {
	q, ok := icmp.ParseQuoted(m.Body, false)
	if !ok {
		s.stats.ICMP.Parse[icmp.DropShort].inc()
		return
	}
	gateway := netip.AddrFrom4(m.Rest)
	if m.Code > icmp.CodeRedirectTOSHost4 || p.group || p.Group || !p.iface.acceptRedirect(now, p.src, q, q.Dst, gateway) {
		s.stats.ICMP.Drop[DropRedirect].inc()
	}
}

// inputRedirect6 takes one of neighbour discovery (RFC 4861 §8.3). It need not
// quote what it is about.
func (i *Interface) inputRedirect6(now mono.Time, src netip.Addr, m *ipv6.Redirect) {
	s := i.stack
	q := icmp.Quoted{V6: true, Dst: m.Destination}
	if len(m.Quoted) > 0 {
		var ok bool
		if q, ok = icmp.ParseQuoted(m.Quoted, true); !ok {
			s.stats.ICMP.Parse[icmp.DropShort].inc()
			return
		}
	}
	if !i.acceptRedirect(now, src, q, m.Destination, m.Target) {
		s.stats.ICMP.Drop[DropRedirect].inc()
		return
	}
	i.enter(now)
	defer i.leave()
	c := i.neigh[inet6]
	if m.HasMAC {
		c.Solicited(now, m.Target, m.TargetMAC, true)
	}
	if m.Target != m.Destination {
		c.SetRouter(m.Target, true)
	}
}

// acceptRedirect decides whether to believe from, a router, that packets to dst
// are better given to gateway, and remembers it if so. q is the packet that the
// router quotes. It reports false when the message is refused:
//
//   - the interface does not accept redirects (Linux's accept_redirects);
//   - it does not come from the router that such packets are given to now, by
//     the interface by which they leave (RFC 1122 §3.2.2.2, RFC 4861 §8.1);
//   - the new gateway is not a host of that link (RFC 1122 §3.2.2.2), is this
//     host, or the router itself;
//   - it quotes a packet, as those of IPv4 must, and no socket of ours can have sent what is quoted. For TCP the sequence
//     number must be in flight, as with errors (RFC 5927 §4.1). The RFCs do not
//     ask for that; Linux does for the sockets that it finds.
func (i *Interface) acceptRedirect(now mono.Time, from netip.Addr, q icmp.Quoted, dst, gateway netip.Addr) bool {
	s := i.stack
	c := s.cfg.Load()
	if i.noRedirects || i.loopback || gateway == from || gateway.IsUnspecified() || gateway.IsMulticast() || c.isBroadcast(gateway, i) ||
		dst.IsMulticast() || c.ours(gateway, i) || q.Src.IsValid() && c.local(q.Src, i) == nil || q.Dst != dst {
		return false
	}
	if gateway.Is4() {
		if gateway.As4()[0] == 0 || !c.isNeighbour(gateway, i) {
			return false
		}
	} else if !gateway.IsLinkLocalUnicast() && gateway != dst {
		return false // RFC 4861 §8.1: a router's link-local address, or the destination
	}
	r, err := s.findRoute(dst, q.Src, i)
	if err != nil || r.iface != i || r.nextHop != from || r.nextHop == dst || r.bcast || q.Src.IsValid() && !s.sent(q, i) {
		return false
	}
	// A second redirect replaces the first, but the routes are what both are
	// against.
	hit, err := c.lookup(dst, q.Src, i)
	if err != nil {
		return false
	}
	s.stats.ICMP.Redirect.inc()
	if s.exceptions.redirect(now, dst, hit.nextHop, gateway, i) {
		s.refreshRoutes()
	}
	return true
}

// sent reports whether a socket of ours may have sent a packet that is quoted to
// us.
func (s *Stack) sent(q icmp.Quoted, in *Interface) bool {
	if q.FragOffset != 0 || len(q.Transport) < 8 {
		return false
	}
	if t := s.raws.Load(); t != nil && t.sent(q, in) {
		return true
	}
	port := func(at int) uint16 { return uint16(q.Transport[at])<<8 | uint16(q.Transport[at+1]) }
	local, remote := netip.AddrPortFrom(q.Src, port(0)), netip.AddrPortFrom(q.Final, port(2))
	switch {
	case q.Protocol == ipv4.ProtoTCP:
		c, ok := s.tcp.lookup(fourTuple{local, remote}).(*TCPConn)
		if !ok {
			return false
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.removed && c.core.InWindow(quotedSeq(q.Transport))
	case q.Protocol == ipv4.ProtoUDP:
		return s.lookupUDP(local, remote, in) != nil
	case q.Protocol == ipv4.ProtoICMP && q.Transport[0] == icmp.TypeEcho4, q.Protocol == ipv6.ProtoICMPv6 && q.Transport[0] == icmp.TypeEcho6:
		return s.lookupPing(netip.AddrPortFrom(q.Src, port(4))) != nil
	case q.Protocol == ipv6.ProtoICMPv6:
		// Answers of the host itself. Only neighbours can redirect (RFC 4861
		// §8.1), and they need not quote anything.
		return true
	}
	return false
}

// sent reports whether one of the raw sockets may have sent the quoted packet.
func (t *rawSockets) sent(q icmp.Quoted, in *Interface) bool {
	for _, d := range t.list {
		d.mu.Lock()
		mine := d.takesRawLocked(q.Protocol, q.Src, q.Final, in)
		d.mu.Unlock()
		if mine {
			return true
		}
	}
	return false
}
