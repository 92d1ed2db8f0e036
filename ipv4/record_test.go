package ipv4

import (
	"bytes"
	"net/netip"
	"testing"
)

var recorder = Host{Addr: netip.MustParseAddr("10.0.0.9"), Now: 0x01020304,
	Own: func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.9") }}

func TestRecord(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		bad            int
	}{
		{"nothing", "", "", -1},
		{"route", "\x07\x0b\x04\x00\x00\x00\x00\x00\x00\x00\x00", "\x07\x0b\x08\x0a\x00\x00\x09\x00\x00\x00\x00", -1},
		{"route, second place", "\x07\x0b\x08\x01\x01\x01\x01\x00\x00\x00\x00", "\x07\x0b\x0c\x01\x01\x01\x01\x0a\x00\x00\x09", -1},
		{"route, full", "\x07\x07\x08\x01\x01\x01\x01", "\x07\x07\x08\x01\x01\x01\x01", -1},
		{"route, place too small", "\x07\x06\x04\x00\x00\x00", "", 2},
		{"route behind no-operations", "\x01\x01\x07\x07\x03\x00\x00\x00\x00", "", 4},
		{"route without pointer", "\x07\x02", "", 1},
		{"times", "\x44\x08\x05\x00\x00\x00\x00\x00", "\x44\x08\x09\x00\x01\x02\x03\x04", -1},
		{"times, full", "\x44\x08\x09\x00\x00\x00\x00\x07", "\x44\x08\x09\x10\x00\x00\x00\x07", -1},
		{"times, more than can be counted", "\x44\x08\x09\xf0\x00\x00\x00\x07", "", 3},
		{"both", "\x44\x0c\x05\x01\x00\x00\x00\x00\x00\x00\x00\x00", "\x44\x0c\x0d\x01\x0a\x00\x00\x09\x01\x02\x03\x04", -1},
		{"given, us", "\x44\x0c\x05\x03\x0a\x00\x00\x09\x00\x00\x00\x00", "\x44\x0c\x0d\x03\x0a\x00\x00\x09\x01\x02\x03\x04", -1},
		{"given, another", "\x44\x0c\x05\x03\x0a\x00\x00\x08\x00\x00\x00\x00", "\x44\x0c\x05\x03\x0a\x00\x00\x08\x00\x00\x00\x00", -1},
		{"flag 2", "\x44\x0c\x05\x02\x0a\x00\x00\x08\x00\x00\x00\x00", "", 3},
		{"pointer 4", "\x44\x08\x04\x00\x00\x00\x00\x00", "", 2},
		{"place too small", "\x44\x08\x05\x01\x00\x00\x00\x00", "", 2},
		{"timestamp of three bytes", "\x44\x03\x05", "", 1},
		{"alert", "\x94\x04\x00\x00", "\x94\x04\x00\x00", -1},
		{"alert of five bytes", "\x94\x05\x00\x00\x00", "", 1},
		{"two routes", "\x07\x03\x04\x07\x03\x04", "", 3},
		{"behind the end", "\x00\x07\x01", "\x00\x07\x01", -1},
	} {
		b := []byte(c.in)
		if bad := Record(b, &recorder); bad != c.bad {
			t.Errorf("%s: bad at %d, want %d", c.name, bad, c.bad)
		} else if bad < 0 && string(b) != c.want {
			t.Errorf("%s: %x, want %x", c.name, b, c.want)
		}
	}
	for opts, want := range map[string]bool{"": true, "\x07\x07\x04\x00\x00\x00\x00": true, "\x83\x07\x04\x01\x02\x03\x04": false,
		"\x89\x07\x04\x01\x02\x03\x04": false, "\x07\x07\x03\x00\x00\x00\x00": false, "\x05": false, string(make([]byte, 41)): false} {
		if got := CheckOptions([]byte(opts)); got != want {
			t.Errorf("%x may be sent: %v", opts, got)
		}
	}
}

// FuzzRecord: whatever the options, nothing is written outside of them or panics,
// a second look finds what the first found, and an answer's are well formed.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{"\x07\x0b\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x44\x0c\x05\x01\x00\x00\x00\x00\x00\x00\x00\x00", "\x94\x04\x00\x00\x07\x03\x04\x00", "\x44\x08\x09\xf0\x00\x00\x00\x07"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, opts []byte) {
		if len(opts) > 40 || BadOption(opts) >= 0 {
			return
		}
		b := append(bytes.Clone(opts), 0xaa)
		bad := Record(b[:len(opts):len(opts)], &recorder)
		if b[len(opts)] != 0xaa || bad >= len(opts) || BadOption(b[:len(opts)]) >= 0 {
			t.Fatalf("%x became %x, bad at %d", opts, b, bad)
		}
		out, ok := Echo(nil, opts, &recorder)
		if ok && (len(out)%4 != 0 || len(out) > 40 || BadOption(out) >= 0) {
			t.Fatalf("answer to %x: %x", opts, out)
		}
		if bad < 0 && CheckOptions(opts) {
			for o := range Walk(opts) {
				if o.Kind == OptLooseSourceRoute || o.Kind == OptStrictSourceRoute {
					t.Fatalf("a source route in %x may be sent", opts)
				}
			}
		}
	})
}
