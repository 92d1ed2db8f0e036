package stack_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// The independent opinion on what the host sends: frames are built and read by
// gopacket, which shares no code with the stack.

// testHost is a host on an injector, past its start-up: addresses announced,
// groups reported.
type testHost struct {
	*testing.T
	n *simnet.Net
	s *stack.Stack
	i *stack.Interface
	d *injector
}

func newTestHost(t *testing.T, c stack.Config, ic stack.InterfaceConfig) *testHost {
	t.Helper()
	h := &testHost{T: t}
	ic.NoDAD = true
	h.n, h.s, h.i, h.d = newInjected(t, c, ic)
	h.n.RunFor(10 * time.Second)
	h.d.take()
	return h
}

// meet makes the host learn the peer's addresses, so that frames to it leave
// at once.
func (h *testHost) meet() *testHost {
	h.Helper()
	h.d.inject(arpRequest(hostIP4))
	h.d.inject(solicit(peerIP6, hostIP6, hostMAC, true))
	if n := len(h.d.take()); n != 2 {
		h.Fatalf("%d answers to the peer's questions, want 2", n)
	}
	return h
}

// send injects frames and returns what comes back without time passing.
func (h *testHost) send(frames ...[]byte) [][]byte {
	for _, f := range frames {
		h.d.inject(f)
	}
	h.n.RunFor(0)
	return h.d.take()
}

// run lets time pass and returns what the host sends meanwhile.
func (h *testHost) run(d time.Duration) [][]byte {
	h.n.RunFor(d)
	return h.d.take()
}

// answers makes the peer answer the host's questions about its addresses from
// now on, a millisecond after each.
func (h *testHost) answers() {
	h.d.sees = func(f []byte) {
		var answer []byte
		switch {
		case isARP(f) && f[21] == 1 && netip.AddrFrom4([4]byte(f[38:42])) == peerIP4:
			answer = arpReply(peerMAC, peerIP4)
		case len(f) >= 86 && f[54] == icmp.TypeNS && netip.AddrFrom16([16]byte(f[62:78])) == peerIP6:
			answer = advert(peerIP6, hostIP6, true, true)
		default:
			return
		}
		h.n.After(time.Millisecond, func() { h.d.inject(answer) })
	}
}

func (h *testHost) count(name string) uint64 { return h.s.Counters()[name] }

// drops returns the counters of drops, in order, as "name=n".
func drops(s *stack.Stack) (list []string) {
	for name, n := range s.Counters() {
		if strings.Contains(name, ".drop.") {
			list = append(list, fmt.Sprintf("%s=%d", name, n))
		}
	}
	slices.Sort(list)
	return list
}

func wantDrops(t testing.TB, s *stack.Stack, want ...string) {
	t.Helper()
	if got := drops(s); !slices.Equal(got, want) {
		t.Errorf("drops: %v, want %v", got, want)
	}
}

// wantFrames compares what was sent with what gopacket builds.
func wantFrames(t testing.TB, got [][]byte, want ...[]byte) {
	t.Helper()
	for k := range max(len(got), len(want)) {
		switch {
		case k >= len(got):
			t.Errorf("frame %d missing: %s", k, describe(want[k]))
		case k >= len(want):
			t.Errorf("frame %d is one too many: %s", k, describe(got[k]))
		case !bytes.Equal(got[k], want[k]):
			t.Errorf("frame %d:\n got %x\nwant %x\n got %s\nwant %s", k, got[k], want[k], describe(got[k]), describe(want[k]))
		}
	}
}

func describe(frame []byte) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	var b strings.Builder
	for _, l := range p.Layers() {
		s := gopacket.LayerString(l)
		if len(s) > 300 {
			s = s[:300] + "…"
		}
		b.WriteString(s + " ")
	}
	return b.String()
}

// build serialises layers, Ethernet first, with lengths and checksums filled in.
func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls[1:]...)
	n := ether.HeaderLen + len(buf.Bytes())
	if err == nil {
		err = ls[0].SerializeTo(buf, gopacket.SerializeOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	// gopacket pads to 60 bytes, which is the business of a device.
	return bytes.Clone(buf.Bytes()[:n])
}

func gpEther(src, dst ether.Addr, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: typ}
}

// gpIP4 is a header from the host to the peer.
func gpIP4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: ip(hostIP4), DstIP: ip(peerIP4)}
}

func gpIP6(next layers.IPProtocol, hops uint8, src, dst netip.Addr) *layers.IPv6 {
	return &layers.IPv6{Version: 6, NextHeader: next, HopLimit: hops, SrcIP: ip(src), DstIP: ip(dst)}
}

func ip(a netip.Addr) net.IP { return a.AsSlice() }

// parse decodes a frame and fails if gopacket finds it malformed, or would
// have given it another length or checksum.
func parse(t testing.TB, frame []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v in %x", e.Error(), frame)
	}
	var ls []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			c.SetNetworkLayerForChecksum(p.NetworkLayer())
		}
		s, ok := l.(gopacket.SerializableLayer)
		if !ok {
			return p
		}
		ls = append(ls, s)
	}
	if again := build(t, ls...); !bytes.Equal(again, frame) {
		t.Fatalf("gopacket would have written\n%x instead of\n%x", again, frame)
	}
	return p
}

// layerOf returns the first layer of a kind among frames.
func layerOf[L gopacket.Layer](t testing.TB, frames [][]byte) (l L, ok bool) {
	t.Helper()
	for _, f := range frames {
		for _, x := range parse(t, f).Layers() {
			if l, ok := x.(L); ok {
				return l, true
			}
		}
	}
	return l, false
}

// countOf returns how many frames have a layer of a kind.
func countOf[L gopacket.Layer](t testing.TB, frames [][]byte) (n int) {
	t.Helper()
	for _, f := range frames {
		if _, ok := layerOf[L](t, [][]byte{f}); ok {
			n++
		}
	}
	return n
}
