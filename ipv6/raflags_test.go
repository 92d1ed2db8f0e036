package ipv6

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// flagsOption is an option for more flags (RFC 5175 §4) with these bytes.
func flagsOption(b ...byte) []byte { return append([]byte{optFlags, uint8((len(b) + 2) / 8)}, b...) }

// TestRAFlags: each flag has the place that IANA gave it, wherever it is.
func TestRAFlags(t *testing.T) {
	body := (&RouterAdvert{}).Append(nil)
	for n := range LastRAFlag + 1 {
		b, opt := bytes.Clone(body), make([]byte, 6)
		if n < 8 {
			b[5] = 0x80 >> n
		} else {
			opt[(n-8)/8] = 0x80 >> (n % 8)
			b = append(b, flagsOption(opt...)...)
		}
		want := RAFlag(n)
		if n == 3 {
			want = 0 // alone it is the reserved preference
		}
		m, d := ParseRouterAdvert(header(hostA, AllNodes), b)
		if d != DropNone || m.Ignored != 0 || m.Flags != want {
			t.Errorf("flag %d: %v %x", n, d, uint64(m.Flags))
		}
		if n != 3 && !bytes.Equal(m.Append(nil), b) {
			t.Errorf("flag %d: sent as %x, not %x", n, m.Append(nil), b)
		}
	}
	for n, want := range map[int]RAFlags{0: RAManaged, 1: RAOther, 2: RAHomeAgent, 5: RAProxy, 6: RASNAC, -1: 0, 56: 0, 64: 0} {
		if RAFlag(n) != want {
			t.Errorf("flag %d: %x", n, uint64(RAFlag(n)))
		}
	}
	for flags, want := range map[RAFlags]string{
		0: "", RAManaged | RAOther | RAHomeAgent | RAProxy | RASNAC: "M O H P S",
		RAFlag(4) | RAOther: "O high", RAFlag(3) | RAFlag(4): "low", RAFlag(3): "", RAFlag(7) | RAFlag(8) | RAFlag(55): "7 8 55",
	} {
		if flags.String() != want {
			t.Errorf("%x is %q, want %q", uint64(flags), flags, want)
		}
	}
}

// TestFlagsExpansion: RFC 5175 §4: the first option counts, whatever its length.
func TestFlagsExpansion(t *testing.T) {
	base := (&RouterAdvert{Lifetime: time.Minute}).Append(nil)
	for _, c := range []struct {
		name    string
		opts    [][]byte
		want    RAFlags
		ignored int
	}{
		{"one", [][]byte{flagsOption(0x80, 0, 0, 0, 0, 1)}, RAFlag(8) | RAFlag(55), 0},
		{"a longer one of later", [][]byte{flagsOption(0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)}, RAFlag(23), 0},
		{"two", [][]byte{flagsOption(1, 0, 0, 0, 0, 0), flagsOption(0x80, 0, 0, 0, 0, 0)}, RAFlag(15), 1},
		{"an empty one in front", [][]byte{flagsOption(0, 0, 0, 0, 0, 0), flagsOption(0x80, 0, 0, 0, 0, 0)}, 0, 1},
	} {
		m, d := ParseRouterAdvert(header(hostA, AllNodes), append(bytes.Clone(base), bytes.Join(c.opts, nil)...))
		if d != DropNone || m.Flags != c.want || m.Ignored != c.ignored || m.Lifetime != time.Minute {
			t.Errorf("%s: %v, flags %q, %d ignored", c.name, d, m.Flags, m.Ignored)
		}
	}
	// Elsewhere it is an option that is not known.
	na := NeighborAdvert{Target: globalA}
	if got, d := ParseNeighborAdvert(header(hostA, AllNodes), append(na.Append(nil), flagsOption(1, 2, 3, 4, 5, 6)...)); d != DropNone || got != na {
		t.Errorf("in a neighbour's advertisement: %v %+v", d, got)
	}
	// Flags that are not obeyed change nothing else.
	n := quiet(t)
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour, Flags: RAHomeAgent | RAProxy | RASNAC | raOption})
	n.expect(t, "0s router "+hostA.String())
}

// TestAdvertisers: who advertises with which flags is told when it changes, and
// ends when a router is not heard any more, or is none.
func TestAdvertisers(t *testing.T) {
	n := quiet(t)
	told := func(want ...string) {
		t.Helper()
		if !reflect.DeepEqual(n.flags, want) && len(n.flags)+len(want) > 0 {
			t.Errorf("at %v: told %q, want %q", n.now.Sub(slaacEpoch), n.flags, want)
		}
		n.flags = nil
	}
	for range 2 { // again the same is no news
		n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour, Flags: RAManaged | RAFlag(9)})
	}
	told("fe80::a(M 9)")
	n.Input(n.now, hostB, &RouterAdvert{Flags: RASNAC})
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour})
	told("fe80::a(M 9), fe80::b(S)", "fe80::a(), fe80::b(S)")
	n.runTo(t, advDefaultLifetime-1)
	told()
	n.runTo(t, advDefaultLifetime)
	told("fe80::a()")
	n.runTo(t, time.Hour)
	told("")
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour, Flags: RAProxy})
	n.RouterGone(n.now, hostA)
	told("fe80::a(P)", "")
	// More than there is room for are not kept, and do not displace others.
	for i := range 3 * MaxRouters {
		a := hostA.As16()
		a[14] = byte(i + 1)
		n.Input(n.now, netip.AddrFrom16(a), &RouterAdvert{Flags: RASNAC})
	}
	if len(n.flags) != MaxRouters || len(n.advertisers) != MaxRouters {
		t.Errorf("told %d times of %d routers", len(n.flags), len(n.advertisers))
	}
	n.flags = nil
	n.Stop()
	told("")
}
