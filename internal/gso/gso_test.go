package gso

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/pkt"
)

// build makes a super-frame with gopacket: an independent opinion of headers
// and checksums.
func build(t testing.TB, v4, tcp bool, payload []byte, fin bool) *pkt.Buf {
	eth := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv6}
	var ip gopacket.SerializableLayer
	var nl gopacket.NetworkLayer
	proto := layers.IPProtocolUDP
	if tcp {
		proto = layers.IPProtocolTCP
	}
	if v4 {
		eth.EthernetType = layers.EthernetTypeIPv4
		h := &layers.IPv4{Version: 4, TTL: 64, Id: 7, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
		ip, nl = h, h
	} else {
		h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: bytes.Repeat([]byte{0xfd}, 16), DstIP: bytes.Repeat([]byte{0xfc}, 16)}
		ip, nl = h, h
	}
	var l4 gopacket.SerializableLayer
	if tcp {
		h := &layers.TCP{SrcPort: 1, DstPort: 2, Seq: 0xfffffc00, Ack: 9, ACK: true, PSH: true, FIN: fin, CWR: true, Window: 100,
			Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
				{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}}
		h.SetNetworkLayerForChecksum(nl)
		l4 = h
	} else {
		h := &layers.UDP{SrcPort: 1, DstPort: 2}
		h.SetNetworkLayerForChecksum(nl)
		l4 = h
	}
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, l4, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	p := pkt.From(out.Bytes())
	p.Trim(len(out.Bytes()) - padding(out.Bytes()))
	p.Pull(14)
	p.MarkNetwork()
	p.Push(14)
	return p
}

// padding is how much gopacket has added to reach Ethernet's 60 bytes.
func padding(frame []byte) int {
	n := 40 + int(binary.BigEndian.Uint16(frame[18:]))
	if frame[14]>>4 == 4 {
		n = int(binary.BigEndian.Uint16(frame[16:]))
	}
	return len(frame) - 14 - n
}

func TestCut(t *testing.T) {
	live := pkt.Live()
	payload := make([]byte, 10000)
	rand.NewChaCha8([32]byte{}).Read(payload)
	for _, v4 := range []bool{true, false} {
		for _, tcp := range []bool{true, false} {
			for _, n := range []int{0, 1, 1448, 1449, 2896, 10000} {
				p := build(t, v4, tcp, payload[:n], tcp)
				p.Csum = pkt.CsumPartial
				p.GSO.SegSize = 1448
				p.GSO.Type = pkt.GSOUDP
				if tcp {
					p.GSO.Type = pkt.GSOTCPv4
				}
				var got []byte
				pieces := 0
				if n == 10000 {
					// As TCP sends it: the end of the payload is elsewhere, in two pieces.
					whole := append([]byte(nil), p.Bytes()...)
					p.Trim(p.Len() - 9001)
					p.Borrow(whole[len(whole)-9001:len(whole)-77], whole[len(whole)-77:])
				}
				ok := Cut(p, func(q *pkt.Buf) {
					checkPiece(t, q, v4, tcp, pieces, len(got), len(got)+1448 >= n)
					d := gopacket.NewPacket(q.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
					got = append(got, d.TransportLayer().LayerPayload()...)
					pieces++
					q.Put()
				})
				if want := max(1, (n+1447)/1448); !ok || pieces != want || !bytes.Equal(got, payload[:n]) {
					t.Errorf("v4 %v tcp %v, %d bytes: %v, %d pieces (want %d), %d bytes", v4, tcp, n, ok, pieces, want, len(got))
				}
				p.Put()
			}
		}
	}
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers leaked", n)
	}
}

// checkPiece compares a piece with what gopacket makes of the same headers.
func checkPiece(t *testing.T, q *pkt.Buf, v4, tcp bool, n, at int, last bool) {
	t.Helper()
	d := gopacket.NewPacket(q.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	if e := d.ErrorLayer(); e != nil {
		t.Fatalf("piece %d: %v", n, e.Error())
	}
	var all []gopacket.SerializableLayer
	for _, l := range d.Layers() {
		switch h := l.(type) {
		case *layers.IPv4:
			if h.Id != 7+uint16(n) {
				t.Errorf("piece %d has id %d", n, h.Id)
			}
		case *layers.TCP:
			if h.Seq != 0xfffffc00+uint32(at) || h.FIN != last || h.PSH != last || h.CWR != (n == 0) {
				t.Errorf("piece %d: seq %x fin %v psh %v cwr %v", n, h.Seq, h.FIN, h.PSH, h.CWR)
			}
			h.SetNetworkLayerForChecksum(d.NetworkLayer())
		case *layers.UDP:
			h.SetNetworkLayerForChecksum(d.NetworkLayer())
		}
		all = append(all, l.(gopacket.SerializableLayer))
	}
	out := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	if want := out.Bytes(); !bytes.Equal(want[:len(want)-padding(want)], q.Bytes()) {
		t.Errorf("piece %d (v4 %v, tcp %v): lengths or checksums differ\n%x\n%x", n, v4, tcp, q.Bytes()[:60], out.Bytes()[:60])
	}
}

// FuzzCut: whatever the frame and its metadata, nothing panics, every piece is
// within the size, and every buffer comes back.
func FuzzCut(f *testing.F) {
	p := build(f, true, true, make([]byte, 3000), true)
	f.Add(p.Bytes(), uint16(1000), uint8(1), uint16(20), uint16(16))
	p.Put()
	f.Add([]byte{0x45, 0, 0, 20}, uint16(1), uint8(3), uint16(0xffff), uint16(0xffff))
	f.Fuzz(func(t *testing.T, b []byte, size uint16, kind uint8, start, offset uint16) {
		if len(b) < 14 || len(b) > 9000 {
			return
		}
		live := pkt.Live()
		p := pkt.From(b)
		p.Pull(14)
		p.MarkNetwork()
		p.Push(14)
		p.Csum = pkt.CsumPartial
		p.GSO = pkt.GSO{Type: pkt.GSOType(kind % 4), SegSize: size%2000 + 1, CsumStart: start, CsumOffset: offset}
		limit := 14 + 60 + 60 + int(p.GSO.SegSize)
		Cut(p, func(q *pkt.Buf) {
			if q.Len() > limit {
				t.Errorf("a piece of %d bytes", q.Len())
			}
			q.Put()
		})
		p.Put()
		if n := pkt.Live() - live; n != 0 {
			t.Errorf("%d buffers leaked", n)
		}
	})
}
