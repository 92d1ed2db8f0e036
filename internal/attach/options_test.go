package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/tcp"
)

// parse reads a command line in an environment of its own.
func parse(t *testing.T, env map[string]string, args ...string) (*plan, *Options, error) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, "")
		}
	}
	for name, value := range env {
		t.Setenv(envPrefix+name, value)
	}
	o := new(Options)
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.Register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	p, err := o.check()
	return p, o, err
}

func (p *plan) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s:%s %v gw %v mac %v", p.kind, p.name, p.addrs, p.gateways, p.mac))
}

func TestPlans(t *testing.T) {
	lab := map[string]string{"TAP": "tap7", "IP": "10.77.0.7/24,fd77::7/64", "GW": "10.77.0.1"}
	const labAddrs, noMAC = "[10.77.0.7/24 fd77::7/64] gw [10.77.0.1]", " mac 00:00:00:00:00:00"
	for _, tc := range []struct {
		env  map[string]string
		args string
		want string
	}{
		{nil, "", "tap:tap7 [] gw []" + noMAC},
		{nil, "--dev packet:eth1 --mac 02-00-00-00-00-07", "packet:eth1 [] gw [] mac 02:00:00:00:00:07"},
		{nil, "--dev tap:tap9", "tap:tap9 [] gw []" + noMAC},
		{nil, "--ip 10.0.0.7/24 --ip fd77::7/64,10.1.0.7/16 --gw fe80::1%tap7,10.1.9.9",
			"tap:tap7 [10.0.0.7/24 fd77::7/64 10.1.0.7/16] gw [fe80::1 10.1.9.9]" + noMAC},
		{nil, "--ip 10.0.0.0/31 --gw 10.0.0.1", "tap:tap7 [10.0.0.0/31] gw [10.0.0.1]" + noMAC},
		{nil, "--ip 10.0.0.9/32,fd77::/127,fe80::7/64", "tap:tap7 [10.0.0.9/32 fd77::/127 fe80::7/64] gw []" + noMAC},
		{nil, "--mtu 576 --ip 10.0.0.9/24", "tap:tap7 [10.0.0.9/24] gw []" + noMAC},
		// The environment gives defaults, and the command line has the last word.
		{lab, "", "tap:tap7 " + labAddrs + noMAC},
		{lab, "--tap tap8", "tap:tap8 " + labAddrs + noMAC},
		{lab, "--dev packet:eth1", "packet:eth1 " + labAddrs + noMAC},
		{lab, "--ip 192.168.1.7/24", "tap:tap7 [192.168.1.7/24] gw []" + noMAC},
		{lab, "--ip 10.77.0.8/24", "tap:tap7 [10.77.0.8/24] gw [10.77.0.1]" + noMAC},
		{lab, "--dhcp", "tap:tap7 [fd77::7/64] gw []" + noMAC},
		{lab, "--slaac", "tap:tap7 [10.77.0.7/24] gw [10.77.0.1]" + noMAC},
		{nil, "--net packet:eth1", "packet:eth1 [] gw []" + noMAC},
		{nil, "--net tap:tap9", "tap:tap9 [] gw []" + noMAC},
		{nil, "--net host", "host: [] gw []" + noMAC},
		{lab, "--net host", "host: [] gw []" + noMAC},
		{map[string]string{"NET": "host"}, "--tap tap9", "tap:tap9 [] gw []" + noMAC},
		{map[string]string{"NET": "host", "IP": "nonsense"}, "", "host: [] gw []" + noMAC},
		{map[string]string{"DEV": "packet:eth7"}, "--tap tap7", "tap:tap7 [] gw []" + noMAC},
		{map[string]string{"MTU": "large"}, "--mtu 1400", "tap:tap7 [] gw []" + noMAC},
	} {
		p, _, err := parse(t, tc.env, strings.Fields(tc.args)...)
		if err != nil {
			t.Errorf("%v %s: %v", tc.env, tc.args, err)
		} else if p.String() != tc.want {
			t.Errorf("%v %s:\ngot  %v\nwant %s", tc.env, tc.args, p, tc.want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"--tap a --dev packet:b":                   "want one of the two",
		"--dev eth1":                               "tap:NAME, tun:NAME or packet:NAME",
		"--dev host":                               "tap:NAME, tun:NAME or packet:NAME",
		"--net eth1":                               "tap:NAME, tun:NAME, packet:NAME or host",
		"--net host:":                              "tap:NAME, tun:NAME, packet:NAME or host",
		"--net host --tap tap7":                    "want one of the two",
		"--net tap:tap7 --dev tap:tap7":            "want one of the two",
		"--net host --ip 10.0.0.7/24":              "--ip: is about a stack",
		"--net host --dhcp":                        "--dhcp: is about a stack",
		"--net host --dns 10.0.0.1":                "--dns: is about a stack",
		"--dns ten":                                "want the address of a server",
		"--link-local always":                      "want fallback or off",
		"--link-local fallback":                    "last resort of --dhcp",
		"--lease-file x":                           "lease of --dhcp",
		"--inform --dhcp":                          "asks for both",
		"--inform":                                 "wants an IPv4 address",
		"--inform --ip fd77::7/64":                 "wants an IPv4 address",
		"--net host --inform":                      "--inform: is about a stack",
		"--dns ::":                                 "want the address of a server",
		"--dev wire:x":                             "tap:NAME, tun:NAME or packet:NAME",
		"--tun tun0 --dhcp":                        "no Ethernet",
		"--tun tun0 --acd":                         "nobody to ask",
		"--tun tun0 --arp-ignore 1":                "no Ethernet",
		"--arp-accept 3":                           "--arp-accept 3: want 0, 1 or 2",
		"--arp-ignore 4":                           "--arp-ignore 4: want 0, 1, 2, 3 or 8",
		"--arp-announce -1":                        "--arp-announce -1: want 0, 1 or 2",
		"--arp-locktime soon":                      "want verify or a time",
		"--arp-locktime -1s":                       "want verify or a time",
		"--net host --arp-filter":                  "--arp-filter: is about a stack",
		"--tun tun0 --mac 02:00:00:00:00:07":       "no Ethernet",
		"--tun tun0 --vlan 10":                     "no Ethernet",
		"--vlan 4095":                              "want 1 to 4094",
		"--vlan 5 --vlan-priority 8":               "want 0 to 7",
		"--gw dev":                                 "only on a TUN",
		"--route 10.0.0.0/33":                      "want a prefix",
		"--tun tun0 --tap tap7":                    "want one of the two",
		"--dev tap:":                               "cannot be the name",
		"--tap a-name-too-long-":                   "cannot be the name",
		"--tap ../tap7":                            "cannot be the name",
		"--mac 02:00:00:00:00":                     "six bytes",
		"--mac 02:00:00:00:00:00:00:07":            "six bytes",
		"--mac 01:00:5e:00:00:01":                  "group address",
		"--mac ff:ff:ff:ff:ff:ff":                  "group address",
		"--mac 00:00:00:00:00:00":                  "zero address",
		"--memory 12Q":                             `--memory "12Q": want a size`,
		"--memory -5M":                             "want a size",
		"--memory 1023K":                           "at least 1M",
		"--memory 9999999999G":                     "want a size",
		"--mtu 67":                                 "68 to 65535",
		"--mtu -1":                                 "68 to 65535",
		"--mtu 65536":                              "68 to 65535",
		"--mtu 1279 --ip fd77::7/64":               "at least 1280",
		"--mtu 1279 --slaac":                       "at least 1280",
		"--mtu 1279 --gw fe80::1":                  "at least 1280",
		"--ip 10.0.0.7":                            "how long",
		"--ip 10.0.0.7/33":                         "want address and prefix length",
		"--ip ten":                                 "want address and prefix length",
		"--ip fe80::1%tap7/64":                     "want address and prefix length",
		"--ip ::ffff:10.0.0.7/120":                 "write IPv4 addresses as such",
		"--ip 10.0.0.0/24":                         "the network itself",
		"--ip 10.0.0.255/24":                       "broadcast",
		"--ip fd77::/64":                           "subnet-router anycast",
		"--ip 0.0.0.0/0":                           "not an address of a host",
		"--ip ::/0":                                "not an address of a host",
		"--ip 224.0.0.7/24":                        "multicast",
		"--ip ff02::7/64":                          "multicast",
		"--ip 127.0.0.2/8":                         "loopback",
		"--ip ::1/128":                             "loopback",
		"--ip 240.0.0.7/8":                         "reserved",
		"--ip 255.255.255.255/32":                  "reserved",
		"--ip 10.0.0.7/24 --ip 10.0.0.7/16":        "twice",
		"--gw 10.0.0.1":                            "not on the link of any",
		"--ip 10.0.0.7/24 --gw 10.0.1.1":           "not on the link of any",
		"--ip 10.0.0.7/24 --gw fd77::1":            "not on the link of any",
		"--ip 10.0.0.7/24 --gw 10.0.0.7":           "our own",
		"--ip 10.0.0.7/24 --gw 10.0.0.1,10.0.0.1":  "given twice",
		"--offload on":                             "none of off, auto, require",
		"--queues -1":                              "want 1 to",
		"--queues 2 --offload off":                 "take a TAP or TUN with offload",
		"--busy-poll 1s":                           "at most",
		"--ecn yes":                                "passive",
		"--mtu-probing 1":                          "blackhole",
		"--dev packet:eth0 --busy-poll 50us":       "on a TAP",
		"--congestion vegas":                       "want one of bbr, cubic, reno",
		"--gw fe80::1 --gw fe80::1":                "given twice",
		"--gw fe80::1%eth0":                        "no interface eth0 here, but tap7",
		"--gw fe80::1%2":                           "no interface 2 here",
		"--dns fe80::1%eth0":                       "no interface eth0 here, but tap7",
		"--dns fd77::1%1":                          "no interface 1 here",
		"--tun tun0 --dns fe80::1%tap7":            "but tun0",
		"--gw router":                              "want an address",
		"--gw ::ffff:10.0.0.1 --ip 10.0.0.7/24":    "want an address",
		"--gw 224.0.0.1":                           "not the address of a router",
		"--dhcp --gw 10.0.0.1":                     "server names the gateway",
		"--iid mac":                                "neither opaque nor eui64",
		"--temp-addrs yes":                         "none of off, usable, prefer",
		"--slaac --gw fd77::1":                     "routers name themselves",
		"--dhcp --ip 10.0.0.7/24 --gw 10.0.1.1":    "server names the gateway",
		"--pcap f --mtu 576 --ip 2001:db8::1:7/64": "at least 1280",
	} {
		_, _, err := parse(t, nil, strings.Fields(args)...)
		if err == nil {
			t.Errorf("%s: accepted", args)
			continue
		}
		var usage *UsageError
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || !errors.As(err, &usage) || usage.ExitCode() != 2 {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	_, o, err := parse(t, map[string]string{"MTU": "1400", "MAC": "02:00:00:00:00:09", "PCAP": "x.pcapng",
		"DHCP": "1", "SLAAC": "true", "ACD": "t", "DAD": "0", "SEED": "77"})
	if err != nil {
		t.Fatal(err)
	}
	if o.MTU != 1400 || o.MAC != "02:00:00:00:00:09" || o.Pcap != "x.pcapng" || !o.DHCP || !o.SLAAC || !o.ACD || !o.NoDAD || o.Seed != 77 {
		t.Errorf("%+v", o)
	}
	for name, value := range map[string]string{"MTU": "large", "DHCP": "maybe", "DAD": "perhaps", "SEED": "-1", "IP": "x", "GW": "y", "MAC": "z", "DEV": "w"} {
		_, _, err := parse(t, map[string]string{name: value})
		var usage *UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestMemory(t *testing.T) {
	for text, want := range map[string]int{"": 0, "256M": 256 << 20, "2g": 2 << 30, "1048576": 1 << 20, "4096K": 4 << 20, "1.5G": 3 << 29, "64MiB": 64 << 20, " 8MB ": 8 << 20} {
		p, _, err := parse(t, map[string]string{"MEMORY": text})
		if err != nil || p.memory != want {
			t.Errorf("%q: %+v, %v, want %d", text, p, err, want)
		}
		if text == "" {
			continue
		}
		if p, _, err := parse(t, map[string]string{"MEMORY": "lots"}, "--memory="+text); err != nil || p.memory != want {
			t.Errorf("--memory=%q: %+v, %v, want %d", text, p, err, want)
		}
	}
	for _, text := range []string{"M", "1MM", "1e9", "Inf", "0x10M", "NaN", "1 0M", "+5M", "0", "B", "9999999B", "5I", "1.2.3M"} {
		if _, _, err := parse(t, map[string]string{"MEMORY": text}); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestFlags(t *testing.T) {
	for args, noDAD := range map[string]bool{"": false, "--dad": false, "--dad=true": false, "--dad=false": true} {
		if _, o, err := parse(t, nil, strings.Fields(args)...); err != nil || o.NoDAD != noDAD {
			t.Errorf("%q: NoDAD %v, err %v", args, o.NoDAD, err)
		}
	}
	var o Options
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.Register(fs)
	help := fs.FlagUsages()
	for _, want := range []string{"--tap NAME", "--dev DEVICE", "--net NETWORK", "--dns ADDRESS", "--ip ADDRESS/LENGTH", "--gw ADDRESS", "--mac ADDRESS", "--mtu BYTES", "--memory SIZE", "--pcap FILE", "--tcp-trace DIR", "--dhcp ", "--link-local MODE", "--lease-file FILE", "--inform ", "--slaac ", "--iid OF", "--temp-addrs MODE", "--dad ", "(default true)", "--acd "} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q:\n%s", want, help)
		}
	}
	if strings.Contains(help, "seed") {
		t.Error("--seed is not hidden")
	}
}

func TestOptionsWithoutFlags(t *testing.T) {
	o := Options{Dev: "packet:eth7", IP: []string{"10.77.0.7/24"}, Gateway: []string{"10.77.0.1"}}
	if p, err := o.check(); err != nil || p.kind != "packet" || len(p.gateways) != 1 {
		t.Errorf("%v, err %v", p, err)
	}
}

func TestStableMAC(t *testing.T) {
	seen := make(map[ether.Addr]bool)
	for _, parts := range [][]string{{"id", "host", "tap7"}, {"id", "host", "tap8"}, {"id", "host2", "tap7"}, {"di", "host", "tap7"}, {"", "idhost", "tap7"}, {"id", "hosttap", "7"}} {
		a := hashMAC(parts...)
		if a != hashMAC(slices.Clone(parts)...) {
			t.Errorf("%q: not stable", parts)
		}
		if a.IsGroup() || a[0]&0x02 == 0 || seen[a] {
			t.Errorf("%q: %v", parts, a)
		}
		seen[a] = true
	}
	first := stableMAC("tap7")
	if again := stableMAC("tap7"); again != first {
		t.Errorf("stableMAC: %v, then %v", first, again)
	}
	if other := stableMAC("tap8"); other == first {
		t.Errorf("stableMAC: %v for two devices", first)
	}
}

func TestMissingDevice(t *testing.T) {
	for _, dev := range []string{"tap:no-such-device", "packet:no-such-device"} {
		o := Options{Dev: dev}
		h, err := o.Open(context.Background())
		if err == nil {
			h.Close()
			t.Fatalf("%s opened", dev)
		}
		var usage *UsageError
		if !strings.Contains(err.Error(), "no interface no-such-device") || errors.As(err, &usage) {
			t.Errorf("%s: %v", dev, err)
		}
	}
}

// The congestion control is checked before anything is opened.
func TestCongestion(t *testing.T) {
	for _, c := range []struct{ env, args, want string }{
		{"", "", ""}, {"", "--congestion reno", "reno"}, {"bbr", "", "bbr"}, {"bbr", "--congestion cubic", "cubic"},
	} {
		p, _, err := parse(t, map[string]string{"CONGESTION": c.env}, strings.Fields(c.args)...)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if p.tcp.NewController != nil {
			got = p.tcp.NewController(1000).Name()
		}
		if got != c.want {
			t.Errorf("%s %s: %q", c.env, c.args, got)
		}
	}
}

// TestTCPModes: the texts become the stack's configuration, from the
// environment as well.
func TestTCPModes(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		ecn  tcp.ECN
		mtu  tcp.MTUProbing
	}{
		{nil, nil, tcp.ECNPassive, tcp.MTUProbeBlackHole},
		{nil, []string{"--ecn=off", "--mtu-probing=off"}, tcp.ECNOff, tcp.MTUProbeOff},
		{nil, []string{"--ecn=on", "--mtu-probing=always"}, tcp.ECNOn, tcp.MTUProbeAlways},
		{nil, []string{"--ecn=passive", "--mtu-probing=blackhole"}, tcp.ECNPassive, tcp.MTUProbeBlackHole},
		{map[string]string{"ECN": "accecn", "MTU_PROBING": "off"}, nil, tcp.ECNAccurate, tcp.MTUProbeOff},
		{map[string]string{"ECN": "accecn"}, []string{"--ecn=accecn-passive"}, tcp.ECNAccuratePassive, tcp.MTUProbeBlackHole},
	} {
		p, _, err := parse(t, c.env, c.args...)
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if p.tcp.ECN != c.ecn || p.tcp.MTUProbing != c.mtu {
			t.Errorf("%q: ECN %v, probing %v", c.args, p.tcp.ECN, p.tcp.MTUProbing)
		}
	}
}
