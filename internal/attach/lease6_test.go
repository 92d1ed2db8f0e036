package attach

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/dhcp/dhcp6"
	"github.com/tapstack/tapstack/internal/mono"
)

func TestDHCP6Flags(t *testing.T) {
	for args, want := range map[string]dhcp6Plan{
		"":                                 {},
		"--slaac":                          {on: true},
		"--slaac --dhcp6=off":              {},
		"--dhcp6":                          {on: true, alone: slaacWait},
		"--dhcp6=auto":                     {on: true, alone: slaacWait},
		"--dhcp6=stateless":                {on: true, mode: dhcp6.Stateless},
		"--dhcp6=stateful":                 {on: true, mode: dhcp6.Stateful},
		"--dhcp6 --dhcp6-prefix 56":        {on: true, alone: slaacWait},
		"--slaac --lease6-file x":          {on: true},
		"--dhcp --duid-file x":             {named: true},
		"--dhcp --duid uuid --duid-file x": {named: true},
		"--dhcp --duid 0002000000090102":   {named: true},
	} {
		p, _, err := parse(t, nil, strings.Fields(args)...)
		if err != nil || p.dhcp6.on != want.on || p.dhcp6.mode != want.mode || p.dhcp6.alone != want.alone || p.dhcp6.named != want.named {
			t.Errorf("%q: %+v, %v", args, p, err)
		}
	}
	for args, want := range map[string]string{
		"--dhcp6=yes":                         "stateless",
		"--dhcp6-prefix 56":                   "--dhcp6 asks",
		"--dhcp6=stateless --dhcp6-prefix 56": "--dhcp6 asks",
		"--dhcp6 --dhcp6-prefix 65":           "up to 64",
		"--lease6-file x":                     "lease of --dhcp6",
		"--dhcp6 --duid me":                   "hexadecimal",
		"--dhcp6 --duid uuid":                 "keep it with --duid-file",
		"--dhcp6 --duid 000300 --duid-file x": "is for what --duid makes",
		"--dhcp6 --mtu 1000":                  "at least 1280",
		"--net host --dhcp6":                  "--dhcp6: is about a stack",
	} {
		if _, _, err := parse(t, nil, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
	if p, _, err := parse(t, map[string]string{"DHCP6": "stateful"}); err != nil || !p.dhcp6.on {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestDescribe6(t *testing.T) {
	now := mono.Time(time.Hour)
	a := netip.MustParseAddr
	for want, l := range map[string]dhcp6.Lease{
		"address=fd77::5 prefix=fd01::/56 dns=fd77::1 search=lab,a.lab ntp=n.lab sntp=fd77::2 name=h.lab portal=https://p time=2m0s server=000102": {
			Addrs:    []dhcp6.Granted{{Prefix: netip.MustParsePrefix("fd77::5/128"), Valid: now.Add(2 * time.Minute)}},
			Prefixes: []dhcp6.Granted{{Prefix: netip.MustParsePrefix("fd01::/56")}}, DNS: []netip.Addr{a("fd77::1")}, Search: []string{"lab", "a.lab"},
			NTP: []string{"n.lab"}, SNTP: []netip.Addr{a("fd77::2")}, FQDN: "h.lab", Portal: "https://p", Acquired: now, Server: []byte{0, 1, 2}},
		"prefix=fd01::/56 time=infinite server=01": {Prefixes: []dhcp6.Granted{{Prefix: netip.MustParsePrefix("fd01::/56")}}, Server: []byte{1}},
		"dns=fd77::1 server=01":                    {DNS: []netip.Addr{a("fd77::1")}, Server: []byte{1}},
	} {
		if got := describe6(l); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// TestIdentify: a damaged file is no reason to be somebody else.
func TestIdentify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "duid")
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := &Options{DHCP6Options: DHCP6Options{DUIDFile: path}}
	p := &plan{dhcp6: dhcp6Plan{named: true}}
	if _, err := new(Host).identify(o, p); err == nil {
		t.Error("accepted")
	}
}
