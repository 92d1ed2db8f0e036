package attach

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/dhcp"
)

func TestDHCPFlags(t *testing.T) {
	for args, want := range map[string]plan{
		"":                                   {},
		"--dhcp":                             {linkLocal: true},
		"--dhcp --link-local off":            {},
		"--dhcp --link-local fallback":       {linkLocal: true},
		"--inform --ip 10.77.0.7/24":         {inform: netip.MustParseAddr("10.77.0.7")},
		"--ip 10.77.0.7/24":                  {},
		"--ip 10.77.0.7/24 --link-local off": {},
	} {
		p, _, err := parse(t, nil, strings.Fields(args)...)
		if err != nil || p.linkLocal != want.linkLocal || p.inform != want.inform {
			t.Errorf("%q: %v, %v", args, p, err)
		}
	}
	// A default in the environment is no mistake where there is no --dhcp.
	if p, _, err := parse(t, map[string]string{"LINK_LOCAL": "fallback", "LEASE_FILE": "x"}); err != nil || p.linkLocal {
		t.Errorf("%v, %v", p, err)
	}
}

func TestDescribe(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		l    dhcp.Lease
		want string
	}{
		{dhcp.Lease{Addr: netip.MustParsePrefix("10.77.0.50/24"), Routers: []netip.Addr{a("10.77.0.1")}, DNS: []netip.Addr{a("10.77.0.1"), a("10.77.0.2")},
			Domain: "lab", Search: []string{"a.lab", "lab"}, NTP: []netip.Addr{a("10.77.0.3")}, MTU: 1400, Lease: 2 * time.Minute, Server: a("10.77.0.1")},
			"address=10.77.0.50/24 router=10.77.0.1 dns=10.77.0.1,10.77.0.2 domain=lab search=a.lab,lab ntp=10.77.0.3 mtu=1400 time=2m0s server=10.77.0.1"},
		{dhcp.Lease{Addr: netip.MustParsePrefix("10.77.0.50/24"), Routes: []dhcp.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("10.77.0.9")}},
			Lease: dhcp.Infinite, Server: a("10.77.0.1"), Portal: "https://x"},
			"address=10.77.0.50/24 router=10.77.0.9 portal=https://x time=infinite server=10.77.0.1"},
		{dhcp.Lease{DNS: []netip.Addr{a("10.77.0.1")}, Server: a("10.77.0.1")}, "dns=10.77.0.1 server=10.77.0.1"},
	} {
		if got := describe(c.l); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}
