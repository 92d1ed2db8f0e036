package stack_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/udp"
)

// Builders of frames from the peer to the host of newInjected.

func eth(dst ether.Addr, t ether.Type, payload []byte) []byte {
	b := make([]byte, ether.HeaderLen, ether.HeaderLen+len(payload))
	ether.Put(b, dst, peerMAC, t)
	return append(b, payload...)
}

// tagged puts a VLAN tag into a frame.
func tagged(tci uint16, frame []byte) []byte {
	b := append(bytes.Clone(frame[:12]), 0x81, 0, byte(tci>>8), byte(tci))
	return append(b, frame[12:]...)
}

func arpRequest(target netip.Addr) []byte {
	b := make([]byte, arp.PacketLen)
	arp.Put(b, arp.OpRequest, peerMAC, peerIP4, ether.Addr{}, target)
	return eth(ether.Broadcast, ether.TypeARP, b)
}

func arpReply(mac ether.Addr, ip netip.Addr) []byte {
	b := make([]byte, arp.PacketLen)
	arp.Put(b, arp.OpReply, mac, ip, hostMAC, hostIP4)
	return eth(hostMAC, ether.TypeARP, b)
}

// ip4 is a packet of the peer; change may alter the fields first.
func ip4(proto uint8, payload []byte, change func(*ipv4.Fields)) []byte {
	f := ipv4.Fields{TTL: 64, Protocol: proto, Src: peerIP4, Dst: hostIP4, PayloadLen: len(payload)}
	if change != nil {
		change(&f)
	}
	b := make([]byte, f.HeaderLen(), f.HeaderLen()+len(payload))
	f.Put(b)
	dst := hostMAC
	if f.Dst == netip.MustParseAddr("10.77.0.255") || f.Dst == netip.MustParseAddr("255.255.255.255") {
		dst = ether.Broadcast
	}
	return eth(dst, ether.TypeIPv4, append(b, payload...))
}

func ip6(proto uint8, payload []byte, change func(*ipv6.Fields)) []byte {
	f := ipv6.Fields{NextHeader: proto, HopLimit: 64, Src: peerIP6, Dst: hostIP6, PayloadLen: len(payload)}
	if change != nil {
		change(&f)
	}
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(payload))
	f.Put(b)
	dst := hostMAC
	if f.Dst.IsMulticast() {
		dst = ether.Multicast(f.Dst)
	}
	return eth(dst, ether.TypeIPv6, append(b, payload...))
}

// frag6 is a fragment: header and data.
func frag6(id uint32, next uint8, offset int, more bool, data []byte) []byte {
	b := make([]byte, 8, 8+len(data))
	b[0] = next
	v := uint16(offset)
	if more {
		v |= 1
	}
	binary.BigEndian.PutUint16(b[2:], v)
	binary.BigEndian.PutUint32(b[4:], id)
	return ip6(ipv6.ProtoFragment, append(b, data...), nil)
}

func segment(v6 bool, sport, dport uint16, s, ack uint32, flags tcp.Flags, data []byte) []byte {
	seg := tcp.Segment{SrcPort: sport, DstPort: dport, Seq: seq.Num(s), Ack: seq.Num(ack), Flags: flags, Window: 65535}
	return segmentOf(v6, seg, data)
}

func segmentOf(v6 bool, seg tcp.Segment, data []byte) []byte {
	b := make([]byte, seg.HeaderLen())
	seg.PutHeader(b)
	b = append(b, data...)
	return tcpFrame(v6, b)
}

// syn opens a connection from the peer, which takes segments as large as
// frames are; mss 0 leaves the option out.
func syn(v6 bool, sport, dport uint16, s uint32, mss uint16) []byte {
	seg := tcp.Segment{SrcPort: sport, DstPort: dport, Seq: seq.Num(s), Flags: tcp.FlagSYN, Window: 65535}
	seg.Options.MSS = mss
	return segmentOf(v6, seg, nil)
}

// tcpFrame wraps a TCP segment given as bytes, filling in its checksum. It is
// not to be fragmented, as hosts do that look for the path's MTU.
func tcpFrame(v6 bool, b []byte) []byte {
	if v6 {
		transport(ipv4.ProtoTCP, b, peerIP6, hostIP6)
		return ip6(ipv4.ProtoTCP, b, nil)
	}
	transport(ipv4.ProtoTCP, b, peerIP4, hostIP4)
	return ip4(ipv4.ProtoTCP, b, func(f *ipv4.Fields) { f.DF = true })
}

func datagram(v6 bool, sport, dport uint16, data []byte) []byte {
	b := make([]byte, udp.HeaderLen, udp.HeaderLen+len(data))
	udp.Put(b, sport, dport, len(data))
	b = append(b, data...)
	if v6 {
		udp.SetChecksum(b, peerIP6, hostIP6)
		return ip6(ipv4.ProtoUDP, b, nil)
	}
	udp.SetChecksum(b, peerIP4, hostIP4)
	return ip4(ipv4.ProtoUDP, b, nil)
}

func echo4(id, n uint16, data []byte, change func(*ipv4.Fields)) []byte {
	b := make([]byte, icmp.HeaderLen, icmp.HeaderLen+len(data))
	icmp.Put(b, icmp.TypeEcho4, 0, [4]byte{byte(id >> 8), byte(id), byte(n >> 8), byte(n)})
	b = append(b, data...)
	icmp.SetChecksum4(b)
	return ip4(ipv4.ProtoICMP, b, change)
}

// icmp6 wraps an ICMPv6 message, filling in its checksum.
func icmp6(hops uint8, src, dst netip.Addr, b []byte) []byte {
	icmp.SetChecksum6(b, src, dst)
	return ip6(ipv6.ProtoICMPv6, b, func(f *ipv6.Fields) { f.HopLimit, f.Src, f.Dst = hops, src, dst })
}

func echo6(id, n uint16, data []byte) []byte {
	b := make([]byte, icmp.HeaderLen, icmp.HeaderLen+len(data))
	icmp.Put(b, icmp.TypeEcho6, 0, [4]byte{byte(id >> 8), byte(id), byte(n >> 8), byte(n)})
	return icmp6(64, peerIP6, hostIP6, append(b, data...))
}

// Readers of frames from the host.

func isARP(b []byte) bool { return len(b) >= 42 && b[12] == 8 && b[13] == 6 }

// ip4Of returns header and payload of an IPv4 frame.
func ip4Of(b []byte) (ipv4.Header, []byte, bool) {
	if len(b) < 34 || b[12] != 8 || b[13] != 0 {
		return nil, nil, false
	}
	h, d := ipv4.Parse(b[14:])
	if d != ipv4.DropNone {
		return nil, nil, false
	}
	return h, b[14+h.Len() : 14+h.TotalLen()], true
}

// ip6Of returns header and payload of an IPv6 frame.
func ip6Of(b []byte) (ipv6.Header, []byte, bool) {
	if len(b) < 54 || b[12] != 0x86 || b[13] != 0xdd {
		return nil, nil, false
	}
	h, d := ipv6.Parse(b[14:])
	if d != ipv6.DropNone {
		return nil, nil, false
	}
	return h, b[54 : 54+h.PayloadLen()], true
}

// tcpOf returns the first TCP segment among frames.
func tcpOf(frames [][]byte) (s tcp.Segment, ok bool) {
	for _, f := range frames {
		var b []byte
		if h, p, is := ip4Of(f); is && h.Protocol() == ipv4.ProtoTCP {
			b = p
		} else if h, p, is := ip6Of(f); is && h.NextHeader() == ipv4.ProtoTCP {
			b = p
		}
		if b != nil && tcp.Parse(&s, b) == tcp.DropNone {
			return s, true
		}
	}
	return s, false
}

// icmpOf returns the first ICMP message of a type among frames.
func icmpOf(frames [][]byte, typ uint8) (icmp.Message, bool) {
	for _, f := range frames {
		if h, p, is := ip4Of(f); is && h.Protocol() == ipv4.ProtoICMP {
			if m, d := icmp.Parse4(p); d == icmp.DropNone && m.Type == typ {
				return m, true
			}
		} else if h, p, is := ip6Of(f); is && h.NextHeader() == ipv6.ProtoICMPv6 {
			if m, d := icmp.Parse6(p, h.Src(), h.Dst()); d == icmp.DropNone && m.Type == typ {
				return m, true
			}
		}
	}
	return icmp.Message{}, false
}

// solicit is a neighbour solicitation for target from src, with or without the
// peer's link-layer address, sent to the MAC address given.
func solicit(src, target netip.Addr, mac ether.Addr, withMAC bool) []byte {
	dst := ipv6.SolicitedNode(target)
	if mac == hostMAC {
		dst = target
	}
	m := ipv6.NeighborSolicit{Target: target, SourceMAC: peerMAC, HasMAC: withMAC}
	b := m.Append(nil)
	icmp.SetChecksum6(b, src, dst)
	f := ip6(ipv6.ProtoICMPv6, b, func(f *ipv6.Fields) { f.HopLimit, f.Src, f.Dst = 255, src, dst })
	copy(f, mac[:])
	return f
}

// advert is a neighbour advertisement by the peer about target.
func advert(target, dst netip.Addr, solicited, override bool) []byte {
	m := ipv6.NeighborAdvert{Target: target, Solicited: solicited, Override: override, TargetMAC: peerMAC, HasMAC: true}
	return icmp6(255, peerIP6, dst, m.Append(nil))
}

// withMAC is the frame readdressed to another station.
func withMAC(mac ether.Addr, frame []byte) []byte {
	copy(frame, mac[:])
	return frame
}

// cut4 is a datagram of the peer in IPv4 fragments of size bytes of data.
func cut4(id uint16, proto uint8, data []byte, size int) (frames [][]byte) {
	for at := 0; at < len(data); at += size {
		end := min(at+size, len(data))
		frames = append(frames, ip4(proto, data[at:end], func(f *ipv4.Fields) { f.ID, f.Offset, f.MF = id, at, end < len(data) }))
	}
	return frames
}

// cut6 is the same for IPv6.
func cut6(id uint32, next uint8, data []byte, size int) (frames [][]byte) {
	for at := 0; at < len(data); at += size {
		end := min(at+size, len(data))
		frames = append(frames, frag6(id, next, at, end < len(data), data[at:end]))
	}
	return frames
}

// payloadOf returns what is behind the IP header of a frame.
func payloadOf(frame []byte) []byte {
	if _, b, ok := ip4Of(frame); ok {
		return b
	}
	_, b, _ := ip6Of(frame)
	return b
}
