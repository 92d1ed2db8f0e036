package wire

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// TestMark: only what is ECN capable, in both families, with the checksum right
// for every value of the field.
func TestMark(t *testing.T) {
	for tos := range 256 {
		frame := make([]byte, 14+60)
		frame[12], frame[13] = 8, 0
		h4 := ipv4.Fields{TOS: uint8(tos), TTL: 9, ID: uint16(tos * 259), Protocol: 6, PayloadLen: 20,
			Src: netip.AddrFrom4([4]byte{10, byte(tos)}), Dst: netip.AddrFrom4([4]byte{10, 77, 0, 2})}
		h4.Put(frame[14:])
		want := uint8(tos)
		if tos&3 != 0 {
			want |= 3
		}
		if got := mark(frame); got != (tos&3 != 0) || frame[15] != want || csum.Sum(frame[14:34], 0) != 0xffff {
			t.Errorf("IPv4, %#x: marked %v, became %#x, checksum %#x", tos, got, frame[15], csum.Sum(frame[14:34], 0))
		}
		frame[12], frame[13] = 0x86, 0xdd
		h6 := ipv6.Fields{TrafficClass: uint8(tos), FlowLabel: 0xfffff, Src: netip.IPv6Loopback(), Dst: netip.IPv6Loopback()}
		h6.Put(frame[14:])
		if got := mark(frame); got != (tos&3 != 0) || ipv6.Header(frame[14:]).TrafficClass() != want {
			t.Errorf("IPv6, %#x: marked %v, became %#x", tos, got, ipv6.Header(frame[14:]).TrafficClass())
		}
	}
	for _, frame := range [][]byte{nil, make([]byte, 20), append(make([]byte, 12), append([]byte{8, 6}, make([]byte, 40)...)...)} {
		if mark(frame) {
			t.Errorf("%x marked", frame)
		}
	}
}

// TestMarkFrom: frames are marked that have to wait with so many, itself
// included, as long as the queue is that long.
func TestMarkFrom(t *testing.T) {
	p := newPair(t, Options{Rate: 60 * 8 * 1000, MarkFrom: 3}) // a frame each millisecond
	send := func(n int) {
		for range n {
			b := frame(mac(2), mac(1), 0, 60)
			b.Bytes()[12], b.Bytes()[13], b.Bytes()[15] = 0x08, 0, 2
			if _, err := p.a.Send(0, []*pkt.Buf{b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(6) // one is on the line, five wait
	if st := p.a.Stats(); st.Marked != 3 {
		t.Errorf("%+v", st)
	}
	p.c.advance(4 * time.Millisecond)
	send(2)
	if st := p.a.Stats(); st.Marked != 4 {
		t.Errorf("%+v", st)
	}
	p.c.advance(time.Second)
}
