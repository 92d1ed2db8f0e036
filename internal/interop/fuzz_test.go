package interop

// A fuzzer on the link of a running stack: frames that were right once and have
// been damaged, at full speed, beside transfers with the kernel that must not
// notice. For a moment in every test, for as long as -soak says in `make soak`.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// fuzzer damages frames.
type fuzzer struct {
	*rand.Rand
	seeds [][]byte
	fixed int // seeds that stay; the others are of the last traffic
}

// maxSeeds is how many frames are kept to be damaged.
const maxSeeds = 512

// see keeps a frame that the stack or the kernel sent, as if the stranger had
// sent it to the stack.
func (z *fuzzer) see(b []byte) {
	if len(b) < ether.HeaderLen {
		return
	}
	from := ether.Addr(b[6:12])
	if len(b) > 1000 && z.IntN(20) != 0 || len(b) > 1514 {
		return // bulk, all alike
	}
	b = bytes.Clone(b)
	copy(b, ourMAC[:])
	copy(b[6:], strangerMAC)
	for from, to := range map[netip.Addr]netip.Addr{lab.Kernel4.Addr(): stranger4, lab.Kernel6.Addr(): stranger6, lab.KernelLL.Addr(): strangerLL} {
		b = bytes.ReplaceAll(b, from.AsSlice(), to.AsSlice())
	}
	if from == ourMAC { // turn it round
		for a, o := range map[netip.Addr]netip.Addr{our4.Addr(): stranger4, our6.Addr(): stranger6} {
			gap := bytes.Repeat([]byte{0xee}, len(a.AsSlice()))
			b = bytes.ReplaceAll(b, a.AsSlice(), gap)
			b = bytes.ReplaceAll(b, o.AsSlice(), a.AsSlice())
			b = bytes.ReplaceAll(b, gap, o.AsSlice())
		}
	}
	if len(z.seeds) < maxSeeds {
		z.seeds = append(z.seeds, b)
		return
	}
	z.seeds[z.fixed+z.IntN(maxSeeds-z.fixed)] = b
}

var stranger6 = netip.MustParseAddr("fd77::66")

// next makes a frame.
func (z *fuzzer) next() []byte {
	b := bytes.Clone(z.seeds[z.IntN(len(z.seeds))])
	if z.IntN(2) == 0 {
		b = bytes.Clone(z.seeds[z.IntN(z.fixed)])
	}
	for range 1 + z.IntN(6) {
		b = z.damage(b)
	}
	if len(b) < ether.HeaderLen {
		return append(b, make([]byte, ether.HeaderLen-len(b))...)
	}
	if z.IntN(8) != 0 && b[0]&1 == 0 {
		copy(b, ourMAC[:])
	}
	if z.IntN(4) != 0 {
		repair(b)
	}
	return b[:min(len(b), 1514)]
}

// damage changes one thing.
func (z *fuzzer) damage(b []byte) []byte {
	if len(b) <= ether.HeaderLen {
		return append(b, byte(z.Uint32()))
	}
	at := z.IntN(len(b))
	if z.IntN(4) != 0 {
		at = ether.HeaderLen + z.IntN(min(len(b)-ether.HeaderLen, 80)) // headers
	}
	interesting := []byte{0, 1, 2, 4, 8, 0x7f, 0x80, 0xfe, 0xff, 6, 17, 58, 43, 44, 60}
	switch z.IntN(9) {
	case 0:
		b[at] ^= 1 << z.IntN(8)
	case 1:
		b[at] = byte(z.Uint32())
	case 2, 3:
		b[at] = interesting[z.IntN(len(interesting))]
	case 4:
		if at+1 < len(b) {
			binary.BigEndian.PutUint16(b[at:], uint16(int(binary.BigEndian.Uint16(b[at:]))+z.IntN(17)-8))
		}
	case 5:
		b = b[:at]
	case 6:
		n := z.IntN(min(64, len(b)-at) + 1)
		b = slices.Insert(b, at, b[at:at+n]...)
	case 7:
		n := z.IntN(min(64, len(b)-at) + 1)
		b = slices.Delete(b, at, at+n)
	case 8:
		other := z.seeds[z.IntN(len(z.seeds))]
		if at < len(other) {
			b = append(b[:at], other[at:]...)
		}
	}
	return b
}

// repair makes the lengths and checksums of a frame right, so that it gets
// further than to the first check.
func repair(b []byte) {
	ip := b[ether.HeaderLen:]
	switch ether.Type(binary.BigEndian.Uint16(b[12:])) {
	case ether.TypeIPv4:
		hl := 0
		if len(ip) >= 20 {
			ip[0] = 0x40 | ip[0]&15
			hl = int(ip[0]&15) * 4
		}
		if hl < 20 || hl > len(ip) {
			return
		}
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], csum.Checksum(ip[:hl], 0))
		if h, d := ipv4.Parse(ip); d == ipv4.DropNone && !h.MF() && h.Offset() == 0 {
			sign(h.Protocol(), ip[hl:], h.Src(), h.Dst())
		}
	case ether.TypeIPv6:
		if len(ip) < ipv6.HeaderLen {
			return
		}
		ip[0] = 0x60 | ip[0]&15
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6.HeaderLen))
		h := ipv6.Header(ip)
		if c, _, d := ipv6.Walk(ip); d == ipv6.DropNone && !c.HasFrag {
			sign(c.Proto, ip[c.Offset:], h.Src(), h.Dst())
		}
	}
}

// sign sets the checksum of a transport message.
func sign(proto uint8, b []byte, src, dst netip.Addr) {
	at, ok := map[uint8]int{ipv4.ProtoTCP: 16, ipv4.ProtoUDP: 6, ipv4.ProtoICMP: 2, ipv6.ProtoICMPv6: 2}[proto]
	if !ok || len(b) < at+2 {
		return
	}
	sum := csum.Pseudo(src, dst, proto, len(b))
	if proto == ipv4.ProtoICMP {
		sum = 0
	}
	if proto == ipv4.ProtoUDP {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	}
	b[at], b[at+1] = 0, 0
	binary.BigEndian.PutUint16(b[at:], csum.Checksum(b, sum))
}

// impersonates reports a frame that a host has to take for one of the kernel's:
// no stack could tell, and it may well break what the kernel has with it.
func impersonates(b []byte) bool {
	if len(b) < ether.HeaderLen+20 {
		return false
	}
	for _, a := range []netip.Addr{lab.Kernel4.Addr(), lab.Kernel6.Addr(), lab.KernelLL.Addr()} {
		if bytes.Contains(b, a.AsSlice()) {
			return true
		}
	}
	return false
}

// newFuzzer has a frame of each kind that a host understands.
func newFuzzer(t *testing.T, seed uint64) *fuzzer {
	z := &fuzzer{Rand: rand.New(rand.NewPCG(seed, 0))}
	add := func(typ layers.EthernetType, dst []byte, payload []byte) {
		z.seeds = append(z.seeds, serialize(t, &layers.Ethernet{SrcMAC: strangerMAC, DstMAC: dst, EthernetType: typ}, gopacket.Payload(payload)))
	}
	four := func(proto layers.IPProtocol, options []layers.IPv4Option, l ...gopacket.SerializableLayer) {
		h := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, Id: uint16(z.Uint32()), SrcIP: stranger4.AsSlice(), DstIP: our4.Addr().AsSlice(), Options: options}
		add(layers.EthernetTypeIPv4, ourMAC[:], serialize(t, append([]gopacket.SerializableLayer{h}, l...)...))
	}
	six := func(src, dst netip.Addr, proto layers.IPProtocol, payload []byte) {
		h := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		add(layers.EthernetTypeIPv6, ourMAC[:], serialize(t, h, gopacket.Payload(payload)))
	}
	us, all := our6.Addr(), allNodes
	nd := func(dst netip.Addr, typ byte, rest ...byte) {
		six(strangerLL, dst, layers.IPProtocolICMPv6, append([]byte{typ, 0, 0, 0}, rest...))
	}
	mac := append([]byte{1, 1}, strangerMAC...)
	for _, op := range []byte{1, 2} {
		add(layers.EthernetTypeARP, ourMAC[:], slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, op}, strangerMAC, stranger4.AsSlice(), ourMAC[:], our4.Addr().AsSlice()))
	}
	four(layers.IPProtocolICMPv4, nil, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 1}, gopacket.Payload("ping"))
	quote := make([]byte, 28)
	quoted := ipv4.Fields{TTL: 64, Protocol: ipv4.ProtoTCP, Src: our4.Addr(), Dst: stranger4, PayloadLen: 8}
	quoted.Put(quote)
	for _, typ := range []uint8{3, 4, 5, 11, 12, 13, 17} {
		four(layers.IPProtocolICMPv4, nil, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, typ%5)}, gopacket.Payload(quote))
	}
	for _, o := range [][]byte{{7, 7, 4, 0, 0, 0, 0, 0}, {68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0}, {131, 7, 4, 1, 2, 3, 4, 0}, {148, 4, 0, 0}} {
		four(layers.IPProtocolICMPv4, []layers.IPv4Option{{OptionType: o[0], OptionLength: o[1], OptionData: o[2:o[1]]}},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, gopacket.Payload("options"))
	}
	four(layers.IPProtocolIGMP, nil, gopacket.Payload([]byte{0x11, 10, 0, 0, 0, 0, 0, 0, 2, 20, 0, 0}))
	four(layers.IPProtocolUDP, nil, gopacket.Payload([]byte{0, 9, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4}))
	z.seeds = append(z.seeds, synFrame(0, 7), synFrame(1, 7))
	for i := range 4 { // pieces
		b := make([]byte, 64)
		p := make([]byte, 20, 84)
		f := ipv4.Fields{TTL: 64, Protocol: ipv4.ProtoICMP, ID: 7, MF: i < 3, Offset: i * 64, Src: stranger4, Dst: our4.Addr(), PayloadLen: 64}
		f.Put(p)
		add(layers.EthernetTypeIPv4, ourMAC[:], append(p, b...))
		six(stranger6, us, layers.IPProtocolIPv6Fragment, append([]byte{58, 0, 0, byte(i*64) | byte(min(1, 3-i)), 0, 0, 0, 7}, b...))
	}
	six(stranger6, us, layers.IPProtocolICMPv6, []byte{128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4})
	for _, typ := range []byte{1, 2, 3, 4} {
		q := append([]byte{0x60, 0, 0, 0, 0, 20, 6, 64}, append(us.AsSlice(), stranger6.AsSlice()...)...)
		six(stranger6, us, layers.IPProtocolICMPv6, slices.Concat([]byte{typ, 0, 0, 0, 0, 0, 5, 0}, q, make([]byte, 20)))
	}
	nd(us, 135, slices.Concat(make([]byte, 4), us.AsSlice(), mac)...)
	nd(us, 136, slices.Concat([]byte{0x60, 0, 0, 0}, strangerLL.AsSlice(), []byte{2}, mac[1:])...)
	nd(us, 137, slices.Concat(make([]byte, 4), strangerLL.AsSlice(), stranger6.AsSlice(), mac)...)
	prefix := slices.Concat([]byte{3, 4, 64, 0xc0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0xfd, 0x78}, make([]byte, 14))
	route := []byte{24, 2, 48, 8, 0, 0, 1, 0, 0xfd, 0x79, 0, 0, 0, 0, 0, 0}
	dns := slices.Concat([]byte{25, 3, 0, 0, 0, 0, 1, 0}, stranger6.AsSlice(), []byte{31, 2, 0, 0, 0, 0, 1, 0, 1, 'a', 0, 0, 0, 0, 0, 0})
	nd(all, 134, slices.Concat([]byte{64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0}, mac, []byte{5, 1, 0, 0, 0, 0, 5, 0}, prefix, route, dns)...)
	hbh := []byte{58, 0, 5, 2, 0, 0, 1, 0}
	six(strangerLL, all, 0, slices.Concat(hbh, []byte{130, 0, 0, 0, 3, 0, 0, 0}, make([]byte, 16), []byte{2, 20, 0, 0}))
	six(stranger6, us, 60, slices.Concat([]byte{43, 0, 1, 4, 0, 0, 0, 0, 58, 2, 0, 0, 0, 0, 0, 0}, make([]byte, 16), []byte{128, 0, 0, 0, 0, 1, 0, 1}))
	for _, b := range z.seeds {
		repair(b)
	}
	z.fixed = len(z.seeds)
	return z
}

// TestFrameFuzzer fuzzes.
func TestFrameFuzzer(t *testing.T) { testFrameFuzzer(t, time.Second) }

// TestSoakFuzzer does so for as long as asked.
func TestSoakFuzzer(t *testing.T) {
	if *soak == 0 {
		t.Skip("takes minutes: make soak")
	}
	testFrameFuzzer(t, *soak)
}

func testFrameFuzzer(t *testing.T, d time.Duration) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, services: true, nic: stack.InterfaceConfig{NoDAD: true, SLAAC: true}})
	h.anyDrop = true
	s := newStranger(t, l)
	for _, a := range []netip.Addr{stranger4, stranger6, strangerLL} {
		if err := h.stack.Neighbours().Set(h.nic, a, ether.Addr(strangerMAC)); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	z := newFuzzer(t, seed)

	end := time.Now().Add(d)
	var moved atomic.Int64
	var conns sync.WaitGroup
	for i, fam := range families {
		c := dial(t, h.kernelSide(), "tcp", addr(fam.ours.Addr(), 7), d+6*patience)
		text := chargenLines(100_000 + i)
		conns.Go(func() {
			got := make([]byte, len(text))
			for time.Now().Before(end) {
				go c.Write(text)
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, text) {
					t.Errorf("%s: the echo after %d bytes: %v, %d pieces of it differ", fam.name, moved.Load(), err, differing(got, text))
					return
				}
				moved.Add(int64(len(got)))
			}
		})
	}
	// What the stack says to all is good to be damaged.
	var mu sync.Mutex
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := s.f.Read(b)
			if err != nil {
				return // closed
			}
			mu.Lock()
			z.see(b[:n])
			mu.Unlock()
		}
	}()
	sent, full, skipped := 0, 0, 0
	var most uint64
	for n := 0; time.Now().Before(end) && !t.Failed(); n++ {
		mu.Lock()
		b := z.next()
		mu.Unlock()
		if impersonates(b) {
			skipped++
			continue
		}
		switch _, err := s.f.Write(b); {
		case err == nil:
			sent++
		case errors.Is(err, unix.ENOBUFS):
			full++
		default:
			t.Fatalf("frame % x: %v", b, err)
		}
		if n%50 == 49 {
			time.Sleep(time.Millisecond) // so that others go on too
			most = max(most, h.stack.Counters()["memory.used"])
		}
	}
	conns.Wait()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d frames in %v, %d found the queue full, %d not sent; %d bytes moved beside them; at most %d bytes of the budget used, heap %s", sent, d, full, skipped, moved.Load(), most, mega(int64(m.HeapAlloc)))
	if moved.Load() == 0 {
		t.Error("nothing moved")
	}
	if n := len(h.stack.Neighbours().List()); n > 2*1024 {
		t.Errorf("%d neighbours", n)
	}
	if n := len(h.nic.Addrs()); n > 64+2 {
		t.Errorf("%d addresses", n)
	}
	if in := h.count("ether.input"); in < uint64(sent)/2 {
		t.Errorf("of %d frames the stack has seen %d", sent, in)
	}
	if most > 64<<20 {
		t.Errorf("%d bytes of the budget used", most)
	}
	for _, fam := range families {
		h.ping(t, fam.ours.Addr().String(), fam.ping, 56, 3)
	}
	var names []string
	for name, n := range h.stack.Counters() {
		names = append(names, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(names)
	t.Log(names)
}

// differing counts the kilobytes that differ.
func differing(a, b []byte) (n int) {
	for len(a) > 0 && len(b) > 0 {
		k := min(1024, len(a), len(b))
		if !bytes.Equal(a[:k], b[:k]) {
			n++
		}
		a, b = a[k:], b[k:]
	}
	return n
}
