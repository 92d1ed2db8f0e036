package stack_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// hostile is a set of frames that ended or hung another stack: the list of
// PyTCP 2.7's crashes, as facts. They seed FuzzStack as well.
type hostile struct {
	name   string
	frames [][]byte
}

func hostileFrames() []hostile {
	opt4 := func(options ...byte) func(*ipv4.Fields) { return func(f *ipv4.Fields) { f.Options = options } }
	fragment4 := func(offset int, more bool, data []byte) []byte {
		return ip4(ipv4.ProtoUDP, data, func(f *ipv4.Fields) { f.ID, f.Offset, f.MF = 9, offset, more })
	}
	tcpBytes := func(options ...byte) []byte {
		b := make([]byte, 20, 60)
		binary.BigEndian.PutUint16(b, 1234)
		binary.BigEndian.PutUint16(b[2:], 7)
		b[12], b[13] = byte(5+len(options)/4)<<4, byte(tcp.FlagSYN)
		return append(b, options...)
	}
	ra := func(options ...byte) []byte {
		b := append([]byte{icmp.TypeRA, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, options...)
		return icmp6(255, ipv6.LinkLocal(peerMAC), ipv6.AllNodes, b)
	}
	prefix := append([]byte{3, 4, 200, 0xc0, 0, 0, 0xe, 0x10, 0, 0, 0xe, 0x10, 0, 0, 0, 0}, peerIP6.AsSlice()...)
	ns := func(tail ...byte) []byte {
		b := append([]byte{icmp.TypeNS, 0, 0, 0, 0, 0, 0, 0}, hostIP6.AsSlice()...)
		return icmp6(255, peerIP6, hostIP6, append(b, tail...))
	}
	eight := bytes.Repeat([]byte{1}, 64)
	return []hostile{
		{"SYN with the last sequence number", [][]byte{segment(false, 1234, 99, 0xffffffff, 0, tcp.FlagSYN, nil)}},
		{"TCP shorter than its header", [][]byte{ip4(ipv4.ProtoTCP, make([]byte, 12), nil), ip4(ipv4.ProtoTCP, nil, nil)}},
		{"TCP option kind as the last byte", [][]byte{tcpFrame(false, tcpBytes(1, 1, 1, 2))}},
		{"TCP MSS of length 2", [][]byte{tcpFrame(false, tcpBytes(1, 1, 2, 2))}},
		{"TCP option of length 0", [][]byte{tcpFrame(false, tcpBytes(8, 0, 0, 0)), tcpFrame(true, tcpBytes(3, 1, 255, 255))}},
		{"IPv4 option cut off", [][]byte{ip4(ipv4.ProtoUDP, nil, opt4(1, 1, 1, 130)), ip4(ipv4.ProtoUDP, nil, opt4(68, 40, 5, 0))}},
		{"overlapping IPv4 fragments", [][]byte{fragment4(0, true, eight), fragment4(32, true, eight[:32]), fragment4(40, false, eight[:16])}},
		{"ping of death", [][]byte{fragment4(0, true, eight), fragment4(65528, false, eight)}},
		{"teardrop", [][]byte{fragment4(0, true, eight), fragment4(24, false, eight[:4])}},
		{"overlapping IPv6 fragments", [][]byte{frag6(1, 17, 0, true, eight), frag6(1, 17, 32, true, eight[:32]), frag6(1, 17, 40, false, eight[:16])}},
		{"IPv6 ping of death", [][]byte{frag6(2, 17, 0, true, eight), frag6(2, 17, 65528, false, eight)}},
		{"prefix longer than 128", [][]byte{ra(prefix...)}},
		{"prefix option of length 1", [][]byte{ra(3, 1, 64, 0xc0, 0, 0, 0, 0)}},
		{"option of length 0", [][]byte{ra(3, 0, 0, 0, 0, 0, 0, 0), ns(1, 0, 0, 0, 0, 0, 0, 0)}},
		{"a byte behind a solicitation", [][]byte{ns(0)}},
		{"RST to a closed port", [][]byte{segment(false, 1234, 99, 1, 0, tcp.FlagRST, nil), segment(false, 1234, 99, 1, 1, tcp.FlagRST|tcp.FlagACK, nil)}},
		{"short frames", [][]byte{nil, {1}, make([]byte, 13), make([]byte, 14), eth(hostMAC, 0x0800, nil), eth(hostMAC, 0x86dd, make([]byte, 39)), eth(hostMAC, 0x0806, make([]byte, 27))}},
		{"echo requests", [][]byte{echo4(1, 1, eight, nil), echo6(1, 1, eight)}},
		{"datagrams", [][]byte{datagram(false, 1234, 7, eight), datagram(true, 1234, 7, eight), datagram(true, 1234, 99, eight)}},
		{"SYN with text", [][]byte{segment(false, 1234, 7, 100, 0, tcp.FlagSYN, eight), segment(true, 1234, 7, 100, 0, tcp.FlagSYN|tcp.FlagFIN, eight)}},
		{"handshake", [][]byte{segment(false, 1234, 7, 100, 0, tcp.FlagSYN, nil), segment(true, 1234, 7, 100, 0, tcp.FlagSYN, nil)}},
	}
}

// TestHostileFrames replays each crash and checks that the host still answers.
func TestHostileFrames(t *testing.T) {
	for _, h := range hostileFrames() {
		t.Run(h.name, func(t *testing.T) {
			n, _, _, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true, SLAAC: true})
			for _, f := range h.frames {
				d.inject(f)
			}
			n.RunFor(2 * time.Minute)
			d.inject(arpReply(peerMAC, peerIP4))
			d.inject(arpRequest(hostIP4))
			d.take()
			d.inject(echo4(9, 9, []byte("alive"), nil))
			m, ok := icmpOf(d.take(), icmp.TypeEchoReply4)
			if !ok || string(m.Body) != "alive" {
				t.Fatal("no echo reply afterwards")
			}
		})
	}
}

// TestResetAnswers is the part of that list that is about reflection.
func TestResetAnswers(t *testing.T) {
	_, _, _, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	d.inject(arpRequest(hostIP4)) // so that the peer is known
	d.take()

	d.inject(segment(false, 1234, 99, 0xffffffff, 0, tcp.FlagSYN, nil))
	if s, ok := tcpOf(d.take()); !ok || s.Flags != tcp.FlagRST|tcp.FlagACK || s.Seq != 0 || s.Ack != 0 {
		t.Errorf("SYN at the wrap: answered %v seq %d ack %d, want RST+ACK 0 0", s.Flags, s.Seq, s.Ack)
	}
	d.inject(segment(false, 1234, 99, 5, 77, tcp.FlagACK, []byte("data")))
	if s, ok := tcpOf(d.take()); !ok || s.Flags != tcp.FlagRST || s.Seq != 77 {
		t.Errorf("ACK to a closed port: answered %v seq %d, want RST 77", s.Flags, s.Seq)
	}
	d.inject(segment(false, 1234, 99, 5, 77, tcp.FlagRST, nil))
	d.inject(segment(false, 1234, 99, 5, 77, tcp.FlagRST|tcp.FlagACK, nil))
	if s, ok := tcpOf(d.take()); ok {
		t.Errorf("a RST was answered with %v", s.Flags)
	}
}

// TestManyOutOfOrderBytes sends 400 one-byte segments backwards across the
// end of the sequence space, and then the missing first one.
func TestManyOutOfOrderBytes(t *testing.T) {
	_, s, _, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	l, _ := s.BindTCP(addrPort("0.0.0.0:9"), false, false)
	l.Listen(1)
	d.inject(arpRequest(hostIP4))
	d.take()
	const irs = 0xffffff00
	first := uint32(irs)
	d.inject(segment(false, 1234, 9, first, 0, tcp.FlagSYN, nil))
	syn, ok := tcpOf(d.take())
	if !ok {
		t.Fatal("no SYN-ACK")
	}
	ack := uint32(syn.Seq) + 1
	d.inject(segment(false, 1234, 9, first+1, ack, tcp.FlagACK, nil))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	data := pattern(400)
	for i := len(data) - 1; i > 0; i-- {
		d.inject(segment(false, 1234, 9, first+1+uint32(i), ack, tcp.FlagACK, data[i:i+1]))
	}
	if n, _ := c.Read(make([]byte, 1)); n != 0 {
		t.Fatal("read past a hole")
	}
	// Ranges may have been refused at the limit; the sender repeats them.
	d.inject(segment(false, 1234, 9, first+1, ack, tcp.FlagACK, data))
	got := make([]byte, 500)
	n, err := c.Read(got)
	if err != nil || !bytes.Equal(got[:n], data) {
		t.Fatalf("read %d bytes, %v", n, err)
	}
}
