package simnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// This file owns routers, good ones and others: they forward between hosts and
// each other, count the TTL down, choose among paths by a hash of the flow, and
// report errors as they were told to. They have no queues, and do not fragment:
// what is too large is refused whether DF is set or not.

// Router forwards packets. Its fields may be changed between packets.
type Router struct {
	// Addr4 and Addr6 are whom its errors come from.
	Addr4, Addr6 netip.Addr
	// Silent routers report nothing, BlackHole ones not that a packet is too
	// large.
	Silent, BlackHole bool
	// Refuse makes it report that there is no route where there is none.
	Refuse bool
	// Limit is how many errors it reports in a second, 0: all. It counts by the
	// second, as many do.
	Limit int
	// Quote is how many bytes of the packet its errors quote, 0: as many as
	// RFC 1812 §4.3.2.3 and RFC 4443 §2.4 (c) allow.
	Quote int
	// Objects, unless nil, are the extensions of its errors (RFC 4884 §8);
	// Length is the length of the quote that the message names, 0: a router
	// from before RFC 4884, which does not say it and quotes 128 bytes.
	Objects []byte
	Length  int
	// Mangle is given each packet that is forwarded, after its TTL was counted
	// down, and returns it as it goes on, nil to drop it. It may change b. back
	// says that it came in from a router or segment that was connected later
	// than where it goes.
	Mangle func(b []byte, back bool) []byte
	// PerPacket chooses among paths for each packet anew.
	PerPacket bool

	net    *Net
	seed   uint64
	routes []hop
	links  int
	second mono.Time // which the errors below are of
	errors int
	sent   map[string]int
}

// hop is where to go on for a prefix.
type hop struct {
	prefix netip.Prefix
	next   []*link
}

// link is one direction of a connection to a router or a segment.
type link struct {
	to    *Router
	gate  *gate
	delay time.Duration
	mtu   int
	order int // of connecting, at the router it leaves from
	other *link
}

// Router makes a router whose errors come from the addresses.
func (n *Net) Router(addrs ...string) *Router {
	r := &Router{net: n, seed: n.rnd.Uint64(), sent: make(map[string]int)}
	for _, a := range addrs {
		if a := netip.MustParseAddr(a); a.Is4() {
			r.Addr4 = a
		} else {
			r.Addr6 = a
		}
	}
	return r
}

// Errors returns how often it sent an error of a kind, as "11/0".
func (r *Router) Errors(kind string) int { return r.sent[kind] }

// Connect joins two routers by a line of that delay and MTU.
func (r *Router) Connect(o *Router, delay time.Duration, mtu int) {
	a := &link{to: o, delay: delay, mtu: mtu, order: r.links}
	b := &link{to: r, delay: delay, mtu: mtu, order: o.links, other: a}
	a.other = b
	r.links++
	o.links++
	r.routes = append(r.routes, hop{next: []*link{a}})
	o.routes = append(o.routes, hop{next: []*link{b}})
}

// Attach gives the router a port on a segment, as the host with the addresses.
// Hosts there use them as gateways. It returns that host, which answers for the
// addresses.
func (r *Router) Attach(seg *wire.Segment, addrs ...string) *stack.Stack {
	g := &gate{router: r}
	in := &link{gate: g, mtu: 1500, order: r.links}
	in.other = in
	r.links++
	s, _ := r.net.Host(seg, stack.Config{}, func(d ether.Device) ether.Device {
		g.Device, g.link = d, in
		return g
	}, addrs...)
	for _, a := range addrs {
		r.routes = append(r.routes, hop{netip.MustParsePrefix(a).Masked(), []*link{in}})
	}
	return s
}

// Route sends what goes to prefix to one of the routers, all of them connected;
// with several each flow takes one. Without any the packets are dropped.
func (r *Router) Route(prefix string, next ...*Router) {
	h := hop{prefix: netip.MustParsePrefix(prefix)}
	for _, o := range next {
		i := slices.IndexFunc(r.routes, func(x hop) bool { return len(x.next) == 1 && x.next[0].to == o && !x.prefix.IsValid() })
		h.next = append(h.next, r.routes[i].next[0])
	}
	r.routes = append(r.routes, h)
}

// RouteSegment sends what goes to prefix to the router's first segment.
func (r *Router) RouteSegment(prefix string) {
	for _, x := range r.routes {
		if len(x.next) > 0 && x.next[0].gate != nil {
			r.routes = append(r.routes, hop{netip.MustParsePrefix(prefix), x.next})
			return
		}
	}
}

// gate is a router's port on a segment: a host's device, of which the router
// takes what is not for that host.
type gate struct {
	ether.Device
	router *Router
	link   *link
}

// Attach implements ether.Pusher.
func (g *gate) Attach(deliver func(*pkt.Buf), flush func()) bool {
	push := g.Device.(ether.Pusher)
	if deliver == nil {
		return push.Attach(nil, nil)
	}
	return push.Attach(func(p *pkt.Buf) {
		b := p.Bytes()
		h, ok := ether.Parse(b)
		if !ok || h.Dst() != g.Device.Addr() || !g.router.takes(b[ether.HeaderLen:]) {
			deliver(p)
			return
		}
		b = slices.Clone(b[ether.HeaderLen:])
		p.Put()
		g.router.input(b, g.link)
	}, flush)
}

// takes reports whether a packet is to be forwarded.
func (r *Router) takes(b []byte) bool {
	if dst, ok := destination(b); ok {
		return !dst.IsMulticast() && !dst.IsLinkLocalUnicast() && !r.owns(dst)
	}
	return false
}

// owns reports whether an address is of one of the router's ports.
func (r *Router) owns(a netip.Addr) bool {
	for _, h := range r.routes {
		for _, l := range h.next {
			if l.gate != nil && r.net.macs[a] == l.gate.Device.Addr() {
				return true
			}
		}
	}
	return false
}

func destination(b []byte) (netip.Addr, bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[16:20])), true
	case len(b) >= 40 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[24:40])), true
	}
	return netip.Addr{}, false
}

// input takes a packet that came by in.
func (r *Router) input(b []byte, in *link) {
	ttl := &b[8]
	if b[0]>>4 == 6 {
		ttl = &b[7]
	}
	if *ttl <= 1 {
		r.report(b, icmp.TypeTimeExceeded4, icmp.TypeTimeExceeded6, 0, 0)
		return
	}
	*ttl--
	SetIPChecksum(b)
	out := r.choose(b)
	if out == nil {
		if r.Refuse {
			r.report(b, icmp.TypeUnreachable4, icmp.TypeUnreachable6, icmp.CodeHost4, 0)
		}
		return
	}
	if r.Mangle != nil {
		if b = r.Mangle(b, in.order > out.order); b == nil {
			return
		}
	}
	if len(b) > out.mtu {
		if !r.BlackHole {
			r.report(b, icmp.TypeUnreachable4, icmp.TypeTooBig6, icmp.CodeFragNeeded4, out.mtu)
		}
		return
	}
	r.send(b, out)
}

func (r *Router) send(b []byte, out *link) {
	if out.gate != nil {
		out.gate.send(b)
		return
	}
	r.net.After(out.delay, func() { out.to.input(b, out.other) })
}

// send gives a packet to the host that has its destination.
func (g *gate) send(b []byte) {
	dst, _ := destination(b)
	mac, ok := g.router.net.macs[dst]
	if !ok {
		return
	}
	p := pkt.From(b)
	t := ether.TypeIPv4
	if dst.Is6() {
		t = ether.TypeIPv6
	}
	ether.Put(p.Push(ether.HeaderLen), mac, g.Device.Addr(), t)
	g.Device.Send(0, []*pkt.Buf{p})
}

// choose finds where a packet goes on, nil for nowhere.
func (r *Router) choose(b []byte) *link {
	dst, _ := destination(b)
	var best *hop
	for i := range r.routes {
		h := &r.routes[i]
		if h.prefix.IsValid() && h.prefix.Contains(dst) && (best == nil || h.prefix.Bits() > best.prefix.Bits()) {
			best = h
		}
	}
	switch {
	case best == nil || len(best.next) == 0:
		return nil
	case len(best.next) == 1:
		return best.next[0]
	case r.PerPacket:
		return best.next[r.net.rnd.IntN(len(best.next))]
	}
	return best.next[r.hash(b)%uint64(len(best.next))]
}

// hash is of what routers take for a flow: addresses, protocol, the four bytes
// where ports are, and the flow label.
func (r *Router) hash(b []byte) uint64 {
	var key []byte
	if b[0]>>4 == 4 {
		key = append(slices.Clone(b[12:20]), b[9])
		key = append(key, b[20:min(24, len(b))]...)
	} else {
		key = append(slices.Clone(b[8:40]), b[6], b[1]&15, b[2], b[3])
		key = append(key, b[40:min(44, len(b))]...)
	}
	h := r.seed
	for _, c := range key {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>32
}

// report sends an error about b to where it came from.
func (r *Router) report(b []byte, type4, type6, code uint8, mtu int) {
	v6 := b[0]>>4 == 6
	if r.Silent || !v6 && !icmp.MayReport4(b, false) || v6 && !icmp.MayReport6(b, false, false) {
		return
	}
	if now := r.net.now / mono.Time(time.Second); now != r.second {
		r.second, r.errors = now, 0
	}
	if r.errors++; r.Limit > 0 && r.errors > r.Limit {
		return
	}
	n, typ := icmp.QuoteLen4(b), type4
	if v6 {
		n, typ, code = icmp.QuoteLen6(b), type6, 0
	}
	if r.Quote > 0 {
		n = min(r.Quote, len(b))
	}
	var rest [4]byte
	if mtu > 0 && v6 {
		binary.BigEndian.PutUint32(rest[:], uint32(mtu))
	} else if mtu > 0 {
		binary.BigEndian.PutUint16(rest[2:], uint16(mtu))
	}
	body := slices.Clone(b[:n])
	if r.Objects != nil && mtu == 0 {
		at := r.Length
		if at == 0 {
			at = 128
		} else if v6 {
			rest[0] = uint8(at / 8)
		} else {
			rest[1] = uint8(at / 4)
		}
		body = append(body, make([]byte, max(at-n, 0))...)[:at]
		x := append([]byte{2 << 4, 0, 0, 0}, r.Objects...)
		binary.BigEndian.PutUint16(x[2:], csum.Checksum(x, 0))
		body = append(body, x...)
	}
	m := make([]byte, icmp.HeaderLen, icmp.HeaderLen+len(body))
	icmp.Put(m, typ, code, rest)
	m = append(m, body...)
	r.sent[fmt.Sprintf("%d/%d", typ, code)]++
	if p := r.packet(b, m); p != nil {
		if out := r.choose(p); out != nil {
			if r.Mangle != nil { // as what comes from beyond
				if p = r.Mangle(p, true); p == nil {
					return
				}
			}
			r.send(p, out)
		}
	}
}

// packet puts a header in front of an error about b.
func (r *Router) packet(b, m []byte) []byte {
	if b[0]>>4 == 4 {
		dst := ipv4.Header(b).Src()
		icmp.SetChecksum4(m)
		f := ipv4.Fields{TTL: 64, Protocol: icmp.Proto4, Src: r.Addr4, Dst: dst, PayloadLen: len(m)}
		p := make([]byte, ipv4.HeaderLen, ipv4.HeaderLen+len(m))
		if !r.Addr4.IsValid() {
			return nil
		}
		f.Put(p)
		return append(p, m...)
	}
	dst := ipv6.Header(b).Src()
	if !r.Addr6.IsValid() {
		return nil
	}
	icmp.SetChecksum6(m, r.Addr6, dst)
	f := ipv6.Fields{NextHeader: icmp.Proto6, HopLimit: 64, Src: r.Addr6, Dst: dst, PayloadLen: len(m)}
	p := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(m))
	f.Put(p)
	return append(p, m...)
}

// SetIPChecksum makes the checksum of an IPv4 header right, of other packets it
// leaves all as it is.
func SetIPChecksum(b []byte) {
	if b[0]>>4 == 4 {
		n := int(b[0]&15) * 4
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], csum.Checksum(b[:n], 0))
	}
}

// Inject makes a router forward a packet as if it had just come to the point
// where Mangle is called; that is not called for it.
func (r *Router) Inject(b []byte) {
	if out := r.choose(b); out != nil {
		r.send(b, out)
	}
}

// Translate replaces one of an IPv4 packet's addresses by another, with the
// checksums of its header and of TCP and UDP (RFC 3022 §4.1).
func Translate(b []byte, from, to netip.Addr) {
	for _, at := range []int{12, 16} {
		if netip.AddrFrom4([4]byte(b[at:at+4])) != from {
			continue
		}
		copy(b[at:at+4], to.AsSlice())
		sum := 0 // of the checksum field, in the transport header
		switch b[9] {
		case 6:
			sum = 16
		case 17:
			sum = 6
		default:
			continue
		}
		// RFC 1624: HC' = ~(~HC + ~m + m').
		f := b[int(b[0]&15)*4+sum:]
		old, now := from.As4(), to.As4()
		v := csum.Add(^binary.BigEndian.Uint16(f), ^csum.Sum(old[:], 0))
		binary.BigEndian.PutUint16(f, ^csum.Add(v, csum.Sum(now[:], 0)))
	}
	SetIPChecksum(b)
}

// SetMTU changes the MTU of the line to a router that is connected.
func (r *Router) SetMTU(o *Router, mtu int) {
	for _, h := range r.routes {
		if len(h.next) == 1 && h.next[0].to == o && !h.prefix.IsValid() {
			h.next[0].mtu = mtu
		}
	}
}

// SetICMPChecksum makes the checksum of a message right; the addresses are those
// of an IPv6 packet, invalid for IPv4.
func SetICMPChecksum(b []byte, src, dst netip.Addr) {
	if dst.IsValid() {
		icmp.SetChecksum6(b, src, dst)
	} else {
		icmp.SetChecksum4(b)
	}
}
