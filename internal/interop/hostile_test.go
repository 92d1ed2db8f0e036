package interop

// Frames and segments that have each killed a stack, or hung it, somewhere.
// Here every one is followed by a ping, which has to be answered.

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/stack"
)

func TestHostile(t *testing.T) {
	t.Parallel()
	program(t, "ping")
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, services: true, nic: stack.InterfaceConfig{NoDAD: true, SLAAC: true}})
	h.anyDrop = true
	s := newStranger(t, l)
	for _, c := range []struct {
		name string
		send func(s *stranger)
	}{
		{"SYN with the last sequence number", func(s *stranger) {
			s.send4(packet4{proto: layers.IPProtocolTCP, payload: s.tcp(layers.TCP{SrcPort: 1024, DstPort: closedPort, Seq: 1<<32 - 1, SYN: true, Window: 1000}, nil, nil)})
			// RFC 9293 §3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
			if r := s.receive(patience); r == nil || !r.RST || !r.ACK || r.Seq != 0 || r.Ack != 0 {
				s.t.Errorf("answered %+v", r)
			}
		}},
		{"TCP headers cut short", func(s *stranger) {
			whole := s.tcp(layers.TCP{SrcPort: 1024, DstPort: 7, Seq: 1, SYN: true}, nil, nil)
			for n := range whole {
				s.send4(packet4{proto: layers.IPProtocolTCP, payload: whole[:n]})
			}
		}},
		{"TCP option without length", func(s *stranger) { s.syn([]byte{1, 1, 1, 2}) }},
		{"TCP MSS of no bytes", func(s *stranger) { s.syn([]byte{1, 1, 2, 2}) }},
		{"TCP MSS beyond the header", func(s *stranger) { s.syn([]byte{1, 1, 2, 4}) }},
		{"TCP option of length 0", func(s *stranger) { s.syn([]byte{77, 0, 1, 1}) }},
		{"IPv4 option without length", func(s *stranger) { s.send4(packet4{proto: layers.IPProtocolUDP, options: []byte{1, 1, 1, 0x99}}) }},
		{"IPv4 option beyond the header", func(s *stranger) {
			s.send4(packet4{proto: layers.IPProtocolUDP, options: []byte{0x99, 40, 1, 1}})
		}},
		{"IPv4 option of length 0", func(s *stranger) { s.send4(packet4{proto: layers.IPProtocolUDP, options: []byte{0x99, 0, 1, 1}}) }},
		{"IPv4 fragments that overlap", func(s *stranger) {
			s.send4(packet4{proto: layers.IPProtocolUDP, id: 1, more: true, payload: make([]byte, 80)})
			s.send4(packet4{proto: layers.IPProtocolUDP, id: 1, more: true, offset: 40, payload: make([]byte, 80)})
			s.send4(packet4{proto: layers.IPProtocolUDP, id: 1, offset: 80, payload: make([]byte, 80)})
		}},
		{"IPv4 fragments beyond 65535 bytes", func(s *stranger) {
			for at := 0; at < 65536; at += 1480 {
				s.send4(packet4{proto: layers.IPProtocolICMPv4, id: 2, more: at+1480 < 65536, offset: at, payload: make([]byte, 1480)})
			}
		}},
		{"IPv6 fragments that overlap", func(s *stranger) {
			s.fragment6(3, 0, true, 80)
			s.fragment6(3, 40, true, 80)
			s.fragment6(3, 80, false, 80)
		}},
		{"IPv6 fragments beyond 65535 bytes", func(s *stranger) {
			for at := 0; at < 65536; at += 1448 {
				s.fragment6(4, at, at+1448 < 65536, 1448)
			}
		}},
		{"prefix longer than an address", func(s *stranger) {
			option := append([]byte{129, 0xc0}, make([]byte, 28)...)
			s.advertise(layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: option})
		}},
		{"prefix option of 8 bytes", func(s *stranger) {
			s.advertise(layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: []byte{64, 0xc0, 0, 0, 0, 0}})
		}},
		{"advertisement and a byte", func(s *stranger) { s.advertise(layers.ICMPv6Option{}) }},
		{"solicitation and a byte", func(s *stranger) {
			s.icmp6(our6.Addr(), layers.ICMPv6TypeNeighborSolicitation,
				&layers.ICMPv6NeighborSolicitation{TargetAddress: our6.Addr().AsSlice()}, gopacket.Payload{1})
		}},
		{"RST for nobody", func(s *stranger) {
			s.send4(packet4{proto: layers.IPProtocolTCP, payload: s.tcp(layers.TCP{SrcPort: 1024, DstPort: closedPort, Seq: 9, RST: true}, nil, nil)})
		}},
		{"everything but a frame", func(s *stranger) {
			for _, typ := range []layers.EthernetType{layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeARP} {
				for n := range 64 {
					s.sendFrame(typ, our4.Addr(), bytes.Repeat([]byte{byte(n)*7 + 0x40}, n))
				}
			}
		}},
		{"many segments out of order", (*stranger).outOfOrder},
		{"numbers that wrap", (*stranger).wrap},
		{"window that shrinks", (*stranger).shrink},
		{"window that is closed", (*stranger).zeroWindow},
		{"handshake without its third segment", (*stranger).noThird},
		{"ACK of half a segment", (*stranger).halfAck},
		{"FIN before the text", (*stranger).earlyFin},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			c.send(s)
			for _, fam := range families {
				h.ping(t, fam.ours.Addr().String(), fam.ping, 56, 1)
			}
		})
	}
}

// syn sends a SYN with raw options to an open port.
func (s *stranger) syn(options []byte) {
	s.send4(packet4{proto: layers.IPProtocolTCP, payload: s.tcp(layers.TCP{SrcPort: 1025, DstPort: 7, Seq: 1, SYN: true, Window: 1000}, options, nil)})
}

func (s *stranger) fragment6(id uint32, at int, more bool, n int) {
	b := []byte{byte(layers.IPProtocolUDP), 0, byte(at >> 8), byte(at) &^ 7, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
	if more {
		b[3] |= 1
	}
	s.send6(our6.Addr(), layers.IPProtocolIPv6Fragment, append(b, make([]byte, n)...))
}

// advertise sends a router advertisement with one option, or for an empty one
// with a byte that is no option.
func (s *stranger) advertise(o layers.ICMPv6Option) {
	ra := &layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 0, Options: layers.ICMPv6Options{o}}
	if o.Type == 0 {
		ra.Options = nil
		s.icmp6(allNodes, layers.ICMPv6TypeRouterAdvertisement, ra, gopacket.Payload{3})
		return
	}
	s.icmp6(allNodes, layers.ICMPv6TypeRouterAdvertisement, ra)
}

// echoed waits until text has been acknowledged and come back.
func (k *talk) echoed(text []byte) {
	k.s.t.Helper()
	k.until("the echo", len(text), func() bool { return len(k.got) >= len(text) && k.acked >= len(text) })
	if !bytes.Equal(k.got, text) {
		k.s.t.Error("the echo differs")
	}
	k.close(len(text))
}

func text(n int) []byte {
	return chargenLines(n)[:n]
}

// outOfOrder sends every other byte of a text, then the whole.
func (s *stranger) outOfOrder() {
	k, b := s.open(2000, 7, 1, 60000), text(801)
	for i := 400; i > 0; i-- {
		k.send(2*i, b[2*i:2*i+1], false)
	}
	k.send(0, b, false)
	k.echoed(b)
}

// wrap starts so close to 2^32 that the text crosses it.
func (s *stranger) wrap() {
	k, b := s.open(2001, 7, 1<<32-100, 60000), text(1000)
	k.send(0, b, false)
	k.echoed(b)
}

// shrink takes back a window that has been offered.
func (s *stranger) shrink() {
	k, b := s.open(2002, 7, 1, 1000), text(4000)
	k.quiet = true
	for i := 0; i < len(b); i += 1000 {
		k.send(i, b[i:i+1000], false)
	}
	k.until("some of the echo", len(b), func() bool { return len(k.got) >= 500 })
	k.ack(len(b), 500, 100)
	k.ack(len(b), 600, 0)
	k.quiet, k.window = false, 60000
	k.ack(len(b), 700, 60000)
	k.echoed(b)
}

// zeroWindow is closed from the first ACK on, until the stack asks.
func (s *stranger) zeroWindow() {
	k, b := s.open(2003, 7, 1, 0), text(500)
	k.quiet = true
	k.send(0, b, false)
	k.until("the text is acknowledged", len(b), func() bool { return k.acked == len(b) })
	for probe := false; !probe; {
		r := s.receive(patience)
		if r == nil {
			s.t.Fatal("no window probe")
		}
		probe = r.DstPort == k.port && int32(r.Seq-k.irs-1) < 0 || len(r.Payload) > 0
	}
	k.quiet, k.window = false, 60000
	k.send(len(b), nil, false)
	k.echoed(b)
}

// noThird lets text stand for the handshake's last ACK.
func (s *stranger) noThird() {
	k, b := s.open(2004, 7, 1, 60000), text(300)
	k.send(0, b[:100], false)
	k.send(100, b[100:], false)
	k.echoed(b)
}

// halfAck acknowledges a part of a segment and waits for the rest to be sent
// again.
func (s *stranger) halfAck() {
	k, b := s.open(2005, 7, 1, 60000), text(1000)
	k.quiet = true
	k.send(0, b, false)
	k.until("the echo", len(b), func() bool { return len(k.got) == len(b) })
	k.ack(len(b), 500, k.window)
	k.got = k.got[:500]
	k.until("the other half", len(b), func() bool { return len(k.got) == len(b) })
	k.send(len(b), nil, false)
	k.echoed(b)
}

// earlyFin sends FIN first.
func (s *stranger) earlyFin() {
	k, b := s.open(2006, 7, 1, 60000), text(100)
	k.send(len(b), nil, true)
	k.send(0, b, false)
	k.until("the end of the echo", len(b)+1, func() bool { return k.fin && k.acked == len(b)+1 })
	if !bytes.Equal(k.got, b) {
		s.t.Error("the echo differs")
	}
	// The last ACK closes the connection; nothing is left to reset.
	k.send(len(b)+1, nil, false)
}
