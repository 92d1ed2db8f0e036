package probecap

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// TestGuestsAreBounded: who sends SYNs from ever other addresses to a port that is
// served does not fill the memory, nor drive out what was declared.
func TestGuestsAreBounded(t *testing.T) {
	x := New()
	x.Serve(false, 80)
	declared := netip.MustParseAddr("192.0.2.1")
	x.Toward(declared)
	frame := make([]byte, etherHeader+40)
	binary.BigEndian.PutUint16(frame[12:], etherIPv4)
	ip := frame[etherHeader:]
	ip[0], ip[8], ip[9] = 0x45, 64, protoTCP
	binary.BigEndian.PutUint16(ip[2:], 40)
	copy(ip[16:], []byte{10, 0, 0, 1})
	binary.BigEndian.PutUint16(ip[20:], 1234)
	binary.BigEndian.PutUint16(ip[22:], 80)
	ip[32], ip[33] = 5<<4, tcpSYN
	now := time.Unix(1, 0)
	for i := range uint32(3 * maxGuests) {
		binary.BigEndian.PutUint32(ip[12:], 11<<24+i)
		if comment, ok := x.Choose(false, frame, now); !ok {
			t.Fatalf("SYN %d is left out: %q", i, comment)
		}
	}
	if len(x.to) > maxGuests+1 || len(x.hops) > maxGuests+1 || len(x.guests) > maxGuests || len(x.guestList) > maxGuests {
		t.Errorf("%d addresses, %d hops, %d guests", len(x.to), len(x.hops), len(x.guests))
	}
	if _, ok := x.to[declared]; !ok {
		t.Error("what was declared is forgotten")
	}
	// A guest that is declared later stays.
	late := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 11<<24+3*maxGuests-1)))
	x.Toward(late)
	for i := range uint32(2 * maxGuests) {
		binary.BigEndian.PutUint32(ip[12:], 12<<24+i)
		x.Choose(false, frame, now)
	}
	if _, ok := x.to[late]; !ok {
		t.Error("a guest that was declared is forgotten")
	}
	for i := range uint32(2 * maxToward) {
		x.Toward(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 13<<24+i))))
	}
	if n := maxGuests + maxToward; len(x.to) > n || len(x.hops) > n || len(x.toList) > maxToward {
		t.Errorf("%d addresses, %d hops", len(x.to), len(x.hops))
	}
}
