package ipv6

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestSearchList reads the search lists of RFC 8106 §5.2, good ones and others.
func TestSearchList(t *testing.T) {
	opt := func(name string) []byte {
		b := append([]byte{optDNSSL, 0, 0, 0, 0, 0, 0, 60}, name...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		b[1] = uint8(len(b) / 8)
		return b
	}
	long := strings.Repeat("\x3f"+strings.Repeat("x", 63), 4)
	for _, c := range []struct {
		name string
		opt  []byte
		want []string
		ok   bool
	}{
		{"one", opt("\x03lab\x07example\x00"), []string{"lab.example"}, true},
		{"two", opt("\x01a\x00\x01b\x01c\x00"), []string{"a", "b.c"}, true},
		{"none", opt("\x00\x00"), nil, true},
		{"empty", opt(""), nil, false},
		{"cut", opt("\x0fab"), nil, false},
		{"no end", opt("\x07example"), nil, false},
		{"pointer", opt("\x01a\xc0\x00"), nil, false},
		{"blank in it", opt("\x03a b\x00"), nil, false},
		{"too long", opt(long + "\x00"), nil, false},
		{"too many", opt(strings.Repeat("\x01a\x00", 9)), []string{"a", "a", "a", "a", "a", "a", "a", "a"}, false},
	} {
		var m RouterAdvert
		ok := m.dnssl(c.opt)
		var got []string
		for _, s := range m.Search {
			got = append(got, s.Domain)
			if s.Lifetime != time.Minute {
				t.Errorf("%s: lifetime %v", c.name, s.Lifetime)
			}
		}
		if ok != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q %v, want %q", c.name, got, ok, c.want)
		}
	}
	want := RouterAdvert{Search: []DNSSearch{{"lab.example", Infinite}, {"x", time.Second}}}
	var got RouterAdvert
	if d := ndOptions(want.Append(nil)[routerAdvertLen:], got.option); d != DropNone || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %+v, want %+v", d, got, want)
	}
}
