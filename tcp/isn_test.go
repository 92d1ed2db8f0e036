package tcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

func TestISNClock(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.77.0.7:1000"), netip.MustParseAddrPort("10.77.0.1:80")
	var secret [16]byte
	t0 := mono.Time(5 * time.Second)
	base := ISN(secret, a, b, t0)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{
		{0, 0}, {3999, 0}, {4 * time.Microsecond, 1}, {time.Second, 250_000}, {2 * time.Minute, 30_000_000},
		// The clock goes round in 4.77 hours.
		{1 << 32 * 4 * time.Microsecond, 0}, {(1<<32 + 5) * 4 * time.Microsecond, 5},
	} {
		if got := ISN(secret, a, b, t0.Add(c.after)).Sub(base); got != c.want {
			t.Errorf("after %v: advanced by %d, want %d", c.after, got, c.want)
		}
	}
}

// Each of the numbers depends on what its document says, and on nothing else.
func TestWhatTheHashesDependOn(t *testing.T) {
	type in struct {
		secret        byte
		local, remote string
		period        uint32
	}
	base := in{1, "10.77.0.7:1000", "10.77.0.1:80", 5}
	isn := func(i in) uint32 {
		return uint32(ISN([16]byte{15: i.secret}, netip.MustParseAddrPort(i.local), netip.MustParseAddrPort(i.remote), 1))
	}
	ts := func(i in) uint32 {
		return TimestampOffset([16]byte{15: i.secret}, netip.MustParseAddrPort(i.local), netip.MustParseAddrPort(i.remote))
	}
	port := func(i in) uint32 {
		n := PortHash([16]byte{15: i.secret}, netip.MustParseAddrPort(i.local).Addr(), netip.MustParseAddrPort(i.remote), i.period)
		return uint32(n) ^ uint32(n>>32)
	}
	for _, c := range []struct {
		name          string
		in            in
		isn, ts, port bool // whether the number changes
	}{
		{"nothing", base, false, false, false},
		{"secret", in{2, base.local, base.remote, 5}, true, true, true},
		{"local address", in{1, "10.77.0.8:1000", base.remote, 5}, true, true, true},
		{"local port", in{1, "10.77.0.7:1001", base.remote, 5}, true, true, false},
		{"remote address", in{1, base.local, "10.77.0.2:80", 5}, true, true, true},
		{"remote port", in{1, base.local, "10.77.0.1:81", 5}, true, true, true},
		{"ends swapped", in{1, base.remote, base.local, 5}, true, true, true},
		{"period", in{1, base.local, base.remote, 6}, false, false, true},
		{"IPv6", in{1, "[fd77::7]:1000", "[fd77::1]:80", 5}, true, true, true},
	} {
		if got := isn(c.in) != isn(base); got != c.isn {
			t.Errorf("%s: ISN changes: %v", c.name, got)
		}
		if got := ts(c.in) != ts(base); got != c.ts {
			t.Errorf("%s: timestamp offset changes: %v", c.name, got)
		}
		if got := port(c.in) != port(base); got != c.port {
			t.Errorf("%s: port offset changes: %v", c.name, got)
		}
	}
	if isn(base) == ts(base) || ts(base) == port(base) || isn(base) == port(base) {
		t.Error("two uses of the secret give the same number")
	}
}
