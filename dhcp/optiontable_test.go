package dhcp

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestEveryOption reads every option of RFC 2132 and the later ones as the type
// that it has, and refuses what is not that.
func TestEveryOption(t *testing.T) {
	a, b := ip("10.0.0.1"), ip("10.0.0.2")
	two := []byte{10, 0, 0, 1, 10, 0, 0, 2}
	type bad = [][]byte
	addrs := bad{{}, {10, 0, 0}, {224, 0, 0, 1}, {10, 0, 0, 1, 9}}
	flag := bad{{}, {2}, {1, 1}}
	text := bad{{}, {'a', 7}, {0}}
	long := bad{{}, {1, 2, 3}, {1, 2, 3, 4, 5}}
	seen := map[uint8]bool{}
	check := func(data []byte, want any, wrong [][]byte, codes ...uint8) {
		t.Helper()
		for _, code := range codes {
			if seen[code] = true; OptionName(code) == "" || bytes.HasPrefix([]byte(OptionName(code)), []byte("option-")) {
				t.Errorf("option %d has no name", code)
			}
			if got, ok := (Options{{code, data}}).Value(code); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v %v, want %v", OptionName(code), got, ok, want)
			}
			for _, w := range wrong {
				if got, ok := (Options{{code, w}}).Value(code); ok {
					t.Errorf("%s: %v makes %v", OptionName(code), w, got)
				}
			}
		}
	}
	check([]byte{255, 255, 255, 0}, ip("255.255.255.0"), long, OptSubnetMask)
	check([]byte{255, 255, 241, 240}, -time.Hour, long, 2)
	check(two, []netip.Addr{a, b}, addrs, OptRouters, 4, 5, OptDNS, 7, 8, 9, 10, 11, 41, OptNTP, 44, 45, 48, 49, 65, 69, 70, 71, 72, 73, 74, 75, 76)
	check(two[:4], a, addrs, 16, OptBroadcast, OptRequestedIP, OptServerID)
	check([]byte{224, 0, 0, 2}, ip("224.0.0.2"), long, 32)
	check([]byte("text\x00"), "text", text, OptHostName, 14, 17, 18, 40, 64, OptMessage, 66, 67)
	check([]byte("https://portal.example/api"), "https://portal.example/api", text, OptCaptivePortal)
	check([]byte("lab.example"), "lab.example", bad{{}, []byte("a..b"), []byte("a b")}, OptDomainName)
	check([]byte{1}, true, flag, 19, 20, 27, 29, 30, 31, 34, 36, 39)
	check([]byte{0}, false, flag, 19)
	check([]byte{64}, uint8(64), bad{{}, {0}, {1, 2}}, 23, 37)
	check([]byte{8}, uint8(8), bad{{}, {0}, {9}}, 46)
	check([]byte{1}, uint8(1), bad{{}, {2}, {0, 0}}, OptAutoConfigure)
	check([]byte{3}, uint8(3), bad{{}, {0}, {4}}, OptOverload)
	check([]byte{5}, ACK, bad{{}, {0}, {5, 5}}, OptMessageType)
	check([]byte{2, 64}, uint16(576), bad{{}, {2}, {2, 63}, {2, 64, 0}}, 22, OptMaxMessageSize)
	check([]byte{5, 220}, uint16(1500), bad{{}, {5}, {0, 67}, {5, 220, 0, 0}}, OptMTU)
	check([]byte{0, 9}, uint16(9), bad{{}, {5}}, 13)
	check([]byte{0, 68, 5, 220}, []uint16{68, 1500}, bad{{}, {5}, {0, 67}, {5, 220, 5}}, 25)
	check([]byte{0, 0, 2, 88}, 10*time.Minute, long, 24, 35, 38, OptLeaseTime, OptT1, OptT2)
	check([]byte{255, 255, 255, 255}, Infinite, nil, OptLeaseTime)
	check(two, [][2]netip.Addr{{a, b}}, bad{{}, two[:4], two[:7]}, 21, OptStaticRoutes)
	check(two, []netip.Addr{a, b}, bad{{1}}, 68)
	check([]byte{}, []netip.Addr(nil), nil, 68)
	check([]byte{1, 2}, []byte{1, 2}, bad{{}}, 43, 47, OptParameters, OptVendorClass)
	check([]byte{1, 2}, []byte{1, 2}, bad{{}, {1}}, OptClientID)
	check(make([]byte, 11), make([]byte, 11), bad{make([]byte, 10)}, OptAuthentication)
	check([]byte{1}, []byte{1}, bad{{}}, OptNonceCapable)
	check([]byte{0, 10, 0, 0, 1}, []Route{{netip.MustParsePrefix("0.0.0.0/0"), a}}, bad{{}, {33, 1}}, OptRoutes)
	check([]byte("\x01a\x00"), []string{"a"}, bad{{}, {1}}, OptDomainSearch)

	for code := range optionTable {
		if !seen[code] {
			t.Errorf("option %d (%s) is not tested", code, OptionName(code))
		}
	}
	// RFC 2132 has all from 1 to 76 but 62 and 63, which are of NetWare (RFC
	// 2242).
	for code := uint8(1); code <= 76; code++ {
		if _, ok := optionTable[code]; !ok && code != 62 && code != 63 {
			t.Errorf("option %d is missing", code)
		}
	}
	if v, ok := (Options{{200, []byte{7}}}).Value(200); !ok || !reflect.DeepEqual(v, []byte{7}) || OptionName(200) != "option-200" {
		t.Errorf("an unknown option: %v, %v", v, ok)
	}
	if _, ok := (Options{}).Value(OptRouters); ok {
		t.Error("an absent option has a value")
	}
}

func TestStaticRoutes(t *testing.T) {
	o := Options{{OptStaticRoutes, []byte{10, 0, 0, 0, 10, 0, 0, 1, 192, 168, 7, 9, 10, 0, 0, 2, 0, 0, 0, 0, 10, 0, 0, 3, 172, 16, 0, 0, 224, 0, 0, 1}}}
	want := []Route{{netip.MustParsePrefix("10.0.0.0/8"), ip("10.0.0.1")}, {netip.MustParsePrefix("192.168.7.9/32"), ip("10.0.0.2")}}
	if got := o.StaticRoutes(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// Beside a router; classless routes replace both (RFC 3442).
	o.SetAddr(OptRouters, ip("10.0.0.9"))
	var l Lease
	if l.setRest(o); len(l.Routes) != 2 || len(l.Routers) != 1 {
		t.Errorf("%+v", l)
	}
	o.Set(OptRoutes, 0, 10, 0, 0, 7)
	l = Lease{}
	if l.setRest(o); len(l.Routes) != 1 || l.Routers != nil {
		t.Errorf("%+v", l)
	}
}

func TestCaptivePortal(t *testing.T) {
	for s, want := range map[string]string{"https://portal.example/api": "https://portal.example/api", unrestricted: "", "": "", "two words": "", "bell\a": ""} {
		if got := (Options{{OptCaptivePortal, []byte(s)}}).CaptivePortal(); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}
