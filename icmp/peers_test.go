package icmp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// TestPeers: six at once, then one in each interval, whatever others draw; and
// the table stays as large as it may be.
func TestPeers(t *testing.T) {
	p, now := NewPeers(10), mono.Time(time.Hour)
	a := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	burst := func(to netip.Addr) (n int) {
		for p.Allow(now, to, time.Second) {
			n++
		}
		return n
	}
	if n := burst(a(1)); n != PeerBurst {
		t.Errorf("%d at once", n)
	}
	now = now.Add(999 * time.Millisecond)
	if n := burst(a(1)); n != 0 {
		t.Errorf("%d after 999 ms", n)
	}
	now = now.Add(2001 * time.Millisecond)
	if n := burst(a(1)); n != 3 {
		t.Errorf("%d after 3 s", n)
	}
	for n := 2; n <= 10; n++ {
		if !p.Allow(now, a(n), time.Second) {
			t.Errorf("destination %d gets none", n)
		}
	}
	if p.Allow(now, a(11), time.Second) || len(p.m) != 10 {
		t.Errorf("%d destinations of 10", len(p.m))
	}
	now = now.Add(500 * time.Millisecond)
	if p.Allow(now, a(11), time.Second) {
		t.Error("looked for a place too early")
	}
	now = now.Add(600 * time.Millisecond) // nine buckets are full again
	if !p.Allow(now, a(11), time.Second) || len(p.m) != 2 {
		t.Errorf("%d destinations are left", len(p.m))
	}
	for range 100 {
		if !p.Allow(now, a(1), -1) {
			t.Fatal("no limit refuses")
		}
	}
}

func TestMidnight(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("", 7200))
	if got := Midnight(at); got != ((1*60+4)*60+5)*1000+678 {
		t.Errorf("%d", got)
	}
}
