package vlan

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
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

// build makes a frame with tags, by another hand than ours.
func build(t *testing.T, payload string, tags ...layers.Dot1Q) *pkt.Buf {
	t.Helper()
	e := &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: 0x88b5}
	list := []gopacket.SerializableLayer{e}
	for i := range tags {
		e.EthernetType = layers.EthernetTypeDot1Q
		tags[i].Type = 0x88b5
		if i < len(tags)-1 {
			tags[i].Type = layers.EthernetTypeDot1Q
		}
		list = append(list, &tags[i])
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{}, append(list, gopacket.Payload(payload))...); err != nil {
		t.Fatal(err)
	}
	return pkt.From(b.Bytes())
}

// receiver collects what a device delivers.
type receiver struct {
	mu    sync.Mutex // guards got and idles
	got   []string
	idles int
	more  chan struct{}
	err   chan error
}

func receive(t *testing.T, ctx context.Context, d ether.Device) *receiver {
	r := &receiver{more: make(chan struct{}, 100), err: make(chan error, 1)}
	go func() {
		r.err <- d.Receive(ctx, 0, func(b *pkt.Buf) {
			r.mu.Lock()
			r.got = append(r.got, string(b.Bytes()))
			r.mu.Unlock()
			b.Put()
			r.more <- struct{}{}
		}, func() {
			r.mu.Lock()
			r.idles++
			r.mu.Unlock()
		})
	}()
	return r
}

func (r *receiver) wait(t *testing.T, n int) []string {
	t.Helper()
	for range n {
		select {
		case <-r.more:
		case <-time.After(30 * time.Second):
			t.Fatalf("got %q", r.got)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

func TestTrunk(t *testing.T) {
	live := pkt.Live()
	s := wire.New(nil, wire.Options{Pull: true})
	defer s.Close()
	far, near := s.Attach("far", macA), s.Attach("near", macB)
	trunk := New(near)
	var subs [3]*Device
	for i, id := range []uint16{10, 20, Untagged} {
		d, err := trunk.Open(id, uint8(i)) // 10 without priority
		if err != nil {
			t.Fatal(err)
		}
		subs[i] = d
	}
	for _, c := range []struct {
		id       uint16
		priority uint8
		want     error
	}{{10, 0, syscall.EEXIST}, {4095, 0, syscall.EINVAL}, {7, 8, syscall.EINVAL}} {
		if _, err := trunk.Open(c.id, c.priority); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	var rs [3]*receiver
	for i, d := range subs {
		rs[i] = receive(t, t.Context(), d)
	}
	for _, d := range subs {
		for d.sinks[0].Load() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	tag := func(id uint16) layers.Dot1Q { return layers.Dot1Q{VLANIdentifier: id, Priority: 5, DropEligible: true} }
	short := build(t, "", tag(10))
	short.SetLen(16)
	service := build(t, "provider", tag(10))
	service.Bytes()[12], service.Bytes()[13] = 0x88, 0xa8
	far.Send(0, []*pkt.Buf{
		build(t, "ten", tag(10)), build(t, "twenty", tag(20)), build(t, "none"), build(t, "priority", tag(0)),
		build(t, "foreign", tag(30)), build(t, "reserved", tag(4095)), build(t, "double", tag(10), tag(20)), service, short,
		build(t, "ten again", tag(10)),
	})
	for i, want := range [][]string{{"ten", "ten again"}, {"twenty"}, {"none", "priority"}} {
		got := rs[i].wait(t, len(want))
		for k, w := range want {
			h, _ := ether.Parse([]byte(got[k]))
			if len(got) != len(want) || strings.TrimRight(got[k][ether.HeaderLen:], "\x00") != w || h.Type() != 0x88b5 || h.Dst() != macB || h.Src() != macA {
				t.Errorf("VLAN %d got %q, want %q", subs[i].ID(), got, want)
			}
		}
	}
	if got, want := trunk.Stats(), (Stats{Foreign: 1, Reserved: 1, Double: 2, Short: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}

	// And back, where the tags are read by another hand.
	fr := receive(t, t.Context(), far)
	for i, d := range subs {
		b := build(t, "back")
		copy(b.Bytes(), macA[:])
		copy(b.Bytes()[6:], macB[:])
		if n, err := d.Send(0, []*pkt.Buf{b}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		p := gopacket.NewPacket([]byte(fr.wait(t, 1)[i]), layers.LayerTypeEthernet, gopacket.Default)
		q, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		if !ok || q.VLANIdentifier != d.ID() || q.Priority != uint8(i) || q.DropEligible || q.Type != 0x88b5 || strings.TrimRight(string(q.Payload), "\x00") != "back" {
			t.Errorf("VLAN %d sends %v", d.ID(), p)
		}
	}

	// The end of one is not that of the others.
	if err := subs[0].Close(); err != nil {
		t.Error(err)
	}
	if err := <-rs[0].err; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	far.Send(0, []*pkt.Buf{build(t, "late", tag(10)), build(t, "still", tag(20))})
	rs[1].wait(t, 1)
	if trunk.Stats().Foreign != 2 {
		t.Errorf("%+v", trunk.Stats())
	}
	for _, r := range rs[1:] {
		r.mu.Lock()
		if r.idles == 0 {
			t.Error("idle was not called")
		}
		r.mu.Unlock()
	}
	for _, d := range subs[1:] {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := trunk.Open(10, 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the last: %v", err)
	}
	if n, err := near.Send(0, []*pkt.Buf{build(t, "x")}); n != 0 || err == nil {
		t.Error("the device is still open")
	}
	far.Close()
	<-fr.err
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers left", n)
	}
}

// What a super-frame says of itself counts from its network header, so a tag
// changes nothing of it.
func TestMetadata(t *testing.T) {
	b := build(t, strings.Repeat("x", 100), layers.Dot1Q{VLANIdentifier: 7})
	b.GSO, b.Csum = pkt.GSO{Type: pkt.GSOTCPv4, SegSize: 50, CsumStart: 20, CsumOffset: 16}, pkt.CsumPartial
	want := b.GSO
	ether.PullTag(b)
	if b.GSO != want || ether.NetworkOffset(b.Bytes()) != ether.HeaderLen {
		t.Errorf("%+v", b.GSO)
	}
	ether.PushTag(b, ether.TypeVLAN, ether.MakeTag(7, 3))
	if tag, next, ok := ether.TagOf(b.Bytes()); !ok || tag.VLAN() != 7 || tag.Priority() != 3 || next != 0x88b5 ||
		b.GSO != want || ether.NetworkOffset(b.Bytes()) != ether.HeaderLen+ether.TagLen {
		t.Errorf("%v %v %v", tag, next, ok)
	}
	b.Put()
}

// FuzzDeliver: whatever comes, it is somebody's or counted.
func FuzzDeliver(f *testing.F) {
	f.Add(make([]byte, 60))
	f.Add([]byte("\x02\x00\x00\x00\x00\x07\x02\x00\x00\x00\x00\x01\x81\x00\x00\x0a\x08\x00text"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 2000 {
			return
		}
		s := wire.New(nil, wire.Options{Pull: true})
		defer s.Close()
		tr := New(s.Attach("a", macA))
		defer tr.Close()
		d, err := tr.Open(10, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := uint64(0)
		d.sinks[0].Store(&sink{deliver: func(b *pkt.Buf) { n++; b.Put() }, idle: func() {}})
		p := &pump{trunk: tr}
		p.deliver(pkt.From(frame))
		p.idle()
		st := tr.Stats()
		if n+st.Untagged+st.Foreign+st.Reserved+st.Double+st.Short != 1 {
			t.Errorf("%d, %+v", n, st)
		}
	})
}
