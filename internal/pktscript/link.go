package pktscript

import (
	"context"
	"net"
	"net/netip"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack/simnet"
)

// This file owns the link between the script, which speaks IP, and the stack,
// which speaks Ethernet: a device on which every address has one neighbour,
// whose ARP and neighbour discovery it plays.

var (
	hostMAC = ether.Addr{2, 0, 0, 0, 0, 1}
	peerMAC = ether.Addr{2, 0, 0, 0, 0, 2}
)

// link is an ether.Pusher.
type link struct {
	net     *simnet.Net
	caps    ether.Caps
	deliver func(*pkt.Buf)
	idle    func()
	sent    []*frame // what the stack sent, oldest first
	// keep says which packets the script is about; the others vanish.
	keep func(*frame) bool
	// flaw is the first thing about a packet that no script would accept.
	flaw string
}

func (l *link) Caps() ether.Caps { return l.caps }
func (l *link) Addr() ether.Addr { return ether.Addr{} }
func (l *link) Close() error     { return nil }

func (l *link) Receive(context.Context, int, func(*pkt.Buf), func()) error { return net.ErrClosed }

// Attach implements ether.Pusher.
func (l *link) Attach(deliver func(*pkt.Buf), idle func()) bool {
	l.deliver, l.idle = deliver, idle
	return true
}

// Send implements ether.Device.
func (l *link) Send(_ int, frames []*pkt.Buf) (int, error) {
	for _, p := range frames {
		l.take(p.Bytes())
		p.Put()
	}
	return len(frames), nil
}

// take looks at one frame from the stack.
func (l *link) take(b []byte) {
	h, ok := ether.Parse(b)
	if !ok {
		return
	}
	b = b[ether.HeaderLen:]
	switch h.Type() {
	case ether.TypeARP:
		l.takeARP(b)
		return
	case ether.TypeIPv6:
		if l.takeND(b) {
			return
		}
	}
	f, ok := decode(b)
	if !ok {
		return
	}
	f.at = l.net.Now()
	if f.badSum && l.flaw == "" {
		l.flaw = "wrong checksum: > " + f.String()
	}
	if l.keep(f) {
		l.sent = append(l.sent, f)
	}
}

// takeARP answers a request for any address but those of the host itself.
func (l *link) takeARP(b []byte) {
	p, d := arp.Parse(b)
	if d != arp.DropNone || p.Op() != arp.OpRequest || p.IsProbe() || p.IsGratuitous() {
		return
	}
	answer := make([]byte, len(p))
	arp.Reply(answer, p, peerMAC)
	l.later(ether.TypeARP, answer)
}

// takeND answers a neighbour solicitation likewise, and reports whether b was
// neighbour discovery or multicast listener discovery.
func (l *link) takeND(b []byte) bool {
	h, d := ipv6.Parse(b)
	if d != ipv6.DropNone || h.NextHeader() != protoICMP6 {
		return h == nil || d != ipv6.DropNone || h.NextHeader() == 0
	}
	m, bad := icmp.Parse6(b[40:40+h.PayloadLen()], h.Src(), h.Dst())
	if bad != icmp.DropNone {
		return true
	}
	if m.Type == icmp.TypeNS && !h.Src().IsUnspecified() {
		if s, d := ipv6.ParseNeighborSolicit(h, b[40:40+h.PayloadLen()]); d == ipv6.DropNone {
			a := ipv6.NeighborAdvert{Target: s.Target, Solicited: true, Override: true, TargetMAC: peerMAC, HasMAC: true}
			body := a.Append(nil)
			icmp.SetChecksum6(body, s.Target, h.Src())
			f := frame{src: s.Target, dst: h.Src(), ttl: 255}
			l.later(ether.TypeIPv6, f.wrapIP(protoICMP6, body))
		}
	}
	return m.Type >= icmp.TypeMLDQuery
}

// later delivers a packet when the stack is not in the middle of sending.
func (l *link) later(t ether.Type, packet []byte) {
	l.net.At(l.net.Now(), func() { l.inject(t, packet, 0) })
}

// inject gives the stack a packet now. segSize, if not 0, says that it stands
// for segments of that size which the device has merged.
func (l *link) inject(t ether.Type, packet []byte, segSize int) {
	if l.deliver == nil {
		return
	}
	p := pkt.Get(ether.HeaderLen + len(packet))
	ether.Put(p.Append(ether.HeaderLen), hostMAC, peerMAC, t)
	copy(p.Append(len(packet)), packet)
	p.At = l.net.Now()
	if segSize > 0 {
		p.GSO = pkt.GSO{Type: pkt.GSOTCPv4, SegSize: uint16(segSize)}
		if t == ether.TypeIPv6 {
			p.GSO.Type = pkt.GSOTCPv6
		}
	}
	l.deliver(p)
	l.idle()
}

// injectIP gives the stack an IP packet now.
func (l *link) injectIP(packet []byte, segSize int) {
	t := ether.TypeIPv4
	if packet[0]>>4 == 6 {
		t = ether.TypeIPv6
	}
	l.inject(t, packet, segSize)
}

// Default addresses, those of packetdrill.
var (
	local4  = netip.MustParsePrefix("192.168.0.1/16")
	remote4 = netip.MustParseAddr("192.0.2.1")
	local6  = netip.MustParsePrefix("fd3d:fa7b:d17d::1/48")
	remote6 = netip.MustParseAddr("2001:db8::1")
)
