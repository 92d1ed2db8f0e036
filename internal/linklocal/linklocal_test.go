package linklocal

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

const start = mono.Time(time.Hour)

func mac(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }

// TestSequence: equal MAC addresses give equal sequences, others give others,
// all within what may be used and spread over it.
func TestSequence(t *testing.T) {
	first := map[netip.Addr]bool{}
	thirds := map[byte]bool{}
	for n := range byte(200) {
		a, b := New(mac(n), netip.Addr{}), New(mac(n), netip.Addr{})
		first[a.Addr().Addr()] = true
		for range 20 {
			p := a.Addr()
			if p != b.Addr() || p.Bits() != 16 || !Usable(p.Addr()) {
				t.Fatalf("%v, %v", p, b.Addr())
			}
			thirds[p.Addr().As4()[2]] = true
			a.Conflict(start)
			b.Conflict(start)
			if a.Addr() == p {
				t.Fatalf("%v again", p)
			}
		}
	}
	if len(first) < 190 || len(thirds) < 250 {
		t.Errorf("%d first addresses of 200, %d third bytes of 254", len(first), len(thirds))
	}
}

func TestLast(t *testing.T) {
	for s, ok := range map[string]bool{"169.254.1.0": true, "169.254.254.255": true, "169.254.77.7": true,
		"169.254.0.255": false, "169.254.255.0": false, "10.0.0.1": false, "fe80::1": false} {
		a := netip.MustParseAddr(s)
		if Usable(a) != ok {
			t.Errorf("%v: usable is not %v", a, ok)
		}
		if c := New(mac(7), a); (c.Addr().Addr() == a) != ok || !Usable(c.Addr().Addr()) {
			t.Errorf("%v before: begins with %v", a, c.Addr())
		}
	}
}

// TestConflicts: the tenth conflict in a row, and each after it, costs a minute;
// an address that was good for a minute ends the series.
func TestConflicts(t *testing.T) {
	c := New(mac(7), netip.Addr{})
	if c.Next() != 0 {
		t.Error("the first address waits")
	}
	for n := 1; n <= 20; n++ {
		c.Conflict(start)
		want := mono.Time(0)
		if n >= MaxConflicts {
			want = start.Add(RateLimitInterval)
		}
		if c.Next() != want {
			t.Errorf("conflict %d: %v, want %v", n, c.Next(), want)
		}
	}
	c.Kept(start)
	c.Conflict(start.Add(RateLimitInterval - 1))
	if c.Next() == 0 {
		t.Error("an address of less than a minute ended the series")
	}
	c.Kept(start)
	c.Conflict(start.Add(RateLimitInterval))
	if c.Next() != 0 {
		t.Error("a good address did not end the series")
	}
}
