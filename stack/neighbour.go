package stack

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// neighHost is the interface as its neighbour caches see it. Its methods run
// with Interface.mu held.
type neighHost Interface

// Solicit implements neigh.Host: an ARP request or a neighbour solicitation.
// Both come from the address that the packet which waits comes from, if it may
// (RFC 4861 §7.2.2; for ARP see ARPConfig.Announce).
func (h *neighHost) Solicit(target netip.Addr, to [6]byte, unicast bool, waits *pkt.Buf) {
	i := (*Interface)(h)
	c := i.stack.cfg.Load()
	var src, prompt netip.Addr
	if waits != nil {
		prompt = sourceOf(waits.Network())
	}
	if target.Is4() {
		src = i.askAs(c, target, prompt)
	} else if x := c.addrOf(prompt, i); x != nil && x.state != addrTentative && !x.optimistic {
		src = prompt
	} else if src = c.selectSource(target, i, target); c.isOptimistic(src, i) {
		src = c.certain(i).selectSource(target, i, target)
	}
	if !src.IsValid() {
		return
	}
	if target.Is4() {
		dst := ether.Broadcast
		if unicast && !src.IsLinkLocalUnicast() {
			dst = ether.Addr(to)
		}
		i.stack.stats.ARP.Request.inc()
		i.sendARP(arp.OpRequest, dst, src, ether.Addr{}, target)
		return
	}
	// RFC 4861 §7.2.2: to the solicited-node group, or to the neighbour when
	// probing; always with our own link-layer address.
	dst, mac := ipv6.SolicitedNode(target), ether.Addr(to)
	if unicast {
		dst = target
	} else {
		mac = ether.Multicast(dst)
	}
	m := ipv6.NeighborSolicit{Target: target, SourceMAC: i.mac, HasMAC: true}
	i.stack.stats.ND.Solicit.inc()
	var scratch ndScratch
	i.sendND(mac, src, dst, m.Append(scratch[:0]))
}

// Resolved implements neigh.Host: the frames that waited may go. It takes
// them.
func (h *neighHost) Resolved(mac [6]byte, queued []*pkt.Buf) {
	i := (*Interface)(h)
	tx := newTx(i)
	for _, p := range queued {
		i.frame(p, ether.Addr(mac))
		tx.add(p)
	}
	tx.done()
}

// Failed implements neigh.Host: the senders get EHOSTUNREACH, once the lock
// is released. It takes the frames.
func (h *neighHost) Failed(target netip.Addr, queued []*pkt.Buf) {
	i := (*Interface)(h)
	i.failed = append(i.failed, unresolved{target, queued})
	h.Unreachable(target)
}

// Unreachable implements neigh.Host: where a router that we were redirected to
// has stopped answering, the routes hold again (RFC 1122 §3.3.1.4).
func (h *neighHost) Unreachable(target netip.Addr) {
	i := (*Interface)(h)
	if i.stack.exceptions.gatewayGone(target, i) {
		i.after = append(i.after, i.stack.refreshRoutes)
	}
}

// Judged implements neigh.Host.
func (h *neighHost) Judged(target netip.Addr, mac [6]byte, taken bool) {
	if !taken && target.Is4() {
		h.stack.stats.ARP.Drop[arp.DropRefuted].inc()
	}
}

// sourceOf returns the source address in an IP header.
func sourceOf(b []byte) netip.Addr {
	switch {
	case len(b) >= ipv4.HeaderLen && b[0]>>4 == 4:
		return ipv4.Header(b).Src()
	case len(b) >= ipv6.HeaderLen && b[0]>>4 == 6:
		return ipv6.Header(b).Src()
	}
	return netip.Addr{}
}

// reportUnresolved tells the senders of packets that their neighbour does not
// answer, as the ICMP error would that Linux sends to itself.
func (i *Interface) reportUnresolved(u unresolved) {
	for _, p := range u.frames {
		i.stack.dropOut(u.target, DropNoNeighbour)
		i.stack.localError(p, syscall.EHOSTUNREACH)
		p.Put()
	}
}

// sendNow gives one frame to the device, outside any batch. It takes p.
func (i *Interface) sendNow(p *pkt.Buf) {
	if i.isOff() {
		i.stack.stats.Ether.Drop[DropLinkDown].inc()
		p.Put()
		return
	}
	tx := newTx(i)
	tx.add(p)
	tx.done()
}

func (i *Interface) sendARP(op uint16, dst ether.Addr, sip netip.Addr, tmac ether.Addr, tip netip.Addr) {
	p := pkt.Get(arp.PacketLen)
	arp.Put(p.Append(arp.PacketLen), op, i.mac, sip, tmac, tip)
	ether.Put(p.Push(ether.HeaderLen), dst, i.mac, ether.TypeARP)
	i.sendNow(p)
}

// inputARP handles an ARP packet (RFC 826, RFC 5227). It borrows p.
func (i *Interface) inputARP(b *batch, p *pkt.Buf, from ether.Addr) {
	st := &i.stack.stats.ARP
	st.Input.inc()
	a, drop := arp.Parse(p.Bytes())
	if drop == arp.DropNone && i.loopback {
		return
	}
	if drop != arp.DropNone {
		st.Drop[drop].inc()
		return
	}
	c := i.stack.cfg.Load()
	v := arp.Decide(a, i.mac, func(ip netip.Addr) arp.Ownership {
		switch x := c.byAddr[ip]; {
		case x == nil:
			return arp.NotOurs
		case x.state == addrTentative:
			return arp.Tentative
		}
		return arp.Assigned
	})
	v = i.judgeARP(c, a, v)
	if v.Drop != arp.DropNone {
		st.Drop[v.Drop].inc()
	}
	if v.Conflict {
		st.Conflict.inc()
	}
	i.enter(b.now)
	sip, smac := a.SenderIP(), a.SenderMAC()
	if v.Conflict {
		i.conflictLocked(v.Addr)
	}
	if v.Learn == arp.LearnUpdate && i.acceptsARP(c, a) && !i.neigh[inet].Knows(sip) {
		i.neigh[inet].Solicited(b.now, sip, smac, true)
	}
	switch {
	case v.Confirm:
		i.neigh[inet].Advertised(b.now, sip, smac, true, true, true, false)
	case v.Learn == arp.LearnCreate:
		i.neigh[inet].Solicited(b.now, sip, smac, true)
	case v.Learn == arp.LearnUpdate && a.IsUpdate():
		i.neigh[inet].Announced(b.now, sip, smac)
	case v.Learn == arp.LearnUpdate:
		// Not asked for: a fresh answer to a question of ours goes first.
		i.neigh[inet].Advertised(b.now, sip, smac, true, false, true, false)
	}
	i.leave()
	if v.Reply {
		st.Reply.inc()
		dst := smac
		if a.TargetIP().IsLinkLocalUnicast() {
			// RFC 3927 §2.5: all ARP packets from such addresses are broadcast, so
			// that a conflict is noticed by both sides wherever it lies.
			dst = ether.Broadcast
		}
		i.sendARP(arp.OpReply, dst, a.TargetIP(), smac, sip)
	}
}

// sendProbeLocked asks whether anybody has the address we want.
func (i *Interface) sendProbeLocked(a netip.Addr) {
	if a.Is4() {
		// RFC 5227 §2.1.1: sender address zero, so that no cache is polluted.
		i.stack.stats.ARP.Probe.inc()
		i.sendARP(arp.OpRequest, ether.Broadcast, any4, ether.Addr{}, a)
		return
	}
	// RFC 4862 §5.4.2: from the unspecified address, without our MAC.
	m := ipv6.NeighborSolicit{Target: a, HasNonce: !i.noNonce}
	if m.HasNonce {
		binary.BigEndian.PutUint32(m.Nonce[:], i.rnd.Uint32())
		binary.BigEndian.PutUint16(m.Nonce[4:], uint16(i.rnd.Uint32()))
		i.nonces[a] = m.Nonce
	}
	g := ipv6.SolicitedNode(a)
	i.stack.stats.ND.Solicit.inc()
	var scratch ndScratch
	i.sendND(ether.Multicast(g), any6, g, m.Append(scratch[:0]))
}

// sendAnnounceLocked tells everybody that the address is ours.
func (i *Interface) sendAnnounceLocked(a netip.Addr) {
	if a.Is4() {
		i.stack.stats.ARP.Announce.inc()
		i.sendARP(arp.OpRequest, ether.Broadcast, a, ether.Addr{}, a) // RFC 5227 §2.3
		return
	}
	m := ipv6.NeighborAdvert{Target: a, Override: true, TargetMAC: i.mac, HasMAC: true}
	i.stack.stats.ND.Advert.inc()
	var scratch ndScratch
	i.sendND(allNodesMAC, a, ipv6.AllNodes, m.Append(scratch[:0]))
}

// Confirm tells the neighbour cache that the next hop of a connection is
// alive, because the peer acknowledged something new (RFC 4861 §7.3.1).
func (i *Interface) confirm(now mono.Time, nextHop netip.Addr) {
	if i.ptp {
		return
	}
	i.enter(now)
	i.neigh[family(nextHop)].Confirm(now, nextHop)
	i.leaveBusy()
}

// doubt tells the neighbour cache that nothing comes back from a connection
// whose next hop it is.
func (i *Interface) doubt(now mono.Time, nextHop netip.Addr) {
	i.enter(now)
	i.neigh[family(nextHop)].Doubt(now, nextHop)
	i.leaveBusy()
}
