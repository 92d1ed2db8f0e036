package attach

import (
	"strings"
	"testing"
)

// TestParseRoute: what is read is written the same.
func TestParseRoute(t *testing.T) {
	for in, want := range map[string]string{
		"default via 10.77.0.1":                                                 "default via 10.77.0.1",
		"default via fd77::1 metric 5":                                          "default via fd77::1 metric 5",
		"192.0.2.0/24 via 10.77.0.1":                                            "192.0.2.0/24 via 10.77.0.1",
		"192.0.2.9 src 10.77.0.7":                                               "192.0.2.9/32 src 10.77.0.7",
		"blackhole 192.0.2.0/24":                                                "blackhole 192.0.2.0/24",
		"prohibit 2001:db8::/32 metric 9":                                       "prohibit 2001:db8::/32 metric 9",
		"10.0.0.0/8 mtu lock 1400 rto_min 50":                                   "10.0.0.0/8 mtu lock 1400 rto_min 50ms",
		"10.0.0.0/8 mtu 1400 rto_min 1.5s":                                      "10.0.0.0/8 mtu 1400 rto_min 1.5s",
		"10.0.0.0/8 initcwnd 20 initrwnd 30 window 9000 hoplimit 5 advmss 1000": "10.0.0.0/8 window 9000 advmss 1000 hoplimit 5 initcwnd 20 initrwnd 30",
	} {
		r, err := parseRoute(in)
		if err != nil || r.String() != want {
			t.Errorf("%s: %v, %v; want %s", in, r, err, want)
			continue
		}
		if again, err := parseRoute(want); err != nil || again != r {
			t.Errorf("%s: read again %+v, %v", want, again, err)
		}
	}
	if r, err := parseRoute("default via fd77::1 onlink"); err != nil || !r.OnLink || !r.Dst.Addr().Is6() {
		t.Errorf("%+v, %v", r, err)
	}
	for in, want := range map[string]string{
		"":                              "want a prefix",
		"somewhere":                     "want a prefix",
		"10.0.0.0/8 via":                "want an address",
		"10.0.0.0/8 metric":             "want a number",
		"10.0.0.0/8 metric -1":          "want a number",
		"10.0.0.0/8 mtu lock":           "want a number",
		"10.0.0.0/8 rto_min -5":         "want a time",
		"10.0.0.0/8 rtt 5":              "is none of",
		"10.0.0.0/8 via 10.0.0.1 extra": "is none of",
	} {
		if r, err := parseRoute(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", in, r, err, want)
		}
	}
}
