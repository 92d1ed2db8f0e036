package interop

// A third station on the link, made of frames: it sends what no sane host
// would, and speaks a little TCP to be misunderstood in the middle of a
// connection. It shares the TAP's port, so its frames go straight to the stack
// and it sees everything that the stack sends.

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/lab"
)

var (
	strangerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	stranger4   = netip.MustParseAddr("10.77.0.66")
	strangerLL  = netip.MustParseAddr("fe80::66")
	allNodes    = netip.MustParseAddr("ff02::1")
)

// stranger is a packet socket on the TAP's port.
type stranger struct {
	t *testing.T
	f *os.File
}

func newStranger(t *testing.T, l *lab.Lab) *stranger {
	t.Helper()
	s := &stranger{t: t}
	inLab(t, l, func() error {
		port, err := net.InterfaceByName(l.Ports[0])
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			return err
		}
		s.f = os.NewFile(uintptr(fd), "packet")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: port.Index})
	})
	t.Cleanup(func() { s.f.Close() })
	return s
}

// sendFrame puts a payload into a frame for the stack; broadcast and multicast
// addresses follow from dst.
func (s *stranger) sendFrame(typ layers.EthernetType, dst netip.Addr, payload []byte) {
	s.t.Helper()
	mac := net.HardwareAddr(ourMAC[:])
	if dst.Is6() && dst.IsMulticast() {
		a := dst.As16()
		mac = net.HardwareAddr{0x33, 0x33, a[12], a[13], a[14], a[15]}
	}
	b := serialize(s.t, &layers.Ethernet{SrcMAC: strangerMAC, DstMAC: mac, EthernetType: typ}, gopacket.Payload(payload))
	if _, err := s.f.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

func serialize(t *testing.T, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packet4 is an IPv4 packet from the stranger to the stack.
type packet4 struct {
	proto   layers.IPProtocol
	id      uint16
	offset  int // of a fragment, in bytes
	more    bool
	options []byte // raw, a multiple of 4
	payload []byte
}

func (s *stranger) send4(p packet4) {
	s.t.Helper()
	h := &layers.IPv4{Version: 4, TTL: 64, Protocol: p.proto, Id: p.id, FragOffset: uint16(p.offset / 8),
		SrcIP: stranger4.AsSlice(), DstIP: our4.Addr().AsSlice()}
	if p.more {
		h.Flags = layers.IPv4MoreFragments
	}
	b := serialize(s.t, h, gopacket.Payload(append(p.options[:len(p.options):len(p.options)], p.payload...)))
	if n := len(p.options); n > 0 {
		// gopacket writes no broken options; they are grafted on.
		b[0] += byte(n / 4)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], csum.Checksum(b[:20+n], 0))
	}
	s.sendFrame(layers.EthernetTypeIPv4, our4.Addr(), b)
}

// send6 sends an IPv6 packet with any payload from the stranger.
func (s *stranger) send6(dst netip.Addr, proto layers.IPProtocol, payload []byte) {
	s.t.Helper()
	s.sendFrame(layers.EthernetTypeIPv6, dst, serialize(s.t,
		&layers.IPv6{Version: 6, HopLimit: 255, NextHeader: proto, SrcIP: strangerLL.AsSlice(), DstIP: dst.AsSlice()},
		gopacket.Payload(payload)))
}

// icmp6 sends an ICMPv6 message, the checksum over all of its layers.
func (s *stranger) icmp6(dst netip.Addr, typ uint8, rest ...gopacket.SerializableLayer) {
	s.t.Helper()
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: strangerLL.AsSlice(), DstIP: dst.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		s.t.Fatal(err)
	}
	s.send6(dst, layers.IPProtocolICMPv6, serialize(s.t, append([]gopacket.SerializableLayer{icmp}, rest...)...))
}

// tcp builds a TCP segment with raw options, a multiple of 4 bytes.
func (s *stranger) tcp(h layers.TCP, options, text []byte) []byte {
	s.t.Helper()
	ip := &layers.IPv4{Protocol: layers.IPProtocolTCP, SrcIP: stranger4.AsSlice(), DstIP: our4.Addr().AsSlice()}
	h.DataOffset = uint8(5 + len(options)/4)
	if err := h.SetNetworkLayerForChecksum(ip); err != nil {
		s.t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{ComputeChecksums: true}, &h,
		gopacket.Payload(append(options[:len(options):len(options)], text...)))
	if err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes()
}

// receive returns the next segment that the stack sends the stranger, or nil
// after wait. On the way it answers ARP.
func (s *stranger) receive(wait time.Duration) *layers.TCP {
	s.t.Helper()
	if err := s.f.SetReadDeadline(time.Now().Add(wait)); err != nil {
		s.t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	for {
		n, err := s.f.Read(b)
		if os.IsTimeout(err) {
			return nil
		}
		if err != nil {
			s.t.Fatal(err)
		}
		p := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.Default)
		if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
			if netip.AddrFrom4([4]byte(arp.DstProtAddress)) == stranger4 && arp.Operation == layers.ARPRequest {
				s.arpReply(arp)
			}
			continue
		}
		ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if !ok || !ip.DstIP.Equal(stranger4.AsSlice()) {
			continue
		}
		if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
			return tcp
		}
	}
}

func (s *stranger) arpReply(q *layers.ARP) {
	s.sendFrame(layers.EthernetTypeARP, our4.Addr(), serialize(s.t, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation:         layers.ARPReply,
		SourceHwAddress:   strangerMAC,
		SourceProtAddress: stranger4.AsSlice(),
		DstHwAddress:      q.SourceHwAddress,
		DstProtAddress:    q.SourceProtAddress,
	}))
}

// talk is the stranger's end of a connection, without options. Sequence
// numbers here count from the first byte of text.
type talk struct {
	s        *stranger
	port, to layers.TCPPort
	iss, irs uint32
	window   uint16
	got      []byte // text received in order
	acked    int    // of ours
	fin      bool   // received, after got
	quiet    bool   // do not acknowledge
}

// open sends SYN and waits for the answer; the third segment is the caller's.
func (s *stranger) open(port, to layers.TCPPort, iss uint32, window uint16) *talk {
	s.t.Helper()
	k := &talk{s: s, port: port, to: to, iss: iss, window: window}
	s.send4(packet4{proto: layers.IPProtocolTCP, payload: s.tcp(layers.TCP{SrcPort: port, DstPort: to, Seq: iss, SYN: true, Window: window}, nil, nil)})
	for {
		r := s.receive(patience)
		if r == nil {
			s.t.Fatal("no answer to SYN")
		}
		if r.DstPort == port && r.SYN && r.ACK && r.Ack == iss+1 {
			k.irs = r.Seq
			return k
		}
	}
}

// send sends text that begins with our byte number at.
func (k *talk) send(at int, text []byte, fin bool) {
	k.s.t.Helper()
	k.s.send4(packet4{proto: layers.IPProtocolTCP, payload: k.s.tcp(layers.TCP{
		SrcPort: k.port, DstPort: k.to, ACK: true, PSH: len(text) > 0, FIN: fin, Window: k.window,
		Seq: k.iss + 1 + uint32(at), Ack: k.irs + 1 + uint32(len(k.got)) + bit(k.fin),
	}, nil, text)})
}

// ack acknowledges n bytes whatever was received.
func (k *talk) ack(at, n int, window uint16) {
	k.s.t.Helper()
	k.s.send4(packet4{proto: layers.IPProtocolTCP, payload: k.s.tcp(layers.TCP{
		SrcPort: k.port, DstPort: k.to, ACK: true, Window: window,
		Seq: k.iss + 1 + uint32(at), Ack: k.irs + 1 + uint32(n),
	}, nil, nil)})
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// until receives, and acknowledges unless quiet, until done; at is the number
// of our next byte.
func (k *talk) until(what string, at int, done func() bool) {
	k.s.t.Helper()
	for end := time.Now().Add(patience); !done(); {
		r := k.s.receive(time.Until(end))
		if r == nil {
			k.s.t.Fatalf("not within %v: %s; received %d bytes, %d acknowledged", patience, what, len(k.got), k.acked)
		}
		if r.DstPort != k.port || r.SrcPort != k.to {
			continue
		}
		if r.RST {
			k.s.t.Fatalf("reset while waiting: %s", what)
		}
		k.acked = max(k.acked, int(int32(r.Ack-k.iss-1)))
		if at := int(int32(r.Seq - k.irs - 1)); at <= len(k.got) && at+len(r.Payload) >= len(k.got) {
			k.got = append(k.got, r.Payload[len(k.got)-at:]...)
			k.fin = k.fin || r.FIN
		}
		if (len(r.Payload) > 0 || r.FIN) && !k.quiet {
			k.send(at, nil, false)
		}
	}
}

// close resets the connection, so that the next test begins afresh.
func (k *talk) close(at int) {
	k.s.send4(packet4{proto: layers.IPProtocolTCP, payload: k.s.tcp(layers.TCP{
		SrcPort: k.port, DstPort: k.to, RST: true, Seq: k.iss + 1 + uint32(at)}, nil, nil)})
}
