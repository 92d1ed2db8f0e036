package attach

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// settingsOf is what flags make of the configuration of interface and host.
func settingsOf(t *testing.T, env map[string]string, args ...string) (nic stack.InterfaceConfig, host stack.IPv6Config, err error) {
	t.Helper()
	_, o, err := parse(t, env, args...)
	if err != nil {
		return nic, host, err
	}
	if err = o.interfaceSettings(&nic); err == nil {
		host, err = o.hostSettings()
	}
	return nic, host, err
}

// TestSettings: each flag, and its variable of the environment, sets its field
// and no other.
func TestSettings(t *testing.T) {
	type both struct {
		nic  stack.InterfaceConfig
		host stack.IPv6Config
	}
	for _, c := range []struct {
		flag, value string
		want        both
	}{
		{"no-ipv6", "true", both{nic: stack.InterfaceConfig{DisableIPv6: true}}},
		{"ra-min-hop-limit", "255", both{nic: stack.InterfaceConfig{IgnoreRA: ipv6.RAIgnore{MinHopLimit: 255}}}},
		{"ra-min-lifetime", "3m", both{nic: stack.InterfaceConfig{IgnoreRA: ipv6.RAIgnore{MinLifetime: 3 * time.Minute}}}},
		{"redirects", "false", both{nic: stack.InterfaceConfig{NoRedirects: true}}},
		{"redirects", "true", both{}},
		{"rp-filter", "off", both{}},
		{"rp-filter", "strict", both{nic: stack.InterfaceConfig{RPFilter: stack.RPFilterStrict}}},
		{"rp-filter", "loose", both{nic: stack.InterfaceConfig{RPFilter: stack.RPFilterLoose}}},
		{"dad-nonce", "false", both{nic: stack.InterfaceConfig{NoDADNonce: true}}},
		{"announce-ipv6", "true", both{nic: stack.InterfaceConfig{AnnounceIPv6: true}}},
		{"neighbour-patience", "3", both{nic: stack.InterfaceConfig{Patience: 3}}},
		{"igmp-version", "2", both{nic: stack.InterfaceConfig{IGMPVersion: 2}}},
		{"mld-version", "1", both{nic: stack.InterfaceConfig{MLDVersion: 1}}},
		{"flow-labels", "auto", both{}},
		{"flow-labels", "off", both{host: stack.IPv6Config{NoFlowLabels: true}}},
		{"flow-labels", "reflect", both{host: stack.IPv6Config{ReflectFlowLabel: 7}}},
		{"flow-labels", "reflect-only", both{host: stack.IPv6Config{NoFlowLabels: true, ReflectFlowLabel: 7}}},
		{"echo6-ignore", "all", both{host: stack.IPv6Config{EchoIgnoreAll: true}}},
		{"echo6-ignore", "groups", both{host: stack.IPv6Config{EchoIgnoreMulticast: true}}},
		{"headers6", "hop-options=4,destination-options=-2,hop-length=16,destination-length=2048",
			both{host: stack.IPv6Config{Headers: ipv6.HeaderLimits{HopOptions: 4, DestinationOptions: -2, HopLength: 16, DestinationLength: 2048}}}},
	} {
		for _, how := range []string{"flag", "variable"} {
			var got both
			var err error
			if how == "flag" {
				got.nic, got.host, err = settingsOf(t, nil, "--"+c.flag+"="+c.value)
			} else {
				got.nic, got.host, err = settingsOf(t, map[string]string{strings.ToUpper(strings.ReplaceAll(c.flag, "-", "_")): c.value})
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s --%s=%s: %v\ngot  %+v\nwant %+v", how, c.flag, c.value, err, got, c.want)
			}
		}
	}
	// The command line has the last word.
	if nic, _, err := settingsOf(t, map[string]string{"NEIGHBOUR_PATIENCE": "9", "REDIRECTS": "false"}, "--neighbour-patience=2", "--redirects"); err != nil || nic.Patience != 2 || nic.NoRedirects {
		t.Errorf("%v %+v", err, nic)
	}
}

// TestSettingsMistakes: each is told before anything is opened, as a mistake of
// usage that names the flag.
func TestSettingsMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"--ra-min-hop-limit=256":              "want 0 to 255",
		"--ra-min-hop-limit=-1":               "want 0 to 255",
		"--ra-min-lifetime=-1s":               "no less than 0",
		"--neighbour-patience=101":            "want 0 to 100",
		"--neighbour-patience=-1":             "want 0 to 100",
		"--igmp-version=4":                    "want 1, 2 or 3",
		"--igmp-version=-1":                   "want 1, 2 or 3",
		"--mld-version=3":                     "want 1 or 2",
		"--rp-filter=1":                       "none of off, strict, loose",
		"--flow-labels=none":                  "none of auto, off, reflect, reflect-only",
		"--echo6-ignore=all,some":             "neither all nor groups",
		"--headers6=8":                        "want hop-options=N",
		"--headers6=hop-options":              "other than 0",
		"--headers6=hop-options=0":            "other than 0",
		"--headers6=hop-options=-2049":        "from -2048 to 2048",
		"--headers6=destination-length=7":     "from 8 to 2048",
		"--headers6=hop-length=4096":          "from 8 to 2048",
		"--no-ipv6 --ip=fd77::7/64":           "--ip",
		"--no-ipv6 --gw=fe80::1":              "--gw",
		"--no-ipv6 --slaac":                   "--slaac",
		"--no-ipv6 --dhcp6":                   "--dhcp6",
		"--net=host --neighbour-patience=1":   "--neighbour-patience: is about a stack",
		"--net=host --redirects=false":        "--redirects: is about a stack",
		"--net=host --headers6=hop-options=4": "--headers6: is about a stack",
		"--net=host --ra-min-lifetime=180s":   "--ra-min-lifetime: is about a stack",
	} {
		_, _, err := parse(t, nil, strings.Fields(args)...)
		if e, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || e.ExitCode() != 2 {
			t.Errorf("%s: %v", args, err)
		}
	}
	for name, value := range map[string]string{"RA_MIN_HOP_LIMIT": "x", "RA_MIN_LIFETIME": "180", "REDIRECTS": "perhaps", "NEIGHBOUR_PATIENCE": "1s", "DHCP6_PREFIX": "many", "DAD_NONCE": "2"} {
		_, _, err := parse(t, map[string]string{name: value})
		if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// TestSettingsHelp: what the flags are for is told, in one place.
func TestSettingsHelp(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	new(Options).Register(fs)
	help := fs.FlagUsages()
	at := 0
	for _, want := range []string{"--no-ipv6 ", "--ra-min-hop-limit N", "--ra-min-lifetime TIME", "--redirects ", "--rp-filter WHEN", "--dad-nonce ", "--announce-ipv6 ",
		"--neighbour-patience N", "--igmp-version VERSION", "--mld-version VERSION", "--flow-labels MODE", "--echo6-ignore WHICH", "--headers6 LIMIT=N"} {
		i := strings.Index(help[at:], want)
		if i < 0 {
			t.Fatalf("%q is missing, or in another place:\n%s", want, help)
		}
		at += i
	}
}
