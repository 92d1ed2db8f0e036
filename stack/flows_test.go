package stack_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// echoUDP answers datagrams on a port of both families.
func echoUDP(t testing.TB, s *stack.Stack, port uint16) *stack.Datagram {
	t.Helper()
	u, err := s.NewUDP(true)
	if err == nil {
		err = u.Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	onReady(u.Waiters(), stack.ReadyIn, func() {
		for {
			n, _, from, err := u.RecvFrom(buf)
			if err != nil {
				return
			}
			if err := u.SendTo(buf[:n], from); err != nil {
				t.Errorf("echo of %d bytes to %v: %v", n, from, err)
			}
		}
	})
	return u
}

func order[T any](list []T, at ...int) (out []T) {
	for _, i := range at {
		out = append(out, list[i])
	}
	return out
}

// TestFlows puts frames into a quiet host and compares what comes out byte by
// byte, and which drops were counted.
func TestFlows(t *testing.T) {
	stranger4, stranger6 := netip.MustParseAddr("10.77.0.99"), netip.MustParseAddr("fd77::99")
	foreign4 := func(f *ipv4.Fields) { f.Dst = stranger4 }
	snm := ipv6.SolicitedNode(hostIP6)
	snmMAC := ether.Multicast(snm)
	big := pattern(1472)
	small := pattern(1200)
	udp4 := datagram(false, 1111, 7, small)[14+20:] // UDP header and 1200 bytes
	udp6 := datagram(true, 1111, 7, small)[14+40:]
	frags4, frags6 := cut4(77, ipv4.ProtoUDP, udp4, 248), cut6(77, ipv4.ProtoUDP, udp6, 288)
	closed4, closed6 := datagram(false, 1111, 99, []byte("hello")), datagram(true, 1111, 99, []byte("hello"))

	eth4 := gpEther(hostMAC, peerMAC, layers.EthernetTypeIPv4)
	eth6 := gpEther(hostMAC, peerMAC, layers.EthernetTypeIPv6)
	echoed4 := func(data []byte) []byte {
		ip, u := gpIP4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 7, DstPort: 1111}
		u.SetNetworkLayerForChecksum(ip)
		return build(t, eth4, ip, u, gopacket.Payload(data))
	}
	echoed6 := func(data []byte) []byte {
		ip, u := gpIP6(layers.IPProtocolUDP, 64, hostIP6, peerIP6), &layers.UDP{SrcPort: 7, DstPort: 1111}
		u.SetNetworkLayerForChecksum(ip)
		return build(t, eth6, ip, u, gopacket.Payload(data))
	}
	icmp6Frame := func(mac ether.Addr, hops uint8, src, dst netip.Addr, typ, code uint8, rest ...gopacket.SerializableLayer) []byte {
		ip, m := gpIP6(layers.IPProtocolICMPv6, hops, src, dst), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}
		m.SetNetworkLayerForChecksum(ip)
		return build(t, append([]gopacket.SerializableLayer{gpEther(hostMAC, mac, layers.EthernetTypeIPv6), ip, m}, rest...)...)
	}
	reset := func(ip gopacket.NetworkLayer, eth gopacket.SerializableLayer) []byte {
		r := &layers.TCP{SrcPort: 99, DstPort: 1111, Seq: 0, Ack: 1235, RST: true, ACK: true, DataOffset: 5}
		r.SetNetworkLayerForChecksum(ip)
		return build(t, eth, ip.(gopacket.SerializableLayer), r)
	}
	na := func(dst netip.Addr, mac ether.Addr, flags uint8) []byte {
		return icmp6Frame(mac, 255, hostIP6, dst, icmp.TypeNA, 0, &layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: ip(hostIP6),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hostMAC[:]}}})
	}
	const solicited, override = 0x40, 0x20

	for _, c := range []struct {
		name  string
		in    [][]byte
		out   [][]byte
		drops []string
		// stranger: the peer is not in the neighbour cache beforehand.
		stranger bool
	}{
		{name: "E1 frame of 13 bytes", in: [][]byte{make([]byte, 13)}, drops: []string{"ether.drop.short-frame=1"}},
		{name: "E2 other station's MAC", in: [][]byte{withMAC(ether.Addr{2, 9}, echo4(1, 1, big, nil))}, drops: []string{"ether.drop.foreign-mac=1"}},
		{name: "E3 foreign IPv4 address", in: [][]byte{echo4(1, 1, big, foreign4)}, drops: []string{"ipv4.drop.foreign-ip=1"}},
		{name: "E4 foreign IPv6 address", drops: []string{"ipv6.drop.foreign-ip=1"},
			in: [][]byte{ip6(ipv6.ProtoUDP, udp6, func(f *ipv6.Fields) { f.Dst = stranger6 })}},
		{name: "E5 ARP for another", in: [][]byte{arpRequest(stranger4)}, drops: []string{"arp.drop.not-ours=1"}},
		{name: "E6 DAD probe with link-layer address", in: [][]byte{solicit(netip.IPv6Unspecified(), hostIP6, snmMAC, true)}, drops: []string{"nd.drop.bad-link-address=1"}},
		{name: "IEEE 802.3 length", in: [][]byte{eth(hostMAC, 0x05dc, big)}, drops: []string{"ether.drop.length-frame=1"}},
		{name: "IEEE 802.3 with SNAP", in: [][]byte{eth(hostMAC, 46, append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, make([]byte, 38)...))}, drops: []string{"ether.drop.snap=1"}},
		{name: "spanning tree", in: [][]byte{eth(hostMAC, 38, append([]byte{0x42, 0x42, 3}, make([]byte, 43)...))}, drops: []string{"ether.drop.llc=1"}},
		{name: "ping in a VLAN", in: [][]byte{tagged(10, echo4(1, 2, big, nil))}, drops: []string{"ether.drop.vlan=1"}},
		{name: "ARP for us from a VLAN", in: [][]byte{tagged(4095, arpRequest(hostIP4))}, stranger: true, drops: []string{"ether.drop.vlan=1"}},
		{name: "two tags", in: [][]byte{tagged(0, tagged(0, arpRequest(hostIP4)))}, stranger: true, drops: []string{"ether.drop.vlan=1"}},
		{name: "ping with a priority", in: [][]byte{tagged(5<<13, echo4(1, 2, big, nil))}, out: [][]byte{build(t, eth4, gpIP4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: 1, Seq: 2}, gopacket.Payload(big))}},
		{name: "unknown EtherType", in: [][]byte{eth(hostMAC, 0x88cc, big)}, drops: []string{"ether.drop.unknown-type=1"}},
		{name: "multicast nobody joined", in: [][]byte{withMAC(ether.Addr{0x33, 0x33, 0, 0, 9, 9}, bytes.Clone(closed6))}, drops: []string{"ether.drop.foreign-group=1"}},

		{name: "A1 ARP for us", in: [][]byte{arpRequest(hostIP4)}, stranger: true, out: [][]byte{build(t, gpEther(hostMAC, peerMAC, layers.EthernetTypeARP),
			&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, Operation: layers.ARPReply,
				SourceHwAddress: hostMAC[:], SourceProtAddress: ip(hostIP4), DstHwAddress: peerMAC[:], DstProtAddress: ip(peerIP4)})}},
		{name: "I1 ping, 1472 bytes", in: [][]byte{echo4(1, 2, big, nil)}, out: [][]byte{build(t, eth4, gpIP4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: 1, Seq: 2}, gopacket.Payload(big))}},
		{name: "I2 ping IPv6, 1452 bytes", in: [][]byte{echo6(1, 2, big[:1452])}, out: [][]byte{icmp6Frame(peerMAC, 64, hostIP6, peerIP6, icmp.TypeEchoReply6, 0,
			&layers.ICMPv6Echo{Identifier: 1, SeqNumber: 2}, gopacket.Payload(big[:1452]))}},
		{name: "U1 closed UDP port", in: [][]byte{closed4}, drops: []string{"udp.drop.no-socket=1"}, out: [][]byte{build(t, eth4, control(gpIP4(layers.IPProtocolICMPv4)),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, gopacket.Payload(closed4[14:]))}},
		{name: "U2 closed UDP port IPv6", in: [][]byte{closed6}, drops: []string{"udp.drop.no-socket=1"}, out: [][]byte{icmp6Frame(peerMAC, 64, hostIP6, peerIP6, 1, 4,
			gopacket.Payload(append(make([]byte, 4), closed6[14:]...)))}},
		{name: "U3 UDP echo", in: [][]byte{datagram(false, 1111, 7, small)}, out: [][]byte{echoed4(small)}},
		{name: "U4 UDP echo IPv6", in: [][]byte{datagram(true, 1111, 7, small)}, out: [][]byte{echoed6(small)}},
		{name: "F1 fragments in order", in: frags4, out: [][]byte{echoed4(small)}},
		{name: "F2 backwards", in: order(frags4, 4, 3, 2, 1, 0), out: [][]byte{echoed4(small)}},
		{name: "F3 mixed", in: order(frags4, 1, 2, 0, 4, 3), out: [][]byte{echoed4(small)}},
		{name: "F4 with duplicates", in: order(frags4, 1, 2, 0, 2, 1, 0, 3, 3, 4), out: [][]byte{echoed4(small)}, drops: []string{"ipv4.drop.duplicate=4"}},
		{name: "F5 IPv6 fragments in order", in: frags6, out: [][]byte{echoed6(small)}},
		{name: "F6 backwards", in: order(frags6, 4, 3, 2, 1, 0), out: [][]byte{echoed6(small)}},
		{name: "F7 mixed", in: order(frags6, 1, 2, 0, 4, 3), out: [][]byte{echoed6(small)}},
		{name: "F8 with duplicates", in: order(frags6, 1, 2, 0, 2, 1, 0, 3, 3, 4), out: [][]byte{echoed6(small)}, drops: []string{"ipv6.drop.duplicate=4"}},
		{name: "T1 SYN to a closed port", in: [][]byte{segment(false, 1111, 99, 1234, 0, tcp.FlagSYN, nil)}, drops: []string{"tcp.drop.no-connection=1"},
			out: [][]byte{reset(gpIP4(layers.IPProtocolTCP), eth4)}},
		{name: "T2 SYN to a closed port IPv6", in: [][]byte{segment(true, 1111, 99, 1234, 0, tcp.FlagSYN, nil)}, drops: []string{"tcp.drop.no-connection=1"},
			out: [][]byte{reset(gpIP6(layers.IPProtocolTCP, 64, hostIP6, peerIP6), eth6)}},
		// RFC 4861 §7.2.4: the override flag SHOULD be set with the target
		// link-layer address of a unicast address.
		{name: "N1 solicitation to the group", in: [][]byte{solicit(peerIP6, hostIP6, snmMAC, true)}, stranger: true, out: [][]byte{na(peerIP6, peerMAC, solicited|override)}},
		{name: "N2 unicast solicitation", in: [][]byte{solicit(peerIP6, hostIP6, hostMAC, true)}, stranger: true, out: [][]byte{na(peerIP6, peerMAC, solicited|override)}},
		{name: "N3 known neighbour, no link-layer address", in: [][]byte{solicit(peerIP6, hostIP6, hostMAC, false)}, out: [][]byte{na(peerIP6, peerMAC, solicited|override)}},
		{name: "N4 DAD probe for our address", in: [][]byte{solicit(netip.IPv6Unspecified(), hostIP6, snmMAC, false)},
			out: [][]byte{na(ipv6.AllNodes, ether.Multicast(ipv6.AllNodes), override)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
			echoUDP(t, h.s, 7)
			if !c.stranger {
				h.meet()
			}
			var in [][]byte
			for _, f := range c.in {
				in = append(in, bytes.Clone(f))
			}
			wantFrames(t, h.send(in...), c.out...)
			wantDrops(t, h.s, c.drops...)
		})
	}
}

// TestSolicitWithoutAddress: a stranger that does not say its link-layer
// address is asked for it before it gets its answer (RFC 4861 §7.2.4), and is
// not learnt from the question.
func TestSolicitWithoutAddress(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	out := h.send(solicit(peerIP6, hostIP6, hostMAC, false))
	if len(out) != 1 || countOf[*layers.ICMPv6NeighborSolicitation](t, out) != 1 {
		t.Fatalf("%d frames, want one solicitation", len(out))
	}
	out = h.send(advert(peerIP6, hostIP6, true, true))
	a, ok := layerOf[*layers.ICMPv6NeighborAdvertisement](t, out)
	if !ok || len(out) != 1 || a.Flags != 0x60 {
		t.Fatalf("%d frames after the answer, want one solicited advertisement", len(out))
	}
}

// TestLargeDatagramsOut is G1 and G2: 6000 bytes leave in five fragments.
func TestLargeDatagramsOut(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	echoUDP(t, h.s, 7)
	data := pattern(6000)
	out := h.send(datagram(false, 1111, 7, data))
	var whole []byte
	var id uint16
	for k, f := range out {
		ip, ok := layerOf[*layers.IPv4](t, [][]byte{f})
		if !ok {
			t.Fatalf("frame %d is not IPv4", k)
		}
		if k == 0 {
			id = ip.Id
		}
		if int(ip.FragOffset)*8 != k*1480 || ip.Id != id || (ip.Flags&layers.IPv4MoreFragments != 0) != (k < 4) || ip.Flags&layers.IPv4DontFragment != 0 {
			t.Errorf("fragment %d: offset %d id %d flags %v", k, ip.FragOffset*8, ip.Id, ip.Flags)
		}
		whole = append(whole, payloadOf(f)...)
	}
	if len(out) != 5 || !bytes.Equal(whole[8:], data) {
		t.Errorf("%d fragments with %d bytes", len(out), len(whole))
	}
	out = h.send(datagram(true, 1111, 7, data))
	whole = nil
	var id6 uint32
	for k, f := range out {
		fh, ok := layerOf[*layers.IPv6Fragment](t, [][]byte{f})
		if !ok {
			t.Fatalf("frame %d has no fragment header", k)
		}
		if k == 0 {
			id6 = fh.Identification
		}
		if int(fh.FragmentOffset)*8 != k*1448 || fh.MoreFragments != (k < 4) || fh.Identification != id6 || fh.NextHeader != layers.IPProtocolUDP {
			t.Errorf("fragment %d: %+v", k, fh)
		}
		whole = append(whole, payloadOf(f)[8:]...)
	}
	if len(out) != 5 || !bytes.Equal(whole[8:], data) {
		t.Errorf("%d IPv6 fragments with %d bytes", len(out), len(whole))
	}
	if n := h.count("ipv4.fragments-out") + h.count("ipv6.fragments-out"); n != 10 {
		t.Errorf("%d fragments counted, want 10", n)
	}
	wantDrops(t, h.s)
}

// TestNextHop is where datagrams go: the link-layer destination, or whom the
// host asks for first.
func TestNextHop(t *testing.T) {
	gw4, gw6 := netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("fd77::1") // the peer
	for _, c := range []struct {
		name, dst string
		mac       ether.Addr // destination of the frame; zero: a question first
		asks      netip.Addr
		broadcast bool // SO_BROADCAST
		gateway   bool
		hops      uint8
		setHops   uint8
		tos       uint8
		err       error
	}{
		{name: "known neighbour", dst: "10.77.0.1", mac: peerMAC, hops: 64},
		{name: "known neighbour IPv6", dst: "fd77::1", mac: peerMAC, hops: 64},
		{name: "other hops and TOS", dst: "10.77.0.1", mac: peerMAC, setHops: 3, hops: 3, tos: 0xb9},
		{name: "other hops and TOS IPv6", dst: "fd77::1", mac: peerMAC, setHops: 3, hops: 3, tos: 0xb9},
		{name: "other hops are not for multicast", dst: "224.0.0.251", mac: ether.Addr{1, 0, 0x5e, 0, 0, 0xfb}, setHops: 3, hops: 1},
		{name: "unknown neighbour", dst: "10.77.0.50", asks: netip.MustParseAddr("10.77.0.50")},
		{name: "unknown neighbour IPv6", dst: "fd77::50", asks: netip.MustParseAddr("fd77::50")},
		{name: "multicast", dst: "224.0.0.251", mac: ether.Addr{1, 0, 0x5e, 0, 0, 0xfb}, hops: 1},
		{name: "multicast above 2^23", dst: "239.129.2.3", mac: ether.Addr{1, 0, 0x5e, 1, 2, 3}, hops: 1},
		{name: "multicast IPv6", dst: "ff05::1:2", mac: ether.Addr{0x33, 0x33, 0, 1, 0, 2}, hops: 1},
		{name: "limited broadcast", dst: "255.255.255.255", broadcast: true, mac: ether.Broadcast, hops: 64},
		{name: "limited broadcast forbidden", dst: "255.255.255.255", err: syscall.EACCES},
		{name: "subnet broadcast", dst: "10.77.0.255", broadcast: true, mac: ether.Broadcast, hops: 64},
		{name: "subnet broadcast forbidden", dst: "10.77.0.255", err: syscall.EACCES},
		// The lowest address of a subnet is an ordinary one, as in Linux since
		// 5.14; RFC 1122 §3.3.6 knew it as an old form of broadcast.
		{name: "network address", dst: "10.77.0.0", asks: netip.MustParseAddr("10.77.0.0")},
		{name: "off link", dst: "192.0.2.1", gateway: true, mac: peerMAC, hops: 64},
		{name: "off link IPv6", dst: "2001:db8::1", gateway: true, mac: peerMAC, hops: 64},
		{name: "off link without gateway", dst: "192.0.2.1", err: syscall.ENETUNREACH},
		{name: "off link without gateway IPv6", dst: "2001:db8::1", err: syscall.ENETUNREACH},
		{name: "unspecified is this host", dst: "0.0.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
			if c.gateway {
				for _, r := range []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: gw4}, {Dst: netip.MustParsePrefix("::/0"), Gateway: gw6}} {
					if err := h.s.AddRoute(r); err != nil {
						t.Fatal(err)
					}
				}
			}
			u, _ := h.s.NewUDP(true)
			defer u.Close()
			set := func(v int, options ...stack.DatagramOption) {
				for _, o := range options {
					if err := u.Set(o, v); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.broadcast {
				set(1, stack.DatagramBroadcast)
			}
			if c.setHops != 0 {
				set(int(c.setHops), stack.DatagramTTL, stack.DatagramHops)
			}
			set(int(c.tos), stack.DatagramTOS, stack.DatagramClass)
			dst := netip.MustParseAddr(c.dst)
			if err := u.SendTo([]byte("hello"), netip.AddrPortFrom(dst, 9999)); !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			out := h.d.take()
			switch {
			case c.asks.IsValid():
				if len(out) != 1 {
					t.Fatalf("%d frames, want a question", len(out))
				}
				if a, ok := layerOf[*layers.ARP](t, out); ok {
					if !bytes.Equal(a.DstProtAddress, c.asks.AsSlice()) || !bytes.Equal(a.SourceProtAddress, hostIP4.AsSlice()) ||
						a.Operation != layers.ARPRequest || ether.Addr(out[0][:6]) != ether.Broadcast {
						t.Errorf("asks %+v", a)
					}
				} else if a, ok := layerOf[*layers.ICMPv6NeighborSolicitation](t, out); !ok || !bytes.Equal(a.TargetAddress, c.asks.AsSlice()) ||
					ether.Addr(out[0][:6]) != ether.Multicast(ipv6.SolicitedNode(c.asks)) {
					t.Errorf("asks %+v", a)
				}
			case c.mac.IsZero():
				if len(out) != 0 {
					t.Errorf("%d frames left the host", len(out))
				}
			default:
				if len(out) != 1 || ether.Addr(out[0][:6]) != c.mac || ether.Addr(out[0][6:12]) != hostMAC {
					t.Fatalf("sent %x, want to %v", out, c.mac)
				}
				p := parse(t, out[0])
				if ip4, ok := p.NetworkLayer().(*layers.IPv4); ok {
					if !ip4.DstIP.Equal(ip(dst)) || !ip4.SrcIP.Equal(ip(hostIP4)) || ip4.TTL != c.hops || ip4.TOS != c.tos {
						t.Errorf("%v > %v ttl %d tos %#x", ip4.SrcIP, ip4.DstIP, ip4.TTL, ip4.TOS)
					}
				} else if ip6, ok := p.NetworkLayer().(*layers.IPv6); !ok || !ip6.DstIP.Equal(ip(dst)) || !ip6.SrcIP.Equal(ip(hostIP6)) || ip6.HopLimit != c.hops || ip6.TrafficClass != c.tos {
					t.Errorf("%v > %v hops %d", ip6.SrcIP, ip6.DstIP, ip6.HopLimit)
				}
			}
			h.n.RunFor(0)
		})
	}
}

// TestGatewayUnresolved: packets through a gateway that does not answer fail
// like those to a neighbour.
func TestGatewayUnresolved(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	for _, r := range []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.77.0.254")},
		{Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::254"), Interface: h.i}} {
		if err := h.s.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, dst := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		u, _ := h.s.NewUDP(true)
		if err := u.Connect(addrPort(dst)); err != nil {
			t.Fatal(err)
		}
		if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		h.run(4 * time.Second)
		if err := u.TakeError(); err != syscall.EHOSTUNREACH {
			t.Errorf("%s: error %v, want EHOSTUNREACH", dst, err)
		}
		u.Close()
	}
	if got := drops(h.s); !slices.Equal(got, []string{"ipv4.drop.no-neighbour=1", "ipv6.drop.no-neighbour=1"}) {
		t.Errorf("drops %v", got)
	}
}

// TestGivenSource is what becomes of a source address that the user chose.
func TestGivenSource(t *testing.T) {
	for _, c := range []struct {
		local, dst string
		bind, send error
		src        string
	}{
		{local: "10.77.0.7", dst: "10.77.0.1", src: "10.77.0.7"},
		{local: "fd77::7", dst: "fd77::1", src: "fd77::7"},
		{local: "10.77.0.8", dst: "10.77.0.1", bind: syscall.EADDRNOTAVAIL},
		{local: "fd77::8", dst: "fd77::1", bind: syscall.EADDRNOTAVAIL},
		{local: "224.0.0.1", dst: "10.77.0.1", src: "10.77.0.7"}, // as Linux: bound to a group, sent from a host address
		{local: "ff02::1", dst: "fd77::1", src: "fd77::7"},
		{local: "255.255.255.255", dst: "10.77.0.1", src: "10.77.0.7"},
		{local: "10.77.0.255", dst: "10.77.0.1", src: "10.77.0.7"},
		{local: "0.0.0.0", dst: "10.77.0.1", src: "10.77.0.7"},
		{local: "::", dst: "fd77::1", src: "fd77::7"},
		{local: "127.0.0.1", dst: "10.77.0.1", send: syscall.EINVAL},
		{local: "10.77.0.7", dst: "fd77::1", send: syscall.EAFNOSUPPORT},
		{local: "fd77::7", dst: "10.77.0.1", send: syscall.ENETUNREACH},
	} {
		t.Run(c.local+" to "+c.dst, func(t *testing.T) {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
			u, _ := h.s.NewUDP(false)
			defer u.Close()
			if err := u.Bind(netip.AddrPortFrom(netip.MustParseAddr(c.local), 5000)); !errors.Is(err, c.bind) {
				t.Fatalf("bind: %v, want %v", err, c.bind)
			} else if err != nil {
				return
			}
			if err := u.SendTo([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr(c.dst), 9)); !errors.Is(err, c.send) {
				t.Fatalf("send: %v, want %v", err, c.send)
			} else if err != nil {
				return
			}
			out := h.d.take()
			if len(out) != 1 {
				t.Fatalf("%d frames", len(out))
			}
			if src := parse(t, out[0]).NetworkLayer().NetworkFlow().Src().String(); src != c.src {
				t.Errorf("from %s, want %s", src, c.src)
			}
		})
	}
}

// control gives a header the precedence of ICMP errors (RFC 1812 §4.3.2.5).
func control(ip *layers.IPv4) *layers.IPv4 {
	ip.TOS = 0xc0
	return ip
}
