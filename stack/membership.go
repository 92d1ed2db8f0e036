package stack

import (
	"net/netip"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// This file owns how an interface's two machines of group membership, IGMP and
// MLD, get their messages, and in what packets theirs leave. They go to the
// link directly: there is no route to choose and no neighbour to ask.

// tosControl is the type of service of IGMP on Linux: internetwork control
// (RFC 791 §3.1).
const tosControl = 0xc0

// igmpRouters is where reports of IGMPv3 go (RFC 3376 §4.2.14), allRouters4
// where leaves do (RFC 2236 §9).
var (
	igmpRouters = netip.AddrFrom4([4]byte{224, 0, 0, 22})
	allRouters4 = netip.AddrFrom4([4]byte{224, 0, 0, 2})
)

// newMembership makes the machine of a family. Those of the loopback interface,
// and of IPv6 where that is off, have nobody to talk to.
func (i *Interface) newMembership(f mcast.Family, c *InterfaceConfig) *mcast.Machine {
	_, quiet := i.dev.(loopDevice)
	m := mcast.Config{Family: f, Rand: i.rnd, Host: (*igmpHost)(i), Silent: quiet, Force: c.IGMPVersion,
		MaxReport: igmpReport(i.MTU())}
	if f == mcast.MLD {
		// An MTU that routers advertise later is not below this one.
		m.Host, m.MaxReport = (*mldHost)(i), ipv6.MinMTU-ipv6.HeaderLen-ipv6.RouterAlertLen
		m.Silent = quiet || i.disableIPv6
		if m.Force = c.MLDVersion; m.Force != 0 {
			m.Force++ // versions are counted as IGMP's
		}
	}
	return mcast.New(m)
}

// inputIGMP handles an IGMP message. It borrows p.
func (s *Stack) inputIGMP(b *batch, p packet) {
	if !p.iface.loopback {
		p.iface.inputMembership(b, p, mcast.IGMP, ipv4.Header(p.header4()).RouterAlert())
	}
}

// inputMembership gives a message to the machine of its family. It borrows p.
func (i *Interface) inputMembership(b *batch, p packet, f mcast.Family, alert bool) {
	st := i.membershipStats(f)
	if p.Looped {
		return // what a program of this host sent
	}
	m, drop := f.Parse(&mcast.Envelope{Src: p.src, Dst: p.dst, Hops: p.hops, RouterAlert: alert}, p.Bytes())
	if drop != mcast.DropNone {
		st.Drop[drop].inc()
		return
	}
	switch m.Kind {
	case mcast.IsQuery:
		st.Query.inc()
		i.enter(b.now)
		i.members[f].Query(b.now, &m.Query)
		i.leave()
	case mcast.IsReport:
		st.Heard.inc()
		i.enter(b.now)
		i.members[f].Heard(m.Group)
		i.leave()
	default:
		st.Ignored.inc()
	}
}

func (i *Interface) membershipStats(f mcast.Family) *membershipCounters {
	if f == mcast.IGMP {
		return &i.stack.stats.IGMP
	}
	return &i.stack.stats.MLD
}

// countSent counts a message that leaves.
func (c *membershipCounters) countSent(leave bool) {
	if leave {
		c.Leave.inc()
		return
	}
	c.Report.inc()
}

// igmpHost is the interface as its IGMP machine sees it, with Interface.mu held.
type igmpHost Interface

// SendReport implements mcast.Host: an IGMPv3 report (RFC 3376 §4.2.14).
func (h *igmpHost) SendReport(records []mcast.Record) {
	h.send(igmpRouters, mcast.IGMP.AppendReport(nil, records), false)
}

// SendOld implements mcast.Host: a report goes to the group itself, a leave to
// all routers (RFC 2236 §9).
func (h *igmpHost) SendOld(version int, leave bool, group netip.Addr) {
	dst := group
	if leave {
		dst = allRouters4
	}
	h.send(dst, mcast.IGMP.AppendOld(nil, version, leave, group), leave)
}

// send gives a message the router alert (RFC 2113), TTL 1, and a source address
// of this interface, or none while it has none (RFC 3376 §4.2.13).
func (h *igmpHost) send(dst netip.Addr, message []byte, leave bool) {
	i := (*Interface)(h)
	c := i.stack.cfg.Load()
	src := c.selectSource4(i, netip.Addr{})
	if a := c.byAddr[src]; a == nil || a.iface != i {
		src = any4
	}
	p := pkt.From(message)
	f := ipv4.Fields{TOS: tosControl, DF: true, TTL: mcast.HopLimit, Protocol: ipv4.ProtoIGMP, Src: src, Dst: dst,
		Options: ipv4.RouterAlert[:], PayloadLen: p.Len()}
	f.Put(p.Push(f.HeaderLen()))
	p.MarkNetwork()
	i.stack.stats.IPv4.Output.inc()
	i.stack.stats.IGMP.countSent(leave)
	i.frame(p, ether.Multicast(dst))
	i.sendNow(p)
}

// mldHost is the interface as its MLD machine sees it, with Interface.mu held.
type mldHost Interface

// SendReport implements mcast.Host: an MLDv2 report to ff02::16 (RFC 3810
// §5.2.14).
func (h *mldHost) SendReport(records []mcast.Record) {
	h.send(ipv6.MLDv2Routers, mcast.MLD.AppendReport(nil, records), false)
}

// SendOld implements mcast.Host: for links whose querier speaks MLDv1. A report
// goes to the group itself, done to all routers (RFC 2710 §4).
func (h *mldHost) SendOld(version int, leave bool, group netip.Addr) {
	dst := group
	if leave {
		dst = ipv6.AllRouters
	}
	h.send(dst, mcast.MLD.AppendOld(nil, version, leave, group), leave)
}

// send gives a message the router alert and hop limit 1 that all of MLD has,
// and the link-local source address, or the unspecified one while that is
// tentative (RFC 3590 §4).
func (h *mldHost) send(dst netip.Addr, message []byte, leave bool) {
	i := (*Interface)(h)
	if i.noIPv6() {
		return
	}
	src := any6
	for _, a := range i.stack.cfg.Load().addrs {
		if a.iface == i && a.addr().Is6() && a.addr().IsLinkLocalUnicast() && a.state != addrTentative {
			src = a.addr()
		}
	}
	p := pkt.From(message)
	icmp.SetChecksum6(p.Bytes(), src, dst)
	ipv6.PutRouterAlertHBH(p.Push(ipv6.RouterAlertLen))
	i.stack.stats.MLD.countSent(leave)
	i.sendICMP6Raw(ether.Multicast(dst), src, dst, mcast.HopLimit, ipv6.ProtoHopByHop, p)
}
