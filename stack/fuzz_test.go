package stack_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// FuzzStack feeds a host with frames: whatever they are, it must not panic or
// hang, must stay within its limits, must give back every buffer, and must
// still answer a ping at the end. The input is a series of frames, each after
// a length byte (in units of four bytes) and a byte of instructions: whether
// checksums and addresses are repaired so that the frame gets further in, and
// how much time goes by afterwards.
func FuzzStack(f *testing.F) {
	for _, frames := range hostileFrames() {
		var seed []byte
		for _, fr := range frames.frames {
			for len(fr)%4 != 0 {
				fr = append(fr, 0)
			}
			if len(fr)/4 > 255 {
				fr = fr[:1020]
			}
			seed = append(seed, byte(len(fr)/4), 0x03)
			seed = append(seed, fr...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		limits := stack.Limits{Connections: 64, SynQueue: 4, Neighbours: 16, NeighbourQueue: 4,
			FragmentBytes: 1 << 16, FragmentBytesPerSource: 1 << 15, DatagramReceive: 1 << 14, TimeWait: 8, PathMTU: 8}
		before := pkt.Live()
		n, s, i, d := newInjected(t, stack.Config{Limits: limits,
			TCP: stack.TCPConfig{FastOpen: stack.FastOpenServer | stack.FastOpenServerNoCookie}}, stack.InterfaceConfig{NoDAD: true, SLAAC: true})
		d.keep = 256
		l, err := s.BindTCP(netip.MustParseAddrPort("[::]:7"), false, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Listen(4)
		l.SetFastOpen(4)
		serveEcho(t, l)
		u, _ := s.NewUDP(true)
		u.Bind(netip.MustParseAddrPort("[::]:7"))
		for len(in) >= 2 {
			size, how := 4*int(in[0]), in[1]
			in = in[2:]
			frame := append([]byte(nil), in[:min(size, len(in))]...)
			in = in[len(frame):]
			if how&1 != 0 {
				address(frame)
			}
			if how&2 != 0 {
				repair(frame)
			}
			d.inject(frame)
			n.RunFor(time.Duration(how>>2) * 20 * time.Millisecond)
			d.take()
			// What waits is bounded: reassembly, neighbour queues, the UDP
			// queue and out-of-order data hold their bytes in their own
			// tables; buffers outside of the pools are counted here.
			if live := pkt.Live() - before; live > 16*4+2*64*2+64+64 {
				t.Fatalf("%d buffers in use", live)
			}
		}
		if got := len(i.Addrs()); got > 64 {
			t.Fatalf("%d addresses", got)
		}
		d.take()
		d.inject(arpRequest(hostIP4))
		if !contains(d.take(), func(b []byte) bool { return len(b) >= 22 && b[12] == 8 && b[13] == 6 && b[21] == 2 }) {
			t.Fatal("no answer to ARP after the frames")
		}
		n.RunFor(200 * time.Second) // every timer there is
	})
}

// FuzzSuperFrame does it with metadata as a device has them, right or wrong:
// the frames come as super-frames of TCP or UDP with finished or unfinished
// checksums, from a device that says so.
func FuzzSuperFrame(f *testing.F) {
	tcpFrame := segment(false, 4000, 7, 1, 1, tcp.FlagACK, pattern(3000))
	f.Add(tcpFrame, uint8(1), uint16(1000), uint8(2), uint8(3))
	binary.BigEndian.PutUint16(tcpFrame[16:], 0)
	f.Add(tcpFrame, uint8(1), uint16(1000), uint8(2), uint8(1))
	f.Add(segment(true, 4000, 7, 1, 1, tcp.FlagSYN, pattern(3000)), uint8(2), uint16(1), uint8(2), uint8(3))
	f.Add(datagram(false, 4000, 7, pattern(3000)), uint8(3), uint16(100), uint8(2), uint8(3))
	f.Add(datagram(true, 4000, 7, pattern(300)), uint8(3), uint16(1), uint8(0), uint8(3))
	f.Fuzz(func(t *testing.T, frame []byte, kind uint8, size uint16, csum, how uint8) {
		if len(frame) > 9000 {
			return
		}
		const room = 1 << 14
		n, s, _, d := newInjected(t, stack.Config{Limits: stack.Limits{DatagramReceive: room}}, stack.InterfaceConfig{NoDAD: true})
		d.keep = 64
		l, err := s.BindTCP(netip.MustParseAddrPort("[::]:7"), false, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Listen(4)
		l.SetFastOpen(4)
		serveEcho(t, l)
		u, _ := s.NewUDP(true)
		u.Bind(netip.MustParseAddrPort("[::]:7"))
		if how&1 != 0 {
			address(frame)
		}
		if how&2 != 0 {
			repair(frame)
		}
		for range 3 {
			p := pkt.From(frame)
			p.GSO = pkt.GSO{Type: pkt.GSOType(kind % 4), SegSize: size}
			p.Csum = pkt.Csum(csum % 3)
			d.deliver(p)
		}
		d.idle()
		n.RunFor(time.Second)
		var b [1 << 16]byte
		total := 0
		for i := 0; ; i++ {
			u.SetReceiveSegments(i&1 == 0)
			got, whole, seg, _, err := u.RecvSegments(b[:])
			if err != nil {
				break
			}
			if got != whole || seg > got {
				t.Fatalf("%d bytes of %d in segments of %d", got, whole, seg)
			}
			total += got
		}
		if total > room {
			t.Fatalf("%d bytes were queued", total)
		}
	})
}

// address points a frame at the host.
func address(b []byte) {
	if len(b) < ether.HeaderLen {
		return
	}
	if b[0]&1 == 0 {
		copy(b, hostMAC[:])
	}
	ip := b[ether.HeaderLen:]
	switch {
	case b[12] == 8 && b[13] == 0 && len(ip) >= 20:
		copy(ip[12:], peerIP4.AsSlice())
		if ip[16] < 224 {
			copy(ip[16:], hostIP4.AsSlice())
		}
	case b[12] == 0x86 && b[13] == 0xdd && len(ip) >= 40 && ip[24] != 0xff:
		copy(ip[24:], hostIP6.AsSlice())
	}
}

// repair makes lengths and checksums right where that is possible.
func repair(b []byte) {
	if len(b) < ether.HeaderLen {
		return
	}
	ip := b[ether.HeaderLen:]
	switch {
	case b[12] == 8 && b[13] == 0 && len(ip) >= 20:
		ip[0] = 0x40 | ip[0]&15
		hl := int(ip[0]&15) * 4
		if hl < 20 || hl > len(ip) {
			return
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], csum.Checksum(ip[:hl], 0))
		if binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 {
			transport(ip[9], ip[hl:], netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])))
		}
	case b[12] == 0x86 && b[13] == 0xdd && len(ip) >= 40:
		ip[0] = 0x60 | ip[0]&15
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		c, _, drop := ipv6.Walk(ip)
		if drop == ipv6.DropNone && !c.HasFrag {
			transport(c.Proto, ip[c.Offset:], netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])))
		}
	}
}

func transport(proto uint8, b []byte, src, dst netip.Addr) {
	at, pseudo := 0, csum.Pseudo(src, dst, proto, len(b))
	switch proto {
	case ipv4.ProtoTCP:
		at = 16
	case ipv4.ProtoUDP:
		at = 6
		if len(b) >= 8 {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		}
	case ipv4.ProtoICMP:
		at, pseudo = 2, 0
	case ipv6.ProtoICMPv6:
		at = 2
	default:
		return
	}
	if len(b) < at+2 {
		return
	}
	b[at], b[at+1] = 0, 0
	binary.BigEndian.PutUint16(b[at:], csum.Checksum(b, pseudo))
}

func contains(frames [][]byte, want func([]byte) bool) bool {
	for _, f := range frames {
		if want(f) {
			return true
		}
	}
	return false
}
