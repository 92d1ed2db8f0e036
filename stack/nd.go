package stack

import (
	"net/netip"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
)

// ndScratch is room for a neighbour discovery message that a host sends.
type ndScratch [128]byte

// sendND sends a neighbour discovery message: hop limit 255 (RFC 4861 §3.1),
// to a link-layer address that is known without asking. It borrows body.
func (i *Interface) sendND(mac ether.Addr, src, dst netip.Addr, body []byte) {
	p := pkt.From(body)
	icmp.SetChecksum6(p.Bytes(), src, dst)
	i.sendICMP6Raw(mac, src, dst, 255, ipv6.ProtoICMPv6, p)
}

// sendICMP6Raw puts an IPv6 and an Ethernet header in front of p, which it
// takes.
func (i *Interface) sendICMP6Raw(mac ether.Addr, src, dst netip.Addr, hops, next uint8, p *pkt.Buf) {
	f := ipv6.Fields{NextHeader: next, HopLimit: hops, Src: src, Dst: dst, PayloadLen: p.Len()}
	f.Put(p.Push(ipv6.HeaderLen))
	p.MarkNetwork()
	i.stack.stats.IPv6.Output.inc()
	i.frame(p, mac)
	i.sendNow(p)
}

// inputND handles the ICMPv6 messages of neighbour discovery (RFC 4861) and
// multicast listener discovery (RFC 3810). It borrows p and reports whether
// the message was one of them.
func (s *Stack) inputND(b *batch, p packet, typ uint8) bool {
	st := &s.stats.ND
	i := p.iface
	h, body := ipv6.Header(p.Network()[:ipv6.HeaderLen]), p.Bytes()
	var drop ipv6.Drop
	if p.fragmented && typ >= icmp.TypeRS && typ <= icmp.TypeRedirect6 {
		st.Drop[ipv6.DropFragRange].inc() // RFC 6980 §5: silently ignored
		return true
	}
	switch typ {
	case icmp.TypeNS:
		var m ipv6.NeighborSolicit
		if m, drop = ipv6.ParseNeighborSolicit(h, body); drop == ipv6.DropNone {
			i.inputSolicit(b.now, p, &m)
		}
	case icmp.TypeNA:
		var m ipv6.NeighborAdvert
		if m, drop = ipv6.ParseNeighborAdvert(h, body); drop == ipv6.DropNone {
			i.inputAdvert(b.now, &m)
		}
	case icmp.TypeRA:
		var m ipv6.RouterAdvert
		if m, drop = ipv6.ParseRouterAdvert(h, body); drop == ipv6.DropNone {
			st.RouterAdvert.inc()
			i.inputRouterAdvert(b.now, p.src, &m)
		}
	case icmp.TypeRedirect6:
		var m ipv6.Redirect
		if m, drop = ipv6.ParseRedirect(h, body); drop == ipv6.DropNone {
			i.inputRedirect6(b.now, p.src, &m)
		}
	case icmp.TypeRS:
		s.stats.IPv6.Drop[DropNotForHost].inc() // for routers
	case icmp.TypeMLDQuery, icmp.TypeMLDReport, icmp.TypeMLDDone, icmp.TypeMLD2Report:
		chain, _, _ := s.ipv6cfg.Headers.Walk(p.Network())
		i.inputMembership(b, p, mcast.MLD, chain.RouterAlert)
	default:
		return false
	}
	if drop != ipv6.DropNone {
		st.Drop[drop].inc()
	}
	return true
}

// inputSolicit answers for our addresses (RFC 4861 §7.2.3, §7.2.4) and notices
// another host probing the address that we are probing (RFC 4862 §5.4.3).
func (i *Interface) inputSolicit(now mono.Time, p packet, m *ipv6.NeighborSolicit) {
	i.stack.stats.ND.SolicitIn.inc()
	a := i.stack.cfg.Load().local(m.Target, i)
	if a == nil || a.iface != i {
		i.stack.stats.IPv6.Drop[DropForeignIP].inc()
		return
	}
	dad := p.src.IsUnspecified()
	if a.state == addrTentative || a.optimistic && dad {
		if dad {
			i.enter(now)
			if n, ok := i.nonces[m.Target]; ok && m.HasNonce && n == m.Nonce {
				// Our own solicitation: the link brings back what is sent (RFC
				// 7527 §4.3).
				i.stack.stats.ND.Looped.inc()
			} else {
				i.conflictLocked(m.Target)
			}
			i.leave()
			return
		}
		i.stack.stats.IPv6.Drop[DropForeignIP].inc() // not ours yet (RFC 4862 §5.4.3)
		return
	}
	i.enter(now)
	if m.HasMAC && !dad && !i.ptp {
		i.neigh[inet6].Solicited(now, p.src, m.SourceMAC, true)
	}
	mac, ok := i.neigh[inet6].Lookup(now, p.src)
	i.leave()
	var scratch ndScratch
	advert := ipv6.NeighborAdvert{Target: m.Target, Solicited: !dad, Override: !a.optimistic, TargetMAC: i.mac, HasMAC: !i.ptp}
	reply := advert.Append(scratch[:0])
	i.stack.stats.ND.Advert.inc()
	switch {
	case dad:
		i.sendND(allNodesMAC, m.Target, ipv6.AllNodes, reply)
	case ok:
		i.sendND(ether.Addr(mac), m.Target, p.src, reply)
	case m.HasMAC && !i.ptp:
		// The table has no place for who asks: what it says of itself does for
		// the answer.
		i.sendND(m.SourceMAC, m.Target, p.src, reply)
	default:
		// A solicitation without link-layer address: ours goes through the
		// neighbour cache like any packet, but with hop limit 255.
		q := pkt.From(reply)
		icmp.SetChecksum6(q.Bytes(), m.Target, p.src)
		r, err := i.stack.findRoute(p.src, m.Target, i)
		if err != nil {
			i.stack.dropOut(p.src, DropNoRoute)
			q.Put()
			return
		}
		r.answer = true
		tx := newTx(i)
		i.stack.send(now, tx, &r, ipv6.ProtoICMPv6, 255, 0, false, q)
		tx.done()
	}
}

// inputAdvert is RFC 4861 §7.2.5, and RFC 4862 §5.4.4 for our own addresses.
func (i *Interface) inputAdvert(now mono.Time, m *ipv6.NeighborAdvert) {
	i.stack.stats.ND.AdvertIn.inc()
	own := i.stack.cfg.Load().local(m.Target, i)
	i.enter(now)
	defer i.leave()
	if own != nil && own.iface == i {
		if own.state != addrTentative && !own.optimistic {
			i.stack.stats.ND.Conflict.inc() // it stays, as on Linux
		}
		i.conflictLocked(m.Target)
		return
	}
	if i.neigh[inet6].Advertised(now, m.Target, m.TargetMAC, m.HasMAC, m.Solicited, m.Override, m.Router) && i.slaac != nil {
		i.slaac.RouterGone(now, m.Target)
	}
}

func (i *Interface) inputRouterAdvert(now mono.Time, src netip.Addr, m *ipv6.RouterAdvert) {
	i.enter(now)
	defer i.leave()
	if m.HasMAC && !i.ptp {
		i.neigh[inet6].Solicited(now, src, m.SourceMAC, true)
	}
	i.neigh[inet6].SetRouter(src, true)
	if i.slaac != nil {
		i.routerKnown = m.HasMAC
		i.slaac.Input(now, src, m)
		i.routerKnown = false
	}
}
