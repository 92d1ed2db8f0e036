package snap

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
)

var (
	macA = ether.Addr{2, 0, 0, 0, 0, 1}
	macB = ether.Addr{2, 0, 0, 0, 0, 7}
)

func frame(typ ether.Type, payload string) *pkt.Buf {
	b := pkt.Get(ether.HeaderLen + len(payload))
	ether.Put(b.Append(ether.HeaderLen), macB, macA, typ)
	copy(b.Append(len(payload)), payload)
	return b
}

// one receives a frame.
func one(t *testing.T, d ether.Device) (got []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d.Receive(ctx, 0, func(b *pkt.Buf) {
		got = append([]byte(nil), b.Bytes()...)
		b.Put()
		cancel()
	}, func() {})
	if len(got) < ether.HeaderLen {
		t.Fatal("nothing received")
	}
	return got
}

// TestBothWays: what is sent is what gopacket reads as SNAP, and such a frame,
// padding and all, comes up as Ethernet II.
func TestBothWays(t *testing.T) {
	s := wire.New(nil, wire.Options{Pull: true})
	defer s.Close()
	far := s.Attach("far", macB)
	d, err := New(s.Attach("near", macA))
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Caps(); c.MTU != 1492 || c.GSOMax != 0 || c.TxCsum {
		t.Errorf("%+v", c)
	}
	for _, c := range []struct {
		typ     ether.Type
		payload string
	}{{ether.TypeIPv4, "some packet"}, {ether.TypeIPv6, strings.Repeat("x", MaxMTU)}} {
		if n, err := d.Send(0, []*pkt.Buf{frame(c.typ, c.payload)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		f := one(t, far)
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Lazy)
		e, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		l, _ := p.Layer(layers.LayerTypeLLC).(*layers.LLC)
		sn, _ := p.Layer(layers.LayerTypeSNAP).(*layers.SNAP)
		if e == nil || l == nil || sn == nil || int(e.Length) != 8+len(c.payload) || l.DSAP != 0xaa || l.SSAP != 0xaa || l.Control != 3 ||
			string(sn.OrganizationalCode) != "\x00\x00\x00" || sn.Type != layers.EthernetType(c.typ) || string(sn.Payload) != c.payload {
			t.Errorf("%v", p)
		}
		b := pkt.From(f)
		if len(c.payload) < 46 {
			b.Append(3) // padding
		}
		far.Send(0, []*pkt.Buf{swap(b)})
		if got := one(t, d); string(got[ether.HeaderLen:]) != c.payload || ether.Header(got).Type() != c.typ || ether.Header(got).Src() != macB {
			t.Errorf("came up as % x", got)
		}
	}
	// Ethernet II is taken too, and what is neither comes up as it is.
	for _, payload := range []string{"plain", "\xaa\xaa\x03\x00\x00\x0c\x20\x00cdp"} {
		typ := ether.TypeIPv4
		if payload != "plain" {
			typ = ether.Type(len(payload))
		}
		far.Send(0, []*pkt.Buf{swap(frame(typ, payload))})
		if got := one(t, d); string(got[ether.HeaderLen:]) != payload || ether.Header(got).Type() != typ {
			t.Errorf("% x", got)
		}
	}
	if st := d.Stats(); st.Received != 2 || st.Sent != 2 {
		t.Errorf("%+v", st)
	}
}

// swap sends a frame back.
func swap(b *pkt.Buf) *pkt.Buf {
	f := b.Bytes()
	copy(f[:6], macA[:])
	copy(f[6:12], macB[:])
	return b
}

// FuzzParseLength: no frame makes the parser read beyond it.
func FuzzParseLength(f *testing.F) {
	b := frame(ether.TypeIPv4, "text")
	ether.PushSNAP(b)
	f.Add(append([]byte(nil), b.Bytes()...))
	b.Put()
	f.Fuzz(func(t *testing.T, text []byte) {
		if kind, typ, end := ether.ParseLength(text); kind == ether.LengthSNAP && len(text) < 2000 {
			b := pkt.From(text)
			ether.PullSNAP(b, typ, end)
			if b.Len() != end-ether.SNAPLen {
				t.Errorf("%d bytes, end %d", b.Len(), end)
			}
			b.Put()
		}
	})
}
