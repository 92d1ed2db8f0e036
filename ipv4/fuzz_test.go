package ipv4

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/frag"
	"github.com/tapstack/tapstack/internal/pkt"
)

func seeds(f *testing.F) {
	f.Add(packet(nil))
	f.Add(packet([]byte{1, 148, 4, 0, 0, 99, 3, 5, 7, 2, 0, 1}))
	f.Add(packet([]byte{68, 12, 13, 1, 10, 0, 0, 1, 0, 0, 0, 6}))
	f.Add(packet([]byte{137, 7, 8, 10, 0, 0, 1, 0}, set(6, 0x20, 9)))
	f.Add(packet([]byte{7, 5, 0, 0}))
	f.Add(append(packet(nil), 0, 0, 0))
	f.Add([]byte{0x45})
}

// FuzzParse checks what Parse promises, and gopacket's reading of the same.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= HeaderLen {
			// Fuzzing would seldom hit a good checksum.
			if n := int(b[0]&15) * 4; n >= HeaderLen && n <= len(b) && b[10]&1 == 0 {
				putChecksum(b[:n])
			}
		}
		h, d := Parse(b)
		var g layers.IPv4
		err := g.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		if d == DropOptions {
			if at := BadOption(h.Options()); at < 0 || at >= len(h.Options()) {
				t.Fatalf("bad option at %d", at)
			}
		}
		if d != DropNone {
			return
		}
		if h.Len() < HeaderLen || h.Len() > h.TotalLen() || h.TotalLen() > len(b) || csum.Sum(h, 0) != 0xffff {
			t.Fatalf("lengths %d, %d of %d", h.Len(), h.TotalLen(), len(b))
		}
		src, _ := netip.AddrFromSlice(g.SrcIP)
		dst, _ := netip.AddrFromSlice(g.DstIP)
		if err != nil {
			for o := range Walk(h.Options()) {
				if len(o.Data) == 0 {
					return // gopacket wants data in each option
				}
			}
			t.Fatalf("gopacket: %v", err)
		}
		if g.TOS != h.TOS() || int(g.Length) != h.TotalLen() || g.Id != h.ID() || g.TTL != h.TTL() ||
			uint8(g.Protocol) != h.Protocol() || int(g.FragOffset)*8 != h.Offset() || g.Checksum != h.Checksum() ||
			(g.Flags&layers.IPv4DontFragment != 0) != h.DF() || (g.Flags&layers.IPv4MoreFragments != 0) != h.MF() ||
			src != h.Src() || dst != h.Dst() || len(g.Payload) != h.TotalLen()-h.Len() {
			t.Fatalf("gopacket reads % x differently: %+v", h, g)
		}
		var ours, theirs []layers.IPv4Option
		for o := range Walk(h.Options()) {
			ours = append(ours, layers.IPv4Option{OptionType: o.Kind, OptionData: o.Data})
			for range o.Route() {
			}
			for range o.Timestamps() {
			}
		}
		for _, o := range g.Options {
			if o.OptionType > OptNop {
				theirs = append(theirs, o)
			}
		}
		if len(ours) != len(theirs) {
			t.Fatalf("% x: %d options, gopacket has %d", h, len(ours), len(theirs))
		}
		for i := range ours {
			if ours[i].OptionType != theirs[i].OptionType || !bytes.Equal(ours[i].OptionData, theirs[i].OptionData) {
				t.Fatalf("option %d: %v, gopacket has %v", i, ours[i], theirs[i])
			}
		}
	})
}

// FuzzPut builds what it parsed, and has gopacket build the same.
func FuzzPut(f *testing.F) {
	f.Add(uint8(0), uint16(1), uint16(0x4000), uint8(64), uint8(17), uint32(1), uint32(2), []byte{}, uint16(9))
	f.Add(uint8(3), uint16(1), uint16(0x2009), uint8(64), uint8(17), uint32(1), uint32(2), []byte{1, 148, 4, 0, 0}, uint16(0))
	f.Fuzz(func(t *testing.T, tos uint8, id, frag uint16, ttl, proto uint8, src, dst uint32, options []byte, n uint16) {
		addr := func(v uint32) netip.Addr {
			return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
		}
		options = options[:min(len(options), 40)]
		fields := Fields{TOS: tos, ID: id, DF: frag&flagDF != 0, MF: frag&flagMF != 0, Offset: int(frag&maskOffset) * 8,
			TTL: ttl, Protocol: proto, Src: addr(src), Dst: addr(dst), Options: options, PayloadLen: int(n % 2000)}
		b := make([]byte, fields.HeaderLen()+fields.PayloadLen)
		fields.Put(b)
		h, d := Parse(b)
		if d != DropNone && d != DropSource && d != DropOptions {
			t.Fatal(d)
		}
		if d != DropNone {
			return
		}
		g := layers.IPv4{Version: 4, TOS: tos, Id: id, FragOffset: frag & maskOffset, TTL: ttl, Protocol: layers.IPProtocol(proto),
			SrcIP: fields.Src.AsSlice(), DstIP: fields.Dst.AsSlice()}
		if fields.DF {
			g.Flags |= layers.IPv4DontFragment
		}
		if fields.MF {
			g.Flags |= layers.IPv4MoreFragments
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&g, gopacket.Payload(b[fields.HeaderLen():])); err != nil {
			t.Fatal(err)
		}
		if len(options) == 0 && !bytes.Equal(buf.Bytes(), b) {
			t.Fatalf("% x\ngopacket: % x", h, buf.Bytes()[:HeaderLen])
		}
		if !bytes.Equal(h.Options()[:len(options)], options) {
			t.Fatalf("options % x, want % x", h.Options(), options)
		}
	})
}

// FuzzFragment cuts any packet at any MTU and puts it together again.
func FuzzFragment(f *testing.F) {
	f.Add([]byte{}, uint16(1500), uint16(4000))
	f.Add([]byte{148, 4, 0, 0}, uint16(68), uint16(1000))
	f.Add([]byte{7, 7, 4, 0, 0, 0, 0, 1, 130, 3, 9}, uint16(69), uint16(333))
	f.Add([]byte{130, 9, 9}, uint16(69), uint16(333))
	f.Fuzz(func(t *testing.T, options []byte, mtu, n uint16) {
		fields := Fields{TTL: 3, Protocol: ProtoUDP, Src: hostA, Dst: hostB, Options: options[:min(len(options), 40)]}
		p := datagram(fields, min(int(n), 4000))
		want := bytes.Clone(p.Bytes())
		var fragments []*pkt.Buf
		Fragment(p, int(mtu), func(q *pkt.Buf) {
			if q.Len() > max(int(mtu), MinMTU) {
				t.Fatalf("fragment of %d bytes for MTU %d", q.Len(), mtu)
			}
			fragments = append(fragments, q)
		})
		if BadOption(fields.Options) >= 0 {
			for _, q := range fragments {
				q.Put()
			}
			return
		}
		whole := join(t, frag.New(frag.Config{MaxFragments: 1000, MaxPerSource: 1 << 24, MaxBytes: 1 << 24}), fragments)
		defer whole.Put()
		if !bytes.Equal(whole.Bytes(), want) {
			t.Fatal("came back different")
		}
	})
}
