package stack_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// What a flood from everybody on the link costs: internal/interop has the same
// attacks beside a transfer.

func strangerMAC(n int) ether.Addr {
	return ether.Addr{2, 0, 0x66, byte(n >> 16), byte(n >> 8), byte(n)}
}

func stranger6(n int) netip.Addr {
	a := netip.MustParseAddr("fd77::66:0:0").As16()
	binary.BigEndian.PutUint32(a[12:], uint32(n))
	return netip.AddrFrom16(a)
}

func strangerLL(n int) netip.Addr {
	a := netip.MustParseAddr("fe80::66:0:0").As16()
	binary.BigEndian.PutUint32(a[12:], uint32(n))
	return netip.AddrFrom16(a)
}

func stranger4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 78, byte(n >> 8), byte(n)}) }

func fromStranger(n int, frame []byte) []byte {
	m := strangerMAC(n)
	copy(frame[6:], m[:])
	return frame
}

// floods are the attacks: frame n of each, and how many frames a stranger's
// frame may be answered with once the tables are full.
var floods = []struct {
	name    string
	frame   func(t testing.TB, n int) []byte
	answers float64
	allocs  float64
}{
	{"echo requests from a /64", func(_ testing.TB, n int) []byte {
		b := make([]byte, icmp.HeaderLen)
		icmp.Put(b, icmp.TypeEcho6, 0, [4]byte{0, 1, 0, 1})
		return fromStranger(n, icmp6(64, stranger6(n), hostIP6, b))
	}, 0, 0},
	{"router advertisements", func(_ testing.TB, n int) []byte {
		b := []byte{icmp.TypeRA, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0, 0xfd, 0x80, 0, 0}
		b = append(binary.BigEndian.AppendUint32(b, uint32(n)), make([]byte, 8)...)
		return fromStranger(n, icmp6(255, strangerLL(n), ipv6.AllNodes, b))
	}, 0, 1}, // the prefixes it names
	{"neighbour solicitations", func(_ testing.TB, n int) []byte {
		m := ipv6.NeighborSolicit{Target: hostIP6, SourceMAC: strangerMAC(n), HasMAC: true}
		return fromStranger(n, icmp6(255, stranger6(n), hostIP6, m.Append(nil)))
	}, 1, 0},
	{"ARP requests", func(_ testing.TB, n int) []byte {
		b := make([]byte, arp.PacketLen)
		arp.Put(b, arp.OpRequest, strangerMAC(n), stranger4(n), ether.Addr{}, hostIP4)
		return fromStranger(n, eth(hostMAC, ether.TypeARP, b))
	}, 1, 0},
	{"echo requests from a /16", func(_ testing.TB, n int) []byte {
		return fromStranger(n, echo4(1, 1, nil, func(f *ipv4.Fields) { f.Src = stranger4(n) }))
	}, 0, 0},
	{"SYNs from a /64 to a closed port", func(_ testing.TB, n int) []byte {
		s := tcp.Segment{SrcPort: 4000, DstPort: 9, Seq: 1, Flags: tcp.FlagSYN, Window: 1000}
		return fromStranger(n, tcp6(stranger6(n), hostIP6, &s))
	}, 0, 0},
}

// tcp6 is a segment between any addresses.
func tcp6(src, dst netip.Addr, s *tcp.Segment) []byte {
	b := make([]byte, s.HeaderLen())
	s.PutHeader(b)
	transport(ipv4.ProtoTCP, b, src, dst)
	return ip6(ipv4.ProtoTCP, b, func(f *ipv6.Fields) { f.Src, f.Dst = src, dst })
}

// newFlooded is a host on the link of the floods, which knows its peer.
func newFlooded(t *testing.T) (*testHost, *handClock) {
	t.Helper()
	c := &handClock{t: mono.Time(time.Hour)}
	h := &testHost{T: t, d: &injector{mtu: 1500}}
	h.s = stack.New(stack.Config{Clock: c, Seed: 7})
	t.Cleanup(func() { h.s.Close() })
	var err error
	if h.i, err = h.s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: h.d, MAC: hostMAC, NoDAD: true, SLAAC: true}); err != nil {
		t.Fatal(err)
	}
	h.add("10.77.0.7/8")
	h.add("fd77::7/64")
	h.d.take()
	return h.meet(), c
}

// TestFloodIsCheap: once the tables are full a frame of a flood is answered by
// one frame at most, none where that would take a search for who sent it, and
// allocates nothing. The peer is remembered all the while.
func TestFloodIsCheap(t *testing.T) {
	for _, x := range floods {
		t.Run(x.name, func(t *testing.T) {
			h, clock := newFlooded(t)
			peerEchos := [][]byte{echo4(1, 2, nil, nil), echo6(1, 2, nil)}
			for _, echo := range peerEchos { // the peer is in use
				h.d.inject(echo)
			}
			const warm, runs = 4000, 1000
			var frames [][]byte
			for n := range warm + 2*runs + 2 {
				frames = append(frames, x.frame(t, n+1000))
			}
			sent := 0
			h.d.mute, h.d.sees = true, func([]byte) { sent++ }
			n := 0
			next := func() {
				clock.t = clock.t.Add(50 * time.Microsecond)
				h.d.inject(frames[n])
				n++
			}
			for range warm {
				next()
			}
			sent = 0
			for range runs {
				next()
			}
			if float64(sent) > x.answers*runs {
				t.Errorf("%d frames sent for %d", sent, runs)
			}
			if !raceEnabled {
				if a := testing.AllocsPerRun(runs, next); a > x.allocs {
					t.Errorf("%v allocations for each", a)
				}
			}
			h.d.mute, h.d.sees = false, nil
			h.d.take()
			for _, echo := range peerEchos {
				h.d.inject(echo)
				if out := h.d.take(); len(out) != 1 || ether.Addr(out[0][:6]) != peerMAC {
					t.Errorf("the peer is answered by %d frames", len(out))
				}
			}
		})
	}
}

// TestSolicitAnsweredBesideFullTable: who gives his address is answered there,
// whether or not there is place to remember it, and nobody is looked for.
func TestSolicitAnsweredBesideFullTable(t *testing.T) {
	h, _ := newFlooded(t)
	for n := range 3000 {
		h.d.inject(floods[2].frame(t, n))
		out := h.d.take()
		if len(out) != 1 || ether.Addr(out[0][:6]) != strangerMAC(n) {
			t.Fatalf("solicitation %d is answered by %d frames", n, len(out))
		}
		f, body, ok := ip6Of(out[0])
		if m, drop := ipv6.ParseNeighborAdvert(f, body); !ok || drop != ipv6.DropNone || f.Dst() != stranger6(n) || m.Target != hostIP6 || !m.Solicited {
			t.Fatalf("solicitation %d is answered by % x", n, out[0])
		}
	}
}

// TestAskingSource: who looks for a neighbour says so with the address that the
// packet comes from which waits for the answer (RFC 4861 §7.2.2).
func TestAskingSource(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	for _, c := range []struct{ add, to string }{{"fd77::8/64", "fd77::99"}, {"10.77.0.8/24", "10.77.0.99"}} {
		other := h.add(c.add)
		h.d.take()
		u := newUDP(t, h.s)
		if err := u.Bind(netip.AddrPortFrom(other, 0)); err != nil {
			t.Fatal(err)
		}
		if err := u.SendTo([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr(c.to), 9)); err != nil {
			t.Fatal(err)
		}
		out := h.d.take()
		if len(out) != 1 {
			t.Fatalf("%d frames", len(out))
		}
		src := netip.Addr{}
		if f, _, ok := ip6Of(out[0]); ok {
			src = f.Src()
		} else if isARP(out[0]) {
			src = netip.AddrFrom4([4]byte(out[0][28:32]))
		}
		if src != other {
			t.Errorf("a packet of %v: the question comes from %v", other, src)
		}
	}
}

func BenchmarkFlood(b *testing.B) {
	for _, x := range floods {
		b.Run(x.name, func(b *testing.B) {
			c := &handClock{t: mono.Time(time.Hour)}
			d := &injector{mtu: 1500, mute: true}
			s := stack.New(stack.Config{Clock: c, Seed: 7})
			defer s.Close()
			i, _ := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: d, MAC: hostMAC, NoDAD: true, SLAAC: true})
			i.AddAddr(netip.MustParsePrefix("10.77.0.7/8"))
			i.AddAddr(netip.MustParsePrefix("fd77::7/64"))
			var frames [][]byte
			for n := range 20000 {
				frames = append(frames, x.frame(b, n+1000))
			}
			for n := range 4000 {
				d.inject(frames[n])
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				c.t = c.t.Add(50 * time.Microsecond)
				d.inject(frames[n%20000])
				n++
			}
		})
	}
}
